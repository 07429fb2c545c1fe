//! This file answers: what else must a server do after a decision?

use std::ffi::{CStr, c_char};

use wsauth::{Refusal, Withheld};

use crate::abi::{
    WSAUTH_ACTION_CLOSE, WSAUTH_ACTION_HOLD, WSAUTH_ACTION_NONE, WSAUTH_ACTION_REPLY_QUEUED, wsauth_decision,
};
use crate::boundary::No;
use crate::life::Life;
use crate::out::Out;
use crate::reason::texts;
use crate::result::{WSAUTH_FAULT_PANIC, WSAUTH_HANDLED_CONSUMED, WSAUTH_HANDLED_HOLD};

const EMPTY: &CStr = c"";

/// What is written before anything is known: a fault, as if the call had panicked.
pub(crate) fn denying() -> wsauth_decision {
    let texts = texts(WSAUTH_FAULT_PANIC);
    wsauth_decision {
        action: WSAUTH_ACTION_NONE,
        retry_after_ms: 0,
        close_code: 4012,
        http_status: 503,
        reserved: 0,
        public_name: texts.public_name.as_ptr(),
        client_action: texts.action.as_ptr(),
    }
}

/// Nothing is refused.
pub(crate) fn clean(action: u32) -> wsauth_decision {
    wsauth_decision {
        action,
        retry_after_ms: 0,
        close_code: 0,
        http_status: 0,
        reserved: 0,
        public_name: EMPTY.as_ptr(),
        client_action: EMPTY.as_ptr(),
    }
}

/// A refusal as the peer may see it.
pub(crate) struct Public {
    pub(crate) retry_after_ms: u32,
    pub(crate) close_code: u16,
    pub(crate) http_status: u16,
    pub(crate) public_name: *const c_char,
    pub(crate) client_action: *const c_char,
}

/// The public side of a refusal; the close code as configured where there is an engine.
pub(crate) fn public(life: Option<&Life>, refusal: Refusal) -> Public {
    let row = refusal.row();
    let texts = texts(u32::from(refusal.reason.number()));
    Public {
        retry_after_ms: refusal.retry_after_ms.unwrap_or(0),
        close_code: life.map_or(row.close, |life| life.guard.close_code(refusal.reason)),
        http_status: row.http,
        public_name: texts.public_name.as_ptr(),
        client_action: texts.action.as_ptr(),
    }
}

fn refused(life: Option<&Life>, refusal: Refusal, action: u32) -> wsauth_decision {
    let public = public(life, refusal);
    wsauth_decision {
        action,
        retry_after_ms: public.retry_after_ms,
        close_code: public.close_code,
        http_status: public.http_status,
        reserved: 0,
        public_name: public.public_name,
        client_action: public.client_action,
    }
}

/// Runs a decision about a message and writes what goes with it.
pub(crate) fn decide(
    out: &mut Out<wsauth_decision>,
    life: Result<&Life, No>,
    decide: impl FnOnce(&Life) -> Result<Result<(), Withheld>, No>,
) -> Result<(), No> {
    let (decision, result) = match life.and_then(decide) {
        Ok(Ok(())) => (clean(WSAUTH_ACTION_NONE), Ok(())),
        Ok(Err(Withheld::Consumed)) => (clean(WSAUTH_ACTION_REPLY_QUEUED), Err(No::Handled(WSAUTH_HANDLED_CONSUMED))),
        Ok(Err(Withheld::Hold)) => (clean(WSAUTH_ACTION_HOLD), Err(No::Handled(WSAUTH_HANDLED_HOLD))),
        Ok(Err(Withheld::Refused(refusal))) => {
            // A stale handle has no outbox.
            let misuse = refusal.reason.class() == wsauth::Class::Misuse;
            let action = if misuse { WSAUTH_ACTION_NONE } else { WSAUTH_ACTION_REPLY_QUEUED };
            (refused(life.ok(), refusal, action), Err(refusal.into()))
        }
        Ok(Err(Withheld::Close(refusal))) => (refused(life.ok(), refusal, WSAUTH_ACTION_CLOSE), Err(refusal.into())),
        Err(No::Refused(refusal)) => (refused(life.ok(), refusal, WSAUTH_ACTION_NONE), Err(refusal.into())),
        Err(handled @ No::Handled(_)) => (clean(WSAUTH_ACTION_NONE), Err(handled)),
    };
    out.write(decision);
    result
}
