//! This file answers: how does a Python program answer what the engine cannot know?

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMapping};
use serde_json::{Map, Value};
use wsauth::lookup::{Answer, HttpResponse, Lookup, Question, Vouched};
use wsauth::time::WallTime;

use crate::clock::{from_ms, to_ms};
use crate::errors::bad_argument;
use crate::json::from_dict;
use crate::request::field_lines;
use crate::text::bytes;

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

/// The arguments of `answer`, one of which is the answer.
pub(crate) struct Given<'a, 'py> {
    pub(crate) vouched: Option<&'a Bound<'py, PyVouched>>,
    pub(crate) response: Option<&'a Bound<'py, PyAny>>,
    pub(crate) profile: Option<&'a Bound<'py, PyAny>>,
    pub(crate) keys: Option<&'a Bound<'py, PyAny>>,
    pub(crate) inactive: bool,
    pub(crate) unavailable: bool,
    pub(crate) retry_after: Option<f64>,
}

impl Given<'_, '_> {
    /// Makes the answer from the one argument that was given.
    pub(crate) fn answer(&self) -> PyResult<Answer> {
        let retry_after_ms = self.retry_after.map(to_ms).transpose()?.map(|ms| u32::try_from(ms).unwrap_or(u32::MAX));
        let answers = [
            self.vouched.map(|vouched| Ok(Answer::Vouched(Box::new(vouched.get().0.clone())))),
            self.response.map(|response| read_response(response).map(|read| Answer::Response(Box::new(read)))),
            self.profile.map(|profile| read_profile(profile).map(|members| Answer::Profile(Box::new(members)))),
            self.keys.map(|keys| crate::text::utf8(keys).map(|keys| Answer::Keys(keys.into_owned()))),
            self.inactive.then_some(Ok(Answer::Inactive)),
            self.unavailable.then_some(Ok(Answer::Unavailable { retry_after_ms })),
        ];
        let mut given = answers.into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(answer), None) => answer,
            _ => Err(bad_argument(
                "exactly one of vouched, response, profile, keys, inactive=True and unavailable=True expected",
            )),
        }
    }
}

/// Members as an HTTP source would answer them.
pub(crate) fn read_profile(profile: &Bound<'_, PyAny>) -> PyResult<Map<String, Value>> {
    if let Ok(dict) = profile.cast::<PyDict>() {
        return from_dict(dict);
    }
    let mapping = profile.cast::<PyMapping>().map_err(|_| bad_argument("profile: a mapping expected"))?;
    let dict = PyDict::new(profile.py());
    dict.update(mapping)?;
    from_dict(&dict)
}

/// Status, headers and body. Of the headers, `Content-Type` and `Retry-After` in seconds are read, where there is exactly
/// one.
fn read_response(response: &Bound<'_, PyAny>) -> PyResult<HttpResponse> {
    let wrong = |_| bad_argument("response: a tuple of status, headers and body expected");
    let (status, headers, body): (Bound<'_, PyAny>, Bound<'_, PyAny>, Bound<'_, PyAny>) =
        response.extract().map_err(wrong)?;
    let status = status.extract::<u16>().ok().filter(|status| (100..=999).contains(status));
    let status = status.ok_or_else(|| bad_argument("response: a status of 100 to 999 expected"))?;
    let headers = field_lines(&headers)?;
    let only = |wanted: &[u8]| {
        let mut values = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value);
        values.next().filter(|_| values.next().is_none())
    };
    let text = |value: &Vec<u8>| String::from_utf8_lossy(value).into_owned();
    let seconds = only(b"retry-after").and_then(|value| text(value).parse::<u32>().ok());
    Ok(HttpResponse {
        status,
        content_type: only(b"content-type").map(text),
        retry_after_ms: seconds.map(|seconds| seconds.saturating_mul(1_000)),
        body: bytes(&body)?.into_owned(),
    })
}
