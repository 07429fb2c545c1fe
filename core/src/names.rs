//! This file answers: under which fingerprint does each thing stand in the tables?
//!
//! One keyed hash, one label a kind, every part framed by its length: no name of an attacker's choosing can
//! meet another in a table.

use crate::connection::ConnectionId;
use crate::limit::{Fingerprint, Fingerprinter};
use crate::secret::EngineSeed;

/// Makes the fingerprints of one engine.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    hash: Fingerprinter,
}

impl Names {
    pub(crate) fn new(seed: &EngineSeed) -> Names {
        Names { hash: Fingerprinter::new(seed.derive("names")) }
    }

    pub(crate) fn subject(&self, issuer: &str, subject: &str) -> Fingerprint {
        self.hash.fingerprint(&[b"subject", issuer.as_bytes(), subject.as_bytes()])
    }

    pub(crate) fn token(&self, issuer: &str, token_id: &str) -> Fingerprint {
        self.hash.fingerprint(&[b"token", issuer.as_bytes(), token_id.as_bytes()])
    }

    pub(crate) fn session(&self, issuer: &str, session_id: &str) -> Fingerprint {
        self.hash.fingerprint(&[b"session", issuer.as_bytes(), session_id.as_bytes()])
    }

    pub(crate) fn address(&self, key: &[u8]) -> Fingerprint {
        self.hash.fingerprint(&[b"address", key])
    }

    pub(crate) fn keys(&self, issuer: &str) -> Fingerprint {
        self.hash.fingerprint(&[b"keys", issuer.as_bytes()])
    }

    pub(crate) fn credential(&self, issuer: &str, credential: &[u8]) -> Fingerprint {
        self.hash.fingerprint(&[b"credential", issuer.as_bytes(), credential])
    }

    pub(crate) fn session_credential(&self, id: &[u8]) -> Fingerprint {
        self.hash.fingerprint(&[b"session credential", id])
    }

    /// Whose profile, asked for under these rules: another configuration asks anew.
    pub(crate) fn profile(&self, epoch: u32, issuer: &str, subject: &str) -> Fingerprint {
        self.hash.fingerprint(&[b"profile", &epoch.to_le_bytes(), issuer.as_bytes(), subject.as_bytes()])
    }

    pub(crate) fn everyone(&self) -> Fingerprint {
        self.hash.fingerprint(&[b"everyone"])
    }

    /// A number that spreads fetches: the same for one purpose, source and count.
    pub(crate) fn spread(&self, purpose: &str, issuer: &str, count: u64) -> u64 {
        self.hash.fingerprint(&[b"spread", purpose.as_bytes(), issuer.as_bytes(), &count.to_le_bytes()]).low()
    }

    /// A number that spreads refreshes: the same for one connection, unlike for two (RULES 26).
    pub(crate) fn jitter(&self, id: ConnectionId) -> u64 {
        self.hash.fingerprint(&[b"jitter", &id.as_u64().to_le_bytes()]).low()
    }
}
