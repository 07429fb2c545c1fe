//! This file answers: how does a connection end, and what does it give back?

use crate::connection::{Cold, ConnectionId, Guard, Held, Terminal};
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
    write_terminal(engine, id, guard, refusal, now);
    report::closing(engine, id, guard, refusal, now);
    true
}

/// Writes why a connection ends, which is `Closing` already, and has the server told.
pub(crate) fn write_terminal(
    engine: &Engine,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    refusal: Refusal,
    now: Now,
) {
    guard.terminal = Some(Terminal { refusal, decided: now.mono, handed_out: false });
    guard.pending.close = true;
    guard.credential = None;
    guard.enriching = None;
    engine.schedule(id, now.mono.plus(LEAK_MS));
    engine.enqueue(id, guard);
}

/// The server closed its socket, whatever the state. Exactly one call gives everything back; later ones, and
/// handles never issued, return false.
pub(crate) fn closed(engine: &Engine, id: ConnectionId, now: Now) -> bool {
    engine.table.remove(id, |cold| give_back(engine, id, cold, false, now)).is_some()
}

/// Thirty seconds after we decided to close, the server has still not said `closed`.
pub(crate) fn reclaim_leaked(engine: &Engine, id: ConnectionId, decided: MonoTime, now: Now) -> bool {
    if now.mono.since(decided) < LEAK_MS {
        return false;
    }
    engine.table.remove(id, |cold| give_back(engine, id, cold, true, now)).is_some()
}

/// Takes back what an ended connection held.
fn give_back(engine: &Engine, id: ConnectionId, mut cold: Box<Cold>, leaked: bool, now: Now) {
    let Held { address, unauthenticated, bucket, permission_set, index } = std::mem::take(&mut cold.held);
    // The connection is gone, so nobody asks again: each goes back by itself, whatever panics before (RULES 43).
    let _address = Finally(|| address.into_iter().for_each(|permit| engine.address_permits.release(permit)));
    let _unauthenticated =
        Finally(|| unauthenticated.into_iter().for_each(|held| engine.release_unauthenticated(held)));
    let _index = Finally(|| index.iter().for_each(|key| engine.index.remove(*key, id)));
    let _bucket = Finally(|| bucket.into_iter().for_each(|bucket| engine.rates.release(bucket)));
    let _set = Finally(|| permission_set.into_iter().for_each(|set| engine.sets.release(set)));
    if leaked {
        report::leaked(engine, id, &cold, now);
    }
    report::ended(engine, id, &mut cold, now);
    if let Some(shard) = engine.shard(id.shard()) {
        shard.cancel(id);
    }
}

/// Runs when it is dropped.
struct Finally<F: FnMut()>(F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
