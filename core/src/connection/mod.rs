//! This folder answers: which connections exist, and in which state is each?
#![allow(dead_code, unused_imports, reason = "wired by the flows")]

mod handle;
mod lifecycle;
mod record;
#[cfg(loom)]
#[cfg(test)]
mod record_loom;
mod table;

pub use handle::ConnectionId;
pub(crate) use lifecycle::{State, may_move};
pub(crate) use record::{Grant, NO_BUCKET, Record, Snapshot};
pub(crate) use table::{Guard, Slot, Table};
