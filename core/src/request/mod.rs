//! This folder answers: what did the peer ask, who is it, and where does it come from?
