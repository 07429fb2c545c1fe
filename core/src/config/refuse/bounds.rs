//! This file answers: what are the least and the most of every number?
//!
//! The most is the bound of R37 where it names one: operators may lower those and never raise them, since
//! memory and the cost of one handshake are calculated with them.

use std::fmt;

use super::super::defaults::{DAY, HOUR, MINUTE, SECOND};
use super::super::place::Place;
use super::super::problem::Problem;
use super::super::types::{Config, KeysConfig, RateConfig};

/// How a number is shown.
#[derive(Clone, Copy)]
enum Unit {
    Plain,
    Bytes,
    Time,
}

/// Refuses the first number that is out of its bounds. No limit can be zero: that would mean `off`.
pub(crate) fn require_bounds(config: &Config) -> Result<(), Problem> {
    use Unit::{Bytes, Plain, Time};
    for (index, issuer) in config.issuers.iter().enumerate() {
        let place = Place::top("issuer").index(index);
        require_within(place.key("max_lifetime"), issuer.max_lifetime_ms, SECOND, 36_600 * DAY, Time)?;
        require_within(place.key("leeway"), issuer.leeway_ms, 0, 300 * SECOND, Time)?;
        require_within(place.key("expiry_leeway"), issuer.expiry_leeway_ms, 0, 300 * SECOND, Time)?;
        if let KeysConfig::Remote(remote) = &issuer.keys {
            let place = place.key("keys");
            require_within(place.key("refresh"), remote.refresh_ms, 30 * SECOND, DAY, Time)?;
            require_within(place.key("max_stale"), remote.max_stale_ms, remote.refresh_ms, DAY, Time)?;
        }
        if let Some(introspection) = &issuer.introspection {
            let place = place.key("introspection");
            require_within(place.key("cache"), introspection.cache_ms, SECOND, 60 * SECOND, Time)?;
            require_within(place.key("negative_cache"), introspection.negative_cache_ms, 0, 10 * SECOND, Time)?;
            require_within(place.key("recheck"), introspection.recheck_ms, SECOND, HOUR, Time)?;
        }
    }
    if let Some(profile) = &config.profile {
        require_within(Place::top("profile").key("cache"), profile.cache_ms, SECOND, HOUR, Time)?;
    }
    let handshake = &config.handshake;
    let lookups = &config.lookups;
    let connection = &config.connection;
    let limits = &config.limits;
    let brute_force = &config.brute_force;
    let waiting = wide(connection.max_unauthenticated);
    let table: [(&str, &str, u64, u64, u64, Unit); 34] = [
        ("handshake", "authentication_deadline", handshake.authentication_deadline_ms, SECOND, MINUTE, Time),
        ("handshake", "lookup_deadline", handshake.lookup_deadline_ms, 100, 5 * SECOND, Time),
        ("handshake", "max_token_bytes", wide(handshake.max_token_bytes), 256, 16 << 10, Bytes),
        ("handshake", "max_fields", wide(handshake.max_fields), 8, 128, Plain),
        ("handshake", "max_field_bytes", wide(handshake.max_field_bytes), 256, 24 << 10, Bytes),
        ("handshake", "max_fields_bytes", wide(handshake.max_fields_bytes), 1 << 10, 64 << 10, Bytes),
        ("lookups", "workers", wide(lookups.workers), 1, 64, Plain),
        ("lookups", "queue", wide(lookups.queue), 1, 10_000, Plain),
        ("lookups", "connect_timeout", lookups.connect_ms, 50, 2 * SECOND, Time),
        ("lookups", "timeout", lookups.total_ms, 50, 2 * SECOND, Time),
        ("lookups", "breaker_failures", u64::from(lookups.breaker_failures), 1, 1_000, Plain),
        ("lookups", "breaker_open", lookups.breaker_ms, SECOND, HOUR, Time),
        ("message", "max_bytes", wide(config.message.max_bytes), 1, 16 << 20, Bytes),
        ("message", "max_depth", wide(config.message.max_depth), 1, 32, Plain),
        ("connection", "idle", connection.idle_ms, SECOND, 7 * DAY, Time),
        ("connection", "max_age", connection.max_age_ms, SECOND, 30 * DAY, Time),
        ("connection", "max_connections", wide(connection.max_connections), 1, 1 << 20, Plain),
        ("connection", "max_unauthenticated", waiting, 1, 1000, Plain),
        (
            "connection",
            "max_unauthenticated_per_address",
            wide(connection.max_unauthenticated_per_address),
            1,
            waiting,
            Plain,
        ),
        ("connection", "shards", wide(connection.shards), 1, 256, Plain),
        ("refresh", "lead", config.refresh.lead_ms, SECOND, HOUR, Time),
        ("refresh", "attempts", u64::from(config.refresh.attempts), 1, 10, Plain),
        ("limits", "connections_per_address", u64::from(limits.connections_per_address), 1, 1 << 20, Plain),
        ("limits", "connections_per_user", u64::from(limits.connections_per_user), 1, 1 << 20, Plain),
        ("limits", "strikes", u64::from(limits.strikes), 1, 10_000, Plain),
        ("limits", "ipv6_prefix", u64::from(limits.ipv6_prefix), 32, 128, Plain),
        ("limits", "max_tracked", wide(limits.max_tracked), 1, 1 << 20, Plain),
        ("brute_force", "alert_above", u64::from(brute_force.alert_above), 1, 1_000_000, Plain),
        ("brute_force", "window", brute_force.window_ms, SECOND, DAY, Time),
        ("brute_force", "block_above", u64::from(brute_force.block_above.unwrap_or(1)), 1, 1_000_000, Plain),
        ("brute_force", "block_for", brute_force.block_ms, SECOND, DAY, Time),
        ("revocation", "max_rules", wide(config.revocation.max_rules), 1, 1 << 20, Plain),
        ("audit", "max_events", wide(config.audit.max_events), 1, 65_536, Plain),
        // A field must be able to hold the longest token it may carry.
        (
            "handshake",
            "max_fields_bytes",
            wide(handshake.max_fields_bytes),
            wide(handshake.max_field_bytes),
            64 << 10,
            Bytes,
        ),
    ];
    for (section, key, value, least, most, unit) in table {
        require_within(Place::top(section).key(key), value, least, most, unit)?;
    }
    if handshake.max_token_bytes > handshake.max_field_bytes {
        let what = "is longer than `max_field_bytes`, the field that carries it";
        return Err(Problem::new(Place::top("handshake").key("max_token_bytes"), what));
    }
    require_rate("messages_per_user", limits.messages_per_user)?;
    require_rate("control_per_user", limits.control_per_user)
}

fn require_rate(key: &str, rate: RateConfig) -> Result<(), Problem> {
    let place = Place::top("limits").key(key);
    require_within(place.key("count"), u64::from(rate.count), 1, 1_000_000, Unit::Plain)?;
    require_within(place.key("per"), rate.per_ms, SECOND, DAY, Unit::Time)?;
    require_within(place.key("burst"), u64::from(rate.burst), 1, 1_000_000, Unit::Plain)
}

fn require_within(place: Place, value: u64, least: u64, most: u64, unit: Unit) -> Result<(), Problem> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let shown = |number| Shown { number, unit };
    let what = format!("must be from {} to {}, but is {}", shown(least), shown(most), shown(value));
    Err(Problem::new(place, what))
}

struct Shown {
    number: u64,
    unit: Unit,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps: &[(u64, &str)] = match self.unit {
            Unit::Plain => &[],
            Unit::Bytes => &[(1 << 20, " MiB"), (1 << 10, " KiB"), (1, " bytes")],
            Unit::Time => &[(DAY, "d"), (HOUR, "h"), (MINUTE, "m"), (SECOND, "s"), (1, "ms")],
        };
        for (size, name) in steps {
            // The coarsest unit that says it exactly.
            if self.number >= *size && self.number.checked_rem(*size) == Some(0) {
                return write!(f, "{}{name}", self.number.checked_div(*size).unwrap_or(0));
            }
        }
        write!(f, "{}", self.number)
    }
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_in_their_coarsest_exact_unit() {
        let cases = [
            (Unit::Time, 300_000, "5m"),
            (Unit::Time, 301_000, "301s"),
            (Unit::Time, 1, "1ms"),
            (Unit::Time, 0, "0"),
            (Unit::Time, 7 * DAY, "7d"),
            (Unit::Bytes, 16 << 10, "16 KiB"),
            (Unit::Bytes, 100, "100 bytes"),
            (Unit::Plain, 1 << 20, "1048576"),
        ];
        for (unit, number, text) in cases {
            assert_eq!(Shown { number, unit }.to_string(), text);
        }
    }
}
