//! This folder answers: what does this message type need, and does this identity hold it?
#![allow(dead_code, reason = "wired by the flows")]

pub(crate) mod compile;
#[doc(hidden)]
pub mod door;
pub(crate) mod judge;
pub(crate) mod pattern;
mod permission;
pub(crate) mod sets;

pub use permission::{Permission, PermissionSet};
