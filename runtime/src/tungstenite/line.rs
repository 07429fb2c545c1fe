//! This file answers: how do several threads write to one socket without mixing frames or waiting for a slow peer?
//!
//! Everything that leaves goes through [`Line`]: whole frames under one lock, sent without blocking. What the socket
//! does not take stays here, bounded in bytes and in time, and the pump sends it on. After a close frame nothing
//! follows, whoever writes it.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use wsauth::time::MonoTime;
use wsauth::{ConnectionId, Refusal};

use super::frame;
use super::options::AcceptOptions;
use super::pump::Registry;
use crate::clock::network_time;

/// Control texts kept while the upgrade is not answered yet. The engine has at most a few.
const MAX_EARLY: usize = 16;

/// The outgoing side of one socket.
pub(super) struct Line {
    connection: OnceLock<ConnectionId>,
    registry: Arc<Registry>,
    out: Mutex<Out>,
    changed: Condvar,
    max_pending: usize,
    stall_ms: u64,
    close_ms: u64,
}

struct Out {
    phase: Phase,
    /// None once the socket is given up: a sender somebody still holds must not hold the descriptor.
    stream: Option<Arc<TcpStream>>,
    /// Bytes the socket did not take yet, and since when it has taken none.
    pending: Vec<u8>,
    stalled_since: MonoTime,
    /// Texts from before the upgrade was answered.
    early: Vec<String>,
    /// How often the engine said `Ready`.
    ready: u32,
    ended: Option<Ending>,
    /// Whether the pump has this line on its list.
    watched: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The upgrade is not answered; only the HTTP response may leave.
    Upgrading,
    Open,
    /// A close frame went out; the peer has until then to answer it.
    Closing(MonoTime),
    Gone,
}

/// How it ended, as seen from this side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The engine decided.
    Refused(Refusal, u16),
    /// The application closed.
    Closed(u16),
    /// The peer broke RFC 6455.
    Broken(u16),
    /// The peer closed.
    Peer,
    /// The peer did not take what was sent in time.
    Slow,
}

/// What the pump has to do for a line.
pub(super) enum Watch {
    /// Nothing more.
    Done,
    /// Come again at this time, and before when the socket takes bytes again.
    Until { deadline: MonoTime, writable: Option<Arc<TcpStream>> },
}

impl Line {
    pub(super) fn new(stream: TcpStream, registry: Arc<Registry>, options: &AcceptOptions) -> Line {
        Line {
            connection: OnceLock::new(),
            registry,
            out: Mutex::new(Out {
                phase: Phase::Upgrading,
                stream: Some(Arc::new(stream)),
                pending: Vec::new(),
                stalled_since: MonoTime::NEVER,
                early: Vec::new(),
                ready: 0,
                ended: None,
                watched: false,
            }),
            changed: Condvar::new(),
            max_pending: options.max_pending_bytes,
            stall_ms: options.stall_ms,
            close_ms: options.close_ms,
        }
    }

    pub(super) fn name(&self, connection: ConnectionId) {
        let _ = self.connection.set(connection);
    }

    /// Sends what tungstenite wrote: the HTTP response, a pong, the answer to a close frame.
    pub(super) fn write_raw(self: &Arc<Line>, bytes: &[u8]) {
        let mut out = self.out.lock();
        match out.phase {
            Phase::Upgrading => self.push(&mut out, bytes),
            Phase::Open => {
                self.push(&mut out, bytes);
                if frame::is_close(bytes) {
                    self.begin_closing(&mut out, Ending::Peer);
                }
            }
            Phase::Closing(_) | Phase::Gone => {}
        }
    }

    /// Sends an encoded text frame. False when the connection no longer takes any.
    pub(super) fn send_frame(self: &Arc<Line>, bytes: &[u8]) -> bool {
        let mut out = self.out.lock();
        if out.phase != Phase::Open {
            return false;
        }
        self.push(&mut out, bytes);
        out.phase == Phase::Open
    }

    /// Sends a text of the engine's, or keeps it until the upgrade is answered.
    pub(super) fn send_control(self: &Arc<Line>, text: String) {
        let mut out = self.out.lock();
        match out.phase {
            Phase::Upgrading if out.early.len() < MAX_EARLY => out.early.push(text),
            Phase::Open => self.push(&mut out, &frame::text(&text)),
            _ => {}
        }
    }

    /// The upgrade was answered with 101.
    pub(super) fn open(self: &Arc<Line>) {
        let mut out = self.out.lock();
        if out.phase != Phase::Upgrading {
            return;
        }
        out.phase = Phase::Open;
        for text in std::mem::take(&mut out.early) {
            self.push(&mut out, &frame::text(&text));
        }
        if let Some(Ending::Refused(refusal, code)) = out.ended {
            self.push(&mut out, &frame::close(code, refusal.row().public));
            self.begin_closing(&mut out, Ending::Refused(refusal, code));
        }
    }

    /// The engine said `Ready`.
    pub(super) fn set_ready(&self) {
        let mut out = self.out.lock();
        out.ready = out.ready.saturating_add(1);
        self.changed.notify_all();
    }

    /// How often the engine said `Ready`; hand it to [`wait`](Line::wait).
    pub(super) fn readies(&self) -> u32 {
        self.out.lock().ready
    }

    /// The engine refused or closed. Before the upgrade is answered it is only remembered: HTTP can still say it.
    pub(super) fn refuse(self: &Arc<Line>, refusal: Refusal, code: u16) {
        let mut out = self.out.lock();
        match out.phase {
            Phase::Upgrading => {
                out.ended.get_or_insert(Ending::Refused(refusal, code));
            }
            Phase::Open => {
                self.push(&mut out, &frame::close(code, refusal.row().public));
                self.begin_closing(&mut out, Ending::Refused(refusal, code));
            }
            Phase::Closing(_) | Phase::Gone => {}
        }
        self.changed.notify_all();
    }

    /// Closes for a cause that is not the engine's.
    pub(super) fn close(self: &Arc<Line>, code: u16, reason: &str, ending: Ending) {
        let mut out = self.out.lock();
        if out.phase == Phase::Open {
            self.push(&mut out, &frame::close(code, reason));
            self.begin_closing(&mut out, ending);
        }
    }

    /// Waits until the engine said `Ready` more often than `seen`, or it ended, or the time is over.
    pub(super) fn wait(&self, seen: u32, ms: u64) {
        let until = network_time().plus(ms);
        let mut out = self.out.lock();
        while out.ready == seen && out.ended.is_none() && out.phase != Phase::Gone {
            let left = until.since(network_time());
            if left == 0 || self.changed.wait_for(&mut out, Duration::from_millis(left)).timed_out() {
                return;
            }
        }
    }

    pub(super) fn ended(&self) -> Option<Ending> {
        self.out.lock().ended
    }

    pub(super) fn is_open(&self) -> bool {
        self.out.lock().phase == Phase::Open
    }

    /// Gives the socket up. What is already in the kernel still leaves; a reader wakes up.
    pub(super) fn hang_up(&self) {
        let mut out = self.out.lock();
        give_up(&mut out);
        self.changed.notify_all();
    }

    /// The pump's turn: sends on what waits and enforces the two time limits.
    pub(super) fn tend(&self, now: MonoTime) -> Watch {
        let mut out = self.out.lock();
        flush(&mut out, now);
        let stalled = !out.pending.is_empty() && now.since(out.stalled_since) >= self.stall_ms;
        if stalled {
            out.ended.get_or_insert(Ending::Slow);
        }
        let overdue = matches!(out.phase, Phase::Closing(until) if now >= until);
        if stalled || overdue {
            give_up(&mut out);
        }
        let closing = if let Phase::Closing(until) = out.phase { until } else { MonoTime::NEVER };
        let stalling = if out.pending.is_empty() { MonoTime::NEVER } else { out.stalled_since.plus(self.stall_ms) };
        let deadline = closing.min(stalling);
        if out.phase == Phase::Gone || deadline == MonoTime::NEVER {
            out.watched = false;
            self.changed.notify_all();
            return Watch::Done;
        }
        let writable = if out.pending.is_empty() { None } else { out.stream.clone() };
        Watch::Until { deadline, writable }
    }

    fn push(self: &Arc<Line>, out: &mut Out, bytes: &[u8]) {
        if out.pending.is_empty() {
            out.stalled_since = network_time();
        }
        out.pending.extend_from_slice(bytes);
        if out.pending.len() == bytes.len() {
            let now = out.stalled_since;
            flush(out, now);
        }
        if out.pending.len() > self.max_pending.saturating_add(bytes.len()) {
            out.ended.get_or_insert(Ending::Slow);
            give_up(out);
        }
        if !out.pending.is_empty() {
            self.watch(out);
        }
    }

    fn begin_closing(self: &Arc<Line>, out: &mut Out, ending: Ending) {
        if out.phase == Phase::Open {
            out.phase = Phase::Closing(network_time().plus(self.close_ms));
            out.ended.get_or_insert(ending);
            self.watch(out);
            self.changed.notify_all();
        }
    }

    fn watch(self: &Arc<Line>, out: &mut Out) {
        // Told again even when already watched: the nearest time may have come nearer.
        let fresh = !std::mem::replace(&mut out.watched, true);
        self.registry.watch(fresh.then(|| Arc::clone(self)));
    }
}

fn give_up(out: &mut Out) {
    out.phase = Phase::Gone;
    out.pending = Vec::new();
    if let Some(stream) = out.stream.take() {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Sends what the socket takes at once.
fn flush(out: &mut Out, now: MonoTime) {
    let Some(stream) = out.stream.clone() else { return };
    let mut sent = 0;
    while let Some(rest) = out.pending.get(sent..)
        && !rest.is_empty()
    {
        match send(&*stream, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(taken) => {
                sent = sent.saturating_add(taken);
                out.stalled_since = now;
            }
            Err(Errno::INTR) => {}
            Err(_) => {
                give_up(out);
                return;
            }
        }
    }
    out.pending.drain(..sent.min(out.pending.len()));
    if out.pending.is_empty() && out.pending.capacity() > 4096 {
        out.pending = Vec::new();
    }
}

/// The socket as tungstenite sees it: reads come from the stream, writes go through the line.
pub(super) struct SharedStream {
    pub(super) stream: TcpStream,
    pub(super) line: Arc<Line>,
    /// Until when the whole request must have come.
    pub(super) deadline: Option<MonoTime>,
}

impl io::Read for SharedStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(deadline) = self.deadline {
            let left = deadline.since(network_time());
            if left == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(Duration::from_millis(left)))?;
        }
        match self.stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            other => other,
        }
    }
}

impl io::Write for SharedStream {
    /// Takes the whole buffer. tungstenite writes one frame at a time here, since its write buffer is switched off.
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.line.write_raw(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
