//! This file answers: has this subject budget left for one more message?
//!
//! A bucket is the generic cell rate algorithm (GCRA): one word, the theoretical arrival time (TAT). Each unit
//! moves it one emission interval later; a unit is admitted while the TAT is at most `burst` intervals ahead of
//! now. There is no window whose edge could be used to spend twice.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::hash::{Fingerprint, Uniform, give_back};
use crate::config::RateConfig;
use crate::dirty::Lock;
use crate::time::MonoTime;

/// Buckets in one allocation: 64 KiB.
const CHUNK: usize = 1024;
/// Idle buckets looked at when one is needed, so that no acquire is long.
const RECLAIM: usize = 8;
/// The waiting time of something that can never be admitted.
pub(crate) const NEVER: u64 = u64::MAX;

/// A rate, compiled to nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gcra {
    /// Nanoseconds one unit takes to come back, rounded up: never faster than configured.
    interval: u64,
    /// How far the TAT may be ahead of now: `burst` intervals.
    tolerance: u64,
}

impl From<&RateConfig> for Gcra {
    /// A count, period or burst of 0 admits nothing. The fastest rate is one unit a nanosecond.
    fn from(rate: &RateConfig) -> Gcra {
        if rate.per_ms == 0 {
            return Gcra { interval: u64::MAX, tolerance: 0 };
        }
        let period = u128::from(rate.per_ms).saturating_mul(1_000_000);
        let interval = match period.div_ceil(u128::from(rate.count.max(1))) {
            _ if rate.count == 0 => return Gcra { interval: u64::MAX, tolerance: 0 },
            interval => u64::try_from(interval).unwrap_or(u64::MAX),
        };
        Gcra { interval, tolerance: interval.saturating_mul(u64::from(rate.burst)) }
    }
}

impl Gcra {
    /// The TAT after `units` more, or for how many milliseconds they must wait.
    ///
    /// The wait is exact: tried again after it, with nobody else spending, they are admitted. What is heavier
    /// than the whole burst is refused for ever ([`NEVER`]), as is everything once the clock leaves its
    /// 584 years.
    fn advance(&self, tat: u64, units: u32, now: u64) -> Result<u64, u64> {
        let Some(cost) = self.interval.checked_mul(u64::from(units)).filter(|cost| *cost <= self.tolerance) else {
            return Err(NEVER);
        };
        let Some(next) = tat.max(now).checked_add(cost) else { return Err(NEVER) };
        match next.saturating_sub(now).checked_sub(self.tolerance) {
            None | Some(0) => Ok(next),
            Some(early) => Err(early.div_ceil(1_000_000)),
        }
    }
}

/// Names one bucket. Stays valid while it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BucketId(u32);

impl BucketId {
    /// The bucket shared by all who came while the table was full.
    pub(crate) const OVERFLOW: BucketId = BucketId(0);

    /// The number, to be kept in a word of the connection record.
    pub(crate) const fn index(self) -> u32 {
        self.0
    }

    /// Back from a number that [`index`](Self::index) gave. Any other number means the overflow bucket or
    /// another subject's.
    pub(crate) const fn from_index(index: u32) -> BucketId {
        BucketId(index)
    }
}

/// Which of a subject's two budgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Budget {
    /// Messages of the application.
    Message,
    /// `auth` and `token_refresh`.
    Control,
}

/// One subject's budgets, on a cache line of its own: two busy subjects do not slow each other down.
#[derive(Default)]
#[repr(align(64))]
struct Bucket {
    message: AtomicU64,
    control: AtomicU64,
}

impl Bucket {
    fn word(&self, budget: Budget) -> &AtomicU64 {
        match budget {
            Budget::Message => &self.message,
            Budget::Control => &self.control,
        }
    }

    /// When both budgets are full again, in nanoseconds.
    fn full_at(&self) -> u64 {
        self.message.load(Ordering::Relaxed).max(self.control.load(Ordering::Relaxed))
    }
}

/// The budgets of all subjects with a connection, and of those whose budget has not filled up since.
///
/// At most `capacity` buckets of 64 bytes, allocated by the thousand as they are needed and never moved.
pub(crate) struct RateTable {
    overflow: Bucket,
    chunks: Box<[OnceLock<Box<[Bucket]>>]>,
    capacity: u32,
    index: Lock<Index>,
}

#[derive(Default)]
struct Index {
    by_name: HashMap<Fingerprint, u32, Uniform>,
    /// By id - 1.
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Buckets that had no holder when filed, by when they are full. An id stands here at most once.
    idle: BinaryHeap<Reverse<(u64, u32)>>,
}

struct Slot {
    name: Fingerprint,
    holders: u32,
    queued: bool,
}

impl RateTable {
    /// A table of at most `capacity` subjects (at most 2^32 - 2).
    pub(crate) fn new(capacity: usize) -> RateTable {
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX).min(u32::MAX - 1);
        let chunks = (capacity as usize).div_ceil(CHUNK);
        RateTable {
            overflow: Bucket::default(),
            chunks: (0..chunks).map(|_| OnceLock::new()).collect(),
            capacity,
            index: Lock::new(Index::default()),
        }
    }

    /// Finds or makes the subject's bucket and holds it, once per connection.
    ///
    /// A full table gives [`BucketId::OVERFLOW`], one budget for all newcomers. Takes a lock: not for messages.
    pub(crate) fn acquire(&self, name: Fingerprint, now: MonoTime) -> BucketId {
        let mut index = self.index.lock();
        let known = index.by_name.get(&name).copied();
        if let Some(id) = known
            && let Some(slot) = index.slot(id)
        {
            slot.holders = slot.holders.saturating_add(1);
            return BucketId(id);
        }
        self.reclaim(&mut index, now);
        let Some(id) = index.vacant(self.capacity) else { return BucketId::OVERFLOW };
        let place = id.saturating_sub(1) as usize;
        if let Some(chunk) = self.chunks.get(place / CHUNK) {
            chunk.get_or_init(|| (0..CHUNK).map(|_| Bucket::default()).collect());
        }
        let slot = Slot { name, holders: 1, queued: false };
        match index.slots.get_mut(place) {
            // A bucket still in the idle queue is never vacant, so nothing is queued here.
            Some(old) => *old = slot,
            None => index.slots.push(slot),
        }
        index.by_name.insert(name, id);
        BucketId(id)
    }

    /// Gives one hold back. The bucket is forgotten only when nobody holds it and it is full again, so that
    /// reconnecting refills nothing.
    pub(crate) fn release(&self, id: BucketId) {
        if id == BucketId::OVERFLOW {
            return;
        }
        let mut index = self.index.lock();
        let full_at = self.bucket(id).full_at();
        let Some(slot) = index.slot(id.0) else { return };
        slot.holders = slot.holders.saturating_sub(1);
        if slot.holders == 0 && !slot.queued {
            slot.queued = true;
            index.idle.push(Reverse((full_at, id.0)));
        }
    }

    /// Spends `units` of a budget, or says after how many milliseconds to try again ([`NEVER`] when it cannot
    /// ever fit). Nothing is spent on refusal. 0 units always fit.
    ///
    /// # Cost
    ///
    /// One atomic word. No lock, no allocation; a loop only while other threads spend from the same bucket.
    pub(crate) fn spend(
        &self,
        id: BucketId,
        budget: Budget,
        units: u32,
        rate: &Gcra,
        now: MonoTime,
    ) -> Result<(), u64> {
        if units == 0 {
            return Ok(());
        }
        let now = nanoseconds(now);
        let word = self.bucket(id).word(budget);
        // Relaxed is enough: the word guards nothing but itself.
        let mut tat = word.load(Ordering::Relaxed);
        loop {
            let next = rate.advance(tat, units, now)?;
            match word.compare_exchange_weak(tat, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(moved) => tat = moved,
            }
        }
    }

    /// Makes what was left dirty again from the buckets and their holders. No budget is forgotten. True if it was.
    pub(crate) fn rebuild(&self) -> bool {
        self.index.repair(|index| {
            let Index { by_name, slots, free, idle } = index;
            by_name.clear();
            free.clear();
            idle.clear();
            // Holders first: where a bucket was given up, another may have its name by now.
            for held in [true, false] {
                let such = (1u32..).zip(slots.iter_mut()).filter(|(_, slot)| (slot.holders > 0) == held);
                for (id, slot) in such {
                    let named = *by_name.entry(slot.name).or_insert(id) == id;
                    slot.queued = !held && named;
                    if slot.queued {
                        idle.push(Reverse((self.bucket(BucketId(id)).full_at(), id)));
                    } else if !held {
                        free.push(id);
                    }
                }
            }
        })
    }

    /// Subjects tracked at present.
    pub(crate) fn tracked(&self) -> usize {
        self.index.lock().by_name.len()
    }

    fn bucket(&self, id: BucketId) -> &Bucket {
        let find = |place: u32| {
            let place = place as usize;
            self.chunks.get(place / CHUNK)?.get()?.get(place % CHUNK)
        };
        id.0.checked_sub(1).and_then(find).unwrap_or(&self.overflow)
    }

    /// Frees a few idle buckets that are full again.
    fn reclaim(&self, index: &mut Index, now: MonoTime) {
        let now = nanoseconds(now);
        for _ in 0..RECLAIM {
            match index.idle.peek() {
                Some(Reverse((full_at, _))) if *full_at <= now => {}
                _ => return,
            }
            let Some(Reverse((_, id))) = index.idle.pop() else { return };
            let full_at = self.bucket(BucketId(id)).full_at();
            let Some(slot) = index.slot(id) else { continue };
            if slot.holders > 0 {
                slot.queued = false;
            } else if full_at > now {
                index.idle.push(Reverse((full_at, id)));
            } else {
                slot.queued = false;
                let name = slot.name;
                index.by_name.remove(&name);
                give_back(&mut index.by_name);
                index.free.push(id);
            }
        }
    }
}

impl Index {
    fn slot(&mut self, id: u32) -> Option<&mut Slot> {
        self.slots.get_mut(id.checked_sub(1)? as usize)
    }

    fn vacant(&mut self, capacity: u32) -> Option<u32> {
        self.free.pop().or_else(|| {
            let used = u32::try_from(self.slots.len()).ok().filter(|used| *used < capacity)?;
            used.checked_add(1)
        })
    }
}

fn nanoseconds(time: MonoTime) -> u64 {
    time.0.saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{BucketId, Budget, Gcra, NEVER, RateTable};
    use crate::config::RateConfig;
    use crate::limit::hash::{Fingerprint, Fingerprinter};
    use crate::time::MonoTime;

    fn name(n: u64) -> Fingerprint {
        Fingerprinter::new([1, 2]).fingerprint(&[&n.to_le_bytes()])
    }

    fn rate(count: u32, per_ms: u64, burst: u32) -> Gcra {
        Gcra::from(&RateConfig { count, per_ms, burst })
    }

    /// The default: 100 a minute, 20 at once.
    fn default() -> Gcra {
        rate(100, 60_000, 20)
    }

    fn spend(table: &RateTable, id: BucketId, units: u32, rate: &Gcra, at: u64) -> Result<(), u64> {
        table.spend(id, Budget::Message, units, rate, MonoTime(at))
    }

    #[test]
    fn a_burst_then_the_rate_and_the_wait_is_exact() {
        let table = RateTable::new(8);
        let id = table.acquire(name(1), MonoTime(0));
        for _ in 0..20 {
            assert_eq!(spend(&table, id, 1, &default(), 5), Ok(()));
        }
        assert_eq!(spend(&table, id, 1, &default(), 5), Err(600));
        assert_eq!(spend(&table, id, 1, &default(), 604), Err(1));
        assert_eq!(spend(&table, id, 1, &default(), 605), Ok(()));
        assert_eq!(spend(&table, id, 3, &default(), 605), Err(1_800));
        assert_eq!(spend(&table, id, 3, &default(), 2_405), Ok(()));
    }

    #[test]
    fn a_rebuild_forgets_no_budget_and_no_holder() {
        let table = RateTable::new(2);
        let held = table.acquire(name(1), MonoTime(0));
        let idle = table.acquire(name(2), MonoTime(0));
        for id in [held, idle] {
            assert_eq!(spend(&table, id, 20, &default(), 0), Ok(()));
        }
        table.release(idle);
        assert!(!table.rebuild());
        table.index.spoil(|index| {
            index.by_name.clear();
            index.idle.clear();
            index.free = vec![held.index(), held.index()];
        });
        assert!(table.rebuild() && !table.rebuild());
        assert_eq!(table.acquire(name(3), MonoTime(0)), BucketId::OVERFLOW, "neither is free");
        assert_eq!((table.acquire(name(1), MonoTime(0)), table.acquire(name(2), MonoTime(0))), (held, idle));
        assert!(spend(&table, held, 1, &default(), 5).is_err() && spend(&table, idle, 1, &default(), 5).is_err());
        (0..2).for_each(|_| table.release(held));
        table.release(idle);
        let full = MonoTime(60_000);
        assert_ne!(table.acquire(name(4), full), BucketId::OVERFLOW, "once full and free, they are given away");
        assert_ne!(table.acquire(name(5), full), BucketId::OVERFLOW);
        assert_eq!(table.tracked(), 2);
    }

    #[test]
    fn no_window_edge_doubles_the_rate() {
        let table = RateTable::new(8);
        let id = table.acquire(name(1), MonoTime(0));
        let admitted = (59_900..60_100).filter(|at| spend(&table, id, 1, &default(), *at).is_ok()).count();
        assert_eq!(admitted, 20);
    }

    #[test]
    fn a_message_heavier_than_the_burst_never_fits_and_costs_nothing() {
        let table = RateTable::new(8);
        let id = table.acquire(name(1), MonoTime(0));
        assert_eq!(spend(&table, id, 21, &default(), 0), Err(NEVER));
        assert_eq!(spend(&table, id, u32::MAX, &default(), 0), Err(NEVER));
        assert_eq!(spend(&table, id, 20, &default(), 0), Ok(()));
        assert_eq!(spend(&table, id, 0, &default(), 0), Ok(()));
    }

    #[test]
    fn the_two_budgets_are_apart() {
        let table = RateTable::new(8);
        let id = table.acquire(name(1), MonoTime(0));
        let control = rate(6, 60_000, 6);
        assert_eq!(spend(&table, id, 20, &default(), 0), Ok(()));
        for _ in 0..6 {
            assert_eq!(table.spend(id, Budget::Control, 1, &control, MonoTime(0)), Ok(()));
        }
        assert_eq!(table.spend(id, Budget::Control, 1, &control, MonoTime(0)), Err(10_000));
    }

    #[test]
    fn rates_of_zero_admit_nothing() {
        for rate in [rate(0, 60_000, 20), rate(100, 0, 20), rate(100, 60_000, 0)] {
            assert_eq!(spend(&RateTable::new(1), BucketId::OVERFLOW, 1, &rate, 0), Err(NEVER));
        }
    }

    #[test]
    fn ten_years_of_uptime_and_odd_rates_stay_precise() {
        let ten_years = 10 * 366 * 86_400_000;
        let seventh = rate(7, 1_000, 1);
        let table = RateTable::new(1);
        let id = table.acquire(name(1), MonoTime(ten_years));
        let admitted = (0..10_000).filter(|ms| spend(&table, id, 1, &seventh, ten_years + ms).is_ok()).count();
        // 143 ms steps of a 1 ms clock over 142.857 ms of interval.
        assert!((69..=71).contains(&admitted), "{admitted}");
        let table = RateTable::new(1);
        let fast = rate(u32::MAX, 1, u32::MAX);
        assert_eq!(spend(&table, id, u32::MAX, &fast, ten_years), Ok(()));
        assert!(spend(&table, id, u32::MAX, &fast, ten_years).is_err());
        let slow = rate(1, u64::MAX, 2);
        assert_eq!(spend(&RateTable::new(1), BucketId::OVERFLOW, 2, &slow, ten_years), Err(NEVER));
    }

    #[test]
    fn a_clock_at_its_end_refuses() {
        let table = RateTable::new(1);
        assert_eq!(spend(&table, BucketId::OVERFLOW, 1, &default(), u64::MAX), Err(NEVER));
    }

    #[test]
    fn a_clock_read_late_on_another_core_gives_nothing_away() {
        let table = RateTable::new(1);
        let id = table.acquire(name(1), MonoTime(0));
        assert_eq!(spend(&table, id, 20, &default(), 10_000), Ok(()));
        assert_eq!(spend(&table, id, 1, &default(), 0), Err(10_600));
        assert_eq!(spend(&table, id, 1, &default(), 10_600), Ok(()));
    }

    #[test]
    fn connections_of_one_subject_share_a_bucket_and_reconnecting_refills_nothing() {
        let table = RateTable::new(8);
        let first = table.acquire(name(1), MonoTime(0));
        assert_eq!(table.acquire(name(1), MonoTime(0)), first);
        assert_ne!(table.acquire(name(2), MonoTime(0)), first);
        assert_eq!(spend(&table, first, 20, &default(), 0), Ok(()));
        table.release(first);
        table.release(first);
        let again = table.acquire(name(1), MonoTime(1));
        assert!(spend(&table, again, 1, &default(), 1).is_err());
    }

    #[test]
    fn a_full_table_shares_one_bucket_until_another_is_full_and_free() {
        let table = RateTable::new(2);
        let one = table.acquire(name(1), MonoTime(0));
        let two = table.acquire(name(2), MonoTime(0));
        assert_eq!(table.acquire(name(3), MonoTime(0)), BucketId::OVERFLOW);
        assert_eq!(spend(&table, one, 20, &default(), 0), Ok(()));
        table.release(one);
        table.release(BucketId::OVERFLOW);
        // Free, but in debt until 12,000 ms.
        assert_eq!(table.acquire(name(3), MonoTime(11_999)), BucketId::OVERFLOW);
        // Held, though full.
        let three = table.acquire(name(3), MonoTime(12_000));
        assert_eq!(three, one);
        assert_eq!(table.acquire(name(4), MonoTime(99_000)), BucketId::OVERFLOW);
        assert_eq!(spend(&table, three, 20, &default(), 12_000), Ok(()));
        // The old name has no claim on it any more.
        table.release(two);
        assert_eq!(table.acquire(name(1), MonoTime(12_000)), two);
        assert_eq!(table.tracked(), 2);
    }

    #[test]
    fn a_message_still_under_way_at_the_release_is_not_forgotten() {
        let table = RateTable::new(1);
        let id = table.acquire(name(1), MonoTime(0));
        table.release(id);
        assert_eq!(spend(&table, id, 20, &default(), 0), Ok(()));
        assert_eq!(table.acquire(name(2), MonoTime(11_999)), BucketId::OVERFLOW);
        assert_eq!(table.acquire(name(2), MonoTime(12_000)), id);
    }

    #[test]
    fn a_bucket_taken_up_again_is_not_reclaimed_by_its_old_entry() {
        let table = RateTable::new(1);
        for at in 0..100 {
            let id = table.acquire(name(1), MonoTime(at));
            table.release(id);
        }
        let id = table.acquire(name(1), MonoTime(100));
        assert_eq!(table.acquire(name(2), MonoTime(200)), BucketId::OVERFLOW);
        assert!(table.index.lock().idle.len() <= 1);
        table.release(id);
        assert_eq!(table.acquire(name(2), MonoTime(200)), id);
    }

    #[test]
    fn ten_thousand_names_stay_within_the_capacity() {
        let table = RateTable::new(1_500);
        for n in 0..10_000 {
            let id = table.acquire(name(n), MonoTime(n));
            assert_eq!(BucketId::from_index(id.index()), id);
            let _ = spend(&table, id, 1, &default(), n);
            table.release(id);
        }
        assert!(table.tracked() <= 1_500);
        let index = table.index.lock();
        assert!(index.slots.len() <= 1_500 && index.idle.len() <= 1_500 && index.free.len() <= 1_500);
    }

    #[test]
    fn threads_together_get_no_more_than_the_budget() {
        let table = RateTable::new(4);
        let id = table.acquire(name(1), MonoTime(0));
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        (0..20_000u64).filter(|at| spend(&table, id, 1, &rate(1, 10, 50), at / 10).is_ok()).count()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        // 2,000 ms at one per 10 ms, and the burst.
        assert!((50..=250).contains(&admitted), "{admitted}");
    }

    proptest! {
        #[test]
        fn every_window_admits_at_most_the_burst_and_the_rate(
            count in 1u32..50,
            per_ms in 1u64..5_000,
            burst in 1u32..30,
            steps in proptest::collection::vec((0u64..400, 1u32..4), 1..150),
        ) {
            let rate = rate(count, per_ms, burst);
            let table = RateTable::new(1);
            let id = table.acquire(name(1), MonoTime(0));
            let mut at = 0;
            let mut admitted: Vec<(u64, u32)> = Vec::new();
            for (pause, units) in steps {
                at += pause;
                match spend(&table, id, units, &rate, at) {
                    Ok(()) => admitted.push((at, units)),
                    Err(NEVER) => prop_assert!(units > burst),
                    Err(wait) => {
                        // Neither a lie nor longer than needed.
                        let word = || table.bucket(id).message.load(std::sync::atomic::Ordering::Relaxed);
                        prop_assert!(rate.advance(word(), units, (at + wait) * 1_000_000).is_ok());
                        prop_assert!(rate.advance(word(), units, (at + wait - 1) * 1_000_000).is_err());
                    }
                }
            }
            for first in 0..admitted.len() {
                let mut sum = 0u64;
                for (at, units) in &admitted[first..] {
                    sum += u64::from(*units);
                    let elapsed = at - admitted[first].0;
                    let allowed = u64::from(burst) + elapsed * u64::from(count) / per_ms;
                    prop_assert!(sum <= allowed, "{} in {} ms", sum, elapsed);
                }
            }
        }

        #[test]
        fn an_idle_bucket_is_full_again(burst in 1u32..30, pause in 0u64..100) {
            let rate = rate(1, 100, burst);
            let table = RateTable::new(1);
            let id = table.acquire(name(1), MonoTime(0));
            prop_assert_eq!(spend(&table, id, burst, &rate, pause), Ok(()));
            prop_assert_eq!(spend(&table, id, burst, &rate, pause + u64::from(burst) * 100), Ok(()));
        }
    }
}
