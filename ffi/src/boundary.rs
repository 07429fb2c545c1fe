//! This file answers: what happens between C and a decision?
//!
//! No unwinding leaves this crate: a panic becomes WSAUTH_FAULT_PANIC, which is a no like any other. The panic hook
//! is not touched and nothing is poisoned; what a call that panicked under a lock left half written is repaired by the
//! core's next call (RULES 43).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use wsauth::{Reason, Refusal};

use crate::result::{WSAUTH_FAULT_PANIC, WSAUTH_OK, wsauth_result};

/// Panics caught since the last audit line about them.
static CAUGHT: AtomicU64 = AtomicU64::new(0);

/// A no. It cannot be made of WSAUTH_OK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum No {
    /// Refused.
    Refused(Refusal),
    /// Handled: a number of class 10.
    Handled(u32),
}

impl From<Reason> for No {
    fn from(reason: Reason) -> No {
        No::Refused(reason.into())
    }
}

impl From<Refusal> for No {
    fn from(refusal: Refusal) -> No {
        No::Refused(refusal)
    }
}

impl No {
    fn number(self) -> wsauth_result {
        match self {
            No::Refused(refusal) => u32::from(refusal.reason.number()),
            No::Handled(number) => number,
        }
    }
}

/// Runs the body of a fallible export.
pub(crate) fn call(body: impl FnOnce() -> Result<(), No>) -> wsauth_result {
    match caught(body) {
        Some(Ok(())) => WSAUTH_OK,
        Some(Err(no)) => no.number(),
        None => WSAUTH_FAULT_PANIC,
    }
}

/// Runs the body of an export that decides nothing; `None` after a panic.
pub(crate) fn caught<T>(body: impl FnOnce() -> T) -> Option<T> {
    let run = || {
        #[cfg(feature = "test-panic")]
        crate::test_panic::panic_if_asked();
        body()
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(value) => Some(value),
        Err(payload) => {
            // Dropping what was thrown could throw again; what that throws is leaked.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(again);
            }
            CAUGHT.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

/// How many panics were caught since this was last asked.
pub(crate) fn take_caught() -> u64 {
    CAUGHT.swap(0, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::{WSAUTH_HANDLED_HOLD, WSAUTH_MISUSE_HANDLE};

    #[test]
    fn only_a_yes_is_zero() {
        assert_eq!(call(|| Ok(())), WSAUTH_OK);
        assert_eq!(call(|| Err(Reason::MisuseHandle.into())), WSAUTH_MISUSE_HANDLE);
        assert_eq!(call(|| Err(No::Handled(WSAUTH_HANDLED_HOLD))), WSAUTH_HANDLED_HOLD);
        assert_eq!(call(|| panic!("as asked")), WSAUTH_FAULT_PANIC);
        assert!(take_caught() > 0);
    }

    #[test]
    fn a_panic_that_panics_again_when_dropped_stays_inside() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("again");
            }
        }
        assert_eq!(call(|| std::panic::panic_any(Bomb)), WSAUTH_FAULT_PANIC);
    }
}
