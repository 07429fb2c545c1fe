//! This file answers: whose deadline comes next, and whose has come?
//!
//! A hierarchical timing wheel with ticks of 1 ms. Level n has 64 slots of 64^n ms; an entry stands on the level of
//! the highest digit (base 64) in which its deadline differs from the wheel's time, so that it moves down at most
//! once a level. Eleven levels span all of 64 bits: no deadline is out of range, from whatever origin time is counted.

use super::sparse::Sparse;
use crate::time::MonoTime;

const DIGIT: u32 = 6;
const SLOTS: usize = 1 << DIGIT;
const LAST_SLOT: u64 = SLOTS as u64 - 1;
const LEVELS: usize = 64_u32.div_ceil(DIGIT) as usize;
const NIL: u32 = u32::MAX;

/// One deadline for each connection of a shard. Bounded by the number of connections.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// All entries with an earlier deadline were handed out; never goes back.
    elapsed: u64,
    levels: [Level; LEVELS],
    entries: Sparse<Entry>,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Level {
    /// One bit for each slot with entries.
    occupied: u64,
    /// First entry of each slot's circular list.
    heads: [u32; SLOTS],
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    deadline: u64,
    generation: u32,
    next: u32,
    prev: u32,
    place: Option<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    level: u8,
    slot: u8,
}

impl Default for Entry {
    fn default() -> Entry {
        Entry { deadline: 0, generation: 0, next: NIL, prev: NIL, place: None }
    }
}

impl Wheel {
    /// An empty wheel. `now` only saves the first cascades; any value is right.
    pub(crate) fn new(now: MonoTime) -> Wheel {
        Wheel {
            elapsed: now.0,
            levels: [Level { occupied: 0, heads: [NIL; SLOTS] }; LEVELS],
            entries: Sparse::default(),
            len: 0,
        }
    }

    /// Sets the deadline of a connection, in place of the one it had. A deadline that has passed is due at once,
    /// `NEVER` takes the entry out. A generation earlier than the last one seen at this index changes nothing: its
    /// connection has ended. Constant time.
    pub(crate) fn set(&mut self, index: u32, generation: u32, deadline: MonoTime) {
        let Some(entry) = self.entries.make(index) else { return };
        if generation < entry.generation {
            return;
        }
        let filed = entry.place.is_some() && entry.deadline == deadline.0;
        entry.generation = generation;
        if filed {
            return;
        }
        self.unlink(index);
        if deadline != MonoTime::NEVER {
            self.link(index, deadline.0);
        }
    }

    /// Takes the deadline of a connection out. Of an earlier generation than the last one seen: nothing.
    pub(crate) fn cancel(&mut self, index: u32, generation: u32) {
        self.set(index, generation, MonoTime::NEVER);
    }

    /// How many connections have a deadline.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// When to call [`poll_due`](Wheel::poll_due) next; `None` without entries.
    ///
    /// Never later than the nearest deadline. Exact when that stands within the present 64 ms; else it is the
    /// begin of the nearest slot, at which a poll moves the slot's entries nearer, so that whoever sleeps from one
    /// answer to the next wakes at most ten times before a deadline, and then exactly at it.
    pub(crate) fn next_deadline(&self) -> Option<MonoTime> {
        self.next_slot().map(|(_, begin)| MonoTime(begin))
    }

    /// Hands out entries whose deadline is at or before `now` and takes them out of the wheel, `budget` entry moves
    /// at most. True when more may be due: call again, soon, with the same or a later `now`.
    ///
    /// A `now` before the last one counts as the last one. Cost: `budget` constant-time moves, whatever the time
    /// that has passed.
    pub(crate) fn poll_due(&mut self, now: MonoTime, budget: usize, mut due: impl FnMut(u32, u32)) -> bool {
        let now = now.0.max(self.elapsed);
        let mut left = budget;
        while let Some((place, begin)) = self.next_slot() {
            if begin > now {
                break;
            }
            let Some(rest) = left.checked_sub(1) else { return true };
            left = rest;
            // INVARIANT: nothing is filed before `begin`, so no entry is left behind.
            self.elapsed = begin;
            let Some(index) = self.head(place) else { break };
            self.unlink(index);
            let Some(entry) = self.entries.get(index) else { break };
            if entry.deadline <= now {
                due(index, entry.generation);
            } else {
                // A digit now agrees that did not before: a lower level.
                self.link(index, entry.deadline);
            }
        }
        self.elapsed = now;
        false
    }

    /// The slot to empty next and when it begins.
    fn next_slot(&self) -> Option<(Place, u64)> {
        // A slot above level 0 that time has reached is being emptied; what it still holds may be the earliest.
        let digits = || (0_u8..).zip(&self.levels).map(|(number, level)| (number, level, digit(self.elapsed, number)));
        let reached = digits().skip(1).find(|(_, level, digit)| level.occupied & bit(*digit) != 0);
        if let Some((number, _, digit)) = reached {
            return Some((Place { level: number, slot: digit }, self.elapsed));
        }
        // Else the lowest level with entries has the earliest ones: they agree with `elapsed` in all higher digits.
        let (number, level, digit) = digits().find(|(_, level, _)| level.occupied != 0)?;
        let ahead = level.occupied >> digit;
        let slot = digit.saturating_add(ahead.trailing_zeros() as u8);
        Some((Place { level: number, slot }, begin(self.elapsed, Place { level: number, slot })))
    }

    fn head(&self, place: Place) -> Option<u32> {
        let head = *self.levels.get(usize::from(place.level))?.heads.get(usize::from(place.slot))?;
        (head != NIL).then_some(head)
    }

    /// Sets the first entry of a slot and with it the slot's bit.
    fn set_head(&mut self, place: Place, head: u32) {
        let Some(level) = self.levels.get_mut(usize::from(place.level)) else { return };
        let Some(slot) = level.heads.get_mut(usize::from(place.slot)) else { return };
        *slot = head;
        level.occupied = if head == NIL { level.occupied & !bit(place.slot) } else { level.occupied | bit(place.slot) };
    }

    /// Files an unfiled entry as the last of its slot; the first are served first.
    fn link(&mut self, index: u32, deadline: u64) {
        // What has passed stands in the present slot.
        let place = place(self.elapsed, deadline.max(self.elapsed));
        let (mut next, mut prev) = (index, index);
        if let Some(head) = self.head(place) {
            next = head;
            if let Some(first) = self.entries.get_mut(head) {
                prev = std::mem::replace(&mut first.prev, index);
            }
            if let Some(last) = self.entries.get_mut(prev) {
                last.next = index;
            }
        } else {
            self.set_head(place, index);
        }
        let Some(entry) = self.entries.get_mut(index) else { return };
        *entry = Entry { deadline, generation: entry.generation, next, prev, place: Some(place) };
        self.len = self.len.saturating_add(1);
    }

    /// Takes an entry out of its slot, if it is in one.
    fn unlink(&mut self, index: u32) {
        let Some(entry) = self.entries.get_mut(index) else { return };
        let Some(place) = entry.place.take() else { return };
        let (next, prev) = (entry.next, entry.prev);
        if let Some(entry) = self.entries.get_mut(next) {
            entry.prev = prev;
        }
        if let Some(entry) = self.entries.get_mut(prev) {
            entry.next = next;
        }
        if next == index {
            self.set_head(place, NIL);
        } else if self.head(place) == Some(index) {
            self.set_head(place, next);
        }
        self.len = self.len.saturating_sub(1);
    }
}

/// Where a deadline is filed that is not before `elapsed`.
fn place(elapsed: u64, deadline: u64) -> Place {
    let level = (elapsed ^ deadline).checked_ilog2().map_or(0, |highest| (highest / DIGIT) as u8);
    Place { level, slot: digit(deadline, level) }
}

/// When the slot begins, seen from `elapsed`, with which it shares all higher digits.
fn begin(elapsed: u64, place: Place) -> u64 {
    let shift = u32::from(place.level).saturating_mul(DIGIT);
    let below = elapsed.checked_shr(shift.saturating_add(DIGIT)).unwrap_or(0);
    let higher = below.checked_shl(shift.saturating_add(DIGIT)).unwrap_or(0);
    higher | u64::from(place.slot).checked_shl(shift).unwrap_or(0)
}

/// The digit of `time` that belongs to a level; below 64.
fn digit(time: u64, level: u8) -> u8 {
    let shifted = time.checked_shr(u32::from(level).saturating_mul(DIGIT)).unwrap_or(0);
    (shifted & LAST_SLOT) as u8
}

fn bit(slot: u8) -> u64 {
    1_u64.checked_shl(u32::from(slot)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const DAY: u64 = 86_400_000;
    const YEAR: u64 = 365 * DAY;

    fn poll(wheel: &mut Wheel, now: u64, budget: usize) -> (Vec<u32>, bool) {
        let mut due = Vec::new();
        let more = wheel.poll_due(MonoTime(now), budget, |index, _| due.push(index));
        (due, more)
    }

    #[test]
    fn nothing_is_due_early_and_everything_on_the_tick() {
        for deadline in [1, 63, 64, 65, 4095, 4096, 4097, 1_800_000, DAY, 10 * YEAR, u64::MAX - 1] {
            let mut wheel = Wheel::new(MonoTime(0));
            wheel.set(3, 1, MonoTime(deadline));
            assert_eq!(poll(&mut wheel, deadline - 1, 100), (vec![], false), "{deadline}");
            assert_eq!(poll(&mut wheel, deadline, 100), (vec![3], false), "{deadline}");
            assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
        }
    }

    #[test]
    fn a_deadline_across_any_digit_is_kept_from_any_origin() {
        for origin in [0, 63, 4095, (1 << 42) - 1, (1 << 60) - 1, u64::MAX - 400_000] {
            let mut wheel = Wheel::new(MonoTime(origin));
            wheel.set(0, 1, MonoTime(origin + 300_000));
            assert_eq!(poll(&mut wheel, origin + 299_999, 100), (vec![], false), "{origin}");
            assert_eq!(poll(&mut wheel, origin + 300_000, 100), (vec![0], false), "{origin}");
        }
    }

    #[test]
    fn the_past_is_due_at_once_and_never_is_never() {
        let mut wheel = Wheel::new(MonoTime(1000));
        wheel.set(0, 1, MonoTime(5));
        wheel.set(1, 1, MonoTime::NEVER);
        assert_eq!((wheel.len(), wheel.next_deadline()), (1, Some(MonoTime(1000))));
        assert_eq!(poll(&mut wheel, 1000, 10), (vec![0], false));
        assert_eq!(poll(&mut wheel, u64::MAX, 10), (vec![], false));
        // At the end of time all that is set is due.
        wheel.set(2, 1, MonoTime(7));
        assert_eq!(poll(&mut wheel, u64::MAX, 10), (vec![2], false));
    }

    #[test]
    fn a_clock_that_stands_or_reads_behind_loses_nothing() {
        let mut wheel = Wheel::new(MonoTime(100));
        wheel.set(0, 1, MonoTime(150));
        assert_eq!(poll(&mut wheel, 140, 10), (vec![], false));
        wheel.set(1, 1, MonoTime(120));
        // Another thread read its clock a moment earlier.
        assert_eq!(poll(&mut wheel, 130, 10), (vec![1], false));
        assert_eq!(poll(&mut wheel, 140, 10), (vec![], false));
        assert_eq!(poll(&mut wheel, 150, 10), (vec![0], false));
    }

    #[test]
    fn the_later_deadline_and_the_later_generation_hold() {
        let mut wheel = Wheel::new(MonoTime(0));
        wheel.set(0, 5, MonoTime(100));
        wheel.set(0, 5, MonoTime(300));
        assert_eq!(poll(&mut wheel, 200, 10), (vec![], false));
        // What a thread still does for the life that ended must not touch the next one.
        wheel.set(0, 4, MonoTime(250));
        wheel.cancel(0, 4);
        let mut due = Vec::new();
        wheel.poll_due(MonoTime(300), 10, |index, generation| due.push((index, generation)));
        assert_eq!(due, [(0, 5)]);
        wheel.set(0, 5, MonoTime(400));
        wheel.set(0, 6, MonoTime(400));
        wheel.poll_due(MonoTime(400), 10, |index, generation| due.push((index, generation)));
        assert_eq!(due, [(0, 5), (0, 6)]);
    }

    #[test]
    fn a_crowd_at_one_tick_comes_in_slices() {
        let mut wheel = Wheel::new(MonoTime(0));
        for index in 0..50_000 {
            wheel.set(index, 1, MonoTime(DAY));
        }
        // On the way down, each entry moves once a level, and no call moves more than its budget.
        let (mut seen, mut calls) = (vec![false; 50_000], 0);
        loop {
            let (due, more) = poll(&mut wheel, DAY, 1000);
            assert!(due.len() <= 1000);
            for index in due {
                assert!(!std::mem::replace(&mut seen[index as usize], true), "handed out twice");
            }
            calls += 1;
            if !more {
                break;
            }
        }
        assert!(seen.iter().all(|&seen| seen));
        assert!(calls <= 51, "{calls} calls");
    }

    #[test]
    fn an_early_entry_is_not_passed_over_while_its_slot_is_half_emptied() {
        let mut wheel = Wheel::new(MonoTime(0));
        for index in 0..10 {
            wheel.set(index, 1, MonoTime(64 + u64::from(10 - index)));
        }
        assert_eq!(poll(&mut wheel, 64, 3), (vec![], true));
        assert!(wheel.next_deadline().unwrap() <= MonoTime(65));
        wheel.set(20, 1, MonoTime(70));
        let mut due = Vec::new();
        while poll(&mut wheel, 69, 3).1 {}
        wheel.set(9, 1, MonoTime(65));
        wheel.poll_due(MonoTime(70), 100, |index, _| due.push(index));
        due.sort_unstable();
        assert_eq!(due, [4, 9, 20]);
    }

    #[test]
    fn with_no_budget_nothing_moves() {
        let mut wheel = Wheel::new(MonoTime(0));
        assert_eq!(poll(&mut wheel, 5, 0), (vec![], false));
        wheel.set(0, 1, MonoTime(10));
        assert_eq!(poll(&mut wheel, 10, 0), (vec![], true));
        assert_eq!(poll(&mut wheel, 10, 1), (vec![0], false));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Set { index: u32, ahead: u64, behind: u64 },
        Cancel { index: u32 },
        Reuse { index: u32 },
        Advance { by: u64, budget: usize },
    }

    fn span() -> impl Strategy<Value = u64> {
        prop_oneof![0..3_u64, 0..200_u64, 0..10_000_u64, 0..20 * DAY, 0..20 * YEAR]
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..12_u32, span(), prop_oneof![4 => Just(0), 1 => span()])
                .prop_map(|(index, ahead, behind)| Op::Set { index, ahead, behind }),
            1 => (0..12_u32).prop_map(|index| Op::Cancel { index }),
            1 => (0..12_u32).prop_map(|index| Op::Reuse { index }),
            3 => (span(), 0..6_usize).prop_map(|(by, budget)| Op::Advance { by, budget }),
        ]
    }

    proptest! {
        #[test]
        fn the_wheel_agrees_with_a_map(origin in span(), ops in prop::collection::vec(op(), 1..120)) {
            let mut wheel = Wheel::new(MonoTime(origin));
            let (mut now, mut generations) = (origin, [1_u32; 12]);
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            for op in ops {
                match op {
                    Op::Set { index, ahead, behind } => {
                        let deadline = (now + ahead).saturating_sub(behind);
                        wheel.set(index, generations[index as usize], MonoTime(deadline));
                        model.insert(index, deadline);
                    }
                    Op::Cancel { index } => {
                        wheel.cancel(index, generations[index as usize]);
                        model.remove(&index);
                    }
                    Op::Reuse { index } => {
                        generations[index as usize] += 1;
                        wheel.set(index, generations[index as usize], MonoTime(now));
                        model.insert(index, now);
                    }
                    Op::Advance { by, budget } => {
                        now += by;
                        let mut due = Vec::new();
                        let more = wheel.poll_due(MonoTime(now), budget, |index, generation| due.push((index, generation)));
                        prop_assert!(due.len() <= budget);
                        for (index, generation) in due {
                            prop_assert_eq!(generation, generations[index as usize]);
                            let deadline = model.remove(&index);
                            prop_assert!(deadline.is_some_and(|deadline| deadline <= now), "{:?} at {}", deadline, now);
                        }
                        if !more {
                            prop_assert!(model.values().all(|&deadline| deadline > now), "left behind at {}", now);
                        }
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let nearest = model.values().min().map(|&deadline| deadline.max(now));
                let next = wheel.next_deadline().map(|next| next.0);
                prop_assert_eq!(next.is_some(), nearest.is_some());
                prop_assert!(next <= nearest, "{:?} is later than {:?}", next, nearest);
            }
            // All that is left comes, each at a bounded number of moves.
            let mut calls = 0;
            while wheel.poll_due(MonoTime(u64::MAX - 1), 1, |index, _| { model.remove(&index); }) {
                calls += 1;
                prop_assert!(calls <= 12);
            }
            prop_assert!(model.is_empty());
        }

        #[test]
        fn whoever_sleeps_until_the_next_deadline_wakes_exactly_at_each(
            origin in span(),
            spans in prop::collection::vec(span(), 1..20),
        ) {
            let mut wheel = Wheel::new(MonoTime(origin));
            let deadlines: Vec<u64> = spans.iter().map(|span| origin + span).collect();
            for (index, deadline) in (0..).zip(&deadlines) {
                wheel.set(index, 1, MonoTime(*deadline));
            }
            let (mut woken, mut come) = (0, 0);
            while let Some(next) = wheel.next_deadline() {
                woken += 1;
                wheel.poll_due(next, 1000, |index, _| {
                    come += 1;
                    assert_eq!(deadlines[index as usize], next.0);
                });
            }
            prop_assert_eq!(come, deadlines.len());
            prop_assert!(woken <= come * LEVELS);
        }
    }
}
