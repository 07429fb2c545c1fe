//! This folder answers: which key may verify this token?
