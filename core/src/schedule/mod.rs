//! This folder answers: which connection needs attention next?

mod ready;
mod shard;
mod sparse;
mod wheel;

pub(crate) use shard::{Lost, Shard};
