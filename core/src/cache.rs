//! This file answers: was this credential judged a moment ago, and does that verdict still hold?
//!
//! A verdict stands under a keyed fingerprint of the whole credential and holds under the very circumstances in which
//! it was reached; whoever finds one still has to look it up among the revocations (RULES 33). Whoever has nothing to
//! keep - an error above all - keeps nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle, EntryAction, EntryResult};
use serde_json::{Map, Value};

use crate::identity::Identity;
use crate::limit::Fingerprint;
use crate::limit::hash::Uniform;
use crate::rules::Rules;
use crate::time::{MonoTime, Now, WallTime};
use crate::token::TokenVerdict;

/// Most verdicts (RULES 37).
const MAX_VERDICTS: u64 = 10_000;
/// Most bytes of all verdicts together.
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Most bytes of one; an identity that holds more is judged anew each time.
const MAX_VERDICT_BYTES: u64 = 16 * 1024;
/// How long one call waits for another that verifies the same token. A verification takes microseconds.
const WAIT: Duration = Duration::from_millis(100);
/// The wall clock of two threads may differ by this much, in milliseconds, without having been set back.
const SKEW_MS: u64 = 1_000;

/// What was found out about a credential.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// It is good, and this is who it is.
    Good(Arc<Identity>),
    /// Its source says that it is not active.
    Inactive,
}

/// Under which configuration and keys a verdict was reached. Taken before anything is judged, so that a change in
/// the middle is a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Basis {
    epoch: u32,
    keys: u64,
}

impl Basis {
    /// What holds now.
    pub(crate) fn of(rules: &Rules) -> Basis {
        Basis { epoch: rules.epoch, keys: rules.issuers.version() }
    }
}

/// A verdict and how long it holds.
#[derive(Clone, Debug)]
struct Kept {
    verdict: Verdict,
    basis: Basis,
    judged: Now,
    until: Now,
    bytes: u64,
}

/// The verdicts of one engine.
pub(crate) struct Verdicts {
    cache: Cache<Fingerprint, Kept, Weight, Uniform>,
}

/// At most as many as allowed, and at most as many bytes: each weighs its bytes, and at least its share.
#[derive(Clone, Copy, Debug)]
struct Weight;

impl Weighter<Fingerprint, Kept> for Weight {
    fn weight(&self, _: &Fingerprint, kept: &Kept) -> u64 {
        kept.bytes.max(MAX_BYTES.div_ceil(MAX_VERDICTS))
    }
}

impl Verdicts {
    /// None yet. Memory is taken as they come.
    pub(crate) fn new() -> Verdicts {
        let count = usize::try_from(MAX_VERDICTS).unwrap_or(usize::MAX);
        Verdicts { cache: Cache::with(count, MAX_BYTES, Weight, Uniform, DefaultLifecycle::default()) }
    }

    /// The verdict on a credential and when it was reached, while it holds.
    pub(crate) fn find(&self, key: Fingerprint, rules: &Rules, now: Now) -> Option<(Verdict, MonoTime)> {
        let kept = self.cache.get(&key)?;
        kept.holds(rules, Basis::of(rules), now).then_some((kept.verdict, kept.judged.mono))
    }

    /// Keeps a verdict for `for_ms` at most, and never beyond the end of the identity.
    pub(crate) fn keep(&self, key: Fingerprint, basis: Basis, verdict: Verdict, for_ms: u64, now: Now) {
        if let Some(kept) = Kept::new(basis, verdict, for_ms, now) {
            self.cache.insert(key, kept);
        }
    }

    /// The identity that a token proves: the one found before, or what `verify` finds. Of several callers with one
    /// token one verifies; when that comes to nothing, the next one does it itself. Nobody waits longer than
    /// a tenth of a second.
    pub(crate) fn verified(
        &self,
        key: Fingerprint,
        rules: &Rules,
        now: Now,
        verify: impl FnOnce() -> Result<Identity, TokenVerdict>,
    ) -> Result<Arc<Identity>, TokenVerdict> {
        if let Some((Verdict::Good(identity), _)) = self.find(key, rules, now) {
            return Ok(identity);
        }
        let basis = Basis::of(rules);
        let entry = self.cache.entry(&key, Some(WAIT), |_, kept| match &kept.verdict {
            Verdict::Good(identity) if kept.holds(rules, basis, now) => EntryAction::Retain(Arc::clone(identity)),
            _ => EntryAction::ReplaceWithGuard,
        });
        let place = match entry {
            EntryResult::Retained(identity) => return Ok(identity),
            EntryResult::Vacant(place) | EntryResult::Replaced(place, _) => Some(place),
            EntryResult::Timeout | EntryResult::Removed(..) => None,
        };
        let identity = Arc::new(verify()?);
        let public = rules.issuer(&identity.issuer).is_some_and(|issuer| issuer.config().has_public_keys());
        if let Some(place) = place
            && public
            && let Some(kept) = Kept::new(basis, Verdict::Good(Arc::clone(&identity)), u64::MAX, now)
        {
            // Refused where the place is no more: then the next one verifies.
            let _ = place.insert(kept);
        }
        Ok(identity)
    }
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Verdicts({})", self.cache.len())
    }
}

impl Kept {
    fn new(basis: Basis, verdict: Verdict, for_ms: u64, now: Now) -> Option<Kept> {
        let (for_ms, bytes) = match &verdict {
            Verdict::Good(identity) => (for_ms.min(identity.expiry.since(now.wall)), bytes_of(identity)),
            Verdict::Inactive => (for_ms, 0),
        };
        let until = Now { wall: now.wall.plus(for_ms), mono: now.mono.plus(for_ms) };
        (for_ms > 0 && bytes <= MAX_VERDICT_BYTES).then_some(Kept { verdict, basis, judged: now, until, bytes })
    }

    /// Nothing has changed, neither clock has reached the end, and the wall clock was not set back: what is not
    /// valid yet would be valid here.
    fn holds(&self, rules: &Rules, basis: Basis, now: Now) -> bool {
        self.basis == basis
            && now.wall < self.until.wall
            && now.mono < self.until.mono
            && now.wall.plus(SKEW_MS) >= self.judged.wall
            && self.has_current_key(rules, now.wall)
    }

    fn has_current_key(&self, rules: &Rules, wall: WallTime) -> bool {
        let Verdict::Good(identity) = &self.verdict else { return true };
        let Some(key_id) = &identity.key_id else { return true };
        rules.issuer(&identity.issuer).is_some_and(|issuer| issuer.keys().has_current(key_id, wall))
    }
}

/// What a shared text costs beside its bytes.
const TEXT: usize = 32;
/// What one value of an array costs, with the spare room of a vector.
const ELEMENT: usize = 2 * size_of::<Value>();
/// What an object costs before its second member: one node of its tree.
const NODE: usize = 640;
/// What a member costs where nodes are filled as little as may be.
const MEMBER: usize = 128;

/// About how much memory an identity holds, rather too much than too little.
fn bytes_of(identity: &Identity) -> u64 {
    let texts = [&identity.token_id, &identity.session_id, &identity.client_id, &identity.tenant];
    let texts = texts.into_iter().flatten().chain([&identity.issuer, &identity.subject]).chain(&identity.permissions);
    let sum = texts.fold(size_of::<Identity>(), |sum, text| sum.saturating_add(TEXT).saturating_add(text.len()));
    u64::try_from(sum.saturating_add(bytes_of_object(&identity.claims))).unwrap_or(u64::MAX)
}

fn bytes_of_object(members: &Map<String, Value>) -> usize {
    members.iter().fold(NODE, |sum, (name, value)| {
        sum.saturating_add(MEMBER).saturating_add(name.len()).saturating_add(bytes_of_value(value))
    })
}

/// The depth of claims is bounded where they are read, and by `serde_json` where a host hands them in.
fn bytes_of_value(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len().saturating_add(TEXT),
        Value::Array(list) => list
            .iter()
            .fold(0usize, |sum: usize, value| sum.saturating_add(ELEMENT).saturating_add(bytes_of_value(value))),
        Value::Object(members) => bytes_of_object(members),
    }
}
