//! This folder answers: how much of anything may one peer do?
