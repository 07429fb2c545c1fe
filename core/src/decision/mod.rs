//! This folder answers: which decisions exist, and what does each mean to the peer and to the operator?

mod refusal;
mod response;
mod verdict;

pub use refusal::{Action, Class, Reason, Refusal, Row};
pub use response::HttpRefusal;
pub use verdict::{Delivered, Withheld};
