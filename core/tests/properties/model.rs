//! This file answers: what would somebody naive, with a list and a notebook, allow?
//!
//! Nothing here is shared with the engine: times are compared as numbers, rules are a list that is read from the
//! beginning, and permissions are four bits.

use serde_json::{Value as Json, json};
use wsauth::time::Now;

/// Permissions, by bit.
pub(crate) const PERMISSIONS: [&str; 4] = ["p:a", "p:b", "room:1:x", "room:2:x"];

/// A credential as the issuer wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) subject: u8,
    pub(crate) token_id: u8,
    pub(crate) session: Option<u8>,
    pub(crate) issued_at: u64,
    /// In seconds.
    pub(crate) expiry: u64,
    pub(crate) permissions: u8,
    /// Whether it is signed by the issuer at all.
    pub(crate) genuine: bool,
}

impl Credential {
    pub(crate) fn text(&self) -> String {
        let mut claims = json!({
            "sub": format!("u{}", self.subject),
            "jti": format!("t{}", self.token_id),
            "iat": self.issued_at,
            "exp": self.expiry,
            "permissions": texts(self.permissions),
        });
        if let Some(session) = self.session {
            claims["sid"] = json!(format!("s{session}"));
        }
        let mut text = crate::shared::token(&claims);
        if !self.genuine {
            // Another signature of the right length.
            let at = text.len() - 20;
            let other = if &text[at..=at] == "A" { "B" } else { "A" };
            text.replace_range(at..=at, other);
        }
        text
    }
}

pub(crate) fn texts(permissions: u8) -> Vec<&'static str> {
    PERMISSIONS.iter().enumerate().filter(|(bit, _)| permissions & (1 << bit) != 0).map(|(_, name)| *name).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    Token(u8),
    Session(u8),
    Subject(u8, u64),
    Issuer(u64),
}

impl Rule {
    pub(crate) fn refuses(self, credential: &Credential) -> bool {
        match self {
            Rule::Token(id) => credential.token_id == id,
            Rule::Session(id) => credential.session == Some(id),
            Rule::Subject(subject, cut) => credential.subject == subject && credential.issued_at <= cut,
            Rule::Issuer(cut) => credential.issued_at <= cut,
        }
    }
}

/// What the server is configured to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    Plain,
    /// Types `a` and `b` ask for each other's permission; there are no rooms.
    Swapped,
    /// Another issuer.
    Elsewhere,
}

impl Policy {
    pub(crate) fn config(self) -> Json {
        let rules = match self {
            Policy::Swapped => json!({ "open": "public", "a": "p:b", "b": "p:a" }),
            _ => json!({ "open": "public", "a": "p:a", "b": "p:b", "room": "room:{room}:x" }),
        };
        let ample = json!({ "count": 1_000_000, "per": "1s", "burst": 1_000_000 });
        let mut config = crate::shared::config(json!({
            "messages": rules,
            "deliveries": rules,
            "connection": { "idle": "7d", "max_age": "30d" },
            "limits": {
                "connections_per_address": 1000, "connections_per_user": 1000,
                "messages_per_user": ample, "control_per_user": ample,
            },
        }));
        if self == Policy::Elsewhere {
            config["issuer"][0]["issuer"] = json!("https://elsewhere.example.com");
        }
        config
    }
}

/// What may be sent or received: a type, and the room where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Open,
    A,
    B,
    Room(u8),
    Unknown,
}

impl Kind {
    pub(crate) const ALL: [Kind; 7] =
        [Kind::Open, Kind::A, Kind::B, Kind::Room(1), Kind::Room(2), Kind::Room(3), Kind::Unknown];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Open => "open",
            Kind::A => "a",
            Kind::B => "b",
            Kind::Room(_) => "room",
            Kind::Unknown => "unknown",
        }
    }

    pub(crate) fn room(self) -> Option<String> {
        match self {
            Kind::Room(room) => Some(room.to_string()),
            _ => None,
        }
    }

    fn needs(self, policy: Policy) -> Option<Option<u8>> {
        let swapped = policy == Policy::Swapped;
        match self {
            Kind::Open => Some(None),
            Kind::A => Some(Some(if swapped { 2 } else { 1 })),
            Kind::B => Some(Some(if swapped { 1 } else { 2 })),
            Kind::Room(1) if !swapped => Some(Some(4)),
            Kind::Room(2) if !swapped => Some(Some(8)),
            Kind::Room(_) | Kind::Unknown => None,
        }
    }
}

/// One connection in the notebook.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) credential: Credential,
    pub(crate) permissions: u8,
    /// Over at these, in milliseconds.
    wall: u64,
    mono: u64,
    pub(crate) attempts: u32,
    pub(crate) revoked: bool,
    /// The engine said that it ends.
    pub(crate) ended: bool,
    /// It was over at some moment, whether anybody looked or not.
    pub(crate) was_over: bool,
    /// The issuer was gone at some moment.
    pub(crate) was_orphan: bool,
}

impl Peer {
    pub(crate) fn new(credential: Credential, now: Now) -> Peer {
        let mut peer = Peer {
            permissions: 0,
            wall: 0,
            mono: 0,
            attempts: 0,
            revoked: false,
            ended: false,
            was_over: false,
            was_orphan: false,
            credential: credential.clone(),
        };
        peer.commit(credential, now);
        peer
    }

    pub(crate) fn commit(&mut self, credential: Credential, now: Now) {
        self.wall = credential.expiry * 1000;
        self.mono = now.mono.0 + (self.wall - now.wall.0);
        self.permissions = credential.permissions;
        self.attempts = 0;
        self.credential = credential;
    }

    pub(crate) fn is_over(&self, now: Now) -> bool {
        now.wall.0 >= self.wall || now.mono.0 >= self.mono
    }

    /// Whether nothing at all may pass.
    pub(crate) fn is_dead(&self, now: Now, policy: Policy) -> bool {
        self.ended || self.revoked || self.is_over(now) || policy == Policy::Elsewhere
    }

    pub(crate) fn may(&self, kind: Kind, now: Now, policy: Policy) -> bool {
        !self.is_dead(now, policy)
            && match kind.needs(policy) {
                None => false,
                Some(None) => true,
                Some(Some(bit)) => self.permissions & bit != 0,
            }
    }

    /// Whether there is any ground on which the engine may end it, or have ended it.
    pub(crate) fn may_end(&self, now: Now) -> bool {
        self.ended || self.revoked || self.was_over || self.is_over(now) || self.was_orphan
    }
}

/// Whether a credential is good for anything now.
pub(crate) fn is_good(credential: &Credential, rules: &[Rule], now: Now, policy: Policy) -> bool {
    credential.genuine
        && policy != Policy::Elsewhere
        && now.wall.0 < credential.expiry * 1000
        && credential.issued_at * 1000 <= now.wall.0 + 30_000
        && !rules.iter().any(|rule| rule.refuses(credential))
}
