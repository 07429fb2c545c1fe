//! This file answers: which rules are in force, and what stands for them when there are too many?

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::Folded;
use crate::limit::hash::{Fingerprint, Uniform, give_back};
use crate::time::{MonoTime, Now, WallTime};

/// Key rules kept one by one; beyond this they fold into their issuer.
pub(super) const MAX_KEY_RULES: usize = 1_024;
/// Issuers with a cut-off; beyond this they fold into one cut-off for all.
pub(super) const MAX_ISSUERS: usize = 256;
/// A cut-off that refuses whatever was issued whenever.
pub(super) const ALWAYS: u64 = u64::MAX;

#[derive(Default)]
pub(super) struct Rules {
    /// Token and session rules, by what they name.
    pub(super) named: HashMap<Fingerprint, Named, Uniform>,
    pub(super) subjects: HashMap<Fingerprint, SubjectCutOff, Uniform>,
    pub(super) keys: HashMap<Fingerprint, KeyRule, Uniform>,
    pub(super) issuers: HashMap<Fingerprint, CutOff, Uniform>,
    pub(super) everything: Option<CutOff>,
    /// When an entry of the first two maps may be over.
    pub(super) due: BinaryHeap<Reverse<(Until, Fingerprint)>>,
}

/// Until when a rule is in force. It is over only when both clocks say so: a wall clock that is stepped
/// forward and back forgets no revocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Until {
    pub(super) mono: MonoTime,
    pub(super) wall: WallTime,
}

/// A cut-off and a bar, each in force for a time of its own: folding a bar of minutes into a cut-off of hours
/// must not make a bar of hours.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CutOff {
    /// Refuses what was issued at or before this second,
    pub(super) issued_before: u64,
    /// until then.
    pub(super) until: Until,
    /// Refuses everything until then.
    pub(super) barred_until: Until,
}

pub(super) struct Named {
    pub(super) issuer: Fingerprint,
    pub(super) subject: Option<Fingerprint>,
    /// What stands for it once folded.
    pub(super) cut: CutOff,
}

pub(super) struct SubjectCutOff {
    pub(super) issuer: Fingerprint,
    pub(super) cut: CutOff,
}

pub(super) struct KeyRule {
    pub(super) issuer: Fingerprint,
    pub(super) until: Until,
}

impl Until {
    pub(super) fn new(wall: WallTime, now: Now) -> Until {
        Until { mono: now.mono.plus(wall.since(now.wall)), wall }
    }

    pub(super) fn join(self, other: Until) -> Until {
        Until { mono: self.mono.max(other.mono), wall: self.wall.max(other.wall) }
    }

    pub(super) fn is_over(self, now: Now) -> bool {
        now.wall >= self.wall && now.mono >= self.mono
    }
}

impl CutOff {
    pub(super) fn new(issued_before: u64, until: Until) -> CutOff {
        match issued_before {
            ALWAYS => CutOff { barred_until: until, ..CutOff::default() },
            _ => CutOff { issued_before, until, barred_until: Until::default() },
        }
    }

    pub(super) fn refuses(&self, issued_at: Option<u64>, now: Now) -> bool {
        let cut = !self.until.is_over(now) && issued_at.is_none_or(|at| at <= self.issued_before);
        cut || !self.barred_until.is_over(now)
    }

    pub(super) fn is_over(&self, now: Now) -> bool {
        self.until.is_over(now) && self.barred_until.is_over(now)
    }

    fn end(&self) -> Until {
        self.until.join(self.barred_until)
    }

    /// Refuses what either refuses, and possibly more.
    fn join(&mut self, other: CutOff, now: Now) {
        self.barred_until = self.barred_until.join(other.barred_until);
        if self.until.is_over(now) {
            (self.issued_before, self.until) = (other.issued_before, other.until);
        } else if !other.until.is_over(now) {
            self.issued_before = self.issued_before.max(other.issued_before);
            self.until = self.until.join(other.until);
        }
    }
}

impl Rules {
    pub(super) fn len(&self) -> usize {
        self.named.len().saturating_add(self.subjects.len())
    }

    pub(super) fn insert_named(&mut self, name: Fingerprint, new: Named, now: Now) {
        match self.named.get_mut(&name) {
            Some(old) => {
                old.cut.join(new.cut, now);
                // Said to be of two subjects: then only the issuer's cut-off can stand for it.
                if old.subject != new.subject {
                    old.subject = None;
                }
            }
            None => {
                self.due.push(Reverse((new.cut.end(), name)));
                self.named.insert(name, new);
            }
        }
    }

    pub(super) fn cut_subject(&mut self, subject: Fingerprint, issuer: Fingerprint, cut: CutOff, now: Now) {
        match self.subjects.get_mut(&subject) {
            Some(old) => old.cut.join(cut, now),
            None => {
                self.subjects.insert(subject, SubjectCutOff { issuer, cut });
                self.due.push(Reverse((cut.end(), subject)));
            }
        }
    }

    pub(super) fn cut_issuer(&mut self, issuer: Fingerprint, cut: CutOff, now: Now) {
        self.issuers.entry(issuer).and_modify(|old| old.join(cut, now)).or_insert(cut);
    }

    pub(super) fn cut_everything(&mut self, cut: CutOff, now: Now) {
        self.everything.get_or_insert(cut).join(cut, now);
    }

    /// Makes the queue of what may be over from the entries.
    pub(super) fn file_anew(&mut self) {
        let named = self.named.iter().map(|(name, named)| Reverse((named.cut.end(), *name)));
        self.due = named.chain(self.subjects.iter().map(|(name, entry)| Reverse((entry.cut.end(), *name)))).collect();
    }

    /// Removes at most `most` entries that are over.
    pub(super) fn remove_over(&mut self, most: usize, now: Now) {
        // Never more than there are, since some are filed again.
        for _ in 0..most.min(self.due.len()) {
            match self.due.peek() {
                Some(Reverse((until, _))) if until.mono <= now.mono => {}
                _ => return,
            }
            let Some(Reverse((_, name))) = self.due.pop() else { return };
            let named = self.named.get(&name).map(|named| named.cut);
            match named.or_else(|| self.subjects.get(&name).map(|entry| entry.cut)) {
                // Prolonged since, or the wall clock stands behind: looked at again, not before the next call.
                Some(cut) if !cut.is_over(now) => {
                    let mut until = cut.end();
                    until.mono = until.mono.max(now.mono.plus(1));
                    self.due.push(Reverse((until, name)));
                }
                _ => {
                    self.named.remove(&name);
                    self.subjects.remove(&name);
                    give_back(&mut self.named);
                    give_back(&mut self.subjects);
                }
            }
        }
    }

    /// Brings every map back under its bound. INVARIANT: what stands for a rule is there before the rule goes, so a
    /// panic in between forgets no revocation. Folding goes an eighth further than it must, so that its cost,
    /// one walk over the table, is spread over many revocations.
    pub(super) fn fold(&mut self, max_rules: usize, now: Now, folded: &mut Folded) {
        if self.keys.len() > MAX_KEY_RULES {
            self.fold_keys(now, folded);
        }
        if self.len() > max_rules {
            self.remove_over(usize::MAX, now);
        }
        if self.len() > max_rules {
            let target = max_rules.saturating_sub(max_rules / 8);
            self.fold_into_subjects(target, now, folded);
            self.fold_into_issuers(target, now, folded);
            self.due.retain(|Reverse((_, name))| self.named.contains_key(name) || self.subjects.contains_key(name));
        }
        if self.issuers.len() > MAX_ISSUERS {
            self.issuers.retain(|_, cut| !cut.is_over(now));
        }
        if self.issuers.len() > MAX_ISSUERS {
            folded.into_all = folded.into_all.saturating_add(self.issuers.len());
            let cuts: Vec<CutOff> = self.issuers.values().copied().collect();
            cuts.into_iter().for_each(|cut| self.cut_everything(cut, now));
            self.issuers.clear();
        }
        self.everything = self.everything.filter(|cut| !cut.is_over(now));
    }

    /// Folds the rules of the subjects that have the most, where that makes room.
    fn fold_into_subjects(&mut self, target: usize, now: Now, folded: &mut Folded) {
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
                let Some((issuer, cut)) = self.named.get(&name).map(|named| (named.issuer, named.cut)) else {
                    continue;
                };
                self.cut_subject(subject, issuer, cut, now);
                self.named.remove(&name);
                folded.into_subjects = folded.into_subjects.saturating_add(1);
            }
        }
    }

    /// Folds the rules with the earliest cut-off: that hurts only the oldest tokens.
    fn fold_into_issuers(&mut self, target: usize, now: Now, folded: &mut Folded) {
        let named = self.named.iter().map(|(name, named)| (*name, named.issuer, named.cut));
        let subjects = self.subjects.iter().map(|(name, entry)| (*name, entry.issuer, entry.cut));
        let mut all: Vec<(Fingerprint, Fingerprint, CutOff)> = named.chain(subjects).collect();
        all.sort_unstable_by_key(|(name, _, cut)| (cut.barred_until, cut.issued_before, cut.until, *name));
        let surplus = self.len().saturating_sub(target);
        for (name, issuer, cut) in all.into_iter().take(surplus) {
            self.cut_issuer(issuer, cut, now);
            self.named.remove(&name);
            self.subjects.remove(&name);
            folded.into_issuers = folded.into_issuers.saturating_add(1);
        }
    }

    fn fold_keys(&mut self, now: Now, folded: &mut Folded) {
        self.keys.retain(|_, key| !key.until.is_over(now));
        if self.keys.len() <= MAX_KEY_RULES {
            return;
        }
        folded.into_issuers = folded.into_issuers.saturating_add(self.keys.len());
        let keys: Vec<(Fingerprint, Until)> = self.keys.values().map(|key| (key.issuer, key.until)).collect();
        for (issuer, until) in keys {
            self.cut_issuer(issuer, CutOff::new(ALWAYS, until), now);
        }
        self.keys.clear();
    }
}
