//! This file answers: what does a number mean?
//!
//! All text is static and NUL-terminated. A number that is not known - a newer library's - reads as a fault.

use std::ffi::{CStr, c_char};
use std::sync::LazyLock;

use wsauth::{Reason, Refusal};

use crate::result::{
    WSAUTH_HANDLED_BUFFER, WSAUTH_HANDLED_CONSUMED, WSAUTH_HANDLED_EMPTY, WSAUTH_HANDLED_HOLD, WSAUTH_HANDLED_PENDING,
    WSAUTH_OK, wsauth_result,
};

/// The stable name of a result, for logs: "token_expired".
///
/// @param result  What a call returned.
/// @return Static text; "unknown" for a number that is none.
/// Ownership: the library's; never freed.
/// Threads: any.
/// Cost: one small search.
/// Since: 0.1.0
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_reason_name(result: wsauth_result) -> *const c_char {
    caught_or(result, |texts| texts.name)
}

/// One sentence on a result, for the operator.
///
/// @param result  What a call returned.
/// @return Static text.
/// Ownership: the library's; never freed.
/// Threads: any.
/// Cost: one small search.
/// Since: 0.1.0
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_reason_text(result: wsauth_result) -> *const c_char {
    caught_or(result, |texts| texts.text)
}

/// The name the peer may see; the reason text of a close frame. Credential reasons share one.
///
/// @param result  What a call returned.
/// @return Static text; "" where nothing is refused.
/// Ownership: the library's; never freed.
/// Threads: any.
/// Cost: one small search.
/// Since: 0.1.0
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_reason_public_name(result: wsauth_result) -> *const c_char {
    caught_or(result, |texts| texts.public_name)
}

/// One sentence the peer may read.
///
/// @param result  What a call returned.
/// @return Static text; "" where nothing is refused.
/// Ownership: the library's; never freed.
/// Threads: any.
/// Cost: one small search.
/// Since: 0.1.0
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_reason_public_text(result: wsauth_result) -> *const c_char {
    caught_or(result, |texts| texts.public_text)
}

/// What the client should do next: "refresh", "relogin", "retry", "retry_after", "never".
///
/// @param result  What a call returned.
/// @return Static text; "" where nothing is refused.
/// Ownership: the library's; never freed.
/// Threads: any.
/// Cost: one small search.
/// Since: 0.1.0
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_reason_action(result: wsauth_result) -> *const c_char {
    caught_or(result, |texts| texts.action)
}

/// The HTTP status of a handshake refused for it.
///
/// @param result  What a call returned.
/// @return The status; 0 where nothing is refused.
/// Ownership: the library's; never freed.
/// Threads: any.
/// Cost: one small search.
/// Since: 0.1.0
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_reason_http_status(result: wsauth_result) -> u32 {
    find(result).map_or(0, |reason| u32::from(reason.row().http))
}

/// The close code for it in the profile `default`. Decisions and events carry the configured one.
///
/// @param result  What a call returned.
/// @return The code; 0 where nothing is refused.
/// Ownership: the library's; never freed.
/// Threads: any.
/// Cost: one small search.
/// Since: 0.1.0
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_reason_close_code(result: wsauth_result) -> u32 {
    find(result).map_or(0, |reason| u32::from(reason.row().close))
}

/// The reason of a number. `None` for what refuses nothing; a number that is not known is a fault.
pub(crate) fn find(result: wsauth_result) -> Option<Reason> {
    match result {
        WSAUTH_OK | WSAUTH_HANDLED_CONSUMED..=WSAUTH_HANDLED_PENDING => None,
        other => {
            let at = Reason::ALL.binary_search_by_key(&other, |reason| u32::from(reason.number()));
            Some(at.ok().and_then(|at| Reason::ALL.get(at)).copied().unwrap_or(Reason::FaultInternal))
        }
    }
}

/// The refusal of a number.
pub(crate) fn refusal(result: wsauth_result, retry_after_ms: u32) -> Option<Refusal> {
    find(result).map(|reason| match retry_after_ms {
        0 => reason.into(),
        ms => Refusal::after(reason, u64::from(ms)),
    })
}

/// The static texts of a reason.
pub(crate) struct Texts {
    name: &'static CStr,
    text: &'static CStr,
    pub(crate) public_name: &'static CStr,
    public_text: &'static CStr,
    pub(crate) action: &'static CStr,
}

/// NUL-terminated copies of the core's table, made once; as many as there are reasons.
static TEXTS: LazyLock<Vec<(u32, Texts)>> = LazyLock::new(|| {
    let texts = |reason: &Reason| {
        let row = reason.row();
        let texts = Texts {
            name: terminated(row.name),
            text: terminated(row.text),
            public_name: terminated(row.public),
            public_text: terminated(reason.public_text()),
            action: terminated(row.action.name()),
        };
        (u32::from(reason.number()), texts)
    };
    Reason::ALL.iter().map(texts).collect()
});

fn terminated(text: &str) -> &'static CStr {
    std::ffi::CString::new(text).map_or(c"", |text| Box::leak(text.into_boxed_c_str()))
}

const fn handled(name: &'static CStr, text: &'static CStr) -> Texts {
    Texts { name, text, public_name: c"", public_text: c"", action: c"" }
}

static OK: Texts = handled(c"ok", c"allowed, or done");
static CONSUMED: Texts = handled(c"handled_consumed", c"a control message; nothing to deliver");
static HOLD: Texts = handled(c"handled_hold", c"the connection is still being authenticated");
static BUFFER: Texts = handled(c"handled_buffer", c"the buffer is too small; nothing was taken");
static EMPTY: Texts = handled(c"handled_empty", c"nothing is waiting");
static PENDING: Texts = handled(c"handled_pending", c"somebody is asked first; the outcome comes as an event");
static UNKNOWN: Texts = handled(c"unknown", c"this number is no result of this library");

/// Makes the copies now: a fork in the middle of making them would leave a child waiting for ever.
pub(crate) fn prepare() {
    LazyLock::force(&TEXTS);
}

/// The texts of a result.
pub(crate) fn texts(result: wsauth_result) -> &'static Texts {
    match result {
        WSAUTH_OK => &OK,
        WSAUTH_HANDLED_CONSUMED => &CONSUMED,
        WSAUTH_HANDLED_HOLD => &HOLD,
        WSAUTH_HANDLED_BUFFER => &BUFFER,
        WSAUTH_HANDLED_EMPTY => &EMPTY,
        WSAUTH_HANDLED_PENDING => &PENDING,
        other => {
            let at = TEXTS.binary_search_by_key(&other, |(number, _)| *number);
            at.ok().and_then(|at| TEXTS.get(at)).map_or(&UNKNOWN, |(_, texts)| texts)
        }
    }
}

fn caught_or(result: wsauth_result, pick: impl Fn(&'static Texts) -> &'static CStr) -> *const c_char {
    crate::boundary::caught(|| pick(texts(result))).unwrap_or(c"").as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: *const c_char) -> &'static str {
        // SAFETY: static and terminated.
        unsafe { CStr::from_ptr(text) }.to_str().unwrap()
    }

    #[test]
    fn every_reason_reads_as_in_the_table() {
        for reason in Reason::ALL {
            let (number, row) = (u32::from(reason.number()), reason.row());
            assert_eq!(read(wsauth_reason_name(number)), row.name);
            assert_eq!(read(wsauth_reason_text(number)), row.text);
            assert_eq!(read(wsauth_reason_public_name(number)), row.public);
            assert_eq!(read(wsauth_reason_public_text(number)), reason.public_text());
            assert_eq!(read(wsauth_reason_action(number)), row.action.name());
            assert_eq!(wsauth_reason_http_status(number), u32::from(row.http));
            assert_eq!(wsauth_reason_close_code(number), u32::from(row.close));
        }
    }

    #[test]
    fn a_strange_number_is_a_fault_and_no_yes() {
        assert_eq!(read(wsauth_reason_name(7)), "unknown");
        assert_eq!(find(7), Some(Reason::FaultInternal));
        assert_eq!(wsauth_reason_http_status(u32::MAX), 503);
        assert_eq!((find(0), wsauth_reason_http_status(0)), (None, 0));
    }
}
