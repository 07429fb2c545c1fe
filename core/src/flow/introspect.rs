//! This file answers: what did the source say of an opaque token, for how long does it hold, and when is it asked
//! again?

use std::sync::Arc;

use crate::cache::{Basis, Verdict};
use crate::config::{CredentialSource, IssuerConfig};
use crate::connection::{Cold, Guard};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::handshake::Wanted;
use crate::flow::{answer, sources};
use crate::identity::Identity;
use crate::keys::{AskAt, Issuer};
use crate::lookup::introspection::{NotVouched, judge_response};
use crate::lookup::{Answer, HttpResponse};
use crate::rules::Rules;
use crate::secret::Secret;
use crate::time::{MonoTime, Now};

/// What an issuer said of an opaque token and when, while that holds.
pub(crate) fn find_verdict(
    engine: &Engine,
    rules: &Rules,
    issuer: usize,
    token: &[u8],
    now: Now,
) -> Option<(Verdict, MonoTime)> {
    let config = rules.issuers.get(issuer)?.config();
    config.introspection.as_ref()?;
    engine.verdicts.find(engine.hash.credential(&config.issuer, token), rules, now)
}

/// What the source has said of a live connection's token since it last vouched for it here: another connection of the
/// same token asked.
pub(crate) fn find_news(
    engine: &Engine,
    rules: &Rules,
    cold: &Cold,
    now: Now,
) -> Option<(Result<Identity, Refusal>, MonoTime)> {
    let reask = cold.reask.as_ref().filter(|reask| !reask.session)?;
    let issuer = rules.issuers.find(&cold.identity.as_ref()?.issuer)?;
    let (verdict, judged) = find_verdict(engine, rules, issuer, reask.token.expose(), now)?;
    if judged <= reask.vouched {
        return None;
    }
    Some(match verdict {
        Verdict::Good(identity) => (Ok((*identity).clone()), judged),
        Verdict::Inactive => (Err(Reason::TokenInactive.into()), judged),
    })
}

/// Judges an answer about an opaque token, once for all who wait for it, and keeps the verdict. Who it is has the
/// source `Authorization`: where the credential stood is known of each who waits.
pub(crate) fn judge(
    engine: &Engine,
    rules: &Rules,
    issuer: &Arc<str>,
    url: Option<&Arc<str>>,
    token: &Secret,
    answer: &Answer,
    now: Now,
) -> Result<Identity, Refusal> {
    let basis = Basis::of(rules);
    // A reload may have taken the issuer away since it was asked, or its word for opaque tokens.
    let index = rules.issuers.find(issuer).ok_or(Reason::IssuerUnknown)?;
    let asked = rules.issuers.get(index).ok_or(Reason::IssuerUnknown)?;
    let config = asked.config();
    if !config.opaque {
        return Err(Reason::TokenOpaque.into());
    }
    let current = match (asked.introspection_url(), url) {
        (AskAt::Host, None) => true,
        (AskAt::Url(at), Some(url)) => at == *url,
        _ => false,
    };
    if !current {
        // Its source was replaced while it was asked: what the old one says is no word any more.
        return Err(unavailable(None));
    }
    let source = CredentialSource::Authorization;
    let word = match answer {
        Answer::Vouched(vouched) => {
            Identity::from_vouched(vouched, Arc::clone(issuer), source, config.wildcards, now.wall)
                .map_err(Refusal::from)
        }
        Answer::Inactive => Err(Reason::TokenInactive.into()),
        Answer::Response(response) => judge_http(engine, rules, index, asked, token, response, now),
        Answer::Unavailable { retry_after_ms } => Err(unavailable(*retry_after_ms)),
        // An answer to another question than was asked is no answer.
        _ => Err(unavailable(None)),
    };
    keep(engine, config, token, basis, &word, now);
    word
}

fn judge_http(
    engine: &Engine,
    rules: &Rules,
    index: usize,
    issuer: &Issuer,
    token: &Secret,
    response: &HttpResponse,
    now: Now,
) -> Result<Identity, Refusal> {
    let most = rules.config.lookups.breaker_ms;
    match judge_response(response, issuer, now) {
        Ok(facts) => {
            // One that names no end lives as long as an answer is used.
            let cap = issuer.config().introspection.as_ref().map_or(0, |introspection| introspection.cache_ms);
            let expiry = facts.expiry.unwrap_or(now.wall.plus(cap));
            Ok(facts.into_identity(CredentialSource::Authorization, expiry, None))
        }
        Err(NotVouched::Refused(reason)) => Err(reason.into()),
        Err(NotVouched::Silent { retry_after_ms }) => {
            Err(unavailable(retry_after_ms.map(|ms| ms.min(u32::try_from(most).unwrap_or(u32::MAX)))))
        }
        // The alarm is raised where the outcome is told to the breaker.
        Err(NotVouched::CredentialsRejected) => Err(unavailable(None)),
        Err(NotVouched::KeysNeeded) => {
            ask_for_keys(engine, rules, index, token, now);
            Err(unavailable(None))
        }
    }
}

/// Who waits for the token is told to come again; by then the key is there.
fn ask_for_keys(engine: &Engine, rules: &Rules, index: usize, token: &Secret, now: Now) {
    let wanted = Wanted::Keys(index);
    if answer::require_askable(engine, rules, wanted, now).is_err() {
        return;
    }
    let Some((key, question)) = wanted.question(engine, rules, token) else { return };
    if let (Ok(asked), Some(issuer)) = (engine.lookups.ask(key, question, None, now.mono), rules.issuers.get(index)) {
        sources::asked(engine, rules, &issuer.config().issuer, asked.deadline);
        engine.wake(0);
    }
}

/// Errors are not kept: neither that nobody answered, nor that what is active is not for us or not valid yet. A word
/// against the token ends what was said for it before.
fn keep(
    engine: &Engine,
    config: &IssuerConfig,
    token: &Secret,
    basis: Basis,
    word: &Result<Identity, Refusal>,
    now: Now,
) {
    let Some(introspection) = &config.introspection else { return };
    let key = engine.hash.credential(&config.issuer, token.expose());
    let (verdict, for_ms) = match word {
        Ok(identity) => (Verdict::Good(Arc::new(identity.clone())), introspection.cache_ms),
        Err(refusal) if refusal.reason == Reason::TokenInactive => (Verdict::Inactive, introspection.negative_cache_ms),
        Err(refusal) if refusal.reason == Reason::SourceUnavailable => return,
        Err(_) => {
            engine.verdicts.forget(key);
            return;
        }
    };
    engine.verdicts.keep(key, basis, verdict, for_ms, now);
}

/// A source that vouches for a live connection is asked again after `recheck`, up to a tenth of it earlier, where
/// that is before its timetable says (RULES 29). Called wherever the timetable was laid out.
pub(crate) fn plan_recheck(engine: &Engine, rules: &Rules, guard: &mut Guard<'_, Box<Cold>>, now: Now) {
    if guard.reask.as_ref().is_none_or(|reask| reask.session) {
        return;
    }
    let issuer = guard.identity.as_ref().and_then(|identity| rules.issuer(&identity.issuer));
    let Some(introspection) = issuer.and_then(|issuer| issuer.config().introspection.as_ref()) else { return };
    let spread = (introspection.recheck_ms / 10).saturating_add(1);
    let early = engine.hash.jitter(guard.id()).checked_rem(spread).unwrap_or(0);
    let at = now.mono.plus(introspection.recheck_ms.saturating_sub(early));
    guard.timetable.ask_at = guard.timetable.ask_at.min(at);
}

fn unavailable(retry_after_ms: Option<u32>) -> Refusal {
    Refusal::after(Reason::SourceUnavailable, u64::from(retry_after_ms.unwrap_or(1_000)))
}
