//! This folder answers: is this token genuine, current and meant for us?

mod algorithm;

pub use algorithm::Algorithm;
