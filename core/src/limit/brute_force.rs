//! This file answers: is this address guessing credentials?
//!
//! Failures are counted per address over a sliding window of four quarters and the one in progress: a failure
//! counts for at least the configured window and at most a quarter longer, so an alert can come early and
//! never goes missing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::hash::{Fingerprint, Uniform, give_back};
use crate::config::BruteForceConfig;
use crate::decision::{Class, Reason};
use crate::dirty::Lock;
use crate::time::MonoTime;

const SHARDS: usize = 16;
const QUARTERS: u64 = 4;
const RING: usize = 5;
/// Stale entries looked at per failure.
const RECLAIM: usize = 4;
/// Alerts of all addresses together, per minute.
const ALERTS_PER_MINUTE: u32 = 60;
const MINUTE_MS: u64 = 60_000;

/// Whether this refusal counts for alerts: every refusal of a credential. A source that did not answer
/// has refused nothing.
pub(crate) fn counts_as_refusal(reason: Reason) -> bool {
    reason.class() == Class::Credential && reason != Reason::SourceUnavailable
}

/// Whether this refusal counts for blocking: what a guesser provokes and an honest client with an old
/// token does not. Everything here is decided before any signature holds.
pub(crate) fn counts_as_guess(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::CredentialMalformed
            | Reason::TokenTooLarge
            | Reason::TokenMalformed
            | Reason::TokenHeaderMalformed
            | Reason::TokenAlgorithm
            | Reason::TokenCritical
            | Reason::TokenKeyEmbedded
            | Reason::TokenKeyId
            | Reason::TokenOpaque
            | Reason::KeyUnknown
            | Reason::SignatureInvalid
            | Reason::IssuerUnknown
            | Reason::SessionUnknown
            | Reason::TicketUnknown
    )
}

/// What one more failure led to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Tell the operator.
    pub(crate) alert: Option<Alert>,
    /// From now on the address is blocked.
    pub(crate) block: Option<Block>,
}

/// Too many failures of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Alert {
    /// Failures within the window, this one included.
    pub(crate) count: u32,
    /// The table is full and the failures are those of all addresses it could not take up.
    pub(crate) shared: bool,
    /// Alerts held back by the cap of 60 a minute since the last one that came through.
    pub(crate) suppressed: u64,
}

/// An address has been blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Guesses within the window, this one included.
    pub(crate) count: u32,
    /// For how long, in milliseconds.
    pub(crate) for_ms: u64,
}

/// The failures of all addresses that failed within the window.
///
/// At most `capacity` addresses. An address is forgotten only when its window is empty and no block is in
/// force. When all room is taken by such, newcomers share one entry, which alerts and never blocks: whoever
/// owns a million addresses must not be able to lock out everybody else.
pub(crate) struct BruteForce {
    shards: [Lock<Shard>; SHARDS],
    shared: Lock<Entry>,
    cap: Lock<Cap>,
    tracked: AtomicUsize,
    capacity: usize,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Fingerprint, Entry, Uniform>,
    /// When an entry may be stale; one item per entry.
    due: BinaryHeap<Reverse<(u64, Fingerprint)>>,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    /// The quarter in progress at the last failure, counted from the origin of time.
    quarter: u64,
    /// How long its quarters are, in milliseconds.
    quarter_ms: u64,
    /// Failures and guesses per quarter, at the quarter modulo the length.
    failures: [u32; RING],
    guesses: [u32; RING],
    /// No alert before this.
    quiet_until: u64,
    blocked_until: u64,
}

#[derive(Default)]
struct Cap {
    minute_ends: u64,
    raised: u32,
    suppressed: u64,
}

impl BruteForce {
    /// A table of at most `capacity` addresses.
    pub(crate) fn new(capacity: usize) -> BruteForce {
        BruteForce {
            shards: Default::default(),
            shared: Lock::new(Entry::default()),
            cap: Lock::new(Cap::default()),
            tracked: AtomicUsize::new(0),
            capacity,
        }
    }

    /// Counts a refusal that [`counts_as_refusal`]; `guess` says whether it also [`counts_as_guess`].
    pub(crate) fn record(&self, key: Fingerprint, guess: bool, config: &BruteForceConfig, now: MonoTime) -> Outcome {
        let Some(shard) = self.shards.get(key.bucket(SHARDS)) else { return Outcome::default() };
        let mut shard = shard.lock();
        self.forget_stale(&mut shard, now);
        let known = shard.entries.contains_key(&key);
        if !known && !self.admit_newcomer() {
            drop(shard);
            let mut entry = self.shared.lock();
            entry.count(guess, config, now);
            return Outcome { alert: self.alert(&mut entry, true, config, now), block: None };
        }
        let entry = shard.entries.entry(key).or_default();
        entry.count(guess, config, now);
        let outcome = Outcome { alert: self.alert(entry, false, config, now), block: entry.block(config, now) };
        let due = entry.stale_at();
        if !known {
            shard.due.push(Reverse((due, key)));
        }
        outcome
    }

    /// For how many milliseconds this address stays blocked, if it is.
    pub(crate) fn find_block(&self, key: Fingerprint, now: MonoTime) -> Option<u64> {
        let shard = self.shards.get(key.bucket(SHARDS))?.lock();
        let until = shard.entries.get(&key)?.blocked_until;
        until.checked_sub(now.0).filter(|left| *left > 0)
    }

    /// Files what was left dirty again: who failed how often, and is blocked, stays. True if anything was.
    pub(crate) fn rebuild(&self) -> bool {
        // Numbers, each of which may be one off.
        let counted = self.shared.repair(|_| ()) | self.cap.repair(|_| ());
        if !self.shards.iter().any(Lock::is_dirty) {
            return counted;
        }
        // All at once, so that nothing moves while it is counted.
        let mut shards = self.shards.each_ref().map(Lock::lock);
        for (shard, lock) in shards.iter_mut().zip(&self.shards) {
            if lock.is_dirty() {
                shard.repair(|shard| {
                    shard.due = shard.entries.iter().map(|(key, entry)| Reverse((entry.stale_at(), *key))).collect();
                });
            }
        }
        let tracked = shards.iter().fold(0usize, |sum, shard| sum.saturating_add(shard.entries.len()));
        self.tracked.store(tracked, Ordering::Relaxed);
        true
    }

    /// Addresses tracked at present.
    #[cfg(test)]
    pub(crate) fn tracked(&self) -> usize {
        self.tracked.load(Ordering::Relaxed)
    }

    /// Alerts held back by the cap and not yet told.
    #[cfg(test)]
    pub(crate) fn suppressed(&self) -> u64 {
        self.cap.lock().suppressed
    }

    fn admit_newcomer(&self) -> bool {
        let room = |tracked: usize| tracked.checked_add(1).filter(|after| *after <= self.capacity);
        self.tracked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }

    fn forget_stale(&self, shard: &mut Shard, now: MonoTime) {
        for _ in 0..RECLAIM {
            match shard.due.peek() {
                Some(Reverse((due, _))) if *due <= now.0 => {}
                _ => return,
            }
            let Some(Reverse((_, key))) = shard.due.pop() else { return };
            let Some(stale_at) = shard.entries.get(&key).map(|entry| entry.stale_at()) else { continue };
            if stale_at > now.0 {
                shard.due.push(Reverse((stale_at, key)));
            } else {
                shard.entries.remove(&key);
                give_back(&mut shard.entries);
                self.tracked.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Once per key and window, unless the cap holds it back; then again with the next minute, so that
    /// a flood of alerts silences no address for long.
    fn alert(&self, entry: &mut Entry, shared: bool, config: &BruteForceConfig, now: MonoTime) -> Option<Alert> {
        let count = sum(&entry.failures);
        if count <= config.alert_above || now.0 < entry.quiet_until {
            return None;
        }
        let mut cap = self.cap.lock();
        if now.0 >= cap.minute_ends {
            cap.minute_ends = now.plus(MINUTE_MS).0;
            cap.raised = 0;
        }
        if cap.raised >= ALERTS_PER_MINUTE {
            cap.suppressed = cap.suppressed.saturating_add(1);
            entry.quiet_until = cap.minute_ends;
            return None;
        }
        cap.raised = cap.raised.saturating_add(1);
        entry.quiet_until = now.plus(config.window_ms).0;
        Some(Alert { count, shared, suppressed: std::mem::take(&mut cap.suppressed) })
    }
}

impl Entry {
    fn count(&mut self, guess: bool, config: &BruteForceConfig, now: MonoTime) {
        self.resize(quarter_ms(config));
        // A clock read on another core may be a little behind: that failure counts in the quarter in progress.
        let quarter = now.0.checked_div(self.quarter_ms).unwrap_or(0).max(self.quarter);
        let passed = quarter.saturating_sub(self.quarter).min(RING as u64);
        for step in 0..passed {
            let place = place(quarter.saturating_sub(step));
            for ring in [&mut self.failures, &mut self.guesses] {
                if let Some(count) = ring.get_mut(place) {
                    *count = 0;
                }
            }
        }
        self.quarter = quarter;
        let add = |ring: &mut [u32; RING]| {
            if let Some(count) = ring.get_mut(place(quarter)) {
                *count = count.saturating_add(1);
            }
        };
        add(&mut self.failures);
        if guess {
            add(&mut self.guesses);
        }
    }

    /// After a reload with another window, what was counted so far counts as of the quarter in progress then.
    fn resize(&mut self, quarter_ms: u64) {
        if self.quarter_ms == quarter_ms {
            return;
        }
        let last = self.quarter.saturating_mul(self.quarter_ms);
        self.quarter_ms = quarter_ms;
        self.quarter = last.checked_div(quarter_ms).unwrap_or(0);
        for ring in [&mut self.failures, &mut self.guesses] {
            let all = sum(ring);
            *ring = [0; RING];
            if let Some(count) = ring.get_mut(place(self.quarter)) {
                *count = all;
            }
        }
    }

    fn block(&mut self, config: &BruteForceConfig, now: MonoTime) -> Option<Block> {
        let above = config.block_above?;
        let count = sum(&self.guesses);
        if count <= above || now.0 < self.blocked_until {
            return None;
        }
        self.blocked_until = now.plus(config.block_ms).0;
        Some(Block { count, for_ms: config.block_ms })
    }

    /// When nothing that happened so far matters any more.
    fn stale_at(&self) -> u64 {
        let empty = self.quarter.saturating_add(RING as u64).saturating_mul(self.quarter_ms);
        empty.max(self.blocked_until).max(self.quiet_until)
    }
}

fn quarter_ms(config: &BruteForceConfig) -> u64 {
    config.window_ms.div_ceil(QUARTERS).max(1)
}

const fn place(quarter: u64) -> usize {
    const LENGTH: u64 = RING as u64;
    (quarter % LENGTH) as usize
}

fn sum(ring: &[u32; RING]) -> u32 {
    ring.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Alert, Block, BruteForce, Outcome, counts_as_guess, counts_as_refusal};
    use crate::config::BruteForceConfig;
    use crate::decision::{Class, Reason};
    use crate::limit::hash::{Fingerprint, Fingerprinter};
    use crate::time::MonoTime;

    const WINDOW: u64 = 300_000;

    fn key(n: u64) -> Fingerprint {
        Fingerprinter::new([1, 2]).fingerprint(&[&n.to_le_bytes()])
    }

    fn config(block_above: Option<u32>) -> BruteForceConfig {
        BruteForceConfig { alert_above: 10, window_ms: WINDOW, block_above, block_ms: 300_000 }
    }

    fn alert(count: u32) -> Option<Alert> {
        Some(Alert { count, shared: false, suppressed: 0 })
    }

    #[test]
    fn alerts_above_ten_once_per_window_and_never_blocks_unless_told() {
        let table = BruteForce::new(10);
        let config = config(None);
        let mut alerts = Vec::new();
        for n in 0..200u64 {
            let outcome = table.record(key(1), true, &config, MonoTime(n * 1_000));
            assert_eq!(outcome.block, None);
            if let Some(alert) = outcome.alert {
                alerts.push((n, alert.count));
            }
        }
        assert_eq!(alerts, [(10, 11)]);
        assert_eq!(table.find_block(key(1), MonoTime(200_000)), None);
        assert!(table.record(key(1), true, &config, MonoTime(10_000 + WINDOW)).alert.is_some(), "the next window");
    }

    #[test]
    fn a_slow_peer_below_the_threshold_is_never_an_alert() {
        let table = BruteForce::new(10);
        // Ten within any window and a quarter.
        for n in 0..1_000u64 {
            let outcome = table.record(key(1), true, &config(Some(10)), MonoTime(n * (WINDOW + WINDOW / 4) / 10));
            assert_eq!(outcome, Outcome::default(), "{n}");
        }
    }

    #[test]
    fn blocks_on_guesses_only_and_for_the_time_configured() {
        let table = BruteForce::new(10);
        let config = config(Some(3));
        for n in 0..50 {
            assert_eq!(table.record(key(1), false, &config, MonoTime(n)).block, None);
        }
        for n in 50..53 {
            assert_eq!(table.record(key(1), true, &config, MonoTime(n)).block, None);
        }
        assert_eq!(table.record(key(1), true, &config, MonoTime(53)).block, Some(Block { count: 4, for_ms: 300_000 }));
        assert_eq!(table.record(key(1), true, &config, MonoTime(54)).block, None, "one block, one event");
        assert_eq!(table.find_block(key(1), MonoTime(54)), Some(299_999));
        assert_eq!(table.find_block(key(2), MonoTime(54)), None);
        assert_eq!(table.find_block(key(1), MonoTime(300_052)), Some(1));
        assert_eq!(table.find_block(key(1), MonoTime(300_053)), None);
    }

    #[test]
    fn a_full_table_forgets_no_active_address_and_never_blocks_newcomers() {
        let table = BruteForce::new(3);
        let config = config(Some(3));
        for n in 0..3 {
            (0..4).for_each(|at| {
                table.record(key(n), true, &config, MonoTime(at));
            });
        }
        let mut shared = Vec::new();
        for n in 100..200 {
            let outcome = table.record(key(n), true, &config, MonoTime(10));
            assert_eq!(outcome.block, None);
            shared.extend(outcome.alert);
        }
        assert_eq!(shared, [Alert { count: 11, shared: true, suppressed: 0 }]);
        assert!((0..3).all(|n| table.find_block(key(n), MonoTime(11)).is_some()));
        assert_eq!(table.tracked(), 3);
    }

    #[test]
    fn a_rebuild_forgets_no_block_and_counts_the_rest_again() {
        let table = BruteForce::new(3);
        let config = config(Some(0));
        for n in 0..3 {
            table.record(key(n), true, &config, MonoTime(0));
        }
        assert!(!table.rebuild());
        let shard = &table.shards[key(0).bucket(16)];
        shard.spoil(|shard| shard.due.clear());
        table.shared.spoil(|_| ());
        table.cap.spoil(|_| ());
        table.tracked.fetch_add(7, std::sync::atomic::Ordering::Relaxed);
        assert!(table.rebuild() && !table.rebuild());
        assert_eq!(table.tracked(), 3);
        assert!((0..3).all(|n| table.find_block(key(n), MonoTime(1)).is_some()));
        let later = MonoTime(10 * WINDOW);
        (0..3).for_each(|n| done_with(&table, key(n), &config, later));
        assert_eq!(table.tracked(), 3, "what was filed again is forgotten when its time is over");
    }

    /// One more failure of the address after its last ones are over.
    fn done_with(table: &BruteForce, key: Fingerprint, config: &BruteForceConfig, at: MonoTime) {
        assert_eq!(table.find_block(key, at), None);
        assert!(table.record(key, true, config, at).block.is_some());
    }

    #[test]
    fn a_block_longer_than_the_window_outlives_it() {
        let table = BruteForce::new(4);
        let config = BruteForceConfig { block_ms: 10 * WINDOW, ..config(Some(0)) };
        table.record(key(1), true, &config, MonoTime(0));
        for n in 100..1_000 {
            table.record(key(n), false, &config, MonoTime(3 * WINDOW));
        }
        assert_eq!(table.find_block(key(1), MonoTime(3 * WINDOW)), Some(7 * WINDOW));
    }

    #[test]
    fn the_past_is_forgotten_and_its_room_given_back() {
        let table = BruteForce::new(1_000);
        let config = config(None);
        for n in 0..5_000 {
            table.record(key(n), true, &config, MonoTime(0));
        }
        assert_eq!(table.tracked(), 1_000);
        for n in 5_000..6_000 {
            table.record(key(n), true, &config, MonoTime(2 * WINDOW));
        }
        assert!(table.tracked() <= 1_000);
        let due: usize = table.shards.iter().map(|shard| shard.lock().due.len()).sum();
        assert_eq!(due, table.tracked());
        assert!((5_500..6_000).any(|n| {
            let shard = table.shards[key(n).bucket(16)].lock();
            shard.entries.contains_key(&key(n))
        }));
    }

    #[test]
    fn a_million_failures_raise_at_most_sixty_alerts_a_minute_and_say_what_was_held_back() {
        let table = BruteForce::new(100_000);
        let config = BruteForceConfig { alert_above: 0, ..config(None) };
        let raised = (0..20_000).filter(|n| table.record(key(*n), true, &config, MonoTime(*n)).alert.is_some()).count();
        assert_eq!(raised, 60);
        assert_eq!(table.suppressed(), 19_940);
        // One that was held back is not silenced: it comes with the next minute.
        let outcome = table.record(key(19_999), true, &config, MonoTime(60_000));
        assert_eq!(outcome.alert, Some(Alert { count: 2, shared: false, suppressed: 19_940 }));
        assert_eq!(table.suppressed(), 0);
    }

    #[test]
    fn a_clock_a_little_behind_still_counts() {
        let table = BruteForce::new(10);
        for at in [WINDOW, WINDOW - 1, WINDOW, 0, WINDOW, WINDOW, WINDOW, WINDOW, WINDOW, WINDOW] {
            assert_eq!(table.record(key(1), true, &config(None), MonoTime(at)).alert, None);
        }
        assert_eq!(table.record(key(1), true, &config(None), MonoTime(0)).alert, alert(11));
    }

    #[test]
    fn a_new_window_forgives_nothing_and_still_ends() {
        for window in [WINDOW / 10, WINDOW * 10] {
            let table = BruteForce::new(10);
            let late = 100 * WINDOW;
            for n in 0..10 {
                table.record(key(1), true, &config(None), MonoTime(late + n));
            }
            let reloaded = BruteForceConfig { window_ms: window, ..config(None) };
            let at = late + 10;
            assert_eq!(table.record(key(1), true, &reloaded, MonoTime(at)).alert, alert(11), "{window}");
            let later = at + 2 * window;
            (0..10).for_each(|n| assert_eq!(table.record(key(1), true, &reloaded, MonoTime(later + n)).alert, None));
        }
    }

    #[test]
    fn which_reasons_count() {
        for reason in Reason::ALL {
            assert!(!counts_as_guess(*reason) || counts_as_refusal(*reason), "{}", reason.name());
            assert!(!counts_as_refusal(*reason) || reason.class() == Class::Credential, "{}", reason.name());
        }
        for honest in [
            Reason::CredentialMissing,
            Reason::TokenExpired,
            Reason::TokenNotYetValid,
            Reason::TokenRevoked,
            Reason::TokenInactive,
            Reason::AudienceMismatch,
        ] {
            assert!(counts_as_refusal(honest) && !counts_as_guess(honest), "{}", honest.name());
        }
        for neither in [
            Reason::SourceUnavailable,
            Reason::OriginRefused,
            Reason::AddressConnections,
            Reason::Blocked,
            Reason::MessageRate,
            Reason::InsufficientScope,
        ] {
            assert!(!counts_as_refusal(neither) && !counts_as_guess(neither), "{}", neither.name());
        }
        let guesses: Vec<&str> =
            Reason::ALL.iter().filter(|one| counts_as_guess(**one)).map(|one| one.name()).collect();
        let expected = "credential_malformed token_too_large token_malformed token_header_malformed token_algorithm \
                        token_critical token_key_embedded token_key_id token_opaque key_unknown signature_invalid \
                        issuer_unknown session_unknown ticket_unknown";
        assert_eq!(guesses.join(" "), expected);
        assert_eq!(Reason::ALL.iter().filter(|one| counts_as_refusal(**one)).count(), 35);
    }

    proptest! {
        /// Never fewer than the true number within the window, never more than within a quarter longer.
        #[test]
        fn the_count_brackets_the_true_one(
            pauses in proptest::collection::vec(0u64..2_000, 1..120),
            window in 1u64..8_000,
        ) {
            let table = BruteForce::new(1);
            let config = BruteForceConfig { alert_above: u32::MAX, window_ms: window, block_above: Some(0), block_ms: 0 };
            let mut at = 0;
            let mut times = Vec::new();
            for pause in pauses {
                at += pause;
                times.push(at);
                let counted = table.record(key(1), true, &config, MonoTime(at)).block.unwrap().count as usize;
                let within = |ms: u64| times.iter().filter(|time| at - **time < ms).count();
                prop_assert!(counted >= within(window), "{} of {}", counted, within(window));
                prop_assert!(counted <= within(5 * window.div_ceil(4)), "{}", counted);
            }
        }
    }
}
