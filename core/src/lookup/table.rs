//! This file answers: which questions are out, who waits for each, and may it be asked again?

use std::collections::{BTreeMap, HashMap, VecDeque};

use parking_lot::Mutex;

use crate::connection::ConnectionId;
use crate::limit::Fingerprint;
use crate::limit::hash::Uniform;
use crate::lookup::{Answerer, Lookup, LookupId, Question};
use crate::time::MonoTime;

/// Most questions out at once; more are refused as unavailable.
const MAX_OUT: usize = 10_000;
/// Most connections that wait for one question.
const MAX_WAITERS: usize = 100_000;
/// One question's time, in milliseconds (RULES 37).
pub(crate) const LOOKUP_MS: u64 = 2_000;
/// A key set is not asked for again within this time, in milliseconds (REQUIREMENTS R-JWK-05).
const KEYS_COOL_DOWN_MS: u64 = 30_000;

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

/// The questions that are out. One lock, taken only where a lookup is needed.
#[derive(Debug)]
pub(crate) struct Lookups {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
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
}

#[derive(Debug)]
struct Out {
    key: Fingerprint,
    lookup: Lookup,
    waiters: Vec<Waiter>,
}

impl Lookups {
    pub(crate) fn new() -> Lookups {
        Lookups { inner: Mutex::new(Inner::default()) }
    }

    /// Asks, or joins the same question that is already out. `None` when too much is out already, or `question` finds
    /// that it need not be asked: whoever answers one first makes the answer known and then ends it.
    pub(crate) fn ask(
        &self,
        key: Fingerprint,
        question: impl FnOnce() -> Option<Question>,
        waiter: Waiter,
        now: MonoTime,
    ) -> Option<LookupId> {
        let mut inner = self.inner.lock();
        inner.forget_late(now);
        if let Some(id) = inner.by_key.get(&key).copied() {
            let out = inner.out.get_mut(&id)?;
            if out.waiters.len() >= MAX_WAITERS {
                return None;
            }
            out.waiters.push(waiter);
            return Some(id);
        }
        if inner.out.len() >= MAX_OUT {
            return None;
        }
        let question = question()?;
        inner.next = inner.next.wrapping_add(1);
        let id = LookupId(inner.next);
        let deadline = now.plus(LOOKUP_MS);
        let by_http = question.url().is_some();
        if matches!(question, Question::Keys { .. }) {
            inner.cool_down.insert(key, now.plus(KEYS_COOL_DOWN_MS));
        }
        inner.out.insert(id, Out { key, lookup: Lookup { id, question, deadline }, waiters: vec![waiter] });
        inner.by_key.insert(key, id);
        inner.deadlines.push_back((deadline, id));
        let [http, host] = &mut inner.queues;
        if by_http {
            http.push_back(id)
        } else {
            host.push_back(id)
        }
        Some(id)
    }

    /// Whether this issuer's keys may be asked for now: a question that is out may be joined; else at most one
    /// a cool-down, which begins when the question is really asked.
    pub(crate) fn may_ask_keys(&self, key: Fingerprint, now: MonoTime) -> bool {
        let mut inner = self.inner.lock();
        inner.forget_late(now);
        inner.by_key.contains_key(&key) || inner.cool_down.get(&key).is_none_or(|until| now >= *until)
    }

    /// Takes up to `max` questions for a driver.
    pub(crate) fn take(&self, who: Answerer, max: usize, now: MonoTime) -> Vec<Lookup> {
        let mut inner = self.inner.lock();
        inner.forget_late(now);
        let Inner { queues: [http, host], out, .. } = &mut *inner;
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
    }

    /// The text of a question that is out.
    pub(crate) fn find(&self, id: LookupId, now: MonoTime) -> Option<Question> {
        let mut inner = self.inner.lock();
        inner.forget_late(now);
        inner.out.get(&id).map(|out| out.lookup.question.clone())
    }

    /// Ends a question: its text and who waited. `None` when it is late or was never asked.
    pub(crate) fn end(&self, id: LookupId, now: MonoTime) -> Option<(Question, Vec<Waiter>)> {
        let mut inner = self.inner.lock();
        inner.forget_late(now);
        let out = inner.out.remove(&id)?;
        inner.by_key.remove(&out.key);
        Some((out.lookup.question, out.waiters))
    }

    /// How many are out.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().out.len()
    }
}

impl Inner {
    /// Drops questions past their deadline. Their connections have deadlines of their own.
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
    use crate::connection::ConnectionId;
    use crate::limit::Fingerprint;
    use crate::lookup::{Answerer, Question};
    use crate::secret::Secret;
    use crate::time::MonoTime;

    fn waiter(n: u64) -> Waiter {
        Waiter { connection: ConnectionId::from_u64(n), purpose: Purpose::Admit }
    }

    fn question() -> Option<Question> {
        Some(Question::Session { id: Secret::new(b"s".to_vec()) })
    }

    #[test]
    fn the_same_question_flies_once() {
        let lookups = Lookups::new();
        let key = Fingerprint::from_u128(1);
        let first = lookups.ask(key, question, waiter(1), MonoTime(0)).unwrap();
        let second = lookups.ask(key, question, waiter(2), MonoTime(1)).unwrap();
        assert_eq!(first, second);
        assert_eq!(lookups.take(Answerer::Anyone, 9, MonoTime(1)).len(), 1);
        let (_, waiters) = lookups.end(first, MonoTime(2)).unwrap();
        assert_eq!(waiters, vec![waiter(1), waiter(2)]);
        assert!(lookups.end(first, MonoTime(2)).is_none());
        assert_ne!(lookups.ask(key, question, waiter(3), MonoTime(3)), Some(first));
    }

    #[test]
    fn what_need_not_be_asked_is_not_and_what_is_out_is_joined_all_the_same() {
        let lookups = Lookups::new();
        let key = Fingerprint::from_u128(1);
        assert_eq!(lookups.ask(key, || None, waiter(1), MonoTime(0)), None);
        assert_eq!((lookups.len(), lookups.take(Answerer::Anyone, 9, MonoTime(0)).len()), (0, 0));
        let id = lookups.ask(key, question, waiter(1), MonoTime(0));
        assert_eq!(lookups.ask(key, || None, waiter(2), MonoTime(0)), id);
    }

    #[test]
    fn a_late_answer_finds_nothing() {
        let lookups = Lookups::new();
        let id = lookups.ask(Fingerprint::from_u128(1), question, waiter(1), MonoTime(0)).unwrap();
        assert!(lookups.end(id, MonoTime(LOOKUP_MS)).is_none());
        assert_eq!(lookups.len(), 0);
    }

    #[test]
    fn questions_that_nobody_takes_do_not_pile_up() {
        let lookups = Lookups::new();
        for n in 0..100 {
            let at = MonoTime(n * LOOKUP_MS);
            lookups.ask(Fingerprint::from_u128(u128::from(n)), question, waiter(n), at).unwrap();
        }
        assert_eq!(lookups.inner.lock().queues[1].len(), 1);
    }

    #[test]
    fn what_has_a_url_is_for_http_and_the_rest_for_the_host() {
        let lookups = Lookups::new();
        let keys = || Some(Question::Keys { issuer: "i".into(), url: "u".into() });
        let http = lookups.ask(Fingerprint::from_u128(1), keys, waiter(1), MonoTime(0)).unwrap();
        let host = lookups.ask(Fingerprint::from_u128(2), question, waiter(2), MonoTime(0)).unwrap();
        let taken = |who| lookups.take(who, 9, MonoTime(0)).iter().map(|lookup| lookup.id).collect::<Vec<_>>();
        assert_eq!(taken(Answerer::Host), [host]);
        assert_eq!(taken(Answerer::Host), []);
        assert_eq!(taken(Answerer::Http), [http]);
        assert_eq!(taken(Answerer::Anyone), []);
    }

    #[test]
    fn keys_are_asked_once_a_cool_down() {
        let question = || Some(Question::Keys { issuer: "i".into(), url: "u".into() });
        let lookups = Lookups::new();
        let key = Fingerprint::from_u128(1);
        assert!(lookups.may_ask_keys(key, MonoTime(0)));
        assert!(lookups.may_ask_keys(key, MonoTime(0)), "to be allowed to ask is not to have asked");
        let id = lookups.ask(key, question, waiter(1), MonoTime(0)).unwrap();
        assert!(lookups.may_ask_keys(key, MonoTime(1)), "a question that is out may be joined");
        lookups.end(id, MonoTime(2)).unwrap();
        assert!(!lookups.may_ask_keys(key, MonoTime(29_999)));
        assert!(lookups.may_ask_keys(key, MonoTime(30_000)));
    }
}
