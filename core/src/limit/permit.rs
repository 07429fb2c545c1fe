//! This file answers: how many of these does this peer hold already?

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::hash::{Fingerprint, Uniform, give_back};
use crate::dirty::Lock;

const SHARDS: usize = 16;

/// Why no permit was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// This key holds as many as it may.
    Key,
    /// The table tracks as many keys as it can: newcomers are refused, holders are not hurt.
    Table,
}

/// One permit. Give it back with exactly one [`release`](Permits::release).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    key: Fingerprint,
    /// In which life of its shard it counts.
    life: u32,
}

/// A permit that goes back by itself unless it is [kept](Taken::keep).
#[must_use]
pub(crate) struct Taken<'a> {
    permits: &'a Permits,
    permit: Permit,
}

/// Permits held per key, such as live connections per address. At most `capacity` keys; a key that holds
/// nothing takes no room.
pub(crate) struct Permits {
    shards: [Lock<Shard>; SHARDS],
    tracked: AtomicUsize,
    capacity: usize,
}

#[derive(Default)]
struct Shard {
    held: HashMap<Fingerprint, u32, Uniform>,
    /// One more with each rebuild: what was given out before counts again once its holder was counted again.
    life: u32,
}

impl Permits {
    /// A table of at most `capacity` keys.
    pub(crate) fn new(capacity: usize) -> Permits {
        Permits { shards: Default::default(), tracked: AtomicUsize::new(0), capacity }
    }

    /// Takes one permit of at most `limit`.
    pub(crate) fn admit(&self, key: Fingerprint, limit: u32) -> Result<Permit, Full> {
        if limit == 0 {
            return Err(Full::Key);
        }
        let Some(shard) = self.shard(key) else { return Err(Full::Table) };
        let mut shard = shard.lock();
        let permit = Permit { key, life: shard.life };
        if let Some(count) = shard.held.get_mut(&key) {
            if *count >= limit {
                return Err(Full::Key);
            }
            *count = count.saturating_add(1);
            return Ok(permit);
        }
        // Counted before it is filed, so that shards together never pass the capacity.
        let room = |tracked: usize| tracked.checked_add(1).filter(|after| *after <= self.capacity);
        if self.tracked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Err(Full::Table);
        }
        shard.held.insert(key, 1);
        Ok(permit)
    }

    /// The same, held by the caller for as long as it is there.
    pub(crate) fn take(&self, key: Fingerprint, limit: u32) -> Result<Taken<'_>, Full> {
        self.admit(key, limit).map(|permit| Taken { permits: self, permit })
    }

    /// A kept permit that goes back by itself again.
    pub(crate) fn taken(&self, permit: Permit) -> Taken<'_> {
        Taken { permits: self, permit }
    }

    /// Gives one permit back. One that a rebuild forgot was given back by that.
    pub(crate) fn release(&self, permit: Permit) {
        let Some(shard) = self.shard(permit.key) else { return };
        let mut shard = shard.lock();
        if permit.life != shard.life {
            return;
        }
        let Some(count) = shard.held.get_mut(&permit.key) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            shard.held.remove(&permit.key);
            self.tracked.fetch_sub(1, Ordering::Relaxed);
            give_back(&mut shard.held);
        }
    }

    /// Forgets every permit of a shard that was left dirty. True when there was one: then [`restore`](Self::restore)
    /// each permit that is known.
    pub(crate) fn rebuild(&self) -> bool {
        if !self.shards.iter().any(Lock::is_dirty) {
            return false;
        }
        // All at once, so that nothing moves while it is counted.
        let mut shards = self.shards.each_ref().map(Lock::lock);
        for (shard, lock) in shards.iter_mut().zip(&self.shards) {
            if lock.is_dirty() {
                shard.repair(|shard| *shard = Shard { held: HashMap::default(), life: shard.life.wrapping_add(1) });
            }
        }
        let tracked = shards.iter().fold(0usize, |sum, shard| sum.saturating_add(shard.held.len()));
        self.tracked.store(tracked, Ordering::Relaxed);
        true
    }

    /// Counts a permit again that a rebuild forgot, whatever the bounds: its holder is there. True if it had been.
    pub(crate) fn restore(&self, permit: &mut Permit) -> bool {
        let Some(shard) = self.shard(permit.key) else { return false };
        let mut shard = shard.lock();
        if permit.life == shard.life {
            return false;
        }
        permit.life = shard.life;
        let count = shard.held.entry(permit.key).or_insert(0);
        if *count == 0 {
            self.tracked.fetch_add(1, Ordering::Relaxed);
        }
        *count = count.saturating_add(1);
        true
    }

    /// Permits this key holds at present.
    pub(crate) fn held(&self, key: Fingerprint) -> u32 {
        self.shard(key).and_then(|shard| shard.lock().held.get(&key).copied()).unwrap_or(0)
    }

    /// Keys that hold something at present.
    pub(crate) fn tracked(&self) -> usize {
        self.tracked.load(Ordering::Relaxed)
    }

    fn shard(&self, key: Fingerprint) -> Option<&Lock<Shard>> {
        self.shards.get(key.bucket(SHARDS))
    }
}

impl Taken<'_> {
    /// From here on it is the caller's to give back.
    pub(crate) fn keep(self) -> Permit {
        let permit = self.permit;
        // What `Drop` would do is the caller's now.
        std::mem::forget(self);
        permit
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.permits.release(self.permit);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{Full, Permit, Permits};
    use crate::limit::hash::{Fingerprint, Fingerprinter};

    fn key(n: u64) -> Fingerprint {
        Fingerprinter::new([1, 2]).fingerprint(&[&n.to_le_bytes()])
    }

    fn permit(n: u64) -> Permit {
        Permit { key: key(n), life: 0 }
    }

    #[test]
    fn the_limit_holds_per_key_and_a_release_makes_room() {
        let permits = Permits::new(10);
        for _ in 0..3 {
            assert_eq!(permits.admit(key(1), 3), Ok(permit(1)));
        }
        assert_eq!(permits.admit(key(1), 3), Err(Full::Key));
        assert_eq!(permits.admit(key(2), 3), Ok(permit(2)));
        permits.release(permit(1));
        assert_eq!(permits.admit(key(1), 3), Ok(permit(1)));
        assert_eq!(permits.held(key(1)), 3);
        assert_eq!(permits.admit(key(1), 2), Err(Full::Key), "a lowered limit holds at once");
    }

    #[test]
    fn a_full_table_refuses_newcomers_only() {
        let permits = Permits::new(2);
        assert_eq!(permits.admit(key(1), 9), Ok(permit(1)));
        assert_eq!(permits.admit(key(2), 9), Ok(permit(2)));
        assert_eq!(permits.admit(key(3), 9), Err(Full::Table));
        assert_eq!(permits.admit(key(1), 9), Ok(permit(1)));
        permits.release(permit(2));
        assert_eq!(permits.admit(key(3), 9), Ok(permit(3)));
        assert_eq!(permits.tracked(), 2);
    }

    #[test]
    fn nothing_is_tracked_for_a_limit_of_zero_or_a_release_too_many() {
        let permits = Permits::new(2);
        assert_eq!(permits.admit(key(1), 0), Err(Full::Key));
        permits.release(permit(1));
        assert_eq!(permits.tracked(), 0);
        assert_eq!(permits.admit(key(1), 1), Ok(permit(1)));
        permits.release(permit(1));
        permits.release(permit(1));
        assert_eq!((permits.tracked(), permits.held(key(1))), (0, 0));
    }

    #[test]
    fn the_memory_of_a_flood_is_given_back() {
        let permits = Permits::new(100_000);
        for n in 0..30_000 {
            assert_eq!(permits.admit(key(n), 1), Ok(permit(n)));
        }
        for n in 0..30_000 {
            permits.release(permit(n));
        }
        assert_eq!(permits.tracked(), 0);
        assert!(permits.shards.iter().all(|shard| shard.lock().held.capacity() < 1_000));
    }

    #[test]
    fn what_a_rebuild_forgot_counts_once_its_holder_was_counted_again() {
        let permits = Permits::new(8);
        let (mut known, unknown) = (permits.admit(key(1), 9).unwrap(), permits.admit(key(1), 9).unwrap());
        assert!(!permits.rebuild() && !permits.restore(&mut known));
        let shard = permits.shard(key(1)).unwrap();
        shard.spoil(|shard| shard.held.clear());
        assert!(permits.rebuild() && !permits.rebuild());
        let new = permits.admit(key(1), 1).unwrap();
        permits.release(unknown);
        assert_eq!(permits.held(key(1)), 1, "a permit of before takes nobody's away");
        assert!(permits.restore(&mut known) && !permits.restore(&mut known));
        assert_eq!((permits.held(key(1)), permits.tracked()), (2, 1));
        permits.release(known);
        permits.release(new);
        assert_eq!((permits.held(key(1)), permits.tracked()), (0, 0));
    }

    #[test]
    fn threads_together_hold_no_more_than_the_limit() {
        let permits = Permits::new(8);
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).filter(|_| permits.admit(key(1), 77).is_ok()).count()))
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 77);
    }

    proptest! {
        #[test]
        fn counts_agree_with_a_model_and_return_to_zero(
            steps in proptest::collection::vec((0u64..6, any::<bool>()), 0..200),
            limit in 1u32..5,
            capacity in 1usize..6,
        ) {
            let permits = Permits::new(capacity);
            let mut model: HashMap<u64, u32> = HashMap::new();
            for (n, admit) in steps {
                let held = model.get(&n).copied().unwrap_or(0);
                if admit {
                    let expected = match held {
                        0 if model.len() >= capacity => Err(Full::Table),
                        held if held >= limit => Err(Full::Key),
                        _ => { model.insert(n, held + 1); Ok(permit(n)) }
                    };
                    prop_assert_eq!(permits.admit(key(n), limit), expected);
                } else {
                    permits.release(permit(n));
                    match held { 0 | 1 => { model.remove(&n); } _ => { model.insert(n, held - 1); } }
                }
                prop_assert_eq!(permits.tracked(), model.len());
            }
            for (n, held) in model {
                prop_assert_eq!(permits.held(key(n)), held);
                (0..held).for_each(|_| permits.release(permit(n)));
            }
            prop_assert_eq!(permits.tracked(), 0);
        }
    }
}
