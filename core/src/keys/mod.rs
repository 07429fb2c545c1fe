//! This folder answers: which key may verify this token?

mod der;
mod discovery;
mod issuers;
mod jwk;
mod jwks;
mod key;
mod pem;
mod ring;
mod rsa;
mod secret;

pub use discovery::{Discovered, MAX_DISCOVERY_BYTES, find_key_set, parse_discovery};
pub use issuers::{AskAt, Issuer, Issuers, KeysLoaded};
pub use jwks::{MAX_DOCUMENT_BYTES, MAX_KEYS};
pub use key::Key;
pub use ring::{Candidates, KeyRing, Trust};
