//! This file answers: is every key set here before the first handshake, where the operator asks for that?

use std::thread::sleep;
use std::time::Duration;

use wsauth::Engine;
use wsauth::config::{Config, KeysConfig};
use wsauth::lookup::{Answer, Answerer, Question};
use wsauth::time::MonoTime;

use crate::backends::HttpResolver;
use crate::clock::{Clock, network_time};
use crate::start::StartError;

/// Time for all of them together, in milliseconds.
const LIMIT_MS: u64 = 10_000;
const TRIES: u32 = 3;
const PAUSE_MS: u64 = 500;

/// Fetches every key set on the calling thread, where `lookups.require_keys` is set: no worker is started.
///
/// # Errors
///
/// The first issuer whose keys did not come in time.
pub(crate) fn require_keys(
    engine: &Engine,
    http: &HttpResolver,
    config: &Config,
    clock: &Clock,
) -> Result<(), StartError> {
    if !config.lookups.require_keys {
        return Ok(());
    }
    let mut start = Start { engine, http, clock, until: network_time().plus(LIMIT_MS), missing: Vec::new() };
    for issuer in &config.issuers {
        if let KeysConfig::Remote(remote) = &issuer.keys {
            let keys = Question::Keys { issuer: issuer.issuer.as_str().into(), url: remote.url.as_str().into() };
            start.missing.push((issuer.issuer.clone(), (!remote.discovery).then_some(keys)));
        }
    }
    for attempt in 0..TRIES {
        if attempt > 0 {
            sleep(Duration::from_millis(PAUSE_MS.min(start.left_ms())));
        }
        start.try_all();
        if start.missing.is_empty() {
            return Ok(());
        }
    }
    let name = start.missing.into_iter().next().map(|(issuer, _)| format!("issuer `{issuer}`")).unwrap_or_default();
    Err(StartError::Source { name, what: "its keys could not be fetched, and `lookups.require_keys` is set" })
}

struct Start<'a> {
    engine: &'a Engine,
    http: &'a HttpResolver,
    clock: &'a Clock,
    until: MonoTime,
    /// Issuers, and where their keys are when that need not be discovered.
    missing: Vec<(String, Option<Question>)>,
}

impl Start<'_> {
    fn try_all(&mut self) {
        // What the engine asks by itself: discovery documents, then the key sets that they name.
        loop {
            let lookups = self.engine.lookups_for(Answerer::Http, 64, self.clock.fine());
            if lookups.is_empty() {
                break;
            }
            for lookup in lookups {
                let answer = self.ask(&lookup.question);
                let _ = self.engine.answer(lookup.id, answer, self.clock.fine());
            }
        }
        for question in self.missing.iter().filter_map(|(_, keys)| keys.clone()).collect::<Vec<_>>() {
            self.ask(&question);
        }
    }

    /// Asks, and puts a key set in force. Whether it is one the engine says.
    fn ask(&mut self, question: &Question) -> Answer {
        let now = self.clock.fine();
        let answer = self.http.fetch(question, self.left_ms(), now.wall);
        if let (Question::Keys { issuer, .. }, Answer::Response(response)) = (question, &answer)
            && response.status == 200
            && self.engine.load_keys(issuer, &response.body, now)
        {
            self.missing.retain(|(missing, _)| **missing != **issuer);
        }
        answer
    }

    fn left_ms(&self) -> u64 {
        self.until.since(network_time())
    }
}
