//! This file answers: what if there is a bug? Only in builds for `tests/c/misuse.c`.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Makes the next call panic.
#[allow(unreachable_pub, reason = "reached from C")]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_test_panic_next() {
    ASKED.store(true, Ordering::Relaxed);
}

/// Makes the next call of this thread panic in the middle: with the first lock held that it takes.
#[allow(unreachable_pub, reason = "reached from C")]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_test_panic_under_lock() {
    wsauth::inject::panic_when_taken(Some(0));
}

pub(crate) fn panic_if_asked() {
    assert!(!ASKED.swap(false, Ordering::Relaxed), "as asked by the test");
}
