//! This file answers: did one of the issuer's keys sign exactly these bytes?

use std::fmt;
use std::sync::Arc;

use super::compact::{Header, Unverified};
use crate::decision::Reason;
use crate::keys::KeyRing;
use crate::time::WallTime;

/// A token whose signature holds. Made only by [`verify_signature`].
///
/// Its payload may be anything, JSON or not: what it says is judged by `require_claims`.
pub struct Verified {
    header: Header,
    payload: Vec<u8>,
    key_id: Arc<str>,
}

/// Verifies the signature over the bytes that were received (RFC 7515 section 5.2), never over re-written text.
///
/// # Refusals
///
/// - [`Reason::TokenAlgorithm`]: the algorithm is not on the issuer's list, or the named key serves another.
/// - [`Reason::KeyUnknown`]: no current key has this id and algorithm.
/// - [`Reason::KeyAmbiguous`]: the token names no key and more than one would fit.
/// - [`Reason::SignatureInvalid`]: the key did not sign these bytes.
///
/// # Security
///
/// The key decides the algorithm; the header can only disagree with it (RFC 8725 section 3.1).
///
/// # Cost
///
/// One verification; two when a token without key id meets a secret that is being replaced.
pub fn verify_signature(token: Unverified<'_>, keys: &KeyRing, wall: WallTime) -> Result<Verified, Reason> {
    let header = token.header();
    let candidates = keys.select_key(header.key_id.as_deref(), header.algorithm, wall)?;
    let signer = candidates.into_iter().find(|key| {
        key.algorithm() == header.algorithm && key.verify_bytes(token.signing_input(), token.signature()).is_ok()
    });
    let key_id = Arc::clone(signer.ok_or(Reason::SignatureInvalid)?.id());
    let (header, payload) = token.into_parts();
    Ok(Verified { header, payload, key_id })
}

impl Verified {
    /// The signed bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The key that signed.
    pub fn key_id(&self) -> &Arc<str> {
        &self.key_id
    }

    /// The `typ` of its header, as written.
    pub(crate) fn typ(&self) -> Option<&str> {
        self.header.typ.as_deref()
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verified({} bytes of payload)", self.payload.len())
    }
}
