//! This file answers: of which type does this message say it is, and what do its fields say?

use std::borrow::Cow;

use crate::decision::Reason;
use crate::wire::scan::{Malformed, Scanner, Value};
use crate::wire::text::RawText;

/// Longest message type and longest fill of a pattern, in bytes after unescaping.
pub(crate) const MAX_SHORT_TEXT: usize = 128;

/// What a message must look like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageShape<'s> {
    /// Name of the top-level field that holds the type.
    pub(crate) type_field: &'s str,
    /// Longest message in bytes.
    pub(crate) max_bytes: usize,
    /// Deepest JSON, the top-level object being one.
    pub(crate) max_depth: usize,
}

/// A well-formed message: one strict JSON object with one type.
#[derive(Clone, Debug)]
pub(crate) struct Message<'a> {
    bytes: &'a [u8],
    max_depth: usize,
    type_name: ShortText<'a>,
}

/// Scans a whole message and finds its type.
///
/// The fields that the rule of this type reads are known only now, and may stand before the type: they are read by
/// [`Message::find_fields`] in a second walk, which only patterned types need.
///
/// # Refusals
///
/// - `MessageTooLarge`: longer than the shape allows; nothing was read.
/// - `MessageMalformed`: not one strict JSON object in UTF-8, or too deep. Comes before all that follow.
/// - `MessageFieldRepeated`: the type field stands twice, after unescaping or but for ASCII case.
/// - `MessageTypeMissing`: no type field, or its value is no string.
/// - `MessageTypeUnknown`: the type is longer than any configured type can be.
///
/// # Cost
///
/// One pass over the bytes. No allocation.
pub(crate) fn scan_message<'a>(bytes: &'a [u8], shape: &MessageShape<'_>) -> Result<Message<'a>, Reason> {
    if bytes.len() > shape.max_bytes {
        return Err(Reason::MessageTooLarge);
    }
    let mut scanner = Scanner::new(bytes, shape.max_depth);
    let mut found = Found::default();
    while let Some(member) = scanner.next_member().map_err(malformed)? {
        found.note(member.key, member.value, shape.type_field);
    }
    let Some(Value::Text(text)) = found.one()? else { return Err(Reason::MessageTypeMissing) };
    let type_name = ShortText::from_raw(text).ok_or(Reason::MessageTypeUnknown)?;
    Ok(Message { bytes, max_depth: shape.max_depth, type_name })
}

impl<'a> Message<'a> {
    /// The type after unescaping, UTF-8, at most 128 bytes.
    pub(crate) fn type_name(&self) -> &[u8] {
        self.type_name.as_bytes()
    }

    /// Whether the type belongs to wsauth.
    pub(crate) fn reserved(&self) -> Option<Reserved> {
        Reserved::of(self.type_name())
    }

    /// Finds the values of some top-level fields, in one walk. `None` for a field that is absent.
    ///
    /// # Refusals
    ///
    /// `MessageFieldRepeated`: one of them stands twice, after unescaping or but for ASCII case.
    pub(crate) fn find_fields<const N: usize>(
        &self,
        names: &[impl AsRef<str>],
    ) -> Result<[Option<Value<'a>>; N], Reason> {
        let mut found = [Found::default(); N];
        if names.len() > N {
            return Err(Reason::FaultInternal);
        }
        let mut scanner = Scanner::again(self.bytes, self.max_depth);
        while let Some(member) = scanner.next_member().map_err(malformed)? {
            for (name, found) in names.iter().zip(found.iter_mut()) {
                found.note(member.key, member.value, name.as_ref());
            }
        }
        let mut values = [None; N];
        for (found, value) in found.into_iter().zip(values.iter_mut()) {
            *value = found.one()?;
        }
        Ok(values)
    }

    /// Finds the text of one top-level field, such as the `token` of a control message. `None` when it is absent, no
    /// string, or longer than `max_bytes` as written. Allocates only when something in it is escaped.
    ///
    /// # Refusals
    ///
    /// `MessageFieldRepeated`, as for [`Message::find_fields`].
    pub(crate) fn find_text(&self, name: &str, max_bytes: usize) -> Result<Option<Cow<'a, str>>, Reason> {
        let [value] = self.find_fields::<1>(&[name])?;
        let Some(Value::Text(text)) = value else { return Ok(None) };
        if text.raw_len() > max_bytes {
            return Ok(None);
        }
        let text = match text.plain() {
            Some(plain) => std::str::from_utf8(plain).ok().map(Cow::Borrowed),
            None => String::from_utf8(text.decoded().collect()).ok().map(Cow::Owned),
        };
        Ok(text)
    }
}

fn malformed(_: Malformed) -> Reason {
    Reason::MessageMalformed
}

/// What was seen of one field.
#[derive(Clone, Copy, Default)]
struct Found<'a> {
    value: Option<Value<'a>>,
    times: usize,
}

impl<'a> Found<'a> {
    fn note(&mut self, key: RawText<'a>, value: Value<'a>, name: &str) {
        if !key.is_nearly(name.as_bytes()) {
            return;
        }
        self.times = self.times.saturating_add(1);
        if key.is(name.as_bytes()) {
            self.value = Some(value);
        }
    }

    fn one(self) -> Result<Option<Value<'a>>, Reason> {
        if self.times > 1 { Err(Reason::MessageFieldRepeated) } else { Ok(self.value) }
    }
}

/// Text of at most 128 bytes: where it stands, or unescaped into a buffer of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ShortText<'a> {
    /// As it stands in the message.
    Borrowed(&'a [u8]),
    /// Unescaped.
    Decoded {
        /// The bytes, up to `length`.
        buffer: [u8; MAX_SHORT_TEXT],
        /// How many count.
        length: usize,
    },
}

impl<'a> ShortText<'a> {
    /// `None` when the unescaped text is longer than 128 bytes.
    pub(crate) fn from_raw(text: RawText<'a>) -> Option<ShortText<'a>> {
        if let Some(plain) = text.plain() {
            return (plain.len() <= MAX_SHORT_TEXT).then_some(ShortText::Borrowed(plain));
        }
        let mut buffer = [0; MAX_SHORT_TEXT];
        let mut length = 0usize;
        for byte in text.decoded() {
            *buffer.get_mut(length)? = byte;
            length = length.saturating_add(1);
        }
        Some(ShortText::Decoded { buffer, length })
    }

    /// The bytes, UTF-8.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            ShortText::Borrowed(bytes) => bytes,
            ShortText::Decoded { buffer, length } => buffer.get(..*length).unwrap_or_default(),
        }
    }
}

/// Message types that belong to wsauth and never to the application (RULES 20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reserved {
    /// `auth`: the first message of a peer that authenticates on the open connection.
    Auth,
    /// `token_refresh`: a new token.
    TokenRefresh,
    /// A type that only the server sends.
    Server,
}

impl Reserved {
    /// The types that only the server sends.
    pub(crate) const SERVER: &'static [&'static str] = &[
        "auth_success",
        "token_refresh_required",
        "token_refreshed",
        "token_refresh_failed",
        "permissions_changed",
        "rate_limited",
        "error",
    ];

    /// Classifies an unescaped type, byte for byte.
    pub(crate) fn of(type_name: &[u8]) -> Option<Reserved> {
        match type_name {
            b"auth" => Some(Reserved::Auth),
            b"token_refresh" => Some(Reserved::TokenRefresh),
            _ => Reserved::SERVER.iter().any(|name| name.as_bytes() == type_name).then_some(Reserved::Server),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: MessageShape<'static> = MessageShape { type_field: "type", max_bytes: 1_000, max_depth: 32 };

    fn type_of(text: &str) -> Result<String, Reason> {
        let message = scan_message(text.as_bytes(), &SHAPE)?;
        Ok(String::from_utf8(message.type_name().to_vec()).unwrap())
    }

    fn field(text: &str, name: &str) -> Result<Option<String>, Reason> {
        let [value] = scan_message(text.as_bytes(), &SHAPE)?.find_fields::<1>(&[name])?;
        Ok(value.map(|value| match value {
            Value::Text(text) => String::from_utf8(text.decoded().collect()).unwrap(),
            Value::Number(raw) | Value::Other(raw) => String::from_utf8(raw.to_vec()).unwrap(),
        }))
    }

    #[test]
    fn the_type_is_read_wherever_it_stands() {
        assert_eq!(type_of(r#"{"type":"chat.send"}"#), Ok("chat.send".into()));
        assert_eq!(type_of(r#"{"a":{"type":"no"},"type":"chat.send","b":[1]}"#), Ok("chat.send".into()));
        assert_eq!(type_of(r#"{"t\u0079pe":"chat\u002esend"}"#), Ok("chat.send".into()));
        assert_eq!(type_of(r#"{"type":""}"#), Ok(String::new()));
        let shape = MessageShape { type_field: "op", ..SHAPE };
        let message = scan_message(br#"{"type":1,"type":2,"op":"x"}"#, &shape).unwrap();
        assert_eq!(message.type_name(), b"x", "only the configured field matters");
    }

    #[test]
    fn a_missing_type_and_a_type_that_is_no_string_are_refused() {
        for text in ["{}", r#"{"text":"hi"}"#, r#"{"type":null}"#, r#"{"type":["chat.send"]}"#, r#"{"type":7}"#] {
            assert_eq!(type_of(text), Err(Reason::MessageTypeMissing), "{text}");
        }
        assert_eq!(type_of(r#"{"Type":"chat.send"}"#), Err(Reason::MessageTypeMissing), "names are exact");
        assert_eq!(type_of(r#"{"data":{"type":"chat.send"}}"#), Err(Reason::MessageTypeMissing), "top level only");
    }

    #[test]
    fn two_types_are_refused_however_they_are_spelled() {
        for second in ["type", "Type", "TYPE", r"t\u0079pe", r"\u0054ype"] {
            for value in [r#""chat.send""#, "null", "[]", "1"] {
                let text = format!(r#"{{"type":"chat.send","{second}":{value}}}"#);
                assert_eq!(type_of(&text), Err(Reason::MessageFieldRepeated), "{text}");
                let text = format!(r#"{{"{second}":{value},"type":"chat.send"}}"#);
                assert_eq!(type_of(&text), Err(Reason::MessageFieldRepeated), "{text}");
            }
        }
        assert_eq!(type_of(r#"{"Type":"a","TYPE":"b"}"#), Err(Reason::MessageFieldRepeated));
        assert_eq!(type_of(r#"{"type":"a","v":{"type":1,"type":2},"x":1,"x":2}"#), Ok("a".into()), "others may repeat");
    }

    #[test]
    fn form_is_judged_before_the_type() {
        assert_eq!(type_of(r#"{"type":"a","type":"b""#), Err(Reason::MessageMalformed));
        assert_eq!(type_of(r#""chat.send""#), Err(Reason::MessageMalformed));
        assert_eq!(type_of(r#"{"type":"a"}x"#), Err(Reason::MessageMalformed));
    }

    #[test]
    fn size_is_judged_before_form() {
        let text = |bytes: usize| "x".repeat(bytes);
        assert_eq!(type_of(&text(1_001)), Err(Reason::MessageTooLarge));
        assert_eq!(type_of(&text(1_000)), Err(Reason::MessageMalformed));
    }

    #[test]
    fn a_type_longer_than_any_rule_is_unknown() {
        let of = |text: &str| type_of(&format!(r#"{{"type":"{text}"}}"#));
        assert_eq!(of(&"a".repeat(128)), Ok("a".repeat(128)));
        assert_eq!(of(&"a".repeat(129)), Err(Reason::MessageTypeUnknown));
        assert_eq!(of(&r"\u0061".repeat(128)), Ok("a".repeat(128)));
        assert_eq!(of(&r"\u0061".repeat(129)), Err(Reason::MessageTypeUnknown));
        assert_eq!(of(&r"\u20ac".repeat(42)), Ok("€".repeat(42)));
        assert_eq!(of(&r"\u20ac".repeat(43)), Err(Reason::MessageTypeUnknown), "bytes count, not characters");
    }

    #[test]
    fn fields_are_found_once_or_refused() {
        assert_eq!(field(r#"{"id":"a\u0062","type":"x"}"#, "id"), Ok(Some("ab".into())));
        assert_eq!(field(r#"{"type":"x","id":-12}"#, "id"), Ok(Some("-12".into())));
        assert_eq!(field(r#"{"type":"x","ID":1,"v":{"id":2}}"#, "id"), Ok(None));
        assert_eq!(field(r#"{"type":"x"}"#, "type"), Ok(Some("x".into())));
        for twice in [r#""id":1,"id":1"#, r#""id":1,"Id":null"#, r#""\u0069d":1,"id":1"#, r#""ID":1,"Id":1"#] {
            let text = format!(r#"{{{twice},"type":"x"}}"#);
            assert_eq!(field(&text, "id"), Err(Reason::MessageFieldRepeated), "{text}");
            assert_eq!(field(&text, "other"), Ok(None), "only what is read matters");
        }
        let message = scan_message(br#"{"type":"x","b":1,"a":2}"#, &SHAPE).unwrap();
        let values = message.find_fields::<3>(&["a", "b"]).unwrap();
        assert_eq!(values, [Some(Value::Number(b"2")), Some(Value::Number(b"1")), None]);
        assert_eq!(message.find_fields::<1>(&["a", "b"]), Err(Reason::FaultInternal));
    }

    #[test]
    fn text_of_a_control_message() {
        let find = |text: &str| {
            let message = scan_message(text.as_bytes(), &SHAPE).unwrap();
            message.find_text("token", 8).map(|found| found.map(Cow::into_owned))
        };
        assert_eq!(find(r#"{"type":"auth","token":"abc"}"#), Ok(Some("abc".into())));
        assert_eq!(find(r#"{"type":"auth","token":"a\u002e"}"#), Ok(Some("a.".into())));
        assert_eq!(find(r#"{"type":"auth","token":"123456789"}"#), Ok(None));
        assert_eq!(find(r#"{"type":"auth","token":1}"#), Ok(None));
        assert_eq!(find(r#"{"type":"auth"}"#), Ok(None));
        assert_eq!(find(r#"{"type":"auth","token":"a","TOKEN":"b"}"#), Err(Reason::MessageFieldRepeated));
    }

    #[test]
    fn reserved_types_are_told_apart() {
        assert_eq!(Reserved::of(b"auth"), Some(Reserved::Auth));
        assert_eq!(Reserved::of(b"token_refresh"), Some(Reserved::TokenRefresh));
        for name in Reserved::SERVER {
            assert_eq!(Reserved::of(name.as_bytes()), Some(Reserved::Server), "{name}");
        }
        for free in [&b""[..], b"AUTH", b"auth ", b"errors", b"chat.send"] {
            assert_eq!(Reserved::of(free), None);
        }
        let message = scan_message(br#"{"type":"\u0061uth"}"#, &SHAPE).unwrap();
        assert_eq!(message.reserved(), Some(Reserved::Auth), "escaping hides nothing");
    }
}
