//! This file answers: is anything allowed after its end, in whatever order things happen?

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::json;
use wsauth::{ConnectionId, EventKind, Reason, Refreshed, Revocation, Withheld};

use crate::model::{Credential, Kind, Peer, Policy, Rule, is_good, texts};
use crate::shared::ISSUER;
use crate::shared::world::World;

#[derive(Clone, Debug)]
enum Step {
    Connect(Draft),
    /// A token seen before is used again.
    Replay(usize),
    Message(usize, Kind),
    Named(usize, Kind),
    Delivery(usize, Kind),
    Deliveries(Kind),
    Refresh(usize, Draft, bool),
    RefreshSubject(Draft),
    RevokeConnection(usize),
    Revoke(Rule),
    RevokeNow(u8),
    SetPermissions(usize, u8),
    SetSubject(u8, u8),
    Closed(usize),
    Poll,
    SetWall(i64),
    Advance(u64),
    Reload(Policy),
    BadReload,
}

/// A credential to be written at the moment of the step.
#[derive(Clone, Debug)]
struct Draft {
    subject: u8,
    token_id: u8,
    session: Option<u8>,
    age: u64,
    life: u64,
    permissions: u8,
    genuine: bool,
}

impl Draft {
    fn write(&self, world: &World) -> Credential {
        let wall = world.now.wall.as_secs();
        Credential {
            subject: self.subject,
            token_id: self.token_id,
            session: self.session,
            issued_at: wall - self.age,
            expiry: wall + self.life,
            permissions: self.permissions,
            genuine: self.genuine,
        }
    }
}

fn draft() -> impl Strategy<Value = Draft> {
    let session = prop_oneof![3 => Just(None), 1 => (0u8..2).prop_map(Some)];
    let life = prop_oneof![1 => 0u64..3, 3 => 3u64..60, 3 => 60u64..2_000];
    (0u8..3, 0u8..6, session, 0u64..4, life, 0u8..16, prop::bool::weighted(0.9)).prop_map(
        |(subject, token_id, session, age, life, permissions, genuine)| Draft {
            subject,
            token_id,
            session,
            age,
            life,
            permissions,
            genuine,
        },
    )
}

fn kind() -> impl Strategy<Value = Kind> {
    prop::sample::select(&Kind::ALL[..])
}

fn step() -> impl Strategy<Value = Step> {
    let wall = 1_800_000_000u64;
    let rule = prop_oneof![
        (0u8..6).prop_map(Rule::Token),
        (0u8..2).prop_map(Rule::Session),
        (0u8..3, wall - 10..wall + 100).prop_map(|(subject, cut)| Rule::Subject(subject, cut)),
        (wall - 10..wall + 5).prop_map(Rule::Issuer),
    ];
    let policy = prop_oneof![3 => Just(Policy::Plain), 2 => Just(Policy::Swapped), 1 => Just(Policy::Elsewhere)];
    prop_oneof![
        8 => draft().prop_map(Step::Connect),
        1 => any::<usize>().prop_map(Step::Replay),
        12 => (any::<usize>(), kind()).prop_map(|(at, kind)| Step::Message(at, kind)),
        2 => (any::<usize>(), kind()).prop_map(|(at, kind)| Step::Named(at, kind)),
        6 => (any::<usize>(), kind()).prop_map(|(at, kind)| Step::Delivery(at, kind)),
        2 => kind().prop_map(Step::Deliveries),
        8 => (any::<usize>(), draft(), any::<bool>()).prop_map(|(at, draft, in_band)| Step::Refresh(at, draft, in_band)),
        2 => draft().prop_map(Step::RefreshSubject),
        1 => any::<usize>().prop_map(Step::RevokeConnection),
        1 => rule.prop_map(Step::Revoke),
        1 => (0u8..3).prop_map(Step::RevokeNow),
        3 => (any::<usize>(), 0u8..16).prop_map(|(at, mask)| Step::SetPermissions(at, mask)),
        1 => (0u8..3, 0u8..16).prop_map(|(subject, mask)| Step::SetSubject(subject, mask)),
        2 => any::<usize>().prop_map(Step::Closed),
        4 => Just(Step::Poll),
        2 => prop_oneof![-100_000i64..100_000, -3_000i64..3_000].prop_map(Step::SetWall),
        8 => prop_oneof![0u64..2_000, 0u64..200_000].prop_map(Step::Advance),
        2 => policy.prop_map(Step::Reload),
        1 => Just(Step::BadReload),
    ]
}

/// The engine and the notebook side by side.
struct Pair {
    world: World,
    policy: Policy,
    rules: Vec<Rule>,
    peers: Vec<(ConnectionId, Peer)>,
    written: Vec<Credential>,
}

impl Pair {
    fn new() -> Pair {
        let world = World::of(&Policy::Plain.config());
        Pair { world, policy: Policy::Plain, rules: Vec::new(), peers: Vec::new(), written: Vec::new() }
    }

    fn at(&self, at: usize) -> Option<usize> {
        (!self.peers.is_empty()).then(|| at % self.peers.len())
    }

    /// The clock or the configuration moved: what was so at any moment is noted.
    fn note(&mut self) {
        for (_, peer) in &mut self.peers {
            peer.was_over |= peer.is_over(self.world.now);
            peer.was_orphan |= self.policy == Policy::Elsewhere;
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Connect(draft) => {
                let credential = draft.write(&self.world);
                self.connect(credential);
            }
            Step::Replay(at) => {
                if !self.written.is_empty() {
                    let credential = self.written[at % self.written.len()].clone();
                    self.connect(credential);
                }
            }
            Step::Message(at, kind) | Step::Named(at, kind) => {
                let Some(place) = self.at(*at) else { return };
                let named = matches!(step, Step::Named(..));
                self.message(place, *kind, named);
            }
            Step::Delivery(at, kind) => {
                if let Some(place) = self.at(*at) {
                    self.delivery(place, *kind);
                }
            }
            Step::Deliveries(kind) => {
                let ids: Vec<_> = self.peers.iter().map(|(id, _)| *id).collect();
                let mut allowed = Vec::new();
                let room = kind.room();
                let fields: Vec<(&str, &str)> = room.iter().map(|room| ("room", room.as_str())).collect();
                let _ =
                    self.world.engine.authorize_deliveries(&ids, kind.name(), &fields, self.world.now, &mut allowed);
                for (id, peer) in &self.peers {
                    let may = peer.may(*kind, self.world.now, self.policy);
                    assert!(!allowed.contains(id) || may, "{kind:?} delivered to {peer:?}");
                    assert!(allowed.contains(id) || !may || peer.may_end(self.world.now), "{kind:?} not to {peer:?}");
                }
            }
            Step::Refresh(at, draft, in_band) => {
                if let Some(place) = self.at(*at) {
                    let credential = draft.write(&self.world);
                    self.refresh(place, credential, *in_band);
                }
            }
            Step::RefreshSubject(draft) => self.refresh_subject(draft),
            Step::RevokeConnection(at) => {
                if let Some(place) = self.at(*at) {
                    self.world.engine.revoke(Revocation::Connection(self.peers[place].0), self.world.now);
                    self.peers[place].1.revoked = true;
                }
            }
            Step::Revoke(rule) => self.revoke(*rule, false),
            Step::RevokeNow(subject) => self.revoke(Rule::Subject(*subject, self.world.now.wall.as_secs()), true),
            Step::SetPermissions(at, mask) => {
                let Some(place) = self.at(*at) else { return };
                let names: Vec<Arc<str>> = texts(*mask).into_iter().map(Arc::from).collect();
                let (id, peer) = &mut self.peers[place];
                match self.world.engine.set_permissions(*id, &names, self.world.now) {
                    Ok(_) => peer.permissions = *mask,
                    Err(refusal) => assert!(peer.may_end(self.world.now), "{refusal:?} {peer:?}"),
                }
            }
            Step::SetSubject(subject, mask) => {
                let names: Vec<Arc<str>> = texts(*mask).into_iter().map(Arc::from).collect();
                let name = format!("u{subject}");
                self.world.engine.set_subject_permissions(ISSUER, &name, &names, self.world.now);
                // What had ended already, may have been passed over; nothing of it is allowed anyway.
                for (_, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.credential.subject == *subject) {
                    peer.permissions = *mask;
                }
            }
            Step::Closed(at) => {
                if let Some(place) = self.at(*at) {
                    let (id, _) = self.peers.swap_remove(place);
                    let closed = self.world.close(id);
                    let again = self.world.close(id);
                    assert!(!again && (closed || self.world.engine.identity(id).is_none()));
                    assert_eq!(self.world.refusal(id, r#"{"type":"open"}"#), Some(Reason::MisuseHandle));
                }
            }
            Step::Poll => self.poll(),
            Step::SetWall(ms) => self.world.step_wall(*ms),
            Step::Advance(ms) => self.world.advance_ms(*ms),
            Step::Reload(policy) => {
                self.world.reload(&policy.config()).unwrap();
                self.policy = *policy;
            }
            Step::BadReload => {
                assert!(self.world.reload(&json!({ "nonsense": true })).is_err());
            }
        }
    }

    fn connect(&mut self, credential: Credential) {
        let good = is_good(&credential, &self.rules, self.world.now, self.policy);
        let outcome = self.world.connect(&credential.text());
        assert_eq!(outcome.is_ok(), good, "{outcome:?} {credential:?} {:?}", self.rules);
        self.written.push(credential.clone());
        if let Ok(id) = outcome {
            self.peers.push((id, Peer::new(credential, self.world.now)));
        }
    }

    fn message(&mut self, place: usize, kind: Kind, named: bool) {
        let (id, peer) = &mut self.peers[place];
        let now = self.world.now;
        let may = peer.may(kind, now, self.policy);
        let room = kind.room();
        let outcome = if named {
            let fields: Vec<(&str, &str)> = room.iter().map(|room| ("room", room.as_str())).collect();
            self.world.engine.authorize(*id, kind.name(), &fields, now)
        } else {
            self.world.say(*id, &json!({ "type": kind.name(), "room": room }).to_string())
        };
        match outcome {
            Ok(_) => assert!(may, "{kind:?} allowed to {peer:?} at {now:?}, {:?}", self.policy),
            Err(Withheld::Close(refusal)) => {
                assert!(peer.may_end(now), "{refusal:?} for {peer:?} at {now:?}");
                peer.ended = true;
            }
            Err(withheld) => assert!(!may || peer.may_end(now), "{withheld:?} for {peer:?} at {now:?}"),
        }
    }

    fn delivery(&mut self, place: usize, kind: Kind) {
        let (id, peer) = &mut self.peers[place];
        let now = self.world.now;
        let may = peer.may(kind, now, self.policy);
        let room = kind.room();
        let fields: Vec<(&str, &str)> = room.iter().map(|room| ("room", room.as_str())).collect();
        match self.world.engine.authorize_delivery(*id, kind.name(), &fields, now) {
            Ok(_) => assert!(may, "{kind:?} delivered to {peer:?} at {now:?}, {:?}", self.policy),
            Err(refusal) => assert!(!may || peer.may_end(now), "{refusal:?} for {peer:?} at {now:?}"),
        }
    }

    /// All or nothing: who, until when and what change together or not at all.
    fn refresh(&mut self, place: usize, credential: Credential, in_band: bool) {
        let (id, peer) = &mut self.peers[place];
        let now = self.world.now;
        let before = (self.world.engine.identity(*id), self.world.engine.permissions(*id));
        let fits = credential.subject == peer.credential.subject && credential.session == peer.credential.session;
        let same = credential == peer.credential;
        let good = is_good(&credential, &self.rules, now, self.policy);
        let expected = good && fits && (same || credential.expiry > peer.credential.expiry);
        let text = credential.text();
        let outcome = if in_band {
            let message = json!({ "type": "token_refresh", "token": text }).to_string();
            match self.world.say(*id, &message) {
                Err(Withheld::Consumed) => {
                    let held = self.world.engine.identity(*id).unwrap();
                    let committed = held.expiry.as_secs() == credential.expiry && expected;
                    if committed { Ok(()) } else { Err(false) }
                }
                Err(Withheld::Close(_)) => Err(true),
                other => {
                    assert!(peer.may_end(now), "{other:?} for {peer:?}");
                    return;
                }
            }
        } else {
            match self.world.engine.refresh(*id, text.as_bytes(), now) {
                Ok(Refreshed::Unchanged) => {
                    assert!(same);
                    Ok(())
                }
                Ok(Refreshed::Committed(_)) => Ok(()),
                Ok(Refreshed::Pending) => unreachable!(),
                Err(_) => Err(self.world.refusal(*id, r#"{"type":"unknown"}"#) != Some(Reason::MessageTypeUnknown)),
            }
        };
        let after = (self.world.engine.identity(*id), self.world.engine.permissions(*id));
        match outcome {
            Ok(()) => {
                assert!(expected && !peer.ended && !peer.revoked && !peer.is_over(now), "{credential:?} for {peer:?}");
                if same {
                    assert_eq!(before, after);
                } else {
                    peer.commit(credential.clone(), now);
                    let held = after.0.unwrap();
                    assert_eq!(held.expiry.as_secs(), credential.expiry);
                    assert_eq!(held.token_id.as_deref(), Some(&*format!("t{}", credential.token_id)));
                    let held: Vec<String> = after.1.unwrap().iter().map(ToString::to_string).collect();
                    assert_eq!(held, texts(credential.permissions));
                }
            }
            Err(ended) => {
                assert_eq!(before, after, "a refused refresh changes nothing");
                if !peer.may_end(now) {
                    assert!(!expected, "{credential:?} refused for {peer:?}");
                    peer.attempts += 1;
                    // The third since the ask, whose moment the notebook does not know: two may have come before.
                    assert!(if ended { peer.attempts >= 3 } else { peer.attempts < 5 }, "{peer:?}");
                }
                peer.ended |= ended;
            }
        }
    }

    fn refresh_subject(&mut self, draft: &Draft) {
        let credential = draft.write(&self.world);
        let now = self.world.now;
        let good = is_good(&credential, &self.rules, now, self.policy);
        let outcome = self.world.engine.refresh_subject(credential.text().as_bytes(), now);
        if !good {
            assert!(!matches!(outcome, Ok(1..)), "{outcome:?} {credential:?}");
            return;
        }
        assert!(outcome.is_ok(), "{outcome:?} {credential:?}");
        for (id, peer) in &mut self.peers {
            let fits = credential.subject == peer.credential.subject && credential.session == peer.credential.session;
            let dead = peer.may_end(now);
            let taken = self
                .world
                .engine
                .identity(*id)
                .is_some_and(|held| held.claims.get("jti").is_some() && held.expiry.as_secs() == credential.expiry)
                && fits
                && credential.expiry > peer.credential.expiry;
            assert!(dead || taken == (fits && credential.expiry > peer.credential.expiry), "{credential:?} {peer:?}");
            if taken {
                assert!(!peer.is_over(now) && !peer.revoked && !peer.ended, "{peer:?}");
                peer.commit(credential.clone(), now);
            }
        }
    }

    fn revoke(&mut self, rule: Rule, at_now: bool) {
        let (token, session, subject);
        let what = match rule {
            Rule::Token(id) => {
                token = format!("t{id}");
                Revocation::Token { issuer: ISSUER, token_id: &token }
            }
            Rule::Session(id) => {
                session = format!("s{id}");
                Revocation::Session { issuer: ISSUER, session_id: &session }
            }
            Rule::Subject(id, cut) => {
                subject = format!("u{id}");
                let issued_before = (!at_now).then_some(cut);
                Revocation::Subject { issuer: ISSUER, subject: &subject, issued_before }
            }
            Rule::Issuer(cut) => Revocation::Issuer { issuer: ISSUER, issued_before: Some(cut) },
        };
        self.world.engine.revoke(what, self.world.now);
        self.rules.push(rule);
        for (_, peer) in &mut self.peers {
            peer.revoked |= rule.refuses(&peer.credential);
        }
    }

    fn poll(&mut self) {
        let now = self.world.now;
        self.world.poll();
        for (id, peer) in &mut self.peers {
            let mut errors = 0;
            for kind in self.world.take(*id) {
                match kind {
                    EventKind::Close { refusal, .. } => {
                        assert!(peer.may_end(now), "{refusal:?} for {peer:?} at {now:?}");
                        assert!(refusal.reason != Reason::Revoked || peer.revoked || peer.was_orphan);
                        peer.ended = true;
                    }
                    EventKind::Send(text) if text.contains("\"error\"") => errors += 1,
                    EventKind::Send(_) | EventKind::PermissionsChanged(_) => {}
                    other => panic!("{other:?}"),
                }
            }
            assert!(errors <= 1);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, max_shrink_iters: 5_000, ..ProptestConfig::default() })]

    /// No message and no delivery is allowed on a call that begins after expiry by either clock, after a revocation
    /// returned, or beyond the permissions of the moment; and nothing else is denied.
    #[test]
    fn nothing_is_allowed_after_its_end(steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair::new();
        for step in &steps {
            pair.take(step);
            pair.note();
        }
        for place in 0..pair.peers.len() {
            for kind in Kind::ALL {
                pair.message(place, kind, false);
                pair.delivery(place, kind);
            }
        }
    }
}
