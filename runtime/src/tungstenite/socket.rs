//! This file answers: what does the application see of a guarded connection?

use std::fmt;
use std::io::{self, Read};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ::tungstenite::protocol::WebSocket;
use ::tungstenite::protocol::frame::coding::CloseCode;
use ::tungstenite::{Error as SocketError, Message};
use wsauth::identity::Identity;
use wsauth::{ConnectionId, Payload, Reason, Refusal, Withheld};

use super::accept::Admission;
use super::line::{Ending, SharedStream};
use super::sender::Sender;
use crate::clock::network_time;

/// Most bytes read and thrown away so that a peer can read our last words.
const MAX_DRAIN_BYTES: usize = 1024 * 1024;
/// How long a held message waits for the engine before it is offered again, and how often.
const HOLD_MS: u64 = 1_000;
const MAX_HOLDS: u32 = 15;

/// A WebSocket whose every message was decided before the application sees it.
///
/// Read it on its own thread; send to it from any thread through [`sender`](GuardedSocket::sender). Dropping it
/// closes the socket and gives the connection's permits back; what the peer had not taken yet is lost. For a gentle end
/// call [`close`](GuardedSocket::close) and read on.
pub struct GuardedSocket {
    socket: WebSocket<SharedStream>,
    admission: Admission,
    subprotocol: Option<String>,
}

/// Why [`GuardedSocket::read`] returned no message. The connection is over; drop the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// The engine ended it: expired, revoked, idle, evicted and so on. The peer was sent this close code.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The code in the close frame.
        code: u16,
    },
    /// The application closed with [`GuardedSocket::close`].
    Closed {
        /// The code in the close frame.
        code: u16,
    },
    /// The peer closed or left.
    Peer,
    /// The peer broke RFC 6455 or sent a message that is too long; it was sent this close code.
    Protocol {
        /// The code in the close frame.
        code: u16,
    },
    /// The peer did not take what was sent to it.
    Slow,
    /// The socket failed.
    Io(io::ErrorKind),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Refused { refusal, .. } => write!(f, "{refusal}"),
            Ended::Closed { .. } => f.write_str("this side closed the connection"),
            Ended::Peer => f.write_str("the peer closed the connection"),
            Ended::Protocol { .. } => f.write_str("the peer broke the WebSocket protocol"),
            Ended::Slow => f.write_str("the peer did not take what was sent"),
            Ended::Io(kind) => write!(f, "the socket failed: {kind}"),
        }
    }
}

impl std::error::Error for Ended {}

impl GuardedSocket {
    pub(super) fn new(
        socket: WebSocket<SharedStream>,
        admission: Admission,
        subprotocol: Option<String>,
    ) -> GuardedSocket {
        GuardedSocket { socket, admission, subprotocol }
    }

    /// Blocks until the engine delivers a message: `Message::Text` or `Message::Binary`, nothing else.
    ///
    /// Refused messages are answered by the engine and skipped; authentication messages, pings and pongs never reach
    /// the application.
    ///
    /// # Errors
    ///
    /// [`Ended`] once the connection is over, and on every later call.
    ///
    /// # Security
    ///
    /// A peer can hold this thread for the idle time; a message it never finishes is bounded by `message.max_bytes`.
    pub fn read(&mut self) -> Result<Message, Ended> {
        loop {
            match self.socket.read() {
                Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                    if self.admission.line.is_open() && self.is_delivered(&message) {
                        return Ok(message);
                    }
                }
                Ok(Message::Pong(_)) => {
                    self.admission.guard.touch(self.admission.connection);
                }
                // tungstenite answers both on the next read.
                Ok(Message::Ping(_) | Message::Close(_) | Message::Frame(_)) => {}
                Err(error) => return Err(self.end(&error)),
            }
        }
    }

    /// Asks the engine about one message.
    fn is_delivered(&self, message: &Message) -> bool {
        let payload = match message {
            Message::Text(text) => Payload::Text(text.as_bytes()),
            Message::Binary(bytes) => Payload::Binary(bytes),
            _ => return false,
        };
        let Admission { guard, line, connection, .. } = &self.admission;
        for _ in 0..MAX_HOLDS {
            let readies = line.readies();
            match guard.message(*connection, payload) {
                Ok(_delivered) => return true,
                // Still being authenticated: wait, then offer it again.
                Err(Withheld::Hold) => line.wait(readies, HOLD_MS),
                // The engine lost the connection, so no event will end it.
                Err(Withheld::Refused(refusal) | Withheld::Close(refusal))
                    if refusal.reason == Reason::MisuseHandle =>
                {
                    line.refuse(refusal, guard.close_code(refusal.reason));
                    return false;
                }
                // The pump sends what there is to say.
                Err(Withheld::Consumed | Withheld::Refused(_) | Withheld::Close(_)) => return false,
            }
            if !line.is_open() {
                return false;
            }
        }
        let refusal = Refusal::from(Reason::ProtocolError);
        line.refuse(refusal, guard.close_code(refusal.reason));
        false
    }

    fn end(&mut self, error: &SocketError) -> Ended {
        let line = &self.admission.line;
        let broken = match error {
            SocketError::Capacity(_) => Some(1009),
            SocketError::Utf8(_) => Some(1007),
            SocketError::Protocol(::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => None,
            SocketError::Protocol(_) => Some(1002),
            _ => None,
        };
        if let Some(code) = broken
            && line.is_open()
        {
            line.close(code, "", Ending::Broken(code));
            let stream = &self.socket.get_ref().stream;
            let _ = stream.shutdown(Shutdown::Write);
            drain(stream, 1_000);
        }
        match line.ended() {
            Some(Ending::Refused(refusal, code)) => Ended::Refused { refusal, code },
            Some(Ending::Closed(code)) => Ended::Closed { code },
            Some(Ending::Broken(code)) => Ended::Protocol { code },
            Some(Ending::Slow) => Ended::Slow,
            Some(Ending::Peer) => Ended::Peer,
            None => match error {
                SocketError::Io(error) if error.kind() != io::ErrorKind::ConnectionReset => Ended::Io(error.kind()),
                _ => Ended::Peer,
            },
        }
    }

    /// Sends `text` if the peer may receive this delivery now; see [`Sender::deliver`].
    ///
    /// # Errors
    ///
    /// As [`Sender::deliver`].
    pub fn deliver(&self, delivery_type: &str, fields: &[(&str, &str)], text: &str) -> Result<(), Refusal> {
        self.sender().deliver(delivery_type, fields, text)
    }

    /// Sends the answer to a message that was just delivered. It is not looked up in `[deliveries]`: the message's own
    /// permission covers its answer. Nothing is sent once the connection is closing.
    pub fn reply(&self, text: &str) -> bool {
        self.admission.line.send_frame(&super::frame::text(text))
    }

    /// A handle for sending from other threads. It does not keep the connection open.
    pub fn sender(&self) -> Sender {
        Sender::new(self.admission.guard.clone(), Arc::clone(&self.admission.line), self.admission.connection)
    }

    /// Closes with a code of the application's: 1000, or 3000 to 4999; one that may not be sent becomes 1000, and a
    /// reason over 123 bytes is left out. Go on calling [`read`](GuardedSocket::read): it returns an error when the peer
    /// has answered, and after `close_ms` at the latest.
    pub fn close(&self, code: u16, reason: &str) {
        let code = if CloseCode::from(code).is_allowed() { code } else { 1000 };
        self.admission.line.close(code, reason, Ending::Closed(code));
    }

    /// Who the peer is. None while a first message is still awaited, and once the connection is over.
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.admission.guard.identity(self.admission.connection)
    }

    /// The engine's name of this connection.
    pub fn connection(&self) -> ConnectionId {
        self.admission.connection
    }

    /// The subprotocol that was agreed on.
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }
}

impl Drop for GuardedSocket {
    fn drop(&mut self) {
        // A handler that panicked says so; one that simply returned is a normal end.
        let code = if std::thread::panicking() { 1011 } else { 1000 };
        self.admission.line.close(code, "", Ending::Closed(code));
    }
}

impl fmt::Debug for GuardedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GuardedSocket({:?})", self.admission.connection)
    }
}

/// Reads and throws away until the peer stops, the time is over or it was too much.
pub(super) fn drain(stream: &TcpStream, ms: u64) {
    let until = network_time().plus(ms);
    let mut stream = stream;
    let mut buffer = [0; 4096];
    let mut total = 0usize;
    while total < MAX_DRAIN_BYTES {
        let left = until.since(network_time());
        if left == 0 || stream.set_read_timeout(Some(Duration::from_millis(left))).is_err() {
            return;
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => total = total.saturating_add(read),
        }
    }
}
