//! This file answers: whose is this token, as far as can be said without asking anyone?

use crate::cache::Verdict;
use crate::config::CredentialSource;
use crate::connection::PendingCredential;
use crate::decision::Reason;
use crate::engine::Engine;
use crate::flow::introspect;
use crate::identity::Identity;
use crate::metrics::Count;
use crate::rules::Rules;
use crate::secret::Secret;
use crate::time::Now;
use crate::token::{TokenVerdict, is_jwt_shaped};

/// An identity that is proved, and what its source is asked about again, where a source vouches for it.
///
/// Whether it was revoked is looked up when it comes into force, whatever proved it (RULES 4, 33).
pub(crate) struct Proven {
    pub(crate) identity: Identity,
    pub(crate) reask: Option<PendingCredential>,
}

/// Verifies a token, unless that was done a moment ago; finds what its issuer said of an opaque one.
pub(crate) fn identify(
    engine: &Engine,
    rules: &Rules,
    token: &[u8],
    source: CredentialSource,
    now: Now,
) -> Result<Proven, TokenVerdict> {
    let mut verified = false;
    let mut verify = || {
        verified = true;
        rules.verify(token, now).map(|claims| claims.into_identity(source))
    };
    let is_kept = rules.public_keys && token.len() <= rules.config.handshake.max_token_bytes && is_jwt_shaped(token);
    if !is_kept {
        return match verify() {
            Ok(identity) => Ok(Proven { identity, reask: None }),
            Err(TokenVerdict::Opaque { issuer }) => recall(engine, rules, issuer, token, source, now),
            Err(verdict) => Err(verdict),
        };
    }
    let identity = engine.verdicts.verified(engine.hash.credential("", token), rules, now, verify);
    engine.metrics.add(if verified { Count::CacheMiss } else { Count::CacheHit });
    let identity = identity?;
    Ok(Proven { identity: Identity { source, ..(*identity).clone() }, reask: None })
}

/// What the issuer of opaque tokens said of this one, while that holds.
fn recall(
    engine: &Engine,
    rules: &Rules,
    issuer: usize,
    token: &[u8],
    source: CredentialSource,
    now: Now,
) -> Result<Proven, TokenVerdict> {
    let verdict = introspect::find_verdict(engine, rules, issuer, token, now);
    engine.metrics.add(if verdict.is_some() { Count::CacheHit } else { Count::CacheMiss });
    match verdict {
        Some((Verdict::Good(identity), vouched)) => {
            let token = Secret::new(token.to_vec());
            let reask = PendingCredential { vouched, ..PendingCredential::new(source, token) };
            Ok(Proven { identity: Identity { source, ..(*identity).clone() }, reask: Some(reask) })
        }
        Some((Verdict::Inactive, _)) => Err(Reason::TokenInactive.into()),
        None => Err(TokenVerdict::Opaque { issuer }),
    }
}
