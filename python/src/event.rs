//! This file answers: what does Python see of what the server must do?

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use wsauth::PermissionDiff;
use wsauth::Refusal;
use wsauth::{Event, EventKind, Outcome, Propagated, Refreshed, Revoked, Step};

use crate::errors::seconds;
use crate::life::Life;

/// One thing the server must do for one connection.
#[pyclass(name = "Event", module = "wsauth", frozen)]
pub(crate) struct PyEvent(Event);

impl From<Event> for PyEvent {
    fn from(event: Event) -> PyEvent {
        PyEvent(event)
    }
}

impl PyEvent {
    fn refusal(&self) -> Option<(Refusal, u16)> {
        match &self.0.kind {
            EventKind::Refused { refusal, code } | EventKind::Close { refusal, code } => Some((*refusal, *code)),
            _ => None,
        }
    }

    fn diff(&self) -> Option<&PermissionDiff> {
        if let EventKind::PermissionsChanged(diff) = &self.0.kind { Some(diff) } else { None }
    }
}

#[pymethods]
impl PyEvent {
    /// `send`, `ready`, `refused`, `permissions_changed` or `close`.
    #[getter]
    fn kind(&self) -> &'static str {
        match &self.0.kind {
            EventKind::Send(_) => "send",
            EventKind::Ready => "ready",
            EventKind::Refused { .. } => "refused",
            EventKind::PermissionsChanged(_) => "permissions_changed",
            EventKind::Close { .. } => "close",
        }
    }

    /// The `id` of the connection.
    #[getter]
    fn connection(&self) -> u64 {
        self.0.connection.as_u64()
    }

    /// The text to send.
    #[getter]
    fn text(&self) -> Option<&str> {
        if let EventKind::Send(text) = &self.0.kind { Some(text) } else { None }
    }

    /// The close code.
    #[getter]
    fn code(&self) -> Option<u16> {
        self.refusal().map(|(_, code)| code)
    }

    /// The stable name of the reason, for the operator.
    #[getter]
    fn reason(&self) -> Option<&'static str> {
        self.refusal().map(|(refusal, _)| refusal.row().name)
    }

    /// The name the peer may see; the reason of the close frame.
    #[getter]
    fn public(&self) -> Option<&'static str> {
        self.refusal().map(|(refusal, _)| refusal.row().public)
    }

    /// Seconds until another try can work, where that is known.
    #[getter]
    fn retry_after(&self) -> Option<f64> {
        seconds(self.refusal()?.0.retry_after_ms)
    }

    /// Permissions gained.
    #[getter]
    fn added<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        texts(py, self.diff().map_or(&[], |diff| &diff.added))
    }

    /// Permissions lost.
    #[getter]
    fn removed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        texts(py, self.diff().map_or(&[], |diff| &diff.removed))
    }

    /// The refusal as an exception, to raise or to answer with; `None` for events that refuse nothing.
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let (refusal, code) = self.refusal()?;
        Some(crate::errors::refused(refusal, code).into_value(py).into_any())
    }

    fn __repr__(&self) -> String {
        // The text of a `send` names a user: not for logs.
        match self.reason() {
            Some(reason) => format!("<Event {} {reason}>", self.kind()),
            None => format!("<Event {}>", self.kind()),
        }
    }
}

/// Permissions as a tuple of texts.
pub(crate) fn texts<'py>(py: Python<'py>, permissions: &[Arc<str>]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, permissions.iter().map(|permission| &**permission))
}

/// What a change of permissions or a refresh did.
#[pyclass(name = "Refreshed", module = "wsauth", frozen)]
pub(crate) struct PyRefreshed {
    outcome: &'static str,
    diff: PermissionDiff,
}

impl From<Refreshed> for PyRefreshed {
    fn from(refreshed: Refreshed) -> PyRefreshed {
        match refreshed {
            Refreshed::Committed(diff) => PyRefreshed { outcome: "committed", diff },
            Refreshed::Unchanged => PyRefreshed { outcome: "unchanged", diff: PermissionDiff::default() },
            Refreshed::Pending => PyRefreshed { outcome: "pending", diff: PermissionDiff::default() },
        }
    }
}

#[pymethods]
impl PyRefreshed {
    /// `committed`, `unchanged` (the same token) or `pending` (its source was asked; an event follows).
    #[getter]
    fn outcome(&self) -> &'static str {
        self.outcome
    }

    /// Permissions gained.
    #[getter]
    fn added<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        texts(py, &self.diff.added)
    }

    /// Permissions lost.
    #[getter]
    fn removed<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        texts(py, &self.diff.removed)
    }

    fn __repr__(&self) -> String {
        format!("<Refreshed {}>", self.outcome)
    }
}

/// What a revocation did.
#[pyclass(name = "Revoked", module = "wsauth", frozen)]
pub(crate) struct PyRevoked(pub(crate) Revoked);

#[pymethods]
impl PyRevoked {
    /// Connections it closed in this process.
    #[getter]
    fn closed(&self) -> usize {
        self.0.closed
    }

    /// Whether other nodes hear of it: `yes`, `no` (they could not be reached) or `off` (there is no bus).
    #[getter]
    fn propagated(&self) -> &'static str {
        match self.0.propagated {
            Propagated::Yes => "yes",
            Propagated::No => "no",
            Propagated::Off => "off",
        }
    }

    fn __repr__(&self) -> String {
        format!("<Revoked closed={} propagated={}>", self.0.closed, self.propagated())
    }
}

/// One step of an explained handshake.
#[pyclass(name = "Step", module = "wsauth", frozen)]
pub(crate) struct PyStep {
    step: Step,
    close_code: Option<u16>,
}

impl PyStep {
    pub(crate) fn new(step: Step, life: &Life) -> PyStep {
        let close_code = match step.outcome {
            Outcome::Refused(refusal) => Some(life.close_code(refusal.reason)),
            _ => None,
        };
        PyStep { step, close_code }
    }
}

#[pymethods]
impl PyStep {
    /// The step.
    #[getter]
    fn name(&self) -> &'static str {
        self.step.name
    }

    /// `passed`, `refused` or `needs_lookup`.
    #[getter]
    fn outcome(&self) -> &'static str {
        match self.step.outcome {
            Outcome::Passed => "passed",
            Outcome::Refused(_) => "refused",
            Outcome::NeedsLookup => "needs_lookup",
        }
    }

    /// The stable name of the reason, where it refuses.
    #[getter]
    fn reason(&self) -> Option<&'static str> {
        if let Outcome::Refused(refusal) = self.step.outcome { Some(refusal.row().name) } else { None }
    }

    /// The close code, where it refuses.
    #[getter]
    fn close_code(&self) -> Option<u16> {
        self.close_code
    }

    /// What was found. For the operator; never a token.
    #[getter]
    fn detail(&self) -> &str {
        &self.step.detail
    }

    fn __repr__(&self) -> String {
        format!("<Step {:?} {}>", self.step.name, self.reason().unwrap_or(self.outcome()))
    }
}
