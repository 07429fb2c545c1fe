//! This file answers: does `docs/refusals.md` say what the table says?
//!
//! The page is made from the table: `make docs` writes it anew.
#![allow(clippy::unwrap_used, reason = "a test that panics fails, as it should")]

use std::fmt::Write as _;
use std::path::Path;

use wsauth::{Class, Reason};

#[test]
fn the_page_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/refusals.md");
    let page = page();
    if std::env::var_os("WSAUTH_WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), page, "docs/refusals.md is old: run `make docs`");
}

fn page() -> String {
    let mut page = String::from(
        "# Every refusal\n\n\
         Made from `core/src/decision/refusal.rs` by `make docs`; a test compares them.\n\n\
         **Number and name** are stable, for the host, the audit and the metrics. **Public** is all the peer learns, so\n\
         that a refused credential cannot be probed. **HTTP** is the status of a refused handshake, **close** the code\n\
         in the profile `default`. **Action** tells the client what to do: `refresh` its token and connect again,\n\
         `relogin`, `retry` with back-off, `retry_after` the given delay, or `never`.\n",
    );
    let mut class = None;
    for reason in Reason::ALL {
        if class != Some(reason.class()) {
            class = Some(reason.class());
            let title = match reason.class() {
                Class::Misuse => "11: the server used the library wrongly",
                Class::Fault => "12: the library failed",
                Class::Configuration => "13: the configuration",
                Class::Credential => "14: the credential",
                Class::Connection => "15: the life of the connection",
                Class::Limit => "16: a limit",
                Class::Request => "17: the upgrade request",
                Class::Message => "18: a message or a permission",
            };
            write!(page, "\n## {title}\n\n").unwrap();
            page.push_str(
                "| number | name | public | HTTP | close | action | meaning |\n|---|---|---|---|---|---|---|\n",
            );
        }
        let row = reason.row();
        writeln!(
            page,
            "| {} | `{}` | `{}` | {} | {} | {} | {} |",
            reason.number(),
            row.name,
            row.public,
            row.http,
            row.close,
            row.action.name(),
            row.text
        )
        .unwrap();
    }
    page
}
