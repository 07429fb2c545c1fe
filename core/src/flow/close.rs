//! This file answers: how does a connection end, and what does it give back?

use crate::connection::{Cold, ConnectionId, Guard, Terminal};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::report;
use crate::time::{MonoTime, Now};

/// Permits of a connection whose server never said `closed` come back after this long, in milliseconds (RULES 13).
pub(crate) const LEAK_MS: u64 = 30_000;

/// Decides that a connection ends. The reason is written once; only a revocation may replace it, until the
/// server has been told (RULES 27). Returns whether the server still has to be told of this reason.
pub(crate) fn close(
    engine: &Engine,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    refusal: Refusal,
    now: Now,
) -> bool {
    if let Some(terminal) = guard.terminal {
        let replaces =
            refusal.reason == Reason::Revoked && terminal.refusal.reason != Reason::Revoked && !terminal.handed_out;
        if !replaces {
            return false;
        }
    } else if !guard.record().close(id.generation()) {
        return false;
    }
    guard.terminal = Some(Terminal { refusal, decided: now.mono, handed_out: false });
    guard.pending.close = true;
    guard.credential = None;
    guard.enriching = None;
    engine.schedule(id, now.mono.plus(LEAK_MS));
    engine.enqueue(id, guard);
    report::closing(engine, id, guard, refusal, now);
    true
}

/// The server closed its socket, whatever the state. Exactly one call gives everything back; later ones, and
/// handles never issued, return false.
pub(crate) fn closed(engine: &Engine, id: ConnectionId, now: Now) -> bool {
    let Some(cold) = engine.table.remove(id) else { return false };
    give_back(engine, id, cold, now);
    true
}

/// Thirty seconds after we decided to close, the server has still not said `closed`.
pub(crate) fn reclaim_leaked(engine: &Engine, id: ConnectionId, decided: MonoTime, now: Now) -> bool {
    if now.mono.since(decided) < LEAK_MS {
        return false;
    }
    let Some(cold) = engine.table.remove(id) else { return false };
    report::leaked(engine, id, &cold, now);
    give_back(engine, id, cold, now);
    true
}

fn give_back(engine: &Engine, id: ConnectionId, mut cold: Box<Cold>, now: Now) {
    report::ended(engine, id, &mut cold, now);
    if let Some(shard) = engine.shard(id.shard()) {
        shard.cancel(id);
    }
    if let Some(key) = cold.held.address.take() {
        engine.address_permits.release(key);
    }
    if let Some(key) = cold.held.unauthenticated.take() {
        engine.release_unauthenticated(key);
    }
    for key in cold.held.index.drain(..) {
        engine.index.remove(key, id);
    }
    if let Some(bucket) = cold.held.bucket.take() {
        engine.rates.release(bucket);
    }
    if let Some(set) = cold.held.permission_set.take() {
        engine.sets.release(set);
    }
}
