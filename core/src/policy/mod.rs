//! This folder answers: what does this message type need, and does this identity hold it?
