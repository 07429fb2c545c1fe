//! This file answers: who asks the outside world the questions the engine cannot answer itself?
//!
//! A bounded queue and a few worker threads, started when the first question comes and never before: a
//! configuration that needs no network has no threads (RULES 42). What the workers ask is a [`Resolver`]'s business.
//!
//! The workers run with the signal mask of the thread whose call started them. Masking signals in a thread needs
//! unsafe code, which this crate forbids: a host that directs signals to one thread blocks them before its first call.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, select};
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

    /// Whether it answers questions of this kind; those it does not wait for [`Guard::lookups`](crate::Guard::lookups).
    /// Called on any thread, in calls of the engine: it must not block. Default: all.
    fn takes(&self, question: &Question) -> bool {
        let _ = question;
        true
    }
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
    /// Dropped to tell the workers to stop; none are started without it.
    stop: Mutex<Option<Sender<()>>>,
    stopped: Receiver<()>,
}

struct Shared {
    engine: Arc<Engine>,
    clock: Clock,
    resolver: Arc<dyn Resolver>,
    queue: Sender<Lookup>,
    waiting: Receiver<Lookup>,
    /// What the resolver does not take, for the host. The engine bounds how many are out.
    left: Mutex<VecDeque<Lookup>>,
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
            shared: Arc::new(Shared { engine, clock, resolver, queue, waiting, left: Mutex::default() }),
            workers: Mutex::new(Vec::new()),
            wanted: options.workers.clamp(1, 64),
            stop: Mutex::new(Some(stop)),
            stopped,
        }
    }

    /// Takes what the engine asks and queues it. Never blocks.
    pub(crate) fn feed(&self) {
        self.shared.feed(|| self.start());
    }

    /// Takes up to `max` questions that the resolver does not answer.
    pub(crate) fn take_left(&self, max: usize) -> Vec<Lookup> {
        let mut left = self.shared.left.lock();
        let now = self.shared.clock.fine().mono;
        left.retain(|lookup| lookup.deadline > now);
        let count = max.min(left.len());
        left.drain(..count).collect()
    }

    /// Stops and joins the workers, and starts none again: what waits, and what is asked from now on, is answered
    /// [`Answer::Unavailable`]. On a worker, only the others are joined.
    pub(crate) fn stop(&self) {
        drop(self.stop.lock().take());
        // Not under the lock: a worker that ends may feed, which locks.
        let workers = std::mem::take(&mut *self.workers.lock());
        let here = std::thread::current().id();
        for worker in workers {
            // A resolver that owned the last guard drops it on a worker, which cannot wait for itself.
            if worker.thread().id() != here {
                let _ = worker.join();
            }
        }
        while let Ok(lookup) = self.shared.waiting.try_recv() {
            self.shared.answer(&lookup, unavailable());
        }
    }

    /// Starts the workers unless they run. False when not one could be started.
    fn start(&self) -> bool {
        let mut workers = self.workers.lock();
        if self.stop.lock().is_none() {
            return false;
        }
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
            let (lookups, left) = lookups.into_iter().partition(|lookup| self.resolver.takes(&lookup.question));
            self.leave(left);
            let runs = !Vec::is_empty(&lookups) && start();
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

    fn leave(&self, lookups: Vec<Lookup>) {
        if !lookups.is_empty() {
            let mut left = self.left.lock();
            let now = self.clock.fine().mono;
            // Where no host takes them, those that are over must not pile up.
            left.retain(|lookup| lookup.deadline > now);
            left.extend(lookups);
        }
    }

    fn work(&self, stopped: &Receiver<()>) {
        loop {
            select! {
                recv(stopped) -> _ => return,
                recv(self.waiting) -> lookup => {
                    let Ok(lookup) = lookup else { return };
                    if stopped.try_recv() == Err(TryRecvError::Disconnected) {
                        self.answer(&lookup, unavailable());
                        return;
                    }
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
        self.stop();
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver({} workers)", self.workers.lock().len())
    }
}
