//! This file answers: what happens when permissions change without a new token?

use std::sync::Arc;

use crate::connection::{Cold, ConnectionId, Guard, PermissionDiff, State, merge_diff};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::{admit, close, report};
use crate::identity::MAX_PERMISSIONS;
use crate::policy::PermissionSet;
use crate::rules::Rules;
use crate::time::Now;

/// Replaces the permissions of one live connection, until its next refresh. In force when this returns.
pub(crate) fn set_permissions(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    permissions: &[Arc<str>],
    now: Now,
) -> Result<PermissionDiff, Refusal> {
    let slot = engine.table.find(id).ok_or(Reason::MisuseHandle)?;
    let mut guard = slot.lock(id).ok_or(Reason::MisuseHandle)?;
    replace(engine, rules, id, &mut guard, permissions, now)
}

/// The same for every live connection of a subject. Returns how many there were.
pub(crate) fn set_subject_permissions(
    engine: &Engine,
    rules: &Rules,
    issuer: &str,
    subject: &str,
    permissions: &[Arc<str>],
    now: Now,
) -> usize {
    let mut changed = 0usize;
    for id in engine.index.find(engine.hash.subject(issuer, subject)) {
        let Some(slot) = engine.table.find(id) else { continue };
        let Some(mut guard) = slot.lock(id) else { continue };
        if replace(engine, rules, id, &mut guard, permissions, now).is_ok() {
            changed = changed.saturating_add(1);
        }
    }
    changed
}

/// The policy was reloaded: this connection's grant is compiled for the one in force (RULES 6). Closes what
/// can no longer be compiled.
pub(crate) fn recompile(engine: &Engine, rules: &Rules, id: ConnectionId, now: Now) -> Result<(), Refusal> {
    let slot = engine.table.find(id).ok_or(Reason::MisuseHandle)?;
    let mut guard = slot.lock(id).ok_or(Reason::MisuseHandle)?;
    if guard.state() != State::Live || guard.grant().policy_epoch == rules.epoch {
        return Ok(());
    }
    require_vouched(engine, rules, id, &mut guard, now)?;
    admit::recompile_grant(engine, rules, &mut guard).inspect_err(|_| {
        // Its grant is of no policy in force: it may do nothing, so it must know.
        close::close(engine, id, &mut guard, Reason::AuthenticationUnavailable.into(), now);
    })
}

/// A connection whose issuer is gone from the configuration ends; no grant of it is compiled again.
fn require_vouched(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    now: Now,
) -> Result<(), Refusal> {
    if guard.identity.as_ref().is_some_and(|identity| rules.knows_issuer(&identity.issuer)) {
        return Ok(());
    }
    close::close(engine, id, guard, Reason::Revoked.into(), now);
    Err(Reason::Revoked.into())
}

fn replace(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    permissions: &[Arc<str>],
    now: Now,
) -> Result<PermissionDiff, Refusal> {
    if let Some(terminal) = guard.terminal {
        return Err(terminal.refusal);
    }
    if guard.state() != State::Live {
        return Err(Reason::ProtocolError.into());
    }
    if permissions.len() > MAX_PERMISSIONS {
        return Err(Reason::MisuseArgument.into());
    }
    let mut permissions = permissions.to_vec();
    permissions.sort();
    permissions.dedup();
    let diff = PermissionDiff::between(&guard.held_permissions, &permissions);
    if diff.is_empty() {
        return Ok(diff);
    }
    require_vouched(engine, rules, id, guard, now)?;
    let before = Arc::clone(&guard.permissions);
    guard.permissions = Arc::new(PermissionSet::from_texts(permissions.iter().cloned()));
    if let Err(refusal) = admit::recompile_grant(engine, rules, guard) {
        guard.permissions = before;
        return Err(refusal);
    }
    guard.held_permissions = permissions;
    merge_diff(&mut guard.pending.permissions_changed, diff.clone());
    merge_diff(&mut guard.pending.host_permissions, diff.clone());
    engine.enqueue(id, guard);
    report::permissions_changed(engine, id, guard, &diff, now);
    Ok(diff)
}
