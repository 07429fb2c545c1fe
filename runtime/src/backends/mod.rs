//! This folder answers: how is a question with a url asked, and by what is a source unable to harm us?
//!
//! It transports, and decides nothing: what a response means is judged in the core, so that a host with an HTTP
//! client of its own gets the same decision.

mod address;
mod credential;
mod http;
mod names;
mod request;
mod response;
mod retry_after;
mod tls;

pub use http::HttpResolver;
