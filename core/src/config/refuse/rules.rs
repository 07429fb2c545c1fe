//! This file answers: does every rule about messages say something, and only about the application's own types?

use std::collections::BTreeSet;

use super::super::place::{Place, shown};
use super::super::problem::Problem;
use super::super::types::{Config, RuleConfig};

/// Types that control messages have, in either direction (RULES 20).
pub(crate) const RESERVED: [&str; 9] = [
    "auth",
    "token_refresh",
    "auth_success",
    "token_refresh_required",
    "token_refreshed",
    "token_refresh_failed",
    "permissions_changed",
    "rate_limited",
    "error",
];

const MAX_TYPES: usize = 1024;
const MAX_TYPE_BYTES: usize = 128;
const MAX_ANY_OF: usize = 16;
const MAX_SEGMENTS: usize = 16;

pub(crate) fn require_rules(config: &Config) -> Result<(), Problem> {
    if config.messages.len().saturating_add(config.deliveries.len()) > MAX_TYPES {
        let what = format!("at most {MAX_TYPES} types can be configured, together with [deliveries]");
        return Err(Problem::new(Place::top("messages"), what));
    }
    for (section, rules) in [("messages", &config.messages), ("deliveries", &config.deliveries)] {
        let mut seen = BTreeSet::new();
        for (name, rule) in rules {
            let place = Place::top(section).key(name);
            if !seen.insert(name.as_str()) {
                return Err(Problem::new(place, "written twice"));
            }
            require_type(&place, name)?;
            require_rule(&place, rule)?;
            let burst = config.limits.messages_per_user.burst;
            if rule.weight == 0 || (section == "messages" && rule.weight > burst) {
                let what = "must be from 1 to the burst of `limits.messages_per_user`, or the message could never pass";
                let weight = rule.weight;
                return Err(Problem::new(place.key("weight"), format_args!("{what}: {burst}, but is {weight}")));
            }
        }
    }
    require_message(config)
}

fn require_message(config: &Config) -> Result<(), Problem> {
    let at = |key: &str| Place::top("message").key(key);
    let field = &config.message.type_field;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.$@".contains(&byte);
    if field.is_empty() || field.len() > 64 || !field.bytes().all(plain) {
        return Err(Problem::new(at("type_field"), "must be 1 to 64 letters, digits, `_`, `-`, `.`, `$` or `@`"));
    }
    if field == "token" {
        return Err(Problem::new(at("type_field"), "`token` is the field that carries the token of a control message"));
    }
    let Some(binary) = &config.message.binary_type else { return Ok(()) };
    let Some((_, rule)) = config.messages.iter().find(|(name, _)| name == binary) else {
        let what = format!("`{}` is no type of [messages], and what is not listed is denied", shown(binary));
        return Err(Problem::new(at("binary"), what));
    };
    if rule.permissions.iter().any(|permission| permission.contains('{') && !only_subject(permission)) {
        let what = format!("the rule of `{}` is filled from fields, which a binary frame has not", shown(binary));
        return Err(Problem::new(at("binary"), what));
    }
    Ok(())
}

fn require_type(place: &Place, name: &str) -> Result<(), Problem> {
    if RESERVED.contains(&name) {
        let what = "is reserved for control messages, which never reach the application";
        return Err(Problem::new(place.clone(), what));
    }
    if name.is_empty() || name.len() > MAX_TYPE_BYTES {
        return Err(Problem::new(place.clone(), format_args!("a type has 1 to {MAX_TYPE_BYTES} bytes")));
    }
    if name.chars().any(char::is_control) {
        return Err(Problem::new(place.clone(), "a type holds no control characters"));
    }
    Ok(())
}

fn require_rule(place: &Place, rule: &RuleConfig) -> Result<(), Problem> {
    if rule.permissions.is_empty() {
        let what = "names no permission: leave the type out to deny it, or write \"public\"";
        return Err(Problem::new(place.clone(), what));
    }
    if rule.permissions.len() > MAX_ANY_OF {
        return Err(Problem::new(place.clone(), format_args!("names more than {MAX_ANY_OF} permissions")));
    }
    if rule.is_public() {
        return Ok(());
    }
    for permission in &rule.permissions {
        if permission == "public" {
            let what =
                "lists \"public\" beside other permissions: any of them is enough, so the others would mean nothing";
            return Err(Problem::new(place.clone(), what));
        }
        require_permission(place.clone(), permission, true)?;
    }
    Ok(())
}

/// The grammar of a permission that is asked for (RULES 22): segments split at `:`, each literal, `{field}` where
/// `fields` allows it, or `{@sub}`. Wildcards are for what a peer holds.
pub(crate) fn require_permission(place: Place, text: &str, fields: bool) -> Result<(), Problem> {
    let refuse = |what: &str| Err(Problem::new(place.clone(), format_args!("`{}` {what}", shown(text))));
    for (index, segment) in text.split(':').enumerate() {
        if index >= MAX_SEGMENTS {
            return refuse("has more than 16 segments");
        }
        let braced = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        match braced {
            Some("@sub") => {}
            Some(_) if !fields => return refuse("is filled from a message, and a handshake has none"),
            Some(name) => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-$".contains(&byte);
                if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
                    return refuse("has a field that is not `@sub` and not 1 to 128 letters, digits, `_`, `-` or `$`");
                }
            }
            None if segment.is_empty() => return refuse("has an empty segment"),
            None if segment == "*" || segment == "**" => {
                return refuse("asks for a wildcard: wildcards are what a peer may hold, a rule names what it needs");
            }
            None if segment.contains(['{', '}']) => {
                return refuse("has a field that does not fill its whole segment");
            }
            None => {
                let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~@/+-".contains(&byte);
                if segment.len() > 128 || !segment.bytes().all(plain) {
                    return refuse("has a segment that is not 1 to 128 letters, digits or `._~@/+-`");
                }
            }
        }
    }
    Ok(())
}

fn only_subject(permission: &str) -> bool {
    permission.split(':').all(|segment| !segment.starts_with('{') || segment == "{@sub}")
}
