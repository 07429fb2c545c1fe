//! This file answers: which refusals exist? For Python, from the one table.

use pyo3::prelude::*;
use wsauth::Reason;

/// number, name, public name, HTTP status, close code, action, operator's text, peer's text.
type Row = (u16, &'static str, &'static str, u16, u16, &'static str, &'static str, &'static str);

/// Every reason, in the order of their numbers.
#[pyfunction]
pub(crate) fn refusal_rows() -> Vec<Row> {
    let row = |reason: &Reason| {
        let row = reason.row();
        let action = row.action.name();
        (reason.number(), row.name, row.public, row.http, row.close, action, row.text, reason.public_text())
    };
    Reason::ALL.iter().map(row).collect()
}
