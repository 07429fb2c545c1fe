//! This file answers: what does Python see of a decision about one message?

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use wsauth::{Delivered, Refusal, Withheld};

use crate::errors::seconds;
use crate::life::Life;

/// A decision about one message. True only when the application may have the message.
#[pyclass(name = "Verdict", module = "wsauth", frozen)]
pub(crate) struct PyVerdict {
    kind: Kind,
    refusal: Option<Refusal>,
    close_code: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Deliver,
    Consumed,
    Hold,
    Refused,
    Close,
}

/// The verdicts that carry nothing, each made once.
static DELIVER: PyOnceLock<Py<PyVerdict>> = PyOnceLock::new();
static CONSUMED: PyOnceLock<Py<PyVerdict>> = PyOnceLock::new();
static HOLD: PyOnceLock<Py<PyVerdict>> = PyOnceLock::new();

impl PyVerdict {
    /// The verdict for a decision of this engine.
    pub(crate) fn of(py: Python<'_>, life: &Life, decided: Result<Delivered, Withheld>) -> PyResult<Py<PyVerdict>> {
        match decided {
            Ok(_) => shared(py, &DELIVER, Kind::Deliver),
            Err(Withheld::Consumed) => shared(py, &CONSUMED, Kind::Consumed),
            Err(Withheld::Hold) => shared(py, &HOLD, Kind::Hold),
            Err(Withheld::Refused(refusal)) => {
                Py::new(py, PyVerdict { kind: Kind::Refused, refusal: Some(refusal), close_code: None })
            }
            Err(Withheld::Close(refusal)) => {
                let close_code = Some(life.close_code(refusal.reason));
                Py::new(py, PyVerdict { kind: Kind::Close, refusal: Some(refusal), close_code })
            }
        }
    }
}

fn shared(py: Python<'_>, cell: &PyOnceLock<Py<PyVerdict>>, kind: Kind) -> PyResult<Py<PyVerdict>> {
    cell.get_or_try_init(py, || Py::new(py, PyVerdict { kind, refusal: None, close_code: None }))
        .map(|verdict| verdict.clone_ref(py))
}

#[pymethods]
impl PyVerdict {
    fn __bool__(&self) -> bool {
        self.kind == Kind::Deliver
    }

    /// `deliver`, `consumed`, `hold`, `refused` or `close`.
    #[getter]
    fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Deliver => "deliver",
            Kind::Consumed => "consumed",
            Kind::Hold => "hold",
            Kind::Refused => "refused",
            Kind::Close => "close",
        }
    }

    /// The stable name of the reason, for the operator.
    #[getter]
    fn reason(&self) -> Option<&'static str> {
        self.refusal.map(|refusal| refusal.row().name)
    }

    /// The name the peer may see.
    #[getter]
    fn public(&self) -> Option<&'static str> {
        self.refusal.map(|refusal| refusal.row().public)
    }

    /// The close code, when the connection must be closed.
    #[getter]
    fn close_code(&self) -> Option<u16> {
        self.close_code
    }

    /// Seconds until another try can work, where that is known.
    #[getter]
    fn retry_after(&self) -> Option<f64> {
        seconds(self.refusal?.retry_after_ms)
    }

    fn __repr__(&self) -> String {
        match self.reason() {
            Some(reason) => format!("<Verdict {} {reason}>", self.kind()),
            None => format!("<Verdict {}>", self.kind()),
        }
    }
}
