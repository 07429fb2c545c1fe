//! This file answers: does this identity hold what this message, with these fields, needs?

use crate::decision::Reason;
use crate::policy::compile::{Needs, Policy, TypeId};
use crate::policy::pattern::{MAX_FIELDS, Unfilled};
use crate::policy::permission::{PermissionSet, is_clean};
use crate::wire::message::{Message, ShortText};
use crate::wire::scan::Value;

/// The largest integer that every JSON reader reads alike, 2^53 - 1 (RFC 8259 section 6). Above it, a reader that
/// keeps numbers as doubles would see another resource than the one that was permitted; such ids travel as strings.
const MAX_INTEGER: u64 = 9_007_199_254_740_991;

/// Where the fields come from that fill a rule's patterns.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fields<'f> {
    /// From the message itself.
    Message(&'f Message<'f>),
    /// From the host, which asks for a type of its own or for a delivery.
    Host(&'f [(&'f str, &'f str)]),
}

/// Requires that the permissions cover what the type needs with these fields. The whole truth, for every type;
/// the bitmap is a shortcut to it for types that are not slow.
///
/// The form of the fields is judged first and for everyone alike, then whether any alternative is held. A field that
/// is absent only takes away the alternatives that read it.
///
/// # Refusals
///
/// - `MessageTypeUnknown`: the policy has no such type.
/// - `MessageFieldRepeated`: a field that the rule reads stands twice.
/// - `MessageFieldInvalid`: one that stands there is neither clean text nor a canonical integer; or no alternative
///   is held and one of them reads a field that is absent.
/// - `PermissionMissing`: no alternative is held.
///
/// # Cost
///
/// For a slow type a second walk over the message, then one search for each alternative. No allocation.
pub(crate) fn require_permission(
    policy: &Policy,
    type_id: TypeId,
    permissions: &PermissionSet,
    subject: &str,
    fields: Fields<'_>,
) -> Result<(), Reason> {
    let rule = policy.select_rule(type_id)?;
    let Needs::AnyOf(patterns) = &rule.needs else { return Ok(()) };
    let fills = match fields {
        _ if rule.fields.is_empty() => [const { None }; MAX_FIELDS],
        Fields::Message(message) => fills_of_message(message, &rule.fields)?,
        Fields::Host(given) => fills_of_host(given, &rule.fields)?,
    };
    let mut refusal = Reason::PermissionMissing;
    for pattern in patterns {
        let fill = |index: usize| fills.get(index)?.as_ref().map(ShortText::as_bytes);
        match pattern.filled(subject, fill) {
            Ok(needed) if permissions.allows_segments(needed.clone()) => return Ok(()),
            Ok(_) | Err(Unfilled::Subject) => {}
            Err(Unfilled::Field) => refusal = Reason::MessageFieldInvalid,
        }
    }
    Err(refusal)
}

fn fills_of_message<'m>(
    message: &Message<'m>,
    names: &[Box<str>],
) -> Result<[Option<ShortText<'m>>; MAX_FIELDS], Reason> {
    let values = message.find_fields::<MAX_FIELDS>(names)?;
    let mut fills = [const { None }; MAX_FIELDS];
    for (value, fill) in values.into_iter().zip(fills.iter_mut()) {
        if let Some(value) = value {
            *fill = Some(parse_fill(value).ok_or(Reason::MessageFieldInvalid)?);
        }
    }
    Ok(fills)
}

fn fills_of_host<'h>(
    given: &[(&str, &'h str)],
    names: &[Box<str>],
) -> Result<[Option<ShortText<'h>>; MAX_FIELDS], Reason> {
    let mut fills = [const { None }; MAX_FIELDS];
    for (name, fill) in names.iter().zip(fills.iter_mut()) {
        let mut near = given.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name));
        let first = near.next();
        if near.next().is_some() {
            return Err(Reason::MessageFieldRepeated);
        }
        if let Some((given, value)) = first
            && **given == **name
        {
            if !is_clean(value.as_bytes()) {
                return Err(Reason::MessageFieldInvalid);
            }
            *fill = Some(ShortText::Borrowed(value.as_bytes()));
        }
    }
    Ok(fills)
}

/// A fill is a string that is a clean segment, or an integer in its one canonical spelling.
fn parse_fill(value: Value<'_>) -> Option<ShortText<'_>> {
    match value {
        Value::Text(text) => ShortText::from_raw(text).filter(|text| is_clean(text.as_bytes())),
        Value::Number(written) => is_canonical_integer(written).then_some(ShortText::Borrowed(written)),
        Value::Other(_) => None,
    }
}

/// Of a number that the scanner accepted: no fraction, no exponent, no `-0`, and exact in every reader.
fn is_canonical_integer(written: &[u8]) -> bool {
    let digits = written.strip_prefix(b"-").unwrap_or(written);
    if !digits.iter().all(u8::is_ascii_digit) || written == b"-0" {
        return false;
    }
    let magnitude = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
    magnitude.is_some_and(|magnitude| magnitude <= MAX_INTEGER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::RuleConfig;
    use crate::policy::door::Door;
    use crate::wire::message::{MessageShape, scan_message};

    const SHAPE: MessageShape<'static> = MessageShape { type_field: "type", max_bytes: 65_536, max_depth: 32 };

    fn rules(list: &[(&str, &[&str])]) -> Vec<(String, RuleConfig)> {
        let rule = |permissions: &[&str]| RuleConfig {
            permissions: permissions.iter().map(|text| text.to_string()).collect(),
            weight: 1,
        };
        list.iter().map(|(name, permissions)| (name.to_string(), rule(permissions))).collect()
    }

    /// Judges a message of type `t` with these further members, under one rule.
    fn judge(rule: &[&str], held: &[&str], members: &str) -> Result<(), Reason> {
        let policy = Policy::compile(&rules(&[("t", rule)]), &[]).unwrap();
        let text = format!(r#"{{"type":"t"{}{members}}}"#, if members.is_empty() { "" } else { "," });
        let message = scan_message(text.as_bytes(), &SHAPE)?;
        let held = PermissionSet::from_texts(held.iter().copied());
        let type_id = policy.select_message(message.type_name())?;
        require_permission(&policy, type_id, &held, "u1", Fields::Message(&message))
    }

    #[test]
    fn the_fields_of_the_message_choose_the_permission() {
        let rule = &["listing:{listing_id}:read"];
        assert_eq!(judge(rule, &["listing:7:read"], r#""listing_id":7"#), Ok(()));
        assert_eq!(judge(rule, &["listing:7:read"], r#""listing_id":"7""#), Ok(()));
        assert_eq!(judge(rule, &["listing:7:read"], r#""l\u0069sting_id":"\u0037""#), Ok(()));
        assert_eq!(judge(rule, &["listing:7:read"], r#""listing_id":8"#), Err(Reason::PermissionMissing));
        assert_eq!(judge(rule, &["listing:*:read"], r#""listing_id":8"#), Ok(()));
        assert_eq!(judge(rule, &["listing:**"], r#""listing_id":8"#), Ok(()));
        assert_eq!(judge(rule, &[], r#""listing_id":8"#), Err(Reason::PermissionMissing));
        let nested = r#""v":{"listing_id":7}"#;
        assert_eq!(judge(rule, &["listing:*:read"], nested), Err(Reason::MessageFieldInvalid), "top level only");
    }

    #[test]
    fn what_is_no_clean_text_and_no_canonical_integer_refuses() {
        let value = |value: &str| judge(&["a:{id}"], &["a:*", "a:**"], &format!(r#""id":{value}"#));
        let long = format!("\"{}\"", "a".repeat(128));
        for clean in ["\"a\"", "\"A.z_~@/+-9\"", "\"007\"", "\"-0\"", "0", "-1", "9007199254740991", &long] {
            assert_eq!(value(clean), Ok(()), "{clean}");
        }
        let longer = format!("\"{}\"", "a".repeat(129));
        #[rustfmt::skip]
        let dirty = [
            "\"\"", "\"*\"", "\"**\"", "\"a:b\"", "\"a b\"", "\"é\"", r#""\u0000""#, r#""\u002a""#, r#""\u003a""#,
            r#""a\n""#, "-0", "1.0", "1e2", "1E0", "0.5", "9007199254740992", "-9007199254740992",
            "18446744073709551616", "true", "false", "null", "[]", "{}", "[\"a\"]", &longer,
        ];
        for dirty in dirty {
            assert_eq!(value(dirty), Err(Reason::MessageFieldInvalid), "{dirty}");
        }
    }

    #[test]
    fn a_field_that_is_read_may_stand_only_once() {
        for held in [&["a:1"][..], &["a:*"], &["admin"], &[]] {
            for twice in [r#""id":1,"id":1"#, r#""id":1,"ID":2"#, r#""\u0069d":1,"id":2"#, r#""Id":1,"iD":2"#] {
                let result = judge(&["admin", "a:{id}"], held, twice);
                assert_eq!(result, Err(Reason::MessageFieldRepeated), "{twice} held {held:?}");
            }
        }
        assert_eq!(judge(&["a:{id}"], &["a:1"], r#""id":1,"x":1,"x":2"#), Ok(()), "others may repeat");
        assert_eq!(judge(&["a:{type}"], &["a:t"], ""), Ok(()), "the type is a field too");
    }

    #[test]
    fn any_alternative_is_enough_and_an_absent_field_only_takes_its_own_away() {
        let rule = &["admin", "org:{org}:read", "listing:{id}:read", "user:{@sub}:read"];
        assert_eq!(judge(rule, &["admin"], ""), Ok(()));
        assert_eq!(judge(rule, &["user:u1:read"], ""), Ok(()));
        assert_eq!(judge(rule, &["org:5:read"], r#""org":5"#), Ok(()));
        assert_eq!(judge(rule, &["listing:5:read"], r#""id":5"#), Ok(()));
        assert_eq!(judge(rule, &["user:u2:read"], r#""id":5,"org":5"#), Err(Reason::PermissionMissing));
        assert_eq!(judge(rule, &["listing:5:read"], r#""ID":5"#), Err(Reason::MessageFieldInvalid));
        assert_eq!(judge(rule, &["admin"], r#""id":null"#), Err(Reason::MessageFieldInvalid), "form comes first");
    }

    #[test]
    fn a_subject_that_is_no_clean_segment_holds_nothing_of_its_own() {
        let policy = Policy::compile(&rules(&[("t", &["user:{@sub}"]), ("p", &["public"])]), &[]).unwrap();
        let held = PermissionSet::from_texts(["user:*", "user:**"]);
        for subject in ["", "*", "a:b", "a b"] {
            let result = require_permission(&policy, TypeId(0), &held, subject, Fields::Host(&[]));
            assert_eq!(result, Err(Reason::PermissionMissing), "{subject:?}");
            assert_eq!(require_permission(&policy, TypeId(1), &held, subject, Fields::Host(&[])), Ok(()));
        }
        assert_eq!(
            require_permission(&policy, TypeId(2), &held, "u", Fields::Host(&[])),
            Err(Reason::MessageTypeUnknown)
        );
    }

    #[test]
    fn the_host_gives_fields_under_the_same_rules() {
        let deliveries = rules(&[("changed", &["listing:{id}:read"])]);
        let policy = Policy::compile(&[], &deliveries).unwrap();
        let held = PermissionSet::from_texts(["listing:7:read"]);
        let type_id = policy.select_delivery(b"changed").unwrap();
        let judge = |fields: &[(&str, &str)]| require_permission(&policy, type_id, &held, "u", Fields::Host(fields));
        assert_eq!(judge(&[("id", "7")]), Ok(()));
        assert_eq!(judge(&[("other", "a b"), ("id", "7"), ("other", "")]), Ok(()));
        assert_eq!(judge(&[("id", "8")]), Err(Reason::PermissionMissing));
        assert_eq!(judge(&[]), Err(Reason::MessageFieldInvalid));
        assert_eq!(judge(&[("ID", "7")]), Err(Reason::MessageFieldInvalid));
        assert_eq!(judge(&[("id", "7"), ("id", "7")]), Err(Reason::MessageFieldRepeated));
        assert_eq!(judge(&[("id", "7"), ("Id", "8")]), Err(Reason::MessageFieldRepeated));
        for dirty in ["", "*", "a:b", "7 "] {
            assert_eq!(judge(&[("id", dirty)]), Err(Reason::MessageFieldInvalid), "{dirty:?}");
        }
    }

    /// The payloads of kind `message` in `attacks.jsonl`, under their own rules, with the reason we give each.
    #[test]
    fn the_message_vectors_come_out_as_labelled() {
        let rules =
            rules(&[("chat.send", &["chat:write"]), ("chat.history", &["chat:read"]), ("admin.kick", &["admin"])]);
        let both = &["chat:read", "chat:write"][..];
        let too_long = format!(r#"{{"type":"chat.send","text":"{}"}}"#, "x".repeat(70_000));
        let too_deep = format!(r#"{{"type":"chat.send","x":{}{}}}"#, "[".repeat(20_000), "]".repeat(20_000));
        let vectors = [
            ("control-057", both, r#"{"type":"chat.send","text":"hi"}"#, Ok(())),
            ("control-058", both, r#"{"type":"chat\u002esend"}"#, Ok(())),
            ("message-001", both, r#"{"type":"admin.kick"}"#, Err(Reason::PermissionMissing)),
            ("message-004", both, r#"{"type":"admin.kick","type":"chat.send"}"#, Err(Reason::MessageFieldRepeated)),
            ("message-005", both, r#"{"type":"admin\u002ekick"}"#, Err(Reason::PermissionMissing)),
            ("message-006", both, r#"{"type":"CHAT.SEND"}"#, Err(Reason::MessageTypeUnknown)),
            ("message-008", both, r#"{"type":"chat.send\u0000.x"}"#, Err(Reason::MessageTypeUnknown)),
            ("message-009", both, r#"{"type":["chat.send"]}"#, Err(Reason::MessageTypeMissing)),
            ("message-010", both, r#"{"text":"hi"}"#, Err(Reason::MessageTypeMissing)),
            ("message-011", both, r#"{"type":null}"#, Err(Reason::MessageTypeMissing)),
            ("message-013", both, r#"{"data":{"type":"chat.send"}}"#, Err(Reason::MessageTypeMissing)),
            ("message-014", both, r#""chat.send""#, Err(Reason::MessageMalformed)),
            ("message-015", both, &too_long, Err(Reason::MessageTooLarge)),
            ("message-016", both, &too_deep, Err(Reason::MessageMalformed)),
            ("message-018", &[], r#"{"type":"chat.send"}"#, Err(Reason::PermissionMissing)),
            ("message-019", &["chat:writ", "chat:"], r#"{"type":"chat.send"}"#, Err(Reason::PermissionMissing)),
        ];
        for (id, held, text, wanted) in vectors {
            let door = Door::new(&rules, held, "user-7cee8e").unwrap();
            assert_eq!(door.require_message(text.as_bytes()), wanted, "{id}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_bitmap_is_a_shortcut_and_never_another_answer(
            rule in prop::collection::vec("(a|b|\\{@sub\\}|\\{f\\})(:(a|b|\\{@sub\\}|\\{f\\}))?", 1..4),
            held in prop::collection::vec("(a|b|u|\\*)(:(a|b|u|\\*))?", 0..4),
            members in prop::sample::select(vec!["", r#""f":"a""#, r#""f":null"#, r#""f":"b","F":"b""#]),
        ) {
            let rule: Vec<&str> = rule.iter().map(String::as_str).collect();
            let held: Vec<&str> = held.iter().map(String::as_str).collect();
            let policy = Policy::compile(&rules(&[("t", &rule)]), &[]).unwrap();
            let permissions = PermissionSet::from_texts(held.iter().copied());
            let text = format!(r#"{{"type":"t"{}{members}}}"#, if members.is_empty() { "" } else { "," });
            let message = scan_message(text.as_bytes(), &SHAPE).unwrap();
            let truth = require_permission(&policy, TypeId(0), &permissions, "u", Fields::Message(&message));
            let bit = policy.bitmap(&permissions, "u").contains(TypeId(0));
            prop_assert_eq!(policy.slow(TypeId(0)), rule.iter().any(|text| text.contains("{f}")));
            if policy.slow(TypeId(0)) {
                prop_assert!(!bit);
            } else {
                prop_assert_eq!(truth, if bit { Ok(()) } else { Err(Reason::PermissionMissing) });
            }
            let door = Door::new(&rules(&[("t", &rule)]), &held, "u").unwrap();
            prop_assert_eq!(door.require_message(text.as_bytes()), truth);
        }
    }
}
