//! This file answers: how often was this connection refused for this reason, without an event for each?

use crate::decision::Reason;
use crate::time::MonoTime;

/// One event per reason and second.
const EVERY_MS: u64 = 1_000;

/// The refusals of one connection that no event has told yet (RULES 35). At most one small entry per reason.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    reason: Reason,
    untold: u64,
    told_at: MonoTime,
}

impl Refusals {
    /// Counts one refusal. Returns the count to be audited now: the first refusal at once, then at most once a
    /// second all that came since.
    #[must_use]
    pub(crate) fn note(&mut self, reason: Reason, now: MonoTime) -> Option<u64> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.reason == reason) else {
            self.entries.push(Entry { reason, untold: 0, told_at: now });
            return Some(1);
        };
        entry.untold = entry.untold.saturating_add(1);
        if now.since(entry.told_at) < EVERY_MS {
            return None;
        }
        entry.told_at = now;
        Some(std::mem::take(&mut entry.untold))
    }

    /// Takes what is untold, whenever its turn: for the end of the connection.
    #[must_use]
    pub(crate) fn take_untold(&mut self) -> Vec<(Reason, u64)> {
        let taken = std::mem::take(&mut self.entries).into_iter().filter(|entry| entry.untold > 0);
        taken.map(|entry| (entry.reason, entry.untold)).collect()
    }

    /// When the first of them has waited its second; `NEVER` when nothing is untold.
    pub(crate) fn due_at(&self) -> MonoTime {
        let untold = self.entries.iter().filter(|entry| entry.untold > 0);
        untold.map(|entry| entry.told_at.plus(EVERY_MS)).min().unwrap_or(MonoTime::NEVER)
    }

    /// Takes what is untold and has waited its second: for a timer that comes by.
    #[must_use]
    pub(crate) fn take_due(&mut self, now: MonoTime) -> Vec<(Reason, u64)> {
        let due = self.entries.iter_mut().filter(|entry| entry.untold > 0 && now.since(entry.told_at) >= EVERY_MS);
        due.map(|entry| {
            entry.told_at = now;
            (entry.reason, std::mem::take(&mut entry.untold))
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Refusals;
    use crate::decision::Reason;
    use crate::time::MonoTime;

    #[test]
    fn the_first_at_once_then_once_a_second_with_the_count() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.note(Reason::MessageRate, MonoTime(5)), Some(1));
        for at in 6..1_005 {
            assert_eq!(refusals.note(Reason::MessageRate, MonoTime(at)), None);
        }
        assert_eq!(refusals.note(Reason::PermissionMissing, MonoTime(500)), Some(1), "each reason for itself");
        assert_eq!(refusals.note(Reason::MessageRate, MonoTime(1_005)), Some(1_000));
        assert_eq!(refusals.note(Reason::MessageRate, MonoTime(1_006)), None);
        assert_eq!(refusals.take_untold(), [(Reason::MessageRate, 1)]);
        assert_eq!(refusals.take_untold(), []);
    }

    #[test]
    fn a_timer_takes_what_has_waited() {
        let mut refusals = Refusals::default();
        let _ = refusals.note(Reason::MessageRate, MonoTime(0));
        let _ = refusals.note(Reason::MessageRate, MonoTime(10));
        assert_eq!(refusals.due_at(), MonoTime(1_000));
        assert_eq!(refusals.take_due(MonoTime(999)), []);
        assert_eq!(refusals.take_due(MonoTime(1_000)), [(Reason::MessageRate, 1)]);
        assert_eq!(refusals.take_due(MonoTime(9_000)), []);
        assert_eq!(refusals.due_at(), MonoTime::NEVER);
    }

    proptest! {
        #[test]
        fn every_refusal_is_told_exactly_once(steps in proptest::collection::vec((0u64..400, 0usize..5), 0..200)) {
            let mut refusals = Refusals::default();
            let mut at = 0;
            let (mut told, mut events) = (0, 0u64);
            for (pause, which) in &steps {
                at += pause;
                if let Some(count) = refusals.note(Reason::ALL[*which], MonoTime(at)) {
                    told += count;
                    events += 1;
                }
            }
            prop_assert!(events <= 5 * (at / 1_000 + 1));
            told += refusals.take_untold().iter().map(|(_, count)| count).sum::<u64>();
            prop_assert_eq!(told, steps.len() as u64);
        }
    }
}
