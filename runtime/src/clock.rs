//! This file answers: where does `Now` come from?
//!
//! The one place in the repository that reads a clock. The coarse reading costs about a fifth of the fine one
//! and lags by up to a tick, so it may decide only while every deadline compared is more than a second away
//! (RULES 3); [`Guard`](crate::Guard) chooses between the two.

use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rustix::time::{ClockId, Timespec, clock_gettime};
use wsauth::time::{MonoTime, Now, WallTime};

use crate::wake::Wake;

/// The source of time of one engine: the operating system, or a [`ManualClock`].
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Manual(ManualClock),
}

impl Clock {
    /// The operating system's clocks.
    pub fn system() -> Clock {
        Clock(Source::System)
    }

    /// A clock that only moves when told to. An engine made with it takes time from nowhere else.
    pub fn manual(clock: ManualClock) -> Clock {
        Clock(Source::Manual(clock))
    }

    /// Both times at full resolution. About 45 ns.
    pub fn fine(&self) -> Now {
        match &self.0 {
            Source::System => read(ClockId::Realtime, ClockId::Monotonic),
            Source::Manual(clock) => clock.now(),
        }
    }

    /// Both times as of the kernel's last tick: up to a few milliseconds early, never late. About 9 ns.
    pub fn coarse(&self) -> Now {
        match &self.0 {
            Source::System => read(ClockId::RealtimeCoarse, ClockId::MonotonicCoarse),
            Source::Manual(clock) => clock.now(),
        }
    }

    /// Whether time only moves by hand.
    pub fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }

    /// Tells `listener` whenever a manual clock moves, since deadlines may have come.
    pub(crate) fn tell_of_change<L: Listener + 'static>(&self, listener: &Arc<L>) {
        if let Source::Manual(clock) = &self.0 {
            let listener: Weak<L> = Arc::downgrade(listener);
            let mut state = clock.0.lock();
            state.listeners.retain(|listener| listener.strong_count() > 0);
            state.listeners.push(listener);
        }
    }
}

/// Whoever sleeps until a time that a manual clock may jump to.
pub(crate) trait Listener: Send + Sync {
    /// It may be later, or earlier, than it was.
    fn clock_moved(&self);
}

impl Listener for Wake {
    fn clock_moved(&self) {
        self.wake_all();
    }
}

/// The monotonic clock of the operating system, for what the network does; never manual.
pub(crate) fn network_time() -> MonoTime {
    MonoTime(millis(clock_gettime(ClockId::Monotonic)))
}

fn read(wall: ClockId, mono: ClockId) -> Now {
    Now::new(millis(clock_gettime(wall)), millis(clock_gettime(mono)))
}

fn millis(time: Timespec) -> u64 {
    // Times before 1970 read as 1970: every token is then not valid yet, which refuses.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let rest = u64::try_from(time.tv_nsec).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1000).saturating_add(rest)
}

/// A clock for tests: it moves only when told to, and clones move together.
///
/// # Examples
///
/// ```
/// use wsauth_runtime::{Clock, ManualClock};
///
/// let manual = ManualClock::new(1_700_000_000_000);
/// let clock = Clock::manual(manual.clone());
/// manual.advance_ms(60_000);
/// assert_eq!(clock.fine().wall.0, 1_700_000_060_000);
/// ```
#[derive(Clone)]
pub struct ManualClock(Arc<Mutex<State>>);

struct State {
    wall: WallTime,
    mono: MonoTime,
    listeners: Vec<Weak<dyn Listener>>,
}

impl ManualClock {
    /// A clock that stands at `wall_ms` milliseconds since 1970.
    pub fn new(wall_ms: u64) -> ManualClock {
        // The monotonic origin is arbitrary; not zero, so that "long ago" can be written.
        let mono = MonoTime(1_000_000_000);
        ManualClock(Arc::new(Mutex::new(State { wall: WallTime(wall_ms), mono, listeners: Vec::new() })))
    }

    /// Sets the wall clock, as an operator would; monotonic time stands still.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.change(|state| state.wall = WallTime(wall_ms));
    }

    /// Steps the wall clock forwards or backwards; monotonic time stands still.
    pub fn step_wall_ms(&self, by: i64) {
        self.change(|state| state.wall = WallTime(state.wall.0.saturating_add_signed(by)));
    }

    /// Lets time pass on both clocks.
    pub fn advance_ms(&self, ms: u64) {
        self.change(|state| {
            state.wall = state.wall.plus(ms);
            state.mono = state.mono.plus(ms);
        });
    }

    /// Both times.
    pub fn now(&self) -> Now {
        let state = self.0.lock();
        Now { wall: state.wall, mono: state.mono }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let listeners: Vec<Arc<dyn Listener>> = {
            let mut state = self.0.lock();
            change(&mut state);
            state.listeners.iter().filter_map(Weak::upgrade).collect()
        };
        listeners.iter().for_each(|listener| listener.clock_moved());
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let now = self.now();
        write!(f, "ManualClock(wall {} ms, mono {} ms)", now.wall.0, now.mono.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_is_never_ahead_of_the_fine_one() {
        let clock = Clock::system();
        for _ in 0..10_000 {
            let coarse = clock.coarse();
            let fine = clock.fine();
            assert!(coarse.mono <= fine.mono);
            assert!(coarse.wall.0 > 1_600_000_000_000);
        }
    }

    #[test]
    fn a_stepped_wall_clock_leaves_monotonic_time_alone() {
        let clock = ManualClock::new(5_000);
        let before = clock.now();
        clock.step_wall_ms(-9_000);
        assert_eq!(clock.now(), Now { wall: WallTime(0), mono: before.mono });
        clock.set_wall_ms(7_000);
        clock.clone().advance_ms(10);
        assert_eq!(clock.now(), Now { wall: WallTime(7_010), mono: before.mono.plus(10) });
    }

    #[test]
    fn moving_a_manual_clock_makes_descriptors_readable() {
        let clock = ManualClock::new(5_000);
        let wake = Arc::new(Wake::new(1));
        Clock::manual(clock.clone()).tell_of_change(&wake);
        wake.fd(0).unwrap();
        wake.clear(0);
        assert!(!wake.is_readable(0));
        clock.advance_ms(1);
        assert!(wake.is_readable(0));
    }
}
