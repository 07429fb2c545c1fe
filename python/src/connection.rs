//! This file answers: what can a Python server ask about one connection?

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use wsauth::{Admitted, Progress};
use wsauth::{ConnectionId, PermissionDiff};
use wsauth::{Delivered, Reason, Refusal, Withheld};

use crate::errors;
use crate::event::{PyRefreshed, texts};
use crate::identity::PyIdentity;
use crate::life::Life;
use crate::text::{Data, borrowed, fields, name, own_name, utf8};
use crate::verdict::PyVerdict;

/// One admitted connection. Say `closed()` when its socket is gone; a forgotten one says it when it is collected.
#[pyclass(name = "Connection", module = "wsauth", frozen, weakref)]
pub(crate) struct PyConnection {
    pub(crate) life: Arc<Life>,
    pub(crate) id: ConnectionId,
    progress: Progress,
    subprotocol: Option<String>,
    /// Whether the next message may have to authenticate, which takes a signature.
    unauthenticated: AtomicBool,
}

impl PyConnection {
    pub(crate) fn new(life: Arc<Life>, admitted: Admitted) -> PyConnection {
        PyConnection {
            life,
            id: admitted.connection,
            progress: admitted.progress,
            subprotocol: admitted.subprotocol,
            unauthenticated: AtomicBool::new(admitted.progress != Progress::Live),
        }
    }

    fn decide(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Result<Delivered, Withheld>> {
        let data = Data::new(data)?;
        let (payload, id) = (data.payload(), self.id);
        let decided = if self.unauthenticated.load(Ordering::Relaxed) {
            self.life.verify(py, |guard| guard.message(id, payload))
        } else {
            self.life.decide(|guard| guard.message(id, payload))
        };
        if let Ok(Ok(_)) = decided {
            self.unauthenticated.store(false, Ordering::Relaxed);
        }
        Ok(decided.unwrap_or_else(|reason| Err(self.failed(reason))))
    }

    /// A stale handle refuses; after a panic nothing is known about the connection, so it must go.
    fn failed(&self, reason: Reason) -> Withheld {
        match reason {
            Reason::FaultPanic => Withheld::Close(reason.into()),
            reason => Withheld::Refused(reason.into()),
        }
    }

    fn or_raise<T>(&self, decided: Result<Result<T, Refusal>, Reason>) -> PyResult<T> {
        decided.map_err(Refusal::from).and_then(|decided| decided).map_err(|refusal| self.life.refused(refusal))
    }
}

#[pymethods]
impl PyConnection {
    /// Decides whether one inbound message may reach the application: `str` for a text message, bytes for a binary
    /// one. Never raises for what a peer may have sent.
    #[pyo3(signature = (data, /))]
    fn message(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Py<PyVerdict>> {
        let decided = self.decide(py, data)?;
        PyVerdict::of(py, &self.life, decided)
    }

    /// Returns the message when the application may have it. Raises `Refused` when it is refused or the connection
    /// must be closed, `Withheld` when it was a control message (`consumed`) or must wait (`hold`).
    #[pyo3(signature = (data, /))]
    fn receive(&self, py: Python<'_>, data: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        match self.decide(py, data)? {
            Ok(_) => Ok(data.clone().unbind()),
            Err(Withheld::Consumed) => Err(errors::Withheld::new_err("consumed")),
            Err(Withheld::Hold) => Err(errors::Withheld::new_err("hold")),
            Err(Withheld::Refused(refusal) | Withheld::Close(refusal)) => Err(self.life.refused(refusal)),
        }
    }

    /// Decides for what is not JSON: the server names the type and the fields its rule reads.
    #[pyo3(signature = (message_type, /, **fields))]
    fn authorize(
        &self,
        py: Python<'_>,
        message_type: &Bound<'_, PyString>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyVerdict>> {
        let (message_type, fields) = (name(message_type), self::fields(fields));
        let decided = self.life.decide(|guard| guard.authorize(self.id, &message_type, &borrowed(&fields)));
        PyVerdict::of(py, &self.life, decided.unwrap_or_else(|reason| Err(self.failed(reason))))
    }

    /// Decides whether this connection may receive this. Ask at each delivery.
    #[pyo3(signature = (delivery_type, /, **fields))]
    fn authorize_delivery(
        &self,
        py: Python<'_>,
        delivery_type: &Bound<'_, PyString>,
        fields: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyVerdict>> {
        let (delivery_type, fields) = (name(delivery_type), self::fields(fields));
        let decided = self
            .life
            .decide(|guard| guard.authorize_delivery(self.id, &delivery_type, &borrowed(&fields)))
            .unwrap_or_else(|reason| Err(reason.into()));
        PyVerdict::of(py, &self.life, decided.map_err(Withheld::Refused))
    }

    /// Puts a new token in force. Raises `Refused`; the old one then stays in force.
    #[pyo3(signature = (token, /))]
    fn refresh(&self, py: Python<'_>, token: &Bound<'_, PyAny>) -> PyResult<PyRefreshed> {
        let token = utf8(token)?;
        let (token, id) = (&*token, self.id);
        self.or_raise(self.life.verify(py, |guard| guard.refresh(id, token))).map(PyRefreshed::from)
    }

    /// Notes that the peer is there, on a pong. False when the connection is not live.
    fn touch(&self) -> bool {
        self.life.decide(|guard| guard.touch(self.id)).unwrap_or(false)
    }

    /// Replaces the permissions until the next refresh. In force when this returns.
    #[pyo3(signature = (permissions, /))]
    fn set_permissions(&self, permissions: Vec<Bound<'_, PyString>>) -> PyResult<PyRefreshed> {
        let permissions = permission_list(&permissions)?;
        let diff: PermissionDiff =
            self.or_raise(self.life.decide(|guard| guard.set_permissions(self.id, &permissions)))?;
        Ok(PyRefreshed::from(wsauth::Refreshed::Committed(diff)))
    }

    /// Says that the socket is gone. True the first time; later calls change nothing.
    fn closed(&self) -> bool {
        self.life.decide(|guard| guard.closed(self.id)).unwrap_or(false)
    }

    /// Who the peer is, once authenticated and until `closed()`.
    #[getter]
    fn identity(&self) -> Option<PyIdentity> {
        self.life.guard().ok()?.identity(self.id).map(PyIdentity)
    }

    /// The permissions held now: those of the credential, or those set since.
    #[getter]
    fn permissions<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let held = self.life.guard().ok().and_then(|guard| guard.permissions(self.id)).unwrap_or_default();
        texts(py, &held)
    }

    /// The subprotocol to answer with. Never the one that carried the token.
    #[getter]
    fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// How far the handshake was when it returned: `live`, `authenticating` or `awaiting_auth`.
    #[getter]
    fn progress(&self) -> &'static str {
        match self.progress {
            Progress::Live => "live",
            Progress::Authenticating => "authenticating",
            Progress::AwaitingAuth => "awaiting_auth",
        }
    }

    /// The handle, as events name it. No secret, but nothing for a peer.
    #[getter]
    fn id(&self) -> u64 {
        self.id.as_u64()
    }

    fn __enter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, _exception: &Bound<'_, PyTuple>) {
        self.closed();
    }

    fn __repr__(&self) -> String {
        format!("<Connection {:016x}>", self.id.as_u64())
    }
}

impl Drop for PyConnection {
    fn drop(&mut self) {
        // A permit must not outlive the last one who could give it back.
        let _ = self.closed();
    }
}

/// Permissions as the core takes them.
pub(crate) fn permission_list(permissions: &[Bound<'_, PyString>]) -> PyResult<Vec<Arc<str>>> {
    permissions.iter().map(|permission| own_name(permission).map(Arc::from)).collect()
}
