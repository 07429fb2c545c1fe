//! This file answers: what waits on one shard, and must its poller be woken?
//!
//! A shard is an outbox and a wheel, nothing more (RULES 40). The core has no descriptor: calls that may end a
//! poller's sleep return whether they do, and the engine then calls the waker that the runtime gave it.
//!
//! The protocol of a poller, so that no wake-up is lost: `begin_poll`; clear the descriptor; take what is due and
//! ready; `finish`; make the descriptor readable if it says so; sleep until its deadline. Between `begin_poll` and
//! `finish` nothing wakes, as `finish` reports all that has come by then.

use crate::dirty::{Lock, Sound, mark};
use std::sync::atomic::{AtomicBool, Ordering};

use super::ready::ReadyList;
use super::wheel::Wheel;
use crate::connection::ConnectionId;
use crate::decision::Reason;
use crate::time::MonoTime;

/// The room of one reactor: connections opened on it are scheduled and reported on it.
///
/// Every method takes the shard's lock for a bounded time. To schedule or enqueue for a connection while its own
/// lock is held is right, and keeps its end from coming between; the other order is not.
#[derive(Debug)]
pub(crate) struct Shard {
    number: u8,
    inner: Lock<Inner>,
    /// Connections were taken as due and not served.
    unserved: AtomicBool,
}

/// Connections taken as due are being served. Dropped by a panic, those not served yet are lost from the wheel, and the
/// shard says so.
#[derive(Debug)]
#[must_use]
pub(crate) struct Serving<'a> {
    shard: &'a Shard,
    sound: Sound,
}

/// What of a shard must be filed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Nothing.
    Nothing,
    /// Deadlines of some connections.
    Deadlines,
    /// Whatever waited; the shard was left dirty and is empty now.
    Everything,
}

/// One poll of a shard; there is at most one at a time. Dropped without `finish`, as after a panic, it ends the poll
/// and the next call that has news wakes again.
#[derive(Debug)]
#[must_use]
pub(crate) struct Poll<'a> {
    shard: &'a Shard,
    begun: bool,
}

/// What the poller is left with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    /// More waits already: the descriptor must be readable.
    pub(crate) waiting: bool,
    /// Poll again at this time at the latest; `NEVER` if no deadline is set.
    pub(crate) next_deadline: MonoTime,
}

#[derive(Debug)]
struct Inner {
    wheel: Wheel,
    ready: ReadyList,
    /// The last slice of the wheel did not reach its end.
    due_waits: bool,
    polling: bool,
    /// The poller was woken and has not polled since.
    woken: bool,
    /// The deadline until which the poller believes it may sleep.
    told: MonoTime,
}

impl Shard {
    /// An empty shard.
    pub(crate) fn new(number: u8, now: MonoTime) -> Shard {
        Shard { number, inner: Lock::new(Inner::new(now)), unserved: AtomicBool::new(false) }
    }

    /// Sets the one deadline of a connection; `NEVER` takes it out. True: wake the poller.
    #[must_use]
    pub(crate) fn schedule(&self, id: ConnectionId, deadline: MonoTime) -> bool {
        let mut inner = self.inner.lock();
        inner.wheel.set(id.index(), id.generation(), deadline);
        deadline < inner.told && inner.wake()
    }

    /// Takes the deadline of a connection out.
    pub(crate) fn cancel(&self, id: ConnectionId) {
        self.inner.lock().wheel.cancel(id.index(), id.generation());
    }

    /// Notes that a connection has something to report; once is enough until it is taken. True: wake the poller.
    #[must_use]
    pub(crate) fn enqueue(&self, id: ConnectionId) -> bool {
        let mut inner = self.inner.lock();
        inner.ready.enqueue(id.index(), id.generation());
        inner.wake()
    }

    /// Appends connections whose deadline has come, after at most `budget` moves in the wheel. True: more may be due.
    ///
    /// Not only for the poller: each handshake takes a slice, so that a host that never polls does not leak
    /// (RULES 13).
    pub(crate) fn take_due(&self, now: MonoTime, budget: usize, due: &mut Vec<ConnectionId>) -> bool {
        let mut inner = self.inner.lock();
        let more = inner.wheel.poll_due(now, budget, |index, generation| {
            due.push(ConnectionId::new(self.number, index, generation));
        });
        inner.due_waits = more;
        more
    }

    /// Appends up to `max` connections with something to report, those that wait longest first. Some may have ended.
    pub(crate) fn take_ready(&self, max: usize, ready: &mut Vec<ConnectionId>) {
        let mut inner = self.inner.lock();
        let taken = std::iter::from_fn(|| inner.ready.take()).take(max);
        ready.extend(taken.map(|(index, generation)| ConnectionId::new(self.number, index, generation)));
    }

    /// Kept while what [`take_due`](Self::take_due) gave is served.
    pub(crate) fn serving(&self) -> Serving<'_> {
        Serving { shard: self, sound: Sound::now() }
    }

    /// What a panic lost. A shard that was left dirty is emptied; its connections must be filed again.
    pub(crate) fn rebuild(&self, now: MonoTime) -> Lost {
        let unserved = self.unserved.swap(false, Ordering::SeqCst);
        // The poll that may be running ends by itself.
        let dirty = self.inner.repair(|inner| *inner = Inner { polling: inner.polling, ..Inner::new(now) });
        match (dirty, unserved) {
            (true, _) => Lost::Everything,
            (false, true) => Lost::Deadlines,
            (false, false) => Lost::Nothing,
        }
    }

    /// When the wheel must be looked at next; never later than the nearest deadline. `NEVER` without one.
    pub(crate) fn next_deadline(&self) -> MonoTime {
        self.inner.lock().next_deadline()
    }

    /// Begins a poll.
    ///
    /// # Refusals
    ///
    /// `MisuseBusy` while another poll runs (RULES 39); the descriptor must then not be cleared.
    pub(crate) fn begin_poll(&self) -> Result<Poll<'_>, Reason> {
        // Made first, so that a panic from here on ends the poll.
        let mut poll = Poll { shard: self, begun: false };
        let mut inner = self.inner.lock();
        if inner.polling {
            return Err(Reason::MisuseBusy);
        }
        inner.polling = true;
        poll.begun = true;
        drop(inner);
        Ok(poll)
    }
}

impl Poll<'_> {
    /// Ends the poll and says how the poller may sleep.
    pub(crate) fn finish(self) -> Rest {
        let mut inner = self.shard.inner.lock();
        let rest = Rest { waiting: inner.due_waits || !inner.ready.is_empty(), next_deadline: inner.next_deadline() };
        inner.told = rest.next_deadline;
        inner.woken = rest.waiting;
        inner.polling = false;
        drop(inner);
        // What `Drop` would do is done.
        std::mem::forget(self);
        rest
    }
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        if !self.begun {
            return;
        }
        let mut inner = self.shard.inner.lock();
        inner.polling = false;
        inner.woken = false;
        // Nobody was told a deadline: the next one that is set wakes.
        inner.told = MonoTime::NEVER;
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if self.sound.is_lost() {
            self.shard.unserved.store(true, Ordering::SeqCst);
            mark();
        }
    }
}

impl Inner {
    fn new(now: MonoTime) -> Inner {
        Inner {
            wheel: Wheel::new(now),
            ready: ReadyList::default(),
            due_waits: false,
            polling: false,
            woken: false,
            told: MonoTime::NEVER,
        }
    }

    /// Whether news must wake the poller: not while it polls, and not twice.
    fn wake(&mut self) -> bool {
        let wake = !self.polling && !self.woken;
        self.woken |= wake;
        wake
    }

    fn next_deadline(&self) -> MonoTime {
        self.wheel.next_deadline().unwrap_or(MonoTime::NEVER)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(index: u32) -> ConnectionId {
        ConnectionId::new(4, index, 9)
    }

    fn shard() -> Shard {
        Shard::new(4, MonoTime(1000))
    }

    /// A poll that takes everything.
    fn poll(shard: &Shard, now: u64) -> (Vec<ConnectionId>, Vec<ConnectionId>, Rest) {
        let poll = shard.begin_poll().unwrap();
        let (mut due, mut ready) = (Vec::new(), Vec::new());
        shard.take_due(MonoTime(now), 100, &mut due);
        shard.take_ready(100, &mut ready);
        (due, ready, poll.finish())
    }

    const ASLEEP: Rest = Rest { waiting: false, next_deadline: MonoTime::NEVER };

    #[test]
    fn what_is_taken_carries_the_whole_handle() {
        let shard = shard();
        assert!(shard.enqueue(id(3)));
        assert!(!shard.schedule(id(5), MonoTime(1000)));
        assert_eq!(poll(&shard, 1000), (vec![id(5)], vec![id(3)], ASLEEP));
    }

    #[test]
    fn a_shard_left_dirty_is_emptied_and_one_whose_due_were_not_served_says_so() {
        let shard = shard();
        assert_eq!(shard.rebuild(MonoTime(1000)), Lost::Nothing);
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _serving = shard.serving();
            panic!("as asked by the test");
        }));
        assert!(died.is_err());
        assert_eq!((shard.rebuild(MonoTime(1000)), shard.rebuild(MonoTime(1000))), (Lost::Deadlines, Lost::Nothing));
        drop(shard.serving());
        assert!(shard.enqueue(id(3)) && !shard.schedule(id(5), MonoTime(1000)));
        let polling = shard.begin_poll().unwrap();
        shard.inner.spoil(|inner| inner.woken = true);
        assert_eq!(shard.rebuild(MonoTime(1000)), Lost::Everything);
        assert_eq!(shard.begin_poll().err(), Some(Reason::MisuseBusy), "a poll that runs still runs");
        assert_eq!(polling.finish(), ASLEEP);
        assert!(shard.enqueue(id(3)), "the next news wakes");
        assert_eq!(poll(&shard, 1000), (vec![], vec![id(3)], ASLEEP));
    }

    #[test]
    fn the_first_event_wakes_and_the_next_ones_do_not() {
        let shard = shard();
        assert!(shard.enqueue(id(1)));
        assert!(!shard.enqueue(id(1)));
        assert!(!shard.enqueue(id(2)));
        assert_eq!(poll(&shard, 1000), (vec![], vec![id(1), id(2)], ASLEEP));
        assert!(shard.enqueue(id(1)));
    }

    #[test]
    fn only_a_deadline_earlier_than_the_one_told_wakes() {
        let shard = shard();
        assert!(shard.schedule(id(1), MonoTime(1050)), "the poller slept for ever");
        assert!(!shard.schedule(id(2), MonoTime(1020)), "it is awake already");
        assert_eq!(poll(&shard, 1000).2, Rest { waiting: false, next_deadline: MonoTime(1020) });
        assert!(!shard.schedule(id(3), MonoTime(1030)));
        assert!(!shard.schedule(id(3), MonoTime::NEVER));
        assert!(shard.schedule(id(4), MonoTime(1010)));
        assert_eq!(poll(&shard, 1000).2.next_deadline, MonoTime(1010));
        shard.cancel(id(4));
        assert_eq!(shard.next_deadline(), MonoTime(1020));
        assert_eq!(poll(&shard, 1020).0, [id(2)]);
    }

    #[test]
    fn nothing_wakes_a_poller_that_polls_and_finish_reports_it() {
        let shard = shard();
        let poll_now = shard.begin_poll().unwrap();
        assert!(!shard.enqueue(id(1)));
        assert!(!shard.schedule(id(2), MonoTime(1001)));
        assert_eq!(poll_now.finish(), Rest { waiting: true, next_deadline: MonoTime(1001) });
        // The descriptor is readable by `waiting`.
        assert!(!shard.enqueue(id(3)));
        assert_eq!(poll(&shard, 1001), (vec![id(2)], vec![id(1), id(3)], ASLEEP));
    }

    #[test]
    fn a_second_poll_is_refused_until_the_first_ends() {
        let shard = shard();
        let first = shard.begin_poll().unwrap();
        assert_eq!(shard.begin_poll().err(), Some(Reason::MisuseBusy));
        assert_eq!(first.finish(), ASLEEP);
        assert!(shard.begin_poll().is_ok());
        assert!(shard.begin_poll().is_ok(), "dropping ends a poll as well");
    }

    #[test]
    fn what_does_not_fit_into_a_poll_keeps_the_descriptor_readable() {
        let shard = shard();
        for index in 0..5 {
            let _ = shard.enqueue(id(index));
            let _ = shard.schedule(id(index), MonoTime(1000));
        }
        let poll_now = shard.begin_poll().unwrap();
        let mut taken = Vec::new();
        shard.take_ready(5, &mut taken);
        assert!(shard.take_due(MonoTime(1000), 2, &mut taken));
        assert_eq!(taken.len(), 7);
        assert_eq!(poll_now.finish(), Rest { waiting: true, next_deadline: MonoTime(1000) });
        let poll_now = shard.begin_poll().unwrap();
        assert!(!shard.take_due(MonoTime(1000), 3, &mut taken));
        assert_eq!((taken.len(), poll_now.finish()), (10, ASLEEP));
    }

    #[test]
    fn a_poll_that_breaks_off_loses_no_wake_up() {
        let shard = shard();
        assert!(shard.enqueue(id(1)));
        drop(shard.begin_poll().unwrap());
        assert!(shard.enqueue(id(2)), "the list was not empty, but nobody knows");
        assert_eq!(poll(&shard, 1000).1, [id(1), id(2)]);
        assert!(shard.schedule(id(3), MonoTime(1500)));
        assert_eq!(poll(&shard, 1000).2.next_deadline, shard.next_deadline());
        drop(shard.begin_poll().unwrap());
        assert!(shard.schedule(id(4), MonoTime(1600)), "no deadline is known to the poller");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Enqueue(u32),
        Schedule(u32, u64),
        Pass(u64),
    }

    proptest! {
        /// A poller that sleeps as told misses nothing: at any time, whatever waits has woken it.
        #[test]
        fn a_poller_that_does_as_told_is_never_late(ops in prop::collection::vec(prop_oneof![
            (0..8_u32).prop_map(Op::Enqueue),
            (0..8_u32, 0..9000_u64).prop_map(|(index, ahead)| Op::Schedule(index, ahead)),
            (0..5000_u64).prop_map(Op::Pass),
        ], 1..60)) {
            let shard = shard();
            let (mut now, mut readable, mut wake_at) = (1000, false, MonoTime::NEVER);
            let (mut waits, mut deadlines) = ([false; 8], [None; 8]);
            for op in ops {
                match op {
                    Op::Enqueue(index) => {
                        readable |= shard.enqueue(id(index));
                        waits[index as usize] = true;
                    }
                    Op::Schedule(index, ahead) => {
                        readable |= shard.schedule(id(index), MonoTime(now + ahead));
                        deadlines[index as usize] = Some(now + ahead);
                    }
                    Op::Pass(by) => now += by,
                }
                while readable || wake_at <= MonoTime(now) {
                    let poll = shard.begin_poll().unwrap();
                    let (mut due, mut ready) = (Vec::new(), Vec::new());
                    shard.take_due(MonoTime(now), 2, &mut due);
                    shard.take_ready(1, &mut ready);
                    for id in due {
                        let deadline = deadlines[id.index() as usize].take();
                        prop_assert!(deadline.is_some_and(|deadline| deadline <= now));
                    }
                    for id in ready {
                        prop_assert!(std::mem::take(&mut waits[id.index() as usize]));
                    }
                    Rest { waiting: readable, next_deadline: wake_at } = poll.finish();
                }
                prop_assert!(!waits.contains(&true));
                prop_assert!(deadlines.iter().flatten().all(|&deadline| deadline > now));
            }
        }
    }
}
