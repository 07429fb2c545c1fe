//! This file answers: how does a function of the server answer the engine's questions, on a worker's thread?
//!
//! The functions are attributes of the engine object, where the garbage collector sees them: one of them may well hold
//! its engine. Here is a weak reference only, so that no cycle hides in Rust. A worker attaches with no lock held, and
//! not at all once the interpreter is about to end.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyWeakrefMethods, PyWeakrefReference};
use wsauth::lookup::{Answer, Question};
use wsauth_runtime::Resolver;

use crate::lookup::{PyVouched, read_profile};

/// Set when the interpreter is about to end: from then on nobody is called.
static ENDING: AtomicBool = AtomicBool::new(false);

/// Has no function called from now on. Called through `atexit`, before the workers are joined.
#[pyfunction]
pub(crate) fn call_nobody() {
    ENDING.store(true, Ordering::SeqCst);
}

/// Answers with the functions of one engine.
pub(crate) struct Functions {
    engine: Py<PyWeakrefReference>,
    /// Which of them there are; they stay as they were given.
    sessions: bool,
    profile: bool,
    introspect: bool,
}

impl Functions {
    /// The functions that stand in the engine's `_functions`.
    pub(crate) fn of(engine: &Bound<'_, PyAny>) -> PyResult<Functions> {
        let given = find_functions(engine)?;
        let has = |name| given.contains(name);
        Ok(Functions {
            engine: PyWeakrefReference::new(engine)?.unbind(),
            sessions: has("sessions")?,
            profile: has("profile")?,
            introspect: has("introspect")?,
        })
    }

    /// `None` when the engine is gone, or was never asked this.
    fn call<'py>(&self, py: Python<'py>, question: &Question) -> PyResult<Option<Bound<'py, PyAny>>> {
        // The engine is not held while the function runs: its last user may let it go meanwhile.
        let Some(engine) = self.engine.bind(py).upgrade() else { return Ok(None) };
        let Some(name) = name(question) else { return Ok(None) };
        let function = find_functions(&engine)?.get_item(name)?;
        drop(engine);
        let Some(function) = function else { return Ok(None) };
        match question {
            // No text of Python's is made of what is no text: such an id or token is known to nobody.
            Question::Session { id } => match std::str::from_utf8(id.expose()) {
                Ok(id) => function.call1((id,)),
                Err(_) => Ok(py.None().into_bound(py)),
            },
            Question::Introspection { issuer, token, .. } => match std::str::from_utf8(token.expose()) {
                Ok(token) => function.call1((&**issuer, token)),
                Err(_) => Ok(py.None().into_bound(py)),
            },
            Question::Profile { issuer, subject, .. } => function.call1((&**issuer, &**subject)),
            Question::Discovery { .. } | Question::Keys { .. } => return Ok(None),
        }
        .map(Some)
    }

    fn answer(&self, py: Python<'_>, question: &Question) -> Answer {
        match self.call(py, question) {
            Ok(Some(value)) => read(question, &value).unwrap_or_else(|_| {
                tell(py, "tell_wrong", question, value.get_type().into_any());
                unavailable()
            }),
            Ok(None) => unavailable(),
            Err(error) => {
                tell(py, "tell_raised", question, error.into_value(py).into_bound(py).into_any());
                unavailable()
            }
        }
    }
}

impl Resolver for Functions {
    fn resolve(&self, question: &Question) -> Answer {
        if ENDING.load(Ordering::SeqCst) {
            return unavailable();
        }
        Python::try_attach(|py| self.answer(py, question)).unwrap_or_else(unavailable)
    }

    fn takes(&self, question: &Question) -> bool {
        question.url().is_none()
            && match question {
                Question::Session { .. } => self.sessions,
                Question::Profile { .. } => self.profile,
                Question::Introspection { .. } => self.introspect,
                Question::Discovery { .. } | Question::Keys { .. } => false,
            }
    }
}

fn find_functions<'py>(engine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    Ok(engine.getattr(intern!(engine.py(), "_functions"))?.cast_into()?)
}

fn name(question: &Question) -> Option<&'static str> {
    match question {
        Question::Session { .. } => Some("sessions"),
        Question::Profile { .. } => Some("profile"),
        Question::Introspection { .. } => Some("introspect"),
        Question::Discovery { .. } | Question::Keys { .. } => None,
    }
}

/// Has it logged, without a word that may hold the credential. What a logger raises is its owner's business.
fn tell(py: Python<'_>, how: &str, question: &Question, what: Bound<'_, PyAny>) {
    let module = py.import(intern!(py, "wsauth._functions"));
    let told = module.and_then(|module| module.call_method1(how, (name(question).unwrap_or_default(), what)));
    drop(told);
}

/// What a function returned. `None` is a no; what is of another type is an error, and neither a yes nor a no.
fn read(question: &Question, value: &Bound<'_, PyAny>) -> PyResult<Answer> {
    if value.is_none() {
        return Ok(Answer::Inactive);
    }
    if matches!(question, Question::Profile { .. }) {
        return read_profile(value).map(|members| Answer::Profile(Box::new(members)));
    }
    let vouched = value.cast::<PyVouched>()?;
    Ok(Answer::Vouched(Box::new(vouched.get().0.clone())))
}

fn unavailable() -> Answer {
    Answer::Unavailable { retry_after_ms: None }
}
