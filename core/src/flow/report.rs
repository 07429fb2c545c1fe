//! This file answers: who hears of a decision? The audit, the metrics, and the count of failures.

use crate::audit::{AuditEvent, AuditKind, UnverifiedText};
use crate::connection::{Cold, ConnectionId, Guard, PermissionDiff};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::due;
use crate::flow::handshake::Seen;
use crate::limit::{counts_as_guess, counts_as_refusal};
use crate::lookup::Backend;
use crate::metrics::{Count, Stage};
use crate::request::{ClientAddress, Upgrade};
use crate::rules::Rules;
use crate::time::Now;

pub(crate) fn accepted(engine: &Engine, id: ConnectionId, cold: &Cold, now: Now) {
    if let Some(identity) = &cold.identity {
        engine.metrics.accept(identity.source);
    }
    engine.audit.push(of_connection(AuditKind::HandshakeAccepted, id, cold, now));
}

pub(crate) fn handshake_refused(
    engine: &Engine,
    rules: &Rules,
    request: &Upgrade<'_>,
    seen: &Seen,
    refusal: Refusal,
    now: Now,
) {
    engine.metrics.refuse(Stage::Handshake, refusal.reason);
    let mut event = AuditEvent::new(AuditKind::HandshakeRefused, now.wall);
    event.reason = Some(refusal.reason);
    event.address = seen.address.map(ClientAddress::ip);
    event.source = seen.source;
    if let Some(token) = seen.token {
        event.set_token(token);
    }
    event.unverified_path = Some(UnverifiedText::path(request.target));
    event.unverified_origin = request.values("origin").next().map(UnverifiedText::new);
    engine.audit.push(event);
    if let Some(address) = seen.address {
        count_failure(engine, rules, address, refusal.reason, now);
    }
}

/// A connection that was authenticating, or awaiting its first message, failed. Its end is audited by [`closing`].
pub(crate) fn pending_refused(engine: &Engine, rules: &Rules, cold: &Cold, reason: Reason, now: Now) {
    count_failure(engine, rules, cold.peer.address, reason, now);
}

pub(crate) fn message_refused(
    engine: &Engine,
    rules: &Rules,
    guard: &mut Guard<'_, Box<Cold>>,
    refusal: Refusal,
    now: Now,
) {
    engine.metrics.refuse(Stage::Message, refusal.reason);
    match guard.refusals.note(refusal.reason, now.mono) {
        Some(count) => push_count(engine, AuditKind::MessageRefused, guard.id(), guard, refusal.reason, count, now),
        None => due::file(engine, rules, guard),
    }
}

pub(crate) fn delivery_refused(
    engine: &Engine,
    rules: &Rules,
    guard: &mut Guard<'_, Box<Cold>>,
    refusal: Refusal,
    now: Now,
) {
    engine.metrics.refuse(Stage::Delivery, refusal.reason);
    match guard.delivery_refusals.note(refusal.reason, now.mono) {
        Some(count) => push_count(engine, AuditKind::DeliveryRefused, guard.id(), guard, refusal.reason, count, now),
        None => due::file(engine, rules, guard),
    }
}

pub(crate) fn refresh_asked(engine: &Engine, id: ConnectionId, cold: &Cold, now: Now) {
    engine.audit.push(of_connection(AuditKind::RefreshAsked, id, cold, now));
}

pub(crate) fn refreshed(engine: &Engine, id: ConnectionId, cold: &Cold, diff: &PermissionDiff, now: Now) {
    engine.metrics.add(Count::Refresh);
    engine.audit.push(with_diff(of_connection(AuditKind::Refreshed, id, cold, now), diff));
}

pub(crate) fn refresh_refused(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    cold: &Cold,
    refusal: Refusal,
    now: Now,
) {
    engine.metrics.refuse(Stage::Refresh, refusal.reason);
    let mut event = of_connection(AuditKind::RefreshRefused, id, cold, now);
    event.reason = Some(refusal.reason);
    engine.audit.push(event);
    count_failure(engine, rules, cold.peer.address, refusal.reason, now);
}

pub(crate) fn permissions_changed(engine: &Engine, id: ConnectionId, cold: &Cold, diff: &PermissionDiff, now: Now) {
    engine.audit.push(with_diff(of_connection(AuditKind::PermissionsChanged, id, cold, now), diff));
}

/// We decided that a connection ends; one that never was live was refused at its handshake.
pub(crate) fn closing(engine: &Engine, id: ConnectionId, cold: &mut Cold, refusal: Refusal, now: Now) {
    let was_live = cold.identity.is_some();
    engine.metrics.refuse(if was_live { Stage::Close } else { Stage::Handshake }, refusal.reason);
    if refusal.reason == Reason::Revoked {
        engine.metrics.add(Count::RevokedConnection);
    }
    let kind = if was_live { AuditKind::Closed } else { AuditKind::HandshakeRefused };
    let mut event = of_connection(kind, id, cold, now);
    event.reason = Some(refusal.reason);
    engine.audit.push(event);
}

/// The socket is gone. What was decided before was told then.
pub(crate) fn ended(engine: &Engine, id: ConnectionId, cold: &mut Cold, now: Now) {
    let untold = cold.refusals.take_untold();
    push_counts(engine, AuditKind::MessageRefused, id, cold, &untold, now);
    let untold = cold.delivery_refusals.take_untold();
    push_counts(engine, AuditKind::DeliveryRefused, id, cold, &untold, now);
    if cold.terminal.is_none() && cold.identity.is_some() {
        engine.metrics.add(Count::ClosedClean);
        engine.audit.push(of_connection(AuditKind::Closed, id, cold, now));
    }
}

pub(crate) fn leaked(engine: &Engine, id: ConnectionId, cold: &Cold, now: Now) {
    engine.audit.push(of_connection(AuditKind::ConnectionLeaked, id, cold, now));
}

pub(crate) fn revoked(engine: &Engine, detail: &'static str, closed: usize, folded: bool, now: Now) {
    let mut event = AuditEvent::new(AuditKind::Revoked, now.wall);
    event.detail = Some(detail);
    event.count = u64::try_from(closed).ok();
    engine.audit.push(event);
    if folded {
        let mut alarm = AuditEvent::new(AuditKind::LimitAlarm, now.wall);
        alarm.detail = Some("the revocation table is full: rules were folded and refuse more than was revoked");
        engine.audit.push(alarm);
    }
}

pub(crate) fn keys_loaded(engine: &Engine, issuer: &str, good: bool, now: Now) {
    let kind = if good { AuditKind::KeysLoaded } else { AuditKind::Fault };
    let mut event = AuditEvent::new(kind, now.wall);
    event.issuer = Some(issuer.into());
    if !good {
        event.detail = Some("the key set was not usable: the last good one stays");
    }
    engine.audit.push(event);
}

/// A thread panicked while it held a lock; the detail says what was repaired.
pub(crate) fn fault(engine: &Engine, detail: &'static str, now: Now) {
    let mut event = AuditEvent::new(AuditKind::Fault, now.wall);
    event.detail = Some(detail);
    engine.audit.push(event);
}

/// The same where it was the lock of one connection.
pub(crate) fn connection_fault(engine: &Engine, id: ConnectionId, cold: &Cold, now: Now) {
    let mut event = of_connection(AuditKind::Fault, id, cold, now);
    event.detail = Some("a call panicked in the middle of this connection: it was closed");
    engine.audit.push(event);
}

/// What came from an issuer was no document of the kind asked for; the sentence is one of ours.
pub(crate) fn document_refused(engine: &Engine, issuer: &str, why: &'static str, now: Now) {
    let mut event = AuditEvent::new(AuditKind::Fault, now.wall);
    event.issuer = Some(issuer.into());
    event.detail = Some(why);
    engine.audit.push(event);
}

pub(crate) fn source_degraded(engine: &Engine, backend: &Backend, detail: &'static str, now: Now) {
    let mut event = of_source(AuditKind::SourceDegraded, backend, detail, now);
    event.reason = Some(Reason::SourceUnavailable);
    engine.audit.push(event);
}

pub(crate) fn source_recovered(engine: &Engine, backend: &Backend, detail: &'static str, now: Now) {
    engine.audit.push(of_source(AuditKind::SourceRecovered, backend, detail, now));
}

/// The source answers 401 or 403: not the user's credential is wrong but ours.
pub(crate) fn credentials_rejected(engine: &Engine, backend: &Backend, now: Now) {
    engine.metrics.add(Count::Alert);
    let detail = "the source refuses our own credentials";
    let mut event = of_source(AuditKind::AlertCredentialsRejected, backend, detail, now);
    event.reason = Some(Reason::SourceUnavailable);
    engine.audit.push(event);
}

fn of_source(kind: AuditKind, backend: &Backend, detail: &'static str, now: Now) -> AuditEvent {
    let mut event = AuditEvent::new(kind, now.wall);
    event.backend = Some(backend.kind);
    event.issuer = backend.issuer.clone();
    event.detail = Some(detail);
    event
}

pub(crate) fn reloaded(engine: &Engine, now: Now) {
    engine.audit.push(AuditEvent::new(AuditKind::Reloaded, now.wall));
}

fn count_failure(engine: &Engine, rules: &Rules, address: ClientAddress, reason: Reason, now: Now) {
    if !counts_as_refusal(reason) {
        return;
    }
    let key = engine.hash.address(address.key(rules.config.limits.ipv6_prefix).as_bytes());
    let outcome = engine.brute_force.record(key, counts_as_guess(reason), &rules.config.brute_force, now.mono);
    let push = |kind: AuditKind, count: u32| {
        let mut event = AuditEvent::new(kind, now.wall);
        event.reason = Some(reason);
        event.address = Some(address.ip());
        event.count = Some(u64::from(count));
        engine.audit.push(event);
    };
    if let Some(alert) = outcome.alert {
        engine.metrics.add(Count::Alert);
        push(AuditKind::AlertBruteForce, alert.count);
    }
    if let Some(block) = outcome.block {
        push(AuditKind::Blocked, block.count);
    }
}

/// Message and delivery refusals that have waited their second (RULES 35).
pub(crate) fn refusals_due(engine: &Engine, id: ConnectionId, cold: &mut Cold, now: Now) {
    let due = cold.refusals.take_due(now.mono);
    push_counts(engine, AuditKind::MessageRefused, id, cold, &due, now);
    let due = cold.delivery_refusals.take_due(now.mono);
    push_counts(engine, AuditKind::DeliveryRefused, id, cold, &due, now);
}

fn push_counts(engine: &Engine, kind: AuditKind, id: ConnectionId, cold: &Cold, counts: &[(Reason, u64)], now: Now) {
    for (reason, count) in counts {
        push_count(engine, kind, id, cold, *reason, *count, now);
    }
}

fn push_count(engine: &Engine, kind: AuditKind, id: ConnectionId, cold: &Cold, reason: Reason, count: u64, now: Now) {
    let mut event = of_connection(kind, id, cold, now);
    event.reason = Some(reason);
    event.count = Some(count);
    engine.audit.push(event);
}

fn of_connection(kind: AuditKind, id: ConnectionId, cold: &Cold, now: Now) -> AuditEvent {
    let mut event = AuditEvent::new(kind, now.wall);
    event.connection = Some(id.as_u64());
    event.address = Some(cold.peer.address.ip());
    event.unverified_path = Some(UnverifiedText::new(cold.peer.path.as_bytes()));
    event.unverified_origin = cold.peer.origin.as_ref().map(|origin| UnverifiedText::new(origin.as_bytes()));
    if let Some(identity) = &cold.identity {
        event.issuer = Some(identity.issuer.clone());
        event.subject = Some(identity.subject.clone());
        event.source = Some(identity.source);
    }
    event
}

fn with_diff(mut event: AuditEvent, diff: &PermissionDiff) -> AuditEvent {
    event.added = u64::try_from(diff.added.len()).ok();
    event.removed = u64::try_from(diff.removed.len()).ok();
    event
}
