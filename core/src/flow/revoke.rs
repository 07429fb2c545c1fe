//! This file answers: who is cut off, and who hears of it?

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::connection::{ConnectionId, State};
use crate::decision::Reason;
use crate::engine::Engine;
use crate::flow::{close, due, report};
use crate::revocation::{Reach, RevocationFacts, RevocationRule};
use crate::rules::Rules;
use crate::time::{Now, WallTime};

/// What to revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revocation<'a> {
    /// One connection, now. Leaves no rule behind: its token may connect again.
    Connection(ConnectionId),
    /// One token, by its `jti`.
    Token {
        /// The issuer.
        issuer: &'a str,
        /// The token's id.
        token_id: &'a str,
    },
    /// One login session, by its `sid`.
    Session {
        /// The issuer.
        issuer: &'a str,
        /// The session's id.
        session_id: &'a str,
    },
    /// All of one subject's credentials issued at or before a time.
    Subject {
        /// The issuer.
        issuer: &'a str,
        /// The subject.
        subject: &'a str,
        /// In whole seconds since 1970; equal refuses. `None` means now.
        issued_before: Option<u64>,
    },
    /// All of one issuer's credentials issued at or before a time.
    Issuer {
        /// The issuer.
        issuer: &'a str,
        /// In whole seconds since 1970; equal refuses. `None` means now.
        issued_before: Option<u64>,
    },
    /// All tokens that one key signed.
    Key {
        /// The issuer.
        issuer: &'a str,
        /// The key's id.
        key_id: &'a str,
    },
}

/// Whether other nodes hear of a revocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagated {
    /// They do.
    Yes,
    /// They could not be reached.
    No,
    /// There is no bus: revocations hold in this process.
    Off,
}

/// What a revocation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Connections it closed in this process. No call that begins after this is decided on the old state.
    pub closed: usize,
    /// Whether other nodes hear of it.
    pub propagated: Propagated,
}

/// Publishes the rule, then walks the index (RULES 4).
pub(crate) fn revoke(engine: &Engine, rules: &Rules, what: Revocation<'_>, now: Now) -> Revoked {
    let rule = rule_of(what, subject_of(engine, what), now);
    let folded =
        rule.as_ref().is_some_and(|rule| engine.revocations.revoke(rule, reach(engine, rules, now), now).any());
    let mut closed = 0usize;
    for id in hit_by(engine, what) {
        let Some(slot) = engine.table.find(id) else { continue };
        let Some(mut guard) = slot.lock(id) else { continue };
        // The index names more than the rule kills: issue times are compared here.
        let hit = match (&rule, &guard.identity) {
            (None, _) => true,
            (Some(rule), Some(identity)) => rule.refuses(&RevocationFacts::from(&**identity)),
            (Some(_), None) => false,
        };
        if hit && close::close(engine, id, &mut guard, Reason::Revoked.into(), now) {
            closed = closed.saturating_add(1);
        }
    }
    if folded {
        closed = closed.saturating_add(close_folded(engine, now));
    }
    report::revoked(engine, name_of(what), closed, folded, now);
    Revoked { closed, propagated: Propagated::Off }
}

/// Whose the token or session is, where a connection shows it: a full table then folds the rule without hurting
/// anybody else.
fn subject_of(engine: &Engine, what: Revocation<'_>) -> Option<String> {
    let key = match what {
        Revocation::Token { issuer, token_id } => engine.hash.token(issuer, token_id),
        Revocation::Session { issuer, session_id } => engine.hash.session(issuer, session_id),
        _ => return None,
    };
    let id = engine.index.find(key).first().copied()?;
    engine.identity(id).map(|identity| identity.subject.to_string())
}

fn hit_by(engine: &Engine, what: Revocation<'_>) -> Vec<ConnectionId> {
    match what {
        Revocation::Connection(id) => vec![id],
        Revocation::Token { issuer, token_id } => engine.index.find(engine.hash.token(issuer, token_id)),
        Revocation::Session { issuer, session_id } => engine.index.find(engine.hash.session(issuer, session_id)),
        Revocation::Subject { issuer, subject, .. } => engine.index.find(engine.hash.subject(issuer, subject)),
        Revocation::Issuer { .. } | Revocation::Key { .. } => all(engine),
    }
}

/// The table folded rules: whatever they now kill beyond what was named is closed as well, so that the live and
/// the newcomers are judged alike.
fn close_folded(engine: &Engine, now: Now) -> usize {
    let mut closed = 0usize;
    for id in all(engine) {
        let Some(slot) = engine.table.find(id) else { continue };
        let Some(mut guard) = slot.lock(id) else { continue };
        let hit = guard
            .identity
            .as_ref()
            .is_some_and(|identity| engine.revocations.is_revoked(&RevocationFacts::from(&**identity), now));
        if hit && close::close(engine, id, &mut guard, Reason::Revoked.into(), now) {
            closed = closed.saturating_add(1);
        }
    }
    closed
}

/// A rule lives as long as what it kills.
pub(crate) fn reach(engine: &Engine, rules: &Rules, now: Now) -> Reach {
    let issuers = &rules.config.issuers;
    let longest = issuers.iter().map(|issuer| issuer.max_lifetime_ms).max().unwrap_or(0);
    let leeway = issuers.iter().map(|issuer| issuer.leeway_ms).max().unwrap_or(0);
    Reach {
        // No issuer bounds the life of a session, so the latest end ever admitted here counts as well.
        kills_until: now
            .wall
            .plus(longest.max(LEAST_LIFE_MS))
            .plus(leeway)
            .max(WallTime(engine.latest_expiry.load(Ordering::SeqCst))),
        issued_by: now.wall.plus(leeway).plus(999).as_secs(),
    }
}

/// Every connection, for the rare walks.
pub(crate) fn all(engine: &Engine) -> Vec<ConnectionId> {
    let mut ids = Vec::with_capacity(engine.table.len());
    engine.table.for_each(0..engine.table.extent(), |id, _| ids.push(id));
    ids
}

/// A key is gone from its issuer's set: connections it vouched for are asked for a new token, or closed (RULES 30).
pub(crate) fn key_removed(engine: &Engine, rules: &Rules, issuer: &str, key_ids: &[Arc<str>], now: Now) {
    for id in all(engine) {
        let Some(slot) = engine.table.find(id) else { continue };
        let Some(mut guard) = slot.lock(id) else { continue };
        let vouched = guard.identity.as_ref().is_some_and(|identity| {
            &*identity.issuer == issuer
                && identity.key_id.as_deref().is_some_and(|held| key_ids.iter().any(|gone| **gone == *held))
        });
        if !vouched || guard.state() != State::Live {
            continue;
        }
        if rules.config.refresh.close_on_key_removed {
            close::close(engine, id, &mut guard, Reason::Revoked.into(), now);
            continue;
        }
        guard.timetable.ask_now(now);
        due::ask_client(engine, &mut guard, now);
        due::file(engine, rules, &guard);
    }
}

/// A rule outlives whatever it kills, and at least this long, in milliseconds: sessions have no issuer entry.
const LEAST_LIFE_MS: u64 = 24 * 3_600_000;

fn rule_of(what: Revocation<'_>, subject: Option<String>, now: Now) -> Option<RevocationRule> {
    let cut = |issued_before: Option<u64>| issued_before.unwrap_or(now.wall.as_secs());
    match what {
        Revocation::Connection(_) => None,
        Revocation::Token { issuer, token_id } => {
            Some(RevocationRule::Token { issuer: issuer.into(), token_id: token_id.into(), subject })
        }
        Revocation::Session { issuer, session_id } => {
            Some(RevocationRule::Session { issuer: issuer.into(), session_id: session_id.into(), subject })
        }
        Revocation::Subject { issuer, subject, issued_before } => Some(RevocationRule::Subject {
            issuer: issuer.into(),
            subject: subject.into(),
            issued_before: cut(issued_before),
        }),
        Revocation::Issuer { issuer, issued_before } => {
            Some(RevocationRule::Issuer { issuer: issuer.into(), issued_before: cut(issued_before) })
        }
        Revocation::Key { issuer, key_id } => {
            Some(RevocationRule::Key { issuer: issuer.into(), key_id: key_id.into() })
        }
    }
}

const fn name_of(what: Revocation<'_>) -> &'static str {
    match what {
        Revocation::Connection(_) => "connection",
        Revocation::Token { .. } => "token",
        Revocation::Session { .. } => "session",
        Revocation::Subject { .. } => "subject",
        Revocation::Issuer { .. } => "issuer",
        Revocation::Key { .. } => "key",
    }
}
