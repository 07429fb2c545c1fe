//! This file answers: what does Rust say to a call?
//!
//! Drives `wsauth::Engine` and nothing of the C crate. What the header promises about numbers, misuse and texts is
//! written here a second time, so that both sides could disagree.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};
use wsauth::config::{Config, CredentialSource, NoSecretSource};
use wsauth::identity::Identity;
use wsauth::lookup::{Answer, HttpResponse, Lookup, LookupId, Question, Vouched};
use wsauth::request::{Header, Peer};
use wsauth::secret::EngineSeed;
use wsauth::time::{MonoTime, Now, WallTime};
use wsauth::{
    Class, ConnectionId, Engine, Event, EventKind, Outcome, Payload, Progress, Propagated, Reason, Refreshed, Refusal,
    Revocation, Withheld,
};

use crate::call::{Call, Fields, Given, Socket, Upgrade};

/// The manual engine's monotonic clock begins here.
const ORIGIN_MS: u64 = 1_000_000_000;
/// sizeof(wsauth_event) where pointers have 64 bits.
const EVENT_BYTES: usize = 40;

/// What the next calls may refer to.
pub(crate) enum Seen {
    Opened(u64, Progress),
    Ready(u64),
    Ended(u64),
    Asked(Lookup),
}

/// The engine, and what the C library keeps beside its own.
pub(crate) struct Twin {
    engine: Engine,
    now: Now,
    outboxes: Vec<VecDeque<Event>>,
    /// What happened in the last call.
    pub(crate) seen: Vec<Seen>,
}

type Said = Result<String, (u32, String)>;

fn id(connection: u64) -> ConnectionId {
    ConnectionId::from_u64(connection)
}

fn misuse<T>() -> Result<T, (u32, String)> {
    Err((u32::from(Reason::MisuseArgument.number()), String::new()))
}

fn no(reason: Reason) -> (u32, String) {
    (u32::from(reason.number()), String::new())
}

impl Twin {
    pub(crate) fn new(toml: &str, wall_ms: u64) -> Twin {
        let config = Config::from_toml(toml, &NoSecretSource).unwrap_or_else(|problem| panic!("{problem}"));
        let shards = config.connection.shards;
        // The seed of every engine with a manual clock.
        let seed = EngineSeed::new([0x5a; 32]);
        let engine = Engine::new(config, &seed, Box::new(|_| ())).unwrap_or_else(|problem| panic!("{problem}"));
        let now = Now { wall: WallTime(wall_ms), mono: MonoTime(ORIGIN_MS) };
        Twin { engine, now, outboxes: (0..shards).map(|_| VecDeque::new()).collect(), seen: Vec::new() }
    }

    /// Connections that are open.
    pub(crate) fn connections(&self) -> usize {
        self.engine.connections()
    }

    /// One line: the result's number and every output.
    pub(crate) fn call(&mut self, call: &Call) -> (u32, String) {
        self.seen.clear();
        let (number, outputs) = match self.say(call) {
            Ok(outputs) => (0, outputs),
            Err(refused) => refused,
        };
        (number, if outputs.is_empty() { number.to_string() } else { format!("{number} {outputs}") })
    }

    fn say(&mut self, call: &Call) -> Said {
        let (engine, now) = (&self.engine, self.now);
        match call {
            Call::Handshake(upgrade) => self.handshake(upgrade),
            Call::Explain(upgrade) => Ok(explain(&with_upgrade(upgrade, |shown| engine.explain(shown, now)))),
            Call::Message { connection, kind, data } => self.decision(match kind {
                1 => engine.message(id(*connection), Payload::Text(data), now).map(|_| ()),
                2 => engine.message(id(*connection), Payload::Binary(data), now).map(|_| ()),
                _ => Err(Withheld::Refused(Reason::MisuseArgument.into())),
            }),
            Call::Authorize { connection, name, fields } => self.decision(match named(name, fields) {
                Some((name, fields)) => engine.authorize(id(*connection), name, &fields, now).map(|_| ()),
                None => Err(Withheld::Refused(Reason::MisuseArgument.into())),
            }),
            Call::Deliver { connection, name, fields } => {
                let Some((name, fields)) = named(name, fields) else { return misuse() };
                let decided = engine.authorize_delivery(id(*connection), name, &fields, now);
                decided.map(|_| String::new()).map_err(|refusal| no(refusal.reason))
            }
            Call::DeliverMany { connections, name, fields } => {
                let ids: Vec<ConnectionId> = connections.iter().copied().map(id).collect();
                let mut allowed = Vec::new();
                let decided = match named(name, fields) {
                    Some((name, fields)) => engine.authorize_deliveries(&ids, name, &fields, now, &mut allowed),
                    None => Err(Reason::MisuseArgument.into()),
                };
                let list: String = allowed.iter().map(|id| format!(" {:x}", id.as_u64())).collect();
                let outputs = format!("{}{list}", allowed.len());
                decided.map(|()| outputs).map_err(|refusal| (u32::from(refusal.reason.number()), "0".to_owned()))
            }
            Call::Poll { shard, room, event_size } => {
                self.poll(*shard, *room, *event_size).map_err(|reason| (no(reason).0, "0 0".to_owned()))
            }
            Call::Timeout { shard } if usize::from(*shard) < self.outboxes.len() => {
                Ok(self.timeout(engine.next_deadline(*shard)).to_string())
            }
            Call::Timeout { .. } => Err((no(Reason::MisuseArgument).0, "0".to_owned())),
            Call::Closed { connection } => yes(engine.closed(id(*connection), now)),
            Call::Touch { connection } => yes(engine.touch(id(*connection), now)),
            Call::Permit { connection, permissions } => {
                let Some(permissions) = arcs(permissions) else { return misuse() };
                let set = engine.set_permissions(id(*connection), &permissions, now);
                set.map(|_| String::new()).map_err(|refusal| no(refusal.reason))
            }
            Call::PermitSubject { issuer, subject, permissions } => match arcs(permissions) {
                Some(permissions) if !issuer.is_empty() && !subject.is_empty() => {
                    Ok(engine.set_subject_permissions(issuer, subject, &permissions, now).to_string())
                }
                _ => Err((no(Reason::MisuseArgument).0, "0".to_owned())),
            },
            Call::Identity { connection } => match engine.identity(id(*connection)) {
                Some(identity) => Ok(clean(identity_json(&identity).to_string().as_bytes())),
                None => Err(no(Reason::MisuseHandle)),
            },
            Call::Permissions { connection } => match engine.permissions(id(*connection)) {
                Some(permissions) => Ok(clean(list(&permissions).to_string().as_bytes())),
                None => Err(no(Reason::MisuseHandle)),
            },
            Call::Refresh { connection, token } => match engine.refresh(id(*connection), token, now) {
                Ok(Refreshed::Pending) => Err((10_005, nothing_refused(0))),
                Ok(Refreshed::Committed(_) | Refreshed::Unchanged) => Ok(nothing_refused(0)),
                Err(refusal) => self.decision(Err(Withheld::Refused(refusal))),
            },
            Call::RefreshSubject { token } => match engine.refresh_subject(token, now) {
                Ok(count) => Ok(count.to_string()),
                Err(refusal) => Err((no(refusal.reason).0, "0".to_owned())),
            },
            Call::Revoke { kind, connection, issuer, name, issued_before_s } => {
                match revocation(*kind, *connection, issuer, name, *issued_before_s) {
                    Some(what) => {
                        let revoked = engine.revoke(what, now);
                        let propagated = match revoked.propagated {
                            Propagated::Off => 0,
                            Propagated::Yes => 1,
                            Propagated::No => 2,
                        };
                        Ok(format!("{} {propagated}", revoked.closed))
                    }
                    None => Err((no(Reason::MisuseArgument).0, "0 0".to_owned())),
                }
            }
            Call::Ask => self.ask(),
            Call::Answer { id, given } => {
                let Some(answer) = answer(given) else { return misuse() };
                engine.answer(LookupId(*id), answer, now).map(|()| String::new()).map_err(no)
            }
            Call::LoadKeys { issuer, document } => {
                if engine.load_keys(issuer, document, now) {
                    Ok(String::new())
                } else {
                    Err(no(Reason::KeyUnknown))
                }
            }
            Call::Clock { wall_ms, mono_ms } => {
                let mono = MonoTime(ORIGIN_MS + mono_ms);
                if mono < now.mono {
                    return misuse();
                }
                self.now = Now { wall: WallTime(*wall_ms), mono };
                Ok(String::new())
            }
            Call::Reload { toml } => {
                let reloaded = Config::from_toml(toml, &NoSecretSource).and_then(|config| engine.reload(config, now));
                reloaded
                    .map(|()| String::new())
                    .map_err(|problem| (no(Reason::ConfigInvalid).0, clean(problem.to_string().as_bytes())))
            }
            Call::Audit => {
                let mut text = String::new();
                loop {
                    let events = engine.audit(64, now);
                    if events.is_empty() {
                        break Ok(clean(text.as_bytes()));
                    }
                    events.iter().for_each(|event| {
                        let _ = writeln!(text, "{}", event.to_json());
                    });
                }
            }
            Call::Metrics => Ok(clean(engine.metrics().as_bytes())),
            Call::Http { result, retry_after_ms } => {
                if matches!(result, 0 | 10_001..=10_005) {
                    return misuse();
                }
                // What nobody knows is a no.
                let known = Reason::ALL.iter().find(|reason| u32::from(reason.number()) == *result);
                let mut refusal = Refusal::from(known.copied().unwrap_or(Reason::FaultInternal));
                refusal.retry_after_ms = after(*retry_after_ms);
                Ok(clean(http(refusal).as_bytes()))
            }
        }
    }

    fn handshake(&mut self, upgrade: &Upgrade) -> Said {
        let admitted = with_upgrade(upgrade, |shown| self.engine.handshake(upgrade.shard, shown, self.now));
        match admitted {
            Ok(admitted) => {
                let connection = admitted.connection.as_u64();
                self.seen.push(Seen::Opened(connection, admitted.progress));
                let progress = match admitted.progress {
                    Progress::Live => 1,
                    Progress::Authenticating => 2,
                    Progress::AwaitingAuth => 3,
                };
                let subprotocol = admitted.subprotocol.unwrap_or_default();
                Ok(format!("{connection:x} {progress} {} {}", peer_side(None, 0), clean(subprotocol.as_bytes())))
            }
            Err(refusal) => {
                let shown = peer_side(Some(refusal), self.engine.close_code(refusal.reason));
                Err((no(refusal.reason).0, format!("0 0 {shown} ")))
            }
        }
    }

    /// NONE, HOLD, REPLY_QUEUED, CLOSE are 0 to 3.
    fn decision(&self, decided: Result<(), Withheld>) -> Said {
        let (refusal, action) = match decided {
            Ok(()) => return Ok(nothing_refused(0)),
            Err(Withheld::Consumed) => return Err((10_001, nothing_refused(2))),
            Err(Withheld::Hold) => return Err((10_002, nothing_refused(1))),
            Err(Withheld::Refused(refusal)) if refusal.reason.class() == Class::Misuse => (refusal, 0),
            Err(Withheld::Refused(refusal)) => (refusal, 2),
            Err(Withheld::Close(refusal)) => (refusal, 3),
        };
        let shown = peer_side(Some(refusal), self.engine.close_code(refusal.reason));
        Err((no(refusal.reason).0, format!("{action} {shown}")))
    }

    /// What does not fit waits for the next poll.
    fn poll(&mut self, shard: u8, room: usize, event_size: usize) -> Result<String, Reason> {
        if room == 0 || !(EVENT_BYTES..=1_024).contains(&event_size) {
            return Err(Reason::MisuseArgument);
        }
        let outbox = self.outboxes.get_mut(usize::from(shard)).ok_or(Reason::MisuseArgument)?;
        let mut fresh = Vec::new();
        let polled = self.engine.poll(shard, self.now, room.saturating_sub(outbox.len()), &mut fresh)?;
        outbox.extend(fresh);
        let taken: Vec<Event> = outbox.drain(..room.min(outbox.len())).collect();
        let more = polled.more || !outbox.is_empty();
        let timeout = if more { 0 } else { self.timeout(polled.next_deadline) };
        let mut line = format!("{} {timeout}", taken.len());
        for event in &taken {
            let connection = event.connection.as_u64();
            let (kind, refusal, code, text) = match &event.kind {
                EventKind::Send(text) => (1, None, 0, text.clone()),
                EventKind::Ready => {
                    self.seen.push(Seen::Ready(connection));
                    (2, None, 0, String::new())
                }
                EventKind::Refused { refusal, code } => (3, Some(refusal), *code, refusal.row().public.to_owned()),
                EventKind::PermissionsChanged(diff) => {
                    let text = json!({ "added": list(&diff.added), "removed": list(&diff.removed) });
                    (4, None, 0, text.to_string())
                }
                EventKind::Close { refusal, code } => (5, Some(refusal), *code, refusal.row().public.to_owned()),
            };
            if refusal.is_some() {
                self.seen.push(Seen::Ended(connection));
            }
            let (reason, retry) = refusal.map_or((0, 0), |r| (r.reason.number(), r.retry_after_ms.unwrap_or(0)));
            let _ = write!(line, " | {connection:x} {kind} {reason} {retry} {code} {}", clean(text.as_bytes()));
        }
        Ok(line)
    }

    fn timeout(&self, deadline: Option<MonoTime>) -> i32 {
        let left = |deadline: MonoTime| deadline.0.saturating_sub(self.now.mono.0);
        deadline.map_or(-1, |deadline| i32::try_from(left(deadline)).unwrap_or(i32::MAX))
    }

    fn ask(&mut self) -> Said {
        let Some(lookup) = self.engine.lookups(1, self.now).pop() else {
            return Err((10_004, "0 0 0   ".to_owned()));
        };
        let left = lookup.deadline.0.saturating_sub(self.now.mono.0);
        let nothing: &[u8] = &[];
        let (kind, issuer, about, url) = match &lookup.question {
            Question::Keys { issuer, url } => (1, &**issuer, nothing, &**url),
            Question::Introspection { issuer, token, url } => {
                (2, &**issuer, token.expose(), url.as_deref().unwrap_or(""))
            }
            Question::Session { id } => (3, "", id.expose(), ""),
            Question::Discovery { issuer, url } => (4, &**issuer, nothing, &**url),
            Question::Profile { issuer, subject, url } => {
                (5, &**issuer, subject.as_bytes(), url.as_deref().unwrap_or(""))
            }
        };
        let [issuer, about, url] = [issuer.as_bytes(), about, url.as_bytes()].map(clean);
        let line = format!("{} {kind} {left} {issuer} {about} {url}", lookup.id.0);
        self.seen.push(Seen::Asked(lookup));
        Ok(line)
    }
}

fn yes(done: bool) -> Said {
    if done { Ok(String::new()) } else { Err(no(Reason::MisuseHandle)) }
}

fn after(ms: u32) -> Option<u32> {
    Some(ms).filter(|ms| *ms > 0)
}

fn nothing_refused(action: u32) -> String {
    format!("{action} {}", peer_side(None, 0))
}

/// Delay, HTTP status, close code, public name, client's action.
fn peer_side(refusal: Option<Refusal>, code: u16) -> String {
    let Some(refusal) = refusal else { return "0 0 0  ".to_owned() };
    let row = refusal.reason.row();
    format!("{} {} {code} {} {}", refusal.retry_after_ms.unwrap_or(0), row.http, row.public, row.action.name())
}

fn with_upgrade<T>(upgrade: &Upgrade, see: impl FnOnce(&wsauth::request::Upgrade<'_>) -> T) -> T {
    let headers: Vec<Header<'_>> =
        upgrade.headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect();
    let peer = match upgrade.socket {
        Socket::Text(address) | Socket::System(address) => Peer::Ip(address),
        Socket::Unix => Peer::Unix,
        Socket::Unknown => Peer::Unknown,
    };
    let (method, target) = (upgrade.method.as_bytes(), upgrade.target.as_bytes());
    see(&wsauth::request::Upgrade { method, target, headers: &headers, peer })
}

fn named<'a>(name: &'a [u8], fields: &'a Fields) -> Option<(&'a str, Vec<(&'a str, &'a str)>)> {
    let name = std::str::from_utf8(name).ok().filter(|_| fields.len() <= 32)?;
    Some((name, fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()))
}

fn arcs(names: &[String]) -> Option<Vec<Arc<str>>> {
    (names.len() <= 256).then(|| names.iter().map(|name| Arc::from(name.as_str())).collect())
}

fn list(names: &[Arc<str>]) -> Value {
    names.iter().map(|name| &**name).collect()
}

fn revocation<'a>(kind: u32, connection: u64, issuer: &'a str, name: &'a str, before: u64) -> Option<Revocation<'a>> {
    let issued_before = Some(before).filter(|seconds| *seconds > 0);
    match (kind, issuer.is_empty(), name.is_empty()) {
        (1, ..) if connection != 0 => Some(Revocation::Connection(id(connection))),
        (2, false, false) => Some(Revocation::Token { issuer, token_id: name }),
        (3, false, false) => Some(Revocation::Session { issuer, session_id: name }),
        (4, false, false) => Some(Revocation::Subject { issuer, subject: name, issued_before }),
        (5, false, true) => Some(Revocation::Issuer { issuer, issued_before }),
        (6, false, false) => Some(Revocation::Key { issuer, key_id: name }),
        _ => None,
    }
}

fn answer(given: &Given) -> Option<Answer> {
    let optional = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    match given.kind {
        1 => Some(Answer::Keys(given.document.clone())),
        2 => {
            let claims = members(&given.claims)?;
            let permissions = Some(given.permissions.clone()).filter(|list| list.len() <= 256)?;
            Some(Answer::Vouched(Box::new(Vouched {
                subject: given.subject.clone(),
                expiry: WallTime(given.expires_at_ms),
                issued_at: Some(given.issued_at_s).filter(|seconds| *seconds > 0),
                token_id: optional(&given.token_id),
                session_id: optional(&given.session_id),
                client_id: optional(&given.client_id),
                tenant: optional(&given.tenant),
                permissions,
                claims,
            })))
        }
        3 => Some(Answer::Inactive),
        4 => Some(Answer::Unavailable { retry_after_ms: after(given.retry_after_ms) }),
        5 => {
            let status = Some(given.status).filter(|status| *status >= 100 && *status < 1_000)?;
            let content_type = String::from_utf8_lossy(&given.content_type).into_owned();
            Some(Answer::Response(Box::new(HttpResponse {
                status: u16::try_from(status).ok()?,
                content_type: (!content_type.is_empty()).then_some(content_type),
                retry_after_ms: after(given.retry_after_ms),
                body: given.document.clone(),
            })))
        }
        6 => Some(Answer::Profile(Box::new(members(&given.claims)?))),
        _ => None,
    }
}

fn members(text: &str) -> Option<serde_json::Map<String, Value>> {
    match text {
        "" => Some(serde_json::Map::new()),
        text => serde_json::from_str::<Value>(text).ok()?.as_object().cloned(),
    }
}

fn identity_json(identity: &Identity) -> Value {
    let source = match identity.source {
        CredentialSource::Authorization => "authorization",
        CredentialSource::Cookie => "cookie",
        CredentialSource::Subprotocol => "subprotocol",
        CredentialSource::Query => "query",
        CredentialSource::Ticket => "ticket",
        CredentialSource::FirstMessage => "first_message",
    };
    json!({
        "issuer": &*identity.issuer, "subject": &*identity.subject, "source": source,
        "token_id": identity.token_id.as_deref(), "session_id": identity.session_id.as_deref(),
        "client_id": identity.client_id.as_deref(), "tenant": identity.tenant.as_deref(),
        "confirmation": identity.confirmation.as_deref(), "key_id": identity.key_id.as_deref(),
        "issued_at": identity.issued_at, "expires_at": identity.expiry.0 / 1000,
        "permissions": list(&identity.permissions), "claims": identity.claims,
    })
}

fn explain(steps: &[wsauth::Step]) -> String {
    let steps: Vec<Value> = steps
        .iter()
        .map(|step| {
            let (outcome, reason) = match step.outcome {
                Outcome::Passed => ("passed", None),
                Outcome::NeedsLookup => ("needs_lookup", None),
                Outcome::Refused(refusal) => ("refused", Some(refusal.reason)),
            };
            let code = reason.map_or(0, Reason::number);
            let reason = reason.map(Reason::name);
            json!({ "step": step.name, "outcome": outcome, "reason": reason, "code": code, "detail": step.detail })
        })
        .collect();
    clean(json!(steps).to_string().as_bytes())
}

fn http(refusal: Refusal) -> String {
    let response = refusal.http_response();
    let phrase = match response.status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    };
    let mut text = format!("HTTP/1.1 {} {phrase}\r\n", response.status);
    for (name, value) in &response.headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let _ = write!(text, "Content-Length: {}\r\nConnection: close\r\n\r\n{}", response.body.len(), response.body);
    text
}

/// Printable ASCII as it is, everything else in hexadecimal: one line stays one line.
fn clean(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b'!'..=b'$' | b'&'..=b'~' => text.push(char::from(*byte)),
            _ => {
                let _ = write!(text, "%{byte:02x}");
            }
        }
    }
    text
}
