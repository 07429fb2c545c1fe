//! This file answers: which credentials were revoked?

mod rules;

use self::rules::{ALWAYS, CutOff, KeyRule, Named, Rules, Until};
use crate::dirty::SharedLock;
use crate::identity::Identity;
use crate::limit::hash::{Fingerprint, Fingerprinter};
use crate::time::{Now, WallTime};

/// Over entries looked at per revocation, so that none is long.
const RECLAIM: usize = 16;

/// What is to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RevocationRule {
    /// One token.
    Token {
        /// Its issuer.
        issuer: String,
        /// Its `jti`.
        token_id: String,
        /// Its subject, where known: a full table then folds it without hurting anybody else.
        subject: Option<String>,
    },
    /// All credentials of one login session, also those issued into it later.
    Session {
        /// The issuer.
        issuer: String,
        /// The `sid`.
        session_id: String,
        /// Its subject, where known: a full table then folds it without hurting anybody else.
        subject: Option<String>,
    },
    /// All credentials of one subject issued at or before a second.
    Subject {
        /// The issuer.
        issuer: String,
        /// The `sub`.
        subject: String,
        /// Seconds since 1970; `u64::MAX` bars the subject altogether.
        issued_before: u64,
    },
    /// All credentials of one issuer issued at or before a second.
    Issuer {
        /// The issuer.
        issuer: String,
        /// Seconds since 1970; `u64::MAX` bars the issuer altogether.
        issued_before: u64,
    },
    /// Everything one key signed, whenever.
    Key {
        /// The issuer.
        issuer: String,
        /// The `kid`.
        key_id: String,
    },
}

/// The facts of one credential that a rule may name. Verified, never merely said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RevocationFacts<'a> {
    /// `iss`.
    pub(crate) issuer: &'a str,
    /// `sub`.
    pub(crate) subject: &'a str,
    /// `jti`.
    pub(crate) token_id: Option<&'a str>,
    /// `sid`.
    pub(crate) session_id: Option<&'a str>,
    /// `kid`.
    pub(crate) key_id: Option<&'a str>,
    /// Whole seconds since 1970.
    pub(crate) issued_at: Option<u64>,
}

impl<'a> From<&'a Identity> for RevocationFacts<'a> {
    fn from(identity: &'a Identity) -> RevocationFacts<'a> {
        RevocationFacts {
            issuer: &identity.issuer,
            subject: &identity.subject,
            token_id: identity.token_id.as_deref(),
            session_id: identity.session_id.as_deref(),
            key_id: identity.key_id.as_deref(),
            issued_at: identity.issued_at,
        }
    }
}

impl RevocationRule {
    /// Whether this rule, taken alone, refuses these facts. Seconds are compared whole, equal refuses; without
    /// a second of issue every cut-off refuses.
    pub(crate) fn refuses(&self, facts: &RevocationFacts<'_>) -> bool {
        let cut = |issued_before: &u64| facts.issued_at.is_none_or(|at| at <= *issued_before);
        match self {
            RevocationRule::Token { issuer, token_id, .. } => {
                issuer == facts.issuer && facts.token_id == Some(token_id.as_str())
            }
            RevocationRule::Session { issuer, session_id, .. } => {
                issuer == facts.issuer && facts.session_id == Some(session_id.as_str())
            }
            RevocationRule::Subject { issuer, subject, issued_before } => {
                issuer == facts.issuer && subject == facts.subject && cut(issued_before)
            }
            RevocationRule::Issuer { issuer, issued_before } => issuer == facts.issuer && cut(issued_before),
            RevocationRule::Key { issuer, key_id } => issuer == facts.issuer && facts.key_id == Some(key_id.as_str()),
        }
    }
}

/// How long a rule lives and what stands for it when the table is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Until when what it kills could live: now plus the issuer's longest lifetime, at least.
    pub(crate) kills_until: WallTime,
    /// The last second in which a token that it kills can have been issued: now plus the issuer's leeway,
    /// rounded up, where nothing better is known.
    pub(crate) issued_by: u64,
}

/// What had to be folded because the table was full. Each is an alarm: more is refused than was revoked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Folded {
    /// Token and session rules that became a cut-off of their subject.
    pub(crate) into_subjects: usize,
    /// Rules and cut-offs that became a cut-off of their issuer.
    pub(crate) into_issuers: usize,
    /// Cut-offs of issuers that became a cut-off of everything.
    pub(crate) into_all: usize,
}

impl Folded {
    /// Whether anything was folded.
    pub(crate) fn any(&self) -> bool {
        *self != Folded::default()
    }
}

/// All revocations in force. At most `max_rules` token, session and subject rules, about 100 bytes each.
///
/// When it is full, rules fold: first those of the subjects with the most, into one cut-off of that subject;
/// then the oldest cut-offs, into a cut-off of their issuer. A token rule folds into a cut-off at its last
/// possible second of issue. A session rule also refuses what is issued later, so it folds into one that bars
/// its subject, and a key rule, whose thief can write any second, into one that bars the issuer. More is
/// refused, never less; `max_rules` above the number of logouts within one token lifetime folds nothing.
pub(crate) struct RevocationTable {
    hash: Fingerprinter,
    max_rules: usize,
    rules: SharedLock<Rules>,
}

impl RevocationTable {
    /// An empty table, keyed with what no peer knows.
    pub(crate) fn new(hash_key: [u64; 2], max_rules: usize) -> RevocationTable {
        RevocationTable { hash: Fingerprinter::new(hash_key), max_rules, rules: SharedLock::new(Rules::default()) }
    }

    /// Puts a rule in force. When this returns, every [`is_revoked`](Self::is_revoked) that begins sees it.
    /// The same rule again lives as long as the longer of the two.
    pub(crate) fn revoke(&self, rule: &RevocationRule, reach: Reach, now: Now) -> Folded {
        let until = Until::new(reach.kills_until, now);
        let mut folded = Folded::default();
        let mut rules = self.rules.write();
        match rule {
            RevocationRule::Token { issuer, token_id, subject } => {
                let named = self.named(issuer, subject.as_deref(), CutOff::new(reach.issued_by, until));
                rules.insert_named(self.token(issuer, token_id), named, now);
            }
            RevocationRule::Session { issuer, session_id, subject } => {
                let named = self.named(issuer, subject.as_deref(), CutOff::new(ALWAYS, until));
                rules.insert_named(self.session(issuer, session_id), named, now);
            }
            RevocationRule::Subject { issuer, subject, issued_before } => {
                let cut = CutOff::new(*issued_before, until);
                rules.cut_subject(self.subject(issuer, subject), self.issuer(issuer), cut, now);
            }
            RevocationRule::Issuer { issuer, issued_before } => {
                rules.cut_issuer(self.issuer(issuer), CutOff::new(*issued_before, until), now);
            }
            RevocationRule::Key { issuer, key_id } => {
                let issuer_name = self.issuer(issuer);
                let rule = rules.keys.entry(self.key(issuer, key_id)).or_insert(KeyRule { issuer: issuer_name, until });
                rule.until = rule.until.join(until);
            }
        }
        rules.remove_over(RECLAIM, now);
        rules.fold(self.max_rules, now, &mut folded);
        folded
    }

    /// Whether any rule in force refuses these facts. At most six lookups under a shared lock; not for the
    /// message path.
    pub(crate) fn is_revoked(&self, facts: &RevocationFacts<'_>, now: Now) -> bool {
        let RevocationFacts { issuer, subject, issued_at, .. } = *facts;
        let rules = self.rules.read();
        let cut = |cut: &CutOff| cut.refuses(issued_at, now);
        let named = |name: Fingerprint| rules.named.get(&name).is_some_and(|named| !named.cut.is_over(now));
        // Most tables are empty most of the time: then nothing is hashed.
        (!rules.named.is_empty()
            && (facts.token_id.is_some_and(|id| named(self.token(issuer, id)))
                || facts.session_id.is_some_and(|id| named(self.session(issuer, id)))))
            || (!rules.subjects.is_empty()
                && rules.subjects.get(&self.subject(issuer, subject)).is_some_and(|entry| cut(&entry.cut)))
            || (!rules.issuers.is_empty() && rules.issuers.get(&self.issuer(issuer)).is_some_and(cut))
            || (!rules.keys.is_empty()
                && facts
                    .key_id
                    .is_some_and(|id| rules.keys.get(&self.key(issuer, id)).is_some_and(|key| !key.until.is_over(now))))
            || rules.everything.is_some_and(|all| cut(&all))
    }

    /// Where the table was left dirty: every rule in it stays - none leaves before what stands for it is there - and
    /// beside them everything issued so far is cut off, whoever else the call that died was to refuse. True if it was.
    pub(crate) fn rebuild(&self, reach: Reach, now: Now) -> bool {
        self.rules.repair(|rules| {
            rules.cut_everything(CutOff::new(reach.issued_by, Until::new(reach.kills_until, now)), now);
            rules.file_anew();
        })
    }

    /// Token, session and subject rules held at present, some of which may be over.
    pub(crate) fn len(&self) -> usize {
        self.rules.read().len()
    }

    fn named(&self, issuer: &str, subject: Option<&str>, cut: CutOff) -> Named {
        let subject = subject.map(|subject| self.subject(issuer, subject));
        Named { issuer: self.issuer(issuer), subject, cut }
    }

    fn token(&self, issuer: &str, id: &str) -> Fingerprint {
        self.hash.fingerprint(&[b"token", issuer.as_bytes(), id.as_bytes()])
    }

    fn session(&self, issuer: &str, id: &str) -> Fingerprint {
        self.hash.fingerprint(&[b"session", issuer.as_bytes(), id.as_bytes()])
    }

    fn subject(&self, issuer: &str, subject: &str) -> Fingerprint {
        self.hash.fingerprint(&[b"subject", issuer.as_bytes(), subject.as_bytes()])
    }

    fn key(&self, issuer: &str, id: &str) -> Fingerprint {
        self.hash.fingerprint(&[b"key", issuer.as_bytes(), id.as_bytes()])
    }

    fn issuer(&self, issuer: &str) -> Fingerprint {
        self.hash.fingerprint(&[b"issuer", issuer.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::rules::{ALWAYS, MAX_ISSUERS, MAX_KEY_RULES};
    use super::{Reach, RevocationFacts, RevocationRule, RevocationTable};
    use crate::time::{Now, WallTime};

    const T: u64 = 1_800_000_000;
    const HOUR: u64 = 3_600_000;

    fn at(ms: u64) -> Now {
        Now::new(T * 1000 + ms, 5_000 + ms)
    }

    fn table(max_rules: usize) -> RevocationTable {
        RevocationTable::new([1, 2], max_rules)
    }

    fn hours(hours: u64) -> Reach {
        Reach { kills_until: WallTime(T * 1000 + hours * HOUR), issued_by: T + 30 }
    }

    fn token(id: &str, subject: Option<&str>) -> RevocationRule {
        RevocationRule::Token { issuer: "iss".into(), token_id: id.into(), subject: subject.map(Into::into) }
    }

    fn session(id: &str, subject: Option<&str>) -> RevocationRule {
        RevocationRule::Session { issuer: "iss".into(), session_id: id.into(), subject: subject.map(Into::into) }
    }

    fn subject(name: &str, issued_before: u64) -> RevocationRule {
        RevocationRule::Subject { issuer: "iss".into(), subject: name.into(), issued_before }
    }

    fn key(id: &str) -> RevocationRule {
        RevocationRule::Key { issuer: "iss".into(), key_id: id.into() }
    }

    const FACTS: RevocationFacts<'_> = RevocationFacts {
        issuer: "iss",
        subject: "sam",
        token_id: Some("t1"),
        session_id: Some("s1"),
        key_id: Some("k1"),
        issued_at: Some(T),
    };

    fn revoked(rule: RevocationRule, facts: &RevocationFacts<'_>) -> bool {
        let table = table(10);
        assert!(!table.is_revoked(facts, at(0)));
        assert!(!table.revoke(&rule, hours(24), at(0)).any());
        let revoked = table.is_revoked(facts, at(0));
        assert_eq!(revoked, rule.refuses(facts), "a rule taken alone says the same");
        revoked
    }

    #[test]
    fn a_rebuild_keeps_every_rule_and_cuts_off_all_that_was_issued() {
        let table = table(10);
        table.revoke(&session("s1", None), hours(1), at(0));
        table.revoke(&subject("sam", T - 50), hours(1), at(0));
        let later = |at: u64| RevocationFacts { token_id: None, session_id: None, issued_at: Some(at), ..FACTS };
        assert!(!table.rebuild(hours(24), at(0)) && !table.is_revoked(&later(T), at(0)));
        table.rules.spoil(|rules| rules.due.clear());
        assert!(table.rebuild(hours(24), at(0)) && !table.rebuild(hours(24), at(0)));
        assert!(table.is_revoked(&later(T + 30), at(0)), "issued before, as far as clocks go");
        assert!(!table.is_revoked(&later(T + 31), at(0)), "a new login gets in");
        let again = RevocationFacts { issued_at: Some(T + 100), ..FACTS };
        assert!(table.is_revoked(&again, at(0)), "the session stays revoked");
        assert!(!table.is_revoked(&again, at(HOUR)), "as long as it was to");
        assert!(table.is_revoked(&later(T), at(24 * HOUR - 1)) && !table.is_revoked(&later(T), at(24 * HOUR)));
        table.revoke(&token("t9", None), hours(25), at(24 * HOUR));
        assert_eq!(table.len(), 1, "what was filed again is forgotten when its time is over");
    }

    #[test]
    fn each_rule_refuses_what_it_names_and_nothing_else() {
        let other = RevocationFacts { issuer: "other", ..FACTS };
        for rule in [token("t1", None), session("s1", None), subject("sam", T), key("k1")] {
            assert!(revoked(rule.clone(), &FACTS), "{rule:?}");
            assert!(!revoked(rule.clone(), &other), "{rule:?}");
        }
        for rule in [token("s1", None), session("t1", None), subject("sa", T), key("sam"), token("", None)] {
            assert!(!revoked(rule.clone(), &FACTS), "{rule:?}");
        }
        let bare = RevocationFacts { token_id: None, session_id: None, key_id: None, ..FACTS };
        for rule in [token("t1", Some("sam")), session("s1", Some("sam")), key("k1")] {
            assert!(!revoked(rule.clone(), &bare), "{rule:?}");
        }
        assert!(revoked(RevocationRule::Issuer { issuer: "iss".into(), issued_before: T }, &bare));
    }

    #[test]
    fn cut_offs_compare_whole_seconds_equal_refuses_and_no_second_refuses() {
        let issued = |issued_at| RevocationFacts { issued_at, ..FACTS };
        assert!(revoked(subject("sam", T), &issued(Some(T - 1))));
        assert!(revoked(subject("sam", T), &issued(Some(T))));
        assert!(!revoked(subject("sam", T), &issued(Some(T + 1))));
        assert!(revoked(subject("sam", T), &issued(None)));
        assert!(!revoked(subject("eve", T), &issued(None)));
        assert!(revoked(subject("sam", u64::MAX), &issued(Some(u64::MAX))));
    }

    #[test]
    fn a_rule_lives_as_long_as_what_it_kills_and_the_longer_wins() {
        let table = table(10);
        table.revoke(&token("t1", None), hours(2), at(0));
        table.revoke(&token("t1", None), hours(1), at(0));
        assert!(table.is_revoked(&FACTS, at(2 * HOUR - 1)));
        assert!(!table.is_revoked(&FACTS, at(2 * HOUR)));
        table.revoke(&token("t2", None), hours(9), at(3 * HOUR));
        assert_eq!(table.len(), 1, "what is over is removed");
    }

    #[test]
    fn a_stepped_wall_clock_forgets_nothing() {
        let table = table(10);
        table.revoke(&token("t1", None), hours(2), at(0));
        table.revoke(&token("t2", None), hours(2), at(0));
        let stepped = Now { wall: at(50 * HOUR).wall, mono: at(1).mono };
        assert!(table.is_revoked(&FACTS, stepped));
        table.revoke(&token("t3", None), hours(99), stepped);
        assert!(table.is_revoked(&FACTS, at(2)));
        let behind = Now { wall: at(1).wall, mono: at(50 * HOUR).mono };
        table.revoke(&token("t4", None), hours(99), behind);
        assert!(table.is_revoked(&FACTS, behind));
    }

    #[test]
    fn a_clock_at_its_end_ends_no_call_late() {
        let table = table(1);
        let end = Now::new(0, u64::MAX);
        for id in ["t1", "t2", "t3"] {
            table.revoke(&token(id, Some("sam")), hours(1), end);
        }
        assert!(table.is_revoked(&FACTS, end));
    }

    #[test]
    fn a_full_table_folds_the_one_who_filled_it_and_spares_the_others() {
        let table = table(8);
        table.revoke(&session("sam-1", Some("sam")), hours(24), at(0));
        let mut folded = 0;
        for n in 0..100 {
            let done = table.revoke(&session(&format!("eve-{n}"), Some("eve")), hours(24), at(n));
            assert_eq!((done.into_issuers, done.into_all), (0, 0));
            folded += done.into_subjects;
        }
        assert!(folded > 90 && table.len() <= 8);
        let issued_at = Some(T + 3_600);
        let eve = RevocationFacts { subject: "eve", session_id: Some("eve-0"), issued_at, ..FACTS };
        assert!(table.is_revoked(&eve, at(HOUR)), "what was issued into the session later stays refused");
        let sam = RevocationFacts { session_id: Some("sam-2"), ..FACTS };
        assert!(!table.is_revoked(&sam, at(HOUR)));
        assert!(table.is_revoked(&RevocationFacts { session_id: Some("sam-1"), ..FACTS }, at(HOUR)));
    }

    #[test]
    fn tokens_of_many_subjects_fold_into_a_cut_off_that_spares_new_tokens() {
        let table = table(8);
        let mut folded = 0;
        for n in 0..100u64 {
            let reach = Reach { issued_by: T + n, ..hours(24) };
            folded += table.revoke(&token(&format!("t{n}"), Some(&format!("u{n}"))), reach, at(0)).into_issuers;
        }
        assert!(folded >= 92 && table.len() <= 8);
        for n in 0..100 {
            let (id, name) = (format!("t{n}"), format!("u{n}"));
            let facts = RevocationFacts { token_id: Some(&id), subject: &name, issued_at: Some(T + n), ..FACTS };
            assert!(table.is_revoked(&facts, at(0)), "{n}");
        }
        let fresh = RevocationFacts { token_id: Some("new"), issued_at: Some(T + 100), ..FACTS };
        assert!(!table.is_revoked(&fresh, at(0)));
        assert!(!table.is_revoked(&FACTS, at(24 * HOUR)));
    }

    #[test]
    fn a_token_said_to_be_of_two_subjects_folds_into_its_issuer() {
        for pair in [[Some("eve"), Some("sam")], [None, Some("eve")], [Some("eve"), None]] {
            let table = table(1);
            for of in pair {
                table.revoke(&token("t1", of), hours(1), at(0));
            }
            table.revoke(&subject("eve", 0), hours(1), at(0));
            table.revoke(&subject("joe", 0), hours(1), at(0));
            assert!(table.is_revoked(&FACTS, at(0)), "{pair:?}");
        }
    }

    #[test]
    fn session_rules_are_the_last_to_fold_since_they_bar_everybody() {
        let table = table(16);
        for n in 0..4 {
            table.revoke(&session(&format!("s-{n}"), Some(&format!("v{n}"))), hours(1), at(0));
        }
        for n in 0..200 {
            table.revoke(&token(&format!("t-{n}"), Some(&format!("u{n}"))), hours(24), at(0));
        }
        assert!(!table.is_revoked(&RevocationFacts { issued_at: Some(T + 31), ..FACTS }, at(0)));
        assert!(
            table.is_revoked(&RevocationFacts { session_id: Some("s-0"), issued_at: Some(T + 31), ..FACTS }, at(0))
        );
    }

    #[test]
    fn a_bar_is_not_prolonged_by_later_cut_offs() {
        let table = table(0);
        assert!(table.revoke(&session("s9", None), hours(1), at(0)).into_issuers == 1);
        let later = RevocationFacts { issued_at: Some(T + 31), session_id: None, ..FACTS };
        assert!(table.is_revoked(&later, at(0)));
        table.revoke(&token("t9", None), hours(9), at(0));
        assert!(!table.is_revoked(&later, at(HOUR)));
        assert!(table.is_revoked(&FACTS, at(HOUR)));
    }

    #[test]
    fn keys_and_issuers_are_bounded_too() {
        let table = table(10);
        for n in 0..=MAX_KEY_RULES {
            table.revoke(&key(&format!("k{n}")), hours(1), at(0));
        }
        let forged = RevocationFacts { issued_at: Some(ALWAYS), ..FACTS };
        assert!(table.is_revoked(&forged, at(0)));
        assert!(table.rules.read().keys.is_empty());
        for n in 0..=MAX_ISSUERS {
            table.revoke(&RevocationRule::Issuer { issuer: n.to_string(), issued_before: T }, hours(1), at(0));
        }
        assert!(table.rules.read().issuers.len() <= MAX_ISSUERS);
        assert!(table.is_revoked(&RevocationFacts { issuer: "7", ..FACTS }, at(0)));
    }

    #[test]
    fn what_waits_to_be_removed_is_bounded_by_what_is_held() {
        let table = table(50);
        for n in 0..2_000 {
            table.revoke(&token(&n.to_string(), Some(&(n % 70).to_string())), hours(24), at(n));
            let rules = table.rules.read();
            assert!(rules.len() <= 50 && rules.due.len() <= 2 * 50 + 2, "{} {}", rules.len(), rules.due.len());
        }
    }

    fn any_rule() -> impl Strategy<Value = RevocationRule> {
        let name = || "[a-c]";
        let subject = || proptest::option::of("[a-c]");
        let second = || prop_oneof![9 => T - 3..T + 3, 1 => Just(ALWAYS)];
        prop_oneof![
            (name(), name(), subject()).prop_map(|(issuer, token_id, subject)| RevocationRule::Token {
                issuer,
                token_id,
                subject
            }),
            (name(), name(), subject()).prop_map(|(issuer, session_id, subject)| RevocationRule::Session {
                issuer,
                session_id,
                subject
            }),
            (name(), name(), second()).prop_map(|(issuer, subject, issued_before)| RevocationRule::Subject {
                issuer,
                subject,
                issued_before
            }),
            (name(), second()).prop_map(|(issuer, issued_before)| RevocationRule::Issuer { issuer, issued_before }),
            (name(), name()).prop_map(|(issuer, key_id)| RevocationRule::Key { issuer, key_id }),
        ]
    }

    type Facts = (String, String, Option<String>, Option<String>, Option<String>, Option<u64>);

    fn any_facts() -> impl Strategy<Value = Facts> {
        let id = || proptest::option::of("[a-c]");
        ("[a-c]", "[a-c]", id(), id(), id(), proptest::option::of(T - 3..T + 4))
    }

    proptest! {
        /// Whatever a rule in force refuses by itself, the table refuses, however small it is. Where a rule says
        /// whose the token is, its facts must agree, and a token is issued when the revoker says, at the latest.
        #[test]
        fn never_a_miss(
            rules in proptest::collection::vec((any_rule(), 1u64..20, 0u64..4), 0..40),
            facts in proptest::collection::vec(any_facts(), 1..20),
            max_rules in 0usize..12,
        ) {
            let table = table(max_rules);
            let mut in_force = Vec::new();
            let mut now = at(0);
            for (rule, life, pause) in &rules {
                now = Now::new(now.wall.0 + pause, now.mono.0 + pause);
                let reach = Reach { kills_until: now.wall.plus(*life), issued_by: T };
                table.revoke(rule, reach, now);
                in_force.push((rule, reach));
                prop_assert!(table.len() <= max_rules);
                for (issuer, subject, token_id, session_id, key_id, issued_at) in &facts {
                    let facts = RevocationFacts {
                        issuer,
                        subject,
                        token_id: token_id.as_deref(),
                        session_id: session_id.as_deref(),
                        key_id: key_id.as_deref(),
                        issued_at: *issued_at,
                    };
                    let hit = in_force.iter().any(|(rule, reach)| {
                        let fits = match rule {
                            RevocationRule::Token { subject: of, .. } =>
                                issued_at.is_none_or(|at| at <= reach.issued_by)
                                    && of.as_deref().is_none_or(|of| of == facts.subject),
                            RevocationRule::Session { subject: of, .. } =>
                                of.as_deref().is_none_or(|of| of == facts.subject),
                            _ => true,
                        };
                        fits && now.wall < reach.kills_until && rule.refuses(&facts)
                    });
                    prop_assert!(!hit || table.is_revoked(&facts, now), "{:?}", facts);
                }
            }
        }

        /// With room, nothing more is refused than was revoked.
        #[test]
        fn with_room_it_is_exact(
            rules in proptest::collection::vec(any_rule(), 0..30),
            facts in any_facts(),
        ) {
            let table = table(100);
            for rule in &rules {
                prop_assert!(!table.revoke(rule, hours(1), at(0)).any());
            }
            let (issuer, subject, token_id, session_id, key_id, issued_at) = &facts;
            let facts = RevocationFacts {
                issuer,
                subject,
                token_id: token_id.as_deref(),
                session_id: session_id.as_deref(),
                key_id: key_id.as_deref(),
                issued_at: *issued_at,
            };
            prop_assert_eq!(table.is_revoked(&facts, at(0)), rules.iter().any(|rule| rule.refuses(&facts)));
        }
    }
}
