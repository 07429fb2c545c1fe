//! This folder answers: which connection needs attention next?
