//! This folder answers: what did the peer ask, who is it, and where does it come from?
//!
//! Everything here reads the upgrade request as the server lends it; nothing is kept and no token is decoded.

mod authority;
mod client_address;
mod cookie;
mod credential;
mod forwarded;
mod origin;
mod place;
mod query;
mod rules;
mod site;
mod subprotocol;
mod upgrade;

pub use client_address::{AddressKey, ClientAddress};
pub use upgrade::{Header, Lines, Peer, Upgrade};

pub(crate) use {
    client_address::find_client_address,
    credential::{Credential, CredentialKind, find_credential},
    origin::require_origin,
    rules::HandshakeRules,
    subprotocol::select_subprotocol,
};
