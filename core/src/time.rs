//! This file answers: what time is it, and who says so?
//!
//! The core reads no clock. Both times come in with every call, as plain integers, so that a test can
//! run a day in milliseconds and a stepped clock can be simulated.

/// Milliseconds since 1970-01-01T00:00:00Z, as the operating system believes them. May be stepped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(pub u64);

/// Milliseconds since an arbitrary origin. Never goes backwards within a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoTime(pub u64);

/// The time of one call, read once at the edge and handed down.
///
/// Wall time decides whether a token is valid; monotonic time decides budgets, idle and timers.
/// A stepped wall clock can neither refill a bucket nor keep a token alive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Wall time in milliseconds.
    pub wall: WallTime,
    /// Monotonic time in milliseconds.
    pub mono: MonoTime,
}

impl WallTime {
    /// The last instant a NumericDate may name: the end of the year 9999.
    pub const MAX: WallTime = WallTime(253_402_300_799_999);

    /// Makes a wall time from whole seconds.
    pub const fn from_secs(seconds: u64) -> WallTime {
        WallTime(seconds.saturating_mul(1000))
    }

    /// Whole seconds since 1970, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// This time moved later by `ms`, saturating.
    pub const fn plus(self, ms: u64) -> WallTime {
        WallTime(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; zero when `earlier` is later.
    pub const fn since(self, earlier: WallTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl MonoTime {
    /// A time that never comes.
    pub const NEVER: MonoTime = MonoTime(u64::MAX);

    /// This time moved later by `ms`, saturating.
    pub const fn plus(self, ms: u64) -> MonoTime {
        MonoTime(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this time; zero when `earlier` is later.
    pub const fn since(self, earlier: MonoTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Now {
    /// Makes a `Now` from two millisecond counts.
    pub const fn new(wall_ms: u64, mono_ms: u64) -> Now {
        Now { wall: WallTime(wall_ms), mono: MonoTime(mono_ms) }
    }
}
