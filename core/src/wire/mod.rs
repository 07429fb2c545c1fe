//! This folder answers: what do we say to the peer, and how do we read what it says?

mod close;
mod control;
pub(crate) mod message;
pub(crate) mod scan;
pub(crate) mod text;

pub(crate) use close::close_code;
pub(crate) use control::{ControlWriter, MAX_CONTROL_BYTES, parse_control_token};
pub(crate) use message::{Message, MessageShape, Reserved, scan_message};
