//! This file answers: does deciding an ordinary message allocate?
#![allow(unsafe_code, reason = "a counting allocator has to implement GlobalAlloc")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

mod shared;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use serde_json::json;
use shared::{Request, config, engine, token};
use wsauth::time::Now;
use wsauth::{Payload, Reason, Withheld};

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

#[test]
fn ordinary_messages_and_deliveries_allocate_nothing() {
    let engine = engine(&config(json!({
        "messages": {
            "ping": "public",
            "chat.send": "chat:write",
            "admin.kick": "admin",
            "listing.get": "listing:{listing_id}:read",
        },
        "deliveries": { "chat.message": "chat:write", "listing.changed": "listing:{listing_id}:read" },
        "limits": { "messages_per_user": { "count": 1_000_000, "per": "1s", "burst": 1_000_000 } },
    })))
    .unwrap();
    let now = Now::new(1_800_000_000_000, 1_000);
    let permissions = ["chat:write", "listing:42:read"];
    let token = token(&json!({ "sub": "ann", "exp": 1_800_003_600u64, "permissions": permissions }));
    let id = Request::new().bearer(&token).send(&engine, now).unwrap().connection;

    let say = |text: &str| {
        let before = ALLOCATIONS.with(Cell::get);
        let verdict = engine.message(id, Payload::Text(text.as_bytes()), now);
        (verdict.map(|_| ()), ALLOCATIONS.with(Cell::get) - before)
    };
    // The first call fills what a thread remembers.
    let _ = say(r#"{"type":"ping"}"#);
    assert_eq!(say(r#"{"type":"ping"}"#), (Ok(()), 0));
    assert_eq!(say(r#"{"text":"hi","type":"chat.send","more":[1,{"a":null}]}"#), (Ok(()), 0));
    assert_eq!(say(r#"{"type":"chat\u002esend","text":"\ud83d\ude00"}"#), (Ok(()), 0), "an escaped type");
    assert_eq!(say(r#"{"type":"listing.get","listing_id":"42"}"#), (Ok(()), 0), "a pattern takes a lock, no memory");
    let (verdict, _) = say(r#"{"type":"admin.kick"}"#);
    assert_eq!(verdict, Err(Withheld::Refused(Reason::PermissionMissing.into())));

    for (delivery, fields) in [("chat.message", &[][..]), ("listing.changed", &[("listing_id", "42")][..])] {
        let before = ALLOCATIONS.with(Cell::get);
        assert!(engine.authorize_delivery(id, delivery, fields, now).is_ok());
        assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0, "{delivery}");
    }
}
