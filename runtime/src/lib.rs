//! wsauth with a clock, randomness and sockets: everything [`wsauth`] leaves to its host.
#![forbid(unsafe_code)]

mod clock;
mod driver;
mod guard;
mod secrets;
mod seed;
mod start;
pub mod tungstenite;
mod wake;

pub use clock::{Clock, ManualClock};
pub use driver::{DriverOptions, Resolver};
pub use guard::{Guard, Observer};
pub use secrets::SystemSecrets;
pub use start::StartError;
pub use wake::Wake;
