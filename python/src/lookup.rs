//! This file answers: how does a Python program answer what the engine cannot know?

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use wsauth::lookup::{Answer, Lookup, Question, Vouched};
use wsauth::time::WallTime;

use crate::clock::{from_ms, to_ms};
use crate::errors::bad_argument;
use crate::json::from_dict;

/// One question. Answer it with `engine.answer(lookup.id, ...)`.
#[pyclass(name = "Lookup", module = "wsauth", frozen)]
pub(crate) struct PyLookup(pub(crate) Lookup);

#[pymethods]
impl PyLookup {
    /// Answer with this.
    #[getter]
    fn id(&self) -> u64 {
        self.0.id.0
    }

    /// `discovery`, `keys`, `introspection`, `session` or `profile`.
    #[getter]
    fn kind(&self) -> &'static str {
        match &self.0.question {
            Question::Discovery { .. } => "discovery",
            Question::Keys { .. } => "keys",
            Question::Introspection { .. } => "introspection",
            Question::Session { .. } => "session",
            Question::Profile { .. } => "profile",
        }
    }

    /// The issuer; `None` for `session`.
    #[getter]
    fn issuer(&self) -> Option<&str> {
        match &self.0.question {
            Question::Discovery { issuer, .. }
            | Question::Keys { issuer, .. }
            | Question::Introspection { issuer, .. }
            | Question::Profile { issuer, .. } => Some(issuer),
            Question::Session { .. } => None,
        }
    }

    /// The subject, for `profile`.
    #[getter]
    fn subject(&self) -> Option<&str> {
        if let Question::Profile { subject, .. } = &self.0.question { Some(subject) } else { None }
    }

    /// Where it is asked over HTTP; `None` where the host knows.
    #[getter]
    fn url(&self) -> Option<&str> {
        self.0.question.url().map(|url| &**url)
    }

    /// The token or session id to look up. A secret: not for logs.
    #[getter]
    fn credential<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        match &self.0.question {
            Question::Introspection { token: secret, .. } | Question::Session { id: secret } => {
                Some(PyBytes::new(py, secret.expose()))
            }
            _ => None,
        }
    }

    fn __repr__(&self) -> String {
        format!("<Lookup {} {}>", self.0.id.0, self.kind())
    }
}

/// Facts that a source vouches for. Whoever makes one has verified them.
#[pyclass(name = "Vouched", module = "wsauth", frozen)]
pub(crate) struct PyVouched(pub(crate) Vouched);

#[pymethods]
impl PyVouched {
    /// `expires_at` in seconds since 1970.
    #[new]
    #[pyo3(signature = (subject, expires_at, *, permissions=None, issued_at=None, token_id=None,
        session_id=None, client_id=None, tenant=None, claims=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        subject: String,
        expires_at: f64,
        permissions: Option<Vec<String>>,
        issued_at: Option<u64>,
        token_id: Option<String>,
        session_id: Option<String>,
        client_id: Option<String>,
        tenant: Option<String>,
        claims: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<PyVouched> {
        let expiry = WallTime(to_ms(expires_at)?);
        let claims = claims.map(from_dict).transpose()?.unwrap_or_default();
        Ok(PyVouched(Vouched {
            subject,
            expiry,
            issued_at,
            token_id,
            session_id,
            client_id,
            tenant,
            permissions: permissions.unwrap_or_default(),
            claims,
        }))
    }

    /// The subject.
    #[getter]
    fn subject(&self) -> &str {
        &self.0.subject
    }

    /// When it is over, in seconds since 1970.
    #[getter]
    fn expires_at(&self) -> f64 {
        from_ms(self.0.expiry.0)
    }

    fn __repr__(&self) -> String {
        format!("<Vouched {:?}>", self.0.subject)
    }
}

/// Makes the answer from the one argument that was given.
pub(crate) fn answer(
    vouched: Option<&Bound<'_, PyVouched>>,
    keys: Option<&Bound<'_, PyAny>>,
    inactive: bool,
    unavailable: bool,
    retry_after: Option<f64>,
) -> PyResult<Answer> {
    let given = [vouched.is_some(), keys.is_some(), inactive, unavailable];
    if given.into_iter().filter(|given| *given).count() != 1 {
        return Err(bad_argument("exactly one of vouched, keys, inactive=True and unavailable=True expected"));
    }
    if let Some(vouched) = vouched {
        return Ok(Answer::Vouched(Box::new(vouched.get().0.clone())));
    }
    if let Some(keys) = keys {
        return Ok(Answer::Keys(crate::text::utf8(keys)?.into_owned()));
    }
    if inactive {
        return Ok(Answer::Inactive);
    }
    let retry_after_ms = retry_after.map(to_ms).transpose()?.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX));
    Ok(Answer::Unavailable { retry_after_ms })
}
