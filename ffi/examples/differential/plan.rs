//! This file answers: what is called next?
//!
//! A random walk from a seed. It looks at what Rust said, so that most calls are about what exists: open connections,
//! their subjects, questions that are out.

use std::collections::VecDeque;

use serde_json::json;
use wsauth::Progress;
use wsauth::lookup::{Lookup, Question};

use crate::call::{Call, Fields, Given, Socket, Upgrade};
use crate::configs::{self, LOCAL, OPAQUE, REMOTE, SHARDS};
use crate::random::Random;
use crate::tokens::{self, Tokens};
use crate::twin::Seen;

/// So many connections are aimed at.
const OPEN: usize = 150;
const SUBJECTS: u64 = 16;
const WORDS: [&str; 8] =
    ["chat:read", "chat:write", "chat:admin", "room:7:join", "room:8:join", "room:*:join", "user:s1:read", "a b"];
const TYPES: [&str; 9] =
    ["ping", "chat.send", "room.join", "inbox.read", "report", "blob", "nothing", "auth_success", ""];
const DELIVERIES: [&str; 5] = ["chat.message", "room.event", "news", "nothing", ""];
/// JSON of a `room`, most of it none.
const ROOMS: [&str; 10] = ["7", "8", "9", "\"7\"", "\"8\"", "\"*\"", "\"7:join\"", "null", "7.0", "[7]"];

/// A connection as the server sees it.
struct Peer {
    connection: u64,
    subject: String,
    session: Option<String>,
    issuer: &'static str,
    silent: bool,
}

/// The walk.
pub(crate) struct Plan {
    random: Random,
    tokens: Tokens,
    wall_ms: u64,
    mono_ms: u64,
    peers: Vec<Peer>,
    /// Whose handshake the last call was.
    entering: Option<(String, Option<String>, &'static str)>,
    ended: VecDeque<u64>,
    gone: VecDeque<u64>,
    asked: VecDeque<Lookup>,
}

impl Plan {
    pub(crate) fn new(seed: u64, wall_ms: u64) -> Plan {
        Plan {
            random: Random::new(seed),
            tokens: Tokens::default(),
            wall_ms,
            mono_ms: 0,
            peers: Vec::new(),
            entering: None,
            ended: VecDeque::new(),
            gone: VecDeque::new(),
            asked: VecDeque::new(),
        }
    }

    /// Learns from what Rust said to the last call.
    pub(crate) fn learn(&mut self, seen: Vec<Seen>) {
        for seen in seen {
            match seen {
                Seen::Opened(connection, progress) => {
                    let (subject, session, issuer) = self.entering.take().unwrap_or_default();
                    let silent = progress == Progress::AwaitingAuth;
                    self.peers.push(Peer { connection, subject, session, issuer, silent });
                }
                Seen::Ready(connection) => {
                    if let Some(peer) = self.peers.iter_mut().find(|peer| peer.connection == connection) {
                        peer.silent = false;
                    }
                }
                Seen::Ended(connection) => self.ended.push_back(connection),
                Seen::Asked(lookup) => self.asked.push_back(lookup),
            }
        }
        self.asked.truncate(50);
        self.gone.truncate(100);
    }

    /// The next call.
    pub(crate) fn next(&mut self) -> Call {
        self.entering = None;
        if !self.ended.is_empty() && self.random.one_in(2) {
            // Now and then a server forgets.
            let connection = self.ended.pop_front().unwrap_or_default();
            if !self.random.one_in(12) {
                return self.closed(connection);
            }
            self.forget(connection);
        }
        let few = self.peers.len() < OPEN;
        match self.random.below(1000) {
            0..100 => Call::Handshake(self.upgrade()),
            100..130 if few => Call::Handshake(self.upgrade()),
            100..130 => {
                let connection = self.random.of(&self.peers).map_or(0, |peer| peer.connection);
                self.closed(connection)
            }
            130..300 => self.message(),
            300..360 => {
                let name = self.name(&TYPES);
                Call::Authorize { connection: self.connection(), name, fields: self.fields() }
            }
            360..430 => {
                let name = self.name(&DELIVERIES);
                Call::Deliver { connection: self.connection(), name, fields: self.fields() }
            }
            430..450 => {
                let connections = (0..self.random.below(60)).map(|_| self.connection()).collect();
                let name = self.name(&DELIVERIES);
                Call::DeliverMany { connections, name, fields: self.fields() }
            }
            450..550 => self.poll(),
            550..555 => Call::Timeout { shard: self.shard() },
            555..565 => self.close_any(),
            565..580 => Call::Touch { connection: self.connection() },
            580..605 => Call::Permit { connection: self.connection(), permissions: self.permissions() },
            605..615 => {
                let (issuer, subject, _) = self.whom();
                Call::PermitSubject { issuer, subject, permissions: self.permissions() }
            }
            615..630 => Call::Identity { connection: self.connection() },
            630..645 => Call::Permissions { connection: self.connection() },
            645..720 => {
                let (connection, token) = self.fresh_token();
                Call::Refresh { connection, token: token.into_bytes() }
            }
            720..735 => Call::RefreshSubject { token: self.fresh_token().1.into_bytes() },
            735..743 => self.revoke(),
            743..815 => Call::Ask,
            815..865 => self.answer(),
            865..867 => {
                let issuer = if self.random.one_in(3) { LOCAL } else { REMOTE };
                Call::LoadKeys { issuer: issuer.to_owned(), document: self.document() }
            }
            867..960 => self.clock(),
            960..961 => {
                let which = self.random.below(12) as usize;
                let toml = if self.random.one_in(2) { configs::bad(which) } else { configs::good(which) };
                Call::Reload { toml }
            }
            961..975 => Call::Audit,
            975..978 => Call::Metrics,
            978..988 => Call::Explain(self.upgrade()),
            _ => {
                let result = match self.random.below(10) {
                    0 => self.random.below(5),
                    1 => 10_001 + self.random.below(5),
                    2 => self.random.next(),
                    _ => 11_000 + 1_000 * self.random.below(8) + self.random.below(40),
                };
                let retry_after_ms = [0, 1, 1_500, u32::MAX][self.random.below(4) as usize];
                Call::Http { result: result as u32, retry_after_ms }
            }
        }
    }

    fn forget(&mut self, connection: u64) {
        self.peers.retain(|peer| peer.connection != connection);
        self.gone.push_front(connection);
    }

    fn closed(&mut self, connection: u64) -> Call {
        self.forget(connection);
        Call::Closed { connection }
    }

    fn close_any(&mut self) -> Call {
        let connection = self.connection();
        self.closed(connection)
    }

    fn shard(&mut self) -> u8 {
        match self.random.below(200) {
            0 => SHARDS,
            1 => 255,
            n => (n % u64::from(SHARDS)) as u8,
        }
    }

    /// An open one; sometimes one that is gone, or never was.
    fn connection(&mut self) -> u64 {
        let open = self.random.of(&self.peers).map_or(0, |peer| peer.connection);
        match self.random.below(100) {
            0 => self.random.next(),
            1 => open ^ (1 << self.random.below(64)),
            2 => self.random.below(3),
            3..9 => self.random.of(self.gone.make_contiguous()).copied().unwrap_or(0),
            _ => open,
        }
    }

    /// An issuer, a subject and a session: mostly of a connection.
    fn whom(&mut self) -> (String, String, String) {
        let other = |text: &str| text.to_owned();
        match (self.random.below(20), self.random.of(&self.peers)) {
            (0, _) => (other(LOCAL), String::new(), String::new()),
            (1, _) => (String::new(), other("s1"), other("x1")),
            (2, _) => (other("https://nobody.example.com"), other("s1"), other("x1")),
            (3, _) | (_, None) => (other(LOCAL), other("nobody"), other("nothing")),
            (_, Some(peer)) => (other(peer.issuer), peer.subject.clone(), peer.session.clone().unwrap_or_default()),
        }
    }

    fn permissions(&mut self) -> Vec<String> {
        match self.random.below(40) {
            0 => (0..257).map(|n| format!("p:{n}")).collect(),
            1 => vec!["**".to_owned(), "chat:**".to_owned()],
            _ => (0..self.random.below(6)).map(|_| self.random.pick(&WORDS).to_string()).collect(),
        }
    }

    fn name(&mut self, names: &[&str]) -> Vec<u8> {
        if self.random.one_in(60) { b"\xff\xfe".to_vec() } else { self.random.pick(names).as_bytes().to_vec() }
    }

    fn fields(&mut self) -> Fields {
        match self.random.below(12) {
            0..4 => Vec::new(),
            4 => vec![("room".to_owned(), "7".to_owned()), ("room".to_owned(), "8".to_owned())],
            5 if self.random.one_in(10) => (0..33).map(|n| (format!("f{n}"), "7".to_owned())).collect(),
            _ => {
                let room = self.random.pick(&["7", "8", "9", "*", "7:join", "", "a b", "09", "room"]).to_string();
                vec![("other".to_owned(), "x".to_owned()), ("room".to_owned(), room)]
            }
        }
    }

    fn message(&mut self) -> Call {
        let connection = self.connection();
        let silent = self.peers.iter().any(|peer| peer.connection == connection && peer.silent);
        let kind = match self.random.below(60) {
            0 => self.random.below(5) as u32,
            1..3 => 2,
            _ => 1,
        };
        let choice = if silent && !self.random.one_in(4) { 0 } else { self.random.below(40) };
        let data = match choice {
            0 => {
                let source = self.source();
                let token = self.tokens.any(&mut self.random, self.wall_ms, &source.0, source.1.as_deref(), LOCAL);
                json!({ "type": "auth", "token": token }).to_string()
            }
            1..5 => {
                let token = self.token_of(connection);
                json!({ "type": "token_refresh", "token": token }).to_string()
            }
            5 => "{\"type\":\"chat.send\",\"type\":\"ping\"}".to_owned(),
            6 => "{\"type\":\"ping\"".to_owned(),
            7 => format!("{{\"type\":\"ping\",\"x\":{}{}}}", "[".repeat(40), "]".repeat(40)),
            8 => "{\"type\":\"chat.send\",\"Type\":\"ping\"}".to_owned(),
            9 => self
                .random
                .pick(&["", "[]", "null", "7", "{}", "{\"type\":7}", "{\"type\":\"token_refresh\"}"])
                .to_string(),
            10 if self.random.one_in(20) => format!("{{\"type\":\"ping\",\"x\":\"{}\"}}", "x".repeat(70_000)),
            11 => return Call::Message { connection, kind, data: b"{\"type\":\"p\xffng\"}".to_vec() },
            _ => {
                let (name, room) = (self.random.pick(&TYPES), self.random.pick(&ROOMS));
                match self.random.below(8) {
                    0 => format!("{{\"room\":{room},\"type\":\"{name}\",\"room\":8}}"),
                    1..4 => format!("{{\"type\":\"{name}\"}}"),
                    _ => format!("{{\"type\":\"{name}\",\"room\":{room},\"text\":\"hello\"}}"),
                }
            }
        };
        Call::Message { connection, kind, data: data.into_bytes() }
    }

    fn poll(&mut self) -> Call {
        let room = match self.random.below(20) {
            0 => 0,
            1..5 => 1 + self.random.below(3) as usize,
            _ => 64,
        };
        let event_size = *self.random.pick(&[40, 40, 40, 40, 40, 48, 41, 1_024, 39, 1_025]);
        Call::Poll { shard: self.shard(), room, event_size }
    }

    /// A subject and a session.
    fn source(&mut self) -> (String, Option<String>) {
        let n = self.random.below(SUBJECTS);
        let session = self.random.one_in(3).then(|| format!("x{}", self.random.below(40)));
        (format!("s{n}"), session)
    }

    /// A token for what a connection is, or nearly.
    fn token_of(&mut self, connection: u64) -> String {
        let found = self.peers.iter().find(|peer| peer.connection == connection);
        let (subject, session, issuer) = match found {
            Some(peer) if !self.random.one_in(10) => (peer.subject.clone(), peer.session.clone(), peer.issuer),
            _ => {
                let (subject, session) = self.source();
                (subject, session, LOCAL)
            }
        };
        self.tokens.any(&mut self.random, self.wall_ms, &subject, session.as_deref(), issuer)
    }

    fn fresh_token(&mut self) -> (u64, String) {
        let connection = self.connection();
        (connection, self.token_of(connection))
    }

    fn revoke(&mut self) -> Call {
        let kind = match self.random.below(60) {
            0 => self.random.below(9) as u32,
            1 if self.random.one_in(8) => 5,
            2..4 => 6,
            4..12 => 4,
            12..24 => 3,
            24..40 => 2,
            _ => 1,
        };
        let (issuer, subject, session) = self.whom();
        let now = self.wall_ms / 1000;
        let issued_before_s = *self.random.pick(&[now - 10, now - 60, now - 600, 0, now, now + 2]);
        let name = match kind {
            2 => self.tokens.recent_id(&mut self.random),
            3 => session,
            4 => subject,
            // A key's rule holds for as long as any token lives: mostly one that is not used.
            6 if self.random.one_in(40) => "k2".to_owned(),
            6 => "k9".to_owned(),
            5 if self.random.one_in(3) => subject,
            _ => String::new(),
        };
        Call::Revoke { kind, connection: self.connection(), issuer, name, issued_before_s }
    }

    fn answer(&mut self) -> Call {
        let lookup = if self.random.one_in(15) { None } else { self.asked.pop_front() };
        let Some(lookup) = lookup else {
            let id = self.random.below(3) * self.random.below(100_000);
            return Call::Answer {
                id,
                given: Box::new(Given { kind: self.random.below(8) as u32, ..Given::default() }),
            };
        };
        let mut given = Given { retry_after_ms: *self.random.pick(&[0, 700]), ..Given::default() };
        given.kind = match (self.random.below(10), &lookup.question) {
            (0, _) => 4,
            (1, _) => self.random.below(8) as u32,
            (2, _) => 3,
            (3..6, Question::Keys { .. }) => 1,
            (_, Question::Keys { .. } | Question::Discovery { .. }) => 5,
            (_, Question::Introspection { url: Some(_), .. } | Question::Profile { url: Some(_), .. }) => 5,
            (_, Question::Profile { .. }) => 6,
            _ => 2,
        };
        let about = match &lookup.question {
            Question::Discovery { .. } | Question::Keys { .. } | Question::Profile { .. } => "",
            Question::Introspection { token: about, .. } | Question::Session { id: about } => {
                std::str::from_utf8(about.expose()).unwrap_or("")
            }
        };
        // `o-s3-x1-…` is the token or session of s3 in x1.
        let mut parts = about.split('-').skip(1);
        given.subject = parts.next().unwrap_or_default().to_owned();
        if self.random.one_in(30) {
            given.subject = self.random.pick(&["", "a\u{7}b", "someone"]).to_string();
        }
        given.session_id = parts.next().filter(|session| *session != "0").unwrap_or_default().to_owned();
        given.expires_at_ms = self.wall_ms + tokens::life(&mut self.random) * 1_000;
        given.issued_at_s = *self.random.pick(&[0, self.wall_ms / 1000]);
        if self.random.one_in(4) {
            given.token_id = about.chars().take(12).collect();
            given.tenant = "t1".to_owned();
            given.client_id = "c1".to_owned();
        }
        given.permissions = self.permissions();
        given.claims = self.random.pick(&["", "", "{\"plan\":\"pro\"}", "[]", "{"]).to_string();
        self.respond(&lookup.question, &mut given);
        // A question may be answered twice.
        let id = lookup.id.0;
        if self.random.one_in(10) {
            self.asked.push_back(lookup);
        }
        Call::Answer { id, given: Box::new(given) }
    }

    /// What an HTTP source would have answered: the facts of `given` as it writes them, or something else.
    fn respond(&mut self, question: &Question, given: &mut Given) {
        given.status = match self.random.below(20) {
            0 => *self.random.pick(&[0, 99, 1_000, 65_736]),
            1..4 => *self.random.pick(&[302, 400, 401, 404, 429, 500, 503]),
            _ => 200,
        };
        let types: [&[u8]; 5] =
            [b"", b"text/html", b"application/json; charset=utf-8", b"\xff", b"application/token-introspection+jwt"];
        given.content_type =
            if self.random.one_in(6) { self.random.pick(&types).to_vec() } else { b"application/json".to_vec() };
        let seconds = given.expires_at_ms / 1_000;
        let body = match question {
            Question::Keys { .. } => {
                given.document = self.document();
                return;
            }
            Question::Discovery { .. } => json!({ "issuer": REMOTE, "jwks_uri": "https://keys.example.com/jwks" }),
            Question::Introspection { .. } => json!({
                "active": self.random.pick(&[json!(true), json!(true), json!(true), json!(false), json!("true")]),
                "iss": self.random.pick(&[OPAQUE, OPAQUE, OPAQUE, LOCAL]),
                "aud": self.random.pick(&["live", "live", "live", "other"]),
                "sub": given.subject, "exp": seconds, "sid": given.session_id, "iat": given.issued_at_s,
                "scope": given.permissions.join(" "), "client_id": "c1",
            }),
            Question::Session { .. } | Question::Profile { .. } => {
                json!({ "permissions": given.permissions, "plan": "pro", "more": { "deep": [1] } })
            }
        };
        given.document = body.to_string().into_bytes();
        if matches!(question, Question::Profile { .. }) && !self.random.one_in(4) {
            given.claims = body.to_string();
        }
        if self.random.one_in(20) {
            let short = self.random.below(given.document.len() as u64) as usize;
            given.document.truncate(short);
        }
    }

    fn document(&mut self) -> Vec<u8> {
        let all = [tokens::KEY_SET, tokens::KEY_SET, tokens::KEY_SET, "{\"keys\":[]}", "{", ""];
        self.random.pick(&all).as_bytes().to_vec()
    }

    fn clock(&mut self) -> Call {
        let by = match self.random.below(1_000) {
            0 if self.random.one_in(10) => 3_600_000,
            1..4 => self.random.below(300_000),
            4..40 => self.random.below(10_000),
            40..300 => self.random.below(1_000),
            _ => self.random.below(60),
        };
        if self.random.one_in(100) && self.mono_ms > 0 {
            // Refused, and nothing changes.
            return Call::Clock { wall_ms: self.wall_ms, mono_ms: self.random.below(self.mono_ms) };
        }
        self.mono_ms += by;
        self.wall_ms += by;
        match self.random.below(150) {
            0 => self.wall_ms += self.random.below(120_000),
            1 => self.wall_ms -= self.random.below(120_000),
            _ => {}
        }
        Call::Clock { wall_ms: self.wall_ms, mono_ms: self.mono_ms }
    }

    fn upgrade(&mut self) -> Upgrade {
        let fixed = [
            ("Upgrade", "websocket"),
            ("Connection", "keep-alive, Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let mut headers: Vec<(&'static str, String)> = fixed.map(|(name, value)| (name, value.to_owned())).into();
        headers.push(("Host", "live.example.com".to_owned()));
        if self.random.one_in(100) {
            let _ = headers.remove(self.random.below(5) as usize);
        }
        match self.random.below(40) {
            0 => headers.push(("Origin", "https://evil.example.net".to_owned())),
            1 => headers.push(("origin", "null".to_owned())),
            2..5 => {}
            5 => headers.push(("Origin", "https://7.agents.example.com".to_owned())),
            n => {
                headers.push(("Origin", "https://app.example.com".to_owned()));
                if n == 6 {
                    headers.push(("Origin", "https://app.example.com".to_owned()));
                }
            }
        }
        let mut target = self.random.pick(&["/ws", "/ws", "/ws", "/live", "/live?room=7", "/other", "ws"]).to_string();
        if !self.random.one_in(20) && !target.starts_with("/live") {
            target = "/ws".to_owned();
        }
        let (subject, session) = self.source();
        self.entering = Some((subject.clone(), session.clone(), LOCAL));
        let serial = self.random.below(2_000);
        let elsewhere = format!("o-{subject}-{}-{serial}", session.as_deref().unwrap_or("0"));
        let mut protocols = self.random.one_in(3).then(|| "chat.v2, chat.v1".to_owned());
        let choice = self.random.below(40);
        match choice {
            0..3 => {}
            3..6 => {
                let issuer = REMOTE;
                let token = self.tokens.any(&mut self.random, self.wall_ms, &subject, session.as_deref(), issuer);
                headers.push(("Authorization", format!("Bearer {token}")));
                self.entering = Some((subject, session, issuer));
            }
            6..9 => {
                headers.push(("authorization", format!("bearer {elsewhere}")));
                self.entering = Some((subject, session, OPAQUE));
            }
            9..12 => {
                headers.push(("Cookie", format!("a=b; __Host-ws={elsewhere}")));
                self.entering = Some((subject, session, "session"));
            }
            _ => {
                let token = self.tokens.any(&mut self.random, self.wall_ms, &subject, session.as_deref(), LOCAL);
                match choice {
                    12..16 => {
                        protocols = Some(format!("chat.v1, wsauth.bearer.{}", tokens::base64url(token.as_bytes())))
                    }
                    16 => target = format!("/ws?access_token={token}"),
                    17 => {
                        headers.push(("Authorization", format!("Bearer {token}")));
                        headers.push(("Cookie", format!("__Host-ws={elsewhere}")));
                    }
                    18 => headers
                        .push(("Authorization", self.random.pick(&["Basic YTpi", "Bearer", "Bearer a b"]).to_string())),
                    _ => headers.push(("Authorization", format!("Bearer {token}"))),
                }
            }
        }
        if let Some(protocols) = protocols {
            headers.push(("Sec-WebSocket-Protocol", protocols));
        }
        let socket = self.socket(&mut headers);
        let method = if self.random.one_in(200) { "POST" } else { "GET" };
        Upgrade { shard: self.shard(), method, target, headers, socket }
    }

    fn socket(&mut self, headers: &mut Vec<(&'static str, String)>) -> Socket {
        let n = self.random.below(24);
        let v4 = |net: &str| format!("{net}.{n}").parse().expect("an address");
        match self.random.below(40) {
            0 => Socket::Unknown,
            1 => Socket::Unix,
            2 => Socket::Text(v4("198.51.100")),
            3..6 => Socket::System(v4("192.0.2")),
            6..10 => Socket::Text(format!("2001:db8::{n:x}:1").parse().expect("an address")),
            10 => Socket::System(format!("2001:db8::{n:x}:1").parse().expect("an address")),
            11..16 => {
                if !self.random.one_in(8) {
                    let hops = self.random.pick(&["10.1.2.3", "junk", "203.0.113.9", "203.0.113.10", "2001:db8:7::1"]);
                    headers.push(("X-Forwarded-For", format!("203.0.113.{n}, {hops}")));
                }
                Socket::Text("10.0.0.1".parse().expect("an address"))
            }
            _ => Socket::Text(v4("192.0.2")),
        }
    }
}
