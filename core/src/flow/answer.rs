//! This file answers: a lookup came back; what does it mean for those who waited?

use std::sync::Arc;

use crate::config::CredentialSource;
use crate::connection::{Cold, ConnectionId, Guard, PendingCredential, Slot};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::handshake::Wanted;
use crate::flow::identify::{Proven, identify};
use crate::flow::refresh::Refreshed;
use crate::flow::sources::Fetched;
use crate::flow::{close, due, enrich, introspect, refresh, report, sources};
use crate::identity::Identity;
use crate::lookup::{Answer, LOOKUP_MS, LookupId, Outcome, Purpose, Question, Waiter};
use crate::rules::Rules;
use crate::secret::Secret;
use crate::time::{MonoTime, Now};
use crate::token::TokenVerdict;

/// Asks about a credential and keeps it until the answer comes; one kept before is given up, with its answer. Refused
/// when its source is left alone, or too much is out already. The caller holds the connection's lock, so no answer
/// comes too early.
pub(crate) fn ask_about(
    engine: &Engine,
    rules: &Rules,
    guard: &mut Guard<'_, Box<Cold>>,
    wanted: Wanted,
    mut credential: PendingCredential,
    purpose: Purpose,
    now: Now,
) -> Result<(), Refusal> {
    credential.session = wanted == Wanted::Session;
    credential.until = now.mono.plus(LOOKUP_MS);
    let lookup = ask(engine, rules, guard.id(), wanted, &credential.token, purpose, MonoTime(0), now)?;
    credential.lookup = Some(lookup);
    if purpose == Purpose::Admit {
        // Whoever waits hears when its question is over.
        engine.schedule(guard.id(), credential.until.min(guard.authenticate_by));
    }
    guard.credential = Some(credential);
    guard.enriching = None;
    Ok(())
}

/// Asks, or joins the same question. Not asked where a source has answered after `since`.
#[expect(clippy::too_many_arguments, reason = "one question, all that it depends on")]
fn ask(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    wanted: Wanted,
    token: &Secret,
    purpose: Purpose,
    since: MonoTime,
    now: Now,
) -> Result<LookupId, Refusal> {
    let refusal = Refusal::after(Reason::SourceUnavailable, 1_000);
    let (key, question) = wanted.question(engine, rules, token).ok_or(refusal)?;
    let fetches = match &question {
        Question::Discovery { issuer, .. } | Question::Keys { issuer, .. } => Some(Arc::clone(issuer)),
        _ => None,
    };
    // Looked up where no question can end meanwhile: of any number of callers one asks.
    let is_known = || {
        let Wanted::Introspection(issuer) = wanted else { return false };
        let verdict = introspect::find_verdict(engine, rules, issuer, token.expose(), now);
        verdict.is_some_and(|(_, judged)| judged > since)
    };
    let waiter = Some(Waiter { connection: id, purpose });
    let asked = engine.lookups.ask_unless(key, question, waiter, is_known, now.mono)?;
    if let Some(issuer) = fetches {
        sources::asked(engine, rules, &issuer, asked.deadline);
    }
    engine.wake(id.shard());
    Ok(asked.id)
}

/// Keys are asked for at most once a cool-down; within it an unknown key is simply unknown.
pub(crate) fn require_askable(engine: &Engine, rules: &Rules, wanted: Wanted, now: Now) -> Result<(), Refusal> {
    match wanted {
        Wanted::Keys(index) => {
            let Some(issuer) = rules.issuers.get(index) else { return Err(Reason::FaultInternal.into()) };
            if engine.lookups.may_ask_keys(engine.hash.keys(&issuer.config().issuer), now.mono) {
                Ok(())
            } else {
                Err(sources::refuse_unknown_key(Some(issuer), None, now))
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
    let (token, since) = (reask.token.clone(), reask.vouched);
    let lookup = wanted.and_then(|wanted| ask(engine, rules, id, wanted, &token, Purpose::Reask, since, now).ok());
    if let Some(reask) = guard.reask.as_mut() {
        reask.lookup = lookup;
    }
    lookup.is_some()
}

/// Completes a question. An answer that is late, or to a question never asked, is refused and changes nothing.
pub(crate) fn answer(engine: &Engine, rules: &Rules, id: LookupId, answer: Answer, now: Now) -> Result<(), Reason> {
    let Some(question) = engine.lookups.begin(id, now.mono) else { return Err(Reason::MisuseHandle) };
    if matches!(question, Question::Profile { .. }) {
        enrich::answered(engine, rules, id, &question, &answer, now);
        return Ok(());
    }
    // What the answer brings is in force before its question is gone: nobody falls between the two.
    let word = match &question {
        // Judged once for all who wait.
        Question::Introspection { issuer, url, token } => {
            Some(introspect::judge(engine, rules, issuer, url.as_ref(), token, &answer, now))
        }
        _ => None,
    };
    let fetched = sources::take_keys(engine, rules, &question, &answer, now);
    let outcome = match (sources::find_outcome(engine, &question, &answer, now), &question) {
        (Outcome::Answered, Question::Keys { .. } | Question::Discovery { .. }) if fetched == Fetched::Nothing => {
            Outcome::Failed
        }
        (outcome, _) => outcome,
    };
    let waiters = match (&question, &fetched) {
        (Question::Discovery { issuer, .. }, Fetched::At(url)) => {
            let keys = Question::Keys { issuer: Arc::clone(issuer), url: Arc::clone(url) };
            let (waiters, asked) = engine.lookups.end_with(id, keys, now.mono);
            if let Some(asked) = asked {
                sources::asked(engine, rules, issuer, asked.deadline);
                engine.wake(0);
            }
            waiters
        }
        (Question::Keys { issuer, .. } | Question::Discovery { issuer, .. }, Fetched::Nothing) => {
            sources::failed(engine, rules, issuer, &answer, now);
            engine.lookups.end(id, outcome, now.mono)
        }
        _ => engine.lookups.end(id, outcome, now.mono),
    };
    sources::report_changes(engine, now);
    let discovered = matches!(fetched, Fetched::At(_));
    for waiter in waiters {
        let Some(slot) = engine.table.find(waiter.connection) else { continue };
        let asked = slot.lock(waiter.connection).and_then(|guard| find_asked(&guard, waiter.purpose, id).cloned());
        // Ended, or another credential took its place: the answer is of no use any more.
        let Some(asked) = asked else { continue };
        if discovered && carry_on(engine, rules, slot, waiter, id, &asked, now) {
            continue;
        }
        // Whoever a source vouches for is asked about again there.
        let vouched = |identity: Identity| {
            let reask = PendingCredential { lookup: None, vouched: now.mono, ..asked.clone() };
            Proven { identity: Identity { source: asked.source, ..identity }, reask: Some(reask) }
        };
        let verdict = match (&word, &question) {
            (Some(word), _) => word.clone().map(vouched),
            (None, Question::Keys { .. } | Question::Discovery { .. }) => {
                judge_by_keys(engine, rules, &answer, &fetched, &asked, now)
            }
            (None, _) => judge_session(rules, &question, &answer, &asked, now).map(vouched),
        };
        settle(engine, rules, slot, waiter, id, verdict, now);
    }
    Ok(())
}

/// It is known now where to ask: one who waited for that waits for the next answer. False when there is nothing more
/// to ask for it, or it cannot be asked; then it is judged by what is known.
fn carry_on(
    engine: &Engine,
    rules: &Rules,
    slot: &Slot<Box<Cold>>,
    waiter: Waiter,
    lookup: LookupId,
    asked: &PendingCredential,
    now: Now,
) -> bool {
    let wanted = match rules.verify(asked.token.expose(), now) {
        Err(TokenVerdict::KeysNeeded { issuer }) => Wanted::Keys(issuer),
        Err(TokenVerdict::Opaque { issuer }) => Wanted::Introspection(issuer),
        Ok(_) | Err(TokenVerdict::Refused(_)) => return false,
    };
    let id = waiter.connection;
    let Some(mut guard) = slot.lock(id) else { return true };
    if find_asked(&guard, waiter.purpose, lookup).is_none() {
        return true;
    }
    if waiter.purpose == Purpose::Reask {
        return ask_source_again(engine, rules, id, &mut guard, now);
    }
    require_askable(engine, rules, wanted, now)
        .and_then(|()| ask_about(engine, rules, &mut guard, wanted, asked.clone(), waiter.purpose, now))
        .is_ok()
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
    let asked = require_askable(engine, rules, wanted, now)
        .and_then(|()| ask_about(engine, rules, &mut guard, wanted, credential, Purpose::Refresh, now));
    match asked {
        Ok(()) => {
            due::file(engine, rules, &guard);
            Ok(Refreshed::Pending)
        }
        Err(refusal) => {
            // Nobody is asked, either, where somebody else's answer came in this very moment.
            let refusal = match identify(engine, rules, token, CredentialSource::FirstMessage, now) {
                Ok(proven) => {
                    match refresh::commit(engine, rules, id, &mut guard, proven.identity, proven.reask, now) {
                        Ok(refreshed) => return Ok(refreshed),
                        Err(refusal) => refusal,
                    }
                }
                Err(_) => refusal,
            };
            Err(refresh::refuse(engine, rules, id, &mut guard, refusal, now))
        }
    }
}

/// The credential that this lookup was asked about, while the connection still waits for it.
fn find_asked(cold: &Cold, purpose: Purpose, lookup: LookupId) -> Option<&PendingCredential> {
    let kept = if purpose == Purpose::Reask { &cold.reask } else { &cold.credential };
    kept.as_ref().filter(|kept| kept.lookup == Some(lookup))
}

/// What one waiter's credential is, now that its issuer's keys, or where to ask, are known or could not be had. Another
/// may have asked about the same opaque token meanwhile: then it is known, and its source is asked again later.
fn judge_by_keys(
    engine: &Engine,
    rules: &Rules,
    answer: &Answer,
    fetched: &Fetched,
    asked: &PendingCredential,
    now: Now,
) -> Result<Proven, Refusal> {
    match identify(engine, rules, asked.token.expose(), asked.source, now) {
        Ok(proven) => Ok(proven),
        Err(TokenVerdict::Refused(reason)) => Err(reason.into()),
        // Only a good set says that a key is unknown.
        Err(TokenVerdict::KeysNeeded { issuer }) if *fetched == Fetched::Keys => {
            Err(sources::refuse_unknown_key(rules.issuers.get(issuer), None, now))
        }
        Err(TokenVerdict::KeysNeeded { .. } | TokenVerdict::Opaque { .. }) => Err(unavailable(answer)),
    }
}

/// What an answer says about one waiter's session.
fn judge_session(
    rules: &Rules,
    question: &Question,
    answer: &Answer,
    asked: &PendingCredential,
    now: Now,
) -> Result<Identity, Refusal> {
    match (question, answer) {
        (Question::Session { .. }, Answer::Vouched(vouched)) => {
            let Some(sessions) = &rules.config.sessions else { return Err(Reason::SessionUnknown.into()) };
            let issuer = Arc::from(sessions.issuer.as_str());
            Ok(Identity::from_vouched(vouched, issuer, asked.source, true, now.wall)?)
        }
        (Question::Session { .. }, Answer::Inactive) => Err(Reason::SessionUnknown.into()),
        // Also: an answer to another question than was asked is no answer.
        _ => Err(unavailable(answer)),
    }
}

fn unavailable(answer: &Answer) -> Refusal {
    let retry_after_ms = sources::retry_after(answer).unwrap_or(1_000);
    Refusal::after(Reason::SourceUnavailable, u64::from(retry_after_ms))
}

/// Does what the verdict means for the waiter, unless it waits for something else by now.
fn settle(
    engine: &Engine,
    rules: &Rules,
    slot: &Slot<Box<Cold>>,
    waiter: Waiter,
    lookup: LookupId,
    verdict: Result<Proven, Refusal>,
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
            drop(guard);
            if let Err(refusal) = verdict.and_then(|proven| enrich::admit(engine, rules, id, proven, now))
                && let Some(mut guard) = slot.lock(id)
            {
                refuse_pending(engine, rules, id, &mut guard, refusal, now);
            }
        }
        Purpose::Refresh => {
            guard.credential = None;
            let outcome = verdict.and_then(|Proven { identity, reask }| {
                refresh::commit(engine, rules, id, &mut guard, identity, reask, now)
            });
            if let Err(refusal) = outcome {
                refresh::refuse(engine, rules, id, &mut guard, refusal, now);
            }
        }
        Purpose::Reask => {
            if let Some(reask) = guard.reask.as_mut() {
                reask.lookup = None;
            }
            let word = verdict.map(|proven| proven.identity);
            settle_reask(engine, rules, id, &mut guard, word, now.mono, now);
        }
    }
}

/// Does what its source said at `vouched` about the credential of a live connection.
pub(crate) fn settle_reask(
    engine: &Engine,
    rules: &Rules,
    id: ConnectionId,
    guard: &mut Guard<'_, Box<Cold>>,
    word: Result<Identity, Refusal>,
    vouched: MonoTime,
    now: Now,
) {
    let outcome = word.and_then(|identity| {
        if let Some(reask) = guard.reask.as_mut() {
            reask.vouched = vouched;
        }
        enrich::renew(engine, rules, guard, identity, now)
    });
    settle_renewal(engine, rules, id, guard, outcome, now);
}

/// RULES 29: gone is revoked; unavailable is asked again until expiry; still there goes on.
pub(crate) fn settle_renewal(
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::judge_by_keys;
    use crate::cache::{Basis, Verdict};
    use crate::config::{Config, CredentialSource, NoSecretSource};
    use crate::connection::PendingCredential;
    use crate::engine::Engine;
    use crate::flow::refresh::tests::{NOW, identity};
    use crate::flow::sources::Fetched;
    use crate::lookup::Answer;
    use crate::secret::{EngineSeed, Secret};

    /// One thread learns where to ask and goes through those who waited; another one asks and is answered meanwhile.
    #[test]
    fn an_opaque_token_that_somebody_else_asked_about_is_asked_about_again() {
        let config = r#"
            [[issuer]]
            issuer = "https://id.example.com"
            audience = ["a"]
            algorithms = ["EdDSA"]
            opaque = true
            keys = { discovery_url = "https://id.example.com/.well-known/openid-configuration" }
            introspection = { client_id = "us", client_secret = { text = "client-secret" } }
            [handshake]
            credentials = ["authorization"]
            trusted_proxies = []
            require_origin = false
            "#;
        let config = Config::from_toml(config, &NoSecretSource).unwrap();
        let engine = Engine::new(config, &EngineSeed::new([7; 32]), Box::new(|_| ())).unwrap();
        let asked = PendingCredential::new(CredentialSource::Authorization, Secret::new(b"opaque-0123".to_vec()));
        let proven = engine.rules.with(|rules| {
            let key = engine.hash.credential("https://id.example.com", asked.token.expose());
            let good = Verdict::Good(Arc::new(identity("t", 60_000)));
            engine.verdicts.keep(key, Basis::of(rules), good, 60_000, NOW);
            let answer = Answer::Unavailable { retry_after_ms: None };
            judge_by_keys(&engine, rules, &answer, &Fetched::At("https://id.example.com/jwks".into()), &asked, NOW)
        });
        let reask = proven.ok().and_then(|proven| proven.reask);
        assert!(reask.is_some_and(|reask| reask.token.expose() == b"opaque-0123" && reask.vouched == NOW.mono));
    }
}
