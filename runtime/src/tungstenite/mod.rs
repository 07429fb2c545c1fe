//! This folder answers: how does a thread-per-socket server with tungstenite get guarded connections?
//!
//! [`Guard::accept`](crate::Guard::accept) turns a TCP stream into a [`GuardedSocket`] or a refusal. One thread per
//! guard, the pump, carries the engine's events to the sockets.

mod accept;
mod frame;
mod line;
mod options;
mod pump;
mod sender;
mod shutdown;
mod socket;

pub use ::tungstenite::Message;

pub use accept::AcceptError;
pub use options::{AcceptOptions, Refuse};
pub use sender::Sender;
pub use socket::{Ended, GuardedSocket};

pub(crate) use pump::Pump;
