//! wsauth with a clock, randomness and sockets: everything [`wsauth`] leaves to its host.
//!
//! [`Guard`] is an engine that reads the clock itself. On top of it, [`Guard::accept`] makes guarded WebSockets of TCP
//! streams, for servers with a thread per connection; [`Resolver`] answers what must be fetched. A server with its own
//! sockets or event loop calls the guard's methods, watches [`Wake::fd`] and does what [`Guard::poll`] says.
//!
//! # Examples
//!
//! ```
//! # use std::{io::Write, net::{TcpListener, TcpStream}};
//! use wsauth_runtime::Guard;
//!
//! let guard = Guard::from_toml(
//!     r#"
//!     issuer = [{ issuer = "https://id.example.com", audience = ["live"], opaque = true }]
//!     handshake = { origins = ["https://app.example.com"], credentials = ["authorization"], trusted_proxies = [] }
//!     messages = { "chat.send" = "chat:write" }
//!     "#,
//! )?;
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! # let mut client = TcpStream::connect(listener.local_addr()?)?;
//! # client.write_all(
//! #     b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
//! #       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
//! # )?;
//! let (stream, _) = listener.accept()?; // on a thread of its own
//! match guard.accept(stream) {
//!     // Only what this peer may say, only while it may say it.
//!     Ok(mut socket) => while let Ok(message) = socket.read() { println!("{message}") },
//!     Err(refused) => assert_eq!(refused.to_string(), "refused: no credential in any configured place"),
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod backends;
mod clock;
mod driver;
mod guard;
mod keys;
mod secrets;
mod seed;
mod start;
mod threads;
pub mod tungstenite;
mod wake;

pub use backends::HttpResolver;
pub use clock::{Clock, ManualClock};
pub use driver::Resolver;
pub use guard::{Guard, Observer};
pub use secrets::SystemSecrets;
pub use start::StartError;
pub use wake::Wake;

/// The README's Rust, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
