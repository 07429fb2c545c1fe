//! This file answers: what must the server do now, on this shard?

use crate::config::CredentialSource;
use crate::connection::{Cold, ConnectionId, Guard, PermissionDiff, State};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::{due, sources};
use crate::rules::Rules;
use crate::time::{MonoTime, Now};
use crate::wire::close_code;

/// Connections looked at in one poll because a deadline came.
const DUE_A_POLL: usize = 1_024;

/// One thing the server must do for one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The connection.
    pub connection: ConnectionId,
    /// What to do.
    pub kind: EventKind,
}

/// What to do for a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Send this text frame.
    Send(String),
    /// What waited for a lookup, a handshake or a first message, succeeded: open the gates.
    Ready,
    /// A handshake that waited for a lookup is refused: answer over HTTP, or close with this code where the
    /// upgrade was already accepted; then say `closed`.
    Refused {
        /// Why.
        refusal: Refusal,
        /// The close code.
        code: u16,
    },
    /// The connection's permissions changed: drop what it may no longer receive.
    PermissionsChanged(PermissionDiff),
    /// Close the connection with this code and the public name as its reason; then say `closed`.
    Close {
        /// Why.
        refusal: Refusal,
        /// The close code.
        code: u16,
    },
}

/// How a poll ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Polled {
    /// Poll again at once: there is more than was taken.
    pub more: bool,
    /// Poll again at this time at the latest; `None` while nothing is scheduled.
    pub next_deadline: Option<MonoTime>,
}

/// Serves deadlines, then hands out events until `max` are reached. One connection's events stay together, so
/// a few more than `max` may come.
pub(crate) fn poll(
    engine: &Engine,
    rules: &Rules,
    shard: u8,
    now: Now,
    max: usize,
    events: &mut Vec<Event>,
) -> Result<Polled, Reason> {
    let outbox = engine.shard(shard).ok_or(Reason::MisuseArgument)?;
    let alone = outbox.begin_poll()?;
    let mut due_ids = Vec::new();
    let serving = outbox.serving();
    let more_due = outbox.take_due(now.mono, DUE_A_POLL, &mut due_ids);
    for id in due_ids {
        due::serve(engine, rules, id, now);
    }
    drop(serving);
    let mut ready = Vec::new();
    let full = events.len().saturating_add(max);
    while events.len() < full {
        ready.clear();
        outbox.take_ready(1, &mut ready);
        let Some(id) = ready.first().copied() else { break };
        if let Some(slot) = engine.table.find(id)
            && let Some(mut guard) = slot.lock(id)
        {
            hand_out(rules, id, &mut guard, now, events);
        }
    }
    if shard == 0 {
        sources::fetch_due(engine, rules, now);
    }
    let rest = alone.finish();
    Ok(Polled { more: more_due || rest.waiting, next_deadline: next_deadline(engine, shard, rest.next_deadline) })
}

/// When a shard must be polled: at its wheel's next deadline, and shard 0 also when keys are to be fetched.
pub(crate) fn next_deadline(engine: &Engine, shard: u8, wheel: MonoTime) -> Option<MonoTime> {
    let deadline = if shard == 0 { wheel.min(engine.sources.next()) } else { wheel };
    Some(deadline).filter(|deadline| *deadline != MonoTime::NEVER)
}

/// Advances a shard's deadlines by a bounded slice, so that a server that never polls degrades and does not
/// leak (RULES 13).
pub(crate) fn advance(engine: &Engine, rules: &Rules, shard: u8, now: Now, budget: usize) {
    let Some(outbox) = engine.shard(shard) else { return };
    sources::fetch_due(engine, rules, now);
    let mut due_ids = Vec::new();
    let _serving = outbox.serving();
    outbox.take_due(now.mono, budget, &mut due_ids);
    for id in due_ids {
        due::serve(engine, rules, id, now);
    }
}

/// Makes the events of one connection from its present state.
fn hand_out(rules: &Rules, id: ConnectionId, guard: &mut Guard<'_, Box<Cold>>, now: Now, events: &mut Vec<Event>) {
    let write = rules.writer();
    let mut pending = std::mem::take(&mut guard.pending);
    let mut push = |kind: EventKind| events.push(Event { connection: id, kind });
    let held_back = guard.held_back;
    // An upgrade is answered before the first text; the answer to a first message comes before what was held.
    let by_message = guard.identity.as_ref().is_some_and(|identity| identity.source == CredentialSource::FirstMessage);
    if pending.ready && !by_message {
        push(EventKind::Ready);
    }
    if let Some(identity) = guard.identity.as_ref().filter(|_| pending.authenticated) {
        push(EventKind::Send(write.auth_success(&identity.subject, identity.expiry, guard.timetable.ask_at, now)));
    }
    if pending.ready && by_message {
        push(EventKind::Ready);
    }
    if let (Some(diff), Some(identity)) = (pending.refreshed.take(), guard.identity.as_ref()) {
        push(EventKind::Send(write.token_refreshed(identity.expiry, guard.timetable.ask_at, &diff, now)));
    }
    if let Some(diff) = pending.permissions_changed.take().filter(|diff| !diff.is_empty()) {
        push(EventKind::Send(write.permissions_changed(&diff)));
    }
    if let Some(diff) = pending.host_permissions.take().filter(|diff| !diff.is_empty()) {
        push(EventKind::PermissionsChanged(diff));
    }
    if pending.refresh_asked && guard.state() == State::Live {
        push(EventKind::Send(write.token_refresh_required(guard.timetable.expiry, guard.timetable.deadline, now)));
    }
    if let Some(refusal) = pending.refresh_failed {
        let left = rules.config.refresh.attempts.saturating_sub(guard.refresh.refused);
        push(EventKind::Send(write.token_refresh_failed(refusal, left, guard.timetable.deadline, now)));
    }
    if let Some(retry_after_ms) = pending.rate_limited {
        push(EventKind::Send(write.rate_limited(retry_after_ms)));
    }
    if let Some((refusal, request_type)) = pending.error.take() {
        push(EventKind::Send(write.error(refusal, request_type.as_deref())));
    }
    if let Some(terminal) = guard.terminal.as_mut().filter(|_| pending.close) {
        terminal.handed_out = true;
        let refusal = terminal.refusal;
        let code = close_code(refusal.reason, &rules.config.close);
        push(if held_back { EventKind::Refused { refusal, code } } else { EventKind::Close { refusal, code } });
    }
}
