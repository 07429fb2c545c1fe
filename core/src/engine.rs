//! This file answers: what can a server ask?
//!
//! The engine owns the parts and hands them to the flows. It has no rule of its own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::audit::{AuditEvent, AuditQueue};
use crate::cache::Verdicts;
use crate::config::{Config, ConfigProblem};
use crate::connection::{Cold, ConnectionId, Guard, Index, PermissionDiff, State, Table, Unauthenticated};
use crate::decision::{Delivered, Reason, Refusal, Withheld};
use crate::dirty::Repairs;
use crate::explain::{self, Step};
use crate::flow::sources::Sources;
use crate::flow::{
    Admitted, Event, Inbound, Payload, Polled, Refreshed, Revocation, Revoked, answer, close, delivery, fault,
    handshake, message, permissions, poll, refresh, revoke, sources,
};
use crate::identity::Identity;
use crate::limit::{BruteForce, BucketId, Fingerprint, Permits, RateTable, Taken};
use crate::lookup::{Answer, Answerer, Backend, Lookup, LookupId, Lookups, Profiles};
use crate::metrics::{Gauges, Metrics};
use crate::names::Names;
use crate::policy::PermissionSets;
use crate::request::Upgrade;
use crate::revocation::RevocationTable;
use crate::rules::{CurrentRules, Rules};
use crate::schedule::Shard;
use crate::secret::EngineSeed;
use crate::time::{MonoTime, Now};

/// Told when a shard has something for its poller: events, or an earlier deadline. Must not call the engine.
pub type Waker = Box<dyn Fn(u8) + Send + Sync>;

/// The clock's steps may be this coarse, in milliseconds, while every deadline is further away (RULES 3).
const FINE_CLOCK_MS: u64 = 1_000;

/// Permission sets beyond one a connection: while a grant is swapped its connection holds two.
const SPARE_SETS: usize = 1_024;

/// Decides the whole life of every connection of one server. Shared by all threads.
pub struct Engine {
    pub(crate) rules: CurrentRules,
    pub(crate) table: Table<Box<Cold>>,
    pub(crate) shards: Vec<Shard>,
    pub(crate) index: Index,
    pub(crate) hash: Names,
    pub(crate) address_permits: Permits,
    pub(crate) unauthenticated: Permits,
    pub(crate) unauthenticated_addresses: Permits,
    pub(crate) rates: RateTable,
    pub(crate) brute_force: BruteForce,
    pub(crate) sets: PermissionSets,
    pub(crate) revocations: RevocationTable,
    /// The latest end of any credential admitted so far, in wall milliseconds: a revocation outlives it.
    pub(crate) latest_expiry: AtomicU64,
    pub(crate) lookups: Lookups,
    pub(crate) verdicts: Verdicts,
    pub(crate) sources: Sources,
    pub(crate) profiles: Profiles,
    pub(crate) audit: AuditQueue,
    pub(crate) metrics: Metrics,
    pub(crate) repairs: Repairs,
    waker: Waker,
}

impl Engine {
    /// Makes an engine. Everything it will ever hold is bounded by the configuration.
    ///
    /// # Refusals
    ///
    /// A [`ConfigProblem`] that names what cannot be compiled: a key, an origin, a pattern.
    pub fn new(config: Config, seed: &EngineSeed, waker: Waker) -> Result<Engine, ConfigProblem> {
        config.require_safe()?;
        let bounds = (config.connection.clone(), config.limits.clone(), config.revocation.clone());
        let audit = config.audit.clone();
        let rules = Rules::compile(config, 1).map_err(ConfigProblem::uncompilable)?;
        let hash = Names::new(seed);
        let lookups = Lookups::new(hash.clone(), &rules.config.lookups);
        let sources = Sources::new(&rules);
        let (connection, limits, revocation) = bounds;
        Ok(Engine {
            rules: CurrentRules::new(rules),
            table: Table::new(connection.max_connections, seed.derive("generations")),
            shards: (0..connection.shards)
                .filter_map(|shard| u8::try_from(shard).ok())
                .map(|shard| Shard::new(shard, MonoTime(0)))
                .collect(),
            index: Index::new(),
            hash,
            address_permits: Permits::new(limits.max_tracked),
            unauthenticated: Permits::new(1),
            unauthenticated_addresses: Permits::new(connection.max_unauthenticated),
            rates: RateTable::new(limits.max_tracked),
            brute_force: BruteForce::new(limits.max_tracked),
            sets: PermissionSets::new(connection.max_connections.saturating_add(SPARE_SETS)),
            revocations: RevocationTable::new(seed.derive("revocations"), revocation.max_rules),
            latest_expiry: AtomicU64::new(0),
            verdicts: Verdicts::new(),
            lookups,
            sources,
            profiles: Profiles::new(),
            audit: AuditQueue::new(audit.max_events),
            metrics: Metrics::new(),
            repairs: Repairs::new(),
            waker,
        })
    }

    /// Decides an upgrade request.
    ///
    /// An accepted one has a handle from this moment on; say [`Engine::closed`] for it when its socket is gone,
    /// also when the upgrade never completes.
    ///
    /// # Refusals
    ///
    /// Any of the classes request, limit and credential. A refused handshake holds nothing.
    ///
    /// # Security
    ///
    /// Nothing of the credential is decoded before shape, address, permit and Origin are good. An attacker can
    /// cost one signature verification a permit.
    pub fn handshake(&self, shard: u8, request: &Upgrade<'_>, now: Now) -> Result<Admitted, Refusal> {
        self.call(now, |rules| handshake::decide(self, rules, shard, request, now))
    }

    /// Decides whether one inbound message may reach the application. Call it once a message, before the
    /// application sees it.
    ///
    /// # Refusals
    ///
    /// See [`Withheld`]: consumed, hold, refused, close.
    ///
    /// # Security
    ///
    /// A peer can spend only its own subject's budget; a refused message costs no more than an allowed one.
    ///
    /// # Cost
    ///
    /// One pass over the payload. For types without a pattern no lock, no allocation, no system call.
    pub fn message(&self, connection: ConnectionId, payload: Payload<'_>, now: Now) -> Result<Delivered, Withheld> {
        self.call(now, |rules| message::decide(self, rules, connection, Inbound::Frame(payload), now))
    }

    /// Decides for what is not JSON: the server names the type and the fields its pattern reads. Charged like a
    /// message.
    pub fn authorize(
        &self,
        connection: ConnectionId,
        message_type: &str,
        fields: &[(&str, &str)],
        now: Now,
    ) -> Result<Delivered, Withheld> {
        let inbound = Inbound::Named { message_type, fields };
        self.call(now, |rules| message::decide(self, rules, connection, inbound, now))
    }

    /// Decides whether this connection may receive this. Ask at each delivery, not at subscription.
    pub fn authorize_delivery(
        &self,
        connection: ConnectionId,
        delivery_type: &str,
        fields: &[(&str, &str)],
        now: Now,
    ) -> Result<Delivered, Refusal> {
        self.call(now, |rules| delivery::decide(self, rules, connection, delivery_type, fields, now))
    }

    /// The same for a fan-out: appends to `allowed` those of `connections` that may receive it, in order.
    ///
    /// # Refusals
    ///
    /// Only for an unknown delivery type; nothing is appended then.
    pub fn authorize_deliveries(
        &self,
        connections: &[ConnectionId],
        delivery_type: &str,
        fields: &[(&str, &str)],
        now: Now,
        allowed: &mut Vec<ConnectionId>,
    ) -> Result<(), Refusal> {
        self.call(now, |rules| delivery::decide_many(self, rules, connections, delivery_type, fields, now, allowed))
            .map_err(Refusal::from)
    }

    /// Puts a new token in force on a live connection, as one transaction. A refused one changes nothing but the
    /// count of attempts.
    pub fn refresh(&self, connection: ConnectionId, token: &[u8], now: Now) -> Result<Refreshed, Refusal> {
        self.call(now, |rules| refresh::refresh(self, rules, connection, token, now))
    }

    /// Puts a new token in force on every live connection of its subject, for servers that refresh over HTTP.
    /// Returns how many took it.
    pub fn refresh_subject(&self, token: &[u8], now: Now) -> Result<usize, Refusal> {
        self.call(now, |rules| refresh::refresh_subject(self, rules, token, now))
    }

    /// Notes that the peer is there, on a pong. False for a handle that is not live.
    pub fn touch(&self, connection: ConnectionId, now: Now) -> bool {
        fault::mend(self, now);
        let Some(slot) = self.table.find(connection) else { return false };
        match slot.record().read(connection.generation()) {
            Some(seen) if seen.state() == State::Live => {
                slot.record().touch(now.mono);
                true
            }
            _ => false,
        }
    }

    /// Replaces the permissions of a live connection until its next refresh. In force when this returns.
    pub fn set_permissions(
        &self,
        connection: ConnectionId,
        permissions: &[Arc<str>],
        now: Now,
    ) -> Result<PermissionDiff, Refusal> {
        self.call(now, |rules| permissions::set_permissions(self, rules, connection, permissions, now))
    }

    /// The same for every live connection of a subject. Returns how many there were.
    pub fn set_subject_permissions(&self, issuer: &str, subject: &str, permissions: &[Arc<str>], now: Now) -> usize {
        self.call(now, |rules| permissions::set_subject_permissions(self, rules, issuer, subject, permissions, now))
    }

    /// Cuts off. No call that begins after this has returned is decided on the old state.
    ///
    /// # Cost
    ///
    /// The connections it hits; for a key, a walk over all.
    pub fn revoke(&self, what: Revocation<'_>, now: Now) -> Revoked {
        self.call(now, |rules| revoke::revoke(self, rules, what, now))
    }

    /// Says that a connection's socket is gone. Once true, later false; a stale handle changes nothing.
    pub fn closed(&self, connection: ConnectionId, now: Now) -> bool {
        fault::mend(self, now);
        close::closed(self, connection, now)
    }

    /// Takes what the server must do on one shard: up to about `max` events, appended to `events`.
    ///
    /// # Refusals
    ///
    /// `MisuseBusy` while another thread polls this shard; `MisuseArgument` for a shard that does not exist.
    pub fn poll(&self, shard: u8, now: Now, max: usize, events: &mut Vec<Event>) -> Result<Polled, Reason> {
        self.call(now, |rules| poll::poll(self, rules, shard, now, max, events))
    }

    /// When a shard must be polled at the latest. Of shard 0 also: when keys are to be fetched.
    pub fn next_deadline(&self, shard: u8) -> Option<MonoTime> {
        if self.repairs.is_due() {
            // At once: whoever must go after a panic is told by the poll.
            return self.shard(shard).map(|_| MonoTime(0));
        }
        poll::next_deadline(self, shard, self.shard(shard)?.next_deadline())
    }

    /// When keys are to be fetched ahead of need, or a fetch is given up: call [`lookups_for`](Engine::lookups_for)
    /// or poll shard 0 then. `None` when no issuer's keys are fetched. One atomic load.
    pub fn next_fetch(&self) -> Option<MonoTime> {
        Some(self.sources.next()).filter(|next| *next != MonoTime::NEVER)
    }

    /// The issuers whose keys are fetched and never came: their tokens are refused.
    pub fn missing_keys(&self) -> Vec<Arc<str>> {
        self.rules.with(|rules| {
            let missing = rules.issuers.remote().filter(|issuer| issuer.version() == 0);
            missing.map(|issuer| Arc::from(issuer.config().issuer.as_str())).collect()
        })
    }

    /// Takes up to `max` questions that wait for an answer.
    pub fn lookups(&self, max: usize, now: Now) -> Vec<Lookup> {
        self.lookups_for(Answerer::Anyone, max, now)
    }

    /// The same, of one kind only: where an HTTP driver and the host share the work.
    pub fn lookups_for(&self, who: Answerer, max: usize, now: Now) -> Vec<Lookup> {
        self.call(now, |rules| sources::fetch_due(self, rules, now));
        self.lookups.take(who, max, now.mono)
    }

    /// Answers a question. The outcome for those who waited comes as events.
    ///
    /// # Refusals
    ///
    /// `MisuseHandle` for a question that is answered already, late, or was never asked.
    pub fn answer(&self, lookup: LookupId, result: Answer, now: Now) -> Result<(), Reason> {
        self.call(now, |rules| answer::answer(self, rules, lookup, result, now))
    }

    /// Puts a key set in force for an issuer with `jwks_url`, before any connection asks for it. False when the
    /// document was bad and the old keys stay.
    pub fn load_keys(&self, issuer: &str, document: &[u8], now: Now) -> bool {
        self.call(now, |rules| sources::put_in_force(self, rules, issuer, document, now))
    }

    /// Who a connection is, once authenticated.
    pub fn identity(&self, connection: ConnectionId) -> Option<Arc<Identity>> {
        self.table.find(connection)?.lock(connection)?.identity.clone()
    }

    /// The permissions a connection holds now: its credential's, or those set since.
    pub fn permissions(&self, connection: ConnectionId) -> Option<Vec<Arc<str>>> {
        self.table.find(connection)?.lock(connection).map(|guard| guard.held_permissions.clone())
    }

    /// Whether a decision at this time needs the fine clock: a deadline is less than a second away, or past.
    /// True for a handle that cannot be found.
    pub fn is_near_expiry(&self, connection: ConnectionId, now: Now) -> bool {
        let seen = self.table.find(connection).and_then(|slot| slot.record().read(connection.generation()));
        seen.is_none_or(|seen| {
            seen.grant.wall_expiry.since(now.wall) <= FINE_CLOCK_MS
                || seen.grant.mono_expiry.since(now.mono) <= FINE_CLOCK_MS
        })
    }

    /// Takes up to `max` audit events, oldest first.
    pub fn audit(&self, max: usize, now: Now) -> Vec<AuditEvent> {
        fault::mend(self, now);
        self.audit.drain(max, now.wall)
    }

    /// Counters and gauges in the Prometheus text format. Labels come from closed sets.
    pub fn metrics(&self) -> String {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let key_sets = self.rules.with(|rules| {
            let sets = rules.issuers.remote().map(|issuer| {
                let fetched = issuer.fetched().map_or(0, |fetched| fetched.wall.as_secs());
                (issuer.config().issuer.clone(), fetched)
            });
            sets.collect()
        });
        self.metrics.to_prometheus(&Gauges {
            connections: count(self.table.len()),
            unauthenticated: u64::from(self.unauthenticated.held(self.hash.everyone())),
            tracked_addresses: count(self.address_permits.tracked()),
            tracked_users: count(self.rates.tracked()),
            revocation_rules: count(self.revocations.len()),
            pending_lookups: count(self.lookups.len()),
            audit_waiting: count(self.audit.len()),
            audit_dropped: self.audit.dropped(),
            sources: self.lookups.tallies(),
            key_sets,
        })
    }

    /// Puts another configuration in force, as a whole. A bad one is refused and the old one stays. Bounds of
    /// tables (connections, tracked peers, revocations, audit, shards) stay those of the start.
    ///
    /// Live connections keep their grant; what they may do is compiled anew at their next call, and those whose
    /// issuer is gone end there. Those whose key is gone are asked to refresh at once (RULES 6, 30).
    pub fn reload(&self, config: Config, now: Now) -> Result<(), ConfigProblem> {
        config.require_safe()?;
        fault::mend(self, now);
        let mut removed = Vec::new();
        self.rules
            .replace(|epoch, old| {
                let mut rules = Rules::compile(config, epoch)?;
                removed = rules.issuers.inherit(&old.issuers);
                Ok(rules)
            })
            .map_err(ConfigProblem::uncompilable)?;
        self.rules.with(|rules| {
            for (issuer, key_ids) in &removed {
                revoke::key_removed(self, rules, issuer, key_ids, now);
            }
            let keep = |backend: &Backend| sources::is_configured(rules, backend);
            self.lookups.configure(&rules.config.lookups, keep, now.mono);
            if self.sources.adopt(rules, now.mono) {
                self.wake(0);
            }
        });
        crate::flow::report::reloaded(self, now);
        Ok(())
    }

    /// Judges a request step by step without admitting it: nothing is charged, counted or audited.
    pub fn explain(&self, request: &Upgrade<'_>, now: Now) -> Vec<Step> {
        self.call(now, |rules| explain::explain(self, rules, request, now))
    }

    /// The close code sent for a reason, under the configured profile.
    pub fn close_code(&self, reason: Reason) -> u16 {
        self.rules.with(|rules| crate::wire::close_code(reason, &rules.config.close))
    }

    /// Live and pending connections.
    pub fn connections(&self) -> usize {
        self.table.len()
    }

    /// Runs a call on the rules in force, once nothing is left half written.
    fn call<T>(&self, now: Now, call: impl FnOnce(&Rules) -> T) -> T {
        fault::mend(self, now);
        self.rules.with(call)
    }

    pub(crate) fn shard(&self, shard: u8) -> Option<&Shard> {
        self.shards.get(usize::from(shard))
    }

    pub(crate) fn bucket(&self, index: u32) -> BucketId {
        BucketId::from_index(index)
    }

    pub(crate) fn wake(&self, shard: u8) {
        (self.waker)(shard);
    }

    /// Files a connection's next deadline, and wakes the poller when it is earlier than it knows.
    pub(crate) fn schedule(&self, id: ConnectionId, deadline: MonoTime) {
        if let Some(shard) = self.shard(id.shard())
            && shard.schedule(id, deadline)
        {
            self.wake(id.shard());
        }
    }

    /// Puts a connection into its shard's ready list, at most once. Its lock is held meanwhile, so that what is owed
    /// and the list agree.
    pub(crate) fn enqueue(&self, id: ConnectionId, _held: &Guard<'_, Box<Cold>>) {
        if let Some(shard) = self.shard(id.shard())
            && shard.enqueue(id)
        {
            self.wake(id.shard());
        }
    }

    /// A place among those that are not authenticated yet: of the engine, and of their address (RULES 14).
    pub(crate) fn admit_unauthenticated(
        &self,
        rules: &Rules,
        address: Fingerprint,
    ) -> Result<(Taken<'_>, Taken<'_>), Refusal> {
        let bounds = &rules.config.connection;
        let refusal = |_| Refusal::after(Reason::UnauthenticatedConnections, 1_000);
        let most = u32::try_from(bounds.max_unauthenticated).unwrap_or(u32::MAX);
        let of_address = u32::try_from(bounds.max_unauthenticated_per_address).unwrap_or(u32::MAX);
        let everyone = self.unauthenticated.take(self.hash.everyone(), most).map_err(refusal)?;
        Ok((everyone, self.unauthenticated_addresses.take(address, of_address).map_err(refusal)?))
    }

    pub(crate) fn release_unauthenticated(&self, held: Unauthenticated) {
        // Either goes back if the other panics.
        let _address = self.unauthenticated_addresses.taken(held.address);
        let _everyone = self.unauthenticated.taken(held.everyone);
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("connections", &self.table.len()).finish_non_exhaustive()
    }
}
