//! This file answers: how are the sections about messages and about the life of a connection read?

use super::fields::{Fields, expected, texts};
use super::known;
use super::place::{Place, shown};
use super::problem::Problem;
use super::tree::{Kind, Value};
use super::types::{
    AuditConfig, BruteForceConfig, CloseConfig, CloseProfile, ConnectionConfig, LimitsConfig, MessageConfig,
    RateConfig, RefreshConfig, RevocationConfig, RuleConfig, UserLimitPolicy,
};

/// Reads `[message]`.
pub(crate) fn message(fields: &Fields<'_>) -> Result<MessageConfig, Problem> {
    let default = MessageConfig::default();
    Ok(MessageConfig {
        type_field: fields.text("type_field")?.unwrap_or(default.type_field),
        binary_type: fields.text("binary")?.filter(|name| name != "deny"),
        max_bytes: fields.number("max_bytes")?.unwrap_or(default.max_bytes),
        max_depth: fields.number("max_depth")?.unwrap_or(default.max_depth),
    })
}

/// Reads `[messages]` or `[deliveries]`: a rule per type.
pub(crate) fn rules(fields: &Fields<'_>, known: &known::Known) -> Result<Vec<(String, RuleConfig)>, Problem> {
    fields.each().map(|(name, place, value)| Ok((name.to_owned(), rule(place, value, known)?))).collect()
}

fn rule(place: Place, value: &Value, known: &known::Known) -> Result<RuleConfig, Problem> {
    match &value.kind {
        Kind::String(_) | Kind::Array(_) => Ok(RuleConfig { permissions: texts(place, value)?, weight: 1 }),
        Kind::Table(_) => {
            let fields = Fields::open(place, value, known)?;
            let Some(permissions) = fields.texts("permissions")? else {
                return Err(fields.problem("permissions", "is missing: what the type needs, or \"public\""));
            };
            Ok(RuleConfig { permissions, weight: fields.number("weight")?.unwrap_or(1) })
        }
        _ => Err(expected(place, "a permission, a list of permissions, or a table with `permissions`", value)),
    }
}

/// Reads `[connection]`.
pub(crate) fn connection(fields: &Fields<'_>) -> Result<ConnectionConfig, Problem> {
    let default = ConnectionConfig::default();
    Ok(ConnectionConfig {
        idle_ms: fields.duration("idle")?.unwrap_or(default.idle_ms),
        max_age_ms: fields.duration("max_age")?.unwrap_or(default.max_age_ms),
        count_deliveries: fields.flag("count_deliveries")?.unwrap_or(default.count_deliveries),
        max_connections: fields.number("max_connections")?.unwrap_or(default.max_connections),
        max_unauthenticated: fields.number("max_unauthenticated")?.unwrap_or(default.max_unauthenticated),
        max_unauthenticated_per_address: fields
            .number("max_unauthenticated_per_address")?
            .unwrap_or(default.max_unauthenticated_per_address),
        shards: fields.number("shards")?.unwrap_or(default.shards),
    })
}

/// Reads `[refresh]`.
pub(crate) fn refresh(fields: &Fields<'_>) -> Result<RefreshConfig, Problem> {
    let default = RefreshConfig::default();
    let on_key_removed = [("refresh", false), ("close", true)];
    Ok(RefreshConfig {
        lead_ms: fields.duration("lead")?.unwrap_or(default.lead_ms),
        attempts: fields.number("attempts")?.unwrap_or(default.attempts),
        widen: fields.flag("widen")?.unwrap_or(default.widen),
        close_on_key_removed: fields.word("on_key_removed", &on_key_removed)?.unwrap_or(default.close_on_key_removed),
    })
}

/// Reads `[limits]`.
pub(crate) fn limits(fields: &Fields<'_>) -> Result<LimitsConfig, Problem> {
    let default = LimitsConfig::default();
    let policies = [("evict_oldest", UserLimitPolicy::EvictOldest), ("reject", UserLimitPolicy::Reject)];
    let per_address = fields.number("connections_per_address")?;
    Ok(LimitsConfig {
        connections_per_address: per_address.unwrap_or(default.connections_per_address),
        connections_per_user: fields.number("connections_per_user")?.unwrap_or(default.connections_per_user),
        user_policy: fields.word("user_policy", &policies)?.unwrap_or(default.user_policy),
        messages_per_user: rate(fields, "messages_per_user", default.messages_per_user)?,
        control_per_user: rate(fields, "control_per_user", default.control_per_user)?,
        strikes: fields.number("strikes")?.unwrap_or(default.strikes),
        ipv6_prefix: fields.number("ipv6_prefix")?.unwrap_or(default.ipv6_prefix),
        max_tracked: fields.number("max_tracked")?.unwrap_or(default.max_tracked),
    })
}

/// A rate names its count and its period; without `burst` a whole period's count may come at once.
fn rate(fields: &Fields<'_>, key: &str, default: RateConfig) -> Result<RateConfig, Problem> {
    let Some(value) = fields.find(key) else { return Ok(default) };
    let fields = Fields::open(fields.at(key), value, &known::RATE)?;
    let Some(count) = fields.number("count")? else {
        return Err(fields.problem("count", "is missing: how many per period"));
    };
    let Some(per_ms) = fields.duration("per")? else {
        return Err(fields.problem("per", "is missing: the period, such as \"1m\""));
    };
    Ok(RateConfig { count, per_ms, burst: fields.number("burst")?.unwrap_or(count) })
}

/// Reads `[brute_force]`.
pub(crate) fn brute_force(fields: &Fields<'_>) -> Result<BruteForceConfig, Problem> {
    let default = BruteForceConfig::default();
    let block_above = fields.number("block_above")?;
    if fields.has("block_for") && block_above.is_none() {
        return Err(fields.problem("block_for", "blocks nobody: blocking is off until `block_above` is written"));
    }
    Ok(BruteForceConfig {
        alert_above: fields.number("alert_above")?.unwrap_or(default.alert_above),
        window_ms: fields.duration("window")?.unwrap_or(default.window_ms),
        block_above,
        block_ms: fields.duration("block_for")?.unwrap_or(default.block_ms),
    })
}

/// Reads `[close]`.
pub(crate) fn close(fields: &Fields<'_>) -> Result<CloseConfig, Problem> {
    let default = CloseConfig::default();
    let profiles = [("default", CloseProfile::Default), ("graphql-ws", CloseProfile::GraphqlWs)];
    let own = fields.free_section("map")?;
    let mut map = Vec::new();
    for (code, place, _) in own.each() {
        let Ok(from) = code.parse::<u16>() else {
            return Err(Problem::new(place, format_args!("`{}` is no close code", shown(code))));
        };
        map.push((from, own.number(code)?.unwrap_or(0)));
    }
    Ok(CloseConfig { profile: fields.word("profile", &profiles)?.unwrap_or(default.profile), map })
}

/// Reads `[revocation]`.
pub(crate) fn revocation(fields: &Fields<'_>) -> Result<RevocationConfig, Problem> {
    let default = RevocationConfig::default();
    Ok(RevocationConfig { max_rules: fields.number("max_rules")?.unwrap_or(default.max_rules) })
}

/// Reads `[audit]`.
pub(crate) fn audit(fields: &Fields<'_>) -> Result<AuditConfig, Problem> {
    let default = AuditConfig::default();
    Ok(AuditConfig { max_events: fields.number("max_events")?.unwrap_or(default.max_events) })
}
