//! This file answers: how does a new token come into force?

use wsauth::{ConnectionId, Reason, Refreshed};

use crate::abi::{wsauth_connection, wsauth_decision};
use crate::boundary::{No, call};
use crate::engine::life;
use crate::life::wsauth_engine;
use crate::out::Out;
use crate::result::{WSAUTH_HANDLED_PENDING, wsauth_result};
use crate::verdict::{decide, denying};
use crate::view::{self, MAX_TEXT};

/// Puts a new token in force on a live connection, as one transaction: the peer is told by wsauth_poll. For servers whose
/// clients bring tokens by another way than the `token_refresh` message, which wsauth_message takes.
///
/// @param engine      The engine.
/// @param connection  The connection.
/// @param token, len  The token.
/// @param decision    Receives what to do besides; may be NULL.
/// @return WSAUTH_OK when it is in force, or was already; WSAUTH_HANDLED_PENDING when its source is asked first; a
///         refusal, which changes nothing but the count of attempts.
/// Ownership: nothing is kept but a pending token, wiped after.
/// Threads: any.
/// Cost: one signature: 0.5 microseconds (HMAC) to 50 (ES256).
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_refresh(
    engine: *const wsauth_engine,
    connection: wsauth_connection,
    token: *const u8,
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
            let token = unsafe { view::bytes(token, len, MAX_TEXT, Reason::TokenTooLarge) }?;
            match life.guard.refresh(ConnectionId::from_u64(connection), token) {
                Ok(Refreshed::Pending) => Err(No::Handled(WSAUTH_HANDLED_PENDING)),
                Ok(_) => Ok(Ok(())),
                Err(refusal) => Ok(Err(wsauth::Withheld::Refused(refusal))),
            }
        })
    })
}

/// Puts a new token in force on every live connection of its subject: for servers that refresh over HTTP, behind a cookie.
///
/// @param engine      The engine.
/// @param token, len  The token.
/// @param count       Receives how many connections took it; may be NULL.
/// @return WSAUTH_OK, or a refusal, which changes nothing.
/// Ownership: nothing is kept.
/// Threads: any.
/// Cost: one signature, and the subject's connections.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_refresh_subject(
    engine: *const wsauth_engine,
    token: *const u8,
    len: usize,
    count: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let mut out = unsafe { Out::new(count, 0) };
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        // SAFETY: the caller's contract.
        let token = unsafe { view::bytes(token, len, MAX_TEXT, Reason::TokenTooLarge) }?;
        out.write(life.guard.refresh_subject(token)?);
        Ok(())
    })
}
