//! This file answers: does the connection record keep its promises in every interleaving? (RULES 5)
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p wsauth --release loom_ --target-dir target/loom`; about ten seconds.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::lifecycle::State;
use super::record::{Grant, Record, Snapshot};
use crate::time::{MonoTime, WallTime};

/// All parts are equal, so that a mixture of two grants shows.
fn grant(n: u32) -> Grant {
    let long = u64::from(n);
    Grant { wall_expiry: WallTime(long), mono_expiry: MonoTime(long), permission_set: n, policy_epoch: n }
}

fn live() -> Record {
    let record = Record::new();
    record.open(7, 0, State::Admitting, grant(1), MonoTime(0)).unwrap();
    record.transition(State::Live).unwrap();
    record
}

fn assert_whole(snapshot: &Snapshot) {
    assert_eq!(snapshot.grant, grant(snapshot.grant.permission_set), "mixed grant");
}

/// What a message does: read, decide, confirm.
fn allowed(record: &Record, generation: u32) -> Option<Snapshot> {
    let snapshot = record.read(generation)?;
    assert_whole(&snapshot);
    (snapshot.state() == State::Live && record.confirm(&snapshot)).then_some(snapshot)
}

#[test]
fn loom_no_reader_sees_a_mixed_grant() {
    loom::model(|| {
        let record = Arc::new(live());
        let writer = {
            let record = Arc::clone(&record);
            // Two commits: the second refills the copy that a slow reader may still be reading.
            thread::spawn(move || {
                record.commit(grant(2)).unwrap();
                record.commit(grant(3)).unwrap();
            })
        };
        allowed(&record, 7);
        writer.join().unwrap();
        assert_eq!(allowed(&record, 7).unwrap().grant, grant(3));
    });
}

#[test]
fn loom_nothing_is_decided_on_a_grant_replaced_before() {
    loom::model(|| {
        let record = Arc::new(live());
        let returned = Arc::new(AtomicBool::new(false));
        let writer = {
            let (record, returned) = (Arc::clone(&record), Arc::clone(&returned));
            thread::spawn(move || {
                record.commit(grant(2)).unwrap();
                returned.store(true, Ordering::Release);
            })
        };
        let late = returned.load(Ordering::Acquire);
        if let Some(snapshot) = allowed(&record, 7) {
            assert!(!late || snapshot.grant == grant(2), "old grant after the commit had returned");
        }
        writer.join().unwrap();
    });
}

#[test]
fn loom_nothing_is_allowed_after_a_close_returned() {
    loom::model(|| {
        let record = Arc::new(live());
        let returned = Arc::new(AtomicBool::new(false));
        let revoker = {
            let (record, returned) = (Arc::clone(&record), Arc::clone(&returned));
            thread::spawn(move || {
                assert!(record.close(7));
                returned.store(true, Ordering::Release);
            })
        };
        let snapshot = record.read(7);
        // Even a reading from before the close: its last load of W comes after the close has returned.
        let late = returned.load(Ordering::Acquire);
        let allowed = snapshot.is_some_and(|s| s.state() == State::Live && record.confirm(&s));
        assert!(!(late && allowed), "allowed after the close had returned");
        revoker.join().unwrap();
    });
}

#[test]
fn loom_a_refresh_cannot_undo_a_close() {
    loom::model(|| {
        let record = Arc::new(live());
        let refresher = {
            let record = Arc::clone(&record);
            thread::spawn(move || record.commit(grant(2)).is_ok())
        };
        // No lock: a revocation does not wait for a refresh.
        assert!(record.close(7));
        assert_eq!(record.state(), State::Closing);
        let committed = refresher.join().unwrap();
        assert_eq!(record.state(), State::Closing);
        assert_eq!(record.grant(), grant(if committed { 2 } else { 1 }));
        assert_eq!(allowed(&record, 7), None);
    });
}

/// All at once, with at most three preemptions; without that bound it does not end within minutes.
#[test]
fn loom_refresh_and_revoke_against_a_reader() {
    let schedules = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = std::sync::Arc::clone(&schedules);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let record = Arc::new(live());
        let returned = Arc::new(AtomicBool::new(false));
        let refresher = {
            let record = Arc::clone(&record);
            thread::spawn(move || record.commit(grant(2)).and_then(|()| record.commit(grant(3))).is_ok())
        };
        let revoker = {
            let (record, returned) = (Arc::clone(&record), Arc::clone(&returned));
            thread::spawn(move || {
                record.close(7);
                returned.store(true, Ordering::Release);
            })
        };
        let first = allowed(&record, 7);
        let late = returned.load(Ordering::Acquire);
        let second = allowed(&record, 7);
        assert!(!late || second.is_none(), "allowed after the close had returned");
        if let (Some(first), Some(second)) = (first, second) {
            assert!(first.grant.permission_set <= second.grant.permission_set, "an old grant came back");
        }
        refresher.join().unwrap();
        revoker.join().unwrap();
        assert_eq!(allowed(&record, 7), None);
    });
    let schedules = schedules.load(std::sync::atomic::Ordering::Relaxed);
    assert!(schedules > 10_000, "{schedules} schedules");
}

#[test]
fn loom_two_closes_happen_once() {
    loom::model(|| {
        let record = Arc::new(live());
        let other = {
            let record = Arc::clone(&record);
            thread::spawn(move || record.close(7))
        };
        let mine = record.close(7);
        assert!(mine ^ other.join().unwrap());
    });
}

#[test]
fn loom_an_old_handle_never_meets_the_next_life() {
    loom::model(|| {
        let record = Arc::new(live());
        record.assign_bucket(1);
        let host = {
            let record = Arc::clone(&record);
            thread::spawn(move || {
                record.transition(State::Free).unwrap();
                record.open(8, 0, State::Admitting, grant(2), MonoTime(0)).unwrap();
                record.assign_bucket(2);
                record.transition(State::Live).unwrap();
            })
        };
        if let Some(snapshot) = record.read(7) {
            assert_eq!((snapshot.grant, snapshot.bucket), (grant(1), 1), "the next life under the old handle");
        }
        // A revocation of the old life does not hit the new one.
        record.close(7);
        host.join().unwrap();
        assert_eq!(record.read(7), None);
    });
}
