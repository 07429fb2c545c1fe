//! This file answers: which events wait to be drained, and which are lost when nobody drains?

use std::collections::VecDeque;

use super::{AuditEvent, AuditKind};
use crate::dirty::Lock;
use crate::time::WallTime;

/// A bounded queue of events. Never waits: when it is full, the oldest success is dropped; with no success to
/// drop, a new success is dropped, or for a failure the oldest failure. Losses are counted and told.
pub(crate) struct AuditQueue {
    max_events: usize,
    inner: Lock<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Both in order, each with its place in the order of all.
    successes: VecDeque<(u64, AuditEvent)>,
    failures: VecDeque<(u64, AuditEvent)>,
    next: u64,
    /// Lost since the last drain, and since the start.
    untold: u64,
    dropped: u64,
}

impl AuditQueue {
    /// A queue of at most `max_events`.
    pub(crate) fn new(max_events: usize) -> AuditQueue {
        AuditQueue { max_events, inner: Lock::default() }
    }

    /// Adds an event, at the cost of another when the queue is full.
    pub(crate) fn push(&self, event: AuditEvent) {
        let mut inner = self.inner.lock();
        let mut lost = None;
        let success = event.is_success();
        if inner.len() >= self.max_events {
            inner.untold = inner.untold.saturating_add(1);
            inner.dropped = inner.dropped.saturating_add(1);
            lost = inner.successes.pop_front();
            if lost.is_none() && !success {
                lost = inner.failures.pop_front();
            }
            if lost.is_none() {
                drop(inner);
                drop(event);
                return;
            }
        }
        let place = inner.next;
        inner.next = place.wrapping_add(1);
        let queue = if success { &mut inner.successes } else { &mut inner.failures };
        queue.push_back((place, event));
        // Memory is freed with the lock let go.
        drop(inner);
        drop(lost);
    }

    /// Takes at most `max` events, the oldest first. After a loss the first of them says how many are missing.
    pub(crate) fn drain(&self, max: usize, now: WallTime) -> Vec<AuditEvent> {
        let mut drained = Vec::new();
        let mut inner = self.inner.lock();
        if inner.untold > 0 && max > 0 {
            let mut event = AuditEvent::new(AuditKind::EventsDropped, now);
            event.count = Some(std::mem::take(&mut inner.untold));
            drained.push(event);
        }
        while drained.len() < max {
            let first = |queue: &VecDeque<(u64, AuditEvent)>| queue.front().map(|(place, _)| *place);
            let success_first = match (first(&inner.successes), first(&inner.failures)) {
                (Some(success), Some(failure)) => success < failure,
                (success, _) => success.is_some(),
            };
            let queue = if success_first { &mut inner.successes } else { &mut inner.failures };
            let Some((_, event)) = queue.pop_front() else { break };
            drained.push(event);
        }
        drained
    }

    /// Every event is moved in and out whole, so what waits where the queue was left dirty is told as it is; a count
    /// of losses may be one off. True if it was.
    pub(crate) fn rebuild(&self) -> bool {
        self.inner.repair(|_| ())
    }

    /// Events waiting.
    pub(crate) fn len(&self) -> usize {
        self.inner.lock().len()
    }

    /// Events lost since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.inner.lock().dropped
    }
}

impl Inner {
    fn len(&self) -> usize {
        self.successes.len().saturating_add(self.failures.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::AuditQueue;
    use crate::audit::{AuditEvent, AuditKind};
    use crate::time::WallTime;

    fn event(n: u64, success: bool) -> AuditEvent {
        let kind = if success { AuditKind::HandshakeAccepted } else { AuditKind::HandshakeRefused };
        AuditEvent::new(kind, WallTime(n))
    }

    fn filled(max: usize, events: &[bool]) -> AuditQueue {
        let queue = AuditQueue::new(max);
        for (n, success) in events.iter().enumerate() {
            queue.push(event(n as u64, *success));
        }
        queue
    }

    /// What is drained: the places of the events, and the count of the lost.
    fn drain(queue: &AuditQueue) -> (Vec<u64>, Option<u64>) {
        let events = queue.drain(usize::MAX, WallTime(0));
        let lost = events.first().filter(|event| event.kind == AuditKind::EventsDropped).and_then(|event| event.count);
        let places = events.iter().skip(usize::from(lost.is_some())).map(|event| event.time.0).collect();
        (places, lost)
    }

    #[test]
    fn events_come_in_order_and_in_portions() {
        let queue = filled(10, &[true, false, false, true, true]);
        let first = queue.drain(3, WallTime(0));
        assert_eq!(first.iter().map(|event| event.time.0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(drain(&queue), (vec![3, 4], None));
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn the_oldest_successes_go_first() {
        let queue = filled(3, &[false, true, true, false, true]);
        assert_eq!(drain(&queue), (vec![0, 3, 4], Some(2)));
    }

    #[test]
    fn a_success_never_drives_a_failure_out_and_old_failures_go_last() {
        assert_eq!(drain(&filled(2, &[false, false, true])), (vec![0, 1], Some(1)));
        assert_eq!(drain(&filled(2, &[false, false, false])), (vec![1, 2], Some(1)));
    }

    #[test]
    fn a_queue_of_none_only_counts() {
        let queue = filled(0, &[true, false]);
        assert_eq!(drain(&queue), (vec![], Some(2)));
    }

    #[test]
    fn a_loss_is_told_once_and_within_the_portion() {
        let queue = filled(1, &[false, false]);
        assert!(queue.drain(0, WallTime(9)).is_empty());
        let told = queue.drain(1, WallTime(9));
        assert_eq!((told[0].kind, told[0].count, told[0].time), (AuditKind::EventsDropped, Some(1), WallTime(9)));
        assert_eq!(drain(&queue), (vec![1], None));
        assert_eq!(queue.dropped(), 1);
    }

    proptest! {
        #[test]
        fn no_failure_is_lost_while_a_success_is_kept(
            events in proptest::collection::vec(any::<bool>(), 0..80),
            max in 1usize..20,
        ) {
            let (kept, lost) = drain(&filled(max, &events));
            prop_assert_eq!(kept.len(), events.len().min(max));
            prop_assert_eq!(lost.unwrap_or(0) as usize, events.len() - kept.len());
            prop_assert!(kept.windows(2).all(|pair| pair[0] < pair[1]));
            let failures = events.iter().filter(|success| !**success).count();
            let kept_failures = kept.iter().filter(|n| !events[**n as usize]).count();
            prop_assert_eq!(kept_failures, failures.min(max));
        }
    }
}
