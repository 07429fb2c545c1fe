//! This file answers: how does a TCP stream become a guarded socket, or a refusal its peer can read?

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use ::tungstenite::Error as SocketError;
use ::tungstenite::error::ProtocolError;
use ::tungstenite::handshake::server::{ErrorResponse, Request, Response, write_response};
use ::tungstenite::handshake::{HandshakeError, HandshakeRole};
use ::tungstenite::http::{HeaderName, HeaderValue, StatusCode};
use ::tungstenite::protocol::WebSocketConfig;
use wsauth::request::{Header, Peer, Upgrade};
use wsauth::{Admitted, ConnectionId, Progress, Reason, Refusal};

use super::line::{Ending, Line, SharedStream};
use super::options::{AcceptOptions, Refuse};
use super::pump::{Registry, SHARD};
use super::socket::GuardedSocket;
use crate::clock::network_time;
use crate::guard::Guard;

/// A read buffer per connection; tungstenite's own default is sixteen times as large.
const READ_BUFFER_BYTES: usize = 8 * 1024;
/// Control messages may be this long even when application messages may not.
const MIN_MESSAGE_BYTES: usize = 16 * 1024;
/// How much longer than the engine's own deadline to wait for its answer: a backstop, not a limit.
const ANSWER_GRACE_MS: u64 = 1_000;

/// Why a stream did not become a guarded socket. The peer was told where that was possible, and the stream is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptError {
    /// The engine refused.
    Refused(Refusal),
    /// The whole request did not come in time.
    TimedOut,
    /// The socket failed, or the peer left.
    Io(io::ErrorKind),
    /// The pump could not be started: no thread or no descriptor is left.
    NoPump(io::ErrorKind),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AcceptError::Refused(refusal) => write!(f, "refused: {refusal}"),
            AcceptError::TimedOut => f.write_str("the request did not come in time"),
            AcceptError::Io(kind) => write!(f, "the socket failed: {kind}"),
            AcceptError::NoPump(kind) => write!(f, "the event thread cannot be started: {kind}"),
        }
    }
}

impl std::error::Error for AcceptError {}

/// A connection the engine knows. Dropping it says `closed`, on every path, and gives the socket up.
pub(super) struct Admission {
    pub(super) guard: Guard,
    pub(super) registry: Arc<Registry>,
    pub(super) line: Arc<Line>,
    pub(super) connection: ConnectionId,
    keep_socket: bool,
}

impl Admission {
    /// Gives the connection back, so that a refusal holds nothing, but keeps the socket to say so.
    fn withdraw(mut self, refusal: Refusal) -> Refusal {
        self.keep_socket = true;
        refusal
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.keep_socket {
            self.line.hang_up();
        }
        self.registry.remove(self.connection);
        self.guard.closed(self.connection);
    }
}

impl Guard {
    /// Accepts one WebSocket with the default [`AcceptOptions`]: see [`accept_with`](Guard::accept_with).
    ///
    /// # Errors
    ///
    /// As [`accept_with`](Guard::accept_with).
    pub fn accept(&self, stream: TcpStream) -> Result<GuardedSocket, AcceptError> {
        self.accept_with(stream, &AcceptOptions::default())
    }

    /// Reads the upgrade request from `stream`, asks the engine, and answers with 101 or with the refusal.
    ///
    /// Blocks until the request has come (`request_ms`) and until an outstanding lookup is answered (the configured
    /// `lookup_deadline`): call it on the connection's own thread, never in the accept loop. All sockets are on shard 0.
    ///
    /// # Errors
    ///
    /// [`AcceptError::Refused`] when the engine refused; the peer has then read the HTTP answer or the close code.
    /// A request that is no WebSocket upgrade is refused the same way. All other errors mean that the socket is gone.
    ///
    /// # Security
    ///
    /// An unauthenticated peer can hold this thread for `request_ms` and the lookup deadline; servers bound the
    /// number of threads.
    pub fn accept_with(&self, stream: TcpStream, options: &AcceptOptions) -> Result<GuardedSocket, AcceptError> {
        let registry =
            self.with_pump(|pump| Arc::clone(pump.registry())).map_err(|error| AcceptError::NoPump(error.kind()))?;
        let failed = |error: io::Error| AcceptError::Io(error.kind());
        stream.set_nonblocking(false).map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        // It fails when the peer is gone already: nothing to decide, and nobody to tell.
        let peer = Peer::Ip(stream.peer_addr().map_err(failed)?.ip());
        let line = Arc::new(Line::new(stream.try_clone().map_err(failed)?, Arc::clone(&registry), options));
        let lingering = stream.try_clone().map_err(failed)?;

        let deadline = Some(network_time().plus(options.request_ms));
        let shared = SharedStream { stream, line: Arc::clone(&line), deadline };
        let mut asking = Asking { guard: self, registry, line: Arc::clone(&line), peer, options, answer: None };
        let config = Some(self.socket_config());
        let upgraded = ::tungstenite::accept_hdr_with_config(shared, asking.callback(), config);

        // Named now: the error still borrows the callback.
        let upgraded = upgraded.map_err(|error| Failure::of(&error));
        match (upgraded, asking.answer) {
            (Ok(mut socket), Some(Ok((admission, subprotocol)))) => {
                let stream = socket.get_mut();
                stream.deadline = None;
                stream.stream.set_read_timeout(None).map_err(failed)?;
                line.open();
                Ok(GuardedSocket::new(socket, admission, subprotocol))
            }
            (Ok(mut socket), Some(Err(refusal))) => {
                socket.get_mut().deadline = Some(network_time().plus(options.close_ms));
                line.open();
                line.refuse(refusal, self.close_code(refusal.reason));
                // Until the peer answers the close frame, leaves, or its time is over. What it says is not read.
                while socket.read().is_ok() {}
                line.hang_up();
                Err(AcceptError::Refused(refusal))
            }
            (Err(_), Some(Err(refusal))) => {
                linger(&lingering);
                Err(AcceptError::Refused(refusal))
            }
            (Err(Failure::Unreadable { too_large }), None) => {
                let refusal = self.refuse_unreadable(too_large, peer);
                line.write_raw(&http_text(refusal));
                linger(&lingering);
                Err(AcceptError::Refused(refusal))
            }
            (Err(Failure::Socket(error)), _) => Err(error),
            // The admission says closed as it is dropped.
            (Err(Failure::Unreadable { .. }), Some(Ok(_))) | (Ok(_), None) => {
                Err(AcceptError::Io(io::ErrorKind::Other))
            }
        }
    }

    /// Lets the engine refuse what tungstenite could not even read, so that it is counted and audited.
    fn refuse_unreadable(&self, too_large: bool, peer: Peer) -> Refusal {
        match self.handshake(SHARD, &Upgrade { method: b"", target: b"", headers: &[], peer }) {
            Ok(admitted) => {
                self.closed(admitted.connection);
                Reason::RequestMalformed.into()
            }
            Err(_) if too_large => Reason::RequestTooLarge.into(),
            Err(refusal) => refusal,
        }
    }

    fn socket_config(&self) -> WebSocketConfig {
        let max = self.config().message.max_bytes.max(MIN_MESSAGE_BYTES);
        WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(max))
            .max_frame_size(Some(max))
    }
}

/// The callback that asks the engine between the request and its answer.
struct Asking<'a> {
    guard: &'a Guard,
    registry: Arc<Registry>,
    line: Arc<Line>,
    peer: Peer,
    options: &'a AcceptOptions,
    answer: Option<Result<(Admission, Option<String>), Refusal>>,
}

impl Asking<'_> {
    #[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
    fn callback(&mut self) -> impl FnOnce(&Request, Response) -> Result<Response, ErrorResponse> {
        |request, response| self.answer(request, response)
    }

    #[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
    fn answer(&mut self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let asked = self.ask(request);
        let subprotocol = match &asked {
            Ok((_, chosen)) => chosen.clone(),
            Err(refusal) if self.options.refuse == Refuse::Http => {
                let answer = http_response(*refusal);
                self.answer = Some(asked);
                return Err(answer);
            }
            // A browser that offered subprotocols fails a connection that names none, and never reads the code.
            Err(_) => self.subprotocol_of_refused(request),
        };
        self.answer = Some(asked);
        if let Some(value) = subprotocol.and_then(|name| HeaderValue::try_from(name).ok()) {
            response.headers_mut().insert("Sec-WebSocket-Protocol", value);
        }
        Ok(response)
    }

    /// The subprotocol named to a peer that is accepted only to be told why not: never one that carries a token.
    fn subprotocol_of_refused(&self, request: &Request) -> Option<String> {
        let config = self.guard.config();
        let (own, prefixes) = (&config.handshake.subprotocols, &config.handshake.subprotocol_prefixes);
        let lines = request.headers().get_all("Sec-WebSocket-Protocol").iter();
        let offered = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim);
        let carries_token = |item: &str| {
            let item = item.to_ascii_lowercase();
            prefixes.iter().any(|prefix| item.starts_with(&prefix.to_ascii_lowercase()))
        };
        let mut real = offered.filter(|item| !item.is_empty() && !carries_token(item));
        real.find(|item| own.is_empty() || own.iter().any(|own| own == item)).map(str::to_owned)
    }

    fn ask(&self, request: &Request) -> Result<(Admission, Option<String>), Refusal> {
        let headers: Vec<Header<'_>> = request
            .headers()
            .iter()
            .map(|(name, value)| Header { name: name.as_str().as_bytes(), value: value.as_bytes() })
            .collect();
        let target = request.uri().path_and_query().map_or("", |target| target.as_str());
        let upgrade = Upgrade {
            method: request.method().as_str().as_bytes(),
            target: target.as_bytes(),
            headers: &headers,
            peer: self.peer,
        };
        let mut progress = None;
        let connection = self.registry.admit(&self.line, || {
            let admitted: Admitted = self.guard.handshake(SHARD, &upgrade)?;
            let connection = admitted.connection;
            progress = Some(admitted);
            Ok::<_, Refusal>(connection)
        })?;
        let admission = Admission {
            guard: self.guard.clone(),
            registry: Arc::clone(&self.registry),
            line: Arc::clone(&self.line),
            connection,
            keep_socket: false,
        };
        let Some(admitted) = progress else { return Err(Reason::FaultInternal.into()) };
        if admitted.progress == Progress::Authenticating {
            self.line.wait(0, self.guard.config().handshake.lookup_deadline_ms.saturating_add(ANSWER_GRACE_MS));
        }
        match self.line.ended() {
            Some(Ending::Refused(refusal, _)) => Err(admission.withdraw(refusal)),
            None if admitted.progress == Progress::Authenticating && self.line.readies() == 0 => {
                Err(admission.withdraw(Reason::AuthenticationUnavailable.into()))
            }
            _ => Ok((admission, admitted.subprotocol)),
        }
    }
}

fn http_response(refusal: Refusal) -> ErrorResponse {
    let answer = refusal.http_response();
    let mut response = ErrorResponse::new(None);
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(*name), HeaderValue::try_from(value.as_str())) {
            headers.append(name, value);
        }
    }
    headers.insert("Content-Length", HeaderValue::from(answer.body.len()));
    headers.insert("Connection", HeaderValue::from_static("close"));
    *response.body_mut() = Some(answer.body);
    response
}

fn http_text(refusal: Refusal) -> Vec<u8> {
    let response = http_response(refusal);
    let mut bytes = Vec::new();
    if write_response(&mut bytes, &response).is_ok() {
        bytes.extend_from_slice(response.body().as_deref().unwrap_or_default().as_bytes());
    }
    bytes
}

/// Why tungstenite did not get through the upgrade.
enum Failure {
    /// The socket's doing.
    Socket(AcceptError),
    /// The request's.
    Unreadable { too_large: bool },
}

impl Failure {
    fn of<R: HandshakeRole>(error: &HandshakeError<R>) -> Failure {
        let error = match error {
            HandshakeError::Interrupted(_) => return Failure::Socket(AcceptError::TimedOut),
            HandshakeError::Failure(error) => error,
        };
        match error {
            SocketError::Io(error) if error.kind() == io::ErrorKind::TimedOut => Failure::Socket(AcceptError::TimedOut),
            SocketError::Io(error) => Failure::Socket(AcceptError::Io(error.kind())),
            SocketError::Protocol(ProtocolError::HandshakeIncomplete) => {
                Failure::Socket(AcceptError::Io(io::ErrorKind::UnexpectedEof))
            }
            SocketError::AttackAttempt | SocketError::Capacity(_) => Failure::Unreadable { too_large: true },
            _ => Failure::Unreadable { too_large: false },
        }
    }
}

/// Lets the peer read what was sent: a socket closed over unread bytes is reset, and the answer is lost.
fn linger(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Write);
    super::socket::drain(stream, 500);
}
