//! This file answers: is this one strict JSON object, and which members stand at its top?
//!
//! RFC 8259 in its strict form: UTF-8, no byte order mark, no lone surrogate, nothing after the object, numbers a
//! double can hold, bounded depth. The scanner builds nothing: it hands out slices of the message, keeps its nesting
//! in one word and never recurses, so that a hostile message costs one pass and no memory.

use crate::wire::text::{RawText, parse_escape};

/// Deepest nesting the scanner can follow, whatever is configured: one bit of a word for each level.
pub(crate) const MAX_DEPTH: usize = 64;

/// The bytes are not one strict JSON object within the depth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One member of the top-level object, as it stands in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member<'a> {
    /// The key.
    pub(crate) key: RawText<'a>,
    /// The value.
    pub(crate) value: Value<'a>,
}

/// The value of a top-level member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// A string.
    Text(RawText<'a>),
    /// A number, as written.
    Number(&'a [u8]),
    /// An object, array or literal, as written. No rule reads these.
    Other(&'a [u8]),
}

/// Walks over the members of the top-level object.
///
/// Only `Ok(None)` says that the whole message was well formed; members handed out before it are not proof of anything.
#[derive(Clone, Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    max_depth: u32,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Start,
    AfterMember,
    Done,
    Failed,
}

/// What may come next inside a nested value.
#[derive(Clone, Copy)]
enum Expect {
    FirstKey,
    Key,
    FirstItem,
    Item,
    Next,
}

impl<'a> Scanner<'a> {
    /// Starts on a whole message. `max_depth` counts the top-level object as one and is cut to [`MAX_DEPTH`].
    pub(crate) fn new(bytes: &'a [u8], max_depth: usize) -> Scanner<'a> {
        let stage = if std::str::from_utf8(bytes).is_ok() { Stage::Start } else { Stage::Failed };
        Scanner::over_valid_utf8(bytes, max_depth, stage)
    }

    /// Starts again on a message that a scanner has already accepted.
    pub(crate) fn again(bytes: &'a [u8], max_depth: usize) -> Scanner<'a> {
        Scanner::over_valid_utf8(bytes, max_depth, Stage::Start)
    }

    fn over_valid_utf8(bytes: &'a [u8], max_depth: usize, stage: Stage) -> Scanner<'a> {
        let max_depth = u32::try_from(max_depth.min(MAX_DEPTH)).unwrap_or(0);
        Scanner { bytes, at: 0, max_depth, stage }
    }

    /// The next member; `None` after the last one, once the whole message was found well formed.
    pub(crate) fn next_member(&mut self) -> Result<Option<Member<'a>>, Malformed> {
        let result = self.advance_member();
        if result.is_err() {
            self.stage = Stage::Failed;
        }
        result
    }

    fn advance_member(&mut self) -> Result<Option<Member<'a>>, Malformed> {
        match self.stage {
            Stage::Done => return Ok(None),
            Stage::Failed => return Err(Malformed),
            Stage::Start => {
                if self.max_depth == 0 {
                    return Err(Malformed);
                }
                self.skip_space();
                self.take(b'{')?;
                self.skip_space();
                if self.peek()? == b'}' {
                    return self.finish();
                }
            }
            Stage::AfterMember => {
                self.skip_space();
                match self.peek()? {
                    b',' => self.step(),
                    b'}' => return self.finish(),
                    _ => return Err(Malformed),
                }
                self.skip_space();
            }
        }
        let key = self.read_key()?;
        let value = self.read_value()?;
        self.stage = Stage::AfterMember;
        Ok(Some(Member { key, value }))
    }

    fn finish(&mut self) -> Result<Option<Member<'a>>, Malformed> {
        self.step();
        self.skip_space();
        if self.at != self.bytes.len() {
            return Err(Malformed);
        }
        self.stage = Stage::Done;
        Ok(None)
    }

    fn read_key(&mut self) -> Result<RawText<'a>, Malformed> {
        let key = self.read_text()?;
        self.skip_space();
        self.take(b':')?;
        self.skip_space();
        Ok(key)
    }

    fn read_value(&mut self) -> Result<Value<'a>, Malformed> {
        let start = self.at;
        match self.peek()? {
            b'"' => Ok(Value::Text(self.read_text()?)),
            b'{' | b'[' => {
                self.skip_nested()?;
                Ok(Value::Other(self.since(start)))
            }
            b't' | b'f' | b'n' => {
                self.skip_literal()?;
                Ok(Value::Other(self.since(start)))
            }
            _ => {
                self.skip_number()?;
                Ok(Value::Number(self.since(start)))
            }
        }
    }

    /// Skips one object or array with everything in it.
    fn skip_nested(&mut self) -> Result<(), Malformed> {
        // INVARIANT: bit 0 of `kinds` is the innermost container, one meaning an object; `depth` counts them and the
        // top-level object, and never exceeds MAX_DEPTH, so that no bit is shifted out.
        let mut kinds = 0u64;
        let mut depth = 1u32;
        let mut expect = Expect::Item;
        loop {
            let byte = self.peek()?;
            match (expect, byte) {
                (Expect::Item | Expect::FirstItem, b'{' | b'[') => {
                    if depth >= self.max_depth {
                        return Err(Malformed);
                    }
                    depth = depth.saturating_add(1);
                    kinds = (kinds << 1) | u64::from(byte == b'{');
                    expect = if byte == b'{' { Expect::FirstKey } else { Expect::FirstItem };
                    self.step();
                }
                (Expect::FirstKey | Expect::Next, b'}') | (Expect::FirstItem | Expect::Next, b']') => {
                    if (kinds & 1 == 1) != (byte == b'}') {
                        return Err(Malformed);
                    }
                    self.step();
                    kinds >>= 1;
                    depth = depth.saturating_sub(1);
                    if depth <= 1 {
                        return Ok(());
                    }
                    expect = Expect::Next;
                }
                (Expect::FirstKey | Expect::Key, _) => {
                    self.read_key()?;
                    expect = Expect::Item;
                }
                (Expect::Next, b',') => {
                    self.step();
                    expect = if kinds & 1 == 1 { Expect::Key } else { Expect::Item };
                }
                (Expect::Next, _) => return Err(Malformed),
                (Expect::Item | Expect::FirstItem, b'"') => {
                    self.read_text()?;
                    expect = Expect::Next;
                }
                (Expect::Item | Expect::FirstItem, b't' | b'f' | b'n') => {
                    self.skip_literal()?;
                    expect = Expect::Next;
                }
                (Expect::Item | Expect::FirstItem, _) => {
                    self.skip_number()?;
                    expect = Expect::Next;
                }
            }
            self.skip_space();
        }
    }

    fn read_text(&mut self) -> Result<RawText<'a>, Malformed> {
        self.take(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            while let Some(eight) = self.rest().first_chunk::<8>() {
                let ordinary = leading_ordinary(u64::from_le_bytes(*eight));
                self.at = self.at.saturating_add(ordinary);
                if ordinary < 8 {
                    break;
                }
            }
            // A special byte, or one of the last seven.
            match self.peek()? {
                b'"' => {
                    let raw = self.since(start);
                    self.step();
                    return Ok(RawText::new(raw, escaped));
                }
                b'\\' => {
                    self.step();
                    let (_, length) = parse_escape(self.rest()).ok_or(Malformed)?;
                    self.at = self.at.saturating_add(length);
                    escaped = true;
                }
                0..=0x1f => return Err(Malformed),
                _ => self.step(),
            }
        }
    }

    fn skip_literal(&mut self) -> Result<(), Malformed> {
        for word in [&b"true"[..], b"false", b"null"] {
            if self.rest().starts_with(word) {
                self.at = self.at.saturating_add(word.len());
                return Ok(());
            }
        }
        Err(Malformed)
    }

    /// RFC 8259 section 6. A number that no double can hold is refused as well: readers disagree on what it is.
    fn skip_number(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        if self.peek()? == b'-' {
            self.step();
        }
        match self.peek()? {
            b'0' => self.step(),
            _ => {
                self.skip_digits()?;
            }
        }
        if self.rest().first() == Some(&b'.') {
            self.step();
            self.skip_digits()?;
        }
        let mut exponent_digits = 0;
        if matches!(self.rest().first(), Some(b'e' | b'E')) {
            self.step();
            if matches!(self.rest().first(), Some(b'+' | b'-')) {
                self.step();
            }
            exponent_digits = self.skip_digits()?;
        }
        // Two digits of exponent on 200 bytes of number stay within the range, so the dear look is rare.
        let written = self.since(start);
        if exponent_digits > 2 || written.len() > 200 {
            let value = std::str::from_utf8(written).ok().and_then(|text| text.parse::<f64>().ok());
            if !value.is_some_and(f64::is_finite) {
                return Err(Malformed);
            }
        }
        Ok(())
    }

    /// One digit or more; says how many.
    fn skip_digits(&mut self) -> Result<usize, Malformed> {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at = self.at.saturating_add(digits);
        if digits == 0 { Err(Malformed) } else { Ok(digits) }
    }

    fn skip_space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.step();
        }
    }

    fn take(&mut self, wanted: u8) -> Result<(), Malformed> {
        if self.peek()? != wanted {
            return Err(Malformed);
        }
        self.step();
        Ok(())
    }

    fn peek(&self) -> Result<u8, Malformed> {
        self.bytes.get(self.at).copied().ok_or(Malformed)
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }
}

/// How many of eight bytes, from the lowest, come before a quote, a backslash or a control character.
fn leading_ordinary(eight: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // The classic test for bytes below n: subtract n from all; one below it shows in its high bit. A borrow may falsely
    // mark a byte above a true hit, never one below it, so the lowest mark is exact.
    let below = |word: u64, n: u64| word.wrapping_sub(ONES.wrapping_mul(n)) & !word & HIGHS;
    let quote = below(eight ^ ONES.wrapping_mul(u64::from(b'"')), 1);
    let backslash = below(eight ^ ONES.wrapping_mul(u64::from(b'\\')), 1);
    let marks = quote | backslash | below(eight, 0x20);
    usize::try_from(marks.trailing_zeros() >> 3).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// All members, keys and texts decoded, numbers and others as written.
    fn scan(bytes: &[u8], max_depth: usize) -> Result<Vec<(String, String)>, Malformed> {
        let mut scanner = Scanner::new(bytes, max_depth);
        let mut members = Vec::new();
        while let Some(member) = scanner.next_member()? {
            let value = match member.value {
                Value::Text(text) => text.decoded().collect(),
                Value::Number(raw) | Value::Other(raw) => raw.to_vec(),
            };
            let key = String::from_utf8(member.key.decoded().collect()).unwrap();
            members.push((key, String::from_utf8(value).unwrap()));
        }
        assert_eq!(scanner.next_member(), Ok(None), "the end stays the end");
        Ok(members)
    }

    fn accepts(text: &str) -> bool {
        scan(text.as_bytes(), 32).is_ok()
    }

    /// The oracle: the same verdict as serde_json, and the same top-level values.
    fn require_agreement(bytes: &[u8]) {
        let ours = scan(bytes, MAX_DEPTH);
        let theirs = serde_json::from_slice::<serde_json::Value>(bytes);
        let Ok(serde_json::Value::Object(theirs)) = theirs else {
            assert_eq!(ours, Err(Malformed), "serde_json refuses {:?}", String::from_utf8_lossy(bytes));
            return;
        };
        let ours = ours.unwrap_or_else(|_| panic!("serde_json accepts {:?}", String::from_utf8_lossy(bytes)));
        // serde_json lets the last one of a key win, as collecting into a map does.
        let ours: BTreeMap<String, String> = ours.into_iter().collect();
        assert_eq!(ours.len(), theirs.len());
        for (key, value) in &theirs {
            match value {
                serde_json::Value::String(text) => assert_eq!(&ours[key], text),
                other => assert_eq!(&serde_json::from_str::<serde_json::Value>(&ours[key]).unwrap(), other),
            }
        }
    }

    #[test]
    fn members_come_out_as_they_stand() {
        let members = scan(br#" { "type" : "a\u002eb" , "n":-0.5e1,"x":[{"y":[]},null], "" :true } "#, 32).unwrap();
        let members: Vec<(&str, &str)> = members.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(members, [("type", "a.b"), ("n", "-0.5e1"), ("x", r#"[{"y":[]},null]"#), ("", "true")]);
        assert_eq!(scan(b"{}", 1), Ok(vec![]));
    }

    #[test]
    fn what_is_no_strict_object_is_refused() {
        #[rustfmt::skip]
        let wrong = [
            "", " ", "{", "}", "[]", "null", "1", "\"type\"", "{}x", "{}{}", "{} {}", "{},", "\u{feff}{}", "{,}",
            "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "{'a':1}", "{\"a\":1 \"b\":2}", "{1:1}",
            "{\"a\":[1,]}", "{\"a\":[,1]}", "{\"a\":[1 2]}", "{\"a\":[1}", "{\"a\":[}]}", "{\"a\":{\"b\"]}",
            "{\"a\":{\"b\":1]}", "{\"a\":{]}", "{\"a\":{\"b\":1,}}", "{\"a\":{\"b\"}}", "{\"a\":{1}}", "{\"a\":tru}",
            "{\"a\":True}", "{\"a\":nul}", "{\"a\":nullx}", "{\"a\":NaN}", "{\"a\":Infinity}", "{\"a\":01}",
            "{\"a\":-}", "{\"a\":+1}", "{\"a\":.5}", "{\"a\":1.}", "{\"a\":1.e1}", "{\"a\":1e}", "{\"a\":1e+}",
            "{\"a\":0x1}", "{\"a\":--1}", "{\"a\":1e999}", "{\"a\":-1e999}", "{\"a\":1_0}", "{\"a\":\"\t\"}",
            "{\"a\":\"\n\"}", "{\"a\":\"\0\"}", "{\"a\":\"\\x\"}", "{\"a\":\"\\u12\"}", "{\"a\":\"\\u12g4\"}",
            "{\"a\":\"\\u+123\"}", "{\"a\":\"\\ud800\"}", "{\"a\":\"\\udc00\"}", "{\"a\":\"\\ud800\\ud800\"}",
            "{\"a\":\"\\ud800x\"}", "{\"a\":\"\\udc00\\ud800\"}", "{\"a\":\"", "{\"a\":\"\\\"}", "{\"a\":\"\\",
            "{\"a\":\"\\u\"}", "{\"a\":1}\0", "/**/{}", "{\"a\":1/**/}", "{\u{a0}}", "{\u{b}}", "{\"\\ud800\":1}",
            "{\"a\":[\"\\udfff\"]}", "{\"a\":{\"\\udfff\":1}}",
        ];
        for text in wrong {
            assert!(!accepts(text), "{text:?}");
            require_agreement(text.as_bytes());
        }
        for bytes in [&b"{\"a\":\"\xff\"}"[..], b"{\"a\":\"\xed\xa0\x80\"}", b"{\"a\":\"\xc0\xaf\"}", b"{\0\"\0"] {
            assert_eq!(scan(bytes, 32), Err(Malformed));
            require_agreement(bytes);
        }
    }

    #[test]
    fn every_spelling_the_standard_allows_is_read() {
        let right = [
            r#"{"a":"\"\\\/\b\f\n\r\t\u0000\u00e9\ud83d\ude00é😀"}"#,
            "{\"a\":\"\u{7f}\u{2028}\"}",
            "\r\n\t {\r\n\t }\r\n\t ",
            r#"{"a":[-0,0,10,0.0,1E+2,1e-9,0e999,123456789012345678901234567890,1e308,1e-999]}"#,
            r#"{"a":{"b":{},"c":[[],{}]},"d":false}"#,
            r#"{"\u0061":1,"a":2}"#,
        ];
        for text in right {
            assert!(accepts(text), "{text:?}");
            require_agreement(text.as_bytes());
        }
    }

    #[test]
    fn control_characters_are_refused_wherever_they_stand() {
        for byte in 0..0x20u8 {
            for tail in ["", "a long tail, more than eight bytes of it"] {
                let text = format!("{{\"a\":\"x{}{tail}\"}}", char::from(byte));
                assert!(!accepts(&text), "{byte:#x}");
            }
        }
    }

    #[test]
    fn long_numbers_are_held_to_the_range_of_a_double() {
        let number = |digits: usize| format!("{{\"a\":[1{}]}}", "0".repeat(digits));
        for (digits, wanted) in [(299, true), (308, true), (309, false), (5_000, false)] {
            assert_eq!(accepts(&number(digits)), wanted, "{digits}");
            require_agreement(number(digits).as_bytes());
        }
        for text in ["1e308", "1e309", "-1E+309", "1e0309", "1e00005", "0.1e309", "99e99", "1e-400"] {
            require_agreement(format!("{{\"a\":{text}}}").as_bytes());
        }
        assert!(!accepts(&format!("{{\"a\":{}e99}}", "9".repeat(250))));
        assert!(accepts(&format!("{{\"a\":0.{}1}}", "0".repeat(5_000))));
    }

    #[test]
    fn depth_counts_the_object_itself() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(scan(nested(32).as_bytes(), 32).is_ok());
        assert!(scan(nested(33).as_bytes(), 32).is_err());
        assert!(scan(nested(64).as_bytes(), 9_999).is_ok(), "the bound of the scanner");
        assert!(scan(nested(65).as_bytes(), 9_999).is_err());
        assert!(scan(nested(20_000).as_bytes(), 32).is_err());
        assert!(scan(br#"{"a":1}"#, 1).is_ok());
        assert!(scan(br#"{"a":{}}"#, 1).is_err());
        assert!(scan(b"{}", 0).is_err());
        let siblings = format!("{{\"a\":[{}1]}}", "[{}],".repeat(500));
        assert!(scan(siblings.as_bytes(), 4).is_ok(), "siblings are not depth");
        let deep = r#"{"a":"#.repeat(64) + "1" + &"}".repeat(64);
        assert!(scan(deep.as_bytes(), 64).is_ok());
        assert!(scan(deep.replacen("}}", "]}", 1).as_bytes(), 64).is_err(), "every level remembers its kind");
    }

    #[test]
    fn after_a_failure_nothing_more_comes_out() {
        let mut scanner = Scanner::new(br#"{"a":1 "b":2}"#, 32);
        assert!(scanner.next_member().unwrap().is_some());
        assert_eq!(scanner.next_member(), Err(Malformed));
        assert_eq!(scanner.next_member(), Err(Malformed));
    }

    #[test]
    fn the_eight_byte_step_finds_the_first_special_byte() {
        for special in (0..0x20).chain([b'"', b'\\']) {
            for at in 0..8 {
                let mut eight = *b"\x7f\xffab\x80!]#";
                eight[at] = special;
                assert_eq!(leading_ordinary(u64::from_le_bytes(eight)), at, "{special} at {at}");
                eight[at..].fill(special);
                assert_eq!(leading_ordinary(u64::from_le_bytes(eight)), at);
            }
        }
        assert_eq!(leading_ordinary(u64::from_le_bytes(*b" !#[]\x7f\x80\xff")), 8);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            any::<String>().prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(5, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Pieces that make nearly-JSON.
    fn pieces() -> impl Strategy<Value = String> {
        #[rustfmt::skip]
        let piece = prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u", "d83d", "\\ude00", "0", "1", "-", ".", "e", "+", "9999",
            "true", "null", " ", "\n", "\"type\"", "\"a\":", "{\"type\":\"x\",", "é", "\u{1}", "\"\\ud83d\\ude00\"",
        ]);
        prop::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn agrees_with_serde_json_on_json(value in json()) {
            require_agreement(serde_json::json!({ "type": "x", "v": value }).to_string().as_bytes());
            require_agreement(value.to_string().as_bytes());
        }

        #[test]
        fn agrees_with_serde_json_on_damaged_json(
            value in json(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..4),
        ) {
            let mut bytes = serde_json::json!({ "type": "a\u{1}\"\\é😀", "v": value }).to_string().into_bytes();
            for (at, byte, how) in damage {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at),
                }
            }
            require_agreement(&bytes);
        }

        #[test]
        fn agrees_with_serde_json_on_pieces(text in pieces(), tail in pieces()) {
            require_agreement(text.as_bytes());
            require_agreement(format!("{{\"a\":{text}}}").as_bytes());
            require_agreement(format!("{{\"a\":\"{text}\",{tail}}}").as_bytes());
        }
    }
}
