//! This file answers: how does the application send to a connection from another thread, or to many at once?

use std::fmt;
use std::sync::Arc;

use wsauth::{ConnectionId, Reason, Refusal};

use super::frame;
use super::line::Line;
use crate::guard::Guard;

/// A cloneable way to one connection, for fan-out from other threads.
///
/// It holds no descriptor and does not keep the connection open; after the end every delivery is refused.
#[derive(Clone)]
pub struct Sender {
    guard: Guard,
    line: Arc<Line>,
    connection: ConnectionId,
}

impl Sender {
    pub(super) fn new(guard: Guard, line: Arc<Line>, connection: ConnectionId) -> Sender {
        Sender { guard, line, connection }
    }

    /// Sends `text` if the peer may receive a delivery of this type with these fields now.
    ///
    /// Never blocks: what the peer does not take at once waits, within the bounds of
    /// [`AcceptOptions`](super::AcceptOptions).
    ///
    /// # Errors
    ///
    /// The engine's refusal; nothing was sent. `misuse_handle` when the connection is over.
    pub fn deliver(&self, delivery_type: &str, fields: &[(&str, &str)], text: &str) -> Result<(), Refusal> {
        let _delivered = self.guard.authorize_delivery(self.connection, delivery_type, fields)?;
        if self.line.send_frame(&frame::text(text)) { Ok(()) } else { Err(Reason::MisuseHandle.into()) }
    }

    /// The engine's name of the connection.
    pub fn connection(&self) -> ConnectionId {
        self.connection
    }

    /// Whether the connection still takes deliveries.
    pub fn is_open(&self) -> bool {
        self.line.is_open()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({:?})", self.connection)
    }
}

impl Guard {
    /// Sends one text to all of `senders` that may receive it now; returns how many that were: none for a delivery type
    /// that is not configured.
    ///
    /// # Cost
    ///
    /// One decision for the batch, one encoding of the text, one send per connection; never blocks.
    pub fn publish<'a>(
        &self,
        senders: impl IntoIterator<Item = &'a Sender>,
        delivery_type: &str,
        fields: &[(&str, &str)],
        text: &str,
    ) -> usize {
        let mut senders: Vec<&Sender> = senders.into_iter().collect();
        senders.sort_unstable_by_key(|sender| sender.connection);
        senders.dedup_by_key(|sender| sender.connection);
        let connections: Vec<ConnectionId> = senders.iter().map(|sender| sender.connection).collect();
        let mut allowed = Vec::with_capacity(connections.len());
        if self.authorize_deliveries(&connections, delivery_type, fields, &mut allowed).is_err() {
            return 0;
        }
        let frame = frame::text(text);
        let found = allowed.iter().filter_map(|connection| {
            let at = senders.binary_search_by_key(connection, |sender| sender.connection).ok()?;
            senders.get(at)
        });
        found.filter(|sender| sender.line.send_frame(&frame)).count()
    }
}
