//! This file answers: which configuration is in force for this call?
//!
//! Everything compiled from one configuration hangs together in one `Rules`, replaced as a whole by a reload.
//! A call works on one `Rules` from its first line to its last.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use parking_lot::RwLock;

use crate::config::{Config, IssuerConfig};
use crate::decision::Reason;
use crate::keys::{Issuer, Issuers};
use crate::limit::Gcra;
use crate::policy::Policy;
use crate::request::HandshakeRules;
use crate::time::Now;
use crate::token::{Claims, TokenVerdict, verify_token};
use crate::wire::ControlWriter;

/// One configuration, compiled.
#[derive(Debug)]
pub(crate) struct Rules {
    /// Counts reloads; grants compiled under another epoch are compiled again (RULES 6).
    pub(crate) epoch: u32,
    pub(crate) config: Config,
    pub(crate) handshake: HandshakeRules,
    pub(crate) policy: Policy,
    pub(crate) issuers: Issuers,
    pub(crate) message_rate: Gcra,
    pub(crate) control_rate: Gcra,
    /// Whether any issuer signs with a private key. A MAC costs no more than looking it up (RULES 33).
    pub(crate) public_keys: bool,
}

impl Rules {
    pub(crate) fn compile(config: Config, epoch: u32) -> Result<Rules, String> {
        Ok(Rules {
            epoch,
            handshake: HandshakeRules::compile(&config.handshake)?,
            policy: Policy::compile(&config.messages, &config.deliveries)?,
            issuers: Issuers::from_config(&config.issuers)?,
            message_rate: Gcra::from(&config.limits.messages_per_user),
            control_rate: Gcra::from(&config.limits.control_per_user),
            public_keys: config.issuers.iter().any(IssuerConfig::has_public_keys),
            config,
        })
    }

    /// Takes a token to proven facts. Fetched keys that are too old prove nothing: they are needed anew.
    pub(crate) fn verify(&self, token: &[u8], now: Now) -> Result<Claims, TokenVerdict> {
        let claims = verify_token(token, &self.issuers, self.config.handshake.max_token_bytes, now.wall)?;
        let index = self.issuers.find(claims.issuer()).ok_or(Reason::FaultInternal)?;
        match self.issuers.get(index) {
            Some(issuer) if issuer.has_keys(now) => Ok(claims),
            _ => Err(TokenVerdict::KeysNeeded { issuer: index }),
        }
    }

    /// A configured issuer by its exact name.
    pub(crate) fn issuer(&self, name: &str) -> Option<&Issuer> {
        self.issuers.find(name).and_then(|index| self.issuers.get(index))
    }

    /// Whether anyone still vouches for identities of this issuer: a configured one, or the session store.
    pub(crate) fn knows_issuer(&self, name: &str) -> bool {
        self.issuer(name).is_some() || self.config.sessions.as_ref().is_some_and(|sessions| sessions.issuer == name)
    }

    pub(crate) fn writer(&self) -> ControlWriter<'_> {
        ControlWriter { type_field: &self.config.message.type_field }
    }
}

/// The rules in force, reached without a lock: each thread remembers the last it saw and takes the lock once a
/// reload.
#[derive(Debug)]
pub(crate) struct CurrentRules {
    /// Tells engines apart in the thread's memory.
    engine: u64,
    epoch: AtomicU32,
    rules: RwLock<Arc<Rules>>,
}

static NEXT_ENGINE: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static SEEN: Cell<Option<(u64, Arc<Rules>)>> = const { Cell::new(None) };
}

impl CurrentRules {
    pub(crate) fn new(rules: Rules) -> CurrentRules {
        CurrentRules {
            engine: NEXT_ENGINE.fetch_add(1, Ordering::Relaxed),
            epoch: AtomicU32::new(rules.epoch),
            rules: RwLock::new(Arc::new(rules)),
        }
    }

    /// Runs `f` on the rules in force.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&Rules) -> T) -> T {
        let epoch = self.epoch.load(Ordering::Acquire);
        // Taken out while in use, so that a nested call finds the memory empty and takes the lock instead.
        let rules = match SEEN.take() {
            Some((engine, rules)) if engine == self.engine && rules.epoch == epoch => rules,
            _ => Arc::clone(&self.rules.read()),
        };
        let result = f(&rules);
        SEEN.set(Some((self.engine, rules)));
        result
    }

    /// The rules in force, kept. For the slow paths.
    pub(crate) fn get(&self) -> Arc<Rules> {
        Arc::clone(&self.rules.read())
    }

    /// Puts new rules in force. `compile` is given the next epoch; when it fails the old rules stay.
    pub(crate) fn replace(&self, compile: impl FnOnce(u32, &Rules) -> Result<Rules, String>) -> Result<(), String> {
        let mut rules = self.rules.write();
        let next = compile(rules.epoch.wrapping_add(1), &rules)?;
        let epoch = next.epoch;
        *rules = Arc::new(next);
        self.epoch.store(epoch, Ordering::Release);
        Ok(())
    }
}
