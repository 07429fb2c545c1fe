//! This file answers: when is a refresh asked, until when may it come, and what is due first?

use crate::time::{MonoTime, Now, WallTime};

/// A new token must come within this long of being asked out of turn, in milliseconds (RULES 26, 30).
pub(crate) const REFRESH_WINDOW_MS: u64 = 300_000;

/// The refresh timetable of one grant, fixed when the grant is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timetable {
    /// When the client is asked for a new token.
    pub(crate) ask_at: MonoTime,
    /// Until when it may come.
    pub(crate) deadline: MonoTime,
    /// When the grant is over by the monotonic clock (RULES 2).
    pub(crate) expiry: MonoTime,
}

impl Timetable {
    /// Lays the times out for a grant that is over at `expiry` (RULES 26). `jitter` is any number; the same
    /// number gives the same times. Saturates: a token of ten years is as good as one of five seconds.
    pub(crate) fn plan(expiry: WallTime, lead_ms: u64, jitter: u64, now: Now) -> Timetable {
        let remaining = expiry.since(now.wall);
        let lead = lead_ms.min(remaining / 2);
        let early = jitter.checked_rem((lead / 10).saturating_add(1)).unwrap_or(0);
        let after = |ms: u64| now.mono.plus(ms);
        Timetable {
            ask_at: after(remaining.saturating_sub(lead).saturating_sub(early)),
            deadline: after(remaining.min(remaining.saturating_sub(lead).saturating_add(REFRESH_WINDOW_MS))),
            expiry: after(remaining),
        }
    }

    /// Asks at once, out of turn: because the key that vouched was removed (RULES 26, 30). A nearer deadline stays.
    pub(crate) fn ask_now(&mut self, now: Now) {
        self.ask_at = now.mono;
        self.deadline = self.deadline.min(now.mono.plus(REFRESH_WINDOW_MS));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{REFRESH_WINDOW_MS, Timetable};
    use crate::time::{MonoTime, Now, WallTime};

    const LEAD: u64 = 300_000;

    #[test]
    fn an_hour_is_asked_five_minutes_before_its_end() {
        let now = Now::new(1_000_000, 50);
        let table = Timetable::plan(WallTime(1_000_000 + 3_600_000), LEAD, 0, now);
        assert_eq!(table.ask_at, MonoTime(50 + 3_300_000));
        assert_eq!(table.deadline, table.expiry);
        assert_eq!(table.expiry, MonoTime(50 + 3_600_000));
    }

    #[test]
    fn five_seconds_are_asked_at_half_and_ten_years_in_time() {
        let now = Now::new(0, 0);
        assert_eq!(Timetable::plan(WallTime(5_000), LEAD, 0, now).ask_at, MonoTime(2_500));
        let ten_years = 10 * 365 * 86_400_000;
        assert_eq!(Timetable::plan(WallTime(ten_years), LEAD, 0, now).ask_at, MonoTime(ten_years - LEAD));
    }

    #[test]
    fn out_of_turn_the_window_is_five_minutes_and_never_past_the_end() {
        let mut table = Timetable::plan(WallTime(3_600_000), LEAD, 0, Now::new(0, 0));
        table.ask_now(Now::new(0, 1_000));
        assert_eq!(table.deadline, MonoTime(1_000 + REFRESH_WINDOW_MS));
        table.ask_now(Now::new(0, 200_000));
        assert_eq!(table.deadline, MonoTime(1_000 + REFRESH_WINDOW_MS), "asked again, no later");
        let mut table = Timetable::plan(WallTime(3_600_000), LEAD, 0, Now::new(0, 0));
        table.ask_now(Now::new(0, 3_500_000));
        assert_eq!(table.deadline, MonoTime(3_600_000));
    }

    proptest! {
        #[test]
        fn jitter_asks_at_most_a_tenth_of_the_lead_earlier(
            life in 0u64..400_000_000_000, jitter: u64, wall in 0u64..10_000_000_000_000, mono in 0u64..1_000_000_000,
        ) {
            let now = Now::new(wall, mono);
            let expiry = WallTime(wall + life);
            let plain = Timetable::plan(expiry, LEAD, 0, now);
            let early = Timetable::plan(expiry, LEAD, jitter, now);
            let lead = LEAD.min(life / 2);
            prop_assert!(early.ask_at <= plain.ask_at);
            prop_assert!(plain.ask_at.0 - early.ask_at.0 <= lead / 10);
            prop_assert!(early.ask_at >= now.mono && early.ask_at <= early.deadline && early.deadline <= early.expiry);
        }
    }
}
