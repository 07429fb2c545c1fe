//! This folder answers: what was configured, and is it safe to start with?

mod types;

pub use types::*;
