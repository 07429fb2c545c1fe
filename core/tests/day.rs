//! This file answers: does a whole day of ten thousand connections end with nothing late and nothing left?
//!
//! A server that sleeps until its next deadline or its next visitor, on a clock of the test's own.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::panic,
    reason = "a test that panics fails, as it should"
)]

mod shared;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use serde_json::{Value as Json, json};
use shared::world::World;
use shared::{ISSUER, Request, config};
use wsauth::audit::AuditKind;
use wsauth::{ConnectionId, Event, EventKind, Reason, Revocation, Withheld};

const VISITORS: u64 = 10_000;
const DAY: u64 = 86_400_000;
const LIFE: u64 = 2_400;
const IDLE: u64 = 3_600_000;

/// What a visitor does with its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// Renews its token whenever asked, and leaves when it has stayed long enough.
    Faithful { stays: u64 },
    /// Never renews.
    Lazy,
    /// Says nothing at all, on a token of many hours.
    Silent,
    /// Sends too much.
    Flood,
    /// Is revoked by somebody, by its token, its session or itself.
    Cut { after: u64 },
    /// Sends junk all the time, and does not renew.
    Junk,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Plan {
    Arrive(u64),
    Leave(u64),
    Renew(u64),
    Flood(u64),
    Cut(u64),
    Junk(u64),
    Reload(u64),
}

struct Visitor {
    id: ConnectionId,
    habit: Habit,
    /// When its token is over, in monotonic milliseconds.
    over: u64,
    came: u64,
    renewals: u64,
    junk: u64,
    events: u64,
    ended: Option<Reason>,
}

struct Day {
    world: World,
    plans: BinaryHeap<Reverse<(u64, Plan)>>,
    visitors: HashMap<u64, Visitor>,
    by_id: HashMap<ConnectionId, u64>,
    random: u64,
    ends: HashMap<&'static str, u64>,
    audited: HashMap<AuditKind, u64>,
}

fn rules(number: u64) -> Json {
    config(json!({
        "connection": { "idle": "1h", "max_age": "30d" },
        "messages": { "ping": "public", "extra": if number.is_multiple_of(2) { "p:a" } else { "p:b" } },
        "limits": { "messages_per_user": { "count": 10, "per": "60s", "burst": 10 }, "strikes": 50 },
    }))
}

impl Day {
    fn dice(&mut self, below: u64) -> u64 {
        // xorshift64*: the same day every time.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % below
    }

    fn plan(&mut self, after: u64, plan: Plan) {
        self.plans.push(Reverse((self.world.now.mono.0 + after, plan)));
    }

    fn arrive(&mut self, number: u64) {
        let habit = match self.dice(10) {
            0..=3 => Habit::Faithful { stays: 60_000 + self.dice(10_800_000) },
            4 | 5 => Habit::Lazy,
            6 => Habit::Silent,
            7 => Habit::Flood,
            8 => Habit::Cut { after: self.dice(LIFE * 1000 - 400_000) },
            _ => Habit::Junk,
        };
        let life = if habit == Habit::Silent { 36_000 } else { LIFE };
        let token = self.token(number, life, 0);
        let [_, b, c, d] = u32::try_from(number).unwrap().to_be_bytes();
        let request = Request::new().bearer(&token).from(&format!("10.{b}.{c}.{d}"));
        let id = request.send(&self.world.engine, self.world.now).unwrap().connection;
        let came = self.world.now.mono.0;
        match habit {
            Habit::Faithful { stays } => self.plan(stays, Plan::Leave(number)),
            Habit::Flood => {
                let after = self.dice(1_000_000);
                self.plan(after, Plan::Flood(number));
            }
            Habit::Cut { after } => self.plan(after, Plan::Cut(number)),
            Habit::Junk => self.plan(700, Plan::Junk(number)),
            Habit::Lazy | Habit::Silent => {}
        }
        let over = came + life * 1000 - self.world.now.wall.0 % 1000;
        let visitor = Visitor { id, habit, over, came, renewals: 0, junk: 0, events: 0, ended: None };
        self.visitors.insert(number, visitor);
        self.by_id.insert(id, number);
    }

    fn token(&self, number: u64, life: u64, renewal: u64) -> String {
        let more = json!({ "jti": format!("t{number}.{renewal}"), "sid": format!("s{number}") });
        self.world.token(&format!("u{number}"), life, more)
    }

    fn carry_out(&mut self, plan: Plan) {
        let now = self.world.now;
        match plan {
            Plan::Arrive(number) => self.arrive(number),
            Plan::Reload(number) => self.world.reload(&rules(number)).unwrap(),
            Plan::Leave(number) => {
                if let Some(visitor) = self.visitors.remove(&number) {
                    assert_eq!(visitor.ended, None);
                    self.by_id.remove(&visitor.id);
                    assert!(self.world.engine.closed(visitor.id, now));
                    *self.ends.entry("left").or_default() += 1;
                }
            }
            Plan::Renew(number) => {
                let Some(visitor) = self.visitors.get(&number) else { return };
                let (id, renewal) = (visitor.id, visitor.renewals + 1);
                let token = self.token(number, LIFE, renewal);
                let message = json!({ "type": "token_refresh", "token": token }).to_string();
                assert_eq!(self.world.say(id, &message), Err(Withheld::Consumed));
                let over = now.mono.0 + LIFE * 1000 - now.wall.0 % 1000;
                let visitor = self.visitors.get_mut(&number).unwrap();
                visitor.renewals = renewal;
                visitor.over = over;
            }
            Plan::Flood(number) => {
                let id = self.visitors[&number].id;
                let outcomes: Vec<_> = (0..100).map(|_| self.world.say(id, r#"{"type":"ping"}"#)).collect();
                assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 10);
                let closed = outcomes.iter().position(|outcome| matches!(outcome, Err(Withheld::Close(_))));
                assert_eq!(closed, Some(59), "ten pass, the fiftieth strike ends it");
            }
            Plan::Cut(number) => {
                let visitor = &self.visitors[&number];
                let (token, session) = (format!("t{number}.0"), format!("s{number}"));
                let what = match number % 3 {
                    0 => Revocation::Connection(visitor.id),
                    1 => Revocation::Token { issuer: ISSUER, token_id: &token },
                    _ => Revocation::Session { issuer: ISSUER, session_id: &session },
                };
                assert_eq!(self.world.engine.revoke(what, now).closed, 1);
                assert!(!self.world.may_say(self.visitors[&number].id, "ping"));
            }
            Plan::Junk(number) => {
                if let Some(visitor) = self.visitors.get_mut(&number) {
                    visitor.junk += 1;
                    let id = visitor.id;
                    // The second within its second is only counted, which must put nothing off.
                    assert!(!self.world.may_say(id, "unknown"));
                    assert!(!self.world.may_say(id, "unknown"));
                    self.plan(97_300, Plan::Junk(number));
                }
            }
        }
    }

    fn poll(&mut self, events: &mut Vec<Event>) {
        loop {
            events.clear();
            let polled = self.world.engine.poll(0, self.world.now, 256, events).unwrap();
            for event in &*events {
                self.hear(event);
            }
            if !polled.more {
                break;
            }
        }
    }

    fn hear(&mut self, event: &Event) {
        let now = self.world.now;
        let number = self.by_id[&event.connection];
        let visitor = self.visitors.get_mut(&number).unwrap();
        visitor.events += 1;
        match &event.kind {
            EventKind::Send(text) if text.contains("token_refresh_required") => {
                let lead = 300_000;
                let left = visitor.over - now.mono.0;
                assert!((lead..=lead + lead / 10).contains(&left), "asked {left} ms before the end");
                if matches!(visitor.habit, Habit::Faithful { .. }) {
                    let after = self.dice(290_000);
                    self.plan(after, Plan::Renew(number));
                }
            }
            EventKind::Send(_) => {}
            EventKind::Close { refusal, code } => {
                let (reason, at) = (refusal.reason, now.mono.0);
                match visitor.habit {
                    Habit::Lazy => assert_eq!((reason, *code, at), (Reason::RefreshTimeout, 4005, visitor.over)),
                    Habit::Silent => assert_eq!((reason, *code, at), (Reason::Inactive, 4003, visitor.came + IDLE)),
                    Habit::Flood => assert_eq!((reason, *code), (Reason::MessageRate, 4008)),
                    Habit::Cut { after } => {
                        assert_eq!((reason, *code, at), (Reason::Revoked, 4006, visitor.came + after));
                    }
                    Habit::Junk => assert_eq!((reason, *code, at), (Reason::RefreshTimeout, 4005, visitor.over)),
                    Habit::Faithful { .. } => panic!("{reason:?} for one that renewed"),
                }
                assert_eq!(visitor.ended.replace(reason), None, "told once");
                // At most: who it is, and for each ask, renewal, junk and flood one or two texts, and the end.
                let most = 3 + 2 * (visitor.renewals + 1) + 2 * visitor.junk;
                assert!(visitor.events <= most, "{} events, {:?}", visitor.events, visitor.habit);
                let id = visitor.id;
                self.visitors.remove(&number);
                self.by_id.remove(&id);
                assert!(self.world.engine.closed(id, now));
                *self.ends.entry(reason.name()).or_default() += 1;
            }
            other => panic!("{other:?}"),
        }
    }

    fn audit(&mut self) {
        for event in self.world.audit() {
            *self.audited.entry(event.kind).or_default() += 1;
        }
    }
}

#[test]
fn a_day_of_ten_thousand_connections_is_accounted_for() {
    let mut day = Day {
        world: World::of(&rules(0)),
        plans: BinaryHeap::new(),
        visitors: HashMap::new(),
        by_id: HashMap::new(),
        random: 0x9e37_79b9_7f4a_7c15,
        ends: HashMap::new(),
        audited: HashMap::new(),
    };
    for number in 0..VISITORS {
        let after = day.dice(DAY);
        day.plan(after, Plan::Arrive(number));
    }
    (1..8).for_each(|number| day.plan(number * DAY / 8, Plan::Reload(number)));

    let mut events = Vec::new();
    let (mut polls, mut most) = (0u64, 0);
    loop {
        let plan = day.plans.peek().map(|Reverse((at, _))| *at);
        let deadline = day.world.engine.next_deadline(0).map(|deadline| deadline.0);
        let Some(next) = plan.into_iter().chain(deadline).min() else { break };
        let pause = next.saturating_sub(day.world.now.mono.0);
        day.world.advance_ms(pause);
        day.poll(&mut events);
        while day.plans.peek().is_some_and(|Reverse((at, _))| *at <= next) {
            let Some(Reverse((_, plan))) = day.plans.pop() else { break };
            day.carry_out(plan);
        }
        day.poll(&mut events);
        day.audit();
        polls += 1;
        most = most.max(day.visitors.len());
    }

    assert_eq!(day.ends.values().sum::<u64>(), VISITORS, "{:?}", day.ends);
    assert!(day.visitors.is_empty() && day.by_id.is_empty());
    assert!(["left", "refresh_timeout", "inactive", "message_rate", "revoked"].iter().all(|end| day.ends[end] > 500));
    assert_eq!(day.ends.len(), 5);
    assert!(most > 100, "they overlap");
    assert!(polls < 4_000_000);

    events.clear();
    let polled = day.world.engine.poll(0, day.world.now, 100, &mut events).unwrap();
    assert_eq!(
        (events.len(), polled.more, polled.next_deadline),
        (0, false, None),
        "nothing is owed and nothing is due"
    );
    for gauge in
        ["wsauth_connections", "wsauth_tracked_addresses", "wsauth_audit_waiting", "wsauth_audit_dropped_total"]
    {
        assert_eq!(day.world.metric(gauge), 0, "{gauge}");
    }
    let audited = |kind| day.audited.get(&kind).copied().unwrap_or(0);
    assert_eq!(audited(AuditKind::HandshakeAccepted), VISITORS);
    assert_eq!(audited(AuditKind::Closed), VISITORS);
    assert_eq!(audited(AuditKind::Revoked), day.ends["revoked"]);
    assert_eq!(audited(AuditKind::Reloaded), 7);
    assert_eq!(audited(AuditKind::ConnectionLeaked), 0);
    assert!(audited(AuditKind::Refreshed) > 1_000);
}
