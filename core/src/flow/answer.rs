//! This file answers: a lookup came back; what does it mean for those who waited?

use std::sync::Arc;

use crate::config::CredentialSource;
use crate::connection::{Cold, ConnectionId, Guard, PendingCredential, State};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::handshake::Wanted;
use crate::flow::refresh::Refreshed;
use crate::flow::{admit, close, due, refresh, report, revoke};
use crate::identity::Identity;
use crate::lookup::{Answer, LookupId, Purpose, Question, Waiter};
use crate::rules::Rules;
use crate::secret::Secret;
use crate::time::Now;
use crate::token::TokenVerdict;

/// Asks, or joins the same question. `None` when too much is out already.
pub(crate) fn ask(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    wanted: Wanted,
    token: &Secret,
    purpose: Purpose,
    now: Now,
) -> Option<LookupId> {
    let (key, question) = wanted.question(engine, rules, token)?;
    let lookup = engine.lookups.ask(key, || question, Waiter { connection: id, purpose }, now.mono)?;
    engine.wake(id.shard());
    Some(lookup)
}

/// Keys are asked for at most once a cool-down; within it an unknown key is simply unknown.
pub(crate) fn require_askable(engine: &Engine, rules: &Rules, wanted: Wanted, now: Now) -> Result<(), Refusal> {
    match wanted {
        Wanted::Keys(index) => {
            let Some(issuer) = rules.issuers.get(index) else { return Err(Reason::FaultInternal.into()) };
            if engine.lookups.may_ask_keys(engine.hash.keys(&issuer.config().issuer), now.mono) {
                Ok(())
            } else if issuer.version() > 0 {
                Err(Reason::KeyUnknown.into())
            } else {
                Err(Refusal::after(Reason::SourceUnavailable, 1_000))
            }
        }
        Wanted::Session if rules.config.sessions.is_none() => Err(Reason::SessionUnknown.into()),
        Wanted::Introspection(_) | Wanted::Session => Ok(()),
    }
}

/// A token for a live connection whose key is not here yet.
pub(crate) fn refresh_when_keys_come(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    issuer: usize,
    token: &[u8],
    now: Now,
) -> Result<Refreshed, Refusal> {
    refresh_later(engine, rules, id, Wanted::Keys(issuer), token, now)
}

/// An opaque token for a live connection.
pub(crate) fn refresh_when_vouched(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    issuer: usize,
    token: &[u8],
    now: Now,
) -> Result<Refreshed, Refusal> {
    refresh_later(engine, rules, id, Wanted::Introspection(issuer), token, now)
}

/// The source of a live connection's credential is asked again (RULES 29), if that can be done now.
pub(crate) fn ask_source_again(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    now: Now,
) {
    let Some(reask) = guard.reask.as_ref() else { return };
    let wanted = match reask.source {
        CredentialSource::Cookie => Some(Wanted::Session),
        _ => rules.issuers.opaque().map(Wanted::Introspection),
    };
    let token = reask.token.clone();
    guard.asked_again = wanted.and_then(|wanted| ask(engine, rules, id, wanted, &token, Purpose::Reask, now));
}

/// Completes a question. An answer that is late, or to a question never asked, is refused and changes nothing.
pub(crate) fn answer(engine: &Engine, rules: &Rules, id: LookupId, answer: Answer, now: Now) -> Result<(), Reason> {
    let Some((question, waiters)) = engine.lookups.end(id, now.mono) else { return Err(Reason::MisuseHandle) };
    if let (Question::Keys { issuer, .. }, Answer::Keys(document)) = (&question, &answer) {
        let _ = load_keys(engine, rules, issuer, document, now);
    }
    for waiter in waiters {
        let Some(kept) = find_waiting(engine, id, waiter) else { continue };
        let verdict = judge(rules, &question, &answer, kept, now);
        settle(engine, rules, id, waiter, verdict, now);
    }
    Ok(())
}

/// Puts a fetched key set in force. A bad one keeps the last good one (REQUIREMENTS R-JWK-06). True when it is in
/// force.
pub(crate) fn load_keys(engine: &Engine, rules: &Rules, issuer: &str, document: &[u8], now: Now) -> bool {
    let loaded = rules.issuer(issuer).ok_or_else(String::new).and_then(|issuer| issuer.load_keys(document));
    report::keys_loaded(engine, issuer, loaded.is_ok(), now);
    match loaded {
        Ok(loaded) => {
            if !loaded.removed.is_empty() {
                revoke::key_removed(engine, rules, issuer, &loaded.removed, now);
            }
            true
        }
        Err(_) => false,
    }
}

fn refresh_later(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    wanted: Wanted,
    token: &[u8],
    now: Now,
) -> Result<Refreshed, Refusal> {
    let slot = engine.table.find(id).ok_or(Reason::MisuseHandle)?;
    let mut guard = slot.lock(id).ok_or(Reason::MisuseHandle)?;
    if let Err(refusal) = require_askable(engine, rules, wanted, now) {
        return Err(refresh::refuse(engine, rules, id, &mut guard, refusal, now));
    }
    let secret = Secret::new(token.to_vec());
    let Some(lookup) = ask(engine, rules, id, wanted, &secret, Purpose::Refresh, now) else {
        let refusal = Refusal::after(Reason::SourceUnavailable, 1_000);
        return Err(refresh::refuse(engine, rules, id, &mut guard, refusal, now));
    };
    guard.lookup = Some(lookup);
    refresh::remember(&mut guard, CredentialSource::FirstMessage, token);
    Ok(Refreshed::Pending)
}

/// Whether a connection still waits for this lookup. One that ended was told, and one that got another credential
/// meanwhile has nothing to do with the answer.
fn is_waiting(guard: &Guard<'_, Box<Cold>>, lookup: LookupId, purpose: Purpose) -> bool {
    guard.terminal.is_none()
        && match purpose {
            Purpose::Admit => guard.state() == State::Authenticating,
            Purpose::Refresh => guard.lookup == Some(lookup),
            Purpose::Reask => guard.asked_again == Some(lookup),
        }
}

/// The credential for which a connection waits.
fn find_waiting(engine: &Engine, lookup: LookupId, waiter: Waiter) -> Option<PendingCredential> {
    let guard = engine.table.find(waiter.connection)?.lock(waiter.connection)?;
    if !is_waiting(&guard, lookup, waiter.purpose) {
        return None;
    }
    let kept = if waiter.purpose == Purpose::Reask { guard.reask.as_ref() } else { guard.credential.as_ref() };
    kept.map(|kept| PendingCredential { source: kept.source, token: kept.token.clone() })
}

/// What an answer says about one waiter's credential.
fn judge(
    rules: &Rules,
    question: &Question,
    answer: &Answer,
    kept: PendingCredential,
    now: Now,
) -> Result<(Identity, Option<PendingCredential>), Refusal> {
    let PendingCredential { source, token } = kept;
    match (question, answer) {
        (Question::Keys { .. }, Answer::Keys(_)) => match rules.verify(token.expose(), now) {
            Ok(claims) => Ok((claims.into_identity(source), None)),
            Err(TokenVerdict::Refused(reason)) => Err(reason.into()),
            Err(TokenVerdict::KeysNeeded { issuer }) => {
                let known = rules.issuers.get(issuer).is_some_and(|issuer| issuer.version() > 0);
                Err(if known { Reason::KeyUnknown.into() } else { Refusal::after(Reason::SourceUnavailable, 1_000) })
            }
            Err(TokenVerdict::Opaque { .. }) => Err(Reason::TokenOpaque.into()),
        },
        (Question::Introspection { issuer, .. }, Answer::Vouched(vouched)) => {
            // The configuration may have changed while the question was out.
            let asked = rules.issuer(issuer).filter(|issuer| issuer.config().opaque).ok_or(Reason::IssuerUnknown)?;
            let wildcards = asked.config().wildcards;
            let identity = Identity::from_vouched(vouched, Arc::clone(issuer), source, wildcards, now.wall)?;
            Ok((identity, Some(PendingCredential { source, token })))
        }
        (Question::Session { .. }, Answer::Vouched(vouched)) => {
            let Some(sessions) = &rules.config.sessions else { return Err(Reason::SessionUnknown.into()) };
            let issuer = Arc::from(sessions.issuer.as_str());
            let identity = Identity::from_vouched(vouched, issuer, source, true, now.wall)?;
            Ok((identity, Some(PendingCredential { source, token })))
        }
        (Question::Introspection { .. }, Answer::Inactive) => Err(Reason::TokenInactive.into()),
        (Question::Session { .. }, Answer::Inactive) => Err(Reason::SessionUnknown.into()),
        (_, Answer::Unavailable { retry_after_ms }) => {
            Err(Refusal::after(Reason::SourceUnavailable, u64::from(retry_after_ms.unwrap_or(1_000))))
        }
        // An answer to another question than was asked is no answer.
        _ => Err(Refusal::after(Reason::SourceUnavailable, 1_000)),
    }
}

/// Does what the verdict means for the waiter.
fn settle(
    engine: &Engine,
    rules: &Rules,
    lookup: LookupId,
    waiter: Waiter,
    verdict: Result<(Identity, Option<PendingCredential>), Refusal>,
    now: Now,
) {
    let id = waiter.connection;
    let Some(slot) = engine.table.find(id) else { return };
    let Some(mut guard) = slot.lock(id).filter(|guard| is_waiting(guard, lookup, waiter.purpose)) else { return };
    match (waiter.purpose, verdict) {
        (Purpose::Admit, Ok((identity, reask))) => {
            guard.reask = reask;
            drop(guard);
            if let Err(refusal) = admit::go_live(engine, rules, id, identity, now)
                && let Some(mut guard) = slot.lock(id).filter(|guard| guard.terminal.is_none())
            {
                refuse_pending(engine, rules, id, &mut guard, refusal, now);
            }
        }
        (Purpose::Admit, Err(refusal)) => refuse_pending(engine, rules, id, &mut guard, refusal, now),
        (Purpose::Refresh, verdict) => {
            guard.credential = None;
            guard.lookup = None;
            match verdict {
                Ok((identity, reask)) => {
                    if refresh::commit(engine, rules, id, &mut guard, identity, now).is_ok() {
                        guard.reask = reask;
                    }
                }
                Err(refusal) => {
                    refresh::refuse(engine, rules, id, &mut guard, refusal, now);
                }
            }
        }
        (Purpose::Reask, verdict) => settle_reask(engine, rules, id, &mut guard, verdict, now),
    }
}

/// RULES 29: gone is revoked; unavailable is asked again until expiry; still there goes on.
fn settle_reask(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    verdict: Result<(Identity, Option<PendingCredential>), Refusal>,
    now: Now,
) {
    guard.asked_again = None;
    match verdict {
        Ok((identity, reask)) => {
            guard.refresh.unavailable = false;
            let same =
                guard.identity.as_ref().is_some_and(|held| refresh::require_same_identity(held, &identity).is_ok());
            let later = guard.identity.as_ref().is_some_and(|held| identity.expiry > held.expiry);
            if !same {
                close::close(engine, id, guard, Reason::Revoked.into(), now);
            } else if !later {
                // It ends when it ends; asking again cannot change that.
                guard.timetable.ask_at = guard.timetable.expiry;
            } else if refresh::commit(engine, rules, id, guard, identity, now).is_ok() {
                guard.reask = reask;
            } else {
                close::close(engine, id, guard, Reason::Revoked.into(), now);
            }
        }
        Err(refusal) if refusal.reason == Reason::SourceUnavailable => guard.refresh.unavailable = true,
        Err(_) => {
            close::close(engine, id, guard, Reason::Revoked.into(), now);
        }
    }
    if guard.terminal.is_none() {
        due::file(engine, rules, id, guard);
    }
}

/// A connection that was not let in after all: the server is told, and says `closed`.
pub(crate) fn refuse_pending(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    refusal: Refusal,
    now: Now,
) {
    report::pending_refused(engine, rules, id, guard, refusal, now);
    close::close(engine, id, guard, refusal, now);
}
