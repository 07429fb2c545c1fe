//! This file answers: which JSON does wsauth itself send and read?
//!
//! The texts of DESIGN section 7. Times are whole seconds, `expires_at` and the like since 1970; delays whose
//! name ends in `_ms` are milliseconds. No byte of an unverified peer stands in any of them.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::connection::PermissionDiff;
use crate::decision::{Reason, Refusal};
use crate::time::{MonoTime, Now, WallTime};
use crate::wire::Message;

/// Longest control message read, in bytes.
pub(crate) const MAX_CONTROL_BYTES: usize = 16 * 1024;

/// Writes the control messages of one engine, under its name for the type field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ControlWriter<'a> {
    /// The name of the field that holds the type.
    pub(crate) type_field: &'a str,
}

impl ControlWriter<'_> {
    pub(crate) fn auth_success(self, subject: &str, expiry: WallTime, ask_at: MonoTime, now: Now) -> String {
        self.write(
            "auth_success",
            json!({
                "user": { "id": subject },
                "expires_at": expiry.as_secs(),
                "refresh_at": wall_of(ask_at, now).as_secs(),
            }),
        )
    }

    pub(crate) fn token_refresh_required(self, expiry: MonoTime, deadline: MonoTime, now: Now) -> String {
        self.write(
            "token_refresh_required",
            json!({
                "expiresIn": expiry.since(now.mono) / 1000,
                "deadline": wall_of(deadline, now).as_secs(),
            }),
        )
    }

    pub(crate) fn token_refreshed(self, expiry: WallTime, ask_at: MonoTime, diff: &PermissionDiff, now: Now) -> String {
        self.write(
            "token_refreshed",
            json!({
                "expires_at": expiry.as_secs(),
                "refresh_at": wall_of(ask_at, now).as_secs(),
                "added": names(&diff.added),
                "removed": names(&diff.removed),
            }),
        )
    }

    pub(crate) fn token_refresh_failed(
        self,
        refusal: Refusal,
        attempts_left: u32,
        deadline: MonoTime,
        now: Now,
    ) -> String {
        self.write(
            "token_refresh_failed",
            json!({
                "code": refusal.row().public,
                "attempts_left": attempts_left,
                "deadline": wall_of(deadline, now).as_secs(),
            }),
        )
    }

    pub(crate) fn permissions_changed(self, diff: &PermissionDiff) -> String {
        self.write("permissions_changed", json!({ "added": names(&diff.added), "removed": names(&diff.removed) }))
    }

    pub(crate) fn rate_limited(self, retry_after_ms: u32) -> String {
        self.write("rate_limited", json!({ "retry_after_ms": retry_after_ms }))
    }

    pub(crate) fn error(self, refusal: Refusal, request_type: Option<&str>) -> String {
        let mut body = json!({ "code": refusal.row().public, "message": refusal.reason.public_text() });
        if let (Some(name), Some(object)) = (request_type, body.as_object_mut()) {
            object.insert("request_type".to_owned(), Value::from(name));
        }
        self.write("error", body)
    }

    fn write(self, name: &str, body: Value) -> String {
        let mut message = Map::new();
        message.insert(self.type_field.to_owned(), Value::from(name));
        if let Value::Object(fields) = body {
            // A type field named like one of ours stays the type.
            for (key, value) in fields {
                message.entry(key).or_insert(value);
            }
        }
        Value::Object(message).to_string()
    }
}

/// Reads the token of an `auth` or `token_refresh` message.
pub(crate) fn parse_control_token<'a>(message: &Message<'a>) -> Result<Cow<'a, str>, Reason> {
    match message.find_text("token", MAX_CONTROL_BYTES)? {
        Some(token) if !token.is_empty() => Ok(token),
        _ => Err(Reason::CredentialMissing),
    }
}

fn names(list: &[Arc<str>]) -> Vec<&str> {
    list.iter().map(AsRef::as_ref).collect()
}

/// The wall time at which the monotonic clock will read `at`, if neither is stepped.
fn wall_of(at: MonoTime, now: Now) -> WallTime {
    if at >= now.mono {
        now.wall.plus(at.since(now.mono))
    } else {
        WallTime(now.wall.0.saturating_sub(now.mono.since(at)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{ControlWriter, parse_control_token};
    use crate::connection::PermissionDiff;
    use crate::decision::{Reason, Refusal};
    use crate::time::{MonoTime, Now, WallTime};
    use crate::wire::{MessageShape, scan_message};

    const WRITE: ControlWriter<'_> = ControlWriter { type_field: "type" };

    #[test]
    fn the_texts_are_those_of_the_wire() {
        let now = Now::new(1_000_000_000, 10_000);
        assert_eq!(
            WRITE.auth_success("u", WallTime(1_000_600_000), MonoTime(310_000), now),
            r#"{"expires_at":1000600,"refresh_at":1000300,"type":"auth_success","user":{"id":"u"}}"#
        );
        assert_eq!(
            WRITE.token_refresh_required(MonoTime(40_000), MonoTime(40_000), now),
            r#"{"deadline":1000030,"expiresIn":30,"type":"token_refresh_required"}"#
        );
        let diff = PermissionDiff { added: vec![Arc::from("a")], removed: vec![Arc::from("b")] };
        assert_eq!(
            WRITE.token_refreshed(WallTime(1_000_600_000), MonoTime(310_000), &diff, now),
            r#"{"added":["a"],"expires_at":1000600,"refresh_at":1000300,"removed":["b"],"type":"token_refreshed"}"#
        );
        assert_eq!(
            WRITE.token_refresh_failed(Reason::SignatureInvalid.into(), 2, MonoTime(40_000), now),
            r#"{"attempts_left":2,"code":"auth_failed","deadline":1000030,"type":"token_refresh_failed"}"#
        );
        assert_eq!(WRITE.permissions_changed(&diff), r#"{"added":["a"],"removed":["b"],"type":"permissions_changed"}"#);
        assert_eq!(WRITE.rate_limited(600), r#"{"retry_after_ms":600,"type":"rate_limited"}"#);
        assert_eq!(
            WRITE.error(Refusal::from(Reason::PermissionMissing), Some("listing.update")),
            r#"{"code":"permission_denied","message":"permission denied","request_type":"listing.update","type":"error"}"#
        );
    }

    #[test]
    fn another_name_for_the_type_field_is_kept() {
        let text = ControlWriter { type_field: "code" }.error(Reason::PermissionMissing.into(), None);
        assert_eq!(text, r#"{"code":"error","message":"permission denied"}"#);
    }

    #[test]
    fn the_token_is_a_string_of_its_own() {
        let shape = MessageShape { type_field: "type", max_bytes: 1_000, max_depth: 8 };
        let token = |text: &'static str| {
            scan_message(text.as_bytes(), &shape).and_then(|message| parse_control_token(&message).map(String::from))
        };
        assert_eq!(token(r#"{"type":"auth","token":"abc"}"#), Ok("abc".to_owned()));
        assert_eq!(token(r#"{"type":"auth","token":"\u0061bc"}"#), Ok("abc".to_owned()));
        assert_eq!(token(r#"{"type":"auth","token":7}"#), Err(Reason::CredentialMissing));
        assert_eq!(token(r#"{"type":"auth"}"#), Err(Reason::CredentialMissing));
        assert_eq!(token(r#"{"type":"auth","token":"a","token":"b"}"#), Err(Reason::MessageFieldRepeated));
    }
}
