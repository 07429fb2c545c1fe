//! This folder answers: what does this message type need, and does this identity hold it?

pub(crate) mod compile;
#[cfg(test)]
mod door;
pub(crate) mod judge;
pub(crate) mod pattern;
mod permission;
pub(crate) mod sets;

pub(crate) use compile::{Policy, TypeId};
pub(crate) use judge::{Fields, require_permission};
pub use permission::{Permission, PermissionSet};
pub(crate) use sets::PermissionSets;
