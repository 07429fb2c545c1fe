//! This file answers: which properties hold for every order of events and for every byte?
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

#[path = "../shared/mod.rs"]
mod shared;

mod bytes;
mod model;
mod order;
mod permits;
mod rate;
