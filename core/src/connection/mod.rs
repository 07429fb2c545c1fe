//! This folder answers: which connections exist, and in which state is each?
