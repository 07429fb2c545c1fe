//! This file answers: a thread panicked in the middle of something; what is rebuilt, and who must go?
//!
//! RULES 43. The lock that it held is dirty (`dirty.rs`). The next call of the engine, whichever it is, comes here
//! first: tables before connections, so that whoever arrives meanwhile finds them rebuilt, and whoever was there
//! before is met by the walk. Tables that say what connections hold are made again from what these say they hold.

use std::collections::BTreeSet;

use crate::connection::{Cold, ConnectionId, Guard, Pending, State};
use crate::decision::Reason;
use crate::engine::Engine;
use crate::flow::{close, due, report, revoke};
use crate::rules::Rules;
use crate::schedule::Lost;
use crate::time::Now;

/// Repairs what a panic left dirty, if one did since the last call. The caller holds no lock.
pub(crate) fn mend(engine: &Engine, now: Now) {
    if engine.repairs.is_due() {
        engine.repairs.run(|| repair(engine, &engine.rules.get(), now));
    }
}

/// Which tables were dirty, as far as connections must be asked.
#[derive(Debug, Default)]
struct Dirty {
    /// One that speaks for every connection: all of them go.
    all: bool,
    /// Each connection is to stand in the index again.
    index: bool,
    /// Each connection's permits are to be counted again; those that were not counted go.
    permits: bool,
    /// The questions: whoever waits for an answer goes.
    lookups: bool,
    /// Shards that were emptied: their connections go, and are filed again.
    emptied: Vec<u8>,
    /// Shards that lost deadlines: their connections are filed again.
    unfiled: Vec<u8>,
}

fn repair(engine: &Engine, rules: &Rules, now: Now) {
    let dirty = rebuild_tables(engine, rules, now);
    let mut spoilt = BTreeSet::new();
    for id in revoke::all(engine) {
        let Some(slot) = engine.table.find(id) else { continue };
        if slot.record().is_dirty()
            && let Some(mut guard) = slot.lock_dirty(id)
        {
            spoilt.insert(id);
            end_spoilt(engine, id, &mut guard, now);
        }
        if dirty.concerns(id)
            && let Some(mut guard) = slot.lock(id)
        {
            restore(engine, rules, &dirty, id, &mut guard, now);
        }
    }
    // A call that died may have put a connection there and not noted it, or not have taken it out.
    engine.index.sweep(|id| spoilt.contains(&id) || engine.table.find(id).is_none());
}

fn rebuild_tables(engine: &Engine, rules: &Rules, now: Now) -> Dirty {
    let told = |was: bool, detail: &'static str| {
        if was {
            report::fault(engine, detail, now);
        }
        was
    };
    told(engine.audit.rebuild(), "a call panicked in the audit queue: an event may be missing");
    told(engine.table.rebuild_free(), "a call panicked in the list of free slots: it was rebuilt");
    told(engine.brute_force.rebuild(), "a call panicked in the failures of addresses: they were filed again");
    let revocations = told(
        engine.revocations.rebuild(revoke::reach(engine, rules, now), now),
        "a call panicked in the revocations: all credentials issued so far are cut off",
    );
    let index = told(engine.index.rebuild(), "a call panicked in the index of connections: it was rebuilt");
    let rates = told(engine.rates.rebuild(), "a call panicked in the budgets: they were filed again");
    let sets = told(engine.sets.rebuild(), "a call panicked in the permission sets: they were rebuilt");
    let address = engine.address_permits.rebuild();
    let unauthenticated = engine.unauthenticated.rebuild() | engine.unauthenticated_addresses.rebuild();
    let permits = told(address | unauthenticated, "a call panicked in the permits: they were counted again");
    told(
        engine.sources.rebuild(rules, now.mono),
        "a call panicked in the fetching of keys: every key set is fetched again",
    );
    told(engine.profiles.rebuild(), "a call panicked in the profiles: they were forgotten");
    let lookups = told(engine.lookups.rebuild(), "a call panicked in the lookups: they were forgotten");
    let mut dirty = Dirty { all: revocations || index || rates || sets, index, permits, lookups, ..Dirty::default() };
    for (number, shard) in (0u8..).zip(&engine.shards) {
        match shard.rebuild(now.mono) {
            Lost::Nothing => {}
            Lost::Deadlines => dirty.unfiled.push(number),
            Lost::Everything => {
                told(true, "a call panicked in a shard's deadlines: they were filed again");
                dirty.emptied.push(number);
            }
        }
    }
    dirty
}

impl Dirty {
    fn concerns(&self, id: ConnectionId) -> bool {
        self.all || self.permits || self.lookups || self.emptied.contains(&id.shard()) || self.is_unfiled(id)
    }

    fn is_unfiled(&self, id: ConnectionId) -> bool {
        self.emptied.contains(&id.shard()) || self.unfiled.contains(&id.shard())
    }
}

/// Enters a connection again into the tables that were rebuilt, and closes it where one of them spoke for it.
fn restore(
    engine: &Engine,
    rules: &Rules,
    dirty: &Dirty,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    now: Now,
) {
    if dirty.index {
        guard.held.index.iter().for_each(|key| engine.index.restore(*key, id));
    }
    let uncounted = dirty.permits && restore_permits(engine, guard);
    let goes =
        dirty.all || uncounted || dirty.lookups && waits_for_an_answer(guard) || dirty.emptied.contains(&id.shard());
    if goes {
        close::close(engine, id, guard, Reason::AuthenticationUnavailable.into(), now);
    }
    if dirty.is_unfiled(id) {
        due::file(engine, rules, guard);
        // Whatever it owes; a connection that owes nothing has no event.
        engine.enqueue(id, guard);
    }
}

/// True if one of its permits had been forgotten.
fn restore_permits(engine: &Engine, guard: &mut Guard<'_, Box<Cold>>) -> bool {
    let address = guard.held.address.as_mut().is_some_and(|permit| engine.address_permits.restore(permit));
    let unauthenticated = guard.held.unauthenticated.as_mut().is_some_and(|held| {
        engine.unauthenticated.restore(&mut held.everyone) | engine.unauthenticated_addresses.restore(&mut held.address)
    });
    address || unauthenticated
}

fn waits_for_an_answer(guard: &Guard<'_, Box<Cold>>) -> bool {
    guard.state() == State::Authenticating
        || guard.credential.is_some()
        || guard.reask.as_ref().is_some_and(|reask| reask.lookup.is_some())
}

/// A connection whose lock was held by a call that panicked: closed since, and told now. Nothing that it owed is
/// believed; what it holds is given back with its end, as ever.
fn end_spoilt(engine: &Engine, id: ConnectionId, guard: &mut Guard<'_, Box<Cold>>, now: Now) {
    report::connection_fault(engine, id, guard, now);
    guard.pending = Pending::default();
    guard.reask = None;
    guard.held.index.clear();
    let decided = guard.terminal.map(|terminal| terminal.refusal);
    let refusal = decided.unwrap_or(Reason::AuthenticationUnavailable.into());
    close::write_terminal(engine, id, guard, refusal, now);
    if decided.is_none() {
        report::closing(engine, id, guard, refusal, now);
    }
}
