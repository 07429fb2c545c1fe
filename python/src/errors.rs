//! This file answers: which Python exception does a refusal become?
//!
//! The classes are written in Python (`wsauth/errors.py`); one class per reaction, not per reason.

use pyo3::prelude::*;
use wsauth::config::ConfigProblem;
use wsauth::{Class, Reason, Refusal};

pyo3::import_exception!(wsauth.errors, Refused);
pyo3::import_exception!(wsauth.errors, Withheld);
pyo3::import_exception!(wsauth.errors, ConfigError);
pyo3::import_exception!(wsauth.errors, MisuseError);

/// The exception of a refusal: `MisuseError` where the caller is wrong, else `Refused` with the whole table row.
pub(crate) fn refused(refusal: Refusal, close_code: u16) -> PyErr {
    let row = refusal.row();
    if refusal.reason.class() == Class::Misuse {
        return misuse(refusal.reason, row.text);
    }
    let http = refusal.http_response();
    let headers: Vec<(String, String)> =
        http.headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Refused::new_err((
        row.name,
        row.text,
        http.status,
        headers,
        http.body,
        close_code,
        row.action.name(),
        seconds(refusal.retry_after_ms),
        row.public,
    ))
}

/// The caller used the library wrongly.
pub(crate) fn misuse(reason: Reason, what: impl Into<String>) -> PyErr {
    MisuseError::new_err((what.into(), reason.name()))
}

/// An argument that cannot be used.
pub(crate) fn bad_argument(what: impl Into<String>) -> PyErr {
    misuse(Reason::MisuseArgument, what)
}

/// The configuration was refused.
pub(crate) fn config_error(problem: &ConfigProblem) -> PyErr {
    ConfigError::new_err((problem.to_string(), problem.key.clone(), problem.line, problem.nearest.clone()))
}

/// Milliseconds as the seconds Python counts in.
pub(crate) fn seconds(ms: Option<u32>) -> Option<f64> {
    ms.map(|ms| f64::from(ms) / 1000.0)
}
