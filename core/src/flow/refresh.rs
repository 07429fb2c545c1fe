//! This file answers: how does a new token replace the old one on a live connection?
//!
//! As a transaction: the old grant stays in force until the new token is verified and found to belong to the
//! same identity; then one swap changes expiry and permissions together. A refused attempt changes nothing
//! but its own count, and never a deadline.

use std::sync::Arc;

use crate::config::CredentialSource;
use crate::connection::{
    Candidate, Cold, ConnectionId, Guard, PendingCredential, PermissionDiff, State, Timetable, merge_diff,
};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::handshake::Wanted;
use crate::flow::identify::identify;
use crate::flow::{admit, answer, close, due, enrich, introspect, report};
use crate::identity::Identity;
use crate::lookup::profile::is_same_claims;
use crate::lookup::{Profile, Purpose};
use crate::policy::PermissionSet;
use crate::rules::Rules;
use crate::time::Now;
use crate::token::TokenVerdict;

/// What a refresh did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refreshed {
    /// The new token is in force; permissions changed like this.
    Committed(PermissionDiff),
    /// The very same token: nothing to do.
    Unchanged,
    /// Its source was asked; the outcome comes as an event.
    Pending,
}

/// Verifies a token and puts it in force on one live connection.
pub(crate) fn refresh(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    token: &[u8],
    now: Now,
) -> Result<Refreshed, Refusal> {
    let slot = engine.table.find(id).ok_or(Reason::MisuseHandle)?;
    {
        let mut guard = slot.lock(id).ok_or(Reason::MisuseHandle)?;
        require_live(engine, id, &mut guard, now)?;
    }
    // Verified without the lock: messages go on, and a revocation need not wait for a signature.
    let outcome = match identify(engine, rules, token, CredentialSource::FirstMessage, now) {
        Ok(proven) => Ok(proven),
        Err(TokenVerdict::Refused(reason)) => Err(Refusal::from(reason)),
        Err(TokenVerdict::KeysNeeded { issuer }) => {
            return answer::refresh_later(engine, rules, id, Wanted::Keys(issuer), token, now);
        }
        Err(TokenVerdict::Opaque { issuer }) => {
            return answer::refresh_later(engine, rules, id, Wanted::Introspection(issuer), token, now);
        }
    };
    let mut guard = slot.lock(id).ok_or(Reason::MisuseHandle)?;
    outcome
        .and_then(|proven| commit(engine, rules, id, &mut guard, proven.identity, proven.reask, now))
        .map_err(|refusal| refuse(engine, rules, id, &mut guard, refusal, now))
}

/// Puts a verified identity in force on every live connection of its subject: for hosts that refresh over HTTP,
/// behind a cookie (RULES 29). Returns how many connections took it.
pub(crate) fn refresh_subject(engine: &Engine, rules: &Rules, token: &[u8], now: Now) -> Result<usize, Refusal> {
    let proven = match identify(engine, rules, token, CredentialSource::Cookie, now) {
        Ok(proven) => proven,
        Err(TokenVerdict::Refused(reason)) => return Err(reason.into()),
        Err(TokenVerdict::KeysNeeded { .. } | TokenVerdict::Opaque { .. }) => {
            return Err(Refusal::after(Reason::SourceUnavailable, 1_000));
        }
    };
    let mut taken = 0usize;
    let identity = proven.identity;
    for id in engine.index.find(engine.hash.subject(&identity.issuer, &identity.subject)) {
        let Some(slot) = engine.table.find(id) else { continue };
        let Some(mut guard) = slot.lock(id) else { continue };
        // A connection of another session or client of the same user keeps its own token; its client has tried
        // nothing, so no attempt is counted.
        let profile = enrich::find_kept(engine, rules, &guard, &identity, now);
        let (identity, reask) = (identity.clone(), proven.reask.clone());
        let candidate = Candidate { identity, profile, reask, purpose: Purpose::Refresh };
        if commit_with(engine, rules, &mut guard, candidate, now).is_ok() {
            taken = taken.saturating_add(1);
        }
    }
    Ok(taken)
}

/// Takes a new credential of the same identity, at once or when its profile is there; `reask` is what its source is
/// asked about later, where there is one. The caller holds the connection's lock and counts a refusal. A refused one
/// has changed nothing.
pub(crate) fn commit(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    identity: Identity,
    reask: Option<PendingCredential>,
    now: Now,
) -> Result<Refreshed, Refusal> {
    let mut candidate = Candidate { identity, profile: None, reask, purpose: Purpose::Refresh };
    if require_successor(engine, id, guard, &candidate.identity, now)? == Successor::Another {
        match enrich::find_or_ask(engine, rules, guard, candidate, now)? {
            Some(found) => candidate = found,
            None => return Ok(Refreshed::Pending),
        }
    }
    commit_with(engine, rules, guard, candidate, now)
}

/// The same for one whose profile was found.
pub(crate) fn commit_with(
    engine: &Engine,
    rules: &Rules,
    guard: &mut Guard<'_, Box<Cold>>,
    mut candidate: Candidate,
    now: Now,
) -> Result<Refreshed, Refusal> {
    let id = guard.id();
    if require_successor(engine, id, guard, &candidate.identity, now)? == Successor::Same {
        // Nothing changes; the client still hears that its token is in force.
        merge_diff(&mut guard.pending.refreshed, PermissionDiff::default());
        engine.enqueue(id, guard);
        return Ok(Refreshed::Unchanged);
    }
    let Some(old) = guard.identity.clone() else { return Err(Reason::FaultInternal.into()) };
    candidate.identity.source = old.source;
    let profile = enrich::apply(engine, rules, &mut candidate, Some(&old), now)?;
    let diff = put_in_force(engine, rules, guard, candidate.identity, now)?;
    guard.profile = profile;
    guard.reask = candidate.reask;
    introspect::plan_recheck(engine, rules, guard, now);
    // One that still waits for its source came before this one.
    guard.credential = None;
    guard.enriching = None;
    guard.record().touch(now.mono);
    merge_diff(&mut guard.pending.refreshed, diff.clone());
    due::file(engine, rules, guard);
    Ok(Refreshed::Committed(diff))
}

/// The source of the credential says again what holds (RULES 29), which may also be an earlier end or fewer
/// permissions. No activity of the peer, so it keeps nobody from being idle (RULES 25). Where `refresh.widen` is
/// off, what it would add is left out: the peer asked for nothing that could be refused.
pub(crate) fn renew(
    engine: &Engine,
    rules: &Rules,
    guard: &mut Guard<'_, Box<Cold>>,
    mut identity: Identity,
    now: Now,
) -> Result<(), Refusal> {
    require_live(engine, guard.id(), guard, now)?;
    let Some(old) = guard.identity.clone() else { return Err(Reason::FaultInternal.into()) };
    identity.source = old.source;
    require_same_identity(&old, &identity)?;
    if !rules.config.refresh.widen {
        identity.permissions.retain(|permission| guard.held_permissions.contains(permission));
    }
    if identity.expiry == old.expiry && identity.permissions == old.permissions {
        if identity.claims != old.claims {
            // What the application reads is what holds now; the client has nothing to hear.
            guard.identity = Some(Arc::new(Identity { claims: identity.claims, ..(*old).clone() }));
        }
        // Asked again after half of what is left, and never more often than one that does not answer.
        let half = Timetable::plan(old.expiry, rules.config.refresh.lead_ms, 0, now).ask_at;
        guard.timetable.ask_at = half.max(now.mono.plus(due::REASK_MS)).min(guard.timetable.expiry);
        introspect::plan_recheck(engine, rules, guard, now);
        return Ok(());
    }
    let diff = put_in_force(engine, rules, guard, identity, now)?;
    introspect::plan_recheck(engine, rules, guard, now);
    merge_diff(&mut guard.pending.refreshed, diff);
    Ok(())
}

/// The swap: index, look, grant. On refusal nothing has changed.
fn put_in_force(
    engine: &Engine,
    rules: &Rules,
    guard: &mut Guard<'_, Box<Cold>>,
    identity: Identity,
    now: Now,
) -> Result<PermissionDiff, Refusal> {
    let id = guard.id();
    let permissions = Arc::new(PermissionSet::from_texts(identity.permissions.iter().cloned()));
    admit::require_to_connect(rules, &permissions)?;
    let diff = PermissionDiff::between(&guard.held_permissions, &identity.permissions);
    if !rules.config.refresh.widen {
        // Credential against credential: what the host has set since is its own affair.
        let old = guard.identity.as_ref().map_or(&[][..], |old| &old.permissions);
        if !PermissionDiff::between(old, &identity.permissions).added.is_empty() {
            return Err(Reason::PermissionsWidened.into());
        }
    }
    // The index first, then the look (RULES 4): a revocation published before is seen here, also one that came
    // while the token was being verified; a later one waits for our lock and finds the connection.
    admit::insert_into_index(engine, id, guard, &identity);
    let outcome = admit::require_in_force(engine, &identity, now).and_then(|()| {
        let before = (guard.identity.clone(), Arc::clone(&guard.permissions), guard.held_permissions.clone());
        guard.held_permissions = identity.permissions.clone();
        guard.identity = Some(Arc::new(identity));
        guard.permissions = permissions;
        admit::commit_grant(engine, rules, id, guard, now).inspect_err(|_| {
            (guard.identity, guard.permissions, guard.held_permissions) = before;
        })
    });
    // Whichever of the two holds now, the other's entries go.
    admit::prune_index(engine, guard);
    outcome?;
    guard.pending.refresh_asked = false;
    guard.pending.refresh_failed = None;
    if !diff.is_empty() {
        merge_diff(&mut guard.pending.host_permissions, diff.clone());
    }
    engine.enqueue(id, guard);
    report::refreshed(engine, id, guard, &diff, now);
    Ok(diff)
}

/// Whether this refuses nobody's credential: we could not find out, or have no room. No attempt is counted for it.
pub(crate) fn is_unavailable(reason: Reason) -> bool {
    matches!(reason, Reason::SourceUnavailable | Reason::ConnectionsFull | Reason::FaultInternal)
}

/// Counts a refused attempt; the last one closes at once (RULES 26). `unavailable` is no attempt.
pub(crate) fn refuse(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    refusal: Refusal,
    now: Now,
) -> Refusal {
    if let Some(terminal) = guard.terminal {
        return terminal.refusal;
    }
    report::refresh_refused(engine, rules, id, guard, refusal, now);
    guard.pending.refresh_failed = Some(refusal);
    if !is_unavailable(refusal.reason) {
        guard.refresh.refused = guard.refresh.refused.saturating_add(1);
        if guard.refresh.refused >= rules.config.refresh.attempts {
            close::close(engine, id, guard, Reason::RefreshFailed.into(), now);
        }
    }
    engine.enqueue(id, guard);
    refusal
}

fn require_live(engine: &Engine, id: ConnectionId, guard: &mut Guard<'_, Box<Cold>>, now: Now) -> Result<(), Refusal> {
    if let Some(terminal) = guard.terminal {
        return Err(terminal.refusal);
    }
    if guard.state() != State::Live {
        return Err(Reason::ProtocolError.into());
    }
    if guard.is_over(now) {
        let reason = due::expiry_reason(guard);
        close::close(engine, id, guard, reason.into(), now);
        return Err(reason.into());
    }
    Ok(())
}

/// What a new credential is to the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Successor {
    /// The very same.
    Same,
    /// Another, which ends later.
    Another,
}

/// Whether a credential may take the place of the one in force (RULES 28).
fn require_successor(
    engine: &Engine,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    new: &Identity,
    now: Now,
) -> Result<Successor, Refusal> {
    require_live(engine, id, guard, now)?;
    let Some(old) = &guard.identity else { return Err(Reason::FaultInternal.into()) };
    require_same_identity(old, new)?;
    if is_same_credential(old, new, guard.profile.as_deref()) {
        return Ok(Successor::Same);
    }
    if new.expiry <= old.expiry {
        return Err(Reason::ExpiryNotLater.into());
    }
    Ok(Successor::Another)
}

/// RULES 28: the same issuer and subject, and whatever else binds either of the two tokens.
pub(crate) fn require_same_identity(old: &Identity, new: &Identity) -> Result<(), Reason> {
    let same = old.issuer == new.issuer
        && old.subject == new.subject
        && old.session_id == new.session_id
        && old.tenant == new.tenant
        && old.client_id == new.client_id
        && old.confirmation == new.confirmation;
    if same { Ok(()) } else { Err(Reason::IdentityMismatch) }
}

/// The same token handed over again: the same facts to the last claim, but for what its profile added.
fn is_same_credential(old: &Identity, new: &Identity, kept: Option<&Profile>) -> bool {
    old.expiry == new.expiry
        && old.token_id == new.token_id
        && old.key_id == new.key_id
        && is_same_claims(&old.claims, &new.claims, kept)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use crate::config::{Config, CredentialSource, NoSecretSource};
    use crate::connection::ConnectionId;
    use crate::decision::{Reason, Refusal};
    use crate::engine::Engine;
    use crate::flow::admit;
    use crate::flow::refresh::commit;
    use crate::identity::Identity;
    use crate::request::{Header, Peer, Upgrade};
    use crate::secret::EngineSeed;
    use crate::time::{Now, WallTime};
    use crate::{Revocation, flow};

    const ISSUER: &str = "https://id.example.com";
    pub(crate) const NOW: Now = Now::new(1_800_000_000_000, 1_000);

    fn engine() -> Engine {
        engine_with("")
    }

    /// An engine for connections that authenticate by their first message.
    pub(crate) fn engine_with(more: &str) -> Engine {
        let config = format!(
            r#"
            [[issuer]]
            issuer = "{ISSUER}"
            audience = ["a"]
            algorithms = ["HS256"]
            keys = {{ secrets = [{{ text = "a secret of thirty-two bytes...." }}] }}
            [handshake]
            credentials = ["first_message"]
            trusted_proxies = []
            require_origin = false
            [messages]
            "ping" = "public"
            {more}
            "#
        );
        let config = Config::from_toml(&config, &NoSecretSource).unwrap();
        Engine::new(config, &EngineSeed::new([7; 32]), Box::new(|_| ())).unwrap()
    }

    pub(crate) fn identity(token_id: &str, expiry: u64) -> Identity {
        Identity {
            issuer: ISSUER.into(),
            subject: "u".into(),
            source: CredentialSource::FirstMessage,
            token_id: Some(token_id.into()),
            session_id: None,
            client_id: None,
            tenant: None,
            confirmation: None,
            key_id: None,
            issued_at: Some(NOW.wall.as_secs()),
            expiry: WallTime(NOW.wall.0 + expiry),
            permissions: Vec::new(),
            claims: serde_json::Map::new(),
        }
    }

    pub(crate) fn pending(engine: &Engine) -> ConnectionId {
        let headers = [
            ("Host", "a"),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let headers = headers.map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() });
        let peer = Peer::Ip([192, 0, 2, 1].into());
        let request = Upgrade { method: b"GET", target: b"/", headers: &headers, peer };
        engine.handshake(0, &request, NOW).unwrap().connection
    }

    fn refresh(engine: &Engine, id: ConnectionId, identity: Identity) -> Result<flow::Refreshed, Refusal> {
        let mut guard = engine.table.find(id).unwrap().lock(id).unwrap();
        engine.rules.with(|rules| commit(engine, rules, id, &mut guard, identity, None, NOW))
    }

    #[test]
    fn refreshes_do_not_pile_up_in_the_index_whether_taken_or_refused() {
        let engine = engine();
        let id = pending(&engine);
        engine.rules.with(|rules| admit::go_live(&engine, rules, id, identity("t0", 1_000), None, None, NOW)).unwrap();
        let held = || (engine.index.len(), engine.table.find(id).unwrap().lock(id).unwrap().held.index.len());
        assert_eq!(held(), (2, 2));
        for n in 1..50 {
            refresh(&engine, id, identity(&format!("t{n}"), 1_000 + n)).unwrap();
        }
        assert_eq!(held(), (2, 2));
        let _ = engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "gone" }, NOW);
        assert_eq!(refresh(&engine, id, identity("gone", 9_000)).unwrap_err().reason, Reason::TokenRevoked);
        assert_eq!(held(), (2, 2));
        // The token in force is still found, those before it are not.
        assert_eq!(engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t48" }, NOW).closed, 0);
        assert_eq!(engine.revoke(Revocation::Token { issuer: ISSUER, token_id: "t49" }, NOW).closed, 1);
        assert!(engine.closed(id, NOW));
        assert_eq!(engine.index.len(), 0);
    }

    #[test]
    fn a_key_that_goes_while_its_token_is_verified_vouches_for_nobody() {
        let engine = engine();
        let gone = |expiry| Identity { key_id: Some(Arc::from("gone")), ..identity("t1", expiry) };
        let id = pending(&engine);
        let refused =
            engine.rules.with(|rules| admit::go_live(&engine, rules, id, gone(1_000), None, None, NOW)).unwrap_err();
        assert_eq!(refused.reason, Reason::KeyUnknown);
        assert_eq!(engine.identity(id), None);
        let id = pending(&engine);
        engine.rules.with(|rules| admit::go_live(&engine, rules, id, identity("t0", 1_000), None, None, NOW)).unwrap();
        assert_eq!(refresh(&engine, id, gone(2_000)).unwrap_err().reason, Reason::KeyUnknown);
        assert_eq!(engine.identity(id).unwrap().token_id.as_deref(), Some("t0"));
    }
}
