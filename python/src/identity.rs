//! This file answers: what does Python see of who a peer is?

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use wsauth::config::CredentialSource;
use wsauth::identity::Identity;

use crate::clock::from_ms;
use crate::json::to_dict;

/// Verified facts about one peer.
#[pyclass(name = "Identity", module = "wsauth", frozen)]
pub(crate) struct PyIdentity(pub(crate) Arc<Identity>);

#[pymethods]
impl PyIdentity {
    /// The issuer that vouched.
    #[getter]
    fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// The subject, unique within the issuer.
    #[getter]
    fn subject(&self) -> &str {
        &self.0.subject
    }

    /// Where the credential stood: `authorization`, `cookie`, `subprotocol`, `query`, `ticket` or `first_message`.
    #[getter]
    fn source(&self) -> &'static str {
        match self.0.source {
            CredentialSource::Authorization => "authorization",
            CredentialSource::Cookie => "cookie",
            CredentialSource::Subprotocol => "subprotocol",
            CredentialSource::Query => "query",
            CredentialSource::Ticket => "ticket",
            CredentialSource::FirstMessage => "first_message",
        }
    }

    /// The token's id (`jti`).
    #[getter]
    fn token_id(&self) -> Option<&str> {
        self.0.token_id.as_deref()
    }

    /// The login session (`sid`).
    #[getter]
    fn session_id(&self) -> Option<&str> {
        self.0.session_id.as_deref()
    }

    /// The client the token was issued to.
    #[getter]
    fn client_id(&self) -> Option<&str> {
        self.0.client_id.as_deref()
    }

    /// The tenant.
    #[getter]
    fn tenant(&self) -> Option<&str> {
        self.0.tenant.as_deref()
    }

    /// The key that signed.
    #[getter]
    fn key_id(&self) -> Option<&str> {
        self.0.key_id.as_deref()
    }

    /// When the credential was issued, in whole seconds since 1970.
    #[getter]
    fn issued_at(&self) -> Option<u64> {
        self.0.issued_at
    }

    /// When it is over, in seconds since 1970.
    #[getter]
    fn expires_at(&self) -> f64 {
        from_ms(self.0.expiry.0)
    }

    /// Permissions as the issuer wrote them, sorted.
    #[getter]
    fn permissions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.permissions.iter().map(|permission| &**permission))
    }

    /// All claims. A fresh dict each time.
    #[getter]
    fn claims<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        to_dict(py, &self.0.claims)
    }

    fn __repr__(&self) -> String {
        format!("<Identity {:?} of {:?}>", self.0.subject, self.0.issuer)
    }
}
