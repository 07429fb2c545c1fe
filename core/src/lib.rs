//! wsauth decides who may open a WebSocket, what each message may do, and when the connection must end.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails, as it should"))]

pub mod audit;
pub mod config;
pub mod connection;
pub mod decision;
pub mod identity;
pub mod keys;
pub mod limit;
pub mod metrics;
pub mod policy;
pub mod request;
pub mod revocation;
pub mod schedule;
pub mod secret;
pub mod time;
pub mod token;
pub mod wire;
