//! This file answers: what is an engine with a clock, a seed and a wake-up?
//!
//! [`Guard`] has one method per method of [`Engine`], without `now`: the clock is read inside, and finely where a
//! deadline is near (RULES 3). It decides nothing itself.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use wsauth::audit::AuditEvent;
use wsauth::config::Config;
use wsauth::identity::Identity;
use wsauth::lookup::{Answer, Answerer, Lookup, LookupId};
use wsauth::request::Upgrade;
use wsauth::time::{MonoTime, Now};
use wsauth::{
    Admitted, ConnectionId, Delivered, Engine, Event, Payload, PermissionDiff, Polled, Reason, Refreshed, Refusal,
    Revocation, Revoked, Step, Withheld,
};

use crate::backends::HttpResolver;
use crate::clock::{Clock, ManualClock};
use crate::driver::{Driver, Resolver};
use crate::keys::require_keys;
use crate::secrets::{SystemSecrets, read_bounded};
use crate::seed::seed;
use crate::start::StartError;
use crate::tungstenite::Pump;
use crate::wake::Wake;

/// Hears of changed permissions of sockets accepted by [`Guard::accept`]. Runs on the pump: it must be quick, and must
/// not own the guard. What it panics with is lost.
pub type Observer = Arc<dyn Fn(ConnectionId, &PermissionDiff) + Send + Sync>;

/// An engine with a clock, a seed and wake descriptors. Cheap to clone; clones are one engine.
///
/// Dropping the last clone stops and joins the threads that were started, if any.
///
/// # Examples
///
/// ```
/// use wsauth_runtime::Guard;
///
/// let refused = Guard::from_toml("[handshake]\norigins = []").unwrap_err();
/// assert!(refused.to_string().contains("nobody could be authenticated"), "{refused}");
/// ```
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    /// Dropped, and so joined, before what it uses.
    pump: Mutex<Option<Pump>>,
    parts: Arc<Parts>,
}

/// What the pump shares with the guard.
pub(crate) struct Parts {
    /// Dropped, and so joined, before the engine.
    driver: Driver,
    engine: Arc<Engine>,
    pub(crate) clock: Clock,
    pub(crate) wake: Arc<Wake>,
    config: Mutex<Arc<Config>>,
    observer: Mutex<Option<Observer>>,
}

impl Guard {
    /// Makes a guard from TOML text, with secrets from environment and files and the operating system's clock.
    ///
    /// # Errors
    ///
    /// [`StartError`]: the configuration was refused, or there is no randomness.
    pub fn from_toml(text: &str) -> Result<Guard, StartError> {
        Guard::new(Config::from_toml(text, &SystemSecrets::new())?, Clock::system())
    }

    /// Makes a guard from a TOML file of at most 1 MiB. Files it names by relative paths are looked for beside it.
    ///
    /// # Errors
    ///
    /// As [`from_toml`](Guard::from_toml), and when the file cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Guard, StartError> {
        let path = path.as_ref();
        let bytes = read_bounded(path).map_err(|kind| match kind {
            io::ErrorKind::FileTooLarge => StartError::Text,
            other => StartError::File(other),
        })?;
        let text = String::from_utf8(bytes).map_err(|_| StartError::Text)?;
        let secrets = path.parent().map_or_else(SystemSecrets::new, SystemSecrets::in_folder);
        Guard::new(Config::from_toml(&text, &secrets)?, Clock::system())
    }

    /// Makes a guard for tests, whose time only moves with `clock` and whose seed is constant.
    ///
    /// # Errors
    ///
    /// As [`from_toml`](Guard::from_toml).
    pub fn with_clock(config: Config, clock: ManualClock) -> Result<Guard, StartError> {
        Guard::new(config, Clock::manual(clock))
    }

    /// Makes a guard. With `lookups.require_keys` it fetches every key set on the calling thread first, for at most
    /// ten seconds.
    ///
    /// # Errors
    ///
    /// As [`from_toml`](Guard::from_toml), and [`StartError::Source`] for certificates that cannot be used and for
    /// required keys that could not be fetched.
    pub fn new(config: Config, clock: Clock) -> Result<Guard, StartError> {
        let guard = Guard::make(config, clock)?;
        let parts = &guard.inner.parts;
        if let Some(http) = parts.driver.http() {
            require_keys(&parts.engine, &http, &guard.config(), &parts.clock)?;
        }
        Ok(guard)
    }

    fn make(config: Config, clock: Clock) -> Result<Guard, StartError> {
        let wake = Arc::new(Wake::new(config.connection.shards));
        let waker = Arc::clone(&wake);
        let kept = Arc::new(config.clone());
        let engine = Engine::new(config, &seed(&clock)?, Box::new(move |shard| waker.wake(shard)))?;
        let engine = Arc::new(engine);
        clock.tell_of_change(&wake);
        let timer = Box::new(Engine::next_fetch);
        let driver = Driver::new(Arc::clone(&engine), clock.clone(), http(&kept)?, timer, &kept.lookups);
        let parts = Parts { driver, engine, clock, wake, config: Mutex::new(kept), observer: Mutex::new(None) };
        Ok(Guard { inner: Arc::new(Inner { pump: Mutex::new(None), parts: Arc::new(parts) }) })
    }

    /// Makes another guard of the same configuration and clock: new tables, seeds, descriptors and pools of connections,
    /// and no threads. A child process takes this in place of its parent's (RULES 41); its resolver must be set again.
    /// Keys are fetched when they are needed: what `lookups.require_keys` asks was true at the start.
    ///
    /// # Errors
    ///
    /// As [`from_toml`](Guard::from_toml).
    pub fn fresh(&self) -> Result<Guard, StartError> {
        self.fresh_with(self.inner.parts.clock.clone())
    }

    /// The same with a clock of its own.
    ///
    /// # Errors
    ///
    /// As [`from_toml`](Guard::from_toml).
    pub fn fresh_with(&self, clock: Clock) -> Result<Guard, StartError> {
        Guard::make((*self.config()).clone(), clock)
    }

    /// Lets `resolver` answer, on the worker threads of `[lookups]`, the questions that the guard does not ask over
    /// HTTP itself: all of them with `lookups.driver = "host"`, else those without a url. False when there was a
    /// resolver before, which stays.
    pub fn drive_with(&self, resolver: Arc<dyn Resolver>) -> bool {
        self.inner.parts.driver.answer_with(resolver)
    }

    /// Stops and joins the workers. Questions that wait for one are answered [`Answer::Unavailable`], and so is what is
    /// asked later; everything else goes on. Does nothing the second time. Waits for a resolver that runs.
    pub fn stop_driver(&self) {
        self.inner.parts.driver.stop();
    }

    /// Has what is due fetched now, before the first client needs it: key sets, on the workers. Call it in the process
    /// that will serve, after a fork; watching the [`wake`](Guard::wake) descriptor or polling does the same later.
    pub fn prefetch(&self) {
        self.inner.parts.driver.feed();
    }

    /// Has `observer` told of changed permissions of the sockets accepted here.
    pub fn observe(&self, observer: Observer) {
        *self.inner.parts.observer.lock() = Some(observer);
    }

    /// See [`Engine::handshake`].
    ///
    /// # Errors
    ///
    /// The refusal; nothing is held then.
    pub fn handshake(&self, shard: u8, request: &Upgrade<'_>) -> Result<Admitted, Refusal> {
        self.driven(|engine, now| engine.handshake(shard, request, now))
    }

    /// See [`Engine::message`]. The clock is read coarsely unless a deadline is near.
    ///
    /// # Errors
    ///
    /// [`Withheld`]: the application must not see the message.
    pub fn message(&self, connection: ConnectionId, payload: Payload<'_>) -> Result<Delivered, Withheld> {
        let parts = &self.inner.parts;
        let decided = parts.engine.message(connection, payload, parts.now_for(connection));
        parts.drive();
        decided
    }

    /// See [`Engine::authorize`].
    ///
    /// # Errors
    ///
    /// [`Withheld`]: the application must not act.
    pub fn authorize(
        &self,
        connection: ConnectionId,
        message_type: &str,
        fields: &[(&str, &str)],
    ) -> Result<Delivered, Withheld> {
        let parts = &self.inner.parts;
        let decided = parts.engine.authorize(connection, message_type, fields, parts.now_for(connection));
        parts.drive();
        decided
    }

    /// See [`Engine::authorize_delivery`].
    ///
    /// # Errors
    ///
    /// The refusal: it must not be sent.
    pub fn authorize_delivery(
        &self,
        connection: ConnectionId,
        delivery_type: &str,
        fields: &[(&str, &str)],
    ) -> Result<Delivered, Refusal> {
        let parts = &self.inner.parts;
        parts.engine.authorize_delivery(connection, delivery_type, fields, parts.now_for(connection))
    }

    /// See [`Engine::authorize_deliveries`]. One fine clock reading serves the batch.
    ///
    /// # Errors
    ///
    /// For an unknown delivery type; nothing is appended then.
    pub fn authorize_deliveries(
        &self,
        connections: &[ConnectionId],
        delivery_type: &str,
        fields: &[(&str, &str)],
        allowed: &mut Vec<ConnectionId>,
    ) -> Result<(), Refusal> {
        let parts = &self.inner.parts;
        parts.engine.authorize_deliveries(connections, delivery_type, fields, parts.clock.fine(), allowed)
    }

    /// See [`Engine::refresh`].
    ///
    /// # Errors
    ///
    /// The refusal; nothing changed but the count of attempts.
    pub fn refresh(&self, connection: ConnectionId, token: &[u8]) -> Result<Refreshed, Refusal> {
        self.driven(|engine, now| engine.refresh(connection, token, now))
    }

    /// See [`Engine::refresh_subject`].
    ///
    /// # Errors
    ///
    /// The refusal; nothing changed.
    pub fn refresh_subject(&self, token: &[u8]) -> Result<usize, Refusal> {
        self.driven(|engine, now| engine.refresh_subject(token, now))
    }

    /// See [`Engine::touch`].
    pub fn touch(&self, connection: ConnectionId) -> bool {
        self.inner.parts.engine.touch(connection, self.inner.parts.clock.coarse())
    }

    /// See [`Engine::set_permissions`].
    ///
    /// # Errors
    ///
    /// The refusal; nothing changed.
    pub fn set_permissions(
        &self,
        connection: ConnectionId,
        permissions: &[Arc<str>],
    ) -> Result<PermissionDiff, Refusal> {
        self.driven(|engine, now| engine.set_permissions(connection, permissions, now))
    }

    /// See [`Engine::set_subject_permissions`].
    pub fn set_subject_permissions(&self, issuer: &str, subject: &str, permissions: &[Arc<str>]) -> usize {
        self.driven(|engine, now| engine.set_subject_permissions(issuer, subject, permissions, now))
    }

    /// See [`Engine::revoke`].
    pub fn revoke(&self, what: Revocation<'_>) -> Revoked {
        self.driven(|engine, now| engine.revoke(what, now))
    }

    /// See [`Engine::closed`].
    pub fn closed(&self, connection: ConnectionId) -> bool {
        self.driven(|engine, now| engine.closed(connection, now))
    }

    /// Clears the shard's wake descriptor, then polls: see [`Engine::poll`]. When more waits than was taken, the
    /// descriptor is readable again.
    ///
    /// Not for shard 0 once [`accept`](Guard::accept) was called: its pump polls there.
    ///
    /// # Errors
    ///
    /// `MisuseBusy` while another thread polls this shard, `MisuseArgument` for a shard that does not exist.
    pub fn poll(&self, shard: u8, max: usize, events: &mut Vec<Event>) -> Result<Polled, Reason> {
        self.inner.parts.poll(shard, max, events)
    }

    /// See [`Engine::next_deadline`]. On the clock of [`now`](Guard::now).
    pub fn next_deadline(&self, shard: u8) -> Option<MonoTime> {
        self.inner.parts.engine.next_deadline(shard)
    }

    /// The engine's time, at full resolution.
    pub fn now(&self) -> Now {
        self.inner.parts.clock.fine()
    }

    /// See [`Engine::lookups_for`]. For a host that is its own driver, or answers what its [`Resolver`] does not take. It
    /// gets every question with `lookups.driver = "host"`, else those that the guard does not ask over HTTP itself.
    pub fn lookups(&self, max: usize) -> Vec<Lookup> {
        let parts = &self.inner.parts;
        if let Some(left) = parts.driver.take_left(max) {
            return left;
        }
        let who = if parts.driver.http().is_some() { Answerer::Host } else { Answerer::Anyone };
        parts.engine.lookups_for(who, max, parts.clock.fine())
    }

    /// See [`Engine::answer`].
    ///
    /// # Errors
    ///
    /// `MisuseHandle` for a question that is answered already, late, or was never asked.
    pub fn answer(&self, lookup: LookupId, answer: Answer) -> Result<(), Reason> {
        self.driven(|engine, now| engine.answer(lookup, answer, now))
    }

    /// See [`Engine::load_keys`].
    pub fn load_keys(&self, issuer: &str, document: &[u8]) -> bool {
        self.driven(|engine, now| engine.load_keys(issuer, document, now))
    }

    /// See [`Engine::identity`].
    pub fn identity(&self, connection: ConnectionId) -> Option<Arc<Identity>> {
        self.inner.parts.engine.identity(connection)
    }

    /// See [`Engine::permissions`].
    pub fn permissions(&self, connection: ConnectionId) -> Option<Vec<Arc<str>>> {
        self.inner.parts.engine.permissions(connection)
    }

    /// See [`Engine::audit`].
    pub fn audit(&self, max: usize) -> Vec<AuditEvent> {
        self.inner.parts.engine.audit(max, self.inner.parts.clock.fine())
    }

    /// See [`Engine::metrics`].
    pub fn metrics(&self) -> String {
        self.inner.parts.engine.metrics()
    }

    /// See [`Engine::connections`].
    pub fn connections(&self) -> usize {
        self.inner.parts.engine.connections()
    }

    /// Puts another configuration in force: see [`Engine::reload`]. The number of workers and the length of their
    /// queue stay those of the start; connections to sources are made anew.
    ///
    /// # Errors
    ///
    /// What is wrong with it; the old one stays.
    pub fn reload(&self, config: Config) -> Result<(), StartError> {
        // Held throughout, so that the copy kept is the one in force.
        let mut kept = self.inner.parts.config.lock();
        let copy = Arc::new(config.clone());
        copy.require_safe()?;
        let http = http(&copy)?;
        // Before anything is asked as the new configuration has it.
        self.inner.parts.engine.reload(config, self.now())?;
        self.inner.parts.driver.replace_http(http);
        *kept = copy;
        drop(kept);
        self.inner.parts.drive();
        Ok(())
    }

    /// See [`Engine::explain`].
    pub fn explain(&self, request: &Upgrade<'_>) -> Vec<Step> {
        self.inner.parts.engine.explain(request, self.inner.parts.clock.fine())
    }

    /// See [`Engine::close_code`].
    pub fn close_code(&self, reason: Reason) -> u16 {
        self.inner.parts.engine.close_code(reason)
    }

    /// The wake descriptors: readable when events wait or the next deadline moved earlier.
    pub fn wake(&self) -> &Wake {
        &self.inner.parts.wake
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.inner.parts.config.lock())
    }

    /// Runs `with` on the pump, starting it at the first call.
    pub(crate) fn with_pump<T>(&self, with: impl FnOnce(&Pump) -> T) -> io::Result<T> {
        let mut pump = self.inner.pump.lock();
        let running = match pump.take() {
            Some(running) => running,
            None => Pump::start(Arc::clone(&self.inner.parts))?,
        };
        Ok(with(pump.insert(running)))
    }

    /// Runs `with` on the pump if it runs.
    pub(crate) fn with_running_pump<T>(&self, with: impl FnOnce(&Pump) -> T) -> Option<T> {
        self.inner.pump.lock().as_ref().map(with)
    }

    fn driven<T>(&self, call: impl FnOnce(&Engine, Now) -> T) -> T {
        let parts = &self.inner.parts;
        let result = call(&parts.engine, parts.clock.fine());
        parts.drive();
        result
    }
}

/// What asks over HTTP; `None` where the host answers everything.
fn http(config: &Config) -> Result<Option<HttpResolver>, StartError> {
    if config.lookups.by_host { Ok(None) } else { HttpResolver::from_config(config).map(Some) }
}

impl Parts {
    pub(crate) fn poll(&self, shard: u8, max: usize, events: &mut Vec<Event>) -> Result<Polled, Reason> {
        self.wake.clear(shard);
        let polled = self.engine.poll(shard, self.clock.fine(), max, events);
        // Left behind, or not looked at because another thread polls: come again.
        if polled.is_ok_and(|polled| polled.more) || polled == Err(Reason::MisuseBusy) {
            self.wake.wake(shard);
        }
        self.drive();
        polled
    }

    pub(crate) fn observer(&self) -> Option<Observer> {
        self.observer.lock().clone()
    }

    /// The coarse time, or the fine one when it could matter.
    fn now_for(&self, connection: ConnectionId) -> Now {
        let now = self.clock.coarse();
        if self.engine.is_near_expiry(connection, now) { self.clock.fine() } else { now }
    }

    /// Gives the driver what the engine may have asked in this call.
    fn drive(&self) {
        if self.wake.take_lookups() {
            self.driver.feed();
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({} connections)", self.connections())
    }
}
