//! This file answers: what is wrong with a configuration, and where?

use std::fmt;

use super::place::{Place, shown};
use super::tree::Value;

/// Why a configuration was refused. Never holds a secret: values of secret keys are not repeated.
///
/// Its `Display` is one line, such as
/// ``line 7: unknown key `orgins` in [handshake]; did you mean `origins`?``.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The dotted path of the value, such as `issuer[0].algorithms`. Empty when no single key is to blame.
    pub key: String,
    /// The line, counted from 1, when the configuration came from text.
    pub line: Option<usize>,
    /// What is wrong, as one sentence that names the key.
    pub what: String,
    /// The known name that is nearest to an unknown one, when one is near.
    pub nearest: Option<String>,
}

impl ConfigProblem {
    /// What only compiling finds out: an origin, a pattern, a key.
    pub(crate) fn uncompilable(what: String) -> ConfigProblem {
        ConfigProblem { key: String::new(), line: None, what, nearest: None }
    }
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        f.write_str(&self.what)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean `{nearest}`?")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigProblem {}

/// A problem before its line is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    place: Place,
    what: String,
    nearest: Option<String>,
}

impl Problem {
    /// `what` is wrong at `place`.
    pub(crate) fn new(place: Place, what: impl fmt::Display) -> Problem {
        let what = if place.is_top() { what.to_string() } else { format!("{place}: {what}") };
        Problem { place, what, nearest: None }
    }

    /// A key that does not exist in the table at `table`.
    pub(crate) fn unknown_key(table: &Place, key: &str, known: &[&str]) -> Problem {
        let of = if table.is_top() { "at the top".to_owned() } else { format!("in {}", table.section()) };
        Problem {
            place: table.key(key),
            what: format!("unknown key `{}` {of}", shown(key)),
            nearest: find_nearest(key, known),
        }
    }

    /// A word that is none of the accepted ones.
    pub(crate) fn unknown_word(place: Place, word: &str, known: &[&str]) -> Problem {
        let accepted: Vec<String> = known.iter().map(|known| format!("`{known}`")).collect();
        let what = format!("`{}` is not accepted; expected {}", shown(word), accepted.join(", "));
        Problem { nearest: find_nearest(word, known), ..Problem::new(place, what) }
    }

    /// The problem with the line of its place in `root`.
    pub(crate) fn in_tree(self, root: &Value) -> ConfigProblem {
        ConfigProblem { line: self.place.find_line(root), ..self.into() }
    }
}

impl From<Problem> for ConfigProblem {
    fn from(problem: Problem) -> ConfigProblem {
        ConfigProblem { key: problem.place.to_string(), line: None, what: problem.what, nearest: problem.nearest }
    }
}

/// Longest word for which a neighbour is looked for, in bytes; the search costs its square.
const LONGEST: usize = 64;

/// The known word nearest to `word`: at most three edits away and no more than half of the longer word,
/// letter case aside.
pub(crate) fn find_nearest(word: &str, known: &[&str]) -> Option<String> {
    if word.len() > LONGEST {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let distance = edits(&word.to_ascii_lowercase(), &candidate.to_ascii_lowercase());
        let near = distance <= 3 && distance.saturating_mul(2) <= word.len().max(candidate.len());
        if near && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate.to_owned())
}

/// Levenshtein distance over bytes.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (above, left_byte) in left.bytes().enumerate() {
        let mut diagonal = above;
        let mut before = above.saturating_add(1);
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, right_byte) in row.iter_mut().skip(1).zip(right.bytes()) {
            let replace = diagonal.saturating_add(usize::from(left_byte != right_byte));
            let edit = (*cell).min(before).saturating_add(1);
            diagonal = *cell;
            before = replace.min(edit);
            *cell = before;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nearest_words() {
        let known = ["origins", "credentials", "per", "count", "HS256", "RS256"];
        let cases = [
            ("orgins", Some("origins")),
            ("Origins", Some("origins")),
            ("credential", Some("credentials")),
            ("rs256", Some("RS256")),
            ("RS265", Some("RS256")),
            ("none", None),
            ("foo", None),
            ("", None),
            ("x", None),
        ];
        for (word, nearest) in cases {
            assert_eq!(find_nearest(word, &known).as_deref(), nearest, "{word}");
        }
        assert_eq!(find_nearest(&"o".repeat(100_000), &known), None);
    }

    #[test]
    fn edits_are_counted() {
        for (left, right, distance) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("kitten", "sitting", 3), ("flaw", "lawn", 2)]
        {
            assert_eq!(edits(left, right), distance, "{left} {right}");
        }
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a in "[a-c]{0,8}", b in "[a-c]{0,8}", c in "[a-c]{0,8}") {
            prop_assert_eq!(edits(&a, &b) == 0, a == b);
            prop_assert_eq!(edits(&a, &b), edits(&b, &a));
            prop_assert!(edits(&a, &c) <= edits(&a, &b) + edits(&b, &c));
        }
    }
}
