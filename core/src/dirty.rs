//! This file answers: did a thread die while it held a lock, and may have left something half written?
//!
//! parking_lot does not poison. So a guard that is dropped while its thread unwinds marks its lock dirty, and the next
//! call of the engine repairs what the lock guards before it decides anything (RULES 43, `flow/fault.rs`). A guard
//! that was taken by a thread that was unwinding already, as in a destructor, is not what broke, and marks nothing.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks that were left dirty so far in this process. One count for all engines keeps every lock a flag and not a
/// pointer; an engine that has none of them looks once and finds nothing.
static MARKS: AtomicU64 = AtomicU64::new(0);

/// Tells every engine to look. Said before the lock is let go.
pub(crate) fn mark() {
    MARKS.fetch_add(1, Ordering::SeqCst);
}

/// Whether a thread was sound when it began something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sound(bool);

impl Sound {
    /// Asked when a guard is made.
    pub(crate) fn now() -> Sound {
        Sound(!std::thread::panicking())
    }

    /// Asked when it is dropped: the thread has panicked in between.
    pub(crate) fn is_lost(self) -> bool {
        self.0 && std::thread::panicking()
    }
}

/// Which marks an engine has dealt with.
#[derive(Debug)]
pub(crate) struct Repairs {
    done: AtomicU64,
    one: Mutex<()>,
}

impl Repairs {
    pub(crate) fn new() -> Repairs {
        Repairs { done: AtomicU64::new(MARKS.load(Ordering::SeqCst)), one: Mutex::new(()) }
    }

    /// Whether a lock was left dirty since the last repair. Two loads of words that hardly ever change.
    pub(crate) fn is_due(&self) -> bool {
        MARKS.load(Ordering::SeqCst) != self.done.load(Ordering::SeqCst)
    }

    /// Runs `repair` if it is due; who comes meanwhile waits for its end. The caller holds no other lock. A repair
    /// that panics is not done: the next call tries again, and nothing is decided until one succeeds.
    pub(crate) fn run(&self, repair: impl FnOnce()) {
        let _alone = self.one.lock();
        // What is marked from here on is for the next run.
        let marks = MARKS.load(Ordering::SeqCst);
        if marks != self.done.load(Ordering::SeqCst) {
            repair();
            self.done.store(marks, Ordering::SeqCst);
        }
    }
}

/// A mutex that knows whether it was left dirty.
#[derive(Debug, Default)]
pub(crate) struct Lock<T> {
    dirty: AtomicBool,
    inner: Mutex<T>,
}

/// What a [`Lock`] guards, while it is held.
#[derive(Debug)]
pub(crate) struct Locked<'a, T> {
    mark: Mark<'a>,
    inner: MutexGuard<'a, T>,
}

/// The same with readers, who write nothing and leave nothing dirty.
#[derive(Debug, Default)]
pub(crate) struct SharedLock<T> {
    dirty: AtomicBool,
    inner: RwLock<T>,
}

/// What a [`SharedLock`] guards, while it is held for writing.
#[derive(Debug)]
pub(crate) struct Written<'a, T> {
    mark: Mark<'a>,
    inner: RwLockWriteGuard<'a, T>,
}

/// Stands first in a guard, so that the flag is up before the lock is let go.
#[derive(Debug)]
struct Mark<'a> {
    dirty: &'a AtomicBool,
    sound: Sound,
}

impl Drop for Mark<'_> {
    fn drop(&mut self) {
        if self.sound.is_lost() {
            self.set();
        }
        #[cfg(any(test, feature = "test-panic"))]
        inject::let_go(|| self.set());
    }
}

impl<'a> Mark<'a> {
    fn new(dirty: &'a AtomicBool) -> Mark<'a> {
        Mark { dirty, sound: Sound::now() }
    }

    fn set(&self) {
        self.dirty.store(true, Ordering::SeqCst);
        mark();
    }
}

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Lock<T> {
        Lock { dirty: AtomicBool::new(false), inner: Mutex::new(value) }
    }

    pub(crate) fn lock(&self) -> Locked<'_, T> {
        let inner = self.inner.lock();
        let locked = Locked { mark: Mark::new(&self.dirty), inner };
        #[cfg(any(test, feature = "test-panic"))]
        inject::taken();
        locked
    }

    /// The same where nobody holds it.
    pub(crate) fn try_lock(&self) -> Option<Locked<'_, T>> {
        let inner = self.inner.try_lock()?;
        let locked = Locked { mark: Mark::new(&self.dirty), inner };
        #[cfg(any(test, feature = "test-panic"))]
        inject::taken();
        Some(locked)
    }

    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::SeqCst)
    }

    /// Runs `rebuild` on what was left dirty and calls it sound again. False, and nothing done, where it is.
    pub(crate) fn repair(&self, rebuild: impl FnOnce(&mut T)) -> bool {
        self.is_dirty() && {
            self.lock().repair(rebuild);
            true
        }
    }
}

#[cfg(test)]
impl<T> Lock<T> {
    /// Panics with the lock held, after `write`.
    pub(crate) fn spoil(&self, write: impl FnOnce(&mut T)) {
        spoil(self.lock(), write);
    }
}

#[cfg(test)]
impl<T> SharedLock<T> {
    /// See [`Lock::spoil`].
    pub(crate) fn spoil(&self, write: impl FnOnce(&mut T)) {
        spoil(self.write(), write);
    }
}

#[cfg(test)]
fn spoil<G: DerefMut>(guard: G, write: impl FnOnce(&mut G::Target)) {
    let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let mut guard = guard;
        write(&mut guard);
        panic!("as asked by the test");
    }));
    assert!(died.is_err());
}

impl<T> Locked<'_, T> {
    /// The same, with the lock held. A `rebuild` that panics leaves it dirty.
    pub(crate) fn repair(&mut self, rebuild: impl FnOnce(&mut T)) {
        rebuild(&mut self.inner);
        self.mark.dirty.store(false, Ordering::SeqCst);
    }
}

impl<T> SharedLock<T> {
    pub(crate) fn new(value: T) -> SharedLock<T> {
        SharedLock { dirty: AtomicBool::new(false), inner: RwLock::new(value) }
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
        self.inner.read()
    }

    pub(crate) fn write(&self) -> Written<'_, T> {
        let inner = self.inner.write();
        let written = Written { mark: Mark::new(&self.dirty), inner };
        #[cfg(any(test, feature = "test-panic"))]
        inject::taken();
        written
    }

    /// See [`Lock::repair`].
    pub(crate) fn repair(&self, rebuild: impl FnOnce(&mut T)) -> bool {
        self.dirty.load(Ordering::SeqCst) && {
            let mut written = self.write();
            rebuild(&mut written.inner);
            written.mark.dirty.store(false, Ordering::SeqCst);
            true
        }
    }
}

impl<T> Deref for Locked<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Locked<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

impl<T> Deref for Written<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

impl<T> DerefMut for Written<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// Panics on demand, in the calling thread. Only in tests and builds for them.
#[cfg(any(test, feature = "test-panic"))]
#[doc(hidden)]
pub mod inject {
    use std::cell::Cell;

    thread_local! {
        static TAKEN: Cell<Option<u32>> = const { Cell::new(None) };
        static LET_GO: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// The lock that this thread takes after `skipped` others makes it panic while it holds it; `None`: none does.
    pub fn panic_when_taken(skipped: Option<u32>) {
        TAKEN.set(skipped);
    }

    /// The same, at the moment when it lets go of the lock, with everything written.
    pub fn panic_when_let_go(skipped: Option<u32>) {
        LET_GO.set(skipped);
    }

    pub(crate) fn taken() {
        assert!(!is_up(&TAKEN), "as asked by the test");
    }

    pub(crate) fn let_go(mark: impl FnOnce()) {
        let up = is_up(&LET_GO);
        if up {
            mark();
        }
        assert!(!up, "as asked by the test");
    }

    /// Counts down; a thread that is unwinding is left alone.
    fn is_up(count: &'static std::thread::LocalKey<Cell<Option<u32>>>) -> bool {
        let left = if std::thread::panicking() { None } else { count.get() };
        if let Some(left) = left {
            count.set(left.checked_sub(1));
        }
        left == Some(0)
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_lock_whose_holder_panics_is_dirty_until_repaired() {
        let (lock, shared) = (Lock::new(1), SharedLock::new(1));
        let repairs = Repairs::new();
        *lock.lock() += 1;
        *shared.write() += 1;
        assert!(!lock.repair(|_| panic!("not dirty")) && !shared.repair(|_| panic!("not dirty")));
        let lost = catch_unwind(AssertUnwindSafe(|| {
            *shared.write() += 1;
            let (_held, _written) = (lock.lock(), shared.write());
            panic!("as asked");
        }));
        assert!(lost.is_err() && lock.is_dirty() && repairs.is_due());
        assert_eq!(*lock.lock(), 2, "nothing hangs");
        assert!(catch_unwind(AssertUnwindSafe(|| lock.repair(|_| panic!("as asked")))).is_err());
        assert!(lock.repair(|value| *value = 7) && shared.repair(|value| *value = 7));
        assert!(!lock.is_dirty() && !shared.repair(|_| panic!("repaired already")));
        assert_eq!((*lock.lock(), *shared.read()), (7, 7));
        let ran = AtomicBool::new(false);
        assert!(catch_unwind(AssertUnwindSafe(|| repairs.run(|| panic!("as asked")))).is_err());
        repairs.run(|| ran.store(true, Ordering::SeqCst));
        assert!(ran.into_inner(), "a repair that panicked is done again");
    }

    #[test]
    fn a_reader_and_a_destructor_that_runs_while_unwinding_leave_nothing_dirty() {
        struct Unlock<'a>(&'a Lock<u32>);
        impl Drop for Unlock<'_> {
            fn drop(&mut self) {
                *self.0.lock() += 1;
            }
        }
        let (lock, shared) = (Lock::new(1), SharedLock::new(1));
        let lost = catch_unwind(AssertUnwindSafe(|| {
            let _unlock = Unlock(&lock);
            let _read = shared.read();
            panic!("as asked");
        }));
        assert!(lost.is_err());
        assert_eq!(*lock.lock(), 2);
        assert!(!lock.is_dirty() && !shared.repair(|_| panic!("not dirty")));
    }
}
