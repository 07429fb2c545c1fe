//! This file answers: is this text one strict JSON object?
//!
//! serde_json refuses what RFC 8259 refuses, a byte order mark and lone surrogates included. On top of it this
//! refuses what two readers could understand differently (the same name twice, at any depth and after unescaping)
//! and what costs more than it is worth (depth, number of values).

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How much JSON is read before giving up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Deepest nesting; the outer object is 1.
    pub(crate) depth: usize,
    /// Most object members and array elements, over all depths.
    pub(crate) members: usize,
}

impl Bounds {
    /// Token headers and claims.
    pub(crate) const TOKEN: Bounds = Bounds { depth: 32, members: 1024 };
}

/// Not one strict JSON object within the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotStrict;

/// Reads exactly one JSON object. Linear in the length; allocates at most a small multiple of it.
pub(crate) fn parse_object(text: &[u8], bounds: Bounds) -> Result<Map<String, Value>, NotStrict> {
    let text = std::str::from_utf8(text).map_err(|_| NotStrict)?;
    let scan = Scan::new(bounds);
    let mut source = serde_json::Deserializer::from_str(text);
    let value = Strict { scan: &scan, depth: 0 }.deserialize(&mut source).map_err(|_| NotStrict)?;
    source.end().map_err(|_| NotStrict)?;
    match value {
        Value::Object(map) if !scan.repeated.get() => Ok(map),
        _ => Err(NotStrict),
    }
}

/// Reads one JSON object whose member `list` is an array, judging each element on its own: an element that
/// repeats a name is `None`, so that one bad element does not spoil the others. A missing `list`, or one that is
/// no array, or more than `most` elements, is [`NotStrict`].
pub(crate) fn parse_list(
    text: &[u8],
    list: &str,
    most: usize,
    bounds: Bounds,
) -> Result<Vec<Option<Value>>, NotStrict> {
    let text = std::str::from_utf8(text).map_err(|_| NotStrict)?;
    let scan = Scan::new(bounds);
    let mut source = serde_json::Deserializer::from_str(text);
    let elements = source.deserialize_map(ListIn { list, most, scan: &scan }).map_err(|_| NotStrict)?;
    source.end().map_err(|_| NotStrict)?;
    elements.ok_or(NotStrict)
}

/// What one reading has seen so far.
struct Scan {
    bounds: Bounds,
    members: Cell<usize>,
    repeated: Cell<bool>,
}

impl Scan {
    fn new(bounds: Bounds) -> Scan {
        Scan { bounds, members: Cell::new(0), repeated: Cell::new(false) }
    }

    fn admit_member<E: Error>(&self) -> Result<(), E> {
        let members = self.members.get().saturating_add(1);
        if members > self.bounds.members {
            return Err(E::custom("too many members"));
        }
        self.members.set(members);
        Ok(())
    }
}

/// Reads any value below `depth`.
#[derive(Clone, Copy)]
struct Strict<'s> {
    scan: &'s Scan,
    depth: usize,
}

impl Strict<'_> {
    fn below<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.saturating_add(1);
        if depth > self.scan.bounds.depth {
            return Err(E::custom("too deep"));
        }
        Ok(Strict { scan: self.scan, depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut list = Vec::new();
        while let Some(value) = source.next_element_seed(below)? {
            self.scan.admit_member()?;
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut map = Map::new();
        while let Some(name) = source.next_key::<String>()? {
            self.scan.admit_member()?;
            let value = source.next_value_seed(below)?;
            if map.insert(name, value).is_some() {
                self.scan.repeated.set(true);
            }
        }
        Ok(Value::Object(map))
    }
}

/// The outer object of [`parse_list`].
struct ListIn<'s> {
    list: &'s str,
    most: usize,
    scan: &'s Scan,
}

impl<'de> Visitor<'de> for ListIn<'_> {
    type Value = Option<Vec<Option<Value>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Self::Value, A::Error> {
        let mut elements = None;
        let mut names = Vec::new();
        while let Some(name) = source.next_key::<String>()? {
            self.scan.admit_member()?;
            if name == self.list {
                let list = Elements { most: self.most, scan: self.scan };
                if elements.replace(source.next_value_seed(list)?).is_some() {
                    return Err(A::Error::custom("a name stands twice"));
                }
            } else {
                source.next_value_seed(Strict { scan: self.scan, depth: 1 })?;
                names.push(name);
            }
        }
        names.sort_unstable();
        let repeated = names.windows(2).any(|pair| matches!(pair, [one, other] if one == other));
        if repeated { Err(A::Error::custom("a name stands twice")) } else { Ok(elements) }
    }
}

/// The array of [`parse_list`].
struct Elements<'s> {
    most: usize,
    scan: &'s Scan,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = Vec<Option<Value>>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Vec<Option<Value>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        loop {
            self.scan.repeated.set(false);
            let Some(value) = source.next_element_seed(Strict { scan: self.scan, depth: 2 })? else {
                return Ok(elements);
            };
            self.scan.admit_member()?;
            if elements.len() >= self.most {
                return Err(A::Error::custom("too many elements"));
            }
            elements.push((!self.scan.repeated.get()).then_some(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::{Bounds, NotStrict, parse_list, parse_object};

    fn read(text: &str) -> Result<Value, NotStrict> {
        parse_object(text.as_bytes(), Bounds::TOKEN).map(Value::Object)
    }

    #[test]
    fn an_object_is_read_with_its_numbers() {
        let text =
            " {\"a\":1.8e9,\n\"b\":1800003600.5,\"c\":[null,true,-1,18446744073709551615],\"d\":{\"\\u00e9\":\"\"}} ";
        assert_eq!(
            read(text),
            Ok(json!({"a": 1.8e9, "b": 1800003600.5, "c": [null, true, -1, u64::MAX], "d": {"é": ""}}))
        );
    }

    #[test]
    fn what_is_not_one_object_is_refused() {
        for text in [
            "",
            " ",
            "null",
            "1",
            "\"a\"",
            "[]",
            "{}{}",
            "{}x",
            "{",
            "{\"a\":}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":1,}",
            "{\"a\":01}",
            "{\"a\":NaN}",
            "{\"a\":Infinity}",
            "{\"a\":1e999}",
            "{\"a\":\"\\ud800\"}",
            "{\"\\udc00\":1}",
            "{\"a\":\"\u{0}\"}",
            "\u{feff}{}",
            "{\"a\":1}//",
            "{\"a\":+1}",
            "{\"a\":.5}",
        ] {
            assert_eq!(read(text), Err(NotStrict), "{text:?}");
        }
        assert_eq!(parse_object(b"{\"a\":\"\xed\xa0\x80\"}", Bounds::TOKEN), Err(NotStrict));
        assert_eq!(parse_object(b"{\"a\":\"\xff\"}", Bounds::TOKEN), Err(NotStrict));
        assert_eq!(parse_object(b"{\0\"\0a\0\"\0:\x001\0}\0", Bounds::TOKEN), Err(NotStrict));
    }

    #[test]
    fn a_name_may_stand_once_at_every_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"sub":1,"s\u0075b":2}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[[{"b":1,"c":{},"b":2}]]}"#,
        ] {
            assert_eq!(read(text), Err(NotStrict), "{text}");
        }
        assert!(read(r#"{"a":1,"A":2,"b":{"a":3}}"#).is_ok());
    }

    #[test]
    fn depth_and_members_are_bounded() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert!(read(&nested(32)).is_ok());
        assert_eq!(read(&nested(33)), Err(NotStrict));
        assert_eq!(read(&nested(100_000)), Err(NotStrict));
        let wide = |count: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(count - 2));
        assert!(read(&wide(1024)).is_ok());
        assert_eq!(read(&wide(1025)), Err(NotStrict));
    }

    #[test]
    fn a_bad_element_does_not_spoil_the_list() {
        let bounds = Bounds { depth: 4, members: 100 };
        let list = |text: &str| parse_list(text.as_bytes(), "keys", 3, bounds);
        assert_eq!(
            list(r#"{"x":{},"keys":[{"a":1,"a":1},{"b":2},7]}"#),
            Ok(vec![None, Some(json!({"b": 2})), Some(json!(7))])
        );
        assert_eq!(list(r#"{"keys":[]}"#), Ok(vec![]));
        for text in [
            r#"{}"#,
            r#"{"keys":{}}"#,
            r#"{"keys":[],"keys":[]}"#,
            r#"{"keys":[],"x":1,"x":1}"#,
            r#"{"keys":[1,2,3,4]}"#,
            r#"[]"#,
            r#"{"keys":[]}x"#,
            r#"{"keys":[{"a":[[1]]}]}"#,
        ] {
            assert_eq!(list(text), Err(NotStrict), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive_and_what_is_read_agrees_with_serde_json(text in ".{0,200}") {
            if let Ok(map) = parse_object(text.as_bytes(), Bounds::TOKEN) {
                prop_assert_eq!(Some(Value::Object(map)), serde_json::from_str(&text).ok());
            }
        }

        #[test]
        fn objects_without_repeats_are_read(names in proptest::collection::hash_set("[a-z\"\\\\é]{0,4}", 0..20)) {
            let map: serde_json::Map<String, Value> = names.into_iter().map(|name| (name, json!([1]))).collect();
            let text = Value::Object(map.clone()).to_string();
            prop_assert_eq!(parse_object(text.as_bytes(), Bounds::TOKEN), Ok(map));
        }
    }
}
