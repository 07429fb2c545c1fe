//! This file answers: who is the peer, and who says so?

use std::sync::Arc;

use crate::config::CredentialSource;
use crate::decision::Reason;
use crate::lookup::Vouched;
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

impl Identity {
    /// Makes an identity of what a source vouches for.
    ///
    /// # Refusals
    ///
    /// `SubjectInvalid`, `ClaimInvalid` for text that is empty, too long or holds control characters,
    /// `TokenExpired` for what is over already.
    pub(crate) fn from_vouched(
        vouched: &Vouched,
        issuer: Arc<str>,
        source: CredentialSource,
        wildcards: bool,
        now: WallTime,
    ) -> Result<Identity, Reason> {
        if !is_clean(&vouched.subject) {
            return Err(Reason::SubjectInvalid);
        }
        let expiry = vouched.expiry.min(WallTime::MAX);
        if expiry <= now {
            return Err(Reason::TokenExpired);
        }
        if vouched.permissions.len() > MAX_PERMISSIONS {
            return Err(Reason::ClaimInvalid);
        }
        let text = |text: &Option<String>| match text {
            None => Ok(None),
            Some(text) if is_clean(text) => Ok(Some(Arc::from(text.as_str()))),
            Some(_) => Err(Reason::ClaimInvalid),
        };
        let grants = |permission: &&String| {
            let bare = matches!(permission.as_str(), "*" | "**");
            !bare && (wildcards || !permission.contains('*'))
        };
        let mut permissions: Vec<Arc<str>> =
            vouched.permissions.iter().filter(grants).map(|permission| Arc::from(permission.as_str())).collect();
        permissions.sort();
        permissions.dedup();
        Ok(Identity {
            issuer,
            subject: Arc::from(vouched.subject.as_str()),
            source,
            token_id: text(&vouched.token_id)?,
            session_id: text(&vouched.session_id)?,
            client_id: text(&vouched.client_id)?,
            tenant: text(&vouched.tenant)?,
            confirmation: None,
            key_id: None,
            issued_at: vouched.issued_at,
            expiry,
            permissions,
            claims: vouched.claims.clone(),
        })
    }
}

/// Most permissions of one identity (RULES 37).
pub(crate) const MAX_PERMISSIONS: usize = 256;

/// Identity text: 1 to 1,024 bytes without control characters (REQUIREMENTS R-CLM-07).
fn is_clean(text: &str) -> bool {
    (1..=1_024).contains(&text.len()) && !text.chars().any(char::is_control)
}
