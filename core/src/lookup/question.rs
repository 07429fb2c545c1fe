//! This file answers: which questions are there, and what can be answered?

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
    /// The issuer's key set (RFC 7517). Answered with [`Answer::Keys`].
    Keys {
        /// The issuer.
        issuer: Arc<str>,
        /// Where its key set is.
        url: Arc<str>,
    },
    /// Is this opaque token active (RFC 7662)? Answered with [`Answer::Vouched`] or [`Answer::Inactive`].
    Introspection {
        /// The issuer that takes opaque tokens.
        issuer: Arc<str>,
        /// The token.
        token: Secret,
    },
    /// Is there a live session of this id? Answered with [`Answer::Vouched`] or [`Answer::Inactive`].
    Session {
        /// The session id, from the cookie.
        id: Secret,
    },
}

/// What the driver found out.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The key set document. The engine checks it; a bad one changes nothing.
    Keys(Vec<u8>),
    /// The source vouches for the credential.
    Vouched(Box<Vouched>),
    /// The source says no: inactive, unknown, ended.
    Inactive,
    /// The source did not answer, or not in a way that can be trusted. Never read as a no, never as a yes.
    Unavailable {
        /// When another try may work, in milliseconds.
        retry_after_ms: Option<u32>,
    },
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
