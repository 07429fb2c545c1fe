//! This file answers: what can a Python server ask of the engine?

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use wsauth::config::{Config, Value};
use wsauth::lookup::LookupId;
use wsauth::{ConnectionId, Revocation};
use wsauth::{Reason, Refusal};
use wsauth_runtime::{Clock, Resolver, StartError, SystemSecrets};

use crate::clock::PyManualClock;
use crate::connection::{PyConnection, permission_list};
use crate::errors::{bad_argument, config_error, misuse};
use crate::event::{PyEvent, PyRevoked, PyStep};
use crate::life::Life;
use crate::lookup::{Given, PyLookup, PyVouched};
use crate::request::Request;
use crate::resolver::Functions;
use crate::text::{borrowed, fields, name, own_name, utf8};
use crate::tree::tree;

/// Decides the whole life of every connection of one server. Shared by all threads.
#[pyclass(name = "Engine", module = "wsauth._wsauth", frozen, subclass, weakref)]
pub(crate) struct PyEngine {
    /// Only ever locked with the GIL held and never while calling Python, so it is never found locked.
    life: Mutex<Arc<Life>>,
    /// The server's functions, if it gave any.
    functions: OnceLock<Arc<Functions>>,
    closed: AtomicBool,
}

impl PyEngine {
    /// The engine of this process; made anew at the first call after a fork.
    fn life(&self) -> PyResult<Arc<Life>> {
        let mut life = self.life.lock();
        if life.guard().is_err() {
            let fresh = life.fresh().map_err(|error| start_error(&error))?;
            self.drive(&fresh)?;
            std::mem::forget(std::mem::replace(&mut *life, fresh));
        }
        Ok(Arc::clone(&life))
    }

    /// Lets the functions answer; in an engine that is closed, nobody does.
    fn drive(&self, life: &Life) -> PyResult<()> {
        let guard = life.guard().map_err(|reason| life.refused(reason))?;
        if let Some(functions) = self.functions.get() {
            guard.drive_with(Arc::clone(functions) as Arc<dyn Resolver>);
        }
        if self.closed.load(Ordering::SeqCst) {
            guard.stop_driver();
        }
        Ok(())
    }

    /// Stops and joins the workers. They may wait for the GIL, so it is given away; a copy of a parent's has none.
    fn stop(&self, py: Python<'_>) {
        self.closed.store(true, Ordering::SeqCst);
        let life = Arc::clone(&self.life.lock());
        if let Ok(guard) = life.guard() {
            py.detach(|| guard.stop_driver());
        }
    }

    fn ask<T>(&self, decide: impl FnOnce(&wsauth_runtime::Guard) -> T) -> PyResult<T> {
        let life = self.life()?;
        life.decide(decide).map_err(|reason| life.refused(reason))
    }
}

#[pymethods]
impl PyEngine {
    /// `config` is a dict, or TOML text when `is_text`. Relative files are looked for in `folder`.
    #[new]
    #[pyo3(signature = (config, clock=None, is_text=false, folder=None))]
    fn new(
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        clock: Option<&Bound<'_, PyManualClock>>,
        is_text: bool,
        folder: Option<PathBuf>,
    ) -> PyResult<PyEngine> {
        let config = load(py, config, is_text, folder)?;
        let clock = clock.map_or_else(Clock::system, |clock| Clock::manual(clock.get().0.clone()));
        // With `lookups.require_keys` it waits for the network.
        let life = py.detach(|| Life::new(config, clock)).map_err(|error| start_error(&error))?;
        Ok(PyEngine { life: Mutex::new(life), functions: OnceLock::new(), closed: AtomicBool::new(false) })
    }

    /// Has the functions in `self._functions` answer on worker threads, from the first question on. Once.
    fn answer_with_functions(slf: &Bound<'_, Self>) -> PyResult<()> {
        let engine = slf.get();
        let life = engine.life()?;
        if life.decide(|guard| guard.config().lookups.by_host).map_err(|reason| life.refused(reason))? {
            return Err(bad_argument(
                "lookups.driver is \"host\": the server answers by itself, and no function is called",
            ));
        }
        let functions = Arc::new(Functions::of(slf.as_any())?);
        if engine.functions.set(functions).is_err() {
            return Err(bad_argument("there are functions already"));
        }
        engine.drive(&life)
    }

    /// Stops the worker threads and waits for functions that run. Questions that must be asked are answered as
    /// unavailable from now on; all else goes on. Does nothing the second time.
    fn close(&self, py: Python<'_>) {
        self.stop(py);
    }

    /// Decides an upgrade request and does not wait: look at the connection's `progress`. Raises `Refused`.
    #[pyo3(signature = (target, headers, peer, method=None, shard=0))]
    fn start_handshake(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        peer: &Bound<'_, PyAny>,
        method: Option<&Bound<'_, PyAny>>,
        shard: u8,
    ) -> PyResult<PyConnection> {
        let get = PyString::new(py, "GET").into_any();
        let request = Request { method: method.unwrap_or(&get), target, headers, peer };
        let life = self.life()?;
        let decided = request.lend(|upgrade| life.verify(py, |guard| guard.handshake(shard, upgrade)))?;
        match decided.map_err(Refusal::from).and_then(|decided| decided) {
            Ok(admitted) => Ok(PyConnection::new(life, admitted)),
            Err(refusal) => Err(life.refused(refusal)),
        }
    }

    /// Judges a request step by step without admitting it: nothing is charged, counted or audited.
    #[pyo3(signature = (target, headers, peer, method=None))]
    fn explain(
        &self,
        py: Python<'_>,
        target: &Bound<'_, PyAny>,
        headers: &Bound<'_, PyAny>,
        peer: &Bound<'_, PyAny>,
        method: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<PyStep>> {
        let get = PyString::new(py, "GET").into_any();
        let request = Request { method: method.unwrap_or(&get), target, headers, peer };
        let life = self.life()?;
        let steps = request.lend(|upgrade| life.verify(py, |guard| guard.explain(upgrade)))?;
        let steps = steps.map_err(|reason| life.refused(reason))?;
        Ok(steps.into_iter().map(|step| PyStep::new(step, &life)).collect())
    }

    /// Those of `connections` that may receive this, in order. Raises `Refused` for an unknown delivery type.
    #[pyo3(signature = (connections, delivery_type, /, **fields))]
    fn authorize_deliveries<'py>(
        &self,
        py: Python<'py>,
        connections: Vec<Bound<'py, PyConnection>>,
        delivery_type: &Bound<'py, PyString>,
        fields: Option<&Bound<'py, pyo3::types::PyDict>>,
    ) -> PyResult<Bound<'py, PyList>> {
        let life = self.life()?;
        if let Some(stranger) = connections.iter().find(|connection| !Arc::ptr_eq(&connection.get().life, &life)) {
            // A connection from before a fork is stale and receives nothing; one of another engine is a mistake.
            if stranger.get().life.guard().is_ok() {
                return Err(misuse(Reason::MisuseHandle, "a connection of another engine"));
            }
        }
        let own = |connection: &&Bound<'py, PyConnection>| Arc::ptr_eq(&connection.get().life, &life);
        let connections: Vec<&Bound<'py, PyConnection>> = connections.iter().filter(own).collect();
        let ids: Vec<ConnectionId> = connections.iter().map(|connection| connection.get().id).collect();
        let (delivery_type, fields) = (name(delivery_type), self::fields(fields));
        let mut allowed = Vec::with_capacity(ids.len());
        let decided =
            life.decide(|guard| guard.authorize_deliveries(&ids, &delivery_type, &borrowed(&fields), &mut allowed));
        decided.map_err(Refusal::from).and_then(|decided| decided).map_err(|refusal| life.refused(refusal))?;
        // Both are in the same order, so one walk pairs them.
        let mut allowed = allowed.into_iter().peekable();
        let list = PyList::empty(py);
        for connection in connections {
            if allowed.next_if_eq(&connection.get().id).is_some() {
                list.append(connection)?;
            }
        }
        Ok(list)
    }

    /// Takes what the server must do on one shard. Raises `MisuseError` while another thread polls it.
    #[pyo3(signature = (shard=0, max=1024))]
    fn poll_events(&self, shard: u8, max: usize) -> PyResult<Vec<PyEvent>> {
        let life = self.life()?;
        let mut events = Vec::new();
        let polled = life.decide(|guard| guard.poll(shard, max, &mut events)).and_then(|polled| polled);
        polled.map_err(|reason| life.refused(reason))?;
        Ok(events.into_iter().map(PyEvent::from).collect())
    }

    /// Has what is due fetched now, before the first client needs it: key sets, on the workers. Call it in the process
    /// that will serve, after a fork.
    fn prefetch(&self) -> PyResult<()> {
        self.ask(wsauth_runtime::Guard::prefetch)
    }

    /// A descriptor that is readable when there is something to poll. Only wait on it: do not read or close it.
    #[pyo3(signature = (shard=0))]
    fn fileno(&self, shard: u8) -> PyResult<i32> {
        use std::os::fd::AsRawFd;
        let fd = self.ask(|guard| guard.wake().fd(shard).map(|fd| fd.as_raw_fd()))?;
        fd.map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidInput => bad_argument("there is no such shard"),
            _ => error.into(),
        })
    }

    /// Seconds until the shard must be polled at the latest; `None` while nothing is scheduled.
    #[pyo3(signature = (shard=0))]
    fn next_deadline(&self, shard: u8) -> PyResult<Option<f64>> {
        self.ask(|guard| {
            let deadline = guard.next_deadline(shard)?;
            Some(crate::clock::from_ms(deadline.since(guard.now().mono)))
        })
    }

    /// Puts a new token in force on every live connection of its subject. Returns how many took it.
    #[pyo3(signature = (token, /))]
    fn refresh_subject(&self, py: Python<'_>, token: &Bound<'_, PyAny>) -> PyResult<usize> {
        let life = self.life()?;
        let token = utf8(token)?;
        let token = &*token;
        let decided = life.verify(py, |guard| guard.refresh_subject(token));
        decided.map_err(Refusal::from).and_then(|decided| decided).map_err(|refusal| life.refused(refusal))
    }

    /// Replaces the permissions of every live connection of a subject. Returns how many there were.
    #[pyo3(signature = (issuer, subject, permissions))]
    fn set_subject_permissions(
        &self,
        issuer: &Bound<'_, PyString>,
        subject: &Bound<'_, PyString>,
        permissions: Vec<Bound<'_, PyString>>,
    ) -> PyResult<usize> {
        let (issuer, subject) = (own_name(issuer)?, own_name(subject)?);
        let permissions = permission_list(&permissions)?;
        self.ask(|guard| guard.set_subject_permissions(issuer, subject, &permissions))
    }

    /// Cuts off. Exactly one of `connection`, `token_id`, `session_id`, `subject`, `key_id` and `whole_issuer=True`;
    /// all but `connection` with `issuer`. `issued_before` (seconds since 1970) goes with `subject` and
    /// `whole_issuer`; without it everything issued until now is cut off.
    #[pyo3(signature = (*, connection=None, token_id=None, session_id=None, subject=None, key_id=None,
        whole_issuer=false, issuer=None, issued_before=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn revoke(
        &self,
        connection: Option<&Bound<'_, PyAny>>,
        token_id: Option<&Bound<'_, PyString>>,
        session_id: Option<&Bound<'_, PyString>>,
        subject: Option<&Bound<'_, PyString>>,
        key_id: Option<&Bound<'_, PyString>>,
        whole_issuer: bool,
        issuer: Option<&Bound<'_, PyString>>,
        issued_before: Option<u64>,
    ) -> PyResult<PyRevoked> {
        let named = [token_id.is_some(), session_id.is_some(), subject.is_some(), key_id.is_some(), whole_issuer];
        let named = named.into_iter().filter(|given| *given).count();
        let what = if let Some(connection) = connection {
            if named != 0 || issuer.is_some() || issued_before.is_some() {
                return Err(bad_argument("connection stands alone"));
            }
            Revocation::Connection(self.own_connection(connection)?)
        } else {
            let issuer = issuer.ok_or_else(|| bad_argument("issuer expected"))?;
            if named != 1 {
                return Err(bad_argument(
                    "exactly one of connection, token_id, session_id, subject, key_id and whole_issuer expected",
                ));
            }
            if issued_before.is_some() && subject.is_none() && !whole_issuer {
                return Err(bad_argument("issued_before goes with subject or whole_issuer"));
            }
            let issuer = own_name(issuer)?;
            if let Some(token_id) = token_id {
                Revocation::Token { issuer, token_id: own_name(token_id)? }
            } else if let Some(session_id) = session_id {
                Revocation::Session { issuer, session_id: own_name(session_id)? }
            } else if let Some(subject) = subject {
                Revocation::Subject { issuer, subject: own_name(subject)?, issued_before }
            } else if let Some(key_id) = key_id {
                Revocation::Key { issuer, key_id: own_name(key_id)? }
            } else {
                Revocation::Issuer { issuer, issued_before }
            }
        };
        self.ask(|guard| guard.revoke(what)).map(PyRevoked)
    }

    /// Puts another configuration in force, as a whole. Raises `ConfigError`; the old one then stays.
    #[pyo3(signature = (config, is_text=false, folder=None))]
    fn reload_config(
        &self,
        py: Python<'_>,
        config: &Bound<'_, PyAny>,
        is_text: bool,
        folder: Option<PathBuf>,
    ) -> PyResult<()> {
        let config = load(py, config, is_text, folder)?;
        let life = self.life()?;
        life.reload(config).map_err(|reason| life.refused(reason))?.map_err(|error| start_error(&error))
    }

    /// Questions that wait for an answer, for a program that is its own driver.
    #[pyo3(signature = (max=64))]
    fn lookups(&self, max: usize) -> PyResult<Vec<PyLookup>> {
        Ok(self.ask(|guard| guard.lookups(max))?.into_iter().map(PyLookup).collect())
    }

    /// Answers a question with exactly one of `vouched`, `response` (status, headers and body of the complete HTTP
    /// response of the question's `url`, which the engine judges), `profile` (a mapping of what is known of the subject),
    /// `keys` (a JWKS document), `inactive=True` and `unavailable=True`. Raises `MisuseError` when it is late, answered
    /// already or was never asked.
    #[pyo3(signature = (lookup, /, vouched=None, *, response=None, profile=None, keys=None, inactive=false,
        unavailable=false, retry_after=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn answer(
        &self,
        py: Python<'_>,
        lookup: u64,
        vouched: Option<&Bound<'_, PyVouched>>,
        response: Option<&Bound<'_, PyAny>>,
        profile: Option<&Bound<'_, PyAny>>,
        keys: Option<&Bound<'_, PyAny>>,
        inactive: bool,
        unavailable: bool,
        retry_after: Option<f64>,
    ) -> PyResult<()> {
        let given = Given { vouched, response, profile, keys, inactive, unavailable, retry_after };
        let answer = given.answer()?;
        let life = self.life()?;
        let decided = life.verify(py, |guard| guard.answer(LookupId(lookup), answer)).and_then(|decided| decided);
        decided.map_err(|reason| life.refused(reason))
    }

    /// Counters and gauges in the Prometheus text format.
    fn metrics(&self) -> PyResult<String> {
        self.ask(wsauth_runtime::Guard::metrics)
    }

    /// Takes up to `max` audit events, oldest first, each as one line of JSON.
    #[pyo3(signature = (max=1000))]
    fn audit_lines(&self, max: usize) -> PyResult<Vec<String>> {
        Ok(self.ask(|guard| guard.audit(max))?.iter().map(wsauth::audit::AuditEvent::to_json).collect())
    }

    /// Live and pending connections.
    #[getter]
    fn connections(&self) -> PyResult<usize> {
        self.ask(wsauth_runtime::Guard::connections)
    }

    /// Subprotocols of the configuration in force: those served, and the prefixes that carry tokens.
    #[getter]
    fn subprotocols(&self) -> PyResult<(Vec<String>, Vec<String>)> {
        let handshake = self.ask(|guard| guard.config().handshake.clone())?;
        Ok((handshake.subprotocols, handshake.subprotocol_prefixes))
    }

    fn __repr__(&self) -> PyResult<String> {
        Ok(format!("<Engine with {} connections>", self.connections()?))
    }
}

impl Drop for PyEngine {
    fn drop(&mut self) {
        // Nobody could be called any more: the functions went with the engine.
        Python::attach(|py| self.stop(py));
    }
}

impl PyEngine {
    fn own_connection(&self, connection: &Bound<'_, PyAny>) -> PyResult<ConnectionId> {
        if let Ok(connection) = connection.cast::<PyConnection>() {
            let connection = connection.get();
            if !Arc::ptr_eq(&connection.life, &self.life()?) {
                return Err(misuse(Reason::MisuseHandle, "a connection of another engine or of a parent process"));
            }
            return Ok(connection.id);
        }
        connection
            .extract()
            .map(ConnectionId::from_u64)
            .map_err(|_| bad_argument("connection: one, or its id, expected"))
    }
}

/// Reads a configuration. Files may be read, so other threads run meanwhile.
fn load(py: Python<'_>, config: &Bound<'_, PyAny>, is_text: bool, folder: Option<PathBuf>) -> PyResult<Config> {
    let source = folder.map_or_else(SystemSecrets::new, SystemSecrets::in_folder);
    let loaded = if is_text {
        let text = config.cast::<PyString>().map_err(|_| bad_argument("TOML text expected"))?;
        let text = own_name(text)?;
        py.detach(|| Config::from_toml(text, &source))
    } else {
        if !crate::request::is_mapping(config) {
            return Err(bad_argument("a dict expected; see Engine.from_file and Engine.from_toml"));
        }
        let tree: Value = tree(config)?;
        py.detach(|| Config::from_tree(&tree, &source))
    };
    loaded.map_err(|problem| config_error(&problem))
}

fn start_error(error: &StartError) -> PyErr {
    match error {
        StartError::Config(problem) => config_error(problem),
        other => crate::errors::ConfigError::new_err((other.to_string(), "", None::<usize>, None::<String>)),
    }
}
