//! wsauth decides who may open a WebSocket, what each message may do, and when the connection must end.
//!
//! This crate is the core: no socket, no thread, no clock, no randomness of its own. A server keeps its sockets,
//! gives every call the time, and does what comes back. `wsauth-runtime` adds clock, wake-up and sockets for
//! servers that want them.
//!
//! # The life of a connection
//!
//! An upgrade request comes in. The server hands it over as it stands, [`request::Upgrade`], and
//! [`Engine::handshake`] either refuses it - the [`Refusal`] renders itself as an HTTP response - or admits it and
//! returns the connection's handle. Each message goes through [`Engine::message`]; only `Ok` reaches the
//! application. Each thing the server wants to send goes through [`Engine::authorize_delivery`]. What wsauth has to
//! say to the peer, and when the server must close, comes out of [`Engine::poll`]. When the socket is gone the
//! server says [`Engine::closed`].
//!
//! ```
//! use wsauth::config::{Config, NoSecretSource};
//! use wsauth::request::{Header, Peer, Upgrade};
//! use wsauth::secret::EngineSeed;
//! use wsauth::time::Now;
//! use wsauth::Engine;
//!
//! let config = Config::from_toml(
//!     r#"
//!     [[issuer]]
//!     issuer = "https://id.example.com"
//!     audience = ["wss://live.example.com"]
//!     algorithms = ["HS256"]
//!     keys = { secrets = [{ text = "a secret of thirty-two bytes...." }] }
//!
//!     [handshake]
//!     credentials = ["authorization"]
//!     trusted_proxies = []
//!
//!     [messages]
//!     "chat.send" = "chat:write"
//!     "#,
//!     &NoSecretSource,
//! )?;
//! let engine = Engine::new(config, &EngineSeed::new([7; 32]), Box::new(|_shard| ()))?;
//! let headers = [
//!     Header { name: b"Host", value: b"live.example.com" },
//!     Header { name: b"Upgrade", value: b"websocket" },
//!     Header { name: b"Connection", value: b"Upgrade" },
//!     Header { name: b"Sec-WebSocket-Version", value: b"13" },
//!     Header { name: b"Sec-WebSocket-Key", value: b"dGhlIHNhbXBsZSBub25jZQ==" },
//! ];
//! let request = Upgrade { method: b"GET", target: b"/", headers: &headers, peer: Peer::Ip([192, 0, 2, 1].into()) };
//! let refusal = engine.handshake(0, &request, Now::new(1_800_000_000_000, 0)).unwrap_err();
//! assert_eq!(refusal.reason.name(), "credential_missing");
//! assert_eq!(refusal.http_response().status, 401);
//! # Ok::<(), wsauth::config::ConfigProblem>(())
//! ```
//!
//! # Where to read
//!
//! `flow` first: one file a decision, each in the order in which things happen. The folders around it each answer
//! one question and say which in their first line. `decision/refusal.rs` is the table of everything that can be
//! refused.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails, as it should"))]

// The tests of `flow/fault_panics.rs` share their world with those outside of the crate.
#[cfg(test)]
extern crate self as wsauth;

pub mod audit;
mod cache;
pub mod config;
mod connection;
mod decision;
mod dirty;
mod engine;
mod explain;
mod flow;
pub mod identity;
#[doc(hidden)]
pub mod keys;
mod limit;
pub mod lookup;
mod metrics;
mod names;
pub mod policy;
pub mod request;
mod revocation;
mod rules;
mod schedule;
pub mod secret;
pub mod time;
#[doc(hidden)]
pub mod token;
mod wire;

pub use connection::{ConnectionId, PermissionDiff};
pub use decision::{Action, Class, Delivered, HttpRefusal, Reason, Refusal, Row, Withheld};
#[cfg(any(test, feature = "test-panic"))]
#[doc(hidden)]
pub use dirty::inject;
pub use engine::{Engine, Waker};
pub use explain::{Outcome, Step};
pub use flow::{Admitted, Event, EventKind, Payload, Polled, Progress, Propagated, Refreshed, Revocation, Revoked};
