//! This folder answers: which connection needs attention next?
#![allow(dead_code, unused_imports, reason = "wired by the flows")]

mod ready;
mod shard;
mod sparse;
mod wheel;

pub(crate) use shard::{Poll, Rest, Shard};
pub(crate) use wheel::Wheel;
