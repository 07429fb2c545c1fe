//! This file answers: how does a verified identity become a live connection?
//!
//! The order is RULES 4: into the index first, then a look at the revocations, then published. A revocation
//! that comes at any moment either is seen by the look, or finds the connection in the index.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::config::UserLimitPolicy;
use crate::connection::{Cold, ConnectionId, Grant, Guard, PendingCredential, RefreshState, State, Timetable};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::{close, due, introspect, report};
use crate::identity::Identity;
use crate::limit::Fingerprint;
use crate::lookup::Profile;
use crate::policy::PermissionSet;
use crate::revocation::RevocationFacts;
use crate::rules::Rules;
use crate::time::Now;

/// Takes a connection that is admitting, authenticating or awaiting authentication live, with the profile that was
/// added to its identity and what its source is asked about later.
///
/// On refusal the connection is as dead as before; the caller ends it.
pub(crate) fn go_live(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    identity: Identity,
    profile: Option<Arc<Profile>>,
    reask: Option<PendingCredential>,
    now: Now,
) -> Result<(), Refusal> {
    let identity = Arc::new(identity);
    let permissions = Arc::new(PermissionSet::from_texts(identity.permissions.iter().cloned()));
    require_to_connect(rules, &permissions)?;
    let slot = engine.table.find(id).ok_or(Reason::MisuseHandle)?;
    let subject = engine.hash.subject(&identity.issuer, &identity.subject);
    {
        let mut guard = slot.lock(id).ok_or(Reason::MisuseHandle)?;
        let waited = guard.state() == State::Authenticating;
        if guard.state() != State::Admitting && guard.transition(State::Admitting).is_err() {
            return Err(guard.terminal.map_or(Reason::MisuseHandle.into(), |terminal| terminal.refusal));
        }
        take_user_permit(engine, rules, id, &mut guard, subject)?;
        insert_into_index(engine, id, &mut guard, &identity);
        let bucket = engine.rates.acquire(subject, now.mono);
        guard.held.bucket = Some(bucket);
        guard.assign_bucket(bucket.index());
        guard.held_permissions = identity.permissions.clone();
        guard.identity = Some(Arc::clone(&identity));
        guard.permissions = permissions;
        if let Err(refusal) = publish(engine, rules, &mut guard, &identity, now) {
            // Who was not let in is nobody.
            guard.identity = None;
            guard.held_permissions.clear();
            return Err(refusal);
        }
        // Of two credentials offered at once, what belongs to the one that is let in, and nothing of the other.
        guard.enriching = None;
        guard.profile = profile;
        guard.reask = reask;
        introspect::plan_recheck(engine, rules, &mut guard, now);
        if let Some(held) = guard.held.unauthenticated.take() {
            engine.release_unauthenticated(held);
        }
        // Whoever was told to hold waits for this, also after a first message.
        guard.pending.ready = waited;
        guard.held_back = false;
        guard.credential = None;
        guard.pending.authenticated = true;
        engine.schedule(id, due::next_deadline(&guard, State::Live, slot.record().last_activity(), rules));
        engine.enqueue(id, &guard);
        report::accepted(engine, id, &guard, now);
    }
    evict_beyond_limit(engine, rules, subject, now);
    Ok(())
}

/// The grant, the look, and live.
fn publish(
    engine: &Engine,
    rules: &Rules,
    guard: &mut Guard<'_, Box<Cold>>,
    identity: &Identity,
    now: Now,
) -> Result<(), Refusal> {
    commit_grant(engine, rules, guard.id(), guard, now)?;
    require_in_force(engine, identity, now)?;
    guard.record().touch(now.mono);
    Ok(guard.transition(State::Live).map_err(|_| Reason::FaultInternal)?)
}

/// Whether a verified credential may still be used: not revoked, and its key still one of its issuer's. Both may
/// have changed while it was being verified. The caller holds the connection's lock, so that a change that comes
/// later finds the connection.
pub(crate) fn require_in_force(engine: &Engine, identity: &Identity, now: Now) -> Result<(), Refusal> {
    if engine.revocations.is_revoked(&RevocationFacts::from(identity), now) {
        return Err(Reason::TokenRevoked.into());
    }
    let Some(key_id) = &identity.key_id else { return Ok(()) };
    let rules = engine.rules.get();
    let issuer = rules.issuer(&identity.issuer).ok_or(Reason::IssuerUnknown)?;
    if issuer.keys().key_ids().any(|current| current == key_id) { Ok(()) } else { Err(Reason::KeyUnknown.into()) }
}

/// Compiles what the identity in the cold part may do, plans its refresh, and swaps the grant of the record.
pub(crate) fn commit_grant(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    now: Now,
) -> Result<(), Refusal> {
    let Some(identity) = guard.identity.clone() else { return Err(Reason::FaultInternal.into()) };
    let timetable = Timetable::plan(identity.expiry, rules.config.refresh.lead_ms, engine.hash.jitter(id), now);
    let set = intern(engine, rules, guard, &identity)?;
    let grant = Grant {
        wall_expiry: identity.expiry,
        mono_expiry: timetable.expiry,
        permission_set: set,
        policy_epoch: rules.epoch,
    };
    swap(engine, guard, grant)?;
    engine.latest_expiry.fetch_max(identity.expiry.0, Ordering::SeqCst);
    guard.timetable = timetable;
    guard.refresh = RefreshState::default();
    Ok(())
}

/// Compiles the permissions again, for another policy or other permissions; the times stay.
pub(crate) fn recompile_grant(engine: &Engine, rules: &Rules, guard: &mut Guard<'_, Box<Cold>>) -> Result<(), Refusal> {
    let Some(identity) = guard.identity.clone() else { return Err(Reason::FaultInternal.into()) };
    let set = intern(engine, rules, guard, &identity)?;
    let grant = Grant { permission_set: set, policy_epoch: rules.epoch, ..guard.grant() };
    swap(engine, guard, grant)
}

/// The one write of a grant; its permission set is held from here on, the old one given back.
fn swap(engine: &Engine, guard: &mut Guard<'_, Box<Cold>>, grant: Grant) -> Result<(), Refusal> {
    if guard.commit(grant).is_err() {
        engine.sets.release(grant.permission_set);
        return Err(Reason::FaultInternal.into());
    }
    if let Some(old) = guard.held.permission_set.replace(grant.permission_set) {
        engine.sets.release(old);
    }
    Ok(())
}

/// Puts token id and session id of an identity into the index; the subject stands there from its permit.
pub(crate) fn insert_into_index(
    engine: &Engine,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    identity: &Identity,
) {
    for key in token_and_session(engine, identity).into_iter().flatten() {
        if !guard.held.index.contains(&key) && engine.index.insert(key, id, None).is_ok() {
            guard.held.index.push(key);
        }
    }
}

/// Takes entries out of the index that are not of the identity in force, so that refreshes do not pile up there.
pub(crate) fn prune_index(engine: &Engine, guard: &mut Guard<'_, Box<Cold>>) {
    let Some(identity) = guard.identity.clone() else { return };
    let id = guard.id();
    let subject = engine.hash.subject(&identity.issuer, &identity.subject);
    let kept = token_and_session(engine, &identity);
    guard.held.index.retain(|key| {
        let keep = *key == subject || kept.contains(&Some(*key));
        if !keep {
            engine.index.remove(*key, id);
        }
        keep
    });
}

fn token_and_session(engine: &Engine, identity: &Identity) -> [Option<Fingerprint>; 2] {
    let token = identity.token_id.as_deref().map(|token| engine.hash.token(&identity.issuer, token));
    let session = identity.session_id.as_deref().map(|session| engine.hash.session(&identity.issuer, session));
    [token, session]
}

fn intern(engine: &Engine, rules: &Rules, guard: &Guard<'_, Box<Cold>>, identity: &Identity) -> Result<u32, Refusal> {
    let bitmap = rules.policy.bitmap(&guard.permissions, &identity.subject);
    engine.sets.intern(rules.epoch, &bitmap).ok_or_else(|| Refusal::after(Reason::ConnectionsFull, 1_000))
}

pub(crate) fn require_to_connect(rules: &Rules, permissions: &PermissionSet) -> Result<(), Refusal> {
    let needed = &rules.config.handshake.required_permissions;
    if needed.iter().all(|needed| permissions.allows(needed)) { Ok(()) } else { Err(Reason::InsufficientScope.into()) }
}

fn take_user_permit(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    subject: Fingerprint,
) -> Result<(), Refusal> {
    let limits = &rules.config.limits;
    let limit = match limits.user_policy {
        UserLimitPolicy::Reject => Some(limits.connections_per_user as usize),
        UserLimitPolicy::EvictOldest => None,
    };
    match engine.index.insert(subject, id, limit) {
        Ok(_) => {
            guard.held.index.push(subject);
            Ok(())
        }
        Err(_) => Err(Refusal::after(Reason::UserConnections, 1_000)),
    }
}

/// Closes the oldest connections of a subject beyond its limit: a half-open socket must not lock its user out.
fn evict_beyond_limit(engine: &Engine, rules: &Rules, subject: Fingerprint, now: Now) {
    let limit = rules.config.limits.connections_per_user as usize;
    let all = engine.index.find(subject);
    for victim in all.iter().take(all.len().saturating_sub(limit)) {
        let Some(slot) = engine.table.find(*victim) else { continue };
        if let Some(mut guard) = slot.lock(*victim) {
            close::close(engine, *victim, &mut guard, Reason::Evicted.into(), now);
        }
    }
}
