//! This file answers: who is cut off?

use wsauth::{ConnectionId, Propagated, Reason, Revocation};

use crate::abi::{
    WSAUTH_PROPAGATED_NO, WSAUTH_PROPAGATED_OFF, WSAUTH_PROPAGATED_YES, WSAUTH_REVOKE_CONNECTION, WSAUTH_REVOKE_ISSUER,
    WSAUTH_REVOKE_KEY, WSAUTH_REVOKE_SESSION, WSAUTH_REVOKE_SUBJECT, WSAUTH_REVOKE_TOKEN, wsauth_revocation,
    wsauth_revoked,
};
use crate::boundary::{No, call};
use crate::engine::life;
use crate::life::wsauth_engine;
use crate::out::Out;
use crate::result::wsauth_result;
use crate::view::{MAX_TEXT, sized, text};

/// Cuts off. No call that begins after this has returned is decided on the old state; wsauth_poll says which connections
/// to close.
///
/// @param engine  The engine.
/// @param what    What to revoke, begun with WSAUTH_REVOCATION_INIT.
/// @param out     Receives what it did; may be NULL.
/// @return WSAUTH_OK, also when nothing was connected; misuse, and nothing is revoked.
/// Ownership: copied.
/// Threads: any.
/// Cost: the connections it hits; for a key a walk over all.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_revoke(
    engine: *const wsauth_engine,
    what: *const wsauth_revocation,
    out: *mut wsauth_revoked,
) -> wsauth_result {
    let nothing = wsauth_revoked { closed: 0, propagated: WSAUTH_PROPAGATED_OFF, reserved: 0 };
    // SAFETY: the caller's contract.
    let mut out = unsafe { Out::new(out, nothing) };
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        // SAFETY: the caller's contract.
        let given = unsafe { sized(what) }?;
        // SAFETY: the caller's contract.
        let (issuer, name) = unsafe { (text(given.issuer, MAX_TEXT)?, text(given.name, MAX_TEXT)?) };
        let revoked = life.guard.revoke(parse(&given, issuer, name)?);
        let propagated = match revoked.propagated {
            Propagated::Yes => WSAUTH_PROPAGATED_YES,
            Propagated::No => WSAUTH_PROPAGATED_NO,
            Propagated::Off => WSAUTH_PROPAGATED_OFF,
        };
        out.write(wsauth_revoked {
            closed: u64::try_from(revoked.closed).unwrap_or(u64::MAX),
            propagated,
            reserved: 0,
        });
        Ok(())
    })
}

/// A revocation that names nothing would look done and cut nobody off: it is misuse.
fn parse<'a>(given: &wsauth_revocation, issuer: &'a str, name: &'a str) -> Result<Revocation<'a>, No> {
    let issued_before = Some(given.issued_before_s).filter(|seconds| *seconds > 0);
    let (named, whole) = (!issuer.is_empty() && !name.is_empty(), !issuer.is_empty() && name.is_empty());
    Ok(match given.kind {
        WSAUTH_REVOKE_CONNECTION if given.connection != 0 => {
            Revocation::Connection(ConnectionId::from_u64(given.connection))
        }
        WSAUTH_REVOKE_TOKEN if named => Revocation::Token { issuer, token_id: name },
        WSAUTH_REVOKE_SESSION if named => Revocation::Session { issuer, session_id: name },
        WSAUTH_REVOKE_SUBJECT if named => Revocation::Subject { issuer, subject: name, issued_before },
        WSAUTH_REVOKE_ISSUER if whole => Revocation::Issuer { issuer, issued_before },
        WSAUTH_REVOKE_KEY if named => Revocation::Key { issuer, key_id: name },
        _ => return Err(Reason::MisuseArgument.into()),
    })
}
