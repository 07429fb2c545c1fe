//! This file answers: which questions are there, and what can be answered?

use std::fmt;
use std::sync::Arc;

use crate::secret::Secret;
use crate::time::{MonoTime, WallTime};

/// Names one question that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LookupId(pub u64);

/// One question for the driver.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// Answer with this.
    pub id: LookupId,
    /// What is asked.
    pub question: Question,
    /// After this an answer is of no use.
    pub deadline: MonoTime,
}

/// What the core cannot know by itself.
#[derive(Clone, Debug)]
pub enum Question {
    /// The issuer's discovery document (OpenID Connect Discovery 1.0 section 4). Answered with [`Answer::Response`].
    Discovery {
        /// The issuer.
        issuer: Arc<str>,
        /// Where its document is.
        url: Arc<str>,
    },
    /// The issuer's key set (RFC 7517). Answered with [`Answer::Keys`] or [`Answer::Response`].
    Keys {
        /// The issuer.
        issuer: Arc<str>,
        /// Where its key set is.
        url: Arc<str>,
    },
    /// Is this opaque token active (RFC 7662)? Answered with [`Answer::Vouched`], [`Answer::Inactive`] or, where
    /// there is a `url`, [`Answer::Response`].
    Introspection {
        /// The issuer that takes opaque tokens.
        issuer: Arc<str>,
        /// Its endpoint; `None` where the host knows whom to ask.
        url: Option<Arc<str>>,
        /// The token.
        token: Secret,
    },
    /// Is there a live session of this id? Answered with [`Answer::Vouched`] or [`Answer::Inactive`].
    Session {
        /// The session id, from the cookie.
        id: Secret,
    },
    /// What is known of this verified subject? Answered with [`Answer::Profile`] or, where there is a `url`,
    /// [`Answer::Response`].
    Profile {
        /// The issuer that vouches for the subject.
        issuer: Arc<str>,
        /// The subject.
        subject: Arc<str>,
        /// Where it is asked; `None` where the host knows.
        url: Option<Arc<str>>,
    },
}

impl Question {
    /// Where it is asked over HTTP; `None`: the host answers from its own store.
    pub fn url(&self) -> Option<&Arc<str>> {
        match self {
            Question::Discovery { url, .. } | Question::Keys { url, .. } => Some(url),
            Question::Introspection { url, .. } | Question::Profile { url, .. } => url.as_ref(),
            Question::Session { .. } => None,
        }
    }
}

/// Whose questions are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answerer {
    /// All of them.
    Anyone,
    /// Those with a URL, for a driver that speaks HTTP.
    Http,
    /// Those without, for the host's own stores.
    Host,
}

/// What the driver found out.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The key set document. The engine checks it; a bad one changes nothing.
    Keys(Vec<u8>),
    /// What the HTTP source answered, whatever it is. The engine judges it.
    Response(Box<HttpResponse>),
    /// The source vouches for the credential.
    Vouched(Box<Vouched>),
    /// What the host knows of the subject: members as an HTTP source would answer them.
    Profile(Box<serde_json::Map<String, serde_json::Value>>),
    /// The source says no: inactive, unknown, ended.
    Inactive,
    /// The driver has no room: nobody was asked. Refuses as the next does, and says nothing about the source.
    NotAsked,
    /// The source did not answer, or not in a way that can be trusted. Never read as a no, never as a yes.
    Unavailable {
        /// When another try may work, in milliseconds.
        retry_after_ms: Option<u32>,
    },
}

/// One complete HTTP response. `Debug` shows no body.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// The value of `Content-Type`, when there is exactly one.
    pub content_type: Option<String>,
    /// `Retry-After` in milliseconds.
    pub retry_after_ms: Option<u32>,
    /// The body, decoded; bounded by whoever read it, and again by the engine.
    pub body: Vec<u8>,
}

impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HttpResponse({}, {} bytes)", self.status, self.body.len())
    }
}

/// Facts that a source vouches for. Whoever makes this has verified them.
#[derive(Clone, Debug, PartialEq)]
pub struct Vouched {
    /// The subject: 1 to 1,024 bytes without control characters, else the answer is refused.
    pub subject: String,
    /// When the credential is over.
    pub expiry: WallTime,
    /// When it was issued, in whole seconds (RULES 31).
    pub issued_at: Option<u64>,
    /// The token's id.
    pub token_id: Option<String>,
    /// The login session.
    pub session_id: Option<String>,
    /// The client the token was issued to.
    pub client_id: Option<String>,
    /// The tenant.
    pub tenant: Option<String>,
    /// Permissions, at most 256.
    pub permissions: Vec<String>,
    /// Further claims, for the application.
    pub claims: serde_json::Map<String, serde_json::Value>,
}
