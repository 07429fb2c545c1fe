//! This file answers: do the tests exist that `docs/faults.md` and `docs/sources.md` name?
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics fails, as it should")]

use std::path::{Path, PathBuf};

/// The cells of each row of the page's tables, without the heads.
fn rows(page: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs").join(page)).unwrap();
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    text.lines().filter(|line| line.starts_with('|')).map(cells).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What stands in backticks: a file, then the tests in it. Returns how many tests there are.
fn require_tests(cell: &str) -> usize {
    let mut file = None;
    let mut found = 0;
    for name in cell.split('`').skip(1).step_by(2) {
        if name.contains('/') {
            let text = std::fs::read_to_string(root().join(name));
            assert!(text.is_ok(), "{name} is no file");
            file = Some((name, text.unwrap()));
            continue;
        }
        let Some((path, text)) = &file else { unreachable!("`{name}` is in no file: {cell}") };
        let begins = match path.rsplit('.').next() {
            Some("rs") => format!("fn {name}("),
            Some("py") => format!("def {name}("),
            _ => format!("{name}("),
        };
        assert!(text.contains(&begins), "{path} has no `{name}`");
        found += 1;
    }
    found
}

#[test]
fn every_fault_has_its_row_and_its_tests_exist() {
    let faults: Vec<_> = rows("faults.md").into_iter().filter(|row| row[0].starts_with('X')).collect();
    let ids: Vec<_> = faults.iter().map(|row| row[0].clone()).collect();
    assert_eq!(ids, (1..=64).map(|n| format!("X{n:02}")).collect::<Vec<_>>());
    for row in faults {
        let [id, fault, what, shown] = row.as_slice() else { unreachable!("four cells: {row:?}") };
        assert!(!fault.is_empty() && !what.is_empty(), "{id}");
        let what = what.to_lowercase();
        let said = what.contains("not here yet") || what.contains("no test yet");
        assert!(require_tests(shown) > 0 || said, "{id} is shown by nothing, and does not say so");
    }
}

#[test]
fn every_degraded_state_is_shown_by_tests_that_exist() {
    let rows = rows("sources.md");
    let head = rows.iter().position(|row| row.last().is_some_and(|cell| cell == "shown by")).unwrap();
    let states: Vec<_> = rows[head + 2..].iter().take_while(|row| row.len() == rows[head].len()).collect();
    assert!(states.len() >= 9, "{}", states.len());
    for row in states {
        assert!(require_tests(row.last().unwrap()) > 0, "{}", row[0]);
    }
}
