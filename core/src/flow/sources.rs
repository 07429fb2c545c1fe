//! This file answers: when are keys fetched ahead of need, and what becomes of what a source said?
//!
//! A key set is fetched at once after the start and again before it is old, so that no client waits for it. A fetch
//! that failed is tried again soon, then less and less often; meanwhile the last good set vouches, up to its limit.
//! Whoever calls the engine moves this on: what is due is asked when questions are taken, when shard 0 is polled, and
//! by each handshake. Nothing is due at most times, and to see that costs one atomic load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::decision::{Reason, Refusal};
use crate::dirty::Lock;
use crate::engine::Engine;
use crate::flow::{report, revoke};
use crate::keys::{AskAt, Issuer, find_key_set, parse_discovery};
use crate::lookup::{Answer, Backend, BackendKind, KEYS_COOL_DOWN_MS, Outcome, Question, back_off};
use crate::rules::Rules;
use crate::time::{MonoTime, Now};

/// Our own credentials are said to be refused at most once in this time for each source, in milliseconds.
const REJECTED_ALERT_MS: u64 = 300_000;

/// When each issuer's keys are fetched next, and how the last tries went. Kept over a reload.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The nearest time at which something is due.
    next: AtomicU64,
    inner: Lock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    fetches: Vec<Fetch>,
    /// Sources that refuse our own credentials, and when that was told. At most one entry a configured source.
    rejected: Vec<(Backend, MonoTime)>,
}

/// The fetching of one issuer's keys.
#[derive(Debug)]
struct Fetch {
    backend: Backend,
    issuer: Arc<str>,
    url: String,
    discovery: bool,
    /// When it is asked, or an answer is given up.
    due: MonoTime,
    /// A question is out, until then.
    asked: Option<MonoTime>,
    /// Failures in a row.
    failures: u32,
    /// Sets fetched: each wait gets a jitter of its own.
    count: u64,
    told: Told,
}

/// What the audit was told last of an issuer's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Fresh,
    /// A fetch failed.
    Degraded,
    /// The last good set is older than its limit.
    Stale,
}

/// What a discovery document or a key set was worth.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fetched {
    /// The keys are in force.
    Keys,
    /// The document says where the keys are: there they are asked for next.
    At(Arc<str>),
    /// Neither.
    Nothing,
}

impl Sources {
    /// Everything is due at once.
    pub(crate) fn new(rules: &Rules) -> Sources {
        let sources = Sources { next: AtomicU64::new(MonoTime::NEVER.0), inner: Lock::new(Inner::default()) };
        let _ = sources.adopt(rules, MonoTime(0));
        sources
    }

    /// Takes over another configuration: issuers that stay where they were go on as before, new ones are fetched at
    /// once. True: something is due earlier than before.
    pub(crate) fn adopt(&self, rules: &Rules, now: MonoTime) -> bool {
        let mut inner = self.inner.lock();
        let mut old = std::mem::take(&mut inner.fetches);
        for issuer in rules.issuers.remote() {
            let Some((url, discovery)) = issuer.place() else { continue };
            let name = issuer.config().issuer.as_str();
            let same = |fetch: &Fetch| (&*fetch.issuer, fetch.url.as_str(), fetch.discovery) == (name, url, discovery);
            let fetch = match old.iter().position(same) {
                Some(place) => old.swap_remove(place),
                None => Fetch::new(name, url, discovery, now),
            };
            inner.fetches.push(fetch);
        }
        inner.rejected.retain(|(backend, _)| is_configured(rules, backend));
        self.publish(&inner, rules)
    }

    /// Forgets what is known of the fetches where it was left dirty: everything is due at once. True if it was.
    pub(crate) fn rebuild(&self, rules: &Rules, now: MonoTime) -> bool {
        let dirty = self.inner.repair(|inner| *inner = Inner::default());
        if dirty {
            let _ = self.adopt(rules, now);
        }
        dirty
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> MonoTime {
        MonoTime(self.next.load(Ordering::Acquire))
    }

    /// True: something is due earlier than before, and whoever sleeps must hear of it.
    fn publish(&self, inner: &Inner, rules: &Rules) -> bool {
        let next = inner.fetches.iter().map(|fetch| fetch.look_at(rules)).min().unwrap_or(MonoTime::NEVER);
        next.0 < self.next.swap(next.0, Ordering::AcqRel)
    }

    /// Changes the state of one issuer's fetching.
    fn update(&self, engine: &Engine, rules: &Rules, issuer: &str, change: impl FnOnce(&mut Fetch)) {
        let mut inner = self.inner.lock();
        if let Some(fetch) = inner.fetches.iter_mut().find(|fetch| &*fetch.issuer == issuer) {
            change(fetch);
        }
        let earlier = self.publish(&inner, rules);
        drop(inner);
        if earlier {
            engine.wake(0);
        }
    }
}

impl Fetch {
    fn new(issuer: &str, url: &str, discovery: bool, due: MonoTime) -> Fetch {
        let issuer: Arc<str> = Arc::from(issuer);
        Fetch {
            backend: Backend { kind: BackendKind::Keys, issuer: Some(Arc::clone(&issuer)) },
            issuer,
            url: url.to_owned(),
            discovery,
            due,
            asked: None,
            failures: 0,
            count: 0,
            told: Told::Fresh,
        }
    }

    /// When this must be looked at: also when the last good set reaches its limit, since that is told.
    fn look_at(&self, rules: &Rules) -> MonoTime {
        let limit = || {
            let issuer = rules.issuer(&self.issuer)?;
            Some(issuer.fetched()?.mono.plus(issuer.remote()?.max_stale_ms))
        };
        match self.told {
            Told::Degraded => limit().map_or(self.due, |limit| self.due.min(limit)),
            Told::Fresh | Told::Stale => self.due,
        }
    }

    fn serve(&mut self, engine: &Engine, issuer: &Issuer, now: Now) {
        if now.mono >= self.due {
            match self.asked.take() {
                Some(_) => self.fail(engine, issuer, None, now),
                None => self.ask(engine, issuer, now),
            }
        }
        if self.told == Told::Degraded && issuer.is_stale(now) {
            self.tell(
                engine,
                Told::Stale,
                "its last good key set is older than its limit: its tokens are refused",
                now,
            );
        }
    }

    fn ask(&mut self, engine: &Engine, issuer: &Issuer, now: Now) {
        let Some(question) = issuer.keys_question() else { return };
        match engine.lookups.ask(engine.hash.keys(&self.issuer), question, None, now.mono) {
            Ok(asked) => {
                self.asked = Some(asked.deadline);
                self.due = asked.deadline;
                engine.wake(0);
            }
            // It is left alone; or too much is out.
            Err(refusal) => self.due = now.mono.plus(u64::from(refusal.retry_after_ms.unwrap_or(1_000).max(1))),
        }
    }

    fn fail(&mut self, engine: &Engine, issuer: &Issuer, retry_after_ms: Option<u64>, now: Now) {
        let pause = back_off(&engine.hash, &self.backend, self.failures, KEYS_COOL_DOWN_MS);
        self.failures = self.failures.saturating_add(1);
        self.asked = None;
        self.due = now.mono.plus(pause.max(retry_after_ms.unwrap_or(0)));
        if self.told == Told::Fresh {
            let detail = if issuer.has_keys(now) {
                "its key set could not be fetched: the last good one stays up to its limit"
            } else {
                "its key set could not be fetched: its tokens are refused until it is"
            };
            self.tell(engine, Told::Degraded, detail, now);
        }
    }

    /// A good set came. The next one is fetched up to a tenth earlier than configured, by the engine's seed.
    fn succeed(&mut self, engine: &Engine, refresh_ms: u64, now: Now) {
        let spread = engine.hash.spread("refresh", &self.issuer, self.count);
        let jitter = spread.checked_rem((refresh_ms / 10).saturating_add(1)).unwrap_or(0);
        self.count = self.count.wrapping_add(1);
        self.failures = 0;
        self.asked = None;
        self.due = now.mono.plus(refresh_ms.saturating_sub(jitter));
        if self.told != Told::Fresh {
            self.told = Told::Fresh;
            report::source_recovered(engine, &self.backend, "its key set was fetched again", now);
        }
    }

    fn tell(&mut self, engine: &Engine, what: Told, detail: &'static str, now: Now) {
        self.told = what;
        report::source_degraded(engine, &self.backend, detail, now);
    }
}

/// Asks for the keys that are due. One atomic load when none are; never waits for another thread that does the same.
pub(crate) fn fetch_due(engine: &Engine, rules: &Rules, now: Now) {
    report_changes(engine, now);
    if now.mono < engine.sources.next() {
        return;
    }
    let Some(mut inner) = engine.sources.inner.try_lock() else { return };
    for fetch in &mut inner.fetches {
        // Absent only while another thread puts a new configuration in force.
        if let Some(issuer) = rules.issuer(&fetch.issuer)
            && now.mono >= fetch.look_at(rules)
        {
            fetch.serve(engine, issuer, now);
        }
    }
    let _ = engine.sources.publish(&inner, rules);
}

/// Someone who waits has asked for an issuer's keys: there is no need to ask beside it.
pub(crate) fn asked(engine: &Engine, rules: &Rules, issuer: &str, deadline: MonoTime) {
    engine.sources.update(engine, rules, issuer, |fetch| {
        fetch.asked = Some(deadline);
        fetch.due = deadline;
    });
}

/// Judges an answer to a question for a discovery document or a key set, and puts in force what is good. Bad ones
/// change nothing (REQUIREMENTS R-JWK-06).
pub(crate) fn take_keys(engine: &Engine, rules: &Rules, question: &Question, answer: &Answer, now: Now) -> Fetched {
    let asked = match question {
        Question::Discovery { issuer, .. } | Question::Keys { issuer, .. } => rules.issuer(issuer),
        _ => None,
    };
    let Some(asked) = asked.filter(|issuer| issuer.is_asked_at(question)) else { return Fetched::Nothing };
    match (question, answer) {
        (Question::Discovery { issuer, url }, Answer::Response(response)) => {
            match parse_discovery(response, issuer, url) {
                Ok(found) => {
                    let keys_at = Arc::clone(&found.jwks_uri);
                    asked.set_discovered(found);
                    if asked.introspection_url() == AskAt::Nowhere {
                        let kind = BackendKind::Introspection;
                        let backend = Backend { kind, issuer: Some(Arc::clone(issuer)) };
                        let detail =
                            "the discovery document names no introspection endpoint: opaque tokens are refused";
                        report::source_degraded(engine, &backend, detail, now);
                    }
                    Fetched::At(keys_at)
                }
                Err(why) => {
                    report::document_refused(engine, issuer, why, now);
                    Fetched::Nothing
                }
            }
        }
        (Question::Keys { issuer, .. }, Answer::Response(response)) => match find_key_set(response) {
            Ok(document) if put_in_force(engine, rules, issuer, document, now) => Fetched::Keys,
            Ok(_) => Fetched::Nothing,
            Err(why) => {
                report::document_refused(engine, issuer, why, now);
                Fetched::Nothing
            }
        },
        (Question::Keys { issuer, .. }, Answer::Keys(document)) => {
            if put_in_force(engine, rules, issuer, document, now) { Fetched::Keys } else { Fetched::Nothing }
        }
        _ => Fetched::Nothing,
    }
}

/// Notes that an issuer's keys could not be fetched.
pub(crate) fn failed(engine: &Engine, rules: &Rules, issuer: &str, answer: &Answer, now: Now) {
    let longest_ms = rules.config.lookups.breaker_ms;
    let retry_after_ms = retry_after(answer).map(|ms| u64::from(ms).min(longest_ms));
    let Some(config) = rules.issuer(issuer) else { return };
    engine.sources.update(engine, rules, issuer, |fetch| fetch.fail(engine, config, retry_after_ms, now));
}

/// Puts a key set in force. A bad one keeps the last good one. True when it is in force.
pub(crate) fn put_in_force(engine: &Engine, rules: &Rules, name: &str, document: &[u8], now: Now) -> bool {
    let Some(issuer) = rules.issuer(name) else {
        report::keys_loaded(engine, name, false, now);
        return false;
    };
    let loaded = issuer.load_keys(document, now);
    report::keys_loaded(engine, name, loaded.is_ok(), now);
    let Ok(loaded) = loaded else { return false };
    let refresh_ms = issuer.remote().map_or(0, |remote| remote.refresh_ms);
    engine.sources.update(engine, rules, name, |fetch| fetch.succeed(engine, refresh_ms, now));
    if !loaded.removed.is_empty() {
        revoke::key_removed(engine, rules, name, &loaded.removed, now);
    }
    true
}

/// How a source did, by the form of its answer; what is in a good form is judged by whoever asked. Raises the alarm
/// when the source refuses us ourselves.
pub(crate) fn find_outcome(engine: &Engine, question: &Question, answer: &Answer, now: Now) -> Outcome {
    match (question, answer) {
        (_, Answer::Response(response)) => match (response.status, response.retry_after_ms) {
            (429 | 503, Some(ms)) => Outcome::Overloaded(u64::from(ms)),
            (401 | 403, _) => {
                reject_credentials(engine, &question.backend(), now);
                Outcome::Failed
            }
            (200, _) => Outcome::Answered,
            (408 | 429 | 500.., _) => Outcome::Failed,
            // It is there and refuses this one question: whoever sends tokens that it chokes on must not be able to
            // have it left alone. Keys are asked for without any token.
            _ if question.backend().kind != BackendKind::Keys => Outcome::Answered,
            _ => Outcome::Failed,
        },
        (Question::Introspection { .. } | Question::Session { .. }, Answer::Vouched(_) | Answer::Inactive)
        | (Question::Profile { .. }, Answer::Profile(_) | Answer::Inactive)
        | (Question::Keys { .. }, Answer::Keys(_)) => Outcome::Answered,
        (_, Answer::NotAsked) => Outcome::NotAsked,
        _ => Outcome::Failed,
    }
}

/// When a source that gave no usable answer said it may be asked again.
pub(crate) fn retry_after(answer: &Answer) -> Option<u32> {
    match answer {
        Answer::Unavailable { retry_after_ms } => *retry_after_ms,
        Answer::Response(response) => response.retry_after_ms,
        _ => None,
    }
}

/// Those who would have waited for a source that is left alone are refused at once; that it is, is told here.
pub(crate) fn report_changes(engine: &Engine, now: Now) {
    for change in engine.lookups.take_changes() {
        if change.open {
            let detail = "it failed again and again, or asked for it: it is left alone for a while";
            report::source_degraded(engine, &change.backend, detail, now);
        } else if change.backend.kind != BackendKind::Keys {
            // Of keys it is told when a set came.
            report::source_recovered(engine, &change.backend, "it answers again", now);
        }
    }
}

/// Whether a source is still asked under these rules.
pub(crate) fn is_configured(rules: &Rules, backend: &Backend) -> bool {
    let issuer = backend.issuer.as_deref().and_then(|name| rules.issuer(name));
    match backend.kind {
        BackendKind::Keys => issuer.is_some_and(Issuer::is_remote),
        BackendKind::Introspection => issuer.is_some_and(|issuer| issuer.config().opaque),
        BackendKind::Profile => rules.config.profile.is_some(),
        BackendKind::Sessions => rules.config.sessions.is_some(),
    }
}

/// Why a token whose key is not among its issuer's is refused, once its keys were asked for or must not be.
pub(crate) fn refuse_unknown_key(issuer: Option<&Issuer>, retry_after_ms: Option<u32>, now: Now) -> Refusal {
    if issuer.is_some_and(|issuer| issuer.has_keys(now)) {
        return Reason::KeyUnknown.into();
    }
    Refusal::after(Reason::SourceUnavailable, u64::from(retry_after_ms.unwrap_or(1_000)))
}

fn reject_credentials(engine: &Engine, backend: &Backend, now: Now) {
    let mut inner = engine.sources.inner.lock();
    match inner.rejected.iter_mut().find(|(known, _)| known == backend) {
        Some((_, told)) if now.mono.since(*told) < REJECTED_ALERT_MS => return,
        Some((_, told)) => *told = now.mono,
        None => inner.rejected.push((backend.clone(), now.mono)),
    }
    drop(inner);
    report::credentials_rejected(engine, backend, now);
}
