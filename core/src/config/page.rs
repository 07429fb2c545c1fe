//! This file answers: does `docs/config.md` tell the truth?

use super::known::{self, Known};
use super::*;

const PAGE: &str = include_str!("../../../docs/config.md");

/// What the files and variables of the example hold.
struct Example;

impl SecretSource for Example {
    fn env(&self, _: &str) -> Result<Vec<u8>, String> {
        Ok(vec![b'e'; 32])
    }

    fn file(&self, _: &str) -> Result<Vec<u8>, String> {
        Ok(vec![b'f'; 32])
    }
}

/// The rows of the table under the heading of `known`, as cells.
fn rows(known: &Known) -> Vec<Vec<&'static str>> {
    let title = if known.name == "the file" { "The file" } else { known.name };
    let (_, after) = PAGE.split_once(&format!("\n## {title}\n")).unwrap_or_else(|| panic!("{title}"));
    let section = after.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('|').trim()).collect())
        .collect()
}

#[test]
fn the_example_is_accepted() {
    let (_, after) = PAGE.split_once("```toml\n").unwrap();
    let (example, _) = after.split_once("```").unwrap();
    let config = Config::from_toml(example, &Example).map_err(|problem| problem.to_string()).unwrap();
    assert_eq!(config.issuers.len(), 2);
    assert_eq!(config.messages.len(), 6);
    assert_eq!(config.brute_force.block_above, Some(50));
}

#[test]
fn every_key_has_its_row_and_every_row_its_key() {
    for known in known::ALL {
        let keys: Vec<String> = known.keys.iter().map(|key| format!("`{key}`")).collect();
        let documented: Vec<&str> = rows(known).iter().map(|row| row[0]).collect();
        assert_eq!(documented, keys, "{}", known.name);
    }
}

/// Writing a default down changes nothing.
#[test]
fn the_defaults_are_the_defaults() {
    let issuer = "[[issuer]]\nissuer = \"i\"\naudience = \"a\"\nalgorithms = \"RS256\"\nkeys = { jwks_url = \"https://x.example\" }\n";
    let handshake = "[handshake]\ncredentials = \"query\"\ntrusted_proxies = []\n";
    let debug = |text: &str| {
        let config = Config::from_toml(text, &NoSecretSource).map_err(|problem| format!("{problem}\n{text}"));
        format!("{:?}", config.unwrap())
    };
    let mut written = 0;
    for known in known::ALL {
        for row in rows(known) {
            let key = row[0].trim_matches('`');
            let Some(default) = row[1].strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) else { continue };
            // Only a cell that is one piece of code is a default that can be written as it stands.
            if default.contains('`') || default == "count" {
                continue;
            }
            let (with, without) = match known.name {
                "[[issuer]]" => (format!("{issuer}{key} = {default}\n{handshake}"), format!("{issuer}{handshake}")),
                "[handshake]" => (format!("{issuer}{handshake}{key} = {default}\n"), format!("{issuer}{handshake}")),
                name if name.starts_with('[') => {
                    let section = format!("{issuer}{handshake}{name}\n");
                    (format!("{section}{key} = {default}\n"), section)
                }
                _ => continue,
            };
            assert_eq!(debug(&with), debug(&without), "{} {key}", known.name);
            written += 1;
        }
    }
    assert!(written > 40, "{written}");
}

/// One below the least and one above the most are refused, where the page gives two plain numbers.
#[test]
fn the_bounds_are_the_bounds() {
    let issuer = "[[issuer]]\nissuer = \"i\"\naudience = \"a\"\nalgorithms = \"RS256\"\nkeys = { jwks_url = \"https://x.example\" }\n";
    let handshake = "[handshake]\ncredentials = \"query\"\ntrusted_proxies = []\n";
    let mut tried = 0;
    for known in [&known::HANDSHAKE, &known::MESSAGE, &known::CONNECTION, &known::REFRESH, &known::LIMITS]
        .into_iter()
        .chain([&known::BRUTE_FORCE, &known::REVOCATION, &known::AUDIT])
    {
        for row in rows(known) {
            let key = row[0].trim_matches('`');
            let plain = |text: &str| text.replace(',', "").parse::<i64>().ok();
            let Some((least, most)) = row[2].split_once(" to ") else { continue };
            let (Some(least), Some(most)) = (plain(least), plain(most)) else { continue };
            let section = if known.name == "[handshake]" { String::new() } else { format!("{}\n", known.name) };
            let load = |value: i64| {
                let text = format!("{issuer}{handshake}{section}{key} = {value}\n");
                Config::from_toml(&text, &NoSecretSource).map_err(|problem| problem.key)
            };
            let path = format!("{}.{key}", known.name.trim_matches(['[', ']']));
            assert_eq!(load(least - 1).unwrap_err(), path);
            assert_eq!(load(most + 1).unwrap_err(), path);
            for value in [least, most] {
                // A bound may collide with a neighbour's default, never with its own key.
                assert_ne!(load(value).err(), Some(path.clone()), "{value}");
            }
            tried += 1;
        }
    }
    assert!(tried >= 14, "{tried}");
}
