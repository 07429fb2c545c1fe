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
use crate::time::{MonoTime, Now};
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
    wait: Duration,
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
        let cache = Cache::with(count, MAX_BYTES, Weight, Uniform, DefaultLifecycle::default());
        Verdicts { cache, wait: WAIT }
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

    /// Forgets a verdict that its source has taken back.
    pub(crate) fn forget(&self, key: Fingerprint) {
        self.cache.remove(&key);
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
        let entry = self.cache.entry(&key, Some(self.wait), |_, kept| match &kept.verdict {
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
            && self.has_current_key(rules, now)
    }

    fn has_current_key(&self, rules: &Rules, now: Now) -> bool {
        let Verdict::Good(identity) = &self.verdict else { return true };
        let Some(key_id) = &identity.key_id else { return true };
        let issuer = rules.issuer(&identity.issuer);
        issuer.is_some_and(|issuer| issuer.has_keys(now) && issuer.keys().has_current(key_id, now.wall))
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use serde_json::{Map, Value, json};

    use super::{Basis, MAX_BYTES, MAX_VERDICTS, Verdict, Verdicts, bytes_of};
    use crate::config::{Config, CredentialSource, NoSecretSource};
    use crate::decision::Reason;
    use crate::identity::Identity;
    use crate::limit::Fingerprint;
    use crate::names::Names;
    use crate::rules::Rules;
    use crate::secret::EngineSeed;
    use crate::time::{Now, WallTime};
    use crate::token::TokenVerdict;

    const ISSUER: &str = "https://id.example.com";
    const NOW: Now = Now::new(1_800_000_000_000, 50_000);
    const KEY: Fingerprint = Fingerprint::from_u128(7);
    const FOR_EVER: Duration = Duration::from_secs(600);

    fn rules_of(algorithm: &str, keys: &str, epoch: u32) -> Rules {
        let text = format!(
            r#"
            [[issuer]]
            issuer = "{ISSUER}"
            audience = ["a"]
            algorithms = ["{algorithm}"]
            keys = {keys}
            [handshake]
            credentials = ["authorization"]
            trusted_proxies = []
            [messages]
            "ping" = "public"
            "#
        );
        Rules::compile(Config::from_toml(&text, &NoSecretSource).unwrap(), epoch).unwrap()
    }

    /// An issuer whose keys of these ids were fetched.
    fn rules(key_ids: &[&str]) -> Rules {
        let rules = rules_of("EdDSA", "{ jwks_url = \"https://id.example.com/jwks\" }", 1);
        load(&rules, key_ids);
        rules
    }

    fn load(rules: &Rules, key_ids: &[&str]) {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let keys: Vec<_> =
            key_ids.iter().map(|id| json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": x})).collect();
        rules.issuer(ISSUER).unwrap().load_keys(json!({ "keys": keys }).to_string().as_bytes(), NOW).unwrap();
    }

    fn identity(subject: &str, key_id: &str, life_ms: u64) -> Identity {
        Identity {
            issuer: ISSUER.into(),
            subject: subject.into(),
            source: CredentialSource::Authorization,
            token_id: None,
            session_id: None,
            client_id: None,
            tenant: None,
            confirmation: None,
            key_id: Some(key_id.into()),
            issued_at: None,
            expiry: NOW.wall.plus(life_ms),
            permissions: Vec::new(),
            claims: Map::new(),
        }
    }

    fn good(subject: &str, life_ms: u64) -> Verdict {
        Verdict::Good(Arc::new(Identity { key_id: None, ..identity(subject, "", life_ms) }))
    }

    fn later(wall: u64, mono: u64) -> Now {
        Now::new(NOW.wall.0 + wall, NOW.mono.0 + mono)
    }

    /// Whose it is, and whether it had to be verified.
    fn verified(verdicts: &Verdicts, rules: &Rules, now: Now) -> (String, bool) {
        let mut asked = false;
        let found = verdicts.verified(KEY, rules, now, || {
            asked = true;
            Ok(identity("ann", "a", 600_000))
        });
        (found.unwrap().subject.to_string(), asked)
    }

    fn ask(verdicts: &Verdicts, rules: &Rules, now: Now) -> bool {
        verified(verdicts, rules, now).1
    }

    #[test]
    fn a_verified_token_is_not_verified_again_until_either_clock_ends_it() {
        let (verdicts, rules) = (Verdicts::new(), rules(&["a"]));
        assert!(ask(&verdicts, &rules, NOW));
        assert!(!ask(&verdicts, &rules, NOW));
        assert!(!ask(&verdicts, &rules, later(599_999, 599_999)));
        assert!(verdicts.find(KEY, &rules, later(600_000, 0)).is_none(), "the wall clock");
        assert!(verdicts.find(KEY, &rules, later(0, 600_000)).is_none(), "the clock that nobody sets back");
        let step_back = Now::new(NOW.wall.0 - 1_001, NOW.mono.0 + 1);
        assert!(verdicts.find(KEY, &rules, step_back).is_none(), "it may not be valid yet");
        let skewed = Now::new(NOW.wall.0 - 1_000, NOW.mono.0 + 1);
        assert!(verdicts.find(KEY, &rules, skewed).is_some(), "two threads read the clock");
    }

    #[test]
    fn any_change_of_keys_or_configuration_ends_every_verdict() {
        let (verdicts, rules) = (Verdicts::new(), rules(&["a", "b"]));
        assert!(ask(&verdicts, &rules, NOW));
        load(&rules, &["a", "b"]);
        assert!(!ask(&verdicts, &rules, NOW), "the same set again is no change");
        load(&rules, &["a", "c"]);
        assert!(ask(&verdicts, &rules, NOW));
        let reloaded = Rules { epoch: 2, ..rules };
        assert!(ask(&verdicts, &reloaded, NOW));
        assert!(!ask(&verdicts, &reloaded, NOW));
    }

    #[test]
    fn keys_that_change_while_a_token_is_verified_end_its_verdict() {
        let (verdicts, rules) = (Verdicts::new(), rules(&["a", "b"]));
        let raced = verdicts.verified(KEY, &rules, NOW, || {
            load(&rules, &["b"]);
            Ok(identity("ann", "a", 600_000))
        });
        assert!(raced.is_ok(), "who uses it looks at the key again");
        assert!(verdicts.find(KEY, &rules, NOW).is_none());
    }

    #[test]
    fn a_key_that_stops_at_its_hour_takes_its_verdicts_along() {
        let pem = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAfU0Of2FTpptiQrUiq77mhf2kQg+INLEIw72uNp71Sfo=\\n-----END PUBLIC KEY-----\\n";
        let end = NOW.wall.as_secs() + 60;
        let keys = format!("{{ public_keys = [{{ text = \"{pem}\", kid = \"a\", not_after = {end} }}] }}");
        let (verdicts, rules) = (Verdicts::new(), rules_of("EdDSA", &keys, 1));
        assert!(ask(&verdicts, &rules, NOW));
        assert!(!ask(&verdicts, &rules, later(59_999, 59_999)));
        assert!(verdicts.find(KEY, &rules, later(60_000, 60_000)).is_none());
    }

    #[test]
    fn keys_that_are_too_old_to_vouch_end_what_they_vouched_for() {
        let keys = "{ jwks_url = \"https://id.example.com/jwks\", refresh = \"30s\", max_stale = \"60s\" }";
        let (verdicts, rules) = (Verdicts::new(), rules_of("EdDSA", keys, 1));
        load(&rules, &["a"]);
        assert!(ask(&verdicts, &rules, NOW));
        assert!(!ask(&verdicts, &rules, later(59_999, 59_999)));
        assert!(verdicts.find(KEY, &rules, later(60_000, 60_000)).is_none());
    }

    #[test]
    fn tokens_under_a_shared_secret_are_not_kept() {
        let keys = "{ secrets = [{ text = \"a secret of thirty-two bytes....\", kid = \"a\" }] }";
        let (verdicts, rules) = (Verdicts::new(), rules_of("HS256", keys, 1));
        assert!(ask(&verdicts, &rules, NOW) && ask(&verdicts, &rules, NOW));
        assert_eq!(verdicts.cache.len(), 0);
    }

    #[test]
    fn a_word_of_a_source_holds_no_longer_than_it_may() {
        let (verdicts, rules) = (Verdicts::new(), rules(&["a"]));
        let basis = Basis::of(&rules);
        let holds = |now| verdicts.find(KEY, &rules, now).is_some();
        verdicts.keep(KEY, basis, good("ann", 600_000), 60_000, NOW);
        assert_eq!(verdicts.find(KEY, &rules, later(5, 5)).unwrap().1, NOW.mono);
        assert!(holds(later(59_999, 59_999)) && !holds(later(60_000, 0)) && !holds(later(0, 60_000)));
        verdicts.keep(KEY, basis, good("ann", 10_000), 60_000, NOW);
        assert!(holds(later(9_999, 9_999)) && !holds(later(10_000, 0)) && !holds(later(0, 10_000)));
        verdicts.keep(KEY, basis, Verdict::Inactive, 10_000, NOW);
        assert!(matches!(verdicts.find(KEY, &rules, NOW), Some((Verdict::Inactive, _))));
        assert!(holds(later(9_999, 9_999)) && !holds(later(10_000, 10_000)));
        let other = Fingerprint::from_u128(8);
        verdicts.keep(other, basis, Verdict::Inactive, 0, NOW);
        verdicts.keep(other, basis, good("ann", 0), 60_000, NOW);
        assert!(verdicts.find(other, &rules, NOW).is_none());
    }

    #[test]
    fn nobody_is_taken_for_another() {
        let (verdicts, rules) = (Verdicts::new(), rules(&["a"]));
        let names = Names::new(&EngineSeed::new([7; 32]));
        let (basis, tokens) = (Basis::of(&rules), 100_000);
        let key = |n: u32| names.credential("", format!("token {n}").as_bytes());
        let mut found = 0;
        for n in 0..tokens {
            verdicts.keep(key(n), basis, good(&n.to_string(), 600_000), 60_000, NOW);
            for seen in [n, n / 2, n / 3] {
                let Some((Verdict::Good(identity), _)) = verdicts.find(key(seen), &rules, NOW) else { continue };
                assert_eq!(*identity.subject, *seen.to_string());
                found += 1;
            }
            assert!(verdicts.find(key(n + tokens), &rules, NOW).is_none());
        }
        assert!(found > tokens, "it does keep: {found}");
    }

    fn large(bytes: usize) -> Verdict {
        let mut identity = Identity { key_id: None, ..identity("ann", "", 600_000) };
        identity.claims.insert("x".to_owned(), json!("x".repeat(bytes)));
        Verdict::Good(Arc::new(identity))
    }

    #[test]
    fn number_and_memory_are_bounded() {
        let (verdicts, rules) = (Verdicts::new(), rules(&["a"]));
        let basis = Basis::of(&rules);
        for n in 0..3 * MAX_VERDICTS {
            verdicts.keep(
                Fingerprint::from_u128(u128::from(n) << 32 | u128::from(n)),
                basis,
                Verdict::Inactive,
                9,
                NOW,
            );
        }
        assert!(verdicts.cache.len() as u64 <= MAX_VERDICTS, "{verdicts:?}");
        assert!(verdicts.cache.len() as u64 > MAX_VERDICTS / 2, "{verdicts:?}");
        for n in 0..2 * MAX_VERDICTS {
            let key = Fingerprint::from_u128(u128::from(n) << 32 | u128::from(n));
            verdicts.keep(key, basis, large(14_000), 60_000, NOW);
        }
        assert!(verdicts.cache.weight() <= MAX_BYTES + 65_536 && verdicts.cache.len() < 5_000, "{verdicts:?}");
        verdicts.keep(KEY, basis, large(16 * 1024), 60_000, NOW);
        assert!(verdicts.find(KEY, &rules, NOW).is_none(), "too large to keep");
    }

    /// Whoever sends garbage must not cost others what is kept of them.
    #[test]
    fn a_flood_of_tokens_seen_once_pushes_out_no_token_that_comes_again() {
        let (verdicts, rules) = (Verdicts::new(), rules(&["a"]));
        let names = Names::new(&EngineSeed::new([7; 32]));
        let (basis, key) = (Basis::of(&rules), |n: u32| names.credential("", &n.to_le_bytes()));
        let found = || (0..1_000).filter(|n| verdicts.find(key(*n), &rules, NOW).is_some()).count();
        for n in 0..1_000 {
            verdicts.keep(key(n), basis, good("ann", 600_000), 60_000, NOW);
        }
        assert_eq!((found(), found()), (1_000, 1_000));
        for n in 1_000..101_000 {
            verdicts.keep(key(n), basis, Verdict::Inactive, 60_000, NOW);
        }
        assert!(found() > 950, "{}", found());
    }

    #[test]
    fn what_nests_is_counted_as_the_memory_it_takes() {
        let bytes = |claims: Value| {
            let Value::Object(claims) = claims else { panic!() };
            bytes_of(&Identity { claims, ..identity("ann", "a", 1) })
        };
        let empty = bytes(json!({}));
        assert_eq!(bytes(json!({"abc": "defg"})) - empty, 128 + 3 + 32 + 4);
        assert!(bytes(json!({"x": vec![json!({"a": 1}); 500]})) > 500 * 640);
        assert!(bytes(json!({"x": vec![1; 1000]})) > 1000 * size_of::<Value>() as u64);
        let many = Identity { permissions: vec![Arc::from("p".repeat(1000)); 256], ..identity("ann", "a", 1) };
        assert!(bytes_of(&many) > 256_000);
    }

    #[test]
    fn of_many_callers_with_one_token_one_verifies() {
        let verdicts = Verdicts { wait: FOR_EVER, ..Verdicts::new() };
        let rules = rules(&["a"]);
        let (come, count) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    come.fetch_add(1, Ordering::SeqCst);
                    let found = verdicts.verified(KEY, &rules, NOW, || {
                        while come.load(Ordering::SeqCst) < 8 {
                            std::thread::yield_now();
                        }
                        count.fetch_add(1, Ordering::SeqCst);
                        Ok(identity("ann", "a", 600_000))
                    });
                    assert_eq!(&*found.unwrap().subject, "ann");
                });
            }
        });
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    /// X14, X15: nobody gets an answer that is not his own, and no failure is kept.
    #[test]
    fn where_one_fails_or_panics_the_next_does_it_himself() {
        let verdicts = Verdicts { wait: FOR_EVER, ..Verdicts::new() };
        let rules = rules(&["a"]);
        let (come, count) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..9)
                .map(|_| {
                    scope.spawn(|| {
                        come.fetch_add(1, Ordering::SeqCst);
                        let call = || {
                            verdicts.verified(KEY, &rules, NOW, || {
                                while come.load(Ordering::SeqCst) < 9 {
                                    std::thread::yield_now();
                                }
                                match count.fetch_add(1, Ordering::SeqCst) {
                                    0 | 3 => panic!("the first and the fourth to verify"),
                                    1 | 2 | 4 => Err(TokenVerdict::Refused(Reason::TokenNotYetValid)),
                                    _ => Ok(identity("ann", "a", 600_000)),
                                }
                            })
                        };
                        catch_unwind(AssertUnwindSafe(call)).map_err(|_| ())
                    })
                })
                .collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        let failed = |outcome: &Result<_, _>| matches!(outcome, Err(TokenVerdict::Refused(Reason::TokenNotYetValid)));
        let returned: Vec<_> = outcomes.iter().flatten().collect();
        assert_eq!(count.load(Ordering::SeqCst), 6, "then it is known");
        assert_eq!(outcomes.len() - returned.len(), 2, "panics");
        assert_eq!(returned.iter().filter(|outcome| failed(outcome)).count(), 3);
        assert_eq!(returned.iter().filter(|outcome| outcome.is_ok()).count(), 4);
    }

    #[test]
    fn who_has_waited_long_enough_does_it_himself() {
        let verdicts = Verdicts { wait: Duration::from_millis(1), ..Verdicts::new() };
        let rules = rules(&["a"]);
        let outer = verdicts.verified(KEY, &rules, NOW, || {
            // The place is taken as long as this runs.
            let inner = verdicts.verified(KEY, &rules, NOW, || Ok(identity("inner", "a", 600_000)));
            assert_eq!(&*inner.unwrap().subject, "inner");
            Ok(identity("outer", "a", 600_000))
        });
        assert_eq!(&*outer.unwrap().subject, "outer");
        assert_eq!(verified(&verdicts, &rules, NOW), ("outer".to_owned(), false));
    }

    #[test]
    fn a_token_valid_a_moment_later_is_taken_then() {
        let (verdicts, rules) = (Verdicts::new(), rules(&["a"]));
        let early = verdicts.verified(KEY, &rules, NOW, || Err(Reason::TokenNotYetValid.into()));
        assert!(early.is_err());
        assert!(verdicts.cache.is_empty());
        assert!(ask(&verdicts, &rules, later(1, 1)));
        assert_eq!(NOW.wall, WallTime(1_800_000_000_000));
    }
}
