//! This file answers: may this message reach the application?

use wsauth::{ConnectionId, Payload, Reason};

use crate::abi::{
    WSAUTH_PAYLOAD_BINARY, WSAUTH_PAYLOAD_TEXT, wsauth_bytes, wsauth_connection, wsauth_decision, wsauth_field,
};
use crate::boundary::call;
use crate::engine::life;
use crate::life::wsauth_engine;
use crate::out::Out;
use crate::result::wsauth_result;
use crate::verdict::{decide, denying};
use crate::view::{self, Fields, MAX_MESSAGE, MAX_TEXT};

/// Decides whether one inbound message may reach the application. Call it once a message, after reassembly and before
/// the application sees it. Deliver only if the result is WSAUTH_OK.
///
/// @param engine      The engine.
/// @param connection  From wsauth_handshake. A stale one is WSAUTH_MISUSE_HANDLE and delivers nothing.
/// @param kind        WSAUTH_PAYLOAD_TEXT or WSAUTH_PAYLOAD_BINARY.
/// @param data, len   The whole message.
/// @param decision    Receives what to do besides. May be NULL: wsauth_poll says everything that must be done.
/// @return WSAUTH_OK to deliver; WSAUTH_HANDLED_CONSUMED or _HOLD; a refusal: the connection lives on, unless
///         decision->action is WSAUTH_ACTION_CLOSE.
/// Ownership: nothing is kept, nothing is handed out.
/// Threads: any, also on one connection.
/// Cost: one pass over the message. No lock, no allocation and no system call for types without a pattern.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_message(
    engine: *const wsauth_engine,
    connection: wsauth_connection,
    kind: u32,
    data: *const u8,
    len: usize,
    decision: *mut wsauth_decision,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let mut out = unsafe { Out::new(decision, denying()) };
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) };
        decide(&mut out, life, |life| {
            // SAFETY: the caller's contract.
            let data = unsafe { view::bytes(data, len, MAX_MESSAGE, Reason::MessageTooLarge) }?;
            let payload = match kind {
                WSAUTH_PAYLOAD_TEXT => Payload::Text(data),
                WSAUTH_PAYLOAD_BINARY => Payload::Binary(data),
                _ => return Err(Reason::MisuseArgument.into()),
            };
            Ok(life.guard.message(ConnectionId::from_u64(connection), payload).map(|_| ()))
        })
    })
}

/// Decides for what is not JSON: you name the type, and the fields that its permission's pattern reads. Charged like a
/// message.
///
/// @param engine              The engine.
/// @param connection          The connection.
/// @param type, type_len      The message type, as in [messages].
/// @param fields, field_count Names and values, at most 32, UTF-8.
/// @param decision            As for wsauth_message.
/// @return As wsauth_message.
/// Ownership: nothing is kept, nothing is handed out.
/// Threads: any, also on one connection.
/// Cost: no allocation and no system call; a type with a pattern takes that connection's own lock.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_authorize(
    engine: *const wsauth_engine,
    connection: wsauth_connection,
    r#type: *const u8,
    type_len: usize,
    fields: *const wsauth_field,
    field_count: usize,
    decision: *mut wsauth_decision,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let mut out = unsafe { Out::new(decision, denying()) };
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) };
        decide(&mut out, life, |life| {
            // SAFETY: the caller's contract.
            let name = unsafe { view::text(wsauth_bytes { ptr: r#type, len: type_len }, MAX_TEXT) }?;
            // SAFETY: the caller's contract.
            let fields = unsafe { Fields::new(fields, field_count) }?;
            Ok(life.guard.authorize(ConnectionId::from_u64(connection), name, fields.pairs()).map(|_| ()))
        })
    })
}
