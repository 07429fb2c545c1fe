//! This folder answers: how is each decision taken? Read it first; each file reads like the promise it keeps.

pub(crate) mod admit;
pub(crate) mod answer;
pub(crate) mod close;
pub(crate) mod delivery;
pub(crate) mod due;
pub(crate) mod enrich;
pub(crate) mod fault;
#[cfg(not(loom))]
#[cfg(test)]
mod fault_panics;
pub(crate) mod handshake;
pub(crate) mod identify;
pub(crate) mod introspect;
pub(crate) mod message;
pub(crate) mod permissions;
pub(crate) mod poll;
pub(crate) mod refresh;
pub(crate) mod report;
pub(crate) mod revoke;
pub(crate) mod sources;

pub use handshake::{Admitted, Progress};
pub(crate) use message::Inbound;
pub use message::Payload;
pub use poll::{Event, EventKind, Polled};
pub use refresh::Refreshed;
pub use revoke::{Propagated, Revocation, Revoked};
