//! This folder answers: how much of anything may one peer do?
//!
//! Every table here is bounded, keyed by a [`hash::Fingerprint`] that no peer can predict, and says what
//! happens when it is full. All of it runs on monotonic time.

pub(crate) mod brute_force;
pub(crate) mod hash;
pub(crate) mod permit;
pub(crate) mod rate;

pub(crate) use brute_force::{BruteForce, counts_as_guess, counts_as_refusal};
pub(crate) use hash::{Fingerprint, Fingerprinter};
pub(crate) use permit::{Permit, Permits, Taken};
pub(crate) use rate::{BucketId, Budget, Gcra, RateTable};
