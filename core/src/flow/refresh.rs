//! This file answers: how does a new token replace the old one on a live connection?
//!
//! As a transaction: the old grant stays in force until the new token is verified and found to belong to the
//! same identity; then one swap changes expiry and permissions together. A refused attempt changes nothing
//! but its own count, and never a deadline.

use std::sync::Arc;

use crate::config::CredentialSource;
use crate::connection::{Cold, ConnectionId, Guard, PendingCredential, PermissionDiff, State, merge_diff};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::{admit, answer, close, due, report};
use crate::identity::Identity;
use crate::policy::PermissionSet;
use crate::revocation::RevocationFacts;
use crate::rules::Rules;
use crate::secret::Secret;
use crate::time::Now;
use crate::token::TokenVerdict;

/// What a refresh did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The new token is in force; permissions changed like this.
    Committed(PermissionDiff),
    /// The very same token: nothing to do.
    Unchanged,
    /// Its source was asked; the outcome comes as an event.
    Pending,
}

/// Verifies a token and puts it in force on one live connection.
pub(crate) fn refresh(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    token: &[u8],
    now: Now,
) -> Result<Refreshed, Refusal> {
    let slot = engine.table.find(id).ok_or(Reason::MisuseHandle)?;
    {
        let mut guard = slot.lock(id).ok_or(Reason::MisuseHandle)?;
        require_live(engine, id, &mut guard, now)?;
    }
    // Verified without the lock: messages go on, and a revocation need not wait for a signature.
    let outcome = match rules.verify(token, now) {
        Ok(claims) => Ok(claims.into_identity(CredentialSource::FirstMessage)),
        Err(TokenVerdict::Refused(reason)) => Err(Refusal::from(reason)),
        Err(TokenVerdict::KeysNeeded { issuer }) => {
            return answer::refresh_when_keys_come(engine, rules, id, issuer, token, now);
        }
        Err(TokenVerdict::Opaque { issuer }) => {
            return answer::refresh_when_vouched(engine, rules, id, issuer, token, now);
        }
    };
    let mut guard = slot.lock(id).ok_or(Reason::MisuseHandle)?;
    match outcome {
        Ok(identity) => commit(engine, rules, id, &mut guard, identity, now),
        Err(refusal) => Err(refuse(engine, rules, id, &mut guard, refusal, now)),
    }
}

/// Puts a verified identity in force on every live connection of its subject: for hosts that refresh over HTTP,
/// behind a cookie (RULES 29). Returns how many connections took it.
pub(crate) fn refresh_subject(engine: &Engine, rules: &Rules, token: &[u8], now: Now) -> Result<usize, Refusal> {
    let identity = match rules.verify(token, now) {
        Ok(claims) => claims.into_identity(CredentialSource::Cookie),
        Err(TokenVerdict::Refused(reason)) => return Err(reason.into()),
        Err(TokenVerdict::KeysNeeded { .. } | TokenVerdict::Opaque { .. }) => {
            return Err(Refusal::after(Reason::SourceUnavailable, 1_000));
        }
    };
    if engine.revocations.is_revoked(&RevocationFacts::from(&identity), now) {
        return Err(Reason::TokenRevoked.into());
    }
    let mut taken = 0usize;
    for id in engine.index.find(engine.hash.subject(&identity.issuer, &identity.subject)) {
        let Some(slot) = engine.table.find(id) else { continue };
        let Some(mut guard) = slot.lock(id) else { continue };
        if require_live(engine, id, &mut guard, now).is_err() {
            continue;
        }
        // A connection of another session or client of the same user keeps its own token, as does one that is ahead;
        // its peer tried nothing, so no attempt is counted.
        if !guard.identity.as_ref().is_some_and(|held| is_for(held, &identity)) {
            continue;
        }
        if commit(engine, rules, id, &mut guard, identity.clone(), now).is_ok() {
            taken = taken.saturating_add(1);
        }
    }
    Ok(taken)
}

/// The swap. The caller holds the connection's lock.
pub(crate) fn commit(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    mut identity: Identity,
    now: Now,
) -> Result<Refreshed, Refusal> {
    require_live(engine, id, guard, now)?;
    let Some(old) = guard.identity.clone() else { return Err(Reason::FaultInternal.into()) };
    identity.source = old.source;
    if let Err(reason) = require_same_identity(&old, &identity) {
        return Err(refuse(engine, rules, id, guard, reason.into(), now));
    }
    if is_same_credential(&old, &identity) {
        return Ok(Refreshed::Unchanged);
    }
    if identity.expiry <= old.expiry {
        return Err(refuse(engine, rules, id, guard, Reason::ExpiryNotLater.into(), now));
    }
    let permissions = Arc::new(PermissionSet::from_texts(identity.permissions.iter().cloned()));
    if let Err(refusal) = admit::require_to_connect(rules, &permissions) {
        return Err(refuse(engine, rules, id, guard, refusal, now));
    }
    let diff = PermissionDiff::between(&guard.held_permissions, &identity.permissions);
    if !rules.config.refresh.widen && !diff.added.is_empty() {
        return Err(refuse(engine, rules, id, guard, Reason::PermissionsWidened.into(), now));
    }
    // The index first, then the look (RULES 4): a revocation published before is seen here, also one that came
    // while the token was being verified; a later one waits for our lock and finds the connection.
    admit::insert_into_index(engine, id, guard, &identity);
    if engine.revocations.is_revoked(&RevocationFacts::from(&identity), now) {
        return Err(refuse(engine, rules, id, guard, Reason::TokenRevoked.into(), now));
    }
    let before = (guard.identity.clone(), Arc::clone(&guard.permissions), guard.held_permissions.clone());
    guard.held_permissions = identity.permissions.clone();
    guard.identity = Some(Arc::new(identity));
    guard.permissions = permissions;
    if let Err(refusal) = admit::commit_grant(engine, rules, id, guard, now) {
        (guard.identity, guard.permissions, guard.held_permissions) = before;
        return Err(refusal);
    }
    // What was asked about the old token, or about another new one, is past; a source that vouches for this one is
    // noted by the caller.
    guard.reask = None;
    guard.credential = None;
    guard.lookup = None;
    guard.asked_again = None;
    guard.record().touch(now.mono);
    guard.pending.refresh_asked = false;
    guard.pending.refresh_failed = None;
    merge_diff(&mut guard.pending.refreshed, diff.clone());
    if !diff.is_empty() {
        merge_diff(&mut guard.pending.host_permissions, diff.clone());
    }
    engine.schedule(id, due::next_deadline(guard, State::Live, now.mono, rules));
    engine.enqueue(id, guard);
    report::refreshed(engine, id, guard, &diff, now);
    Ok(Refreshed::Committed(diff))
}

/// Counts a refused attempt; the last one closes at once (RULES 26). `unavailable` is no attempt.
pub(crate) fn refuse(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    refusal: Refusal,
    now: Now,
) -> Refusal {
    report::refresh_refused(engine, rules, id, guard, refusal, now);
    guard.pending.refresh_failed = Some(refusal);
    if refusal.reason != Reason::SourceUnavailable {
        guard.refresh.refused = guard.refresh.refused.saturating_add(1);
        guard.refresh.refused_since_ask |= guard.refresh.asked;
        if guard.refresh.refused >= rules.config.refresh.attempts {
            close::close(engine, id, guard, Reason::RefreshFailed.into(), now);
        }
    }
    engine.enqueue(id, guard);
    refusal
}

/// Keeps the token for the moment the source answers.
pub(crate) fn remember(guard: &mut Guard<'_, Box<Cold>>, source: CredentialSource, token: &[u8]) {
    guard.credential = Some(PendingCredential { source, token: Secret::new(token.to_vec()) });
}

fn require_live(engine: &Engine, id: ConnectionId, guard: &mut Guard<'_, Box<Cold>>, now: Now) -> Result<(), Refusal> {
    if let Some(terminal) = guard.terminal {
        return Err(terminal.refusal);
    }
    if guard.state() != State::Live {
        return Err(Reason::ProtocolError.into());
    }
    if guard.is_over(now) {
        let reason = due::expiry_reason(guard);
        close::close(engine, id, guard, reason.into(), now);
        return Err(reason.into());
    }
    Ok(())
}

/// RULES 28: the same issuer and subject, and whatever else binds either of the two tokens.
pub(crate) fn require_same_identity(old: &Identity, new: &Identity) -> Result<(), Reason> {
    let same = old.issuer == new.issuer
        && old.subject == new.subject
        && old.session_id == new.session_id
        && old.tenant == new.tenant
        && old.client_id == new.client_id
        && old.confirmation == new.confirmation;
    if same { Ok(()) } else { Err(Reason::IdentityMismatch) }
}

/// Whether a token could take the place of the one a connection stands on.
fn is_for(held: &Identity, new: &Identity) -> bool {
    require_same_identity(held, new).is_ok() && (new.expiry > held.expiry || is_same_credential(held, new))
}

/// The same token handed over again: the same facts to the last claim.
fn is_same_credential(old: &Identity, new: &Identity) -> bool {
    old.expiry == new.expiry && old.token_id == new.token_id && old.key_id == new.key_id && old.claims == new.claims
}
