//! This file answers: what must the server do now?

use std::collections::VecDeque;
use std::mem::size_of;

use serde_json::json;
use wsauth::{Event, EventKind, Reason, Refusal};

use crate::abi::{
    WSAUTH_EVENT_CLOSE, WSAUTH_EVENT_PERMISSIONS, WSAUTH_EVENT_READY, WSAUTH_EVENT_REFUSED, WSAUTH_EVENT_SEND,
    wsauth_bytes, wsauth_event,
};
use crate::boundary::{No, call};
use crate::connection::names;
use crate::engine::life;
use crate::life::{Life, wsauth_engine};
use crate::out::Out;
use crate::result::wsauth_result;

/// Most events of one poll, however large the array is.
const MAX_EVENTS: usize = 4_096;
/// Largest event of a newer header that is believed.
const MAX_EVENT_SIZE: usize = 1_024;

/// What waits for the poller of one shard in C.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// What the poll in progress took; still here after one that panicked.
    fresh: Vec<Event>,
    /// One connection's events come together and may be more than the caller has room for.
    waiting: VecDeque<Event>,
    /// The texts of the last poll, which C looks at until the next.
    shown: Vec<String>,
}

/// Takes what the server must do on one shard: serves deadlines, then writes events. Call it when the shard's wake
/// descriptor is readable and when the timeout has passed. In order: do what each event says.
///
/// @param engine      The engine.
/// @param shard       The shard; 0 where there is one.
/// @param events      Room for `capacity` events.
/// @param capacity    At least 1; no more than 4,096 are written.
/// @param event_size  sizeof(wsauth_event).
/// @param count       Receives how many were written.
/// @param timeout_ms  Receives milliseconds until the next call at the latest, -1 for ever, 0 when more waits already: as
///                    poll and epoll_wait take it. May be NULL.
/// @return WSAUTH_OK, also for no events; WSAUTH_MISUSE_BUSY while another thread polls this shard; misuse.
/// Ownership: the texts are the engine's and live until the next call for this shard.
/// Threads: one a shard at a time.
/// Cost: up to 1,024 deadlines; an allocation a text.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_poll(
    engine: *const wsauth_engine,
    shard: u32,
    events: *mut wsauth_event,
    capacity: usize,
    event_size: usize,
    count: *mut usize,
    timeout_ms: *mut i32,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let (count, mut timeout) = unsafe { (Out::new(count, 0), Out::new(timeout_ms, 0)) };
    call(|| {
        let mut count = count.require()?;
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        let shard = life.require_shard(shard)?;
        let sized = (size_of::<wsauth_event>()..=MAX_EVENT_SIZE).contains(&event_size);
        if events.is_null() || capacity == 0 || !sized {
            return Err(Reason::MisuseArgument.into());
        }
        let mut outbox = life.outboxes.get(usize::from(shard)).ok_or(Reason::MisuseArgument)?.try_lock();
        let outbox = outbox.as_mut().ok_or(Reason::MisuseBusy)?;
        let (taken, wait) = take(life, shard, outbox, capacity.min(MAX_EVENTS))?;
        for (index, event) in taken.iter().enumerate() {
            // SAFETY: `events` has room for `capacity` elements of `event_size`, and `index` is below that.
            unsafe { put(events, event_size, index, event) };
        }
        count.write(taken.len());
        timeout.write(wait);
        Ok(())
    })
}

/// # Safety
///
/// `first` has room for more than `index` elements of `size` bytes, at least as large as today's event.
unsafe fn put(first: *mut wsauth_event, size: usize, index: usize, event: &wsauth_event) {
    // SAFETY: inside the array.
    let place = unsafe { first.cast::<u8>().add(index.saturating_mul(size)) };
    // A newer header's fields read 0.
    // SAFETY: as above.
    unsafe { place.write_bytes(0, size) };
    // SAFETY: as above; alignment is not asked for.
    unsafe { place.cast::<wsauth_event>().write_unaligned(*event) };
}

fn take(life: &Life, shard: u8, outbox: &mut Outbox, room: usize) -> Result<(Vec<wsauth_event>, i32), No> {
    let polled = life.guard.poll(shard, room.saturating_sub(outbox.waiting.len()), &mut outbox.fresh)?;
    outbox.waiting.extend(outbox.fresh.drain(..));
    outbox.shown.clear();
    let mut taken = Vec::with_capacity(room.min(outbox.waiting.len()));
    while taken.len() < room
        && let Some(event) = outbox.waiting.pop_front()
    {
        taken.push(outbox.show(event));
    }
    if !outbox.waiting.is_empty() {
        life.guard.wake().wake(shard);
    }
    let more = polled.more || !outbox.waiting.is_empty();
    Ok((taken, if more { 0 } else { life.timeout(polled.next_deadline) }))
}

impl Outbox {
    fn show(&mut self, event: Event) -> wsauth_event {
        let mut shown = wsauth_event {
            connection: event.connection.as_u64(),
            kind: WSAUTH_EVENT_READY,
            reason: 0,
            retry_after_ms: 0,
            close_code: 0,
            reserved: 0,
            text: wsauth_bytes { ptr: std::ptr::null(), len: 0 },
        };
        match event.kind {
            EventKind::Send(text) => {
                shown.kind = WSAUTH_EVENT_SEND;
                shown.text = self.keep(text);
            }
            EventKind::Ready => {}
            EventKind::PermissionsChanged(diff) => {
                shown.kind = WSAUTH_EVENT_PERMISSIONS;
                let text = json!({ "added": names(&diff.added), "removed": names(&diff.removed) });
                shown.text = self.keep(text.to_string());
            }
            EventKind::Refused { refusal, code } => {
                shown.kind = WSAUTH_EVENT_REFUSED;
                end(&mut shown, refusal, code);
            }
            EventKind::Close { refusal, code } => {
                shown.kind = WSAUTH_EVENT_CLOSE;
                end(&mut shown, refusal, code);
            }
        }
        shown
    }

    fn keep(&mut self, text: String) -> wsauth_bytes {
        let view = wsauth_bytes { ptr: text.as_ptr(), len: text.len() };
        // Moving the string leaves its bytes where they are.
        self.shown.push(text);
        view
    }
}

fn end(event: &mut wsauth_event, refusal: Refusal, code: u16) {
    let public = refusal.row().public;
    event.reason = u32::from(refusal.reason.number());
    event.retry_after_ms = refusal.retry_after_ms.unwrap_or(0);
    event.close_code = code;
    event.text = wsauth_bytes { ptr: public.as_ptr(), len: public.len() };
}
