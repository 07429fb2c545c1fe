//! This folder answers: what do we say to the peer, and how do we read what it says?
