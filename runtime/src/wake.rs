//! This file answers: how does a thread or an event loop learn that a shard has something to do?
//!
//! One eventfd per shard, level-triggered: readable when events wait or when the next deadline moved earlier
//! (RULES 40). Made at first use, so a process that never asks for one has none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

/// The wake descriptors of one engine.
#[derive(Debug)]
pub struct Wake {
    shards: Box<[Shard]>,
    /// Set with every wake: the engine may have questions for the driver.
    lookups: AtomicBool,
}

#[derive(Debug, Default)]
struct Shard {
    fd: OnceLock<OwnedFd>,
    making: Mutex<()>,
    /// Whether the descriptor was written since it was last cleared; saves the system call.
    signalled: AtomicBool,
}

impl Wake {
    pub(crate) fn new(shards: usize) -> Wake {
        let shards = (0..shards).map(|_| Shard::default()).collect();
        Wake { shards, lookups: AtomicBool::new(false) }
    }

    /// The descriptor of one shard, for poll, epoll or an event loop. Only wait on it; never read, write or close it.
    ///
    /// It starts out readable: whatever happened before it was made is found by the first poll.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a shard that does not exist; else what the operating system said.
    pub fn fd(&self, shard: u8) -> io::Result<BorrowedFd<'_>> {
        let shard = self.shards.get(usize::from(shard)).ok_or(io::ErrorKind::InvalidInput)?;
        let _making = shard.making.lock();
        if let Some(fd) = shard.fd.get() {
            return Ok(fd.as_fd());
        }
        let fd = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(shard.fd.get_or_init(|| fd).as_fd())
    }

    /// Makes the descriptor of `shard` readable.
    pub fn wake(&self, shard: u8) {
        self.lookups.store(true, Ordering::Release);
        let Some(shard) = self.shards.get(usize::from(shard)) else { return };
        // INVARIANT: `signalled` is set only where the descriptor is readable or about to be made so.
        if !shard.signalled.swap(true, Ordering::AcqRel)
            && let Some(fd) = shard.fd.get()
        {
            // It can only fail when the counter is full, and then it is readable.
            let _ = rustix::io::write(fd, &1u64.to_ne_bytes());
        }
    }

    pub(crate) fn wake_all(&self) {
        for shard in 0..=u8::MAX {
            if usize::from(shard) < self.shards.len() {
                self.wake(shard);
            }
        }
    }

    /// Makes the descriptor unreadable. The caller must poll the shard afterwards, not before: what is
    /// signalled in between is found by that poll.
    pub fn clear(&self, shard: u8) {
        let Some(shard) = self.shards.get(usize::from(shard)) else { return };
        if let Some(fd) = shard.fd.get() {
            let mut count = [0; 8];
            let _ = rustix::io::read(fd, &mut count);
        }
        // After the read: a wake that still sees `true` queued its event before the poll that follows.
        shard.signalled.store(false, Ordering::Release);
    }

    /// Whether the engine may have questions since this was last asked.
    pub(crate) fn take_lookups(&self) -> bool {
        self.lookups.load(Ordering::Acquire) && self.lookups.swap(false, Ordering::AcqRel)
    }

    #[cfg(test)]
    pub(crate) fn is_readable(&self, shard: u8) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let fd = self.fd(shard).unwrap();
        let mut fds = [PollFd::new(&fd, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_is_readable_until_cleared() {
        let wake = Wake::new(2);
        assert!(wake.is_readable(0), "it starts readable");
        wake.clear(0);
        assert!(!wake.is_readable(0));
        wake.wake(0);
        wake.wake(0);
        assert!(wake.is_readable(0) && wake.is_readable(0));
        wake.clear(0);
        assert!(!wake.is_readable(0));
        wake.wake(0);
        assert!(wake.is_readable(0), "it can be signalled again");
    }

    #[test]
    fn a_wake_before_first_use_is_not_lost_and_shards_are_apart() {
        let wake = Wake::new(2);
        wake.wake(1);
        assert!(wake.is_readable(1));
        wake.clear(1);
        wake.clear(0);
        wake.fd(0).unwrap();
        wake.clear(0);
        wake.wake(1);
        assert!(wake.is_readable(1) && !wake.is_readable(0));
        assert_eq!(wake.fd(2).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        wake.wake(2);
        wake.clear(2);
    }

    #[test]
    fn no_signal_is_lost_between_threads() {
        let wake = Wake::new(1);
        let queued = std::sync::atomic::AtomicU32::new(0);
        let taken = std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..5_000 {
                    queued.fetch_add(1, Ordering::SeqCst);
                    wake.wake(0);
                }
            });
            let mut taken = 0;
            while taken < 5_000 {
                let fd = wake.fd(0).unwrap();
                let mut fds = [rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN)];
                let limit = rustix::event::Timespec { tv_sec: 20, tv_nsec: 0 };
                assert_eq!(rustix::event::poll(&mut fds, Some(&limit)), Ok(1), "stuck at {taken}");
                wake.clear(0);
                taken += queued.swap(0, Ordering::SeqCst);
            }
            taken
        });
        assert_eq!(taken, 5_000);
    }
}
