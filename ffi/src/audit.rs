//! This file answers: what happened, and how does the operator's log hear of it?

use std::ffi::c_char;

use wsauth::audit::{AuditEvent, AuditKind};

use crate::boundary::{No, call, take_caught};
use crate::engine::life;
use crate::life::wsauth_engine;
use crate::out::Buffer;
use crate::result::{WSAUTH_HANDLED_EMPTY, wsauth_result};

/// Events taken from the engine at a time.
const AT_ONCE: usize = 64;

/// Takes audit events, oldest first: as many whole lines as fit. Call it now and then until it says
/// WSAUTH_HANDLED_EMPTY; what nobody fetches is dropped beyond audit.max_events, successes first, and counted.
///
/// @param engine                     The engine.
/// @param buffer, capacity, needed   Receives lines, each one JSON object in ASCII with a line feed, and a NUL; *needed
///                                   counts everything written and the NUL. 4,096 bytes hold any line. No line holds a
///                                   token or a secret; what nobody verified stands in fields named unverified_*.
/// @return WSAUTH_OK; WSAUTH_HANDLED_EMPTY; WSAUTH_HANDLED_BUFFER when not even the first line fits, and it stays; misuse.
/// Ownership: copied out.
/// Threads: any; each event goes to one of them.
/// Cost: short locks; formats.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_audit_drain(
    engine: *const wsauth_engine,
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
        let mut waiting = life.audit.lock();
        let caught = take_caught();
        if caught > 0 {
            let mut event = AuditEvent::new(AuditKind::Fault, life.guard.now().wall);
            event.detail = Some("a panic was caught at the border; its call was refused");
            event.count = Some(caught);
            waiting.push_back(event.to_json());
        }
        let mut text = String::new();
        loop {
            if waiting.is_empty() {
                waiting.extend(life.guard.audit(AT_ONCE).iter().map(AuditEvent::to_json));
            }
            let Some(line) = waiting.front() else { break };
            let longer = text.len().saturating_add(line.len()).saturating_add(1);
            if !buffer.fits(longer) {
                break;
            }
            text.push_str(line);
            text.push('\n');
            waiting.pop_front();
        }
        match waiting.front() {
            Some(line) if text.is_empty() => buffer.write(format!("{line}\n").as_bytes()),
            None if text.is_empty() => Err(No::Handled(WSAUTH_HANDLED_EMPTY)),
            _ => buffer.write(text.as_bytes()),
        }
    })
}
