//! This file answers: what does a message need to know about its connection, and how is that read without a lock?
//!
//! One atomic word W names the generation, a version, the state and the active one of two copies of the grant
//! (RULES 5). Writers hold the connection's lock, fill the copy that is not active and swap W; only `close` also
//! comes without the lock. A reader loads W, reads, loads W again, and uses nothing that was read under another W.
//!
//! Why the orderings suffice:
//! - W is always accessed with `SeqCst`. Its acquire half: a reader that sees a W sees the grant filled before it.
//!   Its single total order: admit writes W and then reads the revocation epoch, revoke writes the epoch and then
//!   reads W, both `SeqCst`, so at least one of them sees the other (RULES 4). A load costs no more for it on x86-64
//!   and one `ldar` on arm64, and writes of W are read-modify-writes anyway.
//! - The copies are stored with `Release` and loaded with `Acquire`. A copy is only refilled after W has moved away
//!   from it, so whoever reads a refilled field has synchronised with that move, and its next load of W differs from
//!   its first. This is what a seqlock needs fences for.
//! - The version has 24 bits: a reader would have to sleep through 2^24 changes of this one connection, inside one
//!   call, to mistake a new W for its old one. Between two lives the generation differs too.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::lifecycle::{State, may_move};
use crate::time::{MonoTime, Now, WallTime};

/// The bucket of a connection that has none yet.
pub(crate) const NO_BUCKET: u32 = u32::MAX;

/// How often one `read` starts again. Each new start means that a writer finished in between, and a peer gets
/// 6 refreshes a minute, so a second start is rare; the bound is there so that no caller can be held up for ever.
/// Running out reads as "not found", which allows nothing.
const READ_ATTEMPTS: usize = if cfg!(loom) { 2 } else { 64 };

/// How W is loaded and exchanged. The model checker gets the weaker orderings that the copies rely on: it gives
/// `SeqCst` more than the language does, and would hide a mistake in theirs.
const LOAD: Ordering = if cfg!(loom) { Ordering::Acquire } else { Ordering::SeqCst };
const EXCHANGE: Ordering = if cfg!(loom) { Ordering::AcqRel } else { Ordering::SeqCst };

/// What a connection may do and until when, as far as every message asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Over at this wall time, whatever the monotonic clock says (RULES 2).
    pub(crate) wall_expiry: WallTime,
    /// Over at this monotonic time, whatever the wall clock says.
    pub(crate) mono_expiry: MonoTime,
    /// The permission set, in the policy of `policy_epoch`.
    pub(crate) permission_set: u32,
    /// The policy for which this was compiled (RULES 6).
    pub(crate) policy_epoch: u32,
}

impl Grant {
    /// The grant of a connection that is not authenticated: over since ever, and no policy knows it.
    pub(crate) const DENYING: Grant =
        Grant { wall_expiry: WallTime(0), mono_expiry: MonoTime(0), permission_set: u32::MAX, policy_epoch: 0 };

    /// Whether it is over (RULES 2): by either clock.
    pub(crate) fn is_over(&self, now: Now) -> bool {
        now.wall >= self.wall_expiry || now.mono >= self.mono_expiry
    }
}

/// One consistent reading of a record. Worth nothing until [`Record::confirm`] said yes after the last decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    word: Word,
    /// The grant in force.
    pub(crate) grant: Grant,
    /// The message budget; [`NO_BUCKET`] before the user is known.
    pub(crate) bucket: u32,
}

/// The hot facts of one connection.
///
/// The fields that a message only reads fill the first 64 bytes exactly, one cache line where the slot aligns it;
/// those it writes stand behind them.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Record {
    word: AtomicU64,
    halves: [Half; 2],
    bucket: AtomicU32,
    shard: AtomicU8,
    /// A holder of the connection's lock panicked, and what it left was not repaired yet.
    dirty: AtomicU8,
    last_activity: AtomicU64,
    strikes: AtomicU64,
}

#[repr(C)]
#[derive(Debug)]
struct Half {
    wall_expiry: AtomicU64,
    mono_expiry: AtomicU64,
    /// Permission set in the low half, policy epoch in the high half.
    set_and_epoch: AtomicU64,
}

/// W: generation 32 bits, version 24, state 4, three unused, half 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

impl Record {
    /// A record of a slot that was never used: generation zero, free.
    pub(crate) fn new() -> Record {
        Record {
            word: AtomicU64::new(0),
            halves: [Half::new(), Half::new()],
            bucket: AtomicU32::new(NO_BUCKET),
            shard: AtomicU8::new(0),
            dirty: AtomicU8::new(0),
            last_activity: AtomicU64::new(0),
            strikes: AtomicU64::new(0),
        }
    }

    /// Reads the record in the life `generation`; `None` when that life is over or never was.
    ///
    /// Any other state than `Live` in the answer allows nothing. No lock, no allocation.
    pub(crate) fn read(&self, generation: u32) -> Option<Snapshot> {
        let mut word = self.word();
        for _ in 0..READ_ATTEMPTS {
            if word.generation() != generation || word.state() == State::Free {
                return None;
            }
            let grant = self.half(word.half()).load();
            let bucket = self.bucket.load(Ordering::Acquire);
            let again = self.word();
            if again == word {
                return Some(Snapshot { word, grant, bucket });
            }
            word = again;
        }
        None
    }

    /// Whether nothing changed since `snapshot`. The last question before OK: no commit, revocation or close that
    /// was finished by now went unseen.
    pub(crate) fn confirm(&self, snapshot: &Snapshot) -> bool {
        self.word() == snapshot.word
    }

    /// Whether the record is in the life `generation` on `shard`.
    pub(crate) fn is(&self, generation: u32, shard: u8) -> bool {
        let word = self.word();
        // The shard may be that of a later life if the slot is reused between the two loads; then no reading of
        // this generation succeeds any more.
        word.generation() == generation && word.state() != State::Free && self.shard.load(Ordering::Acquire) == shard
    }

    /// The generation and the shard of the present life; `None` when free.
    pub(crate) fn occupant(&self) -> Option<(u32, u8)> {
        let word = self.word();
        let shard = self.shard.load(Ordering::Acquire);
        (word.state() != State::Free).then(|| (word.generation(), shard))
    }

    /// The state, of whichever life.
    pub(crate) fn state(&self) -> State {
        self.word().state()
    }

    /// The last generation, also of a free record; zero when never used.
    pub(crate) fn generation(&self) -> u32 {
        self.word().generation()
    }

    /// Closes the life `generation` without the connection's lock. True if this call did it, false when it was
    /// closing, free or another life already.
    ///
    /// After it returns no `confirm` succeeds on anything read before, and what is read later is `Closing`.
    pub(crate) fn close(&self, generation: u32) -> bool {
        self.change(|word| match word.state() {
            state if word.generation() != generation => Err(state),
            state if !may_move(state, State::Closing) => Err(state),
            _ => Ok(word.with_state(State::Closing)),
        })
        .is_ok()
    }

    /// The holder of the connection's lock panicks: from here on nothing is allowed, not even to a call that reads no
    /// lock (RULES 43). The lock is still held.
    pub(crate) fn spoil(&self, generation: u32) {
        self.dirty.store(1, Ordering::Release);
        self.close(generation);
    }

    /// Whether what the connection's lock guards may be half written.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire) != 0
    }

    /// What the lock guards is sound again; the connection stays closed. The caller holds the lock.
    pub(crate) fn call_sound(&self) {
        self.dirty.store(0, Ordering::Release);
    }

    /// Notes activity. A call that outlives its connection may mark the next life of the slot, which only says that
    /// the new connection was active at a moment when it was new.
    pub(crate) fn touch(&self, now: MonoTime) {
        // Most messages of a busy connection fall into one millisecond: then the line stays clean.
        if self.last_activity.load(Ordering::Relaxed) < now.0 {
            self.last_activity.store(now.0, Ordering::Relaxed);
        }
    }

    /// When the connection was last active.
    pub(crate) fn last_activity(&self) -> MonoTime {
        MonoTime(self.last_activity.load(Ordering::Relaxed))
    }

    /// Counts one rate refusal and returns how many there were in the last `window_ms` (at most 2^30), this one
    /// included: exactly within the present period, and of the period before the share that the window still covers.
    pub(crate) fn strike(&self, now: MonoTime, window_ms: u32) -> u32 {
        // Start of the period in the high half, modulo 2^32 ms; then the counts of the one before and of this one.
        let now = now.0 as u32;
        let step = |packed: u64| {
            let (start, before, count) = ((packed >> 32) as u32, (packed >> 16) as u16, packed as u16);
            let elapsed = now.wrapping_sub(start);
            let (start, before, count) = match elapsed {
                _ if count == 0 => (now, 0, 0),
                // A thread with a clock reading from a moment ago counts in the present period.
                elapsed if elapsed < window_ms || elapsed > u32::MAX / 2 => (start, before, count),
                elapsed if elapsed / 2 < window_ms => (start.wrapping_add(window_ms), count, 0),
                _ => (now, 0, 0),
            };
            (u64::from(start) << 32) | (u64::from(before) << 16) | u64::from(count.saturating_add(1))
        };
        let packed = self.strikes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| Some(step(packed)));
        // The step above never declines, so both arms hold the value it was given.
        let (Ok(packed) | Err(packed)) = packed;
        let packed = step(packed);
        let (start, before, count) = ((packed >> 32) as u32, (packed >> 16) as u16, packed as u16);
        let elapsed = now.wrapping_sub(start);
        let covered = if elapsed > u32::MAX / 2 { window_ms } else { window_ms.saturating_sub(elapsed) };
        let share = u64::from(before).saturating_mul(u64::from(covered)).checked_div(u64::from(window_ms)).unwrap_or(0);
        u32::from(count).saturating_add(share as u32)
    }

    /// Begins a life. The caller holds the lock of a slot that it owns and that is free.
    ///
    /// # Refusals
    ///
    /// The state found, when a life may not begin with `state` or the record is not free.
    pub(crate) fn open(
        &self,
        generation: u32,
        shard: u8,
        state: State,
        grant: Grant,
        now: MonoTime,
    ) -> Result<(), State> {
        let old = self.word();
        if old.state() != State::Free || !may_move(State::Free, state) {
            return Err(old.state());
        }
        let half = old.half() ^ 1;
        self.half(half).fill(grant);
        self.bucket.store(NO_BUCKET, Ordering::Release);
        self.shard.store(shard, Ordering::Release);
        self.call_sound();
        self.strikes.store(0, Ordering::Relaxed);
        self.last_activity.store(now.0, Ordering::Relaxed);
        self.change(|word| {
            if word == old {
                Ok(word.with_half(half).with_state(state).with_generation(generation))
            } else {
                Err(word.state())
            }
        })
    }

    /// Puts a new grant in force. The caller holds the connection's lock.
    ///
    /// # Refusals
    ///
    /// The state found, when the connection is closing or free; the old grant stays.
    pub(crate) fn commit(&self, grant: Grant) -> Result<(), State> {
        // Only holders of the lock move the half, so it is stable here; `close` may move the state at any time.
        let half = self.word().half() ^ 1;
        self.half(half).fill(grant);
        self.change(|word| match word.state() {
            state @ (State::Free | State::Closing) => Err(state),
            _ => Ok(word.with_half(half)),
        })
    }

    /// Moves to another state. The caller holds the connection's lock.
    ///
    /// # Refusals
    ///
    /// The state found, when the move is not legal from there.
    pub(crate) fn transition(&self, to: State) -> Result<(), State> {
        self.change(|word| match word.state() {
            // Out of `Free` leads `open` alone, which also counts the generation.
            State::Free => Err(State::Free),
            state if may_move(state, to) => Ok(word.with_state(to)),
            state => Err(state),
        })
    }

    /// The grant in force. The caller holds the connection's lock.
    pub(crate) fn grant(&self) -> Grant {
        self.half(self.word().half()).load()
    }

    /// Names the message budget. The caller holds the connection's lock and has not made it live yet; fixed then
    /// for the life.
    pub(crate) fn assign_bucket(&self, bucket: u32) {
        self.bucket.store(bucket, Ordering::Release);
    }

    /// Sets W to what `step` makes of it, with a new version, as one read-modify-write.
    ///
    /// Terminates: under the lock only one `close` a life can come between; without it a failed exchange means that
    /// another writer finished.
    fn change(&self, step: impl Fn(Word) -> Result<Word, State>) -> Result<(), State> {
        let mut word = self.word();
        loop {
            let next = step(word)?.with_next_version();
            match self.word.compare_exchange(word.0, next.0, EXCHANGE, LOAD) {
                Ok(_) => return Ok(()),
                Err(found) => word = Word(found),
            }
        }
    }

    fn word(&self) -> Word {
        Word(self.word.load(LOAD))
    }

    fn half(&self, half: u64) -> &Half {
        let [even, odd] = &self.halves;
        if half == 0 { even } else { odd }
    }
}

impl Snapshot {
    /// The state at the reading.
    pub(crate) fn state(&self) -> State {
        self.word.state()
    }
}

impl Half {
    fn new() -> Half {
        Half { wall_expiry: AtomicU64::new(0), mono_expiry: AtomicU64::new(0), set_and_epoch: AtomicU64::new(0) }
    }

    fn fill(&self, grant: Grant) {
        self.wall_expiry.store(grant.wall_expiry.0, Ordering::Release);
        self.mono_expiry.store(grant.mono_expiry.0, Ordering::Release);
        let set_and_epoch = u64::from(grant.permission_set) | (u64::from(grant.policy_epoch) << 32);
        self.set_and_epoch.store(set_and_epoch, Ordering::Release);
    }

    fn load(&self) -> Grant {
        let wall_expiry = WallTime(self.wall_expiry.load(Ordering::Acquire));
        let mono_expiry = MonoTime(self.mono_expiry.load(Ordering::Acquire));
        let set_and_epoch = self.set_and_epoch.load(Ordering::Acquire);
        Grant {
            wall_expiry,
            mono_expiry,
            permission_set: set_and_epoch as u32,
            policy_epoch: (set_and_epoch >> 32) as u32,
        }
    }
}

impl Word {
    const HALF: u64 = 1;
    const STATE: u64 = 0xf << 4;
    const VERSION: u64 = 0xff_ffff << 8;
    const GENERATION: u64 = 0xffff_ffff << 32;

    const fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    const fn state(self) -> State {
        State::from_bits(((self.0 & Word::STATE) >> 4) as u8)
    }

    const fn half(self) -> u64 {
        self.0 & Word::HALF
    }

    const fn with_generation(self, generation: u32) -> Word {
        Word(self.0 & !Word::GENERATION | (generation as u64) << 32)
    }

    const fn with_state(self, state: State) -> Word {
        Word(self.0 & !Word::STATE | (state.bits() as u64) << 4)
    }

    const fn with_half(self, half: u64) -> Word {
        Word(self.0 & !Word::HALF | half & Word::HALF)
    }

    const fn with_next_version(self) -> Word {
        Word(self.0 & !Word::VERSION | self.0.wrapping_add(1 << 8) & Word::VERSION)
    }
}

#[cfg(not(loom))]
#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grant(n: u32) -> Grant {
        let long = u64::from(n);
        Grant { wall_expiry: WallTime(long), mono_expiry: MonoTime(long), permission_set: n, policy_epoch: n }
    }

    fn live(generation: u32) -> Record {
        let record = Record::new();
        record.open(generation, 3, State::Admitting, grant(1), MonoTime(10)).unwrap();
        record.transition(State::Live).unwrap();
        record
    }

    #[test]
    fn what_a_message_reads_is_one_cache_line() {
        assert_eq!(std::mem::offset_of!(Record, last_activity), 64);
        assert_eq!(std::mem::size_of::<Record>(), 80);
    }

    #[test]
    fn only_the_present_life_is_read() {
        let record = live(7);
        let snapshot = record.read(7).unwrap();
        assert_eq!((snapshot.state(), snapshot.grant, snapshot.bucket), (State::Live, grant(1), NO_BUCKET));
        assert!(record.confirm(&snapshot));
        assert_eq!((record.read(6), record.read(8), record.read(0)), (None, None, None));
        assert!(record.is(7, 3) && !record.is(7, 4) && !record.is(8, 3));

        record.transition(State::Free).unwrap();
        assert_eq!(record.read(7), None);
        assert_eq!(record.occupant(), None);
        assert!(!record.confirm(&snapshot));
    }

    #[test]
    fn a_never_used_record_is_no_life_of_generation_zero() {
        let record = Record::new();
        assert_eq!(record.read(0), None);
        assert!(!record.is(0, 0));
        assert!(!record.close(0));
    }

    #[test]
    fn a_commit_replaces_the_grant_and_unsettles_readers() {
        let record = live(7);
        for n in 2..9 {
            let before = record.read(7).unwrap();
            record.commit(grant(n)).unwrap();
            assert!(!record.confirm(&before));
            assert_eq!(record.read(7).unwrap().grant, grant(n));
            assert_eq!(record.grant(), grant(n));
        }
    }

    #[test]
    fn closing_is_final_and_happens_once() {
        let record = live(7);
        let before = record.read(7).unwrap();
        assert!(!record.close(8));
        assert!(record.confirm(&before));
        assert!(record.close(7));
        assert!(!record.close(7));
        assert!(!record.confirm(&before));
        assert_eq!(record.read(7).unwrap().state(), State::Closing);
        assert_eq!(record.commit(grant(2)), Err(State::Closing));
        assert_eq!(record.transition(State::Live), Err(State::Closing));
        assert_eq!(record.grant(), grant(1));
    }

    #[test]
    fn a_life_begins_only_on_a_free_record_and_never_live() {
        let record = Record::new();
        assert_eq!(record.transition(State::Admitting), Err(State::Free));
        assert_eq!(record.open(7, 0, State::Live, grant(1), MonoTime(0)), Err(State::Free));
        record.open(7, 0, State::AwaitingAuth, grant(1), MonoTime(0)).unwrap();
        assert_eq!(record.open(8, 0, State::Admitting, grant(1), MonoTime(0)), Err(State::AwaitingAuth));
        assert_eq!(record.transition(State::Live), Err(State::AwaitingAuth));
        assert_eq!(record.generation(), 7);
    }

    #[test]
    fn a_new_life_forgets_the_counters_of_the_old() {
        let record = live(7);
        record.assign_bucket(5);
        record.strike(MonoTime(20), 60_000);
        record.touch(MonoTime(500));
        assert_eq!(record.read(7).unwrap().bucket, 5);
        record.transition(State::Free).unwrap();
        record.open(8, 1, State::Admitting, grant(2), MonoTime(400)).unwrap();
        let snapshot = record.read(8).unwrap();
        assert_eq!((snapshot.bucket, snapshot.grant), (NO_BUCKET, grant(2)));
        assert_eq!(record.last_activity(), MonoTime(400));
        assert_eq!(record.strike(MonoTime(410), 60_000), 1);
        assert_eq!(record.occupant(), Some((8, 1)));
    }

    #[test]
    fn activity_never_moves_backwards() {
        let record = live(7);
        record.touch(MonoTime(50));
        record.touch(MonoTime(40));
        assert_eq!(record.last_activity(), MonoTime(50));
    }

    #[test]
    fn strikes_count_over_a_sliding_window() {
        let record = live(7);
        assert_eq!(record.strike(MonoTime(0), 1000), 1);
        assert_eq!(record.strike(MonoTime(999), 1000), 2);
        // A thread with a clock reading from a moment ago does not start the count anew.
        assert_eq!(record.strike(MonoTime(998), 1000), 3);
        // At the edge the period before still counts in full, later by its share, then not at all.
        assert_eq!(record.strike(MonoTime(1000), 1000), 4);
        assert_eq!(record.strike(MonoTime(1500), 1000), 2 + 1);
        assert_eq!(record.strike(MonoTime(1999), 1000), 3);
        assert_eq!(record.strike(MonoTime(4000), 1000), 1);
        // Over the end of the truncated clock.
        let edge = u64::from(u32::MAX);
        let record = live(7);
        assert_eq!(record.strike(MonoTime(edge), 1000), 1);
        assert_eq!(record.strike(MonoTime(edge + 10), 1000), 2);
    }

    #[test]
    fn no_edge_doubles_the_strikes() {
        let record = live(7);
        let mut most = 0;
        for number in 0..198u64 {
            // 99 at the end of one minute, 99 at the beginning of the next.
            let at = if number == 0 { 0 } else { 59_000 + number * 10 };
            most = most.max(record.strike(MonoTime(at), 60_000));
        }
        assert!(most >= 190, "{most}");
    }

    proptest! {
        #[test]
        fn the_parts_of_the_word_do_not_touch_each_other(raw: u64, generation: u32, half in 0_u64..2, state in 0_u8..6) {
            let state = State::from_bits(state);
            let word = Word(raw);
            let next = word.with_generation(generation).with_state(state).with_half(half);
            prop_assert_eq!((next.generation(), next.state(), next.half()), (generation, state, half));
            prop_assert_eq!(next.0 & Word::VERSION, raw & Word::VERSION);
            let bumped = word.with_next_version();
            prop_assert_eq!(bumped.0 & !Word::VERSION, raw & !Word::VERSION);
            prop_assert_ne!(bumped.0, raw);
        }
    }
}
