//! This file answers: may this upgrade request become a connection?
//!
//! Cheap before dear: nothing is decoded before the request has a shape, its sender a permit, and its origin a
//! place in the list.

use std::borrow::Cow;
use std::sync::Arc;

use crate::config::CredentialSource;
use crate::connection::{Candidate, Cold, ConnectionId, Grant, PeerFacts, PendingCredential, State, Unauthenticated};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::identify::{Proven, identify};
use crate::flow::{answer, close, enrich, report};
use crate::keys::AskAt;
use crate::limit::{Fingerprint, Taken};
use crate::lookup::{Purpose, Question};
use crate::request::{
    ClientAddress, Credential, CredentialKind, Upgrade, find_client_address, find_credential, require_origin,
    select_subprotocol,
};
use crate::rules::Rules;
use crate::secret::Secret;
use crate::time::Now;
use crate::token::TokenVerdict;

/// Deadlines served on the way of each handshake.
const DUE_A_HANDSHAKE: usize = 32;

/// An accepted handshake. Say `closed` for its connection exactly when the socket is gone, whatever came between.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The connection's handle.
    pub connection: ConnectionId,
    /// Whether it may already be used.
    pub progress: Progress,
    /// The subprotocol to answer with. Never the one that carried the token.
    pub subprotocol: Option<String>,
}

/// How far an accepted handshake is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Authenticated.
    Live,
    /// A lookup is out: hold the upgrade back until `Ready` or `Refused`, or accept it and hold messages.
    Authenticating,
    /// The first message must authenticate.
    AwaitingAuth,
}

/// Decides one handshake.
pub(crate) fn decide(
    engine: &Engine,
    rules: &Rules,
    shard: u8,
    request: &Upgrade<'_>,
    now: Now,
) -> Result<Admitted, Refusal> {
    if engine.shard(shard).is_none() {
        // Nobody would serve its deadlines.
        return Err(Reason::MisuseArgument.into());
    }
    super::poll::advance(engine, rules, shard, now, DUE_A_HANDSHAKE);
    let mut seen = Seen::default();
    let outcome = open(engine, rules, shard, request, now, &mut seen);
    if let Err(refusal) = outcome {
        report::handshake_refused(engine, rules, request, &seen, refusal, now);
    }
    outcome
}

/// What was learnt of a request until it was decided, for the audit.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) address: Option<ClientAddress>,
    pub(crate) source: Option<CredentialSource>,
    pub(crate) token: Option<Fingerprint>,
}

fn open(
    engine: &Engine,
    rules: &Rules,
    shard: u8,
    request: &Upgrade<'_>,
    now: Now,
    seen: &mut Seen,
) -> Result<Admitted, Refusal> {
    request.require_shape(&rules.handshake)?;
    let address = find_client_address(*request, &rules.handshake)?;
    seen.address = Some(address);
    let mut permit = admit_address(engine, rules, address, now)?;
    let origin = require_origin(*request, &rules.handshake)?;
    let credential = find_credential(*request, &rules.handshake)?;
    seen.source = credential.as_ref().map(|credential| credential.source);
    seen.token = credential.as_ref().map(|credential| engine.hash.credential("", &credential.token));
    origin.require_for(seen.source, &rules.handshake)?;

    let peer = PeerFacts {
        address,
        origin: origin.origin().map(Box::from),
        path: String::from_utf8_lossy(request.path()).into_owned().into_boxed_str(),
    };
    let subprotocol = select_subprotocol(*request, &rules.handshake).map(str::to_owned);
    let newcomer = Newcomer { engine, rules, shard, peer, permit: &mut permit, now };
    let (connection, progress) = match credential {
        None => newcomer.await_first_message()?,
        Some(credential) => newcomer.authenticate(&credential)?,
    };
    Ok(Admitted { connection, progress, subprotocol })
}

/// Steps 3 of the flow: blocked addresses, then one permit of the address.
fn admit_address<'e>(
    engine: &'e Engine,
    rules: &Rules,
    address: ClientAddress,
    now: Now,
) -> Result<AddressPermit<'e>, Refusal> {
    if address.is_blocked(&rules.handshake.blocked, rules.config.limits.ipv6_prefix) {
        return Err(Reason::Blocked.into());
    }
    let key = engine.hash.address(address.key(rules.config.limits.ipv6_prefix).as_bytes());
    if let Some(retry) = engine.brute_force.find_block(key, now.mono) {
        return Err(Refusal::after(Reason::Blocked, retry));
    }
    match engine.address_permits.take(key, rules.config.limits.connections_per_address) {
        Ok(taken) => Ok(AddressPermit { key, taken: Some(taken) }),
        Err(_) => Err(Refusal::after(Reason::AddressConnections, 1_000)),
    }
}

/// The permit of an address, until a connection takes it over.
struct AddressPermit<'e> {
    key: Fingerprint,
    taken: Option<Taken<'e>>,
}

/// A request that passed everything but its credential.
struct Newcomer<'n, 'e> {
    engine: &'e Engine,
    rules: &'n Rules,
    shard: u8,
    peer: PeerFacts,
    permit: &'n mut AddressPermit<'e>,
    now: Now,
}

impl Newcomer<'_, '_> {
    fn authenticate(self, credential: &Credential<'_>) -> Result<(ConnectionId, Progress), Refusal> {
        let (engine, rules, now) = (self.engine, self.rules, self.now);
        match credential.kind {
            CredentialKind::Session => return self.wait(credential, Wanted::Session),
            CredentialKind::Ticket => return Err(Reason::TicketUnknown.into()),
            CredentialKind::Token => {}
        }
        match identify(engine, rules, &credential.token, credential.source, now) {
            Ok(proven) => self.admit(proven),
            Err(TokenVerdict::Refused(reason)) => Err(reason.into()),
            Err(TokenVerdict::KeysNeeded { issuer }) => self.wait(credential, Wanted::Keys(issuer)),
            Err(TokenVerdict::Opaque { issuer }) => self.wait(credential, Wanted::Introspection(issuer)),
        }
    }

    /// Lets a verified identity in, at once or when its profile is there.
    fn admit(self, proven: Proven) -> Result<(ConnectionId, Progress), Refusal> {
        let (engine, rules, now) = (self.engine, self.rules, self.now);
        let (id, progress, outcome) = match enrich::find_known(engine, rules, &proven.identity, now) {
            Some(profile) => {
                let id = self.insert(State::Admitting)?;
                let Proven { identity, reask } = proven;
                let candidate = Candidate { identity, profile, reask, purpose: Purpose::Admit };
                (id, Progress::Live, enrich::go_live(engine, rules, id, candidate, now))
            }
            None => {
                let id = self.insert_unauthenticated(State::Authenticating)?;
                (id, Progress::Authenticating, enrich::admit(engine, rules, id, proven, now))
            }
        };
        outcome.map(|()| (id, progress)).inspect_err(|_| {
            close::closed(engine, id, now);
        })
    }

    fn await_first_message(self) -> Result<(ConnectionId, Progress), Refusal> {
        if !self.rules.config.handshake.credentials.contains(&CredentialSource::FirstMessage) {
            return Err(Reason::CredentialMissing.into());
        }
        let id = self.insert_unauthenticated(State::AwaitingAuth)?;
        Ok((id, Progress::AwaitingAuth))
    }

    /// Asks for what is missing and leaves the connection `authenticating` (RULES 14).
    fn wait(self, credential: &Credential<'_>, wanted: Wanted) -> Result<(ConnectionId, Progress), Refusal> {
        let (engine, rules, now) = (self.engine, self.rules, self.now);
        let token = Secret::new(match &credential.token {
            Cow::Borrowed(token) => token.to_vec(),
            Cow::Owned(token) => token.clone(),
        });
        answer::require_askable(engine, rules, wanted, now)?;
        let id = self.insert_unauthenticated(State::Authenticating)?;
        let asked = match engine.table.find(id).and_then(|slot| slot.lock(id)) {
            Some(mut guard) => {
                let credential = PendingCredential::new(credential.source, token);
                answer::ask_about(engine, rules, &mut guard, wanted, credential, Purpose::Admit, now)
            }
            None => Err(Reason::FaultInternal.into()),
        };
        let Err(refusal) = asked else { return Ok((id, Progress::Authenticating)) };
        // Nobody is asked, either, where somebody else's answer came in this very moment.
        let outcome = match wanted {
            Wanted::Introspection(_) => identify(engine, rules, &credential.token, credential.source, now)
                .map_err(|_| refusal)
                .and_then(|proven| enrich::admit(engine, rules, id, proven, now)),
            Wanted::Keys(_) | Wanted::Session => Err(refusal),
        };
        outcome.map(|()| (id, Progress::Authenticating)).inspect_err(|_| {
            close::closed(engine, id, now);
        })
    }

    /// A connection in the pool of those that are not authenticated, which has bounds of its own (RULES 14).
    fn insert_unauthenticated(self, state: State) -> Result<ConnectionId, Refusal> {
        let (engine, rules) = (self.engine, self.rules);
        let (everyone, address) = engine.admit_unauthenticated(rules, self.permit.key)?;
        let id = self.insert(state)?;
        if let Some(slot) = engine.table.find(id)
            && let Some(mut guard) = slot.lock(id)
        {
            guard.held.unauthenticated = Some(Unauthenticated { everyone: everyone.keep(), address: address.keep() });
        }
        Ok(id)
    }

    fn insert(self, state: State) -> Result<ConnectionId, Refusal> {
        let handshake = &self.rules.config.handshake;
        let wait = match state {
            State::AwaitingAuth => handshake.authentication_deadline_ms,
            _ => handshake.lookup_deadline_ms,
        };
        let authenticate_by = self.now.mono.plus(wait);
        let mut cold = Cold::new(self.peer, authenticate_by, self.now);
        cold.held_back = state == State::Authenticating;
        let Ok(id) = self.engine.table.insert(self.shard, state, Grant::DENYING, Box::new(cold), self.now) else {
            return Err(Refusal::after(Reason::ConnectionsFull, 1_000));
        };
        // From here on `closed` gives the permit back.
        if let Some(slot) = self.engine.table.find(id)
            && let Some(mut guard) = slot.lock(id)
        {
            guard.held.address = self.permit.taken.take().map(Taken::keep);
        }
        self.engine.schedule(id, authenticate_by);
        Ok(id)
    }
}

/// What must be found out before a credential can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The keys of the issuer with this index.
    Keys(usize),
    /// Whether the issuer with this index calls the token active.
    Introspection(usize),
    /// Whether the session lives.
    Session,
}

impl Wanted {
    /// The question, and the fingerprint under which the same question is joined.
    pub(crate) fn question(self, engine: &Engine, rules: &Rules, token: &Secret) -> Option<(Fingerprint, Question)> {
        match self {
            Wanted::Keys(index) => {
                let issuer = rules.issuers.get(index)?;
                Some((engine.hash.keys(&issuer.config().issuer), issuer.keys_question()?))
            }
            Wanted::Introspection(index) => {
                let issuer = rules.issuers.get(index)?;
                let url = match issuer.introspection_url() {
                    AskAt::Host => None,
                    AskAt::Url(url) => Some(url),
                    AskAt::Undiscovered => return Wanted::Keys(index).question(engine, rules, token),
                    AskAt::Nowhere => return None,
                };
                let issuer: Arc<str> = Arc::from(issuer.config().issuer.as_str());
                let key = engine.hash.credential(&issuer, token.expose());
                Some((key, Question::Introspection { issuer, url, token: token.clone() }))
            }
            Wanted::Session => {
                rules.config.sessions.as_ref()?;
                let key = engine.hash.session_credential(token.expose());
                Some((key, Question::Session { id: token.clone() }))
            }
        }
    }
}
