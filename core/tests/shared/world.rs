//! This file answers: how does a test play a server whose clock it owns?

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value as Json, json};
use wsauth::audit::{AuditEvent, AuditKind};
use wsauth::config::{Config, ConfigProblem, NoSecretSource};
use wsauth::lookup::{Lookup, LookupId, Vouched};
use wsauth::time::{Now, WallTime};
use wsauth::{ConnectionId, Delivered, Engine, EventKind, Payload, Progress, Reason, Refusal, Withheld};

use super::{AUDIENCE, ISSUER, Request, SECRET, config, engine, tree};

/// The wall clock at which every world begins, in seconds.
pub(crate) const START: u64 = 1_800_000_000;

/// One server: an engine, the time, and what each peer was sent.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now: Now,
    inboxes: BTreeMap<ConnectionId, Vec<EventKind>>,
}

impl World {
    /// A world of the usual configuration with `more` merged over its top level.
    pub(crate) fn new(more: Json) -> World {
        World::of(&config(more))
    }

    /// A world of a whole configuration.
    pub(crate) fn of(config: &Json) -> World {
        let engine = engine(config).unwrap();
        World { engine, now: Now::new(START * 1000, 1_000_000), inboxes: BTreeMap::new() }
    }

    pub(crate) fn reload(&self, config: &Json) -> Result<(), ConfigProblem> {
        self.engine.reload(Config::from_tree(&tree(config), &NoSecretSource)?, self.now)
    }

    /// Both clocks go on; nobody polls.
    pub(crate) fn advance_ms(&mut self, ms: u64) {
        self.now = Now::new(self.now.wall.0 + ms, self.now.mono.0 + ms);
    }

    /// Somebody sets the wall clock.
    pub(crate) fn step_wall(&mut self, ms: i64) {
        self.now.wall = WallTime(self.now.wall.0.saturating_add_signed(ms));
    }

    /// Sleeps until the engine wants to be polled, and polls. False when it never does.
    pub(crate) fn advance_to_next_deadline(&mut self) -> bool {
        let Some(next) = self.engine.next_deadline(0) else { return false };
        self.advance_ms(next.since(self.now.mono));
        self.poll();
        true
    }

    /// Lives through `ms` as a server does: asleep until each deadline.
    pub(crate) fn run_ms(&mut self, ms: u64) {
        let end = self.now.mono.plus(ms);
        self.poll();
        while let Some(next) = self.engine.next_deadline(0).filter(|next| *next <= end) {
            self.advance_ms(next.since(self.now.mono));
            self.poll();
        }
        self.advance_ms(end.since(self.now.mono));
        self.poll();
    }

    /// Polls until nothing is left; events go to the inboxes. Returns how many came.
    pub(crate) fn poll(&mut self) -> usize {
        let mut events = Vec::new();
        let mut rounds = 0;
        while self.engine.poll(0, self.now, usize::MAX, &mut events).unwrap().more {
            rounds += 1;
            assert!(rounds < 10_000, "the engine wants to be polled for ever");
        }
        let count = events.len();
        for event in events {
            let inbox = self.inboxes.entry(event.connection).or_default();
            let over = inbox.iter().any(|kind| matches!(kind, EventKind::Close { .. } | EventKind::Refused { .. }));
            assert!(!over, "an event after the end: {event:?}");
            inbox.push(event.kind);
        }
        count
    }

    /// Everything a connection was sent since it was last asked; polls first.
    pub(crate) fn take(&mut self, id: ConnectionId) -> Vec<EventKind> {
        self.poll();
        self.inboxes.get_mut(&id).map(std::mem::take).unwrap_or_default()
    }

    /// The texts among [`take`](Self::take).
    pub(crate) fn texts(&mut self, id: ConnectionId) -> Vec<Json> {
        let texts = self.take(id).into_iter().filter_map(|kind| match kind {
            EventKind::Send(text) => Some(serde_json::from_str(&text).unwrap()),
            _ => None,
        });
        texts.collect()
    }

    /// The types of the texts.
    pub(crate) fn types(&mut self, id: ConnectionId) -> Vec<String> {
        self.texts(id).iter().map(|text| text["type"].as_str().unwrap().to_owned()).collect()
    }

    /// The end a connection was told, if it was.
    pub(crate) fn end(&mut self, id: ConnectionId) -> Option<(Reason, u16)> {
        self.take(id).into_iter().find_map(|kind| match kind {
            EventKind::Close { refusal, code } | EventKind::Refused { refusal, code } => Some((refusal.reason, code)),
            _ => None,
        })
    }

    pub(crate) fn connect(&self, token: &str) -> Result<ConnectionId, Refusal> {
        Request::new().bearer(token).send(&self.engine, self.now).map(|admitted| admitted.connection)
    }

    /// A subject with a token of so many seconds, live.
    pub(crate) fn live(&self, subject: &str, seconds: u64) -> ConnectionId {
        self.connect(&self.token(subject, seconds, json!({}))).unwrap()
    }

    /// A connection that must authenticate by its first message.
    pub(crate) fn stranger(&self) -> Result<ConnectionId, Refusal> {
        let admitted = Request::new().send(&self.engine, self.now)?;
        assert_eq!(admitted.progress, Progress::AwaitingAuth);
        Ok(admitted.connection)
    }

    /// A token that is issued now and lives `seconds`.
    pub(crate) fn token(&self, subject: &str, seconds: u64, more: Json) -> String {
        super::token(&self.claims(subject, seconds, more))
    }

    /// Its claims.
    pub(crate) fn claims(&self, subject: &str, seconds: u64, more: Json) -> Json {
        let wall = self.now.wall.as_secs();
        let mut claims = json!({ "sub": subject, "iat": wall, "exp": wall + seconds });
        for (key, value) in more.as_object().unwrap() {
            claims[key] = value.clone();
        }
        claims
    }

    pub(crate) fn say(&self, id: ConnectionId, text: &str) -> Result<Delivered, Withheld> {
        self.engine.message(id, Payload::Text(text.as_bytes()), self.now)
    }

    /// Whether a message of a type without fields is delivered.
    pub(crate) fn may_say(&self, id: ConnectionId, message_type: &str) -> bool {
        self.say(id, &json!({ "type": message_type }).to_string()).is_ok()
    }

    /// Why a text is withheld.
    pub(crate) fn refusal(&self, id: ConnectionId, text: &str) -> Option<Reason> {
        self.say(id, text).unwrap_err().refusal().map(|refusal| refusal.reason)
    }

    pub(crate) fn refresh(&self, id: ConnectionId, token: &str) -> Result<wsauth::Refreshed, Reason> {
        self.engine.refresh(id, token.as_bytes(), self.now).map_err(|refusal| refusal.reason)
    }

    /// The questions that wait.
    pub(crate) fn lookups(&self) -> Vec<Lookup> {
        self.engine.lookups(1_000, self.now)
    }

    /// The only question that waits.
    pub(crate) fn lookup(&self) -> LookupId {
        let lookups = self.lookups();
        assert_eq!(lookups.len(), 1, "{lookups:?}");
        lookups[0].id
    }

    /// A source's good word for `seconds`.
    pub(crate) fn vouched(&self, subject: &str, seconds: u64) -> Vouched {
        Vouched {
            subject: subject.to_owned(),
            expiry: self.now.wall.plus(seconds * 1000),
            issued_at: Some(self.now.wall.as_secs()),
            token_id: None,
            session_id: None,
            client_id: None,
            tenant: None,
            permissions: Vec::new(),
            claims: serde_json::Map::new(),
        }
    }

    pub(crate) fn close(&mut self, id: ConnectionId) -> bool {
        self.inboxes.remove(&id);
        self.engine.closed(id, self.now)
    }

    /// The audit so far.
    pub(crate) fn audit(&self) -> Vec<AuditEvent> {
        self.engine.audit(usize::MAX, self.now)
    }

    /// Kind and reason of each audit event so far.
    pub(crate) fn trail(&self) -> Vec<(AuditKind, Option<Reason>)> {
        self.audit().into_iter().map(|event| (event.kind, event.reason)).collect()
    }

    /// One line of the metrics.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        metric(&self.engine, series)
    }
}

/// One line of an engine's metrics.
pub(crate) fn metric(engine: &Engine, series: &str) -> u64 {
    let text = engine.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no series {series}")).parse().unwrap()
}

/// Permission names, as the engine takes them.
pub(crate) fn names(text: &str) -> Vec<Arc<str>> {
    text.split_whitespace().map(Arc::from).collect()
}

/// A token of the usual issuer under a named secret key.
pub(crate) fn token_of_key(key_id: &str, claims: &Json) -> String {
    let mut all = json!({ "iss": ISSUER, "aud": AUDIENCE });
    for (key, value) in claims.as_object().unwrap() {
        all[key] = value.clone();
    }
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some(key_id.to_owned());
    jsonwebtoken::encode(&header, &all, &jsonwebtoken::EncodingKey::from_secret(SECRET)).unwrap()
}

/// The usual issuer with secrets of these key ids, at most two.
pub(crate) fn issuer_of_keys(key_ids: &[&str]) -> Json {
    let secret = std::str::from_utf8(SECRET).unwrap();
    let secrets: Vec<Json> = key_ids.iter().map(|key_id| json!({ "text": secret, "kid": key_id })).collect();
    json!([{ "issuer": ISSUER, "audience": [AUDIENCE], "algorithms": ["HS256"], "keys": { "secrets": secrets } }])
}

/// The usual issuer with keys that are fetched.
pub(crate) fn remote_issuer() -> Json {
    json!([{
        "issuer": ISSUER,
        "audience": [AUDIENCE],
        "algorithms": ["EdDSA"],
        "keys": { "jwks_url": "https://id.example.com/jwks" },
    }])
}

/// The usual issuer, also for opaque tokens.
pub(crate) fn opaque_issuer() -> Json {
    let mut issuer = config(json!({}))["issuer"].clone();
    issuer[0]["opaque"] = json!(true);
    issuer
}

fn signer(key_id: &str) -> Ed25519KeyPair {
    let mut seed = [7; 32];
    seed[..key_id.len()].copy_from_slice(key_id.as_bytes());
    Ed25519KeyPair::from_seed_unchecked(&seed).unwrap()
}

/// The key set document of an issuer whose keys are fetched.
pub(crate) fn key_set(key_ids: &[&str]) -> Vec<u8> {
    let keys: Vec<Json> = key_ids
        .iter()
        .map(|key_id| {
            let public = URL_SAFE_NO_PAD.encode(signer(key_id).public_key().as_ref());
            json!({ "kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": key_id, "x": public })
        })
        .collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

/// A token under one of the keys of [`key_set`].
pub(crate) fn token_of_fetched(key_id: &str, claims: &Json) -> String {
    let mut all = json!({ "iss": ISSUER, "aud": AUDIENCE });
    for (key, value) in claims.as_object().unwrap() {
        all[key] = value.clone();
    }
    signed_by_fetched(&json!({ "alg": "EdDSA", "kid": key_id }), key_id, &all)
}

/// Any claims under any header, signed by one of those keys.
pub(crate) fn signed_by_fetched(header: &Json, key_id: &str, claims: &Json) -> String {
    let header = URL_SAFE_NO_PAD.encode(header.to_string());
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = signer(key_id).sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}
