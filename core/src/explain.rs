//! This file answers: why was this handshake refused? Step by step, in the order of the flow.

use crate::config::CredentialSource;
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::{admit, enrich};
use crate::policy::PermissionSet;
use crate::request::{CredentialKind, Upgrade, find_client_address, find_credential, require_origin};
use crate::revocation::RevocationFacts;
use crate::rules::Rules;
use crate::time::Now;
use crate::token::TokenVerdict;

/// One step of a handshake's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The step.
    pub name: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was found, for the operator. Verified text only; never a token.
    pub detail: String,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It refuses; later steps are not reached.
    Refused(Refusal),
    /// It needs a lookup, which explaining does not make.
    NeedsLookup,
}

/// Walks a request through the steps of the handshake. Spends, counts and admits nothing.
pub(crate) fn explain(engine: &Engine, rules: &Rules, request: &Upgrade<'_>, now: Now) -> Vec<Step> {
    let mut steps = Steps(Vec::new());
    let _ = walk(engine, rules, request, now, &mut steps);
    steps.0
}

struct Steps(Vec<Step>);

/// The walk has ended; the last step says how.
struct Ended;

impl Steps {
    fn note(&mut self, name: &'static str, detail: impl Into<String>) {
        self.0.push(Step { name, outcome: Outcome::Passed, detail: detail.into() });
    }

    fn end(&mut self, name: &'static str, outcome: Outcome) -> Ended {
        let detail = match outcome {
            Outcome::Refused(refusal) => refusal.row().text.to_owned(),
            _ => String::new(),
        };
        self.0.push(Step { name, outcome, detail });
        Ended
    }

    fn pass<T, E: Into<Refusal>>(
        &mut self,
        name: &'static str,
        result: Result<T, E>,
        detail: impl FnOnce(&T) -> String,
    ) -> Result<T, Ended> {
        match result {
            Ok(value) => {
                let detail = detail(&value);
                self.note(name, detail);
                Ok(value)
            }
            Err(refusal) => Err(self.end(name, Outcome::Refused(refusal.into()))),
        }
    }
}

fn walk(engine: &Engine, rules: &Rules, request: &Upgrade<'_>, now: Now, steps: &mut Steps) -> Result<(), Ended> {
    let config = &rules.config;
    steps.pass("shape", request.require_shape(&rules.handshake), |()| String::new())?;
    let address = steps.pass("address", find_client_address(*request, &rules.handshake), ToString::to_string)?;
    let key = engine.hash.address(address.key(config.limits.ipv6_prefix).as_bytes());
    let free = if address.is_blocked(&rules.handshake.blocked, config.limits.ipv6_prefix)
        || engine.brute_force.find_block(key, now.mono).is_some()
    {
        Err(Reason::Blocked)
    } else if engine.address_permits.held(key) >= config.limits.connections_per_address {
        Err(Reason::AddressConnections)
    } else {
        Ok(engine.address_permits.held(key))
    };
    steps.pass("permit", free, |held| format!("{held} of {} held", config.limits.connections_per_address))?;
    let origin = steps.pass("origin", require_origin(*request, &rules.handshake), |origin| {
        origin.origin().unwrap_or("absent").to_owned()
    })?;
    let credential = steps.pass("credential", find_credential(*request, &rules.handshake), |found| {
        found.as_ref().map_or("none".to_owned(), |credential| format!("{:?}", credential.source))
    })?;
    let source = credential.as_ref().map(|credential| credential.source);
    steps.pass("origin required", origin.require_for(source, &rules.handshake), |()| String::new())?;
    let Some(credential) = credential else {
        let first = config.handshake.credentials.contains(&CredentialSource::FirstMessage);
        let outcome = if first { Ok(()) } else { Err(Reason::CredentialMissing) };
        steps.pass("verification", outcome, |()| "expects a first message".to_owned())?;
        return Ok(());
    };
    if credential.kind != CredentialKind::Token {
        return Err(steps.end("verification", Outcome::NeedsLookup));
    }
    let mut identity = match rules.verify(&credential.token, now) {
        Ok(claims) => claims.into_identity(credential.source),
        Err(TokenVerdict::Refused(reason)) => return Err(steps.end("verification", Outcome::Refused(reason.into()))),
        Err(_) => return Err(steps.end("verification", Outcome::NeedsLookup)),
    };
    steps.note("verification", format!("issuer {:?}, subject {:?}", identity.issuer, identity.subject));
    if let Some(profile) = &config.profile {
        let Some(known) = enrich::find_known(engine, rules, &identity, now) else {
            return Err(steps.end("profile", Outcome::NeedsLookup));
        };
        let added = known.map_or(Ok(()), |known| known.add_to(&mut identity, profile, None));
        steps.pass("profile", added.map_err(|_| Reason::SourceUnavailable), |()| String::new())?;
    }
    let permissions = PermissionSet::from_texts(identity.permissions.iter().cloned());
    steps.pass("permissions", admit::require_to_connect(rules, &permissions), |()| identity.permissions.join(" "))?;
    let revoked = engine.revocations.is_revoked(&RevocationFacts::from(&identity), now);
    steps.pass("revocation", if revoked { Err(Reason::TokenRevoked) } else { Ok(()) }, |()| String::new())?;
    Ok(())
}
