//! This folder answers: how much of anything may one peer do?
//!
//! Every table here is bounded, keyed by a [`hash::Fingerprint`] that no peer can predict, and says what
//! happens when it is full. All of it runs on monotonic time.
#![allow(dead_code, reason = "wired by the flows")]

pub(crate) mod brute_force;
pub(crate) mod hash;
pub(crate) mod permit;
pub(crate) mod rate;
