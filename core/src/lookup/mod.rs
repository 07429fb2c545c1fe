//! This folder answers: what must someone outside the core find out, and what does the answer mean?
//!
//! The core asks; a driver (the runtime's workers, or a host's own loop) answers. While a question is out the
//! connection is `authenticating`; nothing blocks.

mod backend;
mod breaker;
pub(crate) mod introspection;
pub(crate) mod profile;
mod profiles;
mod question;
mod table;

pub use backend::BackendKind;
pub(crate) use backend::{Backend, Outcome};
pub(crate) use breaker::{Change, back_off};
pub(crate) use profile::{NoProfile, Profile};
pub(crate) use profiles::Profiles;
pub use question::{Answer, Answerer, HttpResponse, Lookup, LookupId, Question, Vouched};
pub(crate) use table::{KEYS_COOL_DOWN_MS, LOOKUP_MS, Lookups, Purpose, Tally, Waiter};
