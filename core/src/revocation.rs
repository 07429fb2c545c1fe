//! This file answers: which credentials were revoked?

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::identity::Identity;
use crate::limit::hash::{Fingerprint, Fingerprinter, Uniform};
use crate::time::WallTime;

/// Key rules kept one by one; beyond this they fold into their issuer.
const MAX_KEY_RULES: usize = 1_024;
/// Issuers with a cut-off; beyond this they fold into one cut-off for all.
const MAX_ISSUERS: usize = 256;
/// Over entries looked at per revocation, so that none is long.
const RECLAIM: usize = 16;
/// A cut-off that refuses whatever was issued whenever.
const ALWAYS: u64 = u64::MAX;

/// What is to be revoked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RevocationRule {
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
    epoch: AtomicU64,
    rules: RwLock<Rules>,
}

#[derive(Default)]
struct Rules {
    /// Token and session rules, by what they name.
    named: HashMap<Fingerprint, Named, Uniform>,
    subjects: HashMap<Fingerprint, SubjectCutOff, Uniform>,
    keys: HashMap<Fingerprint, KeyRule, Uniform>,
    issuers: HashMap<Fingerprint, CutOff, Uniform>,
    everything: Option<CutOff>,
    /// When an entry of the first two maps may be over.
    due: BinaryHeap<Reverse<(WallTime, Fingerprint)>>,
}

#[derive(Clone, Copy)]
struct CutOff {
    issued_before: u64,
    kills_until: WallTime,
}

struct Named {
    issuer: Fingerprint,
    subject: Option<Fingerprint>,
    /// What stands for it once folded.
    cut: CutOff,
}

struct SubjectCutOff {
    issuer: Fingerprint,
    cut: CutOff,
}

struct KeyRule {
    issuer: Fingerprint,
    kills_until: WallTime,
}

impl RevocationTable {
    /// An empty table, keyed with what no peer knows.
    pub(crate) fn new(hash_key: [u64; 2], max_rules: usize) -> RevocationTable {
        RevocationTable {
            hash: Fingerprinter::new(hash_key),
            max_rules,
            epoch: AtomicU64::new(0),
            rules: RwLock::new(Rules::default()),
        }
    }

    /// Puts a rule in force. When this returns, every [`is_revoked`](Self::is_revoked) that begins sees it, and
    /// the epoch has moved. The same rule again lives as long as the longer of the two.
    pub(crate) fn revoke(&self, rule: &RevocationRule, reach: Reach, now: WallTime) -> Folded {
        let cut = |issued_before| CutOff { issued_before, kills_until: reach.kills_until };
        let mut folded = Folded::default();
        let mut rules = self.rules.write();
        match rule {
            RevocationRule::Token { issuer, token_id, subject } => {
                let named = self.named(issuer, subject.as_deref(), cut(reach.issued_by));
                rules.insert_named(self.token(issuer, token_id), named);
            }
            RevocationRule::Session { issuer, session_id, subject } => {
                let named = self.named(issuer, subject.as_deref(), cut(ALWAYS));
                rules.insert_named(self.session(issuer, session_id), named);
            }
            RevocationRule::Subject { issuer, subject, issued_before } => {
                rules.cut_subject(self.subject(issuer, subject), self.issuer(issuer), cut(*issued_before));
            }
            RevocationRule::Issuer { issuer, issued_before } => {
                rules.cut_issuer(self.issuer(issuer), cut(*issued_before));
            }
            RevocationRule::Key { issuer, key_id } => {
                rules.insert_key(self.key(issuer, key_id), self.issuer(issuer), reach.kills_until);
            }
        }
        rules.remove_over(RECLAIM, now);
        rules.fold(self.max_rules, now, &mut folded);
        // After publication and before the lock is let go: whoever sees the new epoch sees the rule.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        folded
    }

    /// Whether any rule in force refuses these facts. At most six lookups under a shared lock; not for the
    /// message path.
    pub(crate) fn is_revoked(&self, facts: &RevocationFacts<'_>, now: WallTime) -> bool {
        let rules = self.rules.read();
        let alive = |until: WallTime| now < until;
        let cut = |cut: &CutOff| alive(cut.kills_until) && facts.issued_at.is_none_or(|at| at <= cut.issued_before);
        let issuer = facts.issuer;
        let named = |key: Option<Fingerprint>| {
            key.and_then(|key| rules.named.get(&key)).is_some_and(|named| alive(named.cut.kills_until))
        };
        (!rules.named.is_empty()
            && (named(facts.token_id.map(|id| self.token(issuer, id)))
                || named(facts.session_id.map(|id| self.session(issuer, id)))))
            || (!rules.subjects.is_empty()
                && rules.subjects.get(&self.subject(issuer, facts.subject)).is_some_and(|entry| cut(&entry.cut)))
            || (!rules.issuers.is_empty() && rules.issuers.get(&self.issuer(issuer)).is_some_and(cut))
            || rules.everything.as_ref().is_some_and(cut)
            || (!rules.keys.is_empty()
                && facts
                    .key_id
                    .and_then(|id| rules.keys.get(&self.key(issuer, id)))
                    .is_some_and(|key| alive(key.kills_until)))
    }

    /// Moves with every revocation. Whoever looked before it moved must look again before publishing (RULES 4).
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
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

impl CutOff {
    /// Refuses what either refuses, and possibly more.
    fn join(&mut self, other: CutOff) {
        self.issued_before = self.issued_before.max(other.issued_before);
        self.kills_until = self.kills_until.max(other.kills_until);
    }
}

impl Rules {
    fn len(&self) -> usize {
        self.named.len().saturating_add(self.subjects.len())
    }

    fn insert_named(&mut self, name: Fingerprint, new: Named) {
        let until = new.cut.kills_until;
        match self.named.get_mut(&name) {
            Some(old) => {
                old.cut.join(new.cut);
                old.subject = old.subject.or(new.subject);
            }
            None => {
                self.named.insert(name, new);
                self.due.push(Reverse((until, name)));
            }
        }
    }

    fn cut_subject(&mut self, subject: Fingerprint, issuer: Fingerprint, cut: CutOff) {
        match self.subjects.get_mut(&subject) {
            Some(old) => old.cut.join(cut),
            None => {
                self.subjects.insert(subject, SubjectCutOff { issuer, cut });
                self.due.push(Reverse((cut.kills_until, subject)));
            }
        }
    }

    fn cut_issuer(&mut self, issuer: Fingerprint, cut: CutOff) {
        self.issuers.entry(issuer).and_modify(|old| old.join(cut)).or_insert(cut);
    }

    fn insert_key(&mut self, key: Fingerprint, issuer: Fingerprint, kills_until: WallTime) {
        let rule = self.keys.entry(key).or_insert(KeyRule { issuer, kills_until });
        rule.kills_until = rule.kills_until.max(kills_until);
    }

    /// Removes at most `most` entries that are over.
    fn remove_over(&mut self, most: usize, now: WallTime) {
        for _ in 0..most {
            match self.due.peek() {
                Some(Reverse((until, _))) if *until <= now => {}
                _ => return,
            }
            let Some(Reverse((_, name))) = self.due.pop() else { return };
            let named = self.named.get(&name).map(|named| named.cut.kills_until);
            let until = named.or_else(|| self.subjects.get(&name).map(|entry| entry.cut.kills_until));
            match until {
                Some(until) if until > now => self.due.push(Reverse((until, name))),
                _ => {
                    self.named.remove(&name);
                    self.subjects.remove(&name);
                }
            }
        }
    }

    /// Brings every map back under its bound. Folding goes an eighth further than it must, so that its cost,
    /// one walk over the table, is spread over many revocations.
    fn fold(&mut self, max_rules: usize, now: WallTime, folded: &mut Folded) {
        if self.keys.len() > MAX_KEY_RULES {
            self.fold_keys(now, folded);
        }
        if self.len() > max_rules {
            self.remove_over(usize::MAX, now);
        }
        if self.len() > max_rules {
            let target = max_rules.saturating_sub(max_rules / 8);
            self.fold_into_subjects(target, folded);
            self.fold_into_issuers(target, folded);
            self.due.retain(|Reverse((_, name))| self.named.contains_key(name) || self.subjects.contains_key(name));
        }
        if self.issuers.len() > MAX_ISSUERS {
            self.issuers.retain(|_, cut| now < cut.kills_until);
        }
        if self.issuers.len() > MAX_ISSUERS {
            folded.into_all = folded.into_all.saturating_add(self.issuers.len());
            for (_, cut) in self.issuers.drain() {
                self.everything.get_or_insert(cut).join(cut);
            }
        }
        self.everything = self.everything.filter(|cut| now < cut.kills_until);
    }

    /// Folds the rules of the subjects that have the most, where that makes room.
    fn fold_into_subjects(&mut self, target: usize, folded: &mut Folded) {
        let mut by_subject: HashMap<Fingerprint, Vec<Fingerprint>, Uniform> = HashMap::default();
        for (name, named) in &self.named {
            if let Some(subject) = named.subject {
                by_subject.entry(subject).or_default().push(*name);
            }
        }
        let mut crowded: Vec<(Fingerprint, Vec<Fingerprint>)> = by_subject.into_iter().collect();
        crowded.retain(|(subject, names)| names.len() > 1 || self.subjects.contains_key(subject));
        crowded.sort_unstable_by_key(|(subject, names)| (Reverse(names.len()), *subject));
        for (subject, names) in crowded {
            if self.len() <= target {
                return;
            }
            for name in names {
                let Some(named) = self.named.remove(&name) else { continue };
                self.cut_subject(subject, named.issuer, named.cut);
                folded.into_subjects = folded.into_subjects.saturating_add(1);
            }
        }
    }

    /// Folds the rules with the earliest cut-off: that hurts only the oldest tokens.
    fn fold_into_issuers(&mut self, target: usize, folded: &mut Folded) {
        let named = self.named.iter().map(|(name, named)| (*name, named.issuer, named.cut));
        let subjects = self.subjects.iter().map(|(name, entry)| (*name, entry.issuer, entry.cut));
        let mut all: Vec<(Fingerprint, Fingerprint, CutOff)> = named.chain(subjects).collect();
        all.sort_unstable_by_key(|(name, _, cut)| (cut.issued_before, cut.kills_until, *name));
        let surplus = self.len().saturating_sub(target);
        for (name, issuer, cut) in all.into_iter().take(surplus) {
            self.named.remove(&name);
            self.subjects.remove(&name);
            self.cut_issuer(issuer, cut);
            folded.into_issuers = folded.into_issuers.saturating_add(1);
        }
    }

    fn fold_keys(&mut self, now: WallTime, folded: &mut Folded) {
        self.keys.retain(|_, key| now < key.kills_until);
        if self.keys.len() <= MAX_KEY_RULES {
            return;
        }
        folded.into_issuers = folded.into_issuers.saturating_add(self.keys.len());
        for (_, key) in std::mem::take(&mut self.keys) {
            self.cut_issuer(key.issuer, CutOff { issued_before: ALWAYS, kills_until: key.kills_until });
        }
    }
}
