//! This file answers: what can be asked and changed about one connection?

use std::ffi::c_char;
use std::sync::Arc;

use serde_json::json;
use wsauth::config::CredentialSource;
use wsauth::identity::Identity;
use wsauth::{ConnectionId, Reason};

use crate::abi::{wsauth_bytes, wsauth_connection};
use crate::boundary::{No, call};
use crate::engine::life;
use crate::life::wsauth_engine;
use crate::out::{Buffer, Out};
use crate::result::wsauth_result;
use crate::view::{MAX_TEXT, array, text};

/// Most permissions of one identity.
const MAX_PERMISSIONS: usize = 256;

/// Says that a connection's socket is gone. Call it for every accepted handshake, whatever came between: it gives back
/// permits. The handle is stale from then on.
///
/// @param engine      The engine.
/// @param connection  The connection.
/// @return WSAUTH_OK once; WSAUTH_MISUSE_HANDLE later and for what was never issued, which changes nothing.
/// Ownership: nothing is kept.
/// Threads: any.
/// Cost: short locks.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_connection_closed(
    engine: *const wsauth_engine,
    connection: wsauth_connection,
) -> wsauth_result {
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        if life.guard.closed(ConnectionId::from_u64(connection)) { Ok(()) } else { Err(Reason::MisuseHandle.into()) }
    })
}

/// Notes that the peer is there, on a pong. Delivered messages are noted anyway.
///
/// @param engine      The engine.
/// @param connection  The connection.
/// @return WSAUTH_OK, or WSAUTH_MISUSE_HANDLE for what is not live.
/// Ownership: nothing is kept.
/// Threads: any, also on one connection.
/// Cost: one store, one clock reading.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_connection_touch(
    engine: *const wsauth_engine,
    connection: wsauth_connection,
) -> wsauth_result {
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        if life.guard.touch(ConnectionId::from_u64(connection)) { Ok(()) } else { Err(Reason::MisuseHandle.into()) }
    })
}

/// Replaces what a live connection may do until its next refresh. In force when this returns.
///
/// @param engine              The engine.
/// @param connection          The connection.
/// @param permissions, count  The permissions, at most 256, UTF-8.
/// @return WSAUTH_OK, or a refusal, which changes nothing.
/// Ownership: copied.
/// Threads: any.
/// Cost: compiles the set if no connection has it.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_connection_set_permissions(
    engine: *const wsauth_engine,
    connection: wsauth_connection,
    permissions: *const wsauth_bytes,
    count: usize,
) -> wsauth_result {
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        // SAFETY: the caller's contract.
        let permissions = unsafe { texts(permissions, count) }?;
        life.guard.set_permissions(ConnectionId::from_u64(connection), &permissions)?;
        Ok(())
    })
}

/// The same for every live connection of a subject.
///
/// @param engine                The engine.
/// @param issuer, issuer_len    The issuer.
/// @param subject, subject_len  The subject.
/// @param permissions, count    The permissions, at most 256, UTF-8.
/// @param changed               Receives how many connections there were; may be NULL.
/// @return WSAUTH_OK, also when there is none; misuse.
/// Ownership: copied.
/// Threads: any.
/// Cost: the subject's connections.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_subject_set_permissions(
    engine: *const wsauth_engine,
    issuer: *const u8,
    issuer_len: usize,
    subject: *const u8,
    subject_len: usize,
    permissions: *const wsauth_bytes,
    count: usize,
    changed: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let mut out = unsafe { Out::new(changed, 0) };
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        // SAFETY: the caller's contract.
        let issuer = unsafe { text(wsauth_bytes { ptr: issuer, len: issuer_len }, MAX_TEXT) }?;
        // SAFETY: the caller's contract.
        let subject = unsafe { text(wsauth_bytes { ptr: subject, len: subject_len }, MAX_TEXT) }?;
        // SAFETY: the caller's contract.
        let permissions = unsafe { texts(permissions, count) }?;
        if issuer.is_empty() || subject.is_empty() {
            return Err(Reason::MisuseArgument.into());
        }
        out.write(life.guard.set_subject_permissions(issuer, subject, &permissions));
        Ok(())
    })
}

/// Who a connection is: verified facts only.
///
/// @param engine                     The engine.
/// @param connection                 The connection.
/// @param buffer, capacity, needed   Receives one JSON object: issuer, subject, source, token_id, session_id, client_id,
///                                   tenant, confirmation, key_id, issued_at and expires_at (seconds since 1970),
///                                   permissions (the credential's), claims. Absent is null. Holds no token.
/// @return WSAUTH_OK; WSAUTH_HANDLED_BUFFER; WSAUTH_MISUSE_HANDLE for what is stale or not authenticated.
/// Ownership: copied out.
/// Threads: any.
/// Cost: that connection's own lock; formats the claims.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_connection_identity(
    engine: *const wsauth_engine,
    connection: wsauth_connection,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let mut buffer = unsafe { Buffer::new(buffer, capacity, needed) };
    call(|| {
        buffer.require()?;
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        let identity = life.guard.identity(ConnectionId::from_u64(connection)).ok_or(Reason::MisuseHandle)?;
        buffer.write(to_json(&identity).as_bytes())
    })
}

/// What a connection may do now: its credential's permissions, or those set since.
///
/// @param engine                     The engine.
/// @param connection                 The connection.
/// @param buffer, capacity, needed   Receives a JSON array of strings.
/// @return WSAUTH_OK; WSAUTH_HANDLED_BUFFER; WSAUTH_MISUSE_HANDLE for a stale one.
/// Ownership: copied out.
/// Threads: any.
/// Cost: that connection's own lock; formats.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_connection_permissions(
    engine: *const wsauth_engine,
    connection: wsauth_connection,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let mut buffer = unsafe { Buffer::new(buffer, capacity, needed) };
    call(|| {
        buffer.require()?;
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        let permissions = life.guard.permissions(ConnectionId::from_u64(connection)).ok_or(Reason::MisuseHandle)?;
        buffer.write(names(&permissions).to_string().as_bytes())
    })
}

/// # Safety
///
/// As [`array`], and each view as [`text`].
unsafe fn texts(first: *const wsauth_bytes, count: usize) -> Result<Vec<Arc<str>>, No> {
    // SAFETY: handed on.
    let views = unsafe { array(first, count, MAX_PERMISSIONS, Reason::MisuseArgument) }?;
    // SAFETY: handed on.
    views.map(|view| unsafe { text(view, MAX_TEXT) }.map(Arc::from)).collect()
}

pub(crate) fn names(list: &[Arc<str>]) -> serde_json::Value {
    list.iter().map(|name| &**name).collect()
}

fn to_json(identity: &Identity) -> String {
    let source = match identity.source {
        CredentialSource::Authorization => "authorization",
        CredentialSource::Cookie => "cookie",
        CredentialSource::Subprotocol => "subprotocol",
        CredentialSource::Query => "query",
        CredentialSource::Ticket => "ticket",
        CredentialSource::FirstMessage => "first_message",
    };
    json!({
        "issuer": &*identity.issuer,
        "subject": &*identity.subject,
        "source": source,
        "token_id": identity.token_id.as_deref(),
        "session_id": identity.session_id.as_deref(),
        "client_id": identity.client_id.as_deref(),
        "tenant": identity.tenant.as_deref(),
        "confirmation": identity.confirmation.as_deref(),
        "key_id": identity.key_id.as_deref(),
        "issued_at": identity.issued_at,
        "expires_at": identity.expiry.as_secs(),
        "permissions": names(&identity.permissions),
        "claims": identity.claims,
    })
    .to_string()
}
