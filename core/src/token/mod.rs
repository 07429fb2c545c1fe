//! This folder answers: is this token genuine, current and meant for us?
//!
//! Types are the proof: bytes become [`Unverified`] by their form, [`Verified`] by a signature, [`Claims`] by what
//! they say. Each step has one constructor; nothing of a token is shown before its signature holds.

mod algorithm;
mod claims;
mod compact;
pub(crate) mod facts;
pub(crate) mod json;
pub(crate) mod numeric_date;
mod permissions;
mod signature;

pub use algorithm::{Algorithm, Family};
pub use claims::Claims;
pub use compact::{Header, MAX_HEADER_BYTES, MAX_KEY_ID_BYTES, Unverified};
pub(crate) use compact::{is_jwt_shaped, is_key_id};
pub use facts::MAX_TEXT_BYTES;
pub use permissions::MAX_PERMISSIONS;
pub use signature::{Verified, verify_signature};

use crate::decision::Reason;
use crate::keys::Issuers;
use crate::time::WallTime;

/// What came of a token that did not become [`Claims`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenVerdict {
    /// It is refused.
    Refused(Reason),
    /// The key it names is not in the issuer's set, which can be fetched anew; that is limited elsewhere.
    KeysNeeded {
        /// Index of the issuer.
        issuer: usize,
    },
    /// It is no JWT, and this issuer can be asked about it.
    Opaque {
        /// Index of the issuer.
        issuer: usize,
    },
}

impl From<Reason> for TokenVerdict {
    fn from(reason: Reason) -> TokenVerdict {
        TokenVerdict::Refused(reason)
    }
}

/// Takes a token from bytes to proven facts: size, form, header, algorithm, key, signature, claims, in this order.
///
/// # Refusals
///
/// Those of [`Unverified::parse`], [`verify_signature`] and [`Verified::require_claims`], and
/// [`Reason::TokenOpaque`] (no JWT, and no issuer takes opaque tokens), [`Reason::IssuerUnknown`] (several issuers
/// are configured and the token names none of them).
///
/// # Security
///
/// With several issuers the unproved `iss` chooses among the configured ones and must be proved by that issuer's
/// own key; keys are never tried across issuers. A JWT that fails is never reported as opaque (RULES 11, 12).
///
/// # Cost
///
/// Linear in the token up to the signature; then at most two verifications.
pub fn verify_token(
    token: &[u8],
    issuers: &Issuers,
    max_token_bytes: usize,
    wall: WallTime,
) -> Result<Claims, TokenVerdict> {
    if token.len() > max_token_bytes {
        return Err(Reason::TokenTooLarge.into());
    }
    if !compact::is_jwt_shaped(token) {
        let opaque = issuers.opaque().ok_or(Reason::TokenOpaque)?;
        return Err(TokenVerdict::Opaque { issuer: opaque });
    }
    let token = Unverified::parse(token, max_token_bytes)?;
    let index = match issuers.single() {
        Some(index) => index,
        None => token.peek_issuer().and_then(|name| issuers.find(&name)).ok_or(Reason::IssuerUnknown)?,
    };
    let issuer = issuers.get(index).ok_or(Reason::FaultInternal)?;
    // Fetched keys outlive a reload; an algorithm that it took off the list does not.
    if !issuer.config().algorithms.contains(&token.header().algorithm) {
        return Err(Reason::TokenAlgorithm.into());
    }
    let verified = verify_signature(token, &issuer.keys(), wall).map_err(|reason| match reason {
        Reason::KeyUnknown if issuer.is_remote() => TokenVerdict::KeysNeeded { issuer: index },
        reason => TokenVerdict::Refused(reason),
    })?;
    Ok(verified.require_claims(issuer.config(), wall)?)
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::claims::tests::good;
    pub(crate) use super::claims::tests::{issuer, signed};
    use super::{TokenVerdict, verify_token};
    use crate::config::{IssuerConfig, KeysConfig, RemoteKeysConfig};
    use crate::decision::Reason;
    use crate::keys::Issuers;
    use crate::time::WallTime;
    use crate::token::Algorithm;

    fn judge(token: &[u8], issuers: &[IssuerConfig]) -> Result<String, TokenVerdict> {
        let issuers = Issuers::from_config(issuers).unwrap();
        let claims = verify_token(token, &issuers, 16 * 1024, WallTime::from_secs(1_800_000_000))?;
        Ok(claims.issuer().to_string())
    }

    fn other(name: &str) -> IssuerConfig {
        IssuerConfig { issuer: name.to_owned(), keys: KeysConfig::None, ..issuer() }
    }

    fn token() -> Vec<u8> {
        signed(&json!({"alg": "HS256"}), &good().to_string())
    }

    const fn refused<T>(reason: Reason) -> Result<T, TokenVerdict> {
        Err(TokenVerdict::Refused(reason))
    }

    #[test]
    fn one_issuer_is_never_looked_up() {
        assert_eq!(judge(&token(), &[issuer()]), Ok("https://id.example/".to_owned()));
        assert_eq!(
            judge(&token(), &[IssuerConfig { issuer: "x".into(), ..issuer() }]),
            refused(Reason::IssuerMismatch)
        );
        assert_eq!(judge(&token(), &[]), refused(Reason::IssuerUnknown));
        let mut longer = token();
        longer.resize(16 * 1024 + 1, b'A');
        assert_eq!(judge(&longer, &[issuer()]), refused(Reason::TokenTooLarge));
    }

    #[test]
    fn with_several_the_named_one_decides_with_its_own_keys() {
        assert_eq!(judge(&token(), &[other("https://b"), issuer()]), Ok("https://id.example/".to_owned()));
        assert_eq!(judge(&token(), &[other("https://a"), other("https://b")]), refused(Reason::IssuerUnknown));
        let mut stolen = good();
        stolen["iss"] = json!("https://b");
        let stolen = signed(&json!({"alg": "HS256"}), &stolen.to_string());
        assert_eq!(judge(&stolen, &[other("https://b"), issuer()]), refused(Reason::KeyUnknown), "not across issuers");
        for iss in [json!(["https://id.example/", "https://b"]), json!(null), json!({})] {
            let mut claims = good();
            claims["iss"] = iss;
            let token = signed(&json!({"alg": "HS256"}), &claims.to_string());
            assert_eq!(judge(&token, &[other("https://b"), issuer()]), refused(Reason::IssuerUnknown));
        }
    }

    #[test]
    fn unknown_keys_of_a_fetched_set_are_asked_for() {
        let remote = IssuerConfig { keys: KeysConfig::Remote(RemoteKeysConfig::new("")), ..issuer() };
        assert_eq!(judge(&token(), std::slice::from_ref(&remote)), Err(TokenVerdict::KeysNeeded { issuer: 0 }));
        assert_eq!(judge(&token(), &[other("https://b"), remote.clone()]), Err(TokenVerdict::KeysNeeded { issuer: 1 }));
        let wrong = IssuerConfig { algorithms: vec![Algorithm::RS256], ..remote };
        assert_eq!(judge(&token(), &[wrong]), refused(Reason::TokenAlgorithm), "no fetch for a hopeless token");
    }

    #[test]
    fn opaque_tokens_go_to_their_issuer_and_failed_jwts_do_not() {
        let opaque = IssuerConfig { opaque: true, ..other("https://b") };
        let issuers = [issuer(), opaque];
        assert_eq!(judge(b"2YotnFZFEjr1zCsicMWpAA", &issuers), Err(TokenVerdict::Opaque { issuer: 1 }));
        assert_eq!(judge(b"2YotnFZFEjr1zCsicMWpAA", &issuers[..1]), refused(Reason::TokenOpaque));
        let mut bad = token();
        bad.push(b'=');
        assert_eq!(judge(&bad, &issuers), refused(Reason::TokenMalformed));
        let at = token().len() - 10;
        let mut bad = token();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        assert_eq!(judge(&bad, &issuers), refused(Reason::SignatureInvalid));
    }

    #[test]
    fn a_damaged_token_is_never_accepted() {
        let good = token();
        for at in 0..good.len() {
            for byte in [b'A', b'z', b'.', b'=', 0, 0xff] {
                let mut bad = good.clone();
                bad[at] = byte;
                assert!(bad == good || judge(&bad, &[issuer()]).is_err(), "byte {at} as {byte}");
            }
            assert!(judge(&good[..at], &[issuer()]).is_err());
        }
    }
}
