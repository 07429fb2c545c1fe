//! This file answers: what was written, before it means anything?

use std::fmt;

use toml::Spanned;
use toml::de::{DeInteger, DeTable, DeValue};

use super::place::Place;
use super::problem::{ConfigProblem, Problem};

/// A value as it was written, in TOML or in a host language's own tables.
///
/// `Debug` shows the shape and never the contents, since secrets may stand in them.
#[derive(Clone, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Its line, counted from 1, when it came from text.
    pub line: Option<usize>,
}

/// What a value is.
#[derive(Clone, PartialEq)]
pub enum Kind {
    /// Text.
    String(String),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction. No key takes one; it is kept so that a problem can say what was found.
    Float(f64),
    /// True or false.
    Boolean(bool),
    /// A list.
    Array(Vec<Value>),
    /// Keys and values in the order written.
    Table(Vec<Entry>),
}

/// One key of a table.
#[derive(Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// The line of the key, counted from 1, when it came from text.
    pub line: Option<usize>,
    /// The value.
    pub value: Value,
}

/// Longest configuration text in bytes.
pub const MAX_TEXT_BYTES: usize = 1 << 20;

/// Deepest nesting of tables and lists; the configuration itself needs six, a key set a few more.
const MAX_DEPTH: usize = 16;

impl Value {
    /// Reads TOML (1.1) text of at most 1 MiB into a tree.
    ///
    /// Use it when your own sections stand in the same file: [`take`](Value::take) them, then give the rest
    /// to [`Config::from_tree`](super::Config::from_tree).
    pub fn parse_toml(text: &str) -> Result<Value, ConfigProblem> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(Problem::new(Place::default(), "the configuration is longer than 1 MiB").into());
        }
        let lines = Lines::new(text);
        let table = DeTable::parse(text).map_err(|error| {
            // The message of the parser names what it expected and never repeats the text, which may be secret.
            let problem = Problem::new(Place::default(), format_args!("this is not TOML: {}", error.message()));
            ConfigProblem { line: error.span().and_then(|span| lines.find(span.start)), ..problem.into() }
        })?;
        let kind = table_kind(table.into_inner(), &lines, &Place::default(), 0)?;
        Ok(Value { kind, line: None })
    }

    /// A table from keys and values.
    pub fn table(entries: Vec<(String, Value)>) -> Value {
        let entry = |(key, value)| Entry { key, line: None, value };
        Kind::Table(entries.into_iter().map(entry).collect()).into()
    }

    /// Takes a key out of this table.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        let Kind::Table(entries) = &mut self.kind else { return None };
        let position = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(position).value)
    }

    /// What it is, in words.
    pub(crate) fn noun(&self) -> &'static str {
        match self.kind {
            Kind::String(_) => "a text",
            Kind::Integer(_) => "a whole number",
            Kind::Float(_) => "a number with a fraction",
            Kind::Boolean(_) => "true or false",
            Kind::Array(_) => "a list",
            Kind::Table(_) => "a table",
        }
    }

    /// This value as JSON, for a key set written into the configuration. `None` when it is nested too deep or
    /// holds a number JSON cannot.
    pub(crate) fn to_json(&self) -> Option<serde_json::Value> {
        self.json(0)
    }

    fn json(&self, depth: usize) -> Option<serde_json::Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        let deeper = depth.saturating_add(1);
        Some(match &self.kind {
            Kind::String(text) => serde_json::Value::String(text.clone()),
            Kind::Integer(number) => (*number).into(),
            Kind::Float(number) => serde_json::Value::Number(serde_json::Number::from_f64(*number)?),
            Kind::Boolean(flag) => (*flag).into(),
            Kind::Array(values) => values.iter().map(|value| value.json(deeper)).collect::<Option<_>>()?,
            Kind::Table(entries) => {
                let pair = |entry: &Entry| Some((entry.key.clone(), entry.value.json(deeper)?));
                serde_json::Value::Object(entries.iter().map(pair).collect::<Option<_>>()?)
            }
        })
    }
}

impl From<Kind> for Value {
    fn from(kind: Kind) -> Value {
        Value { kind, line: None }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Kind::String(text.to_owned()).into()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.kind, f)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::String(text) => write!(f, "String({} bytes)", text.len()),
            Kind::Integer(_) => f.write_str("Integer"),
            Kind::Float(_) => f.write_str("Float"),
            Kind::Boolean(_) => f.write_str("Boolean"),
            Kind::Array(values) => f.debug_list().entries(values).finish(),
            Kind::Table(entries) => f.debug_map().entries(entries.iter().map(|e| (&e.key, &e.value))).finish(),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {:?}", self.key, self.value)
    }
}

/// Where each line ends, so that an offset becomes a line number.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Lines {
        Lines(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset).collect())
    }

    fn find(&self, offset: usize) -> Option<usize> {
        self.0.partition_point(|end| *end < offset).checked_add(1)
    }
}

fn table_kind(table: DeTable<'_>, lines: &Lines, place: &Place, depth: usize) -> Result<Kind, ConfigProblem> {
    // The parser sorts by key; the order written is the order of the spans.
    let mut pairs: Vec<_> = table.into_iter().collect();
    pairs.sort_by_key(|(key, _)| key.span().start);
    let mut entries = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let line = lines.find(key.span().start);
        let key = key.into_inner().into_owned();
        let value = value_of(value, lines, &place.key(&key), depth)?;
        entries.push(Entry { key, line, value });
    }
    Ok(Kind::Table(entries))
}

fn value_of(value: Spanned<DeValue<'_>>, lines: &Lines, place: &Place, depth: usize) -> Result<Value, ConfigProblem> {
    let line = lines.find(value.span().start);
    let refuse = |what: &str| ConfigProblem { line, ..Problem::new(place.clone(), what).into() };
    if depth >= MAX_DEPTH {
        return Err(refuse("nested deeper than 16"));
    }
    let deeper = depth.saturating_add(1);
    let kind = match value.into_inner() {
        DeValue::String(text) => Kind::String(text.into_owned()),
        DeValue::Boolean(flag) => Kind::Boolean(flag),
        DeValue::Float(number) => Kind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Integer(number) => Kind::Integer(integer(&number).ok_or_else(|| refuse("this number is too large"))?),
        DeValue::Datetime(_) => return Err(refuse("dates are not used; times are seconds since 1970")),
        DeValue::Array(values) => {
            let element = |(index, value)| value_of(value, lines, &place.index(index), deeper);
            Kind::Array(values.into_iter().enumerate().map(element).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => table_kind(table, lines, place, deeper)?,
    };
    Ok(Value { kind, line })
}

fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_becomes_a_tree_in_the_order_written() {
        let root = Value::parse_toml("b = 0x10\na = [1, \"x\"]\n[t]\nz = true\n\"y.y\" = 1.5\n").unwrap();
        let Kind::Table(entries) = &root.kind else { panic!() };
        let keys: Vec<_> = entries.iter().map(|e| (e.key.as_str(), e.line)).collect();
        assert_eq!(keys, [("b", Some(1)), ("a", Some(2)), ("t", Some(3))]);
        assert_eq!(entries[0].value.kind, Kind::Integer(16));
        let Kind::Table(inner) = &entries[2].value.kind else { panic!() };
        assert_eq!(inner[0].key, "z");
        assert_eq!((inner[1].key.as_str(), inner[1].line), ("y.y", Some(5)));
    }

    #[test]
    fn debug_shows_no_contents() {
        let root = Value::parse_toml("secret = \"hunter2\"\npin = 4711\n").unwrap();
        let debug = format!("{root:?}");
        assert_eq!(debug, r#"{"secret": String(7 bytes), "pin": Integer}"#);
    }

    #[test]
    fn what_is_no_tree_is_refused_with_its_line() {
        let deep = format!("a = {}1{}\n", "[".repeat(20), "]".repeat(20));
        let cases: &[(&str, &str)] = &[
            ("a = 1\nb = \n", "line 2: this is not TOML: "),
            ("a = 1\n\na = 2\n", "line 3: this is not TOML: duplicate key"),
            ("a = 9223372036854775808", "line 1: a: this number is too large"),
            ("\na = 2027-01-01", "line 2: a: dates are not used; times are seconds since 1970"),
            (&deep, "line 1: a[0][0]"),
        ];
        for (text, start) in cases {
            let problem = Value::parse_toml(text).unwrap_err().to_string();
            assert!(problem.starts_with(start), "{problem}");
        }
        let long = "#".repeat(MAX_TEXT_BYTES + 1);
        assert_eq!(Value::parse_toml(&long).unwrap_err().to_string(), "the configuration is longer than 1 MiB");
    }

    #[test]
    fn a_section_can_be_taken_out() {
        let mut root = Value::parse_toml("[redis]\nurl = \"x\"\n[limits]\n").unwrap();
        assert!(root.take("redis").is_some());
        assert!(root.take("redis").is_none());
        assert_eq!(format!("{root:?}"), r#"{"limits": {}}"#);
        assert!(Value::from("x").take("y").is_none());
    }

    #[test]
    fn a_tree_becomes_json() {
        let root = Value::parse_toml("keys = [{ kty = \"oct\", n = 1, b = true, f = 0.5 }]").unwrap();
        let json = root.to_json().unwrap().to_string();
        assert_eq!(json, r#"{"keys":[{"b":true,"f":0.5,"kty":"oct","n":1}]}"#);
        assert!(Value::from(Kind::Float(f64::NAN)).to_json().is_none());
        let mut deep = Value::from("x");
        for _ in 0..40 {
            deep = Kind::Array(vec![deep]).into();
        }
        assert!(deep.to_json().is_none());
    }
}
