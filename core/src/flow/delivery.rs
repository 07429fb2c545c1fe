//! This file answers: may this connection receive this?

use crate::connection::{ConnectionId, State};
use crate::decision::{Delivered, Reason, Refusal, Withheld};
use crate::engine::Engine;
use crate::flow::{message, permissions, report};
use crate::metrics::Count;
use crate::policy::{Fields, TypeId};
use crate::rules::Rules;
use crate::time::Now;

/// Decides one delivery. Costs no budget: the peer did not ask for it.
pub(crate) fn decide(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    delivery_type: &str,
    fields: &[(&str, &str)],
    now: Now,
) -> Result<Delivered, Refusal> {
    let type_id = rules.policy.select_delivery(delivery_type.as_bytes())?;
    decide_type(engine, rules, id, type_id, delivery_type, fields, now)
}

/// Decides one delivery for many connections and keeps those that may receive it, in order.
pub(crate) fn decide_many(
    engine: &Engine,
    rules: &Rules,
    ids: &[ConnectionId],
    delivery_type: &str,
    fields: &[(&str, &str)],
    now: Now,
    allowed: &mut Vec<ConnectionId>,
) -> Result<(), Reason> {
    let type_id = rules.policy.select_delivery(delivery_type.as_bytes())?;
    allowed
        .extend(ids.iter().filter(|id| decide_type(engine, rules, **id, type_id, delivery_type, fields, now).is_ok()));
    Ok(())
}

fn decide_type(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    type_id: TypeId,
    delivery_type: &str,
    fields: &[(&str, &str)],
    now: Now,
) -> Result<Delivered, Refusal> {
    let slot = engine.table.find(id).ok_or(Reason::MisuseHandle)?;
    loop {
        let seen = slot.record().read(id.generation()).ok_or(Reason::MisuseHandle)?;
        if seen.state() != State::Live {
            let terminal = slot.lock(id).and_then(|guard| guard.terminal);
            return Err(terminal.map_or(Reason::ProtocolError.into(), |terminal| terminal.refusal));
        }
        if seen.grant.is_over(now) {
            match message::expire(engine, slot, id, now).and_then(Withheld::refusal) {
                Some(refusal) => return Err(refusal),
                None => continue,
            }
        }
        if seen.grant.policy_epoch != rules.epoch {
            let rules = engine.rules.get();
            permissions::recompile(engine, &rules, id, now)?;
            return decide(engine, &rules, id, delivery_type, fields, now);
        }
        let allowed = message::require(engine, rules, slot, id, &seen, type_id, Fields::Host(fields));
        // Yes or no, it holds only for the grant that was looked at.
        if !slot.record().confirm(&seen) {
            continue;
        }
        if let Err(reason) = allowed {
            if let Some(mut guard) = slot.lock(id) {
                report::delivery_refused(engine, rules, &mut guard, reason.into(), now);
            }
            return Err(reason.into());
        }
        if rules.config.connection.count_deliveries {
            slot.record().touch(now.mono);
        }
        engine.metrics.add(Count::Delivery);
        return Ok(Delivered { type_id: Some(type_id.index()) });
    }
}
