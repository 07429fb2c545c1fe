//! wsauth for C and C++. `include/wsauth.h` is made from this crate and says everything that C needs to know.
//!
//! One file per noun holds the exports. Around them stand the guards of the border: `boundary` (no unwinding gets
//! out), `view` (bytes in), `out` (results out), `life` and `fork` (which engine this process uses).

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the comments are written for the header, where brackets name sections of the configuration"
)]

// A panic must become a refusal, which needs unwinding. `panic = "abort"` would turn each into a dead server.
#[cfg(panic = "abort")]
compile_error!(
    "wsauth-ffi needs panic = \"unwind\": a caught panic is a refusal, an aborted one takes the server down"
);

// What C sees, in the order of the header.
pub mod abi;

pub mod result;

mod version;

mod engine;

mod handshake;

mod message;

mod delivery;

mod event;

mod connection;

mod refresh;

mod revocation;

mod lookup;

mod audit;

mod reason;

// The border.
mod boundary;
mod fork;
mod life;
mod out;
mod request;
#[cfg(feature = "test-panic")]
mod test_panic;
mod verdict;
mod view;

pub use audit::wsauth_audit_drain;
pub use connection::{
    wsauth_connection_closed, wsauth_connection_identity, wsauth_connection_permissions,
    wsauth_connection_set_permissions, wsauth_connection_touch, wsauth_subject_set_permissions,
};
pub use delivery::{wsauth_authorize_deliveries, wsauth_authorize_delivery};
pub use engine::{
    wsauth_clock_set, wsauth_engine_free, wsauth_engine_metrics, wsauth_engine_new, wsauth_engine_new_from_file,
    wsauth_engine_new_manual, wsauth_engine_reload, wsauth_engine_timeout, wsauth_engine_wake_descriptor,
};
pub use event::wsauth_poll;
pub use handshake::{wsauth_handshake, wsauth_handshake_explain, wsauth_refusal_http};
pub use life::wsauth_engine;
pub use lookup::{wsauth_keys_load, wsauth_lookup_answer, wsauth_lookup_next};
pub use message::{wsauth_authorize, wsauth_message};
pub use reason::{
    wsauth_reason_action, wsauth_reason_close_code, wsauth_reason_http_status, wsauth_reason_name,
    wsauth_reason_public_name, wsauth_reason_public_text, wsauth_reason_text,
};
pub use refresh::{wsauth_refresh, wsauth_refresh_subject};
pub use revocation::wsauth_revoke;
pub use version::{wsauth_abi, wsauth_version, wsauth_version_number};
