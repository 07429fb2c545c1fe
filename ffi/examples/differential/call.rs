//! This file answers: which calls are there, and how does the C program hear of them?
//!
//! A frame is a u32 length and that many bytes: one letter, then numbers as u64 and bytes as a u32 length and the bytes,
//! lists as a u32 count and the items. Native byte order: both ends are one machine.

use std::net::IpAddr;

/// The other end of the socket.
#[derive(Clone, Debug)]
pub(crate) enum Socket {
    Text(IpAddr),
    System(IpAddr),
    Unix,
    Unknown,
}

/// An upgrade request.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade {
    pub(crate) shard: u8,
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) socket: Socket,
}

/// Names and values.
pub(crate) type Fields = Vec<(String, String)>;

/// An answer to a question, as the C ABI takes it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Given {
    pub(crate) kind: u32,
    pub(crate) retry_after_ms: u32,
    pub(crate) status: u32,
    pub(crate) document: Vec<u8>,
    pub(crate) subject: String,
    pub(crate) expires_at_ms: u64,
    pub(crate) issued_at_s: u64,
    pub(crate) token_id: String,
    pub(crate) session_id: String,
    pub(crate) client_id: String,
    pub(crate) tenant: String,
    pub(crate) permissions: Vec<String>,
    pub(crate) claims: String,
    pub(crate) content_type: Vec<u8>,
}

/// One call of the ABI. What is bytes here may be anything; what is a number may be out of range.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Handshake(Upgrade),
    Explain(Upgrade),
    Message { connection: u64, kind: u32, data: Vec<u8> },
    Authorize { connection: u64, name: Vec<u8>, fields: Fields },
    Deliver { connection: u64, name: Vec<u8>, fields: Fields },
    DeliverMany { connections: Vec<u64>, name: Vec<u8>, fields: Fields },
    Poll { shard: u8, room: usize, event_size: usize },
    Timeout { shard: u8 },
    Closed { connection: u64 },
    Touch { connection: u64 },
    Permit { connection: u64, permissions: Vec<String> },
    PermitSubject { issuer: String, subject: String, permissions: Vec<String> },
    Identity { connection: u64 },
    Permissions { connection: u64 },
    Refresh { connection: u64, token: Vec<u8> },
    RefreshSubject { token: Vec<u8> },
    Revoke { kind: u32, connection: u64, issuer: String, name: String, issued_before_s: u64 },
    Ask,
    Answer { id: u64, given: Box<Given> },
    LoadKeys { issuer: String, document: Vec<u8> },
    Clock { wall_ms: u64, mono_ms: u64 },
    Reload { toml: String },
    Audit,
    Metrics,
    Http { result: u32, retry_after_ms: u32 },
}

impl Call {
    /// Its name, for the report.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Call::Handshake(_) => "handshake",
            Call::Explain(_) => "handshake_explain",
            Call::Message { .. } => "message",
            Call::Authorize { .. } => "authorize",
            Call::Deliver { .. } => "authorize_delivery",
            Call::DeliverMany { .. } => "authorize_deliveries",
            Call::Poll { .. } => "poll",
            Call::Timeout { .. } => "engine_timeout",
            Call::Closed { .. } => "connection_closed",
            Call::Touch { .. } => "connection_touch",
            Call::Permit { .. } => "connection_set_permissions",
            Call::PermitSubject { .. } => "subject_set_permissions",
            Call::Identity { .. } => "connection_identity",
            Call::Permissions { .. } => "connection_permissions",
            Call::Refresh { .. } => "refresh",
            Call::RefreshSubject { .. } => "refresh_subject",
            Call::Revoke { .. } => "revoke",
            Call::Ask => "lookup_next",
            Call::Answer { .. } => "lookup_answer",
            Call::LoadKeys { .. } => "keys_load",
            Call::Clock { .. } => "clock_set",
            Call::Reload { .. } => "engine_reload",
            Call::Audit => "audit_drain",
            Call::Metrics => "engine_metrics",
            Call::Http { .. } => "refusal_http",
        }
    }
}

/// Writes frames.
#[derive(Default)]
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    /// The engine's beginning: configuration and wall clock.
    pub(crate) fn of_start(toml: &str, wall_ms: u64) -> Vec<u8> {
        let mut frame = Frame::default();
        frame.op(b'+').bytes(toml.as_bytes()).number(wall_ms);
        frame.end()
    }

    pub(crate) fn of(call: &Call) -> Vec<u8> {
        let mut f = Frame::default();
        match call {
            Call::Handshake(upgrade) => f.op(b'h').upgrade(upgrade),
            Call::Explain(upgrade) => f.op(b'x').upgrade(upgrade),
            Call::Message { connection, kind, data } => {
                f.op(b'm').number(*connection).number(u64::from(*kind)).bytes(data)
            }
            Call::Authorize { connection, name, fields } => f.op(b'a').number(*connection).bytes(name).fields(fields),
            Call::Deliver { connection, name, fields } => f.op(b'd').number(*connection).bytes(name).fields(fields),
            Call::DeliverMany { connections, name, fields } => {
                f.op(b'D').count(connections.len());
                connections.iter().for_each(|connection| {
                    f.number(*connection);
                });
                f.bytes(name).fields(fields)
            }
            Call::Poll { shard, room, event_size } => {
                f.op(b'p').number(u64::from(*shard)).number(*room as u64).number(*event_size as u64)
            }
            Call::Timeout { shard } => f.op(b't').number(u64::from(*shard)),
            Call::Closed { connection } => f.op(b'c').number(*connection),
            Call::Touch { connection } => f.op(b'o').number(*connection),
            Call::Permit { connection, permissions } => f.op(b'g').number(*connection).texts(permissions),
            Call::PermitSubject { issuer, subject, permissions } => {
                f.op(b'G').text(issuer).text(subject).texts(permissions)
            }
            Call::Identity { connection } => f.op(b'i').number(*connection),
            Call::Permissions { connection } => f.op(b'I').number(*connection),
            Call::Refresh { connection, token } => f.op(b'r').number(*connection).bytes(token),
            Call::RefreshSubject { token } => f.op(b'R').bytes(token),
            Call::Revoke { kind, connection, issuer, name, issued_before_s } => {
                f.op(b'v').number(u64::from(*kind)).number(*connection).text(issuer).text(name).number(*issued_before_s)
            }
            Call::Ask => f.op(b'q'),
            Call::Answer { id, given } => {
                f.op(b'Q').number(*id).number(u64::from(given.kind)).number(u64::from(given.retry_after_ms));
                f.number(u64::from(given.status))
                    .bytes(&given.document)
                    .text(&given.subject)
                    .number(given.expires_at_ms)
                    .number(given.issued_at_s);
                f.text(&given.token_id).text(&given.session_id).text(&given.client_id).text(&given.tenant);
                f.texts(&given.permissions).text(&given.claims).bytes(&given.content_type)
            }
            Call::LoadKeys { issuer, document } => f.op(b'k').text(issuer).bytes(document),
            Call::Clock { wall_ms, mono_ms } => f.op(b'w').number(*wall_ms).number(*mono_ms),
            Call::Reload { toml } => f.op(b'l').text(toml),
            Call::Audit => f.op(b'u'),
            Call::Metrics => f.op(b'M'),
            Call::Http { result, retry_after_ms } => {
                f.op(b'H').number(u64::from(*result)).number(u64::from(*retry_after_ms))
            }
        };
        f.end()
    }

    fn op(&mut self, letter: u8) -> &mut Frame {
        self.0 = vec![0, 0, 0, 0, letter];
        self
    }

    fn number(&mut self, number: u64) -> &mut Frame {
        self.0.extend(number.to_ne_bytes());
        self
    }

    fn count(&mut self, count: usize) -> &mut Frame {
        self.0.extend(u32::try_from(count).expect("short").to_ne_bytes());
        self
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Frame {
        self.count(bytes.len()).0.extend(bytes);
        self
    }

    fn text(&mut self, text: &str) -> &mut Frame {
        self.bytes(text.as_bytes())
    }

    fn texts(&mut self, texts: &[String]) -> &mut Frame {
        self.count(texts.len());
        texts.iter().for_each(|text| {
            self.text(text);
        });
        self
    }

    fn fields(&mut self, fields: &Fields) -> &mut Frame {
        self.count(fields.len());
        for (name, value) in fields {
            self.text(name).text(value);
        }
        self
    }

    fn upgrade(&mut self, upgrade: &Upgrade) -> &mut Frame {
        self.number(u64::from(upgrade.shard)).text(upgrade.method).text(&upgrade.target);
        self.count(upgrade.headers.len());
        for (name, value) in &upgrade.headers {
            self.text(name).text(value);
        }
        match &upgrade.socket {
            Socket::Text(address) => self.number(1).text(&address.to_string()),
            Socket::System(address) => self.number(2).bytes(&sockaddr(*address)),
            Socket::Unix => self.number(3).bytes(b""),
            Socket::Unknown => self.number(1).bytes(b"nobody"),
        }
    }

    fn end(mut self) -> Vec<u8> {
        let len = u32::try_from(self.0.len() - 4).expect("short");
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }
}

/// struct sockaddr_in or sockaddr_in6.
fn sockaddr(address: IpAddr) -> Vec<u8> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = u16::try_from(family).expect("small").to_ne_bytes().to_vec();
    bytes.extend([0x1f, 0x90]);
    match address {
        IpAddr::V4(v4) => bytes.extend(v4.octets().into_iter().chain([0; 8])),
        IpAddr::V6(v6) => bytes.extend([0; 4].into_iter().chain(v6.octets()).chain([0; 4])),
    }
    bytes
}
