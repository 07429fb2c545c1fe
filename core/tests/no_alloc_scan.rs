//! This file answers: does deciding an ordinary message allocate?
#![allow(unsafe_code, reason = "a counting allocator has to implement GlobalAlloc")]
#![allow(clippy::unwrap_used, reason = "a test that cannot start fails")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use wsauth::Reason;
use wsauth::config::RuleConfig;
use wsauth::policy::door::Door;

struct Counting;

thread_local! {
    // Per thread, so that the harness and other tests do not count.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let before = ALLOCATIONS.with(Cell::get);
    let result = work();
    (result, ALLOCATIONS.with(Cell::get) - before)
}

fn door() -> Door {
    let rule = |name: &str, permission: &str| {
        (name.to_string(), RuleConfig { permissions: vec![permission.to_string()], weight: 1 })
    };
    let rules = [
        rule("ping", "public"),
        rule("chat.send", "chat:write"),
        rule("admin.kick", "admin"),
        rule("listing.get", "listing:{listing_id}:read"),
    ];
    Door::new(&rules, &["chat:write", "listing:*:read"], "user-1").unwrap()
}

#[test]
fn the_counter_counts() {
    let (_, count) = allocations(|| vec![1u8; 10]);
    assert_eq!(count, 1);
}

#[test]
fn deciding_a_message_allocates_nothing() {
    let door = door();
    let long = format!(r#"{{"text":"{}","type":"chat.send"}}"#, "x\\u20ac\u{20ac}".repeat(5_000));
    let messages: &[(&str, Result<(), Reason>)] = &[
        (r#"{"type":"ping"}"#, Ok(())),
        (r#"{"type":"chat.send","text":"hi \u00e9","more":[1,2.5e3,{"a":[null]}]}"#, Ok(())),
        (r#"{"t\u0079pe":"chat\u002esend"}"#, Ok(())),
        (&long, Ok(())),
        (r#"{"type":"listing.get","listing_id":"a\u0062"}"#, Ok(())),
        (r#"{"listing_id":7,"type":"listing.get"}"#, Ok(())),
        (r#"{"type":"listing.get","listing_id":"*"}"#, Err(Reason::MessageFieldInvalid)),
        (r#"{"type":"listing.get","listing_id":1,"LISTING_ID":2}"#, Err(Reason::MessageFieldRepeated)),
        (r#"{"type":"admin.kick"}"#, Err(Reason::PermissionMissing)),
        (r#"{"type":"nothing"}"#, Err(Reason::MessageTypeUnknown)),
        (r#"{"type":"ping","type":"ping"}"#, Err(Reason::MessageFieldRepeated)),
        (r#"{"type":["ping"]}"#, Err(Reason::MessageTypeMissing)),
        (r#"{"type":"ping""#, Err(Reason::MessageMalformed)),
    ];
    for (text, wanted) in messages {
        let (result, count) = allocations(|| door.require_message(text.as_bytes()));
        assert_eq!((result, count), (*wanted, 0), "{text:.80}");
    }
}
