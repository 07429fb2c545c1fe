//! This file answers: may this connection receive this?

use wsauth::{ConnectionId, Reason};

use crate::abi::{wsauth_bytes, wsauth_connection, wsauth_field};
use crate::boundary::call;
use crate::engine::life;
use crate::life::wsauth_engine;
use crate::out::Out;
use crate::result::wsauth_result;
use crate::view::{self, Fields, MAX_TEXT};

/// Most connections in one batch.
const MAX_BATCH: usize = 65_536;

/// Decides whether one connection may receive this. Ask at each delivery, not at subscription. Send only if the result
/// is WSAUTH_OK.
///
/// @param engine              The engine.
/// @param connection          The connection.
/// @param type, type_len      The delivery's type, as in [deliveries].
/// @param fields, field_count Names and values that its pattern reads, at most 32, UTF-8.
/// @return WSAUTH_OK to send, or a refusal. Costs the peer nothing; if its connection must end, wsauth_poll says so.
/// Ownership: nothing is kept.
/// Threads: any, also on one connection.
/// Cost: no allocation and no system call; a type with a pattern takes that connection's own lock.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_authorize_delivery(
    engine: *const wsauth_engine,
    connection: wsauth_connection,
    r#type: *const u8,
    type_len: usize,
    fields: *const wsauth_field,
    field_count: usize,
) -> wsauth_result {
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { view::text(wsauth_bytes { ptr: r#type, len: type_len }, MAX_TEXT) }?;
        // SAFETY: the caller's contract.
        let fields = unsafe { Fields::new(fields, field_count) }?;
        Ok(life.guard.authorize_delivery(ConnectionId::from_u64(connection), name, fields.pairs()).map(|_| ())?)
    })
}

/// The same for a fan-out: writes those of the connections that may receive it, in order.
///
/// @param engine              The engine.
/// @param connections, count  The connections, at most 65,536.
/// @param type, type_len      The delivery's type.
/// @param fields, field_count Names and values that its pattern reads, at most 32, UTF-8.
/// @param allowed             Room for `count` connections; may be `connections` itself.
/// @param allowed_count       Receives how many were written. Send to these only.
/// @return WSAUTH_OK when each was decided, also if none may receive it; WSAUTH_MESSAGE_TYPE_UNKNOWN; misuse.
/// Ownership: nothing is kept.
/// Threads: any.
/// Cost: one allocation of 16 bytes a connection, one clock reading.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_authorize_deliveries(
    engine: *const wsauth_engine,
    connections: *const wsauth_connection,
    count: usize,
    r#type: *const u8,
    type_len: usize,
    fields: *const wsauth_field,
    field_count: usize,
    allowed: *mut wsauth_connection,
    allowed_count: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let written = unsafe { Out::new(allowed_count, 0) };
    call(|| {
        let mut written = written.require()?;
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        // SAFETY: the caller's contract.
        let name = unsafe { view::text(wsauth_bytes { ptr: r#type, len: type_len }, MAX_TEXT) }?;
        // SAFETY: the caller's contract.
        let fields = unsafe { Fields::new(fields, field_count) }?;
        // SAFETY: the caller's contract.
        let given = unsafe { view::array(connections, count, MAX_BATCH, Reason::MisuseArgument) }?;
        if allowed.is_null() && count > 0 {
            return Err(Reason::MisuseArgument.into());
        }
        let ids: Vec<ConnectionId> = given.map(ConnectionId::from_u64).collect();
        let mut kept = Vec::with_capacity(ids.len());
        life.guard.authorize_deliveries(&ids, name, fields.pairs(), &mut kept)?;
        for (index, id) in kept.iter().take(count).enumerate() {
            // SAFETY: `allowed` has room for `count`, and `index` is below it.
            unsafe { allowed.add(index).write_unaligned(id.as_u64()) };
        }
        written.write(kept.len());
        Ok(())
    })
}
