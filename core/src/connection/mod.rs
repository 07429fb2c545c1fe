//! This folder answers: which connections exist, and in which state is each?

mod cold;
mod handle;
mod index;
mod lifecycle;
mod pending;
mod record;
#[cfg(loom)]
#[cfg(test)]
mod record_loom;
mod table;
mod timetable;

pub(crate) use cold::{
    Candidate, Cold, Enriching, Held, PeerFacts, PendingCredential, RefreshState, Terminal, Unauthenticated,
};
pub use handle::ConnectionId;
pub(crate) use index::Index;
pub(crate) use lifecycle::State;
pub use pending::PermissionDiff;
pub(crate) use pending::{Pending, merge_diff};
pub(crate) use record::{Grant, Snapshot};
pub(crate) use table::{Guard, Slot, Table};
pub(crate) use timetable::Timetable;
