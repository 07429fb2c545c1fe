//! This file answers: is this process a child of the one that made the engine?
//!
//! A counter raised in every child, no look at the process id. The gate keeps a fork from happening inside a
//! reload, so that a child finds the configuration whole. A process copied around the C library (a bare clone) is
//! not noticed.

use std::cell::UnsafeCell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

static FORKS: AtomicU32 = AtomicU32::new(0);
static GATE: Gate = Gate(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
static REGISTERED: OnceLock<bool> = OnceLock::new();

/// How many forks lie between the first process and this one, once engines are made.
pub(crate) fn forks() -> u32 {
    FORKS.load(Ordering::Relaxed)
}

/// Has children counted from now on. False when that cannot be, for want of memory.
pub(crate) fn register() -> bool {
    // SAFETY: the three functions only use statics, and the library is never unmapped (`-z nodelete`).
    let register = || unsafe { libc::pthread_atfork(Some(before), Some(after_in_parent), Some(after_in_child)) };
    *REGISTERED.get_or_init(|| register() == 0)
}

/// Runs `change` while no fork can happen. Not to be nested.
pub(crate) fn unforked<T>(change: impl FnOnce() -> T) -> T {
    struct Open;
    impl Drop for Open {
        fn drop(&mut self) {
            GATE.open();
        }
    }
    GATE.shut();
    let _open = Open;
    change()
}

extern "C" fn before() {
    GATE.shut();
}

extern "C" fn after_in_parent() {
    GATE.open();
}

extern "C" fn after_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
    GATE.open();
}

/// A mutex of the C library: the thread that forks holds it and opens it on both sides, as POSIX has it.
struct Gate(UnsafeCell<libc::pthread_mutex_t>);

// SAFETY: a pthread mutex is made to be used by many threads.
unsafe impl Sync for Gate {}

impl Gate {
    fn shut(&self) {
        // SAFETY: initialised statically, never moved nor destroyed.
        unsafe { libc::pthread_mutex_lock(self.0.get()) };
    }

    fn open(&self) {
        // SAFETY: as above; only called by the thread that shut it, or by its copy in a child.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_opens_again_after_a_panic() {
        let result = std::panic::catch_unwind(|| unforked(|| panic!("as asked")));
        assert!(result.is_err());
        assert_eq!(unforked(|| 7), 7);
    }
}
