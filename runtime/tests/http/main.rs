//! This folder answers: what can a source, or whoever sits between it and us, do to the one who asks it?
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails this way fails, as it should"
)]

mod certificates;
mod environment;
mod requests;
mod responses;
mod script;
mod slowness;
mod start;
mod tls;
mod workers;
