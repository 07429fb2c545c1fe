//! This file answers: a lookup came back; what does it mean for those who waited?

use std::sync::Arc;

use crate::config::CredentialSource;
use crate::connection::{Cold, ConnectionId, Guard, PendingCredential, Slot};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::handshake::Wanted;
use crate::flow::refresh::Refreshed;
use crate::flow::{close, due, enrich, refresh, report, revoke};
use crate::identity::Identity;
use crate::lookup::{Answer, LOOKUP_MS, LookupId, Purpose, Question, Waiter};
use crate::rules::Rules;
use crate::secret::Secret;
use crate::time::Now;
use crate::token::TokenVerdict;

/// Asks about a credential and keeps it until the answer comes; one kept before is given up, with its answer. False
/// when too much is out already. The caller holds the connection's lock, so no answer comes too early.
pub(crate) fn ask_about(
    engine: &Engine,
    rules: &Rules,
    guard: &mut Guard<'_, Box<Cold>>,
    wanted: Wanted,
    mut credential: PendingCredential,
    purpose: Purpose,
    now: Now,
) -> bool {
    credential.session = wanted == Wanted::Session;
    credential.until = now.mono.plus(LOOKUP_MS);
    credential.lookup = ask(engine, rules, guard.id(), wanted, &credential.token, purpose, now);
    let asked = credential.lookup.is_some();
    if asked {
        guard.credential = Some(credential);
        guard.enriching = None;
    }
    asked
}

/// Asks, or joins the same question. `None` when too much is out already.
fn ask(
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

/// The source of a live connection's credential is asked again (RULES 29). False when it cannot be asked now.
pub(crate) fn ask_source_again(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    now: Now,
) -> bool {
    let (Some(reask), Some(identity)) = (&guard.reask, &guard.identity) else { return false };
    let wanted = if reask.session {
        Some(Wanted::Session)
    } else {
        // Never another issuer than the one that vouched: it must not see the token (RULES 11).
        let issuer = rules.issuers.find(&identity.issuer).filter(|index| rules.issuers.opaque() == Some(*index));
        issuer.map(Wanted::Introspection)
    };
    let token = reask.token.clone();
    let lookup = wanted.and_then(|wanted| ask(engine, rules, id, wanted, &token, Purpose::Reask, now));
    if let Some(reask) = guard.reask.as_mut() {
        reask.lookup = lookup;
    }
    lookup.is_some()
}

/// Completes a question. An answer that is late, or to a question never asked, is refused and changes nothing.
pub(crate) fn answer(engine: &Engine, rules: &Rules, id: LookupId, answer: Answer, now: Now) -> Result<(), Reason> {
    let Some((question, waiters)) = engine.lookups.end(id, now.mono) else { return Err(Reason::MisuseHandle) };
    if let (Question::Keys { issuer, .. }, Answer::Keys(document)) = (&question, &answer) {
        let _ = load_keys(engine, rules, issuer, document, now);
    }
    if matches!(question, Question::Profile { .. }) {
        enrich::answered(engine, rules, &question, &answer, (id, waiters), now);
        return Ok(());
    }
    for waiter in waiters {
        let Some(slot) = engine.table.find(waiter.connection) else { continue };
        let asked = slot.lock(waiter.connection).and_then(|guard| find_asked(&guard, waiter.purpose, id).cloned());
        // Ended, or another credential took its place: the answer is of no use any more.
        let Some(asked) = asked else { continue };
        let verdict = judge(rules, &question, &answer, &asked, now);
        let vouched_by_source = !matches!(question, Question::Keys { .. });
        let reask = vouched_by_source.then_some(PendingCredential { lookup: None, ..asked });
        settle(engine, rules, slot, waiter, id, verdict.map(|identity| (identity, reask)), now);
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

/// A new token for a live connection that something must be found out about first.
pub(crate) fn refresh_later(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    wanted: Wanted,
    token: &[u8],
    now: Now,
) -> Result<Refreshed, Refusal> {
    let slot = engine.table.find(id).ok_or(Reason::MisuseHandle)?;
    let mut guard = slot.lock(id).ok_or(Reason::MisuseHandle)?;
    let credential = PendingCredential::new(CredentialSource::FirstMessage, Secret::new(token.to_vec()));
    let refusal = match require_askable(engine, rules, wanted, now) {
        Ok(()) if ask_about(engine, rules, &mut guard, wanted, credential, Purpose::Refresh, now) => {
            due::file(engine, rules, &guard);
            return Ok(Refreshed::Pending);
        }
        Ok(()) => Refusal::after(Reason::SourceUnavailable, 1_000),
        Err(refusal) => refusal,
    };
    Err(refresh::refuse(engine, rules, id, &mut guard, refusal, now))
}

/// The credential that this lookup was asked about, while the connection still waits for it.
fn find_asked(cold: &Cold, purpose: Purpose, lookup: LookupId) -> Option<&PendingCredential> {
    let kept = if purpose == Purpose::Reask { &cold.reask } else { &cold.credential };
    kept.as_ref().filter(|kept| kept.lookup == Some(lookup))
}

/// What an answer says about one waiter's credential.
fn judge(
    rules: &Rules,
    question: &Question,
    answer: &Answer,
    asked: &PendingCredential,
    now: Now,
) -> Result<Identity, Refusal> {
    match (question, answer) {
        (Question::Keys { .. }, Answer::Keys(_)) => match rules.verify(asked.token.expose(), now) {
            Ok(claims) => Ok(claims.into_identity(asked.source)),
            Err(TokenVerdict::Refused(reason)) => Err(reason.into()),
            Err(TokenVerdict::KeysNeeded { issuer }) => {
                let known = rules.issuers.get(issuer).is_some_and(|issuer| issuer.version() > 0);
                Err(if known { Reason::KeyUnknown.into() } else { Refusal::after(Reason::SourceUnavailable, 1_000) })
            }
            Err(TokenVerdict::Opaque { .. }) => Err(Reason::TokenOpaque.into()),
        },
        (Question::Introspection { issuer, .. }, Answer::Vouched(vouched)) => {
            // A reload may have taken the issuer away since it was asked, or its word for opaque tokens.
            let config = rules.issuer(issuer).ok_or(Reason::IssuerUnknown)?.config();
            if !config.opaque {
                return Err(Reason::TokenOpaque.into());
            }
            Ok(Identity::from_vouched(vouched, Arc::clone(issuer), asked.source, config.wildcards, now.wall)?)
        }
        (Question::Session { .. }, Answer::Vouched(vouched)) => {
            let Some(sessions) = &rules.config.sessions else { return Err(Reason::SessionUnknown.into()) };
            let issuer = Arc::from(sessions.issuer.as_str());
            Ok(Identity::from_vouched(vouched, issuer, asked.source, true, now.wall)?)
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

/// Does what the verdict means for the waiter, unless it waits for something else by now.
fn settle(
    engine: &Engine,
    rules: &Rules,
    slot: &Slot<Box<Cold>>,
    waiter: Waiter,
    lookup: LookupId,
    verdict: Result<(Identity, Option<PendingCredential>), Refusal>,
    now: Now,
) {
    let id = waiter.connection;
    let Some(mut guard) = slot.lock(id) else { return };
    if find_asked(&guard, waiter.purpose, lookup).is_none() {
        return;
    }
    match waiter.purpose {
        Purpose::Admit => {
            guard.credential = None;
            let outcome = match verdict {
                Ok((identity, reask)) => {
                    guard.reask = reask;
                    drop(guard);
                    enrich::admit(engine, rules, id, identity, now)
                }
                Err(refusal) => {
                    drop(guard);
                    Err(refusal)
                }
            };
            if let Err(refusal) = outcome
                && let Some(mut guard) = slot.lock(id)
            {
                refuse_pending(engine, rules, id, &mut guard, refusal, now);
            }
        }
        Purpose::Refresh => {
            guard.credential = None;
            let outcome = verdict
                .and_then(|(identity, reask)| refresh::commit(engine, rules, id, &mut guard, identity, reask, now));
            if let Err(refusal) = outcome {
                refresh::refuse(engine, rules, id, &mut guard, refusal, now);
            }
        }
        Purpose::Reask => {
            if let Some(reask) = guard.reask.as_mut() {
                reask.lookup = None;
            }
            let outcome = verdict.and_then(|(identity, _)| enrich::renew(engine, rules, &mut guard, identity, now));
            settle_reask(engine, rules, id, &mut guard, outcome, now);
        }
    }
}

/// RULES 29: gone is revoked; unavailable is asked again until expiry; still there goes on.
pub(crate) fn settle_reask(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    outcome: Result<(), Refusal>,
    now: Now,
) {
    match outcome {
        _ if guard.terminal.is_some() => return,
        Ok(()) => guard.refresh.unavailable = false,
        Err(refusal) if refresh::is_unavailable(refusal.reason) => guard.refresh.unavailable = true,
        Err(_) => {
            close::close(engine, id, guard, Reason::Revoked.into(), now);
            return;
        }
    }
    due::file(engine, rules, guard);
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
    if guard.terminal.is_some() {
        return;
    }
    report::pending_refused(engine, rules, guard, refusal.reason, now);
    close::close(engine, id, guard, refusal, now);
}
