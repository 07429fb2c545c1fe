//! This file answers: who asks the outside world the questions the engine cannot answer itself?
//!
//! A bounded queue and a few worker threads, started when the first question comes and never before: a
//! configuration that needs no network has no threads (RULES 42). Questions with a url are asked over HTTP by the
//! guard itself, unless the configuration leaves them to the host; the others by the host's [`Resolver`], if it gave
//! one.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded, select};
use parking_lot::{Mutex, RwLock};
use wsauth::Engine;
use wsauth::config::LookupsConfig;
use wsauth::lookup::{Answer, Answerer, Lookup, Question};
use wsauth::time::MonoTime;

use crate::backends::HttpResolver;
use crate::clock::{Clock, Listener};
use crate::threads;

/// Most questions taken from the engine at once.
const BATCH: usize = 64;
/// Longest sleep of an idle worker: a lost wake-up would cost this much, no more.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// Shortest sleep: a fetch that is due and cannot be asked must not keep a worker spinning.
const MIN_SLEEP: Duration = Duration::from_millis(50);

/// Answers the engine's questions from a host's own store.
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

/// When the engine next wants to fetch something by itself.
pub(crate) type Timer = Box<dyn Fn(&Engine) -> Option<MonoTime> + Send + Sync>;

/// The queue and the workers. Dropping it stops and joins them.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    workers: Mutex<Vec<JoinHandle<()>>>,
    wanted: usize,
    /// Dropped to tell the workers to stop.
    stop: Mutex<Option<Sender<()>>>,
}

struct Shared {
    engine: Arc<Engine>,
    clock: Clock,
    timer: Timer,
    /// `None`: the host answers everything.
    http: RwLock<Option<Arc<HttpResolver>>>,
    /// Those of configurations before, while a question of theirs is under way.
    retired: Mutex<Vec<Weak<HttpResolver>>>,
    host: OnceLock<Arc<dyn Resolver>>,
    queue: Sender<Lookup>,
    waiting: Receiver<Lookup>,
    /// What nobody here answers, for the host. The engine bounds how many are out.
    left: Mutex<VecDeque<Lookup>>,
    /// A manual clock moved.
    moved: (Sender<()>, Receiver<()>),
    stopped: Receiver<()>,
}

impl Driver {
    /// Starts nothing.
    pub(crate) fn new(
        engine: Arc<Engine>,
        clock: Clock,
        http: Option<HttpResolver>,
        timer: Timer,
        bounds: &LookupsConfig,
    ) -> Driver {
        let (queue, waiting) = bounded(bounds.queue.max(1));
        let (stop, stopped) = bounded(0);
        let shared = Arc::new(Shared {
            engine,
            clock,
            timer,
            http: RwLock::new(http.map(Arc::new)),
            retired: Mutex::default(),
            host: OnceLock::new(),
            queue,
            waiting,
            left: Mutex::default(),
            moved: bounded(1),
            stopped,
        });
        shared.clock.tell_of_change(&shared);
        Driver { shared, workers: Mutex::default(), wanted: bounds.workers.clamp(1, 64), stop: Mutex::new(Some(stop)) }
    }

    /// Lets `resolver` answer what is not asked over HTTP here. False when there was one before, which stays.
    pub(crate) fn answer_with(&self, resolver: Arc<dyn Resolver>) -> bool {
        let fresh = self.shared.host.set(resolver).is_ok();
        self.feed();
        fresh
    }

    /// Asks over HTTP as another configuration says. What is under way goes on as it began.
    pub(crate) fn replace_http(&self, http: Option<HttpResolver>) {
        let before = std::mem::replace(&mut *self.shared.http.write(), http.map(Arc::new));
        let mut retired = self.shared.retired.lock();
        retired.retain(|old| old.strong_count() > 0);
        retired.extend(before.as_ref().map(Arc::downgrade));
    }

    /// What asks questions with a url here; `None` where the host does.
    pub(crate) fn http(&self) -> Option<Arc<HttpResolver>> {
        self.shared.http.read().clone()
    }

    /// Takes up to `max` questions that the host's resolver does not answer; `None` where it has none.
    pub(crate) fn take_left(&self, max: usize) -> Option<Vec<Lookup>> {
        self.shared.host.get()?;
        self.feed();
        let mut left = self.shared.left.lock();
        let now = self.shared.clock.fine().mono;
        left.retain(|lookup| lookup.deadline > now);
        let count = max.min(left.len());
        Some(left.drain(..count).collect())
    }

    /// Takes what the engine asks and queues it. Never blocks on the network.
    pub(crate) fn feed(&self) {
        self.shared.feed(|| self.start());
    }

    /// Starts the workers unless they run. False when not one could be started.
    fn start(&self) -> bool {
        let mut workers = self.workers.lock();
        if self.stop.lock().is_none() {
            return false;
        }
        while workers.len() < self.wanted {
            let shared = Arc::clone(&self.shared);
            match threads::start(format!("wsauth-lookup-{}", workers.len()), move || shared.work()) {
                Ok(worker) => workers.push(worker),
                // The machine is out of threads: go on with those there are.
                Err(_) => break,
            }
        }
        !workers.is_empty()
    }

    /// Ends the workers: what they do over HTTP at once, a host's resolver when it returns. What waits, and what is asked
    /// from now on, is answered [`Answer::Unavailable`]. May be called often.
    pub(crate) fn stop(&self) {
        drop(self.stop.lock().take());
        let current = self.shared.http.read().clone();
        let retired: Vec<_> = self.shared.retired.lock().iter().filter_map(Weak::upgrade).collect();
        current.iter().chain(&retired).for_each(|http| http.shut_down());
        let here = std::thread::current().id();
        let workers = std::mem::take(&mut *self.workers.lock());
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
}

impl Shared {
    /// Whose questions are taken. `None`: nobody's.
    fn answerer(&self) -> Option<Answerer> {
        let http = self.http.read().as_ref().map(|http| !http.is_empty());
        match (http, self.host.get().is_some()) {
            (Some(_) | None, true) => Some(Answerer::Anyone),
            (Some(true), false) => Some(Answerer::Http),
            (Some(false) | None, false) => None,
        }
    }

    fn feed(&self, start: impl Fn() -> bool) {
        let Some(who) = self.answerer() else { return };
        loop {
            let lookups = self.engine.lookups_for(who, BATCH, self.clock.fine());
            if lookups.is_empty() {
                return;
            }
            let (lookups, left): (Vec<_>, _) = lookups.into_iter().partition(|lookup| self.is_ours(&lookup.question));
            self.leave(left);
            let runs = !lookups.is_empty() && start();
            for lookup in lookups {
                if !runs {
                    self.answer(&lookup, unavailable());
                    continue;
                }
                match self.queue.try_send(lookup) {
                    Ok(()) => {}
                    Err(TrySendError::Full(lookup) | TrySendError::Disconnected(lookup)) => {
                        self.answer(&lookup, Answer::NotAsked);
                    }
                }
            }
        }
    }

    /// Whether it is asked over HTTP here, or of the host's resolver.
    fn is_ours(&self, question: &Question) -> bool {
        let by_http = question.url().is_some() && self.http.read().is_some();
        by_http || self.host.get().is_some_and(|host| host.takes(question))
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

    fn work(&self) {
        loop {
            select! {
                recv(self.stopped) -> _ => return,
                recv(self.waiting) -> lookup => {
                    let Ok(lookup) = lookup else { return };
                    self.ask(&lookup);
                }
                recv(self.moved.1) -> _ => {}
                default(self.sleep()) => {}
            }
            if self.is_stopped() {
                return;
            }
            // An answer may raise the next question: a key set first, then a profile. And time passes: the engine
            // says itself what is due.
            self.feed(|| true);
        }
    }

    /// How long an idle worker may sleep.
    fn sleep(&self) -> Duration {
        match (self.timer)(&self.engine) {
            // A manual clock says itself when it moves, and its times mean nothing to the kernel.
            Some(due) if !self.clock.is_manual() => {
                Duration::from_millis(due.since(self.clock.fine().mono)).clamp(MIN_SLEEP, MAX_SLEEP)
            }
            _ => MAX_SLEEP,
        }
    }

    fn ask(&self, lookup: &Lookup) {
        let now = self.clock.fine();
        let left = lookup.deadline.since(now.mono);
        if left == 0 {
            // It waited too long for a worker; nobody waits for its answer.
            return;
        }
        if self.is_stopped() {
            self.answer(lookup, unavailable());
            return;
        }
        // Held no longer than for this question, so that a configuration before ends with its last one.
        let http = self.http.read().clone().filter(|_| lookup.question.url().is_some());
        let asked = catch_unwind(AssertUnwindSafe(|| match (http, self.host.get()) {
            (Some(http), _) => {
                let answer = http.fetch(&lookup.question, left, now.wall);
                // What was cut off by the end of the workers is no answer of the source's.
                if self.is_stopped() { unavailable() } else { answer }
            }
            (None, Some(host)) => host.resolve(&lookup.question),
            (None, None) => unavailable(),
        }));
        self.answer(lookup, asked.unwrap_or_else(|_| unavailable()));
    }

    fn answer(&self, lookup: &Lookup, answer: Answer) {
        // A late answer finds nobody waiting, which is all right.
        let _ = self.engine.answer(lookup.id, answer, self.clock.fine());
    }

    fn is_stopped(&self) -> bool {
        self.stopped.try_recv() == Err(TryRecvError::Disconnected)
    }
}

impl Listener for Shared {
    fn clock_moved(&self) {
        // Full: one was told already, and looks at the clock after that.
        let _ = self.moved.0.try_send(());
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use wsauth::config::Config;
    use wsauth::request::{Header, Peer, Upgrade};
    use wsauth::secret::EngineSeed;

    use super::*;
    use crate::clock::ManualClock;
    use crate::secrets::SystemSecrets;

    struct Counting(AtomicUsize);

    impl Resolver for Counting {
        fn resolve(&self, _: &Question) -> Answer {
            self.0.fetch_add(1, Ordering::SeqCst);
            Answer::Inactive
        }
    }

    fn engine() -> Arc<Engine> {
        let text = r#"
            [[issuer]]
            issuer = "https://id.example.com"
            audience = ["a"]
            opaque = true

            [handshake]
            origins = ["https://app.example.com"]
            credentials = ["authorization"]
            require_origin = false
            trusted_proxies = []
        "#;
        let config = Config::from_toml(text, &SystemSecrets::new()).unwrap();
        Arc::new(Engine::new(config, &EngineSeed::new([1; 32]), Box::new(|_| {})).unwrap())
    }

    /// Has the engine ask something, without telling the driver.
    fn raise(engine: &Engine, clock: &Clock, n: usize) {
        let bearer = format!("Bearer opaque-{n}-0123456789");
        let headers = [
            Header { name: b"Host", value: b"live.example.com" },
            Header { name: b"Upgrade", value: b"websocket" },
            Header { name: b"Connection", value: b"Upgrade" },
            Header { name: b"Sec-WebSocket-Version", value: b"13" },
            Header { name: b"Sec-WebSocket-Key", value: b"dGhlIHNhbXBsZSBub25jZQ==" },
            Header { name: b"Authorization", value: bearer.as_bytes() },
        ];
        let request =
            Upgrade { method: b"GET", target: b"/", headers: &headers, peer: Peer::Ip([127, 0, 0, 1].into()) };
        assert!(engine.handshake(0, &request, clock.fine()).is_ok());
    }

    fn until(what: &str, is_true: impl Fn() -> bool) {
        for _ in 0..4_000 {
            if is_true() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("never: {what}");
    }

    #[test]
    fn an_idle_worker_wakes_for_what_the_engine_wants_to_fetch() {
        let (engine, clock) = (engine(), Clock::system());
        let due = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&due);
        // Due in 100 ms from the first time it is asked for.
        let timer: Timer = Box::new(move |_| {
            let at = Clock::system().fine().mono.0 + 100;
            let _ = shown.compare_exchange(0, at, Ordering::SeqCst, Ordering::SeqCst);
            Some(MonoTime(shown.load(Ordering::SeqCst)))
        });
        let driver = Driver::new(Arc::clone(&engine), clock.clone(), None, timer, &LookupsConfig::default());
        let host = Arc::new(Counting(AtomicUsize::new(0)));
        raise(&engine, &clock, 0);
        assert!(driver.answer_with(Arc::clone(&host) as Arc<dyn Resolver>));
        until("the first question is answered", || host.0.load(Ordering::SeqCst) == 1);
        raise(&engine, &clock, 1);
        until("the second as well, though nobody fed it", || host.0.load(Ordering::SeqCst) == 2);
    }

    #[test]
    fn a_manual_clock_wakes_the_workers_when_it_moves_and_only_then() {
        let (engine, manual) = (engine(), ManualClock::new(1_700_000_000_000));
        let clock = Clock::manual(manual.clone());
        let timer: Timer = Box::new(|_| Some(MonoTime(0)));
        let driver = Driver::new(Arc::clone(&engine), clock.clone(), None, timer, &LookupsConfig::default());
        let host = Arc::new(Counting(AtomicUsize::new(0)));
        raise(&engine, &clock, 0);
        assert!(driver.answer_with(Arc::clone(&host) as Arc<dyn Resolver>));
        until("the first question is answered", || host.0.load(Ordering::SeqCst) == 1);
        std::thread::sleep(Duration::from_millis(50));
        raise(&engine, &clock, 1);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(host.0.load(Ordering::SeqCst), 1, "a manual time that is past wakes nobody");
        manual.advance_ms(1);
        until("the clock moved", || host.0.load(Ordering::SeqCst) == 2);
        driver.stop();
        driver.stop();
        raise(&engine, &clock, 2);
        driver.feed();
        manual.advance_ms(1);
        assert_eq!((host.0.load(Ordering::SeqCst), driver.workers.lock().len()), (2, 0), "stopped for good");
    }
}
