//! This file answers: which connection belongs to a handle, and who may change it?
//!
//! Slots stand in chunks that are made on demand and never move or go away, so a reader needs no lock to reach one.
//! Two locks exist: that of the free list, held for a push or a pop, and one for each connection. They are never
//! held together.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut, Range};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::handle::{ConnectionId, INDEX_BITS};
use super::lifecycle::State;
use super::record::{Grant, Record};
use crate::decision::Reason;
use crate::dirty::{self, Lock, Sound};
use crate::time::Now;

/// Slots that are made at once: 128 KiB and more.
const CHUNK: u32 = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 10;

/// All connections of one engine; `C` is what a connection has behind its lock.
///
/// Bounded by the number given to [`Table::new`]; a slot costs 128 bytes as long as
/// `C` is a box or no larger than 32 bytes.
pub(crate) struct Table<C> {
    chunks: Box<[Chunk<C>]>,
    capacity: u32,
    seed: [u64; 2],
    free: Lock<FreeList>,
    len: AtomicU32,
}

/// Slots that are made together, once.
struct Chunk<C>(OnceLock<Box<[Slot<C>]>>);

/// The place of one connection.
#[repr(C, align(128))]
pub(crate) struct Slot<C> {
    record: Record,
    cold: Mutex<Option<C>>,
}

/// A connection with its lock held. Derefs to what the connection has behind the lock.
///
/// Dropped by a panic, it closes the connection and leaves it dirty: nobody else gets the lock before the repair.
/// The life cannot end while the guard lives, but a revocation may close it at any moment: `commit` and
/// `transition` then fail with `Closing`. A thread that holds one guard must not take another.
pub(crate) struct Guard<'a, C> {
    id: ConnectionId,
    record: &'a Record,
    cold: MappedMutexGuard<'a, C>,
    sound: Sound,
}

#[derive(Default)]
struct FreeList {
    /// Indexes of slots that were used before, longest free first (RULES 7).
    used: VecDeque<u32>,
    /// The lowest index that was never used.
    fresh: u32,
}

impl<C> Table<C> {
    /// A table for at most `capacity` connections, of which 2^24 can be named. `seed` is random: generations begin
    /// at a value nobody can tell from outside, so that handles of another process or engine are not found here.
    pub(crate) fn new(capacity: usize, seed: [u64; 2]) -> Table<C> {
        let capacity = u32::try_from(capacity).unwrap_or(u32::MAX).clamp(1, 1 << INDEX_BITS);
        Table {
            chunks: (0..capacity.div_ceil(CHUNK)).map(|_| Chunk(OnceLock::new())).collect(),
            capacity,
            seed,
            free: Lock::new(FreeList::default()),
            len: AtomicU32::new(0),
        }
    }

    /// Opens a connection.
    ///
    /// # Refusals
    ///
    /// `ConnectionsFull`; `FaultInternal` when no life begins with `state`. `cold` is dropped then.
    pub(crate) fn insert(
        &self,
        shard: u8,
        state: State,
        grant: Grant,
        cold: C,
        now: Now,
    ) -> Result<ConnectionId, Reason> {
        loop {
            let (index, slot) = self.take_free().ok_or(Reason::ConnectionsFull)?;
            let mut place = slot.cold.lock();
            if slot.record.state() != State::Free {
                // A rebuilt list named a slot that was on its way to another connection, which gives it back.
                continue;
            }
            let generation = self.next_generation(index, slot);
            if slot.record.open(generation, shard, state, grant, now.mono).is_err() {
                drop(place);
                self.give_back(index);
                return Err(Reason::FaultInternal);
            }
            *place = Some(cold);
            drop(place);
            self.len.fetch_add(1, Ordering::Relaxed);
            return Ok(ConnectionId::new(shard, index, generation));
        }
    }

    /// Makes the list of free slots again, from the slots, where it was left dirty. True if it was.
    pub(crate) fn rebuild_free(&self) -> bool {
        self.free.repair(|free| {
            let is_free = |index: &u32| {
                let record = self.slot(*index).map(Slot::record);
                record.is_some_and(|record| record.state() == State::Free && record.generation() != u32::MAX)
            };
            free.used = (0..free.fresh).filter(is_free).collect();
        })
    }

    /// The slot of a handle, if the connection is there in any state. No lock.
    ///
    /// The connection may end a moment later; [`Record::read`] and [`Slot::lock`] ask again.
    pub(crate) fn find(&self, id: ConnectionId) -> Option<&Slot<C>> {
        self.slot(id.index()).filter(|slot| slot.record.is(id.generation(), id.shard()))
    }

    /// Ends a connection in any state. Exactly one caller gets what it had behind its lock, before the slot is given to
    /// another connection, and without a lock.
    pub(crate) fn remove<T>(&self, id: ConnectionId, take: impl FnOnce(C) -> T) -> Option<T> {
        self.end(self.find(id)?, id, take)
    }

    /// How many connections there are, in any state.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }

    /// The first index that no connection has had so far: where a walk ends.
    ///
    /// A walk over `0..extent()` meets every connection whose insertion had returned before `extent` was called.
    pub(crate) fn extent(&self) -> u32 {
        self.free.lock().fresh
    }

    /// Shows every connection, in any state, whose index is in `range`. For rare full walks, in slices, so that
    /// the caller can do something else in between; it takes no lock.
    pub(crate) fn for_each(&self, range: Range<u32>, mut visit: impl FnMut(ConnectionId, &Slot<C>)) {
        for index in range.start..range.end.min(self.capacity) {
            let Some(slot) = self.slot(index) else { continue };
            // Were the slot reused inside `occupant`, the handle is nobody's; the new connection began after the walk.
            if let Some((generation, shard)) = slot.record.occupant() {
                visit(ConnectionId::new(shard, index, generation), slot);
            }
        }
    }

    /// Ends the life `id` of a slot, unless another call did so since it was found.
    fn end<T>(&self, slot: &Slot<C>, id: ConnectionId, take: impl FnOnce(C) -> T) -> Option<T> {
        let mut place = slot.cold.lock();
        if !slot.record.is(id.generation(), id.shard()) {
            return None;
        }
        // Legal from every state but Free, which was just ruled out and only `remove` brings about.
        slot.record.transition(State::Free).ok()?;
        let cold = place.take();
        drop(place);
        self.len.fetch_sub(1, Ordering::Relaxed);
        let _vacant = Vacant { table: self, id };
        cold.map(take)
    }

    fn slot(&self, index: u32) -> Option<&Slot<C>> {
        self.chunks.get((index >> CHUNK_BITS) as usize)?.0.get()?.get((index & (CHUNK - 1)) as usize)
    }

    fn take_free(&self) -> Option<(u32, &Slot<C>)> {
        let mut free = self.free.lock();
        let index = match free.used.pop_front() {
            Some(index) => index,
            None if free.fresh < self.capacity => {
                let index = free.fresh;
                // Under the lock, so that whoever sees `fresh` also sees the chunk.
                self.chunks.get((index >> CHUNK_BITS) as usize)?.0.get_or_init(|| self.new_chunk(index));
                free.fresh = index.saturating_add(1);
                index
            }
            None => return None,
        };
        drop(free);
        Some((index, self.slot(index)?))
    }

    fn give_back(&self, index: u32) {
        self.free.lock().used.push_back(index);
    }

    /// The chunk that begins with `first`, the last one no longer than the capacity.
    fn new_chunk(&self, first: u32) -> Box<[Slot<C>]> {
        (0..CHUNK.min(self.capacity.saturating_sub(first))).map(|_| Slot::new()).collect()
    }

    fn next_generation(&self, index: u32, slot: &Slot<C>) -> u32 {
        match slot.record.generation() {
            0 => first_generation(self.seed, index),
            // `remove` retired the slot at the last generation.
            generation => generation.wrapping_add(1),
        }
    }
}

/// Gives the slot of an ended life back when it is dropped, also by a panic.
struct Vacant<'a, C> {
    table: &'a Table<C>,
    id: ConnectionId,
}

impl<C> Drop for Vacant<'_, C> {
    fn drop(&mut self) {
        // Retired before the generation wraps: the old handles of this slot stay unknown for ever.
        if self.id.generation() != u32::MAX {
            self.table.give_back(self.id.index());
        }
    }
}

impl<C> Slot<C> {
    fn new() -> Slot<C> {
        Slot { record: Record::new(), cold: Mutex::new(None) }
    }

    /// The hot facts.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Takes the connection's lock; `None` when the connection ended meanwhile, or waits to be repaired.
    pub(crate) fn lock(&self, id: ConnectionId) -> Option<Guard<'_, C>> {
        self.guard(id).filter(|guard| !guard.record.is_dirty())
    }

    /// Takes the lock of a connection that a panic left dirty; it counts as sound from here on. `None` for any other.
    pub(crate) fn lock_dirty(&self, id: ConnectionId) -> Option<Guard<'_, C>> {
        let guard = self.guard(id).filter(|guard| guard.record.is_dirty())?;
        guard.record.call_sound();
        Some(guard)
    }

    fn guard(&self, id: ConnectionId) -> Option<Guard<'_, C>> {
        let cold = self.cold.lock();
        if !self.record.is(id.generation(), id.shard()) {
            return None;
        }
        let cold = MutexGuard::try_map(cold, Option::as_mut).ok()?;
        let guard = Guard { id, record: &self.record, cold, sound: Sound::now() };
        #[cfg(any(test, feature = "test-panic"))]
        dirty::inject::taken();
        Some(guard)
    }
}

impl<C> Guard<'_, C> {
    /// The connection's handle.
    pub(crate) fn id(&self) -> ConnectionId {
        self.id
    }

    /// The hot facts.
    pub(crate) fn record(&self) -> &Record {
        self.record
    }

    /// The state now; it may become `Closing` at any moment.
    pub(crate) fn state(&self) -> State {
        self.record.state()
    }

    /// The grant in force.
    pub(crate) fn grant(&self) -> Grant {
        self.record.grant()
    }

    /// Puts a new grant in force for every call that begins after this returned.
    ///
    /// # Refusals
    ///
    /// `Closing`, when the connection was closed meanwhile; the old grant stays.
    pub(crate) fn commit(&self, grant: Grant) -> Result<(), State> {
        self.record.commit(grant)
    }

    /// Moves the connection to another state. Its end is [`Table::remove`] alone.
    ///
    /// # Refusals
    ///
    /// The state found, when the move is not legal from there.
    pub(crate) fn transition(&self, to: State) -> Result<(), State> {
        if to == State::Free { Err(self.record.state()) } else { self.record.transition(to) }
    }

    /// Names the message budget; fixed once the connection is live.
    pub(crate) fn assign_bucket(&self, bucket: u32) {
        self.record.assign_bucket(bucket);
    }
}

impl<C> Guard<'_, C> {
    fn spoil(&self) {
        self.record.spoil(self.id.generation());
        dirty::mark();
    }
}

impl<C> Drop for Guard<'_, C> {
    fn drop(&mut self) {
        if self.sound.is_lost() {
            self.spoil();
        }
        #[cfg(any(test, feature = "test-panic"))]
        dirty::inject::let_go(|| self.spoil());
    }
}

impl<C> Deref for Guard<'_, C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.cold
    }
}

impl<C> DerefMut for Guard<'_, C> {
    fn deref_mut(&mut self) -> &mut C {
        &mut self.cold
    }
}

/// Where the generations of a slot begin: 1..=2^31, so that every slot has at least 2^31 lives.
fn first_generation(seed: [u64; 2], index: u32) -> u32 {
    let [key, tweak] = seed;
    // The finaliser of splitmix64. A handle is no secret; neighbouring slots shall only not look alike.
    let mut mixed = key ^ u64::from(index).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31) ^ tweak) as u32 >> 1).saturating_add(1)
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::atomic::AtomicUsize;

    use proptest::prelude::*;

    use super::*;
    use crate::time::{MonoTime, WallTime};

    const SEED: [u64; 2] = [0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210];
    const NOW: Now = Now::new(1_000_000, 5_000);

    fn grant(n: u32) -> Grant {
        Grant { wall_expiry: WallTime(1), mono_expiry: MonoTime(2), permission_set: n, policy_epoch: 4 }
    }

    fn table(capacity: usize) -> Table<u32> {
        Table::new(capacity, SEED)
    }

    fn insert(table: &Table<u32>, cold: u32) -> ConnectionId {
        table.insert(0, State::Admitting, grant(cold), cold, NOW).unwrap()
    }

    #[test]
    fn a_connection_is_found_changed_and_given_back() {
        let table = table(10);
        let id = table.insert(9, State::Admitting, grant(1), 77, NOW).unwrap();
        assert_eq!((id.shard(), id.index(), table.len()), (9, 0, 1));
        let slot = table.find(id).unwrap();
        assert_eq!(slot.record().last_activity(), NOW.mono);
        {
            let mut guard = slot.lock(id).unwrap();
            assert_eq!((*guard, guard.state(), guard.grant(), guard.id()), (77, State::Admitting, grant(1), id));
            *guard += 1;
            guard.commit(grant(2)).unwrap();
            guard.assign_bucket(3);
            guard.transition(State::Live).unwrap();
            assert_eq!(guard.transition(State::Free), Err(State::Live), "a life ends in the table only");
        }
        let snapshot = slot.record().read(id.generation()).unwrap();
        assert_eq!((snapshot.state(), snapshot.grant, snapshot.bucket), (State::Live, grant(2), 3));
        assert_eq!(table.remove(id, |cold| cold), Some(78));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_slot_with_a_small_payload_is_two_cache_lines() {
        assert_eq!(std::mem::size_of::<Slot<Box<u64>>>(), 128);
        assert_eq!(std::mem::size_of::<Slot<[u64; 4]>>(), 128);
        assert_eq!(std::mem::offset_of!(Slot<Box<u64>>, record), 0);
    }

    #[test]
    fn stale_and_never_issued_handles_are_found_nowhere() {
        let table = table(3000);
        let id = insert(&table, 1);
        assert_eq!(table.remove(id, |cold| cold), Some(1));
        let next = insert(&table, 2);
        assert_eq!(next.index(), id.index());

        let never = [
            0,
            u64::MAX,
            next.as_u64() ^ 1,
            ConnectionId::new(1, next.index(), next.generation()).as_u64(),
            ConnectionId::new(0, 1, next.generation()).as_u64(),
            ConnectionId::new(0, 2999, 1).as_u64(),
            ConnectionId::new(0, 1, 0).as_u64(),
            ConnectionId::new(0, 0xff_ffff, 0).as_u64(),
        ];
        for handle in never.into_iter().map(ConnectionId::from_u64).chain([id]) {
            assert!(table.find(handle).is_none(), "{handle:?}");
            assert_eq!(table.remove(handle, |cold| cold), None, "{handle:?}");
        }
        let slot = table.find(next).unwrap();
        assert!(slot.lock(id).is_none(), "a slot found earlier does not open for the old handle");
        assert_eq!(slot.record().read(id.generation()), None);
        assert_eq!(table.end(slot, id, |cold| cold), None, "nor does it end the next life");
        assert_eq!(*slot.lock(next).unwrap(), 2);
    }

    #[test]
    fn closing_keeps_the_connection_until_it_is_removed() {
        let table = table(2);
        let id = insert(&table, 1);
        assert!(table.find(id).unwrap().record().close(id.generation()));
        let guard = table.find(id).unwrap().lock(id).unwrap();
        assert_eq!((guard.commit(grant(2)), guard.transition(State::Live)), (Err(State::Closing), Err(State::Closing)));
        drop(guard);
        assert_eq!(table.remove(id, |cold| cold), Some(1));
    }

    #[test]
    fn a_full_table_refuses_and_a_removal_makes_room() {
        for capacity in [1, 2, 1023, 1024, 1025] {
            let table = table(capacity);
            let ids: Vec<_> = (0..capacity as u32).map(|n| insert(&table, n)).collect();
            assert_eq!(table.insert(0, State::Admitting, grant(0), 0, NOW), Err(Reason::ConnectionsFull));
            assert_eq!(table.len(), capacity);
            assert_eq!(table.remove(ids[capacity / 2], |cold| cold), Some(capacity as u32 / 2));
            assert_eq!(insert(&table, 5).index(), ids[capacity / 2].index());
        }
    }

    #[test]
    fn a_holder_that_panics_closes_the_connection_and_nobody_gets_its_lock_before_the_repair() {
        let table = table(2);
        let [lost, other] = [1, 2].map(|cold| insert(&table, cold));
        let slot = table.find(lost).unwrap();
        slot.lock(lost).unwrap().transition(State::Live).unwrap();
        let seen = slot.record().read(lost.generation()).unwrap();
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            *slot.lock(lost).unwrap() = 7;
            let _guard = slot.lock(lost).unwrap();
            panic!("as asked by the test");
        }));
        assert!(died.is_err() && !slot.record().confirm(&seen), "a message that is being decided is decided anew");
        assert_eq!(slot.record().read(lost.generation()).unwrap().state(), State::Closing);
        assert!(slot.lock(lost).is_none() && table.find(other).unwrap().lock_dirty(other).is_none());
        assert_eq!(*slot.lock_dirty(lost).unwrap(), 7);
        assert!(slot.lock_dirty(lost).is_none() && slot.lock(lost).is_some());
        assert_eq!(slot.record().state(), State::Closing, "repaired, not revived");
        slot.record().spoil(lost.generation());
        assert_eq!(table.remove(lost, |cold| cold), Some(7), "its end needs no repair");
        let next = insert(&table, 3);
        assert!(next.index() == lost.index() && slot.lock(next).is_some(), "the next life is sound");
    }

    #[test]
    fn free_slots_are_found_again_and_none_is_given_away_twice() {
        let table = table(4);
        let ids: Vec<_> = (0..3).map(|n| insert(&table, n)).collect();
        table.remove(ids[1], |cold| cold).unwrap();
        assert!(!table.rebuild_free());
        table.free.spoil(|free| free.used.clear());
        assert!(table.rebuild_free() && !table.rebuild_free());
        let again = insert(&table, 5);
        assert_eq!((again.index(), again.generation()), (ids[1].index(), ids[1].generation() + 1));
        // One that was on its way to another connection when the list was made.
        table.give_back(ids[0].index());
        assert_eq!(insert(&table, 6).index(), 3);
        assert_eq!(table.insert(0, State::Admitting, grant(0), 0, NOW), Err(Reason::ConnectionsFull));
        let slot = table.find(ids[2]).unwrap();
        let panics = std::panic::AssertUnwindSafe(|| table.remove(ids[2], |_| panic!("as asked by the test")));
        assert!(std::panic::catch_unwind(panics).is_err() && !slot.record().is(ids[2].generation(), 0));
        assert_eq!(insert(&table, 7).index(), ids[2].index(), "a slot comes back whatever panics");
    }

    #[test]
    fn a_life_does_not_begin_live() {
        let table = table(1);
        assert_eq!(table.insert(0, State::Live, grant(0), 0, NOW), Err(Reason::FaultInternal));
        assert_eq!(table.len(), 0);
        insert(&table, 1);
    }

    #[test]
    fn slots_come_back_first_in_first_out() {
        let table = table(100);
        let ids: Vec<_> = (0..5).map(|n| insert(&table, n)).collect();
        for n in [3, 0, 4] {
            table.remove(ids[n], |cold| cold).unwrap();
        }
        let reused: Vec<_> = (0..4).map(|n| insert(&table, n).index()).collect();
        assert_eq!(reused, [3, 0, 4, 5]);
    }

    #[test]
    fn a_slot_is_retired_before_its_generation_wraps() {
        let table = table(1);
        let id = insert(&table, 1);
        table.remove(id, |cold| cold).unwrap();
        // Lead the slot to its last life.
        let record = &table.slot(0).unwrap().record;
        record.open(u32::MAX - 1, 0, State::Admitting, grant(0), NOW.mono).unwrap();
        record.transition(State::Free).unwrap();
        let last = insert(&table, 2);
        assert_eq!(last.generation(), u32::MAX);
        assert_eq!(table.remove(last, |cold| cold), Some(2));
        assert_eq!(table.insert(0, State::Admitting, grant(0), 0, NOW), Err(Reason::ConnectionsFull));
        assert!(table.find(last).is_none());
    }

    #[test]
    fn generations_begin_at_a_value_of_the_seed_and_never_at_zero() {
        let begins = |seed| (0..1000).map(|index| first_generation(seed, index)).collect::<Vec<_>>();
        let ours = begins(SEED);
        assert!(ours.iter().all(|&generation| (1..=1 << 31).contains(&generation)));
        for other in [begins([SEED[0] + 1, SEED[1]]), begins([SEED[0], SEED[1] + 2])] {
            let same = ours.iter().zip(&other).filter(|(a, b)| a == b).count();
            assert!(same < 5, "{same} of 1000 slots begin alike under another seed");
        }
    }

    #[test]
    fn a_walk_in_slices_meets_every_connection_once() {
        let table = table(5000);
        let ids: Vec<_> = (0..2500).map(|n| insert(&table, n)).collect();
        for id in ids.iter().step_by(2) {
            table.remove(*id, |cold| cold).unwrap();
        }
        assert_eq!(table.extent(), 2500);
        let mut met = Vec::new();
        for from in (0..table.extent()).step_by(700) {
            table.for_each(from..from + 700, |id, slot| met.push((id, *slot.lock(id).unwrap())));
        }
        let expected: Vec<_> = ids.iter().copied().zip(0..).skip(1).step_by(2).collect();
        assert_eq!(met, expected);
    }

    #[test]
    fn of_many_threads_that_remove_one_connection_one_gets_it() {
        let table = table(64);
        for round in 0..200 {
            let id = insert(&table, round);
            let won = AtomicUsize::new(0);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        if let Some(cold) = table.remove(id, |cold| cold) {
                            assert_eq!(cold, round);
                            won.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(won.into_inner(), 1);
        }
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn threads_that_open_and_end_never_meet_in_one_slot() {
        let table = table(8);
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let table = &table;
                scope.spawn(move || {
                    for n in 0..2000 {
                        let mine = thread << 16 | n;
                        let Ok(id) = table.insert(0, State::Admitting, grant(mine), mine, NOW) else { continue };
                        let slot = table.find(id).unwrap();
                        assert_eq!(slot.record().read(id.generation()).unwrap().grant, grant(mine));
                        assert_eq!(*slot.lock(id).unwrap(), mine);
                        assert_eq!(table.remove(id, |cold| cold), Some(mine));
                        assert!(table.find(id).is_none());
                    }
                });
            }
        });
        assert_eq!(table.len(), 0);
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u8),
        /// Of the handles issued so far, dead ones included.
        Remove(prop::sample::Index),
        Write(prop::sample::Index, u32),
        Close(prop::sample::Index),
        Forge(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => any::<u8>().prop_map(Op::Insert),
            2 => any::<prop::sample::Index>().prop_map(Op::Remove),
            1 => (any::<prop::sample::Index>(), any::<u32>()).prop_map(|(i, v)| Op::Write(i, v)),
            1 => any::<prop::sample::Index>().prop_map(Op::Close),
            1 => any::<u64>().prop_map(Op::Forge),
        ]
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_a_map(capacity in 1_usize..6, ops in prop::collection::vec(op(), 1..80)) {
            let table = table(capacity);
            let mut model: HashMap<ConnectionId, (u32, bool)> = HashMap::new();
            let mut issued: Vec<ConnectionId> = Vec::new();
            for (n, op) in ops.into_iter().enumerate() {
                let n = n as u32;
                match op {
                    Op::Insert(shard) => match table.insert(shard, State::Admitting, grant(n), n, NOW) {
                        Ok(id) => {
                            prop_assert!(model.len() < capacity);
                            prop_assert!(!issued.contains(&id), "a handle was issued twice");
                            prop_assert_eq!(id.shard(), shard);
                            model.insert(id, (n, false));
                            issued.push(id);
                        }
                        Err(reason) => {
                            prop_assert_eq!(reason, Reason::ConnectionsFull);
                            prop_assert_eq!(model.len(), capacity);
                        }
                    },
                    Op::Remove(at) if !issued.is_empty() => {
                        let id = *at.get(&issued);
                        prop_assert_eq!(table.remove(id, |cold| cold), model.remove(&id).map(|(cold, _)| cold));
                    }
                    Op::Write(at, value) if !issued.is_empty() => {
                        let id = *at.get(&issued);
                        let guard = table.find(id).and_then(|slot| slot.lock(id));
                        prop_assert_eq!(guard.is_some(), model.contains_key(&id));
                        if let Some(mut guard) = guard {
                            *guard = value;
                        }
                        model.entry(id).and_modify(|(cold, _)| *cold = value);
                    }
                    Op::Close(at) if !issued.is_empty() => {
                        let id = *at.get(&issued);
                        let closed = table.find(id).is_some_and(|slot| slot.record().close(id.generation()));
                        prop_assert_eq!(closed, model.get(&id).is_some_and(|(_, closed)| !closed));
                        model.entry(id).and_modify(|(_, closed)| *closed = true);
                    }
                    Op::Forge(raw) => {
                        let id = ConnectionId::from_u64(raw);
                        prop_assert_eq!(table.find(id).is_some(), model.contains_key(&id));
                    }
                    Op::Remove(_) | Op::Write(..) | Op::Close(_) => {}
                }
                prop_assert_eq!(table.len(), model.len());
                for id in &issued {
                    prop_assert_eq!(table.find(*id).is_some(), model.contains_key(id));
                }
                let mut met = HashMap::new();
                table.for_each(0..table.extent(), |id, slot| {
                    met.insert(id, (*slot.lock(id).unwrap(), slot.record().state() == State::Closing));
                });
                prop_assert_eq!(&met, &model);
            }
        }
    }
}
