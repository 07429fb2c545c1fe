//! This file answers: what else is known of a verified identity, before it is put in force?
//!
//! A profile source may add permissions and attributes. The verified identity waits with its connection meanwhile:
//! nothing is verified twice, and whatever ends a credential - its expiry, a revocation, its key or its issuer gone -
//! is looked at again when the profile is there. A profile that cannot be had refuses, unless the configuration lets
//! a connection do without; it never leaves more than there was.

use std::sync::Arc;

use crate::audit::{AuditEvent, AuditKind};
use crate::connection::{Candidate, Cold, ConnectionId, Enriching, Guard, Slot, State};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::identify::Proven;
use crate::flow::{admit, answer, due, refresh, sources};
use crate::identity::Identity;
use crate::limit::Fingerprint;
use crate::lookup::profile::fill_url;
use crate::lookup::{Answer, LOOKUP_MS, LookupId, NoProfile, Profile, Purpose, Question, Waiter};
use crate::rules::Rules;
use crate::time::Now;

/// The profile that may be used without asking. `None`: it must be asked for; none inside: no source is configured.
#[expect(clippy::option_option, reason = "unknown, and known to be none")]
pub(crate) fn find_known(
    engine: &Engine,
    rules: &Rules,
    identity: &Identity,
    now: Now,
) -> Option<Option<Arc<Profile>>> {
    if rules.config.profile.is_none() {
        return Some(None);
    }
    engine.profiles.find(name(engine, rules, &identity.issuer, &identity.subject), now.mono).map(Some)
}

/// Takes a connection live with its profile, or asks for that and leaves it `authenticating` (RULES 14).
///
/// # Refusals
///
/// Those of [`admit::go_live`], and `SourceUnavailable`. The caller ends the connection.
pub(crate) fn admit(engine: &Engine, rules: &Rules, id: ConnectionId, proven: Proven, now: Now) -> Result<(), Refusal> {
    let Proven { identity, reask } = proven;
    let known = find_known(engine, rules, &identity, now);
    let mut candidate = Candidate { identity, profile: None, reask, purpose: Purpose::Admit };
    if let Some(profile) = known {
        candidate.profile = profile;
        return go_live(engine, rules, id, candidate, now);
    }
    let found = {
        let slot = engine.table.find(id).ok_or(Reason::MisuseHandle)?;
        let mut guard = slot.lock(id).ok_or(Reason::MisuseHandle)?;
        // Whoever is revoked already is not worth a question; it is looked up again at the end.
        admit::require_in_force(engine, &candidate.identity, now)?;
        let waits = guard.credential.is_some() || guard.enriching.is_some();
        let moved = match guard.state() {
            State::Authenticating if waits => Err(State::Authenticating),
            State::Authenticating => Ok(()),
            _ => guard.transition(State::Authenticating),
        };
        if moved.is_err() {
            // It ends, or another `auth` was first (RULES 15).
            return Err(guard.terminal.map_or(Reason::ProtocolError.into(), |terminal| terminal.refusal));
        }
        find_or_ask(engine, rules, &mut guard, candidate, now)?
    };
    found.map_or(Ok(()), |candidate| go_live(engine, rules, id, candidate, now))
}

/// Takes a connection live with a profile that is found already.
pub(crate) fn go_live(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    mut candidate: Candidate,
    now: Now,
) -> Result<(), Refusal> {
    let profile = apply(engine, rules, &mut candidate, None, now)?;
    admit::go_live(engine, rules, id, candidate.identity, profile, candidate.reask, now)
}

/// The candidate with its profile, where that is known or can be done without; else it is asked for, the candidate
/// stays with the connection until the answer comes, and this is `None`.
pub(crate) fn find_or_ask(
    engine: &Engine,
    rules: &Rules,
    guard: &mut Guard<'_, Box<Cold>>,
    mut candidate: Candidate,
    now: Now,
) -> Result<Option<Candidate>, Refusal> {
    if let Some(profile) = find_known(engine, rules, &candidate.identity, now) {
        candidate.profile = profile;
        return Ok(Some(candidate));
    }
    let waiter = Waiter { connection: guard.id(), purpose: candidate.purpose };
    match ask(engine, rules, &candidate.identity, waiter, now) {
        Ok(lookup) => {
            let mut until = now.mono.plus(LOOKUP_MS);
            if candidate.purpose == Purpose::Admit {
                until = until.min(guard.authenticate_by);
            }
            if candidate.purpose != Purpose::Reask {
                // One that still waits for its source came before this one.
                guard.credential = None;
            }
            let over_at = now.mono.plus(candidate.identity.expiry.since(now.wall));
            guard.enriching = Some(Box::new(Enriching { candidate, lookup, until, over_at }));
            due::file(engine, rules, guard);
            Ok(None)
        }
        Err(none) => {
            report(engine, &candidate.identity.issuer, &candidate.identity.subject, none, 1, now);
            do_without(rules, none).map(|()| Some(candidate))
        }
    }
}

/// The source of a live connection's credential vouches for it again (RULES 29); its profile is asked for again.
/// `SourceUnavailable` until that is there: at expiry that is why.
pub(crate) fn renew(
    engine: &Engine,
    rules: &Rules,
    guard: &mut Guard<'_, Box<Cold>>,
    identity: Identity,
    now: Now,
) -> Result<(), Refusal> {
    if let Some(terminal) = guard.terminal {
        return Err(terminal.refusal);
    }
    let Some(old) = guard.identity.clone() else { return Err(Reason::FaultInternal.into()) };
    refresh::require_same_identity(&old, &identity)?;
    // A new token that its client waits for goes first; the source is asked again later.
    let busy = guard.enriching.as_ref().is_some_and(|waiting| waiting.candidate.purpose == Purpose::Refresh);
    let candidate = Candidate { identity, profile: None, reask: None, purpose: Purpose::Reask };
    let found = if busy { None } else { find_or_ask(engine, rules, guard, candidate, now)? };
    match found {
        Some(candidate) => renew_with(engine, rules, guard, candidate, now),
        None => Err(Refusal::after(Reason::SourceUnavailable, 1_000)),
    }
}

fn renew_with(
    engine: &Engine,
    rules: &Rules,
    guard: &mut Guard<'_, Box<Cold>>,
    mut candidate: Candidate,
    now: Now,
) -> Result<(), Refusal> {
    let profile = apply(engine, rules, &mut candidate, guard.identity.as_deref(), now)?;
    refresh::renew(engine, rules, guard, candidate.identity, now)?;
    guard.profile = profile;
    Ok(())
}

/// The profile for a credential that the host brings over HTTP: the one known, else the one kept with the connection.
/// Nobody waits for an answer there.
pub(crate) fn find_kept(
    engine: &Engine,
    rules: &Rules,
    cold: &Cold,
    identity: &Identity,
    now: Now,
) -> Option<Arc<Profile>> {
    find_known(engine, rules, identity, now).unwrap_or_else(|| cold.profile.clone())
}

/// Adds the candidate's profile to its identity, and gives it back to be kept. Where the identity replaces `old` and
/// `refresh.widen` is off, permissions that the old one had not are left out: the peer asked for nothing that could
/// be refused.
pub(crate) fn apply(
    engine: &Engine,
    rules: &Rules,
    candidate: &mut Candidate,
    old: Option<&Identity>,
    now: Now,
) -> Result<Option<Arc<Profile>>, Refusal> {
    let (Some(profile), Some(config)) = (candidate.profile.take(), &rules.config.profile) else { return Ok(None) };
    let within = old.filter(|_| !rules.config.refresh.widen).map(|old| &old.permissions[..]);
    let identity = &mut candidate.identity;
    if profile.add_to(identity, config, within).is_err() {
        let none = NoProfile::unavailable("with its profile the subject would have more than 256 permissions");
        report(engine, &identity.issuer, &identity.subject, none, 1, now);
        return do_without(rules, none).map(|()| None);
    }
    Ok(Some(profile))
}

/// A profile question was answered: everyone who waited for it goes on.
pub(crate) fn answered(
    engine: &Engine,
    rules: &Rules,
    lookup: LookupId,
    question: &Question,
    answer: &Answer,
    now: Now,
) {
    let Question::Profile { issuer, subject, url } = question else { return };
    let judged = judge(rules, issuer, subject, url.as_deref(), answer);
    if let (Ok(profile), Some(config)) = (&judged, &rules.config.profile) {
        // Known before its question is gone: nobody asks between the two.
        let until = now.mono.plus(config.cache_ms);
        engine.profiles.insert(name(engine, rules, issuer, subject), Arc::clone(profile), until, now.mono);
    }
    let outcome = sources::find_outcome(engine, question, answer, now);
    let waiters = engine.lookups.end(lookup, outcome, now.mono);
    sources::report_changes(engine, now);
    if let Err(none) = &judged {
        report(engine, issuer, subject, *none, waiters.len(), now);
    }
    for waiter in waiters {
        let Some(slot) = engine.table.find(waiter.connection) else { continue };
        let Some(mut guard) = slot.lock(waiter.connection) else { continue };
        // Ended, or another credential took its place: the answer is of no use any more.
        let Some(waiting) = guard.enriching.take_if(|waiting| waiting.lookup == lookup) else { continue };
        finish(engine, rules, slot, guard, *waiting, judged.clone(), now);
    }
}

/// Nobody answered in time: goes on without a profile where that is allowed, and refuses elsewhere.
pub(crate) fn give_up(engine: &Engine, rules: &Rules, id: ConnectionId, now: Now) {
    let Some(slot) = engine.table.find(id) else { return };
    let Some(mut guard) = slot.lock(id) else { return };
    let Some(waiting) = guard.enriching.take_if(|waiting| now.mono >= waiting.until) else { return };
    let none = NoProfile::unavailable("the profile source was not answered for in time");
    let identity = &waiting.candidate.identity;
    report(engine, &identity.issuer, &identity.subject, none, 1, now);
    finish(engine, rules, slot, guard, *waiting, Err(none), now);
}

/// Does what the outcome means for one candidate.
fn finish<'s>(
    engine: &Engine,
    rules: &Rules,
    slot: &'s Slot<Box<Cold>>,
    mut guard: Guard<'s, Box<Cold>>,
    waiting: Enriching,
    judged: Result<Arc<Profile>, NoProfile>,
    now: Now,
) {
    let id = guard.id();
    let purpose = waiting.candidate.purpose;
    let verdict = require_current(rules, &waiting, now).map_err(Refusal::from).and_then(|()| {
        let profile = match judged {
            Ok(profile) => Some(profile),
            Err(none) => do_without(rules, none).map(|()| None)?,
        };
        Ok(Candidate { profile, ..waiting.candidate })
    });
    match purpose {
        Purpose::Admit => {
            drop(guard);
            if let Err(refusal) = verdict.and_then(|candidate| go_live(engine, rules, id, candidate, now))
                && let Some(mut guard) = slot.lock(id)
            {
                answer::refuse_pending(engine, rules, id, &mut guard, refusal, now);
            }
        }
        Purpose::Refresh => {
            let outcome = verdict.and_then(|candidate| refresh::commit_with(engine, rules, &mut guard, candidate, now));
            if let Err(refusal) = outcome {
                refresh::refuse(engine, rules, id, &mut guard, refusal, now);
            }
        }
        Purpose::Reask => {
            let outcome = verdict.and_then(|candidate| renew_with(engine, rules, &mut guard, candidate, now));
            answer::settle_renewal(engine, rules, id, &mut guard, outcome, now);
        }
    }
}

/// Whether the credential may still be used after the wait; revocations and keys are looked up at its commit. By both
/// clocks, so that stepping one back extends nothing (RULES 2).
fn require_current(rules: &Rules, waiting: &Enriching, now: Now) -> Result<(), Reason> {
    let identity = &waiting.candidate.identity;
    if now.wall >= identity.expiry || now.mono >= waiting.over_at {
        return Err(Reason::TokenExpired);
    }
    if rules.knows_issuer(&identity.issuer) { Ok(()) } else { Err(Reason::IssuerUnknown) }
}

/// Asks for a profile, or joins the question that is out about the same subject.
fn ask(engine: &Engine, rules: &Rules, identity: &Identity, waiter: Waiter, now: Now) -> Result<LookupId, NoProfile> {
    let (issuer, subject) = (Arc::clone(&identity.issuer), Arc::clone(&identity.subject));
    let url = url(rules, &issuer, &subject)?;
    let key = name(engine, rules, &issuer, &subject);
    let asked = engine.lookups.ask(key, Question::Profile { issuer, subject, url }, Some(waiter), now.mono);
    let asked = asked.map_err(|refusal| NoProfile::Unavailable {
        retry_after_ms: refusal.retry_after_ms,
        detail: "the profile source is left alone for a while, or too many questions are out",
    })?;
    engine.wake(waiter.connection.shard());
    Ok(asked.id)
}

/// Where the profile of a subject is asked for; `None` where the host knows.
fn url(rules: &Rules, issuer: &str, subject: &str) -> Result<Option<Arc<str>>, NoProfile> {
    let Some(template) = rules.config.profile.as_ref().and_then(|config| config.url.as_deref()) else {
        return Ok(None);
    };
    let url = fill_url(template, issuer, subject);
    let url = url.ok_or(NoProfile::unavailable("the subject is a step in a path and cannot be asked about there"))?;
    Ok(Some(Arc::from(url)))
}

fn judge(
    rules: &Rules,
    issuer: &str,
    subject: &str,
    asked: Option<&str>,
    answer: &Answer,
) -> Result<Arc<Profile>, NoProfile> {
    // Without a source there is nothing to add any more, and nothing to wait for.
    let Some(config) = &rules.config.profile else { return Ok(Arc::default()) };
    if url(rules, issuer, subject)?.as_deref() != asked {
        return Err(NoProfile::unavailable("the profile source was replaced while it was asked"));
    }
    Profile::judge(answer, asked.is_some(), config).map(Arc::new)
}

/// What it means that there is no profile. A subject that its source calls disabled is refused in any case.
fn do_without(rules: &Rules, none: NoProfile) -> Result<(), Refusal> {
    match none {
        NoProfile::Disabled => Err(Reason::TokenInactive.into()),
        NoProfile::Unavailable { .. } if rules.config.profile.as_ref().is_none_or(|config| config.optional) => Ok(()),
        NoProfile::Unavailable { retry_after_ms, .. } => {
            let most = rules.config.lookups.breaker_ms;
            Err(Refusal::after(Reason::SourceUnavailable, retry_after_ms.map_or(1_000, u64::from).min(most)))
        }
    }
}

/// Tells the operator whose profile could not be had, and how many connections waited for it.
fn report(engine: &Engine, issuer: &Arc<str>, subject: &Arc<str>, none: NoProfile, waiters: usize, now: Now) {
    let (reason, detail) = match none {
        NoProfile::Disabled => (Reason::TokenInactive, "the profile source says that the subject is disabled"),
        NoProfile::Unavailable { detail, .. } => (Reason::SourceUnavailable, detail),
    };
    let mut event = AuditEvent::new(AuditKind::ProfileFailed, now.wall);
    event.reason = Some(reason);
    event.issuer = Some(Arc::clone(issuer));
    event.subject = Some(Arc::clone(subject));
    event.count = u64::try_from(waiters).ok();
    event.detail = Some(detail);
    engine.audit.push(event);
}

fn name(engine: &Engine, rules: &Rules, issuer: &str, subject: &str) -> Fingerprint {
    engine.hash.profile(rules.epoch, issuer, subject)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::Revocation;
    use crate::config::CredentialSource;
    use crate::connection::{Candidate, PendingCredential};
    use crate::decision::Reason;
    use crate::flow::enrich::{admit, go_live};
    use crate::flow::identify::Proven;
    use crate::flow::refresh::tests::{NOW, engine_with, identity, pending};
    use crate::lookup::Purpose;
    use crate::secret::Secret;

    /// Two threads offer an `auth` each at the same moment: what one of them brings must not stay with the other.
    #[test]
    fn a_credential_that_is_not_let_in_leaves_nothing_with_the_connection() {
        let engine = engine_with("");
        let id = pending(&engine);
        let revoked = identity("gone", 1_000);
        let _ = engine.revoke(Revocation::Token { issuer: &revoked.issuer, token_id: "gone" }, NOW);
        let reask = PendingCredential::new(CredentialSource::FirstMessage, Secret::new(b"gone".to_vec()));
        let candidate =
            Candidate { identity: revoked, profile: Some(Arc::default()), reask: Some(reask), purpose: Purpose::Admit };
        let refused = engine.rules.with(|rules| go_live(&engine, rules, id, candidate, NOW)).unwrap_err();
        assert_eq!(refused.reason, Reason::TokenRevoked);
        let guard = engine.table.find(id).unwrap().lock(id).unwrap();
        assert!(guard.reask.is_none() && guard.profile.is_none());
    }

    /// Two threads offer an `auth` each at the same moment (RULES 15).
    #[test]
    fn of_two_credentials_of_one_newcomer_the_second_breaks_the_protocol() {
        let engine = engine_with("[profile]");
        let id = pending(&engine);
        let admit = |token| {
            let proven = Proven { identity: identity(token, 1_000), reask: None };
            engine.rules.with(|rules| admit(&engine, rules, id, proven, NOW))
        };
        assert_eq!(admit("first"), Ok(()));
        assert_eq!(admit("second").unwrap_err().reason, Reason::ProtocolError);
        assert_eq!(engine.lookups(9, NOW).len(), 1);
    }
}
