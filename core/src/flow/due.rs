//! This file answers: a deadline came; what must the server do?
//!
//! One entry a connection stands in the wheel, at its nearest deadline. Activity only writes a time; when the
//! entry fires it is looked at again and filed anew.

use crate::connection::{Cold, ConnectionId, Guard, State};
use crate::decision::{Reason, Refusal};
use crate::engine::Engine;
use crate::flow::{answer, close, enrich, introspect, refresh, report};
use crate::rules::Rules;
use crate::time::{MonoTime, Now};

/// A source that did not answer is asked again after this long, in milliseconds.
pub(crate) const REASK_MS: u64 = 5_000;

/// Does what is due for one connection and files it anew.
pub(crate) fn serve(engine: &Engine, rules: &Rules, id: ConnectionId, now: Now) {
    enrich::give_up(engine, rules, id, now);
    let Some(slot) = engine.table.find(id) else { return };
    let decided = {
        let Some(mut guard) = slot.lock(id) else { return };
        let state = guard.state();
        report::refusals_due(engine, id, &mut guard, now);
        if let Some(reason) = due_reason(&guard, state, slot.record().last_activity(), rules, now) {
            close::close(engine, id, &mut guard, reason.into(), now);
        } else if state == State::Live {
            give_up_waiting(engine, rules, id, &mut guard, now);
            ask_for_refresh(engine, rules, id, &mut guard, now);
        }
        match guard.terminal {
            Some(terminal) => terminal.decided,
            None => {
                file(engine, rules, &guard);
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
        // `Admitting` lasts only as long as a call, unless that call died.
        State::Admitting | State::Authenticating if now.mono >= cold.authenticate_by => {
            Some(Reason::AuthenticationUnavailable)
        }
        // Its question is over and its answer would be too late: there is nothing to wait for.
        State::Authenticating if cold.credential.as_ref().is_some_and(|asked| now.mono >= asked.until) => {
            Some(Reason::SourceUnavailable)
        }
        State::AwaitingAuth if now.mono >= cold.authenticate_by => Some(Reason::AuthenticationTimeout),
        _ => None,
    }
}

/// What a connection that ran out of time is told (RULES 27, 29).
pub(crate) fn expiry_reason(cold: &Cold) -> Reason {
    if cold.refresh.asked && cold.refresh.refused > 0 {
        Reason::RefreshFailed
    } else if cold.refresh.unavailable {
        Reason::AuthenticationUnavailable
    } else if cold.refresh.asked && !vouched_by_source(cold) {
        Reason::RefreshTimeout
    } else {
        Reason::Expired
    }
}

/// Files a connection at its nearest deadline, in place of the one it had. Its lock is held meanwhile.
pub(crate) fn file(engine: &Engine, rules: &Rules, guard: &Guard<'_, Box<Cold>>) {
    let activity = guard.record().last_activity();
    engine.schedule(guard.id(), next_deadline(guard, guard.state(), activity, rules));
}

/// When a connection must be looked at again. Never later than the first thing due.
pub(crate) fn next_deadline(cold: &Cold, state: State, activity: MonoTime, rules: &Rules) -> MonoTime {
    let life = &rules.config.connection;
    let untold = cold.refusals.due_at().min(cold.delivery_refusals.due_at());
    let deadline = match state {
        State::Live => {
            let refresh = if cold.refresh.asked { cold.timetable.deadline } else { cold.timetable.ask_at };
            let answer = cold.credential.as_ref().map_or(MonoTime::NEVER, |credential| credential.until);
            let end = cold.opened.plus(life.max_age_ms).min(activity.plus(life.idle_ms));
            cold.timetable.expiry.min(refresh).min(answer).min(end)
        }
        State::Authenticating => {
            let asked = cold.credential.as_ref().map_or(MonoTime::NEVER, |credential| credential.until);
            cold.authenticate_by.min(asked)
        }
        State::Admitting | State::AwaitingAuth => cold.authenticate_by,
        State::Closing => cold.terminal.map_or(MonoTime::NEVER, |terminal| terminal.decided.plus(close::LEAK_MS)),
        State::Free => return MonoTime::NEVER,
    };
    let profile = cold.enriching.as_ref().map_or(MonoTime::NEVER, |waiting| waiting.until);
    deadline.min(untold).min(profile)
}

/// Whether the credential has no token at the client's hand: its source is asked instead (RULES 29).
pub(crate) fn vouched_by_source(cold: &Cold) -> bool {
    cold.reask.is_some()
}

/// Nobody could say in time whether the new token is good: the client hears it, and no attempt is counted.
fn give_up_waiting(engine: &Engine, rules: &Rules, id: ConnectionId, guard: &mut Guard<'_, Box<Cold>>, now: Now) {
    if guard.credential.take_if(|credential| now.mono >= credential.until).is_some() {
        refresh::refuse(engine, rules, id, guard, Refusal::after(Reason::SourceUnavailable, 1_000), now);
    }
}

fn ask_for_refresh(engine: &Engine, rules: &Rules, id: ConnectionId, guard: &mut Guard<'_, Box<Cold>>, now: Now) {
    if guard.refresh.asked || now.mono < guard.timetable.ask_at {
        return;
    }
    if vouched_by_source(guard) {
        if let Some((word, judged)) = introspect::find_news(engine, rules, guard, now) {
            answer::settle_reask(engine, rules, id, guard, word, judged, now);
            return;
        }
        let _ = answer::ask_source_again(engine, rules, id, guard, now);
        // Until it answers: at expiry that is why (RULES 29).
        guard.refresh.unavailable = true;
        // Asked again later if no answer comes; at expiry nothing waits.
        guard.timetable.ask_at = now.mono.plus(REASK_MS).min(guard.timetable.expiry);
        return;
    }
    ask_client(engine, guard, now);
}

/// Asks the client for a new token. Attempts are counted from here (RULES 27).
pub(crate) fn ask_client(engine: &Engine, guard: &mut Guard<'_, Box<Cold>>, now: Now) {
    if !guard.refresh.asked {
        guard.refresh.refused = 0;
    }
    guard.refresh.asked = true;
    guard.pending.refresh_asked = true;
    let id = guard.id();
    engine.enqueue(id, guard);
    report::refresh_asked(engine, id, guard, now);
}
