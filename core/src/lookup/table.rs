//! This file answers: which questions are out, who waits for each, and may it be asked again?

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};

use super::breaker::Breakers;
use crate::config::LookupsConfig;
use crate::connection::ConnectionId;
use crate::decision::{Reason, Refusal};
use crate::dirty::Lock;
use crate::limit::Fingerprint;
use crate::limit::hash::Uniform;
use crate::lookup::{Answerer, Backend, BackendKind, Change, Lookup, LookupId, Outcome, Question};
use crate::names::Names;
use crate::time::MonoTime;

/// Most questions out at once; more are refused as unavailable.
const MAX_OUT: usize = 10_000;
/// Most connections that wait for one question.
const MAX_WAITERS: usize = 100_000;
/// One question's time, in milliseconds (RULES 37).
pub(crate) const LOOKUP_MS: u64 = 2_000;
/// A key set is not asked for again within this time, in milliseconds (REQUIREMENTS R-JWK-05).
pub(crate) const KEYS_COOL_DOWN_MS: u64 = 30_000;

/// Why a connection waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be let in.
    Admit,
    /// A new token on a live connection.
    Refresh,
    /// The source is asked again whether it still vouches (RULES 29).
    Reask,
}

/// One connection that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Waiter {
    pub(crate) connection: ConnectionId,
    pub(crate) purpose: Purpose,
}

/// A question that is out, asked now or before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) id: LookupId,
    pub(crate) deadline: MonoTime,
}

/// How often each kind of source did what, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// It gave an answer that could be used.
    pub(crate) answered: u64,
    /// It gave none, or one that could not be used.
    pub(crate) failed: u64,
    /// It gave none in time.
    pub(crate) late: u64,
    /// It was not asked: it is left alone, or there was no room to ask.
    pub(crate) refused: u64,
    /// Sources of this kind that are left alone now.
    pub(crate) open: u64,
}

/// The questions that are out. One lock, taken only where a lookup is needed.
#[derive(Debug)]
pub(crate) struct Lookups {
    inner: Lock<Inner>,
    /// A breaker opened or closed and nobody was told yet.
    changed: AtomicBool,
}

#[derive(Debug)]
struct Inner {
    next: u64,
    /// Not yet given to a driver: those with a URL, and those for the host.
    queues: [VecDeque<LookupId>; 2],
    out: BTreeMap<LookupId, Out>,
    /// One flight a question: the same question is joined, not asked twice.
    by_key: HashMap<Fingerprint, LookupId, Uniform>,
    /// Questions in the order of their deadline.
    deadlines: VecDeque<(MonoTime, LookupId)>,
    cool_down: HashMap<Fingerprint, MonoTime, Uniform>,
    breakers: Breakers,
    tallies: BTreeMap<BackendKind, Tally>,
}

#[derive(Debug)]
struct Out {
    key: Fingerprint,
    lookup: Lookup,
    waiters: Vec<Waiter>,
    /// Its answer is being judged: a second one is too late.
    answered: bool,
}

impl Lookups {
    pub(crate) fn new(names: Names, config: &LookupsConfig) -> Lookups {
        let inner = Inner::new(0, Breakers::new(names, config));
        Lookups { inner: Lock::new(inner), changed: AtomicBool::new(false) }
    }

    /// Takes over the bounds of a new configuration, and forgets sources that it does not `keep`.
    pub(crate) fn configure(&self, config: &LookupsConfig, keep: impl Fn(&Backend) -> bool, now: MonoTime) {
        let mut inner = self.inner.lock();
        inner.breakers.configure(config, keep);
        inner.cool_down.retain(|_, until| now < *until);
    }

    /// Asks, or joins the same question that is already out. Without a waiter nobody waits: a fetch ahead of need.
    ///
    /// Refused as `SourceUnavailable`: too much is out already, or its source is left alone for a while.
    pub(crate) fn ask(
        &self,
        key: Fingerprint,
        question: Question,
        waiter: Option<Waiter>,
        now: MonoTime,
    ) -> Result<Asked, Refusal> {
        self.ask_unless(key, question, waiter, || false, now)
    }

    /// The same, unless it turns out that the answer `is_known`: what an answer brings is known before its question
    /// ends, and no question ends while this looks. Then it is refused as if its source were not there.
    pub(crate) fn ask_unless(
        &self,
        key: Fingerprint,
        question: Question,
        waiter: Option<Waiter>,
        is_known: impl FnOnce() -> bool,
        now: MonoTime,
    ) -> Result<Asked, Refusal> {
        self.locked(now, |inner| {
            if let Some(id) = inner.by_key.get(&key) {
                let out = inner.out.get_mut(id).ok_or(Reason::FaultInternal)?;
                if out.waiters.len() >= MAX_WAITERS {
                    return Err(Refusal::after(Reason::SourceUnavailable, 1_000));
                }
                out.waiters.extend(waiter);
                return Ok(Asked { id: *id, deadline: out.lookup.deadline });
            }
            if is_known() || inner.out.len() >= MAX_OUT {
                return Err(Refusal::after(Reason::SourceUnavailable, 1_000));
            }
            let backend = question.backend();
            if let Err(retry_after_ms) = inner.breakers.admit(&backend, now.plus(LOOKUP_MS), now) {
                inner.tally(backend.kind, |tally| &mut tally.refused);
                return Err(Refusal::after(Reason::SourceUnavailable, retry_after_ms));
            }
            if backend.kind == BackendKind::Keys {
                inner.cool_down.insert(key, now.plus(KEYS_COOL_DOWN_MS));
            }
            Ok(inner.put(key, question, waiter, now))
        })
    }

    /// Whether this issuer's keys may be asked for now: a question that is out may be joined; else at most one
    /// a cool-down, which begins when the question is really asked.
    pub(crate) fn may_ask_keys(&self, key: Fingerprint, now: MonoTime) -> bool {
        self.locked(now, |inner| {
            inner.by_key.contains_key(&key) || inner.cool_down.get(&key).is_none_or(|until| now >= *until)
        })
    }

    /// Takes up to `max` questions for a driver.
    pub(crate) fn take(&self, who: Answerer, max: usize, now: MonoTime) -> Vec<Lookup> {
        self.locked(now, |inner| {
            let Inner { queues: [http, host], out, .. } = inner;
            let queues: &mut [&mut VecDeque<LookupId>] = match who {
                Answerer::Anyone => &mut [http, host],
                Answerer::Http => &mut [http],
                Answerer::Host => &mut [host],
            };
            let mut taken = Vec::new();
            for queue in queues {
                while taken.len() < max {
                    let Some(id) = queue.pop_front() else { break };
                    if let Some(out) = out.get(&id) {
                        taken.push(out.lookup.clone());
                    }
                }
            }
            taken
        })
    }

    /// Begins to judge an answer: what was asked. The question may still be joined, so that nobody comes too late for
    /// what this answer brings. `None` when it is late, was answered before, or was never asked.
    pub(crate) fn begin(&self, id: LookupId, now: MonoTime) -> Option<Question> {
        self.locked(now, |inner| {
            let out = inner.out.get_mut(&id).filter(|out| !out.answered)?;
            out.answered = true;
            Some(out.lookup.question.clone())
        })
    }

    /// Ends a question that was begun to be judged: who waited for it.
    pub(crate) fn end(&self, id: LookupId, outcome: Outcome, now: MonoTime) -> Vec<Waiter> {
        self.locked(now, |inner| inner.end(id, outcome, now))
    }

    /// The same where the answer leads to another question of the same source: it takes the place of the first, so
    /// that there is no moment at which neither can be joined.
    pub(crate) fn end_with(&self, id: LookupId, next: Question, now: MonoTime) -> (Vec<Waiter>, Option<Asked>) {
        self.locked(now, |inner| {
            let Some(out) = inner.out.remove(&id) else { return (Vec::new(), None) };
            // Half an answer: the breaker hears how the second question went.
            inner.tally(out.lookup.question.backend().kind, |tally| &mut tally.answered);
            (out.waiters, Some(inner.put(out.key, next, None, now)))
        })
    }

    /// Forgets every question where they were left dirty, and never a number: no late answer meets a new question.
    /// True if they were; who waits must be told.
    pub(crate) fn rebuild(&self) -> bool {
        self.inner.repair(|inner| *inner = Inner::new(inner.next, inner.breakers.emptied()))
    }

    /// How many are out.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().out.len()
    }

    /// How each kind of source did.
    pub(crate) fn tallies(&self) -> [Tally; BackendKind::ALL.len()] {
        let inner = self.inner.lock();
        BackendKind::ALL.map(|kind| {
            let tally = inner.tallies.get(&kind).copied().unwrap_or_default();
            Tally { open: inner.breakers.open(kind), ..tally }
        })
    }

    /// Sources that began or ceased to be left alone, since this was last asked. One atomic look when there are none.
    pub(crate) fn take_changes(&self) -> Vec<Change> {
        if !self.changed.load(Ordering::Acquire) {
            return Vec::new();
        }
        let mut inner = self.inner.lock();
        self.changed.store(false, Ordering::Release);
        inner.breakers.take_changes()
    }

    /// Everything begins with forgetting what is over.
    fn locked<T>(&self, now: MonoTime, work: impl FnOnce(&mut Inner) -> T) -> T {
        let mut inner = self.inner.lock();
        inner.forget_late(now);
        let result = work(&mut inner);
        if inner.breakers.has_changes() {
            self.changed.store(true, Ordering::Release);
        }
        result
    }
}

impl Inner {
    fn new(next: u64, breakers: Breakers) -> Inner {
        Inner {
            next,
            queues: Default::default(),
            out: BTreeMap::new(),
            by_key: HashMap::default(),
            deadlines: VecDeque::new(),
            cool_down: HashMap::default(),
            breakers,
            tallies: BackendKind::ALL.into_iter().map(|kind| (kind, Tally::default())).collect(),
        }
    }

    fn put(&mut self, key: Fingerprint, question: Question, waiter: Option<Waiter>, now: MonoTime) -> Asked {
        self.next = self.next.wrapping_add(1);
        let id = LookupId(self.next);
        let deadline = now.plus(LOOKUP_MS);
        let [http, host] = &mut self.queues;
        let queue = if question.url().is_some() { http } else { host };
        queue.push_back(id);
        let (lookup, waiters) = (Lookup { id, question, deadline }, waiter.into_iter().collect());
        self.out.insert(id, Out { key, lookup, waiters, answered: false });
        self.by_key.insert(key, id);
        self.deadlines.push_back((deadline, id));
        Asked { id, deadline }
    }

    fn end(&mut self, id: LookupId, outcome: Outcome, now: MonoTime) -> Vec<Waiter> {
        let Some(out) = self.out.remove(&id) else { return Vec::new() };
        self.by_key.remove(&out.key);
        let backend = out.lookup.question.backend();
        self.breakers.note(&backend, outcome, now);
        self.tally(backend.kind, |tally| match outcome {
            Outcome::Answered => &mut tally.answered,
            Outcome::Failed | Outcome::Overloaded(_) => &mut tally.failed,
            Outcome::NotAsked => &mut tally.refused,
        });
        out.waiters
    }

    fn tally(&mut self, kind: BackendKind, which: impl FnOnce(&mut Tally) -> &mut u64) {
        if let Some(tally) = self.tallies.get_mut(&kind) {
            let count = which(tally);
            *count = count.saturating_add(1);
        }
    }

    /// Drops questions past their deadline, which their sources did not answer. Their connections have deadlines of
    /// their own.
    fn forget_late(&mut self, now: MonoTime) {
        while let Some((deadline, id)) = self.deadlines.front().copied() {
            if deadline > now && self.out.contains_key(&id) {
                break;
            }
            self.deadlines.pop_front();
            if deadline <= now
                && let Some(out) = self.out.remove(&id)
            {
                self.by_key.remove(&out.key);
                let backend = out.lookup.question.backend();
                self.breakers.note(&backend, Outcome::Failed, deadline);
                self.tally(backend.kind, |tally| &mut tally.late);
            }
        }
        // Where no driver takes questions, those that are over must not pile up.
        for queue in &mut self.queues {
            while queue.front().is_some_and(|id| !self.out.contains_key(id)) {
                queue.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{LOOKUP_MS, Lookups, Purpose, Waiter};
    use crate::config::LookupsConfig;
    use crate::connection::ConnectionId;
    use crate::decision::{Reason, Refusal};
    use crate::limit::Fingerprint;
    use crate::lookup::{Answerer, BackendKind, LookupId, Outcome, Question};
    use crate::names::Names;
    use crate::secret::{EngineSeed, Secret};
    use crate::time::MonoTime;

    fn lookups(failures: u32) -> Lookups {
        let config = LookupsConfig { breaker_failures: failures, ..LookupsConfig::default() };
        Lookups::new(Names::new(&EngineSeed::new([7; 32])), &config)
    }

    fn waiter(n: u64) -> Waiter {
        Waiter { connection: ConnectionId::from_u64(n), purpose: Purpose::Admit }
    }

    fn question() -> Question {
        Question::Session { id: Secret::new(b"s".to_vec()) }
    }

    fn keys() -> Question {
        Question::Keys { issuer: "i".into(), url: "u".into() }
    }

    fn ask(lookups: &Lookups, key: u128, question: Question, n: u64, at: u64) -> Result<LookupId, Refusal> {
        let asked = lookups.ask(Fingerprint::from_u128(key), question, Some(waiter(n)), MonoTime(at));
        asked.map(|asked| asked.id)
    }

    #[test]
    fn the_same_question_flies_once() {
        let lookups = lookups(5);
        let first = ask(&lookups, 1, question(), 1, 0).unwrap();
        assert_eq!(ask(&lookups, 1, question(), 2, 1), Ok(first));
        assert_eq!(lookups.take(Answerer::Anyone, 9, MonoTime(1)).len(), 1);
        assert!(lookups.begin(first, MonoTime(2)).is_some());
        assert!(lookups.begin(first, MonoTime(2)).is_none(), "an answer is being judged");
        assert_eq!(ask(&lookups, 1, question(), 3, 2), Ok(first), "until it is judged it may be joined");
        assert_eq!(lookups.end(first, Outcome::Answered, MonoTime(2)), [waiter(1), waiter(2), waiter(3)]);
        assert!(lookups.begin(first, MonoTime(2)).is_none());
        assert_ne!(ask(&lookups, 1, question(), 3, 3), Ok(first));
    }

    #[test]
    fn what_is_known_is_not_asked_and_what_is_out_is_joined_all_the_same() {
        let lookups = lookups(5);
        let ask_known =
            |n| lookups.ask_unless(Fingerprint::from_u128(1), question(), Some(waiter(n)), || true, MonoTime(0));
        assert_eq!(ask_known(1).map_err(|refusal| refusal.reason), Err(Reason::SourceUnavailable));
        assert_eq!((lookups.len(), lookups.take(Answerer::Anyone, 9, MonoTime(0)).len()), (0, 0));
        let id = ask(&lookups, 1, question(), 1, 0).unwrap();
        assert_eq!(ask_known(2).map(|asked| asked.id), Ok(id));
    }

    #[test]
    fn a_rebuild_forgets_the_questions_and_no_number() {
        let lookups = lookups(5);
        let first = ask(&lookups, 1, question(), 1, 0).unwrap();
        assert!(!lookups.rebuild());
        lookups.inner.spoil(|inner| inner.by_key.clear());
        assert!(lookups.rebuild() && !lookups.rebuild());
        assert_eq!((lookups.len(), lookups.take(Answerer::Anyone, 9, MonoTime(1)).len()), (0, 0));
        let second = ask(&lookups, 1, question(), 2, 1).unwrap();
        assert!(
            lookups.begin(first, MonoTime(2)).is_none() && first != second,
            "the late answer meets no new question"
        );
        assert!(lookups.begin(second, MonoTime(2)).is_some());
    }

    #[test]
    fn a_late_answer_finds_nothing() {
        let lookups = lookups(5);
        let id = ask(&lookups, 1, question(), 1, 0).unwrap();
        assert!(lookups.begin(id, MonoTime(LOOKUP_MS)).is_none());
        assert_eq!(lookups.len(), 0);
    }

    #[test]
    fn questions_that_nobody_takes_do_not_pile_up() {
        let lookups = lookups(1_000);
        for n in 0..100 {
            ask(&lookups, u128::from(n), question(), n, n * LOOKUP_MS).unwrap();
        }
        assert_eq!(lookups.inner.lock().queues[1].len(), 1);
    }

    #[test]
    fn questions_that_nobody_answers_open_the_breaker() {
        let lookups = lookups(2);
        ask(&lookups, 1, question(), 1, 0).unwrap();
        ask(&lookups, 2, question(), 2, 0).unwrap();
        ask(&lookups, 3, question(), 3, LOOKUP_MS - 1).unwrap();
        assert!(lookups.take_changes().is_empty());
        let refused = ask(&lookups, 4, question(), 4, LOOKUP_MS).unwrap_err();
        assert_eq!(refused.reason, Reason::SourceUnavailable);
        assert!(refused.retry_after_ms.is_some_and(|ms| (750..=1_000).contains(&ms)), "{refused:?}");
        assert_eq!(lookups.take_changes().len(), 1);
        assert!(ask(&lookups, 3, question(), 5, LOOKUP_MS).is_ok(), "what is out may be joined");
        assert!(ask(&lookups, 5, keys(), 6, LOOKUP_MS).is_ok(), "another source");
        let [keys, _, _, sessions] = lookups.tallies();
        assert_eq!((sessions.late, sessions.refused, sessions.open, keys.open), (2, 1, 1, 0));
        assert_eq!(BackendKind::ALL[3], BackendKind::Sessions);
    }

    #[test]
    fn a_question_that_leads_to_another_can_be_joined_all_the_time() {
        let lookups = lookups(5);
        let discovery = Question::Discovery { issuer: "i".into(), url: "u".into() };
        let first = ask(&lookups, 1, discovery, 1, 0).unwrap();
        lookups.begin(first, MonoTime(1)).unwrap();
        let (waiters, next) = lookups.end_with(first, keys(), MonoTime(1));
        assert_eq!(waiters, [waiter(1)]);
        assert_eq!(ask(&lookups, 1, keys(), 2, 1), Ok(next.unwrap().id));
        assert!(lookups.may_ask_keys(Fingerprint::from_u128(1), MonoTime(1)));
    }

    #[test]
    fn what_has_a_url_is_for_http_and_the_rest_for_the_host() {
        let lookups = lookups(5);
        let http = ask(&lookups, 1, keys(), 1, 0).unwrap();
        let host = ask(&lookups, 2, question(), 2, 0).unwrap();
        let taken = |who| lookups.take(who, 9, MonoTime(0)).iter().map(|lookup| lookup.id).collect::<Vec<_>>();
        assert_eq!(taken(Answerer::Host), [host]);
        assert_eq!(taken(Answerer::Host), []);
        assert_eq!(taken(Answerer::Http), [http]);
        assert_eq!(taken(Answerer::Anyone), []);
    }

    #[test]
    fn keys_are_asked_once_a_cool_down() {
        let lookups = lookups(5);
        let key = Fingerprint::from_u128(1);
        assert!(lookups.may_ask_keys(key, MonoTime(0)));
        assert!(lookups.may_ask_keys(key, MonoTime(0)), "to be allowed to ask is not to have asked");
        let id = ask(&lookups, 1, keys(), 1, 0).unwrap();
        assert!(lookups.may_ask_keys(key, MonoTime(1)), "a question that is out may be joined");
        lookups.begin(id, MonoTime(2)).unwrap();
        lookups.end(id, Outcome::Answered, MonoTime(2));
        assert!(!lookups.may_ask_keys(key, MonoTime(29_999)));
        assert!(lookups.may_ask_keys(key, MonoTime(30_000)));
    }
}
