//! This file answers: which properties hold for every order of events and for every byte?

#[path = "../shared/mod.rs"]
mod shared;

mod bytes;
mod model;
mod order;
mod permits;
mod rate;
