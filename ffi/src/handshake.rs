//! This file answers: may this upgrade request become a connection, and what is said when not?

use std::ffi::c_char;

use serde_json::json;
use wsauth::{Admitted, Outcome, Progress, Reason, Refusal};

use crate::abi::{
    WSAUTH_PROGRESS_AUTHENTICATING, WSAUTH_PROGRESS_AWAITING_AUTH, WSAUTH_PROGRESS_LIVE, wsauth_handshake_result,
    wsauth_request,
};
use crate::boundary::{No, call};
use crate::engine::life;
use crate::life::{Life, wsauth_engine};
use crate::out::{Buffer, Out};
use crate::request::Request;
use crate::result::wsauth_result;
use crate::verdict::{self, denying};
use crate::{reason, result};

/// Decides an upgrade request. Call it before the upgrade is answered.
///
/// @param engine   The engine.
/// @param request  The request, begun with WSAUTH_REQUEST_INIT.
/// @param out      Receives the connection, or what to answer: pass the result and retry_after_ms on to
///                 wsauth_refusal_http, or accept and close with close_code and public_name.
/// @return WSAUTH_OK: finish the upgrade as out->progress says, and call wsauth_connection_closed when the socket is gone,
///         also when the upgrade never completes. Anything else: nothing is held.
/// Ownership: nothing is kept, everything is copied out.
/// Threads: any.
/// Cost: one signature: 0.5 microseconds (HMAC) to 50 (ES256); before it only shape, address and Origin are looked at.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_handshake(
    engine: *const wsauth_engine,
    request: *const wsauth_request,
    out: *mut wsauth_handshake_result,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let out = unsafe { Out::new(out, refused_result()) };
    call(|| {
        let mut out = out.require()?;
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) };
        // SAFETY: the caller's contract.
        let decided = life.and_then(|life| Ok((life, unsafe { decide(life, request) }?)));
        match decided {
            Ok((life, admitted)) => accept(life, &admitted, &mut out),
            Err(no) => {
                if let No::Refused(refusal) = no {
                    out.write(refused(life.ok(), refusal));
                }
                Err(no)
            }
        }
    })
}

/// # Safety
///
/// As [`Request::new`].
unsafe fn decide(life: &Life, request: *const wsauth_request) -> Result<Admitted, No> {
    // SAFETY: handed on.
    let request = unsafe { Request::new(request) }?;
    let shard = life.require_shard(request.shard)?;
    Ok(life.guard.handshake(shard, &request.upgrade())?)
}

fn accept(life: &Life, admitted: &Admitted, out: &mut Out<wsauth_handshake_result>) -> Result<(), No> {
    let mut result = refused_result();
    let name = admitted.subprotocol.as_deref().unwrap_or("").as_bytes();
    // The last byte stays 0. Configured names fit; without configured names the peer chose this one.
    if name.len() >= result.subprotocol.len() {
        life.guard.closed(admitted.connection);
        let refusal = Refusal::from(Reason::RequestTooLarge);
        out.write(refused(Some(life), refusal));
        return Err(refusal.into());
    }
    for (to, from) in result.subprotocol.iter_mut().zip(name) {
        *to = c_char::from_ne_bytes([*from]);
    }
    let clean = verdict::clean(0);
    result.connection = admitted.connection.as_u64();
    result.progress = match admitted.progress {
        Progress::Live => WSAUTH_PROGRESS_LIVE,
        Progress::Authenticating => WSAUTH_PROGRESS_AUTHENTICATING,
        Progress::AwaitingAuth => WSAUTH_PROGRESS_AWAITING_AUTH,
    };
    (result.http_status, result.close_code) = (0, 0);
    (result.public_name, result.client_action) = (clean.public_name, clean.client_action);
    out.write(result);
    Ok(())
}

/// What is written before anything is known.
fn refused_result() -> wsauth_handshake_result {
    let fault = denying();
    wsauth_handshake_result {
        connection: 0,
        progress: 0,
        retry_after_ms: 0,
        http_status: fault.http_status,
        close_code: fault.close_code,
        reserved: 0,
        public_name: fault.public_name,
        client_action: fault.client_action,
        subprotocol: [0; 256],
    }
}

fn refused(life: Option<&Life>, refusal: Refusal) -> wsauth_handshake_result {
    let public = verdict::public(life, refusal);
    wsauth_handshake_result {
        retry_after_ms: public.retry_after_ms,
        http_status: public.http_status,
        close_code: public.close_code,
        public_name: public.public_name,
        client_action: public.client_action,
        ..refused_result()
    }
}

/// Renders the complete HTTP/1.1 response that refuses an upgrade: status line, header fields, body. Write it to the
/// socket and close. It holds only public text.
///
/// @param result                     What wsauth_handshake returned, or the reason of WSAUTH_EVENT_REFUSED.
/// @param retry_after_ms             From the same place; 0 where that is not known.
/// @param buffer, capacity, needed   Receives the response and a NUL; *needed counts the NUL. 1,024 bytes are enough.
/// @return WSAUTH_OK, WSAUTH_HANDLED_BUFFER, or misuse, also when `result` refuses nothing.
/// Ownership: copied out.
/// Threads: any.
/// Cost: formats half a kilobyte.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_refusal_http(
    result: wsauth_result,
    retry_after_ms: u32,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let mut buffer = unsafe { Buffer::new(buffer, capacity, needed) };
    call(|| {
        buffer.require()?;
        let refusal = reason::refusal(result, retry_after_ms).ok_or(Reason::MisuseArgument)?;
        buffer.write(render(refusal).as_bytes())
    })
}

fn render(refusal: Refusal) -> String {
    let response = refusal.http_response();
    let mut text = format!("HTTP/1.1 {} {}\r\n", response.status, phrase(response.status));
    for (name, value) in &response.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", response.body.len()));
    text.push_str(&response.body);
    text
}

fn phrase(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        408 => "Request Timeout",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

/// Judges a request step by step without admitting it: nothing is charged, counted or audited. For operators.
///
/// @param engine                     The engine.
/// @param request                    The request, begun with WSAUTH_REQUEST_INIT.
/// @param buffer, capacity, needed   Receives a JSON array, a step an element: {"step", "outcome": "passed" | "refused" |
///                                   "needs_lookup", "reason", "code", "detail"}. Holds no token.
/// @return WSAUTH_OK when it was judged, which admits nobody; WSAUTH_HANDLED_BUFFER; misuse.
/// Ownership: copied out.
/// Threads: any.
/// Cost: as wsauth_handshake, and formats.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_handshake_explain(
    engine: *const wsauth_engine,
    request: *const wsauth_request,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let mut buffer = unsafe { Buffer::new(buffer, capacity, needed) };
    call(|| {
        buffer.require()?;
        // SAFETY: the caller's contract.
        let (life, request) = unsafe { (life(engine)?, Request::new(request)?) };
        let steps: Vec<_> = life
            .guard
            .explain(&request.upgrade())
            .into_iter()
            .map(|step| {
                let (outcome, refusal) = match step.outcome {
                    Outcome::Passed => ("passed", None),
                    Outcome::Refused(refusal) => ("refused", Some(refusal)),
                    Outcome::NeedsLookup => ("needs_lookup", None),
                };
                let reason = refusal.map(|refusal| refusal.reason.name());
                let code = refusal.map_or(result::WSAUTH_OK, |refusal| refusal.reason.number().into());
                json!({ "step": step.name, "outcome": outcome, "reason": reason, "code": code, "detail": step.detail })
            })
            .collect();
        buffer.write(json!(steps).to_string().as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_a_whole_response() {
        let text = render(Refusal::after(Reason::AddressConnections, 1_500));
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 429 Too Many Requests\r\n"));
        assert!(head.contains("\r\nRetry-After: 2\r\n"));
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        for reason in Reason::ALL {
            let text = render(Refusal::after(*reason, u64::from(u32::MAX)));
            assert!(text.len() < 1_024 && !phrase(reason.row().http).is_empty(), "{}", reason.name());
            assert_eq!(phrase(reason.row().http) == "Internal Server Error", reason.row().http == 500);
        }
    }
}
