//! This file answers: a deadline came; what must the server do?
//!
//! One entry a connection stands in the wheel, at its nearest deadline. Activity only writes a time; when the
//! entry fires it is looked at again and filed anew.

use crate::connection::{Cold, ConnectionId, Guard, State};
use crate::decision::Reason;
use crate::engine::Engine;
use crate::flow::{answer, close, report};
use crate::rules::Rules;
use crate::time::{MonoTime, Now};

/// A source that did not answer is asked again after this long, in milliseconds.
const REASK_MS: u64 = 5_000;

/// Does what is due for one connection and files it anew.
pub(crate) fn serve(engine: &Engine, rules: &Rules, id: ConnectionId, now: Now) {
    let Some(slot) = engine.table.find(id) else { return };
    let decided = {
        let Some(mut guard) = slot.lock(id) else { return };
        let state = guard.state();
        report::refusals_due(engine, id, &mut guard, now);
        if let Some(reason) = due_reason(&guard, state, slot.record().last_activity(), rules, now) {
            close::close(engine, id, &mut guard, reason.into(), now);
        } else if state == State::Live {
            ask_for_refresh(engine, rules, id, &mut guard, now);
        }
        match guard.terminal {
            Some(terminal) => terminal.decided,
            None => {
                file(engine, rules, id, &guard);
                return;
            }
        }
    };
    if !close::reclaim_leaked(engine, id, decided, now) {
        engine.schedule(id, decided.plus(close::LEAK_MS));
    }
}

/// Why a connection must end now, if it must; of several reasons the first of RULES 27.
pub(crate) fn due_reason(cold: &Cold, state: State, activity: MonoTime, rules: &Rules, now: Now) -> Option<Reason> {
    let life = &rules.config.connection;
    match state {
        State::Live => {
            if cold.is_over(now) {
                return Some(expiry_reason(cold));
            }
            if cold.refresh.asked && now.mono >= cold.timetable.deadline && !vouched_by_source(cold) {
                return Some(expiry_reason(cold));
            }
            if now.mono.since(cold.opened) >= life.max_age_ms {
                return Some(Reason::MaxAge);
            }
            (now.mono.since(activity) >= life.idle_ms).then_some(Reason::Inactive)
        }
        State::Authenticating if now.mono >= cold.authenticate_by => Some(Reason::AuthenticationUnavailable),
        State::AwaitingAuth if now.mono >= cold.authenticate_by => Some(Reason::AuthenticationTimeout),
        _ => None,
    }
}

/// What a connection that ran out of time is told (RULES 27, 29).
pub(crate) fn expiry_reason(cold: &Cold) -> Reason {
    if cold.refresh.refused_since_ask {
        Reason::RefreshFailed
    } else if cold.refresh.unavailable {
        Reason::AuthenticationUnavailable
    } else if cold.refresh.asked && !vouched_by_source(cold) {
        Reason::RefreshTimeout
    } else {
        Reason::Expired
    }
}

/// When a connection must be looked at again. Never later than the first thing due.
pub(crate) fn next_deadline(cold: &Cold, state: State, activity: MonoTime, rules: &Rules) -> MonoTime {
    let life = &rules.config.connection;
    match state {
        State::Live => {
            let refresh = if cold.refresh.asked { cold.timetable.deadline } else { cold.timetable.ask_at };
            let told = cold.refusals.next_due().into_iter().chain(cold.delivery_refusals.next_due()).min();
            cold.timetable
                .expiry
                .min(refresh)
                .min(cold.opened.plus(life.max_age_ms))
                .min(activity.plus(life.idle_ms))
                .min(told.unwrap_or(MonoTime::NEVER))
        }
        State::Admitting | State::Authenticating | State::AwaitingAuth => cold.authenticate_by,
        State::Closing => cold.terminal.map_or(MonoTime::NEVER, |terminal| terminal.decided.plus(close::LEAK_MS)),
        State::Free => MonoTime::NEVER,
    }
}

/// Files a connection at the nearest thing due.
pub(crate) fn file(engine: &Engine, rules: &Rules, id: ConnectionId, guard: &Guard<'_, Box<Cold>>) {
    engine.schedule(id, next_deadline(guard, guard.state(), guard.record().last_activity(), rules));
}

/// Whether the credential has no token at the client's hand: its source is asked instead (RULES 29).
pub(crate) fn vouched_by_source(cold: &Cold) -> bool {
    cold.reask.is_some()
}

fn ask_for_refresh(engine: &Engine, rules: &Rules, id: ConnectionId, guard: &mut Guard<'_, Box<Cold>>, now: Now) {
    if guard.refresh.asked || now.mono < guard.timetable.ask_at {
        return;
    }
    if vouched_by_source(guard) {
        answer::ask_source_again(engine, rules, id, guard, now);
        // Until it answers: a source that never does is as unavailable as one that says so.
        guard.refresh.unavailable = true;
        // Asked again later if no answer comes; at expiry nothing waits.
        guard.timetable.ask_at = now.mono.plus(REASK_MS).min(guard.timetable.expiry);
        return;
    }
    guard.refresh.asked = true;
    guard.pending.refresh_asked = true;
    engine.enqueue(id, guard);
    report::refresh_asked(engine, id, guard, now);
}
