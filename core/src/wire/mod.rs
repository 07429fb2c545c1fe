//! This folder answers: what do we say to the peer, and how do we read what it says?
#![allow(dead_code, reason = "wired by the flows")]

pub(crate) mod message;
pub(crate) mod scan;
pub(crate) mod text;
