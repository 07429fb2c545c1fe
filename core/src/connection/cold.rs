//! This file answers: what else is known of a connection, besides the hot record?
//!
//! All of it is read and written under that connection's own lock.

use std::sync::Arc;

use crate::audit::Refusals;
use crate::config::CredentialSource;
use crate::connection::{Pending, Timetable};
use crate::decision::Refusal;
use crate::identity::Identity;
use crate::limit::{BucketId, Fingerprint, Permit};
use crate::lookup::{LookupId, Profile, Purpose};
use crate::policy::PermissionSet;
use crate::request::ClientAddress;
use crate::secret::Secret;
use crate::time::{MonoTime, Now, WallTime};

/// The cold part of a connection.
#[derive(Debug)]
pub(crate) struct Cold {
    /// Where it came from.
    pub(crate) peer: PeerFacts,
    /// Who it is, once verified.
    pub(crate) identity: Option<Arc<Identity>>,
    /// What it may do: as its credential says, or as `set_permissions` replaced it.
    pub(crate) held_permissions: Vec<Arc<str>>,
    /// The same, compiled.
    pub(crate) permissions: Arc<PermissionSet>,
    /// When the server was told about it.
    pub(crate) opened: MonoTime,
    /// When it must have authenticated, while it has not.
    pub(crate) authenticate_by: MonoTime,
    /// The refresh timetable, once live.
    pub(crate) timetable: Timetable,
    /// The state of the refresh in progress.
    pub(crate) refresh: RefreshState,
    /// The credential being verified, until it is.
    pub(crate) credential: Option<PendingCredential>,
    /// What its source is asked about again, where the client holds no token that could be refreshed (RULES 29).
    pub(crate) reask: Option<PendingCredential>,
    /// A verified credential whose profile is asked for.
    pub(crate) enriching: Option<Box<Enriching>>,
    /// The profile of the identity in force, where there was one.
    pub(crate) profile: Option<Arc<Profile>>,
    /// The server still holds the handshake open, waiting for `Ready` or `Refused`.
    pub(crate) held_back: bool,
    /// Messages answered with hold while it was being authenticated (RULES 15).
    pub(crate) holds: u32,
    /// Why it ends, written once (RULES 27).
    pub(crate) terminal: Option<Terminal>,
    /// What its outbox owes (RULES 32).
    pub(crate) pending: Pending,
    /// Message refusals not audited yet (RULES 35).
    pub(crate) refusals: Refusals,
    /// Delivery refusals not audited yet.
    pub(crate) delivery_refusals: Refusals,
    /// What must be given back when it ends.
    pub(crate) held: Held,
}

/// Where a connection came from.
#[derive(Clone, Debug)]
pub(crate) struct PeerFacts {
    /// The client address after trusted proxies.
    pub(crate) address: ClientAddress,
    /// The allowed Origin, when there was one.
    pub(crate) origin: Option<Box<str>>,
    /// The path.
    pub(crate) path: Box<str>,
}

/// A credential whose verification waits for a lookup, or whose source is asked again.
#[derive(Clone, Debug)]
pub(crate) struct PendingCredential {
    /// Where it stood.
    pub(crate) source: CredentialSource,
    /// The token or session id.
    pub(crate) token: Secret,
    /// Whether it is a session id; else an opaque token or a JWT.
    pub(crate) session: bool,
    /// The lookup that is out about it. The answer to any other says nothing about it.
    pub(crate) lookup: Option<LookupId>,
    /// When that lookup is over, answered or not.
    pub(crate) until: MonoTime,
    /// When its source last vouched for it, where one did.
    pub(crate) vouched: MonoTime,
}

/// A verified credential on its way to be put in force.
#[derive(Debug)]
pub(crate) struct Candidate {
    /// Who it is, as verified.
    pub(crate) identity: Identity,
    /// The profile to be added, once found.
    pub(crate) profile: Option<Arc<Profile>>,
    /// What its source is asked about later, where it replaces another.
    pub(crate) reask: Option<PendingCredential>,
    /// What it is for.
    pub(crate) purpose: Purpose,
}

/// A candidate whose profile is asked for.
#[derive(Debug)]
pub(crate) struct Enriching {
    /// The candidate.
    pub(crate) candidate: Candidate,
    /// The question that is out. The answer to any other says nothing about it.
    pub(crate) lookup: LookupId,
    /// When no answer is waited for any more.
    pub(crate) until: MonoTime,
    /// When the credential is over by the monotonic clock.
    pub(crate) over_at: MonoTime,
}

/// How far the refresh is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RefreshState {
    /// The client, or the source, was asked.
    pub(crate) asked: bool,
    /// Attempts refused since then, or since the grant was committed.
    pub(crate) refused: u32,
    /// The source that vouches was asked and has not answered yet, or could not.
    pub(crate) unavailable: bool,
}

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terminal {
    /// The reason.
    pub(crate) refusal: Refusal,
    /// When that was decided.
    pub(crate) decided: MonoTime,
    /// Whether the server has been told.
    pub(crate) handed_out: bool,
}

/// Permits, index entries and counts a connection holds until it ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Permit of the client address.
    pub(crate) address: Option<Permit>,
    /// Permits of a connection that is not authenticated yet.
    pub(crate) unauthenticated: Option<Unauthenticated>,
    /// The user's rate bucket.
    pub(crate) bucket: Option<BucketId>,
    /// The permission set in the hot record.
    pub(crate) permission_set: Option<u32>,
    /// Index entries.
    pub(crate) index: Vec<Fingerprint>,
}

/// A place among those that are not authenticated yet (RULES 14).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unauthenticated {
    /// One of the engine's.
    pub(crate) everyone: Permit,
    /// One of the address's.
    pub(crate) address: Permit,
}

impl PendingCredential {
    /// A credential nothing has been asked about yet.
    pub(crate) fn new(source: CredentialSource, token: Secret) -> PendingCredential {
        PendingCredential { source, token, session: false, lookup: None, until: MonoTime::NEVER, vouched: MonoTime(0) }
    }
}

impl Cold {
    /// A connection of which nothing is known but where it came from.
    pub(crate) fn new(peer: PeerFacts, authenticate_by: MonoTime, now: Now) -> Cold {
        Cold {
            peer,
            identity: None,
            held_permissions: Vec::new(),
            permissions: Arc::new(PermissionSet::default()),
            opened: now.mono,
            authenticate_by,
            timetable: Timetable { ask_at: now.mono, deadline: now.mono, expiry: now.mono },
            refresh: RefreshState::default(),
            credential: None,
            reask: None,
            enriching: None,
            profile: None,
            held_back: false,
            holds: 0,
            terminal: None,
            pending: Pending::default(),
            refusals: Refusals::default(),
            delivery_refusals: Refusals::default(),
            held: Held::default(),
        }
    }

    /// Whether the grant is over (RULES 2). For the slow path; the message path reads the hot record.
    pub(crate) fn is_over(&self, now: Now) -> bool {
        let wall = self.identity.as_ref().map_or(WallTime(0), |identity| identity.expiry);
        now.wall >= wall || now.mono >= self.timetable.expiry
    }
}
