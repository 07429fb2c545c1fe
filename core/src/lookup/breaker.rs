//! This file answers: may this source be asked now, or is it to be left alone?
//!
//! A source that fails again and again is not asked for a while, which grows with each failed try; then one question
//! at a time tries it, until one is answered. Those who would have waited for it are refused at once instead.

use std::collections::BTreeMap;

use super::backend::{Backend, BackendKind, Outcome};
use crate::config::LookupsConfig;
use crate::names::Names;
use crate::time::MonoTime;

/// The first time a source is left alone, in milliseconds; it doubles with each failed try.
pub(crate) const FIRST_BACK_OFF_MS: u64 = 1_000;

/// Most changes kept until somebody takes them.
const MAX_CHANGES: usize = 1_024;

/// A source began or ceased to be left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) backend: Backend,
    pub(crate) open: bool,
}

/// The breakers of all sources: one entry for each that failed lately, so at most one a configured source.
#[derive(Debug)]
pub(crate) struct Breakers {
    names: Names,
    failures: u32,
    longest_ms: u64,
    list: BTreeMap<Backend, Breaker>,
    changes: Vec<Change>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Breaker {
    /// Failures in a row.
    failures: u32,
    open: Option<Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    until: MonoTime,
    /// How often it was left alone since it last answered.
    times: u32,
    /// Until when the question that tries it is out.
    trial: Option<MonoTime>,
}

impl Breakers {
    pub(crate) fn new(names: Names, config: &LookupsConfig) -> Breakers {
        let mut breakers = Breakers { names, failures: 1, longest_ms: 0, list: BTreeMap::new(), changes: Vec::new() };
        breakers.configure(config, |_| true);
        breakers
    }

    /// The same bounds, and nothing known of any source.
    pub(crate) fn emptied(&self) -> Breakers {
        Breakers { names: self.names.clone(), list: BTreeMap::new(), changes: Vec::new(), ..*self }
    }

    /// Other bounds from now on, and only sources that are still asked.
    pub(crate) fn configure(&mut self, config: &LookupsConfig, keep: impl Fn(&Backend) -> bool) {
        self.failures = config.breaker_failures;
        self.longest_ms = config.breaker_ms;
        self.list.retain(|backend, _| keep(backend));
    }

    /// Lets one new question through, or says after how many milliseconds to try again. One that goes to a source
    /// that was left alone is its trial, until `deadline`.
    pub(crate) fn admit(&mut self, backend: &Backend, deadline: MonoTime, now: MonoTime) -> Result<(), u64> {
        let Some(open) = self.list.get_mut(backend).and_then(|breaker| breaker.open.as_mut()) else { return Ok(()) };
        let free_at = open.trial.map_or(open.until, |trial| open.until.max(trial));
        if now < free_at {
            return Err(free_at.since(now));
        }
        open.trial = Some(deadline);
        Ok(())
    }

    /// Counts how a source did with one question.
    pub(crate) fn note(&mut self, backend: &Backend, outcome: Outcome, now: MonoTime) {
        if outcome == Outcome::Answered {
            if self.list.remove(backend).is_some_and(|breaker| breaker.open.is_some()) {
                self.change(backend, false);
            }
            return;
        }
        if outcome == Outcome::NotAsked {
            // The next question may be its trial.
            if let Some(open) = self.list.get_mut(backend).and_then(|breaker| breaker.open.as_mut()) {
                open.trial = None;
            }
            return;
        }
        let (names, threshold, longest_ms) = (&self.names, self.failures, self.longest_ms);
        let breaker = self.list.entry(backend.clone()).or_default();
        breaker.failures = breaker.failures.saturating_add(1);
        let asked_for = match outcome {
            Outcome::Overloaded(ms) => Some(ms.min(longest_ms)),
            _ => None,
        };
        let opened = match &mut breaker.open {
            // Without a trial it was asked before the source was left alone: nothing new.
            Some(open) => {
                if open.trial.take().is_some() {
                    open.times = open.times.saturating_add(1);
                    open.until = open.until.max(now.plus(back_off(names, backend, open.times, longest_ms)));
                }
                open.until = open.until.max(now.plus(asked_for.unwrap_or(0)));
                false
            }
            None if breaker.failures >= threshold || asked_for.is_some() => {
                let pause = back_off(names, backend, 0, longest_ms).max(asked_for.unwrap_or(0));
                breaker.open = Some(Open { until: now.plus(pause), times: 0, trial: None });
                true
            }
            None => false,
        };
        if opened {
            self.change(backend, true);
        }
    }

    /// Whether anything has changed since it was last taken.
    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty()
    }

    /// What has changed since this was last asked.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// How many sources of a kind are left alone, or on trial.
    pub(crate) fn open(&self, kind: BackendKind) -> u64 {
        let open = |(backend, breaker): &(&Backend, &Breaker)| backend.kind == kind && breaker.open.is_some();
        self.list.iter().filter(open).fold(0, |count, _| count.saturating_add(1))
    }

    fn change(&mut self, backend: &Backend, open: bool) {
        if self.changes.len() < MAX_CHANGES {
            self.changes.push(Change { backend: backend.clone(), open });
        }
    }
}

/// How long to wait after so many failed tries: 1 s, doubled with each, at most `longest_ms`; up to a quarter less, by
/// the engine's seed, so that many servers do not come back in the same moment.
pub(crate) fn back_off(names: &Names, backend: &Backend, times: u32, longest_ms: u64) -> u64 {
    let doubled = FIRST_BACK_OFF_MS.saturating_mul(1_u64.checked_shl(times).unwrap_or(u64::MAX));
    let whole = doubled.min(longest_ms);
    let spread = names.spread(backend.kind.name(), backend.issuer.as_deref().unwrap_or_default(), u64::from(times));
    whole.saturating_sub(spread.checked_rem(whole / 4).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::{Breakers, Change, back_off};
    use crate::config::LookupsConfig;
    use crate::lookup::{Backend, BackendKind, Outcome};
    use crate::names::Names;
    use crate::secret::EngineSeed;
    use crate::time::MonoTime;

    const LONG: MonoTime = MonoTime(1_000_000);

    fn names() -> Names {
        Names::new(&EngineSeed::new([7; 32]))
    }

    fn breakers() -> Breakers {
        Breakers::new(names(), &LookupsConfig { breaker_failures: 3, breaker_ms: 30_000, ..LookupsConfig::default() })
    }

    fn backend(issuer: &str) -> Backend {
        Backend { kind: BackendKind::Introspection, issuer: Some(issuer.into()) }
    }

    #[test]
    fn what_was_not_asked_is_no_failure_and_leaves_the_trial_to_the_next() {
        let mut breakers = breakers();
        for _ in 0..100 {
            breakers.note(&backend("a"), Outcome::NotAsked, MonoTime(0));
        }
        assert_eq!(breakers.admit(&backend("a"), LONG, MonoTime(0)), Ok(()));
        for _ in 0..3 {
            breakers.note(&backend("a"), Outcome::Failed, MonoTime(0));
        }
        let wait = breakers.admit(&backend("a"), LONG, MonoTime(0)).unwrap_err();
        assert_eq!(breakers.admit(&backend("a"), LONG, MonoTime(wait)), Ok(()), "the trial");
        assert!(breakers.admit(&backend("a"), LONG, MonoTime(wait)).is_err());
        breakers.note(&backend("a"), Outcome::NotAsked, MonoTime(wait));
        assert_eq!(breakers.admit(&backend("a"), LONG, MonoTime(wait)), Ok(()));
    }

    /// Three failures at a time.
    fn opened(at: MonoTime) -> Breakers {
        let mut breakers = breakers();
        for _ in 0..3 {
            assert_eq!(breakers.admit(&backend("a"), LONG, at), Ok(()));
            breakers.note(&backend("a"), Outcome::Failed, at);
        }
        breakers
    }

    /// When it lets the next question through, by asking when it says.
    fn free_at(breakers: &mut Breakers, mut now: MonoTime) -> MonoTime {
        while let Err(ms) = breakers.admit(&backend("a"), LONG, now) {
            assert!(ms > 0);
            now = now.plus(ms);
        }
        now
    }

    #[test]
    fn only_failures_in_a_row_open_it() {
        let mut breakers = breakers();
        for outcome in [Outcome::Failed, Outcome::Failed, Outcome::Answered, Outcome::Failed, Outcome::Failed] {
            breakers.note(&backend("a"), outcome, MonoTime(0));
        }
        assert_eq!(breakers.admit(&backend("a"), LONG, MonoTime(0)), Ok(()));
        breakers.note(&backend("a"), Outcome::Failed, MonoTime(0));
        assert!(breakers.admit(&backend("a"), LONG, MonoTime(0)).is_err());
        assert_eq!(breakers.admit(&backend("b"), LONG, MonoTime(0)), Ok(()), "another source is another matter");
        assert_eq!((breakers.open(BackendKind::Introspection), breakers.open(BackendKind::Keys)), (1, 0));
    }

    #[test]
    fn one_question_at_a_time_tries_it_until_one_is_answered() {
        let mut breakers = opened(MonoTime(0));
        let now = free_at(&mut breakers, MonoTime(0));
        assert!((750..=1_000).contains(&now.0), "{now:?}");
        assert_eq!(breakers.admit(&backend("a"), LONG, now), Err(LONG.since(now)), "one is out");
        breakers.note(&backend("a"), Outcome::Answered, now);
        for _ in 0..9 {
            assert_eq!(breakers.admit(&backend("a"), LONG, now), Ok(()));
        }
        let change = |open| Change { backend: backend("a"), open };
        assert_eq!(breakers.take_changes(), [change(true), change(false)]);
        assert_eq!(breakers.open(BackendKind::Introspection), 0);
    }

    #[test]
    fn each_failed_trial_doubles_the_time_up_to_the_longest() {
        let mut breakers = opened(MonoTime(0));
        let mut now = MonoTime(0);
        for most in [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let next = free_at(&mut breakers, now);
            assert!((most - most / 4..=most).contains(&next.since(now)), "{most}: {}", next.since(now));
            breakers.note(&backend("a"), Outcome::Failed, next);
            now = next;
        }
        assert_eq!(breakers.take_changes().len(), 1, "it was told once");
    }

    #[test]
    fn stragglers_of_before_do_not_make_it_longer() {
        let mut breakers = opened(MonoTime(0));
        for _ in 0..100 {
            breakers.note(&backend("a"), Outcome::Failed, MonoTime(10));
        }
        assert!(free_at(&mut breakers, MonoTime(10)).0 <= 1_000);
    }

    #[test]
    fn a_trial_that_nobody_answers_makes_room_at_its_deadline() {
        let mut breakers = opened(MonoTime(0));
        assert_eq!(breakers.admit(&backend("a"), MonoTime(3_000), MonoTime(1_000)), Ok(()));
        assert_eq!(breakers.admit(&backend("a"), LONG, MonoTime(2_999)), Err(1));
        assert_eq!(breakers.admit(&backend("a"), LONG, MonoTime(3_000)), Ok(()));
    }

    #[test]
    fn retry_after_opens_it_at_once_and_is_capped() {
        for (ms, wanted) in [(7_000, 7_000), (3_600_000, 30_000)] {
            let mut breakers = breakers();
            breakers.note(&backend("a"), Outcome::Overloaded(ms), MonoTime(5));
            assert_eq!(breakers.admit(&backend("a"), LONG, MonoTime(5)), Err(wanted));
        }
    }

    #[test]
    fn the_back_off_is_the_seeds() {
        let other = Names::new(&EngineSeed::new([8; 32]));
        let waits = |names: &Names| (0..6).map(|n| back_off(names, &backend("a"), n, 30_000)).collect::<Vec<_>>();
        assert_eq!(waits(&names()), waits(&names()));
        assert_ne!(waits(&names()), waits(&other));
        assert!(back_off(&names(), &backend("a"), u32::MAX, 30_000) >= 22_500);
    }

    #[test]
    fn a_source_that_is_no_longer_asked_is_forgotten() {
        let mut breakers = opened(MonoTime(0));
        breakers.configure(&LookupsConfig::default(), |_| false);
        assert_eq!(breakers.open(BackendKind::Introspection), 0);
    }
}
