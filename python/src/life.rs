//! This file answers: which engine does this process use, and what becomes of a parent's engine after a fork?
//!
//! A child never touches its parent's tables: another thread may have held their locks when the process was
//! copied. Python tells us of the fork, the child's first call builds a fresh engine, and connections of the parent
//! are stale there (RULES 41). What was copied is forgotten, not dropped: dropping would wait for threads that do
//! not exist in the child.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pyo3::prelude::*;
use wsauth::config::Config;
use wsauth::token::Algorithm;
use wsauth::{Reason, Refusal};
use wsauth_runtime::{Clock, Guard, StartError};

/// Forks since the module was loaded, counted in the child.
static FORKS: AtomicU64 = AtomicU64::new(0);

/// Tells the module that this is a child process now. Called through `os.register_at_fork`.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// One engine in one process.
pub(crate) struct Life {
    /// `None` only while this is dropped.
    guard: Option<Guard>,
    forks: u64,
    /// Whether a signature with a public key may have to be verified.
    slow: AtomicBool,
}

impl Life {
    pub(crate) fn new(config: Config, clock: Clock) -> Result<Arc<Life>, StartError> {
        Guard::new(config, clock).map(Life::of)
    }

    /// The engine of this process with the configuration and clock of a stale one.
    ///
    /// The guard's lock on its configuration is only ever taken with the GIL held, so no fork finds it taken.
    pub(crate) fn fresh(&self) -> Result<Arc<Life>, StartError> {
        match &self.guard {
            Some(guard) => guard.fresh().map(Life::of),
            None => Err(StartError::Text),
        }
    }

    fn of(guard: Guard) -> Arc<Life> {
        let slow = AtomicBool::new(needs_public_keys(&guard.config()));
        Arc::new(Life { guard: Some(guard), forks: FORKS.load(Ordering::Relaxed), slow })
    }

    /// The engine.
    ///
    /// # Errors
    ///
    /// `MisuseHandle` in a child of the process that made it.
    pub(crate) fn guard(&self) -> Result<&Guard, Reason> {
        match &self.guard {
            Some(guard) if self.forks == FORKS.load(Ordering::Relaxed) => Ok(guard),
            _ => Err(Reason::MisuseHandle),
        }
    }

    /// Puts another configuration in force.
    pub(crate) fn reload(&self, config: Config) -> Result<Result<(), StartError>, Reason> {
        let slow = needs_public_keys(&config);
        let reloaded = self.decide(|guard| guard.reload(config))?;
        if reloaded.is_ok() {
            self.slow.store(slow, Ordering::Relaxed);
        }
        Ok(reloaded)
    }

    /// Runs a decision. A panic in it is a refusal, not an exception that no `except Exception` sees.
    pub(crate) fn decide<T>(&self, decide: impl FnOnce(&Guard) -> T) -> Result<T, Reason> {
        caught(self.guard()?, decide)
    }

    /// Runs a decision that may verify a signature. With a public key that takes 16 to 50 microseconds, worth letting
    /// other Python threads run; an HMAC takes half a microsecond, less than giving the GIL away and taking it back.
    pub(crate) fn verify<T: Send>(&self, py: Python<'_>, decide: impl FnOnce(&Guard) -> T + Send) -> Result<T, Reason> {
        let guard = self.guard()?;
        if self.slow.load(Ordering::Relaxed) { py.detach(|| caught(guard, decide)) } else { caught(guard, decide) }
    }

    /// The close code of a reason: the configured one, or the usual one in a child of the process.
    pub(crate) fn close_code(&self, reason: Reason) -> u16 {
        self.guard().map_or(reason.row().close, |guard| guard.close_code(reason))
    }

    /// The exception of a refusal.
    pub(crate) fn refused(&self, refusal: impl Into<Refusal>) -> PyErr {
        let refusal = refusal.into();
        crate::errors::refused(refusal, self.close_code(refusal.reason))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        if self.guard().is_err() {
            std::mem::forget(self.guard.take());
        }
    }
}

fn caught<T>(guard: &Guard, decide: impl FnOnce(&Guard) -> T) -> Result<T, Reason> {
    catch_unwind(AssertUnwindSafe(|| decide(guard))).map_err(|_| Reason::FaultPanic)
}

fn needs_public_keys(config: &Config) -> bool {
    let hmac = |name: &Algorithm| matches!(name, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512);
    config.issuers.iter().flat_map(|issuer| &issuer.algorithms).any(|name| !hmac(name))
}
