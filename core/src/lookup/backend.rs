//! This file answers: who outside the core is asked, and how did it do?

use std::sync::Arc;

use super::question::Question;

/// The kinds of sources. A closed set: it labels metrics and audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackendKind {
    /// The key set of an issuer, and the discovery document that says where it is.
    Keys,
    /// The introspection endpoint of an issuer.
    Introspection,
    /// Who adds permissions and attributes to a verified identity.
    Profile,
    /// The store of cookie sessions.
    Sessions,
}

impl BackendKind {
    /// Every kind, in the order of their values.
    pub const ALL: [BackendKind; 4] =
        [BackendKind::Keys, BackendKind::Introspection, BackendKind::Profile, BackendKind::Sessions];

    /// The name in audit and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            BackendKind::Keys => "keys",
            BackendKind::Introspection => "introspection",
            BackendKind::Profile => "profile",
            BackendKind::Sessions => "sessions",
        }
    }
}

/// One source: its failures are its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Backend {
    pub(crate) kind: BackendKind,
    /// The issuer it belongs to; `None` for the profile and the sessions, of which there is one each.
    pub(crate) issuer: Option<Arc<str>>,
}

/// How a source did with one question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It gave an answer that can be used, a yes or a no.
    Answered,
    /// It gave none, or one that cannot be used.
    Failed,
    /// It was not asked after all.
    NotAsked,
    /// It asked to be left alone for so many milliseconds (RFC 9110 section 10.2.3).
    Overloaded(u64),
}

impl Question {
    /// Whom it is put to.
    pub(crate) fn backend(&self) -> Backend {
        let (kind, issuer) = match self {
            Question::Discovery { issuer, .. } | Question::Keys { issuer, .. } => (BackendKind::Keys, Some(issuer)),
            Question::Introspection { issuer, .. } => (BackendKind::Introspection, Some(issuer)),
            Question::Profile { .. } => (BackendKind::Profile, None),
            Question::Session { .. } => (BackendKind::Sessions, None),
        };
        Backend { kind, issuer: issuer.cloned() }
    }
}
