//! This file answers: may this message reach the application?
//!
//! Alive, unexpired, within its rate; then the type is read, control messages are taken out, and the type's
//! permission is asked for. The ordinary message takes no lock and allocates nothing.

use std::sync::Arc;

use crate::config::CredentialSource;
use crate::connection::{Cold, ConnectionId, PendingCredential, Slot, Snapshot, State};
use crate::decision::{Delivered, Reason, Refusal, Withheld};
use crate::engine::Engine;
use crate::flow::handshake::Wanted;
use crate::flow::identify::{Proven, identify};
use crate::flow::{answer, close, due, enrich, permissions, refresh, report};
use crate::limit::Budget;
use crate::lookup::Purpose;
use crate::metrics::Count;
use crate::policy::{Fields, TypeId, require_permission};
use crate::rules::Rules;
use crate::secret::Secret;
use crate::time::Now;
use crate::token::TokenVerdict;
use crate::wire::{MAX_CONTROL_BYTES, Message, MessageShape, Reserved, parse_control_token, scan_message};

/// Answers of hold to one connection after which it breaks the protocol (RULES 15).
const MAX_HOLDS: u32 = 16;
/// The window in which rate refusals are counted, in milliseconds (RULES 21).
const STRIKE_WINDOW_MS: u32 = 60_000;

/// One whole message, after reassembly.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// A text message.
    Text(&'a [u8]),
    /// A binary message.
    Binary(&'a [u8]),
}

/// What is to be decided: a frame, or a type the server names for what is not JSON.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Inbound<'a> {
    Frame(Payload<'a>),
    Named { message_type: &'a str, fields: &'a [(&'a str, &'a str)] },
}

/// Decides one inbound message.
pub(crate) fn decide(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    inbound: Inbound<'_>,
    now: Now,
) -> Result<Delivered, Withheld> {
    let Some(slot) = engine.table.find(id) else { return Err(Withheld::Refused(Reason::MisuseHandle.into())) };
    let mut charge = Charge::Due;
    loop {
        let Some(seen) = slot.record().read(id.generation()) else {
            return Err(Withheld::Refused(Reason::MisuseHandle.into()));
        };
        match seen.state() {
            State::Live => {}
            State::Admitting | State::Authenticating => match hold(engine, slot, id, now) {
                Some(withheld) => return Err(withheld),
                None => continue,
            },
            State::AwaitingAuth => return Err(first_message(engine, rules, slot, id, inbound, now)),
            State::Closing => return Err(ending(slot, id)),
            State::Free => return Err(Withheld::Refused(Reason::MisuseHandle.into())),
        }
        if seen.grant.is_over(now) {
            match expire(engine, slot, id, now) {
                Some(withheld) => return Err(withheld),
                None => continue,
            }
        }
        if seen.grant.policy_epoch != rules.epoch {
            let rules = engine.rules.get();
            match permissions::recompile(engine, &rules, id, now) {
                Ok(()) => return decide(engine, &rules, id, inbound, now),
                Err(_) => return Err(ending(slot, id)),
            }
        }
        let verdict = judge(engine, rules, slot, id, &seen, &mut charge, inbound, now);
        // The last look before yes or no: whatever came in between, a revocation above all, is decided anew.
        if !slot.record().confirm(&seen) {
            continue;
        }
        match verdict {
            Ok(type_id) => {
                slot.record().touch(now.mono);
                engine.metrics.add(Count::MessageDelivered);
                return Ok(Delivered { type_id: Some(type_id.index()) });
            }
            Err(Verdict::Control(reserved)) => {
                return Err(control(engine, rules, slot, id, reserved, inbound, now));
            }
            Err(Verdict::Refused(refusal, type_id)) => {
                return Err(refuse(engine, rules, slot, id, refusal, type_id, now));
            }
        }
    }
}

/// Whether the message has been paid for. A message judged twice because its connection changed pays once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Charge {
    Due,
    Scanned,
    Paid,
}

enum Verdict {
    Control(Reserved),
    Refused(Refusal, Option<TypeId>),
}

impl From<Reason> for Verdict {
    fn from(reason: Reason) -> Verdict {
        Verdict::Refused(reason.into(), None)
    }
}

#[expect(clippy::too_many_arguments, reason = "one decision, all of its facts")]
fn judge(
    engine: &Engine,
    rules: &Rules,
    slot: &Slot<Box<Cold>>,
    id: ConnectionId,
    seen: &Snapshot,
    charge: &mut Charge,
    inbound: Inbound<'_>,
    now: Now,
) -> Result<TypeId, Verdict> {
    if *charge == Charge::Due {
        if let Err(retry) = spend(engine, rules, seen, 1, now) {
            // A spent budget must not keep a client from renewing its token (RULES 21).
            return match control_in(rules, inbound) {
                Some(reserved) => Err(Verdict::Control(reserved)),
                None => Err(Verdict::Refused(Refusal::after(Reason::MessageRate, retry), None)),
            };
        }
        *charge = Charge::Scanned;
    }
    let scanned;
    let (type_id, fields) = match inbound {
        Inbound::Frame(Payload::Text(text)) => {
            scanned = scan_message(text, &shape(rules))?;
            match scanned.reserved() {
                Some(Reserved::Server) => return Err(Reason::MessageReserved.into()),
                Some(reserved) => return Err(Verdict::Control(reserved)),
                None => {}
            }
            (rules.policy.select_message(scanned.type_name())?, Fields::Message(&scanned))
        }
        Inbound::Frame(Payload::Binary(bytes)) => {
            if bytes.len() > rules.config.message.max_bytes {
                return Err(Reason::MessageTooLarge.into());
            }
            let named = rules.config.message.binary_type.as_deref().ok_or(Reason::MessageBinary)?;
            (rules.policy.select_message(named.as_bytes())?, Fields::Host(&[]))
        }
        Inbound::Named { message_type, fields } => {
            (rules.policy.select_message(message_type.as_bytes())?, Fields::Host(fields))
        }
    };
    let refused = |refusal: Refusal| Verdict::Refused(refusal, Some(type_id));
    if *charge == Charge::Scanned {
        let rest = rules.policy.select_rule(type_id)?.weight.saturating_sub(1);
        if rest > 0
            && let Err(retry) = spend(engine, rules, seen, rest, now)
        {
            return Err(refused(Refusal::after(Reason::MessageRate, retry)));
        }
        *charge = Charge::Paid;
    }
    require(engine, rules, slot, id, seen, type_id, fields).map_err(|reason| refused(reason.into()))?;
    Ok(type_id)
}

/// The permission: one bit for a type without a pattern, the connection's own lock for one with.
pub(crate) fn require(
    engine: &Engine,
    rules: &Rules,
    slot: &Slot<Box<Cold>>,
    id: ConnectionId,
    seen: &Snapshot,
    type_id: TypeId,
    fields: Fields<'_>,
) -> Result<(), Reason> {
    if engine.sets.allows(seen.grant.permission_set, type_id) {
        return Ok(());
    }
    if !rules.policy.slow(type_id) {
        return Err(Reason::PermissionMissing);
    }
    let guard = slot.lock(id).ok_or(Reason::MisuseHandle)?;
    let identity = guard.identity.as_ref().ok_or(Reason::FaultInternal)?;
    require_permission(&rules.policy, type_id, &guard.permissions, &identity.subject, fields)
}

fn spend(engine: &Engine, rules: &Rules, seen: &Snapshot, units: u32, now: Now) -> Result<(), u64> {
    engine.rates.spend(engine.bucket(seen.bucket), Budget::Message, units, &rules.message_rate, now.mono)
}

fn shape(rules: &Rules) -> MessageShape<'_> {
    let message = &rules.config.message;
    MessageShape { type_field: &message.type_field, max_bytes: message.max_bytes, max_depth: message.max_depth }
}

/// `auth` or `token_refresh` in a short text frame, when that is what it is.
fn control_in(rules: &Rules, inbound: Inbound<'_>) -> Option<Reserved> {
    let Inbound::Frame(Payload::Text(text)) = inbound else { return None };
    if text.len() > MAX_CONTROL_BYTES {
        return None;
    }
    let message: Message<'_> = scan_message(text, &shape(rules)).ok()?;
    message.reserved().filter(|reserved| *reserved != Reserved::Server)
}

/// A control message on a live connection. It never reaches the application.
fn control(
    engine: &Engine,
    rules: &Rules,
    slot: &Slot<Box<Cold>>,
    id: ConnectionId,
    reserved: Reserved,
    inbound: Inbound<'_>,
    now: Now,
) -> Withheld {
    let Inbound::Frame(Payload::Text(text)) = inbound else {
        return refuse(engine, rules, slot, id, Reason::MessageReserved.into(), None, now);
    };
    if reserved != Reserved::TokenRefresh {
        // A second `auth` on an authenticated connection breaks the protocol (RULES 15).
        return end(engine, slot, id, Reason::ProtocolError, now);
    }
    let Some(seen) = slot.record().read(id.generation()) else { return Withheld::Refused(Reason::MisuseHandle.into()) };
    let bucket = engine.bucket(seen.bucket);
    if let Err(retry) = engine.rates.spend(bucket, Budget::Control, 1, &rules.control_rate, now.mono) {
        return refuse(engine, rules, slot, id, Refusal::after(Reason::ControlRate, retry), None, now);
    }
    engine.metrics.add(Count::MessageConsumed);
    let token = scan_message(text, &shape(rules)).and_then(|message| parse_control_token(&message));
    let outcome = match token {
        Ok(token) => refresh::refresh(engine, rules, id, token.as_bytes(), now).map(|_| ()),
        Err(reason) => match slot.lock(id) {
            Some(mut guard) => Err(refresh::refuse(engine, rules, id, &mut guard, reason.into(), now)),
            None => Err(Reason::MisuseHandle.into()),
        },
    };
    match outcome {
        Ok(()) => Withheld::Consumed,
        Err(_) => match slot.lock(id).and_then(|guard| guard.terminal) {
            Some(terminal) => Withheld::Close(terminal.refusal),
            None => Withheld::Consumed,
        },
    }
}

/// The first frame of a connection that authenticates by message: a text `auth`, or nothing (RULES 15).
fn first_message(
    engine: &Engine,
    rules: &Rules,
    slot: &Slot<Box<Cold>>,
    id: ConnectionId,
    inbound: Inbound<'_>,
    now: Now,
) -> Withheld {
    let refuse = |refusal: Refusal| match slot.lock(id) {
        Some(mut guard) => {
            answer::refuse_pending(engine, rules, id, &mut guard, refusal, now);
            Withheld::Close(guard.terminal.map_or(refusal, |terminal| terminal.refusal))
        }
        None => Withheld::Refused(Reason::MisuseHandle.into()),
    };
    // As everywhere, the deadline is kept here and the timer is for the silent.
    if slot.lock(id).is_some_and(|guard| now.mono >= guard.authenticate_by) {
        return refuse(Reason::AuthenticationTimeout.into());
    }
    let Inbound::Frame(Payload::Text(text)) = inbound else { return refuse(Reason::CredentialMissing.into()) };
    if control_in(rules, inbound) != Some(Reserved::Auth) {
        return refuse(Reason::CredentialMissing.into());
    }
    let message = scan_message(text, &shape(rules));
    let Ok(token) = message.and_then(|message| parse_control_token(&message)) else {
        return refuse(Reason::CredentialMissing.into());
    };
    let admit = |proven: Proven| match enrich::admit(engine, rules, id, proven, now) {
        Ok(()) => Withheld::Consumed,
        Err(refusal) => refuse(refusal),
    };
    let wanted = match identify(engine, rules, token.as_bytes(), CredentialSource::FirstMessage, now) {
        Ok(proven) => return admit(proven),
        Err(TokenVerdict::Refused(reason)) => return refuse(reason.into()),
        Err(TokenVerdict::KeysNeeded { issuer }) => Wanted::Keys(issuer),
        Err(TokenVerdict::Opaque { issuer }) => Wanted::Introspection(issuer),
    };
    if let Err(refusal) = answer::require_askable(engine, rules, wanted, now) {
        return refuse(refusal);
    }
    let refusal = {
        let Some(mut guard) = slot.lock(id) else { return Withheld::Refused(Reason::MisuseHandle.into()) };
        if guard.state() != State::AwaitingAuth {
            // Another `auth` was first (RULES 15), or the connection ends.
            close::close(engine, id, &mut guard, Reason::ProtocolError.into(), now);
            return Withheld::Close(guard.terminal.map_or(Reason::ProtocolError.into(), |terminal| terminal.refusal));
        }
        let credential = PendingCredential::new(CredentialSource::FirstMessage, Secret::new(token.as_bytes().to_vec()));
        match answer::ask_about(engine, rules, &mut guard, wanted, credential, Purpose::Admit, now) {
            Ok(()) if guard.transition(State::Authenticating).is_ok() => {
                // The question may be over before the connection's own deadline.
                due::file(engine, rules, &guard);
                return Withheld::Consumed;
            }
            Ok(()) => Reason::FaultInternal.into(),
            Err(refusal) => refusal,
        }
    };
    // Nobody is asked, either, where somebody else's answer came in this very moment.
    match identify(engine, rules, token.as_bytes(), CredentialSource::FirstMessage, now) {
        Ok(proven) => admit(proven),
        Err(_) => refuse(refusal),
    }
}

/// Still being authenticated: hold. `None` when that ended meanwhile, as the `ready` that a hold waits for may be
/// told already.
fn hold(engine: &Engine, slot: &Slot<Box<Cold>>, id: ConnectionId, now: Now) -> Option<Withheld> {
    let Some(mut guard) = slot.lock(id) else { return Some(Withheld::Refused(Reason::MisuseHandle.into())) };
    if !matches!(guard.state(), State::Admitting | State::Authenticating) {
        return None;
    }
    guard.holds = guard.holds.saturating_add(1);
    if guard.holds > MAX_HOLDS {
        close::close(engine, id, &mut guard, Reason::ProtocolError.into(), now);
        return Some(Withheld::Close(Reason::ProtocolError.into()));
    }
    engine.metrics.add(Count::MessageHeld);
    Some(Withheld::Hold)
}

/// The grant is over: closes with the code of RULES 27, unless a refresh came first.
pub(crate) fn expire(engine: &Engine, slot: &Slot<Box<Cold>>, id: ConnectionId, now: Now) -> Option<Withheld> {
    let Some(mut guard) = slot.lock(id) else { return Some(Withheld::Refused(Reason::MisuseHandle.into())) };
    if guard.terminal.is_none() {
        if guard.state() != State::Live || !guard.grant().is_over(now) {
            return None;
        }
        let reason = due::expiry_reason(&guard);
        close::close(engine, id, &mut guard, reason.into(), now);
    }
    guard.terminal.map(|terminal| Withheld::Close(terminal.refusal))
}

fn ending(slot: &Slot<Box<Cold>>, id: ConnectionId) -> Withheld {
    match slot.lock(id).and_then(|guard| guard.terminal) {
        Some(terminal) => Withheld::Close(terminal.refusal),
        None => Withheld::Refused(Reason::MisuseHandle.into()),
    }
}

fn end(engine: &Engine, slot: &Slot<Box<Cold>>, id: ConnectionId, reason: Reason, now: Now) -> Withheld {
    let Some(mut guard) = slot.lock(id) else { return Withheld::Refused(Reason::MisuseHandle.into()) };
    close::close(engine, id, &mut guard, reason.into(), now);
    Withheld::Close(guard.terminal.map_or(reason.into(), |terminal| terminal.refusal))
}

/// A refused message: the peer is told once a poll, the audit once a second, and a flood ends the connection.
fn refuse(
    engine: &Engine,
    rules: &Rules,
    slot: &Slot<Box<Cold>>,
    id: ConnectionId,
    refusal: Refusal,
    type_id: Option<TypeId>,
    now: Now,
) -> Withheld {
    let Some(mut guard) = slot.lock(id) else { return Withheld::Refused(Reason::MisuseHandle.into()) };
    if let Some(terminal) = guard.terminal {
        return Withheld::Close(terminal.refusal);
    }
    report::message_refused(engine, rules, &mut guard, refusal, now);
    match refusal.reason {
        // Server types inbound, and tokens in binary frames, break the protocol (RULES 20).
        Reason::MessageReserved => {
            close::close(engine, id, &mut guard, Reason::ProtocolError.into(), now);
            return Withheld::Close(Reason::ProtocolError.into());
        }
        Reason::MessageRate | Reason::ControlRate => {
            guard.pending.rate_limited = Some(refusal.retry_after_ms.unwrap_or(1_000));
            if guard.record().strike(now.mono, STRIKE_WINDOW_MS) >= rules.config.limits.strikes {
                close::close(engine, id, &mut guard, refusal, now);
                return Withheld::Close(refusal);
            }
        }
        _ => {
            let name = type_id.and_then(|type_id| rules.policy.select_rule(type_id).ok());
            guard.pending.error = Some((refusal, name.map(|rule| Arc::from(&*rule.name))));
        }
    }
    engine.enqueue(id, &guard);
    Withheld::Refused(refusal)
}
