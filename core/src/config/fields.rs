//! This file answers: how is a typed value taken out of the tree?

use std::collections::BTreeSet;

use super::known::Known;
use super::place::{Place, shown};
use super::problem::Problem;
use super::tree::{Entry, Kind, Value};

/// One table of the configuration, its keys known to be known.
pub(crate) struct Fields<'a> {
    place: Place,
    entries: &'a [Entry],
}

/// Most elements of one list.
const MAX_LIST: usize = 4096;

impl<'a> Fields<'a> {
    /// Opens a table, refusing keys that `known` does not list and keys written twice.
    pub(crate) fn open(place: Place, value: &'a Value, known: &Known) -> Result<Fields<'a>, Problem> {
        let fields = Fields::open_free(place, value)?;
        for entry in fields.entries {
            if !known.keys.contains(&entry.key.as_str()) {
                return Err(Problem::unknown_key(&fields.place, &entry.key, known.keys));
            }
        }
        Ok(fields)
    }

    /// Opens a table whose keys are the operator's own.
    pub(crate) fn open_free(place: Place, value: &'a Value) -> Result<Fields<'a>, Problem> {
        let Kind::Table(entries) = &value.kind else { return Err(expected(place, "a table", value)) };
        let mut seen = BTreeSet::new();
        for entry in entries {
            if !seen.insert(entry.key.as_str()) {
                return Err(Problem::new(place.key(&entry.key), "written twice"));
            }
        }
        Ok(Fields { place, entries })
    }

    /// The table under `key`; an empty one when it is not written.
    pub(crate) fn section(&self, key: &str, known: &Known) -> Result<Fields<'a>, Problem> {
        match self.find(key) {
            Some(value) => Fields::open(self.place.key(key), value, known),
            None => Ok(Fields { place: self.place.key(key), entries: &[] }),
        }
    }

    /// The table under `key`, whose keys are the operator's own; an empty one when it is not written.
    pub(crate) fn free_section(&self, key: &str) -> Result<Fields<'a>, Problem> {
        match self.find(key) {
            Some(value) => Fields::open_free(self.place.key(key), value),
            None => Ok(Fields { place: self.place.key(key), entries: &[] }),
        }
    }

    /// Every key with its place and value, in the order written.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'a str, Place, &'a Value)> + '_ {
        self.entries.iter().map(|entry| (entry.key.as_str(), self.place.key(&entry.key), &entry.value))
    }

    /// The value under `key`.
    pub(crate) fn find(&self, key: &str) -> Option<&'a Value> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Whether `key` is written.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// The place of `key`.
    pub(crate) fn at(&self, key: &str) -> Place {
        self.place.key(key)
    }

    /// The place of the table.
    pub(crate) fn place(&self) -> Place {
        self.place.clone()
    }

    /// A problem with `key`.
    pub(crate) fn problem(&self, key: &str, what: impl std::fmt::Display) -> Problem {
        Problem::new(self.at(key), what)
    }

    /// A text.
    pub(crate) fn text(&self, key: &str) -> Result<Option<String>, Problem> {
        self.find(key).map(|value| text(self.at(key), value)).transpose()
    }

    /// A list of texts; one text stands for a list of one.
    pub(crate) fn texts(&self, key: &str) -> Result<Option<Vec<String>>, Problem> {
        let Some(value) = self.find(key) else { return Ok(None) };
        texts(self.at(key), value).map(Some)
    }

    /// True or false.
    pub(crate) fn flag(&self, key: &str) -> Result<Option<bool>, Problem> {
        let Some(value) = self.find(key) else { return Ok(None) };
        match value.kind {
            Kind::Boolean(flag) => Ok(Some(flag)),
            _ => Err(expected(self.at(key), "true or false", value)),
        }
    }

    /// A whole number of at least 0 that fits `N`. The bounds are looked at afterwards, all in one place.
    pub(crate) fn number<N: TryFrom<u64>>(&self, key: &str) -> Result<Option<N>, Problem> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let Kind::Integer(number) = value.kind else { return Err(expected(self.at(key), "a whole number", value)) };
        let Ok(positive) = u64::try_from(number) else {
            return Err(self.problem(key, format_args!("must not be negative, but is {number}")));
        };
        match N::try_from(positive) {
            Ok(fits) => Ok(Some(fits)),
            Err(_) => Err(self.problem(key, format_args!("{number} is far too large"))),
        }
    }

    /// A duration in milliseconds.
    pub(crate) fn duration(&self, key: &str) -> Result<Option<u64>, Problem> {
        self.find(key).map(|value| duration(self.at(key), value)).transpose()
    }

    /// One of the words that are accepted.
    pub(crate) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<T>, Problem> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let place = self.at(key);
        word(place.clone(), &text(place, value)?, words).map(Some)
    }

    /// A list of words that are accepted; a word written twice counts once.
    pub(crate) fn words<T: Copy + PartialEq>(&self, key: &str, words: &[(&str, T)]) -> Result<Option<Vec<T>>, Problem> {
        let Some(texts) = self.texts(key)? else { return Ok(None) };
        let mut found = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let place = match self.find(key).map(|value| &value.kind) {
                Some(Kind::Array(_)) => self.at(key).index(index),
                _ => self.at(key),
            };
            let one = word(place, text, words)?;
            if !found.contains(&one) {
                found.push(one);
            }
        }
        Ok(Some(found))
    }

    /// The elements of a list of tables, with the place of each.
    pub(crate) fn tables(&self, key: &str) -> Result<Vec<(Place, &'a Value)>, Problem> {
        let Some(value) = self.find(key) else { return Ok(Vec::new()) };
        let Kind::Array(values) = &value.kind else { return Err(expected(self.at(key), "a list of tables", value)) };
        Ok(values.iter().enumerate().map(|(index, value)| (self.at(key).index(index), value)).collect())
    }
}

/// Something of another type than the key takes. Never repeats the value.
pub(crate) fn expected(place: Place, wanted: &str, found: &Value) -> Problem {
    Problem::new(place, format_args!("expected {wanted}, found {}", found.noun()))
}

/// A list of texts, or one text.
pub(crate) fn texts(place: Place, value: &Value) -> Result<Vec<String>, Problem> {
    match &value.kind {
        Kind::String(text) => Ok(vec![text.clone()]),
        Kind::Array(values) if values.len() > MAX_LIST => {
            Err(Problem::new(place, format_args!("a list has at most {MAX_LIST} elements")))
        }
        Kind::Array(values) => {
            values.iter().enumerate().map(|(index, value)| text(place.index(index), value)).collect()
        }
        _ => Err(expected(place, "a list of texts", value)),
    }
}

fn text(place: Place, value: &Value) -> Result<String, Problem> {
    match &value.kind {
        Kind::String(text) => Ok(text.clone()),
        _ => Err(expected(place, "a text", value)),
    }
}

fn word<T: Copy>(place: Place, word: &str, words: &[(&str, T)]) -> Result<T, Problem> {
    match words.iter().find(|(name, _)| *name == word) {
        Some((_, meaning)) => Ok(*meaning),
        None => {
            let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
            Err(Problem::unknown_word(place, word, &names))
        }
    }
}

/// Whole seconds, or a text of digits and a unit.
fn duration(place: Place, value: &Value) -> Result<u64, Problem> {
    const FORM: &str = "whole seconds, or a text such as `500ms`, `30s`, `5m`, `24h` or `7d`";
    match &value.kind {
        Kind::Integer(seconds) => match u64::try_from(*seconds) {
            Ok(seconds) => Ok(seconds.saturating_mul(1000)),
            Err(_) => Err(Problem::new(place, format_args!("must not be negative, but is {seconds}"))),
        },
        Kind::String(text) => parse_duration(text)
            .ok_or_else(|| Problem::new(place, format_args!("`{}` is no duration; expected {FORM}", shown(text)))),
        _ => Err(expected(place, FORM, value)),
    }
}

fn parse_duration(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (count, unit) = text.split_at_checked(digits)?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Known = Known { name: "test", keys: &["a", "b"] };

    fn with<R>(text: &str, read: impl FnOnce(&Fields<'_>) -> R) -> R {
        let root = Value::parse_toml(text).unwrap();
        read(&Fields::open(Place::default(), &root, &KNOWN).map_err(|p| p.in_tree(&root).to_string()).unwrap())
    }

    fn problem<T: std::fmt::Debug>(result: Result<T, Problem>) -> String {
        super::super::ConfigProblem::from(result.unwrap_err()).to_string()
    }

    #[test]
    fn durations() {
        let good = [("0", 0), ("30", 30_000), ("\"500ms\"", 500), ("\"5m\"", 300_000), ("\"24h\"", 86_400_000)];
        for (text, ms) in good {
            assert_eq!(with(&format!("a = {text}"), |f| f.duration("a")).unwrap(), Some(ms), "{text}");
        }
        let week = with("a = \"7d\"", |f| f.duration("a")).unwrap();
        assert_eq!(week, Some(604_800_000));
        for text in ["\"\"", "\"5\"", "\"m\"", "\" 5m\"", "\"5 m\"", "\"-5m\"", "\"+5m\"", "\"5M\"", "\"1.5h\""] {
            let problem = problem(with(&format!("a = {text}"), |f| f.duration("a")));
            assert!(problem.contains("is no duration; expected whole seconds"), "{problem}");
        }
        let huge = format!("a = \"{}d\"", u64::MAX);
        assert!(with(&huge, |f| f.duration("a")).is_err());
        assert_eq!(problem(with("a = -1", |f| f.duration("a"))), "a: must not be negative, but is -1");
        let float = problem(with("a = nan", |f| f.duration("a")));
        assert!(float.ends_with("found a number with a fraction"), "{float}");
    }

    #[test]
    fn numbers_fit_and_are_never_negative() {
        assert_eq!(problem(with("a = 300", |f| f.number::<u8>("a"))), "a: 300 is far too large");
        assert_eq!(with("a = 300", |f| f.number::<u16>("a")).unwrap(), Some(300));
        assert_eq!(with("a = 300", |f| f.number::<u32>("b")).unwrap(), None);
        assert_eq!(problem(with("a = -1", |f| f.number::<u32>("a"))), "a: must not be negative, but is -1");
        let text = problem(with("a = \"1\"", |f| f.number::<u32>("a")));
        assert_eq!(text, "a: expected a whole number, found a text");
    }

    #[test]
    fn one_text_is_a_list_of_one() {
        assert_eq!(with("a = \"x\"", |f| f.texts("a")).unwrap().unwrap(), ["x"]);
        assert_eq!(with("a = [\"x\", \"y\"]", |f| f.texts("a")).unwrap().unwrap(), ["x", "y"]);
        assert_eq!(problem(with("a = [\"x\", 1]", |f| f.texts("a"))), "a[1]: expected a text, found a whole number");
        assert_eq!(problem(with("a = true", |f| f.texts("a"))), "a: expected a list of texts, found true or false");
    }

    #[test]
    fn words_are_named() {
        let words = [("on", 1), ("off", 2)];
        assert_eq!(with("a = \"off\"", |f| f.word("a", &words)).unwrap(), Some(2));
        assert_eq!(with("a = [\"off\", \"on\", \"off\"]", |f| f.words("a", &words)).unwrap(), Some(vec![2, 1]));
        let wrong = problem(with("a = [\"on\", \"of\"]", |f| f.words("a", &words)));
        assert_eq!(wrong, "a[1]: `of` is not accepted; expected `on`, `off`; did you mean `on`?");
    }

    #[test]
    fn a_key_written_twice_by_hand_is_refused() {
        let twice = Value::table(vec![("a".to_owned(), "x".into()), ("a".to_owned(), "y".into())]);
        assert_eq!(problem(Fields::open(Place::top("t"), &twice, &KNOWN).map(|_| ())), "t.a: written twice");
    }
}
