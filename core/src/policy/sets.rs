//! This file answers: may a connection that names this set of permissions use this type?

use std::collections::{BTreeMap, VecDeque};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::dirty::Lock;
use crate::policy::compile::{Bitmap, TypeId};

/// Sets in one chunk: 32 KiB of bitmaps, made when the first of them is needed and never moved.
const CHUNK: usize = 256;

/// Bitmaps of permitted types, each stored once for all connections that hold it, under a small number.
///
/// Reading takes no lock: a bitmap lies in atomics, in chunks that are only ever added. Writing is under one lock, once
/// for each handshake, refresh and recompiled grant.
///
/// A number is handed out again once nobody holds it. A reader may have loaded the number from its connection's record
/// just before the record gave it up, and then read the bit of the next owner. It is protected by the record's version
/// word and not here: whoever gives a number up changes that word *before* calling `release`, the next owner's bits are
/// stored after that (`Release`) and read with `Acquire`, so a reader that saw such a bit also sees the changed word
/// when it looks again, as it must before it uses an answer (RULES 5).
#[derive(Debug)]
pub(crate) struct PermissionSets {
    chunks: Box<[OnceLock<Box<[Bits]>>]>,
    book: Lock<Book>,
    capacity: usize,
}

/// What a number without holders permits.
const NOTHING: Bitmap = Bitmap([0; 16]);

#[derive(Debug, Default)]
struct Bits([AtomicU64; 16]);

/// Who holds what. INVARIANT: `known` names exactly the entries with holders, `free` exactly those without.
#[derive(Debug, Default)]
struct Book {
    known: BTreeMap<(u32, Bitmap), u32>,
    entries: Vec<Entry>,
    free: VecDeque<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: (u32, Bitmap),
    holders: u32,
}

impl PermissionSets {
    /// Room for `capacity` different sets; as many as there can be connections is always enough. Memory is taken as
    /// sets appear, about 300 bytes each.
    pub(crate) fn new(capacity: usize) -> PermissionSets {
        let capacity = capacity.min(usize::try_from(u32::MAX).unwrap_or(usize::MAX));
        let chunks = (0..capacity.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect();
        PermissionSets { chunks, book: Lock::default(), capacity }
    }

    /// The number of this bitmap under this policy epoch, held once more until [`release`](Self::release).
    /// `None` when the table is full.
    pub(crate) fn intern(&self, epoch: u32, bitmap: &Bitmap) -> Option<u32> {
        let key = (epoch, *bitmap);
        let mut book = self.book.lock();
        let book = &mut *book;
        if let Some(id) = book.known.get(&key) {
            let entry = book.entries.get_mut(usize::try_from(*id).ok()?)?;
            entry.holders = entry.holders.checked_add(1)?;
            return Some(*id);
        }
        let entry = Entry { key, holders: 1 };
        let id = match book.free.pop_front() {
            Some(id) => {
                *book.entries.get_mut(usize::try_from(id).ok()?)? = entry;
                id
            }
            None if book.entries.len() < self.capacity => {
                let id = u32::try_from(book.entries.len()).ok()?;
                book.entries.push(entry);
                id
            }
            None => return None,
        };
        book.known.insert(key, id);
        self.store(id, bitmap);
        Some(id)
    }

    /// Gives one hold up. The record that named the set must no longer do so. A number that nobody holds is ignored.
    pub(crate) fn release(&self, set_id: u32) {
        let mut book = self.book.lock();
        let Some(entry) = usize::try_from(set_id).ok().and_then(|at| book.entries.get_mut(at)) else { return };
        let Some(left) = entry.holders.checked_sub(1) else { return };
        entry.holders = left;
        if left == 0 {
            let key = entry.key;
            book.known.remove(&key);
            book.free.push_back(set_id);
            // Nobody should look any more; who does is told no.
            self.store(set_id, &NOTHING);
        }
    }

    /// Whether the set permits the type. False for a number that was never handed out.
    ///
    /// The answer holds only if the connection's version word is found unchanged afterwards.
    ///
    /// # Cost
    ///
    /// Two dependent loads. No lock, no allocation.
    pub(crate) fn allows(&self, set_id: u32, type_id: TypeId) -> bool {
        let word = self.find(set_id).and_then(|bits| bits.0.get(type_id.word()));
        word.is_some_and(|word| word.load(Ordering::Acquire) & type_id.bit() != 0)
    }

    /// Makes what was left dirty again from the holders of each number: the other two and the bitmaps follow from
    /// them. A hold that nobody knows of stays, so that no number is handed out that a record names. True if it was.
    pub(crate) fn rebuild(&self) -> bool {
        self.book.repair(|book| {
            book.known.clear();
            book.free.clear();
            for (id, entry) in (0u32..).zip(&book.entries) {
                let held = entry.holders > 0;
                self.store(id, if held { &entry.key.1 } else { &NOTHING });
                if held {
                    book.known.insert(entry.key, id);
                } else {
                    book.free.push_back(id);
                }
            }
        })
    }

    /// How many different sets are held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.book.lock().known.len()
    }

    fn find(&self, set_id: u32) -> Option<&Bits> {
        let at = usize::try_from(set_id).ok()?;
        self.chunks.get(at / CHUNK)?.get()?.get(at % CHUNK)
    }

    fn store(&self, set_id: u32, bitmap: &Bitmap) {
        let Ok(at) = usize::try_from(set_id) else { return };
        let Some(chunk) = self.chunks.get(at / CHUNK) else { return };
        let chunk = chunk.get_or_init(|| (0..CHUNK).map(|_| Bits::default()).collect());
        let Some(bits) = chunk.get(at % CHUNK) else { return };
        for (word, value) in bits.0.iter().zip(bitmap.0) {
            word.store(value, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::AtomicBool;

    use proptest::prelude::*;

    use super::*;

    fn bitmap(types: &[u16]) -> Bitmap {
        let mut bitmap = Bitmap::default();
        types.iter().for_each(|id| bitmap.insert(TypeId(*id)));
        bitmap
    }

    #[test]
    fn a_set_answers_for_its_types_and_no_others() {
        let sets = PermissionSets::new(10);
        let id = sets.intern(1, &bitmap(&[0, 63, 64, 1_023])).unwrap();
        for type_id in 0..=u16::MAX {
            assert_eq!(sets.allows(id, TypeId(type_id)), [0, 63, 64, 1_023].contains(&type_id), "{type_id}");
        }
    }

    #[test]
    fn numbers_never_handed_out_allow_nothing() {
        let sets = PermissionSets::new(300);
        assert!(!sets.allows(0, TypeId(0)));
        let id = sets.intern(1, &bitmap(&[0])).unwrap();
        for other in [id + 1, 255, 256, 299, 300, 511, 512, u32::MAX] {
            assert!(!sets.allows(other, TypeId(0)), "{other}");
            sets.release(other);
        }
        assert!(sets.allows(id, TypeId(0)));
    }

    #[test]
    fn equal_bitmaps_of_one_epoch_share_a_number() {
        let sets = PermissionSets::new(10);
        let first = sets.intern(1, &bitmap(&[1])).unwrap();
        assert_eq!(sets.intern(1, &bitmap(&[1])), Some(first));
        assert_ne!(sets.intern(2, &bitmap(&[1])), Some(first), "types mean other things in another epoch");
        assert_ne!(sets.intern(1, &bitmap(&[2])), Some(first));
        assert_eq!(sets.len(), 3);
    }

    #[test]
    fn a_number_is_recycled_only_when_nobody_holds_it() {
        let sets = PermissionSets::new(1);
        let id = sets.intern(1, &bitmap(&[1])).unwrap();
        assert_eq!(sets.intern(1, &bitmap(&[1])), Some(id));
        assert_eq!(sets.intern(1, &bitmap(&[2])), None, "full");
        sets.release(id);
        assert!(sets.allows(id, TypeId(1)), "still held once");
        assert_eq!(sets.intern(1, &bitmap(&[2])), None, "still full");
        sets.release(id);
        assert!(!sets.allows(id, TypeId(1)), "nobody's set allows nothing");
        sets.release(id);
        assert_eq!(sets.intern(1, &bitmap(&[2])), Some(id));
        assert!(sets.allows(id, TypeId(2)) && !sets.allows(id, TypeId(1)), "nothing of the old owner is left");
        assert_eq!(sets.len(), 1);
    }

    #[test]
    fn a_rebuild_follows_the_holders_and_recycles_nothing_that_is_held() {
        let sets = PermissionSets::new(3);
        let held = sets.intern(1, &bitmap(&[1])).unwrap();
        let free = sets.intern(1, &bitmap(&[2])).unwrap();
        sets.release(free);
        assert!(!sets.rebuild());
        sets.book.spoil(|book| {
            book.known.clear();
            book.free = [held, held].into();
        });
        // Half written: what the number permitted before is not what it permits now.
        sets.store(held, &bitmap(&[9]));
        sets.store(free, &bitmap(&[9]));
        assert!(sets.rebuild() && !sets.rebuild());
        assert!(sets.allows(held, TypeId(1)) && !sets.allows(held, TypeId(9)) && !sets.allows(free, TypeId(9)));
        assert_eq!((sets.intern(1, &bitmap(&[1])), sets.intern(1, &bitmap(&[3]))), (Some(held), Some(free)));
        assert!(sets.allows(held, TypeId(1)) && sets.allows(free, TypeId(3)));
    }

    #[test]
    fn numbers_are_recycled_oldest_first() {
        let sets = PermissionSets::new(3);
        let ids: Vec<u32> = (0..3).map(|id| sets.intern(1, &bitmap(&[id])).unwrap()).collect();
        for id in [ids[1], ids[2], ids[0]] {
            sets.release(id);
        }
        let again: Vec<u32> = (5..8).map(|id| sets.intern(1, &bitmap(&[id])).unwrap()).collect();
        assert_eq!(again, [ids[1], ids[2], ids[0]]);
    }

    #[test]
    fn more_sets_than_one_chunk() {
        let sets = PermissionSets::new(600);
        let ids: Vec<u32> = (0..600).map(|id| sets.intern(1, &bitmap(&[id])).unwrap()).collect();
        assert_eq!(sets.intern(1, &bitmap(&[700])), None);
        for (type_id, id) in (0..600).zip(ids) {
            assert!(sets.allows(id, TypeId(type_id)) && !sets.allows(id, TypeId((type_id + 1) % 600)));
        }
        assert_eq!(PermissionSets::new(0).intern(1, &bitmap(&[])), None);
    }

    /// A reader under the protocol of RULES 5: word, number, bit, word again.
    #[test]
    fn a_reader_that_looks_at_the_word_again_never_sees_the_next_owners_bit() {
        let sets = PermissionSets::new(1);
        // The record: an even version names the set in `id`, an odd one names none. Only set bit 1 is ours.
        let (word, done) = (AtomicU64::new(1), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    let ours = sets.intern(1, &bitmap(&[1])).unwrap();
                    word.fetch_add(1, Ordering::AcqRel);
                    word.fetch_add(1, Ordering::AcqRel);
                    sets.release(ours);
                    let theirs = sets.intern(1, &bitmap(&[2])).unwrap();
                    sets.release(theirs);
                }
                done.store(true, Ordering::Release);
            });
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    let before = word.load(Ordering::Acquire);
                    let theirs = sets.allows(0, TypeId(2));
                    let unchanged = word.load(Ordering::Acquire) == before;
                    assert!(!(theirs && unchanged && before % 2 == 0), "an answer of another set was believed");
                }
            });
        });
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn holders_always_read_their_own_bitmap(steps in prop::collection::vec((any::<bool>(), 0..6u16), 0..60)) {
            let sets = PermissionSets::new(4);
            let mut holds: Vec<(u32, u16)> = Vec::new();
            for (take, which) in steps {
                if take {
                    match sets.intern(u32::from(which % 2), &bitmap(&[which])) {
                        Some(id) => holds.push((id, which)),
                        None => prop_assert_eq!(sets.len(), 4, "refused only when full"),
                    }
                } else if !holds.is_empty() {
                    let (id, _) = holds.swap_remove(usize::from(which) % holds.len());
                    sets.release(id);
                }
                let mut owners = HashMap::new();
                for (id, which) in &holds {
                    prop_assert_eq!(*owners.entry(*id).or_insert(*which), *which, "one number, one bitmap");
                    for type_id in 0..6 {
                        prop_assert_eq!(sets.allows(*id, TypeId(type_id)), type_id == *which);
                    }
                }
                prop_assert_eq!(sets.len(), owners.len());
            }
        }
    }
}
