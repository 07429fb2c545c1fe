//! This file answers: who is the peer, and who says so?

use std::sync::Arc;

use crate::config::CredentialSource;
use crate::time::WallTime;

/// Verified facts about one peer. Only made from verified claims, an active introspection answer, a live
/// session record or a redeemed ticket; never from anything the peer merely said.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// The issuer that vouched.
    pub issuer: Arc<str>,
    /// The subject, unique within the issuer.
    pub subject: Arc<str>,
    /// Where the credential stood.
    pub source: CredentialSource,
    /// The token's id (`jti`).
    pub token_id: Option<Arc<str>>,
    /// The login session (`sid`).
    pub session_id: Option<Arc<str>>,
    /// The client the token was issued to.
    pub client_id: Option<Arc<str>>,
    /// The tenant.
    pub tenant: Option<Arc<str>>,
    /// Confirmation (`cnf`) thumbprint, when the credential is bound.
    pub confirmation: Option<Arc<str>>,
    /// The key that signed, when one did.
    pub key_id: Option<Arc<str>>,
    /// When the credential was issued, in whole seconds; a cut-off at or after it refuses (RULES 31).
    pub issued_at: Option<u64>,
    /// When it is over.
    pub expiry: WallTime,
    /// Permissions as the issuer wrote them, sorted and without duplicates.
    pub permissions: Vec<Arc<str>>,
    /// All claims, for the application.
    pub claims: serde_json::Map<String, serde_json::Value>,
}
