//! This file answers: where in the configuration does a value stand, and on which line?

use std::fmt;

use super::tree::{Kind, Value};

/// The way from the top of the configuration to one value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// Longest piece of operator text that a problem repeats, in characters.
const SHOWN: usize = 64;

impl Place {
    /// The place of a key at the top.
    pub(crate) fn top(key: &str) -> Place {
        Place::default().key(key)
    }

    /// The place of `key` in the table here.
    pub(crate) fn key(&self, key: &str) -> Place {
        self.step(Step::Key(key.to_owned()))
    }

    /// The place of one element of the list here.
    pub(crate) fn index(&self, index: usize) -> Place {
        self.step(Step::Index(index))
    }

    /// Whether this is the configuration itself.
    pub(crate) fn is_top(&self) -> bool {
        self.0.is_empty()
    }

    /// The line of this place in `root`, or of the nearest place above it that was written.
    pub(crate) fn find_line(&self, root: &Value) -> Option<usize> {
        let mut line = root.line;
        let mut here = root;
        for step in &self.0 {
            match (step, &here.kind) {
                (Step::Key(key), Kind::Table(entries)) => {
                    // The last of two equal keys is the one that is too many.
                    let Some(entry) = entries.iter().rev().find(|entry| entry.key == *key) else { break };
                    here = &entry.value;
                    line = entry.line.or(line);
                }
                (Step::Index(index), Kind::Array(values)) => {
                    let Some(value) = values.get(*index) else { break };
                    here = value;
                    line = value.line.or(line);
                }
                // One text may stand for a list of one.
                _ => break,
            }
        }
        line
    }

    /// How a section is called in a sentence: `[handshake]`, or `issuer[0]` where lists are on the way.
    pub(crate) fn section(&self) -> String {
        if self.0.iter().any(|step| matches!(step, Step::Index(_))) { self.to_string() } else { format!("[{self}]") }
    }

    fn step(&self, step: Step) -> Place {
        let mut steps = self.0.clone();
        steps.push(step);
        Place(steps)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) => {
                    if position > 0 {
                        f.write_str(".")?;
                    }
                    let bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
                    if !key.is_empty() && key.len() <= SHOWN && key.bytes().all(bare) {
                        f.write_str(key)?;
                    } else {
                        write!(f, "\"{}\"", shown(key))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Operator text as a problem repeats it: control characters escaped, cut after 64 characters.
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (position, character) in text.chars().enumerate() {
        if position == SHOWN {
            out.push('…');
            break;
        }
        match character {
            // Backticks mark where the operator's text begins and ends.
            '`' => out.push('\''),
            '"' | '\\' => out.extend(['\\', character]),
            _ if character.is_control() => out.extend(character.escape_default()),
            _ => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_like_the_file() {
        let place = Place::top("issuer").index(1).key("keys").key("secrets").index(0);
        assert_eq!(place.to_string(), "issuer[1].keys.secrets[0]");
        assert_eq!(place.section(), "issuer[1].keys.secrets[0]");
        assert_eq!(Place::top("messages").key("chat.send").to_string(), "messages.\"chat.send\"");
        assert_eq!(Place::top("handshake").key("cookie").section(), "[handshake.cookie]");
        assert!(Place::default().is_top());
    }

    #[test]
    fn the_line_is_that_of_the_nearest_place_that_was_written() {
        let root = Value::parse_toml("\n[handshake]\norigins = [\n  \"a\",\n  \"b\",\n]\n").unwrap();
        let origins = Place::top("handshake").key("origins");
        assert_eq!(origins.find_line(&root), Some(3));
        assert_eq!(origins.index(1).find_line(&root), Some(5));
        assert_eq!(origins.index(9).find_line(&root), Some(3));
        assert_eq!(Place::top("handshake").key("credentials").find_line(&root), Some(2));
        assert_eq!(Place::top("limits").find_line(&root), None);
    }

    #[test]
    fn shown_text_is_short_and_harmless() {
        assert_eq!(shown("a\nb`c\u{7f}\""), "a\\nb'c\\u{7f}\\\"");
        assert_eq!(shown(&"é".repeat(100)).chars().count(), 65);
    }
}
