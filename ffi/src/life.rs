//! This file answers: which engine does this process use, and what becomes of a parent's engine after a fork?
//!
//! A child never touches its parent's tables: another thread may have held their locks, or been in the middle of a
//! change, when the process was copied. The child's first call builds a fresh life; the copied one is forgotten, not
//! dropped, and connections of the parent are stale (RULES 41).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicPtr, Ordering};

use parking_lot::Mutex;
use wsauth::Reason;
use wsauth::config::{Config, ConfigProblem};
use wsauth::lookup::Lookup;
use wsauth::time::MonoTime;
use wsauth_runtime::{Clock, Guard, ManualClock, StartError, SystemSecrets};

use crate::boundary::No;
use crate::event::Outbox;
use crate::fork;

/// What `wsauth_engine` points to. Opaque in C.
#[allow(non_camel_case_types, reason = "named as in C")]
#[derive(Debug)]
pub struct wsauth_engine {
    /// The life of this process, or of an ancestor. Made with `Box::into_raw`; replaced only after a fork.
    life: AtomicPtr<Life>,
}

/// One engine in one process, and what waits to be fetched from it.
#[derive(Debug)]
pub(crate) struct Life {
    forks: u32,
    pub(crate) guard: Guard,
    pub(crate) clock: Option<ManualClock>,
    /// Where files named in the configuration are looked for; `None` is the current folder.
    folder: Option<PathBuf>,
    /// One per shard.
    pub(crate) outboxes: Box<[Mutex<Outbox>]>,
    /// Questions taken from the engine that did not fit the caller's buffer yet.
    pub(crate) lookups: Mutex<VecDeque<Lookup>>,
    /// Audit lines taken from the engine that did not fit the caller's buffer yet.
    pub(crate) audit: Mutex<VecDeque<String>>,
}

impl wsauth_engine {
    /// Makes an engine of TOML text.
    pub(crate) fn new(text: &str, clock: Option<ManualClock>) -> Result<wsauth_engine, StartError> {
        let source = clock.clone().map_or_else(Clock::system, Clock::manual);
        let guard = Guard::new(read(text, None)?, source)?;
        Ok(wsauth_engine::of(Life::of(guard, None, clock)))
    }

    /// Makes an engine of a TOML file.
    pub(crate) fn from_file(path: &Path) -> Result<wsauth_engine, StartError> {
        let guard = Guard::from_file(path)?;
        require_short_subprotocols(&guard.config())?;
        Ok(wsauth_engine::of(Life::of(guard, path.parent().map(Path::to_path_buf), None)))
    }

    fn of(life: Life) -> wsauth_engine {
        wsauth_engine { life: AtomicPtr::new(Box::into_raw(Box::new(life))) }
    }

    /// The life of this process; in a child, made by the first call.
    pub(crate) fn life(&self) -> Result<&Life, No> {
        let at = self.life.load(Ordering::Acquire);
        // SAFETY: made with `Box::into_raw`, and never freed before the engine is.
        let life = unsafe { &*at };
        if life.forks == fork::forks() { Ok(life) } else { self.reborn(at, life) }
    }

    #[cold]
    fn reborn(&self, at: *mut Life, old: &Life) -> Result<&Life, No> {
        let made = fork::unforked(|| old.fresh()).map_err(|_| Reason::FaultInternal)?;
        let made = Box::into_raw(Box::new(made));
        match self.life.compare_exchange(at, made, Ordering::AcqRel, Ordering::Acquire) {
            // SAFETY: made above, and not freed before the engine is. The old one is forgotten.
            Ok(_) => Ok(unsafe { &*made }),
            Err(others) => {
                // SAFETY: made above and shown to nobody: another thread was first.
                drop(unsafe { Box::from_raw(made) });
                // SAFETY: the other thread's, as above.
                Ok(unsafe { &*others })
            }
        }
    }

    /// Puts another configuration in force.
    pub(crate) fn reload(&self, text: &str) -> Result<Result<(), StartError>, No> {
        let life = self.life()?;
        Ok(read(text, life.folder.as_ref()).and_then(|config| fork::unforked(|| life.guard.reload(config))))
    }
}

impl Drop for wsauth_engine {
    fn drop(&mut self) {
        let at = *self.life.get_mut();
        // SAFETY: made with `Box::into_raw`; nobody else has the engine any more.
        let life = unsafe { &*at };
        // What was copied from a parent may be half changed: it is forgotten.
        if life.forks == fork::forks() {
            // SAFETY: as above, and `life` is not used again.
            drop(unsafe { Box::from_raw(at) });
        }
    }
}

impl Life {
    fn of(guard: Guard, folder: Option<PathBuf>, clock: Option<ManualClock>) -> Life {
        let shards = guard.config().connection.shards;
        Life {
            forks: fork::forks(),
            guard,
            clock,
            folder,
            outboxes: (0..shards).map(|_| Mutex::default()).collect(),
            lookups: Mutex::default(),
            audit: Mutex::default(),
        }
    }

    /// A shard's number, checked.
    pub(crate) fn require_shard(&self, shard: u32) -> Result<u8, No> {
        let known = usize::try_from(shard).is_ok_and(|shard| shard < self.outboxes.len());
        u8::try_from(shard).ok().filter(|_| known).ok_or(Reason::MisuseArgument.into())
    }

    /// Milliseconds until a deadline, as poll and epoll_wait take them.
    pub(crate) fn timeout(&self, deadline: Option<MonoTime>) -> i32 {
        deadline.map_or(-1, |deadline| i32::try_from(deadline.since(self.guard.now().mono)).unwrap_or(i32::MAX))
    }

    /// The same configuration in this process: new tables, seeds and descriptors. A manual clock stands where the
    /// parent's stood.
    fn fresh(&self) -> Result<Life, StartError> {
        let clock = self.clock.as_ref().map(|clock| {
            let now = clock.now();
            let fresh = ManualClock::new(now.wall.0);
            fresh.advance_ms(now.mono.since(fresh.now().mono));
            fresh.set_wall_ms(now.wall.0);
            fresh
        });
        let source = clock.clone().map_or_else(Clock::system, Clock::manual);
        Ok(Life::of(self.guard.fresh_with(source)?, self.folder.clone(), clock))
    }
}

/// Reads a configuration whose files stand in `folder`.
fn read(text: &str, folder: Option<&PathBuf>) -> Result<Config, StartError> {
    let secrets = folder.map_or_else(SystemSecrets::new, SystemSecrets::in_folder);
    let config = Config::from_toml(text, &secrets)?;
    require_short_subprotocols(&config)?;
    Ok(config)
}

/// `wsauth_handshake_result.subprotocol` has 256 bytes. Where none is configured the first offered is echoed, and
/// one that does not fit refuses the handshake.
fn require_short_subprotocols(config: &Config) -> Result<(), StartError> {
    if config.handshake.subprotocols.iter().any(|name| name.len() > 255) {
        return Err(StartError::Config(ConfigProblem {
            key: "handshake.subprotocols".to_owned(),
            line: None,
            what: "handshake.subprotocols: through C, a name has at most 255 bytes".to_owned(),
            nearest: None,
        }));
    }
    Ok(())
}
