//! This file answers: who carries the engine's events to the sockets, and what sockets left unsent?
//!
//! One thread per guard, started at the first accept. It sleeps on the wake descriptor, the next deadline and the
//! sockets that were full; it never blocks on a peer and runs no code of the application's but the observer.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wsauth::time::MonoTime;
use wsauth::{ConnectionId, Event, EventKind};

use super::line::{Line, Watch};
use crate::clock::network_time;
use crate::guard::{Observer, Parts};
use crate::threads;
use crate::wake::Wake;

/// The shard of all sockets accepted here.
pub(super) const SHARD: u8 = 0;
/// Events taken from the engine at once.
const BATCH: usize = 256;
/// Longest sleep: a lost wake-up would cost this much, no more.
const MAX_SLEEP_MS: u64 = 60_000;

/// The sockets that are open, and those that need the pump's attention.
pub(super) struct Registry {
    lines: Mutex<HashMap<ConnectionId, Arc<Line>>>,
    attention: Mutex<Vec<Arc<Line>>>,
    /// Read-locked from before a handshake until its line is registered: an event may be faster than that.
    admitting: RwLock<()>,
    wake: Arc<Wake>,
}

impl Registry {
    fn new(wake: Arc<Wake>) -> Registry {
        Registry { lines: Mutex::default(), attention: Mutex::default(), admitting: RwLock::new(()), wake }
    }

    /// Runs a handshake and registers the line of the connection it made, as one step for the pump.
    pub(super) fn admit<E>(
        &self,
        line: &Arc<Line>,
        handshake: impl FnOnce() -> Result<ConnectionId, E>,
    ) -> Result<ConnectionId, E> {
        let _admitting = self.admitting.read();
        let connection = handshake()?;
        line.name(connection);
        self.lines.lock().insert(connection, Arc::clone(line));
        Ok(connection)
    }

    pub(super) fn remove(&self, connection: ConnectionId) {
        self.lines.lock().remove(&connection);
    }

    /// Every open line, now.
    pub(super) fn all(&self) -> Vec<Arc<Line>> {
        self.lines.lock().values().cloned().collect()
    }

    /// Rouses the pump, with one more line to look after.
    pub(super) fn watch(&self, line: Option<Arc<Line>>) {
        if let Some(line) = line {
            self.attention.lock().push(line);
        }
        self.wake.wake(SHARD);
    }

    fn find(&self, connection: ConnectionId) -> Option<Arc<Line>> {
        if let Some(line) = self.lines.lock().get(&connection) {
            return Some(Arc::clone(line));
        }
        // Perhaps its handshake has not returned yet: let those under way finish, then look again. Whoever is
        // still unknown has left.
        drop(self.admitting.write());
        self.lines.lock().get(&connection).cloned()
    }
}

/// The running pump. Dropping it stops and joins the thread.
pub(crate) struct Pump {
    registry: Arc<Registry>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Pump {
    pub(crate) fn start(parts: Arc<Parts>) -> io::Result<Pump> {
        // Made here, so that a process out of descriptors learns it now.
        parts.wake.fd(SHARD)?;
        let registry = Arc::new(Registry::new(Arc::clone(&parts.wake)));
        let stop = Arc::new(AtomicBool::new(false));
        let (shared, stopped) = (Arc::clone(&registry), Arc::clone(&stop));
        let thread = threads::start("wsauth-pump", move || {
            Turning { parts, registry: shared, watched: Vec::new(), events: Vec::new() }.run(&stopped);
        })?;
        Ok(Pump { registry, stop, thread: Some(thread) })
    }

    pub(super) fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.registry.wake.wake(SHARD);
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != std::thread::current().id()
        {
            let _ = thread.join();
        }
    }
}

struct Turning {
    parts: Arc<Parts>,
    registry: Arc<Registry>,
    watched: Vec<Arc<Line>>,
    events: Vec<Event>,
}

impl Turning {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            let deadline = self.carry_events();
            let (until, full) = self.tend();
            self.sleep(deadline, until, &full);
        }
    }

    /// Hands out what the engine wants done. Returns its next deadline.
    fn carry_events(&mut self) -> Option<MonoTime> {
        let mut events = std::mem::take(&mut self.events);
        let polled = self.parts.poll(SHARD, BATCH, &mut events);
        let observer = self.parts.observer();
        let mut ready = Vec::new();
        for event in events.drain(..) {
            self.carry(event, observer.as_ref(), &mut ready);
        }
        self.events = events;
        // Last, so that whoever waits for it cannot speak before `auth_success` was sent.
        ready.iter().for_each(|line| line.set_ready());
        // An error means that the application polls this shard at this moment; it will be woken again.
        polled.ok().and_then(|polled| polled.next_deadline)
    }

    fn carry(&self, event: Event, observer: Option<&Observer>, ready: &mut Vec<Arc<Line>>) {
        let Some(line) = self.registry.find(event.connection) else { return };
        match event.kind {
            EventKind::Send(text) => line.send_control(text),
            EventKind::Ready => ready.push(line),
            EventKind::Refused { refusal, code } | EventKind::Close { refusal, code } => line.refuse(refusal, code),
            EventKind::PermissionsChanged(diff) => {
                if let Some(observer) = observer {
                    // The application's code must not take the pump down with it.
                    let _ = catch_unwind(AssertUnwindSafe(|| observer(event.connection, &diff)));
                }
            }
        }
    }

    /// Looks after full and closing lines. Returns when to come again and which sockets to wait for.
    fn tend(&mut self) -> (MonoTime, Vec<Arc<TcpStream>>) {
        self.watched.append(&mut self.registry.attention.lock());
        let now = network_time();
        let mut until = MonoTime::NEVER;
        let mut full = Vec::new();
        self.watched.retain(|line| match line.tend(now) {
            Watch::Done => false,
            Watch::Until { deadline, writable } => {
                until = until.min(deadline);
                full.extend(writable);
                true
            }
        });
        (until, full)
    }

    fn sleep(&self, deadline: Option<MonoTime>, until: MonoTime, full: &[Arc<TcpStream>]) {
        let Ok(wake) = self.parts.wake.fd(SHARD) else { return };
        // A manual clock says itself when it moves, and its deadlines mean nothing to the kernel.
        let engine_ms = match deadline {
            Some(deadline) if !self.parts.clock.is_manual() => deadline.since(self.parts.clock.fine().mono),
            _ => MAX_SLEEP_MS,
        };
        let ms = engine_ms.min(until.since(network_time())).min(MAX_SLEEP_MS);
        let limit = Timespec {
            tv_sec: i64::try_from(ms / 1000).unwrap_or(1),
            tv_nsec: i64::try_from((ms % 1000).saturating_mul(1_000_000)).unwrap_or(0),
        };
        let mut fds = Vec::with_capacity(full.len().saturating_add(1));
        fds.push(PollFd::from_borrowed_fd(wake, PollFlags::IN));
        fds.extend(full.iter().map(|stream| PollFd::new(&**stream, PollFlags::OUT)));
        // Whatever it says - time over, a signal, a socket - the next turn looks at everything anyway.
        let _ = poll(&mut fds, Some(&limit));
    }
}
