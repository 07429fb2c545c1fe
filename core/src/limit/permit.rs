//! This file answers: how many of these does this peer hold already?

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::hash::{Fingerprint, Uniform, give_back};

const SHARDS: usize = 16;

/// Why no permit was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// This key holds as many as it may.
    Key,
    /// The table tracks as many keys as it can: newcomers are refused, holders are not hurt.
    Table,
}

/// Permits held per key, such as live connections per address. At most `capacity` keys; a key that holds
/// nothing takes no room.
pub(crate) struct Permits {
    shards: [Mutex<HashMap<Fingerprint, u32, Uniform>>; SHARDS],
    tracked: AtomicUsize,
    capacity: usize,
}

impl Permits {
    /// A table of at most `capacity` keys.
    pub(crate) fn new(capacity: usize) -> Permits {
        Permits { shards: Default::default(), tracked: AtomicUsize::new(0), capacity }
    }

    /// Takes one permit of at most `limit`. Give it back with exactly one [`release`](Self::release).
    pub(crate) fn admit(&self, key: Fingerprint, limit: u32) -> Result<(), Full> {
        if limit == 0 {
            return Err(Full::Key);
        }
        let Some(shard) = self.shard(key) else { return Err(Full::Table) };
        let mut held = shard.lock();
        if let Some(count) = held.get_mut(&key) {
            if *count >= limit {
                return Err(Full::Key);
            }
            *count = count.saturating_add(1);
            return Ok(());
        }
        // Counted before it is filed, so that shards together never pass the capacity.
        let room = |tracked: usize| tracked.checked_add(1).filter(|after| *after <= self.capacity);
        if self.tracked.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_err() {
            return Err(Full::Table);
        }
        held.insert(key, 1);
        Ok(())
    }

    /// Gives one permit back. Without one, nothing happens.
    pub(crate) fn release(&self, key: Fingerprint) {
        let Some(shard) = self.shard(key) else { return };
        let mut held = shard.lock();
        let Some(count) = held.get_mut(&key) else { return };
        *count = count.saturating_sub(1);
        if *count == 0 {
            held.remove(&key);
            self.tracked.fetch_sub(1, Ordering::Relaxed);
            give_back(&mut held);
        }
    }

    /// Permits this key holds at present.
    pub(crate) fn held(&self, key: Fingerprint) -> u32 {
        self.shard(key).and_then(|shard| shard.lock().get(&key).copied()).unwrap_or(0)
    }

    /// Keys that hold something at present.
    pub(crate) fn tracked(&self) -> usize {
        self.tracked.load(Ordering::Relaxed)
    }

    fn shard(&self, key: Fingerprint) -> Option<&Mutex<HashMap<Fingerprint, u32, Uniform>>> {
        self.shards.get(key.bucket(SHARDS))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{Full, Permits};
    use crate::limit::hash::{Fingerprint, Fingerprinter};

    fn key(n: u64) -> Fingerprint {
        Fingerprinter::new([1, 2]).fingerprint(&[&n.to_le_bytes()])
    }

    #[test]
    fn the_limit_holds_per_key_and_a_release_makes_room() {
        let permits = Permits::new(10);
        for _ in 0..3 {
            assert_eq!(permits.admit(key(1), 3), Ok(()));
        }
        assert_eq!(permits.admit(key(1), 3), Err(Full::Key));
        assert_eq!(permits.admit(key(2), 3), Ok(()));
        permits.release(key(1));
        assert_eq!(permits.admit(key(1), 3), Ok(()));
        assert_eq!(permits.held(key(1)), 3);
        assert_eq!(permits.admit(key(1), 2), Err(Full::Key), "a lowered limit holds at once");
    }

    #[test]
    fn a_full_table_refuses_newcomers_only() {
        let permits = Permits::new(2);
        assert_eq!(permits.admit(key(1), 9), Ok(()));
        assert_eq!(permits.admit(key(2), 9), Ok(()));
        assert_eq!(permits.admit(key(3), 9), Err(Full::Table));
        assert_eq!(permits.admit(key(1), 9), Ok(()));
        permits.release(key(2));
        assert_eq!(permits.admit(key(3), 9), Ok(()));
        assert_eq!(permits.tracked(), 2);
    }

    #[test]
    fn nothing_is_tracked_for_a_limit_of_zero_or_a_release_too_many() {
        let permits = Permits::new(2);
        assert_eq!(permits.admit(key(1), 0), Err(Full::Key));
        permits.release(key(1));
        assert_eq!(permits.tracked(), 0);
        assert_eq!(permits.admit(key(1), 1), Ok(()));
        permits.release(key(1));
        permits.release(key(1));
        assert_eq!((permits.tracked(), permits.held(key(1))), (0, 0));
    }

    #[test]
    fn the_memory_of_a_flood_is_given_back() {
        let permits = Permits::new(100_000);
        for n in 0..30_000 {
            assert_eq!(permits.admit(key(n), 1), Ok(()));
        }
        for n in 0..30_000 {
            permits.release(key(n));
        }
        assert_eq!(permits.tracked(), 0);
        assert!(permits.shards.iter().all(|shard| shard.lock().capacity() < 1_000));
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
                        _ => { model.insert(n, held + 1); Ok(()) }
                    };
                    prop_assert_eq!(permits.admit(key(n), limit), expected);
                } else {
                    permits.release(key(n));
                    match held { 0 | 1 => { model.remove(&n); } _ => { model.insert(n, held - 1); } }
                }
                prop_assert_eq!(permits.tracked(), model.len());
            }
            for (n, held) in model {
                prop_assert_eq!(permits.held(key(n)), held);
                (0..held).for_each(|_| permits.release(key(n)));
            }
            prop_assert_eq!(permits.tracked(), 0);
        }
    }
}
