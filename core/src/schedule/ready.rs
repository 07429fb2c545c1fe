//! This file answers: about which connections has the server something to learn?

use std::collections::VecDeque;

use super::sparse::Sparse;

/// Connections with something to report, first come first out.
///
/// A connection index stands in it at most once (RULES 32), whoever enqueues and however often; so it is bounded by
/// the number of connections even if nobody ever polls while connections come and go.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    order: VecDeque<u32>,
    /// The generation for which the index stands in `order`; zero when it does not.
    queued: Sparse<u32>,
}

impl ReadyList {
    /// Adds a connection, or does nothing if it waits already. Where an earlier life of the slot still waits, the
    /// later one takes its place.
    pub(crate) fn enqueue(&mut self, index: u32, generation: u32) {
        let Some(queued) = self.queued.make(index) else { return };
        if *queued == 0 {
            self.order.push_back(index);
        }
        *queued = generation.max(*queued);
    }

    /// Takes the connection that waits longest, as index and generation.
    pub(crate) fn take(&mut self) -> Option<(u32, u32)> {
        let index = self.order.pop_front()?;
        let generation = self.queued.get_mut(index).map_or(0, std::mem::take);
        Some((index, generation))
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_waits_once_in_the_order_it_came() {
        let mut ready = ReadyList::default();
        assert!(ready.is_empty());
        for (index, generation) in [(5, 1), (2, 9), (5, 1), (2_000_000, 3)] {
            ready.enqueue(index, generation);
        }
        assert_eq!(std::iter::from_fn(|| ready.take()).collect::<Vec<_>>(), [(5, 1), (2, 9), (2_000_000, 3)]);
        assert!(ready.is_empty());
        ready.enqueue(5, 1);
        assert_eq!(ready.take(), Some((5, 1)));
    }

    #[test]
    fn a_slot_that_is_reused_unpolled_takes_no_second_place() {
        let mut ready = ReadyList::default();
        for generation in 1..=1000 {
            ready.enqueue(7, generation);
        }
        ready.enqueue(7, 999);
        assert_eq!((ready.take(), ready.take()), (Some((7, 1000)), None));
    }
}
