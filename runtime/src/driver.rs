//! This file answers: who asks the outside world the questions the engine cannot answer itself?
//!
//! A bounded queue and a few worker threads, started when the first question comes and never before: a
//! configuration that needs no network has no threads (RULES 42). What the workers ask is a [`Resolver`]'s business.
//!
//! The workers run with the signal mask of the thread whose call started them. Masking signals in a thread needs
//! unsafe code, which this crate forbids: a host that directs signals to one thread blocks them before its first call.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use parking_lot::Mutex;
use wsauth::Engine;
use wsauth::lookup::{Answer, Lookup, Question};

use crate::clock::Clock;

/// Answers the engine's questions: over HTTPS, from Redis, from a host's own store.
///
/// `resolve` runs on a worker thread and may block, but must bound itself: the engine gives up on a question after
/// two seconds, and a worker that never comes back is lost to all others, and to the [`Guard`](crate::Guard) that
/// waits for it when dropped. A panic counts as [`Answer::Unavailable`].
pub trait Resolver: Send + Sync {
    /// Answers one question.
    fn resolve(&self, question: &Question) -> Answer;
}

/// Bounds of the driver.
#[derive(Clone, Copy, Debug)]
pub struct DriverOptions {
    /// Worker threads. Default 4.
    pub workers: usize,
    /// Questions waiting for a worker; one more is answered [`Answer::Unavailable`] at once. Default 256.
    pub queue: usize,
}

impl Default for DriverOptions {
    fn default() -> DriverOptions {
        DriverOptions { workers: 4, queue: 256 }
    }
}

/// The queue and the workers. Dropping it stops and joins them.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    wanted: usize,
    /// Dropped to tell the workers to stop.
    stop: Option<Sender<()>>,
    stopped: Receiver<()>,
}

struct Shared {
    engine: Arc<Engine>,
    clock: Clock,
    resolver: Arc<dyn Resolver>,
    queue: Sender<Lookup>,
    waiting: Receiver<Lookup>,
}

impl Driver {
    pub(crate) fn new(
        engine: Arc<Engine>,
        clock: Clock,
        resolver: Arc<dyn Resolver>,
        options: DriverOptions,
    ) -> Driver {
        let (queue, waiting) = bounded(options.queue.max(1));
        let (stop, stopped) = bounded(0);
        Driver {
            shared: Arc::new(Shared { engine, clock, resolver, queue, waiting }),
            workers: Mutex::new(Vec::new()),
            wanted: options.workers.clamp(1, 64),
            stop: Some(stop),
            stopped,
        }
    }

    /// Takes what the engine asks and queues it. Never blocks.
    pub(crate) fn feed(&self) {
        self.shared.feed(|| self.start());
    }

    /// Starts the workers unless they run. False when not one could be started.
    fn start(&self) -> bool {
        let mut workers = self.workers.lock();
        while workers.len() < self.wanted {
            let (shared, stopped) = (Arc::clone(&self.shared), self.stopped.clone());
            let name = format!("wsauth-lookup-{}", workers.len());
            match std::thread::Builder::new().name(name).spawn(move || shared.work(&stopped)) {
                Ok(worker) => workers.push(worker),
                // The machine is out of threads: go on with those there are.
                Err(_) => break,
            }
        }
        !workers.is_empty()
    }
}

impl Shared {
    fn feed(&self, start: impl Fn() -> bool) {
        loop {
            let lookups = self.engine.lookups(64, self.clock.fine());
            if lookups.is_empty() {
                return;
            }
            let runs = start();
            for lookup in lookups {
                if !runs {
                    self.answer(&lookup, unavailable());
                    continue;
                }
                match self.queue.try_send(lookup) {
                    Ok(()) => {}
                    Err(TrySendError::Full(lookup) | TrySendError::Disconnected(lookup)) => {
                        self.answer(&lookup, unavailable());
                    }
                }
            }
        }
    }

    fn work(&self, stopped: &Receiver<()>) {
        loop {
            select! {
                recv(stopped) -> _ => return,
                recv(self.waiting) -> lookup => {
                    let Ok(lookup) = lookup else { return };
                    if self.clock.fine().mono >= lookup.deadline {
                        // It waited too long for a worker; nobody waits for its answer.
                        continue;
                    }
                    let asked = catch_unwind(AssertUnwindSafe(|| self.resolver.resolve(&lookup.question)));
                    self.answer(&lookup, asked.unwrap_or_else(|_| unavailable()));
                    // An answer may raise the next question: a key set first, then a profile.
                    self.feed(|| true);
                }
            }
        }
    }

    fn answer(&self, lookup: &Lookup, answer: Answer) {
        // A late answer finds nobody waiting, which is all right.
        let _ = self.engine.answer(lookup.id, answer, self.clock.fine());
    }
}

const fn unavailable() -> Answer {
    Answer::Unavailable { retry_after_ms: None }
}

impl Drop for Driver {
    fn drop(&mut self) {
        drop(self.stop.take());
        let here = std::thread::current().id();
        for worker in self.workers.get_mut().drain(..) {
            // A resolver that owned the last guard drops it on a worker, which cannot wait for itself.
            if worker.thread().id() != here {
                let _ = worker.join();
            }
        }
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver({} workers)", self.workers.lock().len())
    }
}
