//! This file answers: how is a thread of ours started?
//!
//! Named, and with every signal blocked (RULES 42): a signal meant for the server is never delivered on a thread of
//! the library. A new thread inherits its maker's mask, so the mask is set for the moment of the start and put back.

use std::io;
use std::thread::{Builder, JoinHandle};

use nix::sys::signal::{SigSet, SigmaskHow};

/// Starts a thread.
///
/// # Errors
///
/// The machine is out of threads or memory.
pub(crate) fn start(name: impl Into<String>, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    struct Restore(SigSet);
    impl Drop for Restore {
        fn drop(&mut self) {
            // It fails only for an unknown `how`.
            let _ = self.0.thread_set_mask();
        }
    }
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).map_err(io::Error::from)?;
    let _restore = Restore(before);
    Builder::new().name(name.into()).spawn(run)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked() -> u64 {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }

    #[test]
    fn every_signal_is_blocked_there_and_none_more_here() {
        let before = blocked();
        let (tell, told) = std::sync::mpsc::channel();
        start("wsauth-test", move || tell.send(blocked()).unwrap()).unwrap().join().unwrap();
        // All but KILL and STOP, which nobody can block.
        let all = 0x7fff_ffff & !(1 << 8) & !(1 << 18);
        assert_eq!(told.recv().unwrap() & 0x7fff_ffff, all);
        assert_eq!(blocked(), before);
    }
}
