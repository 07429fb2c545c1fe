//! This file answers: does the engine keep each sentence of the rules, from the handshake to the end?
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

#[path = "../shared/mod.rs"]
mod shared;

mod admission;
mod apart;
mod clock;
mod degraded;
mod delivery;
mod ending;
mod introspection;
mod lookup;
mod message;
mod outbox;
mod profile;
mod refresh;
mod reload;
mod report;
mod revocation;
mod sources;
