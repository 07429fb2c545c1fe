//! What several test programs need: a configuration from JSON, and upgrade requests.
#![allow(dead_code, reason = "each test program uses some of it")]

pub(crate) mod world;

use std::net::IpAddr;

use serde_json::{Value as Json, json};
use wsauth::config::{Config, ConfigProblem, Kind, NoSecretSource, Value};
use wsauth::request::{Header, Peer, Upgrade};
use wsauth::secret::EngineSeed;
use wsauth::time::Now;
use wsauth::{Admitted, Engine, Refusal, Step};

/// A configuration tree from JSON.
pub(crate) fn tree(json: &Json) -> Value {
    let kind = match json {
        Json::Null => Kind::String(String::new()),
        Json::Bool(flag) => Kind::Boolean(*flag),
        Json::Number(number) => number.as_i64().map_or_else(|| Kind::Float(number.as_f64().unwrap()), Kind::Integer),
        Json::String(text) => Kind::String(text.clone()),
        Json::Array(items) => Kind::Array(items.iter().map(tree).collect()),
        Json::Object(members) => {
            return Value::table(members.iter().map(|(key, value)| (key.clone(), tree(value))).collect());
        }
    };
    kind.into()
}

/// An engine from a JSON configuration.
pub(crate) fn engine(config: &Json) -> Result<Engine, ConfigProblem> {
    let config = Config::from_tree(&tree(config), &NoSecretSource)?;
    Engine::new(config, &EngineSeed::new([7; 32]), Box::new(|_| ()))
}

/// An upgrade request that can be taken apart and changed.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    pub(crate) headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) peer: IpAddr,
}

impl Request {
    pub(crate) fn new() -> Request {
        let fields = [
            ("Host", "ws.example.com"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        Request {
            method: b"GET".to_vec(),
            target: b"/ws".to_vec(),
            headers: fields.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).collect(),
            peer: "203.0.113.7".parse().unwrap(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Request {
        self.headers.push((name.as_bytes().to_vec(), value.as_ref().to_vec()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Request {
        self.with("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn from(mut self, peer: &str) -> Request {
        self.peer = peer.parse().unwrap();
        self
    }

    pub(crate) fn send(&self, engine: &Engine, now: Now) -> Result<Admitted, Refusal> {
        self.with_upgrade(|upgrade| engine.handshake(0, upgrade, now))
    }

    pub(crate) fn explain(&self, engine: &Engine, now: Now) -> Vec<Step> {
        self.with_upgrade(|upgrade| engine.explain(upgrade, now))
    }

    fn with_upgrade<T>(&self, f: impl FnOnce(&Upgrade<'_>) -> T) -> T {
        let headers: Vec<Header<'_>> = self.headers.iter().map(|(name, value)| Header { name, value }).collect();
        f(&Upgrade { method: &self.method, target: &self.target, headers: &headers, peer: Peer::Ip(self.peer) })
    }
}

/// The shared secret of tokens made in tests.
pub(crate) const SECRET: &[u8; 32] = b"a secret of thirty-two bytes....";
/// The issuer of tokens made in tests.
pub(crate) const ISSUER: &str = "https://id.example.com";
/// Their audience.
pub(crate) const AUDIENCE: &str = "wss://live.example.com";

/// The configuration that goes with [`token`]; `more` is merged over its top level.
pub(crate) fn config(more: Json) -> Json {
    let mut config = json!({
        "issuer": [{
            "issuer": ISSUER,
            "audience": [AUDIENCE],
            "algorithms": ["HS256"],
            "keys": { "secrets": [{ "text": std::str::from_utf8(SECRET).unwrap() }] },
            "max_lifetime": "5000d",
        }],
        "handshake": { "credentials": ["authorization"], "trusted_proxies": [], "require_origin": false },
        "messages": { "ping": "public" },
    });
    for (key, value) in more.as_object().unwrap() {
        config[key] = value.clone();
    }
    config
}

/// A token signed by an independent implementation.
pub(crate) fn token(claims: &Json) -> String {
    let mut all = json!({ "iss": ISSUER, "aud": AUDIENCE });
    for (key, value) in claims.as_object().unwrap() {
        all[key] = value.clone();
    }
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256), &all, &key).unwrap()
}
