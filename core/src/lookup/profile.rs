//! This file answers: what may the profile of a verified subject add, and what does its source say?
//!
//! Only what the configuration lists, and only beside what was verified: no profile says who somebody is, or until
//! when.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::config::ProfileConfig;
use crate::identity::{Identity, MAX_PERMISSIONS};
use crate::lookup::{Answer, HttpResponse};
use crate::policy::Permission;
use crate::token::json::{Bounds, parse_object};

/// Longest answer, and most of it that is kept, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Longest attribute as JSON, in bytes.
const MAX_ATTRIBUTE_BYTES: usize = 1024;
/// Longest permission, in bytes.
const MAX_PERMISSION_BYTES: usize = 1024;
/// Deepest nesting of an attribute.
const MAX_DEPTH: usize = 16;
/// What an answer may hold at all.
const BOUNDS: Bounds = Bounds { depth: 32, members: 4096 };

/// What a source adds to a verified identity. Holds nothing that the configuration did not allow when it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Profile {
    permissions: Vec<Arc<str>>,
    attributes: Map<String, Value>,
}

/// Why there is no profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoProfile {
    /// The subject is disabled.
    Disabled,
    /// It could not be had, or not in a way that can be trusted.
    Unavailable {
        /// When another try may work, in milliseconds.
        retry_after_ms: Option<u32>,
        /// What was wrong, for the operator.
        detail: &'static str,
    },
}

impl NoProfile {
    /// Without a time at which another try may work.
    pub(crate) const fn unavailable(detail: &'static str) -> NoProfile {
        NoProfile::Unavailable { retry_after_ms: None, detail }
    }
}

/// The verified permissions and the profile's are more than one identity may hold (RULES 37).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Profile {
    /// Judges an answer; `http` says whether it was asked over HTTP.
    ///
    /// Status 200 with a strict JSON object of at most 64 KiB is a profile; 404 is a subject of which nothing is
    /// known, which adds nothing. Whatever else comes is no answer.
    pub(crate) fn judge(answer: &Answer, http: bool, config: &ProfileConfig) -> Result<Profile, NoProfile> {
        match answer {
            Answer::Response(response) if http => read_response(response, config),
            Answer::Profile(members) => Profile::read(members, config),
            Answer::Inactive => Err(NoProfile::Disabled),
            Answer::NotAsked => Err(NoProfile::unavailable("too many questions wait to ask for a profile")),
            Answer::Unavailable { retry_after_ms } => Err(NoProfile::Unavailable {
                retry_after_ms: *retry_after_ms,
                detail: "the profile source did not answer",
            }),
            _ => Err(NoProfile::unavailable("the profile source was answered for with something else")),
        }
    }

    /// Reads the members that count. Anything wrong with one of them spoils the whole: to the application the part
    /// that is missing may be the one that forbids.
    fn read(members: &Map<String, Value>, config: &ProfileConfig) -> Result<Profile, NoProfile> {
        let permissions = read_permissions(members.get(&config.permissions_member), config)?;
        let mut bytes = permissions.iter().fold(0usize, |sum, text| sum.saturating_add(text.len()));
        let mut attributes = Map::new();
        for name in &config.attributes {
            let Some(value) = members.get(name).filter(|value| !value.is_null()) else { continue };
            let length = if fits(value, MAX_DEPTH) { value.to_string().len() } else { usize::MAX };
            if length > MAX_ATTRIBUTE_BYTES {
                return Err(NoProfile::unavailable("an attribute of the profile is too long or nested too deeply"));
            }
            bytes = bytes.saturating_add(length);
            attributes.insert(name.clone(), value.clone());
        }
        if bytes > MAX_BYTES {
            return Err(NoProfile::unavailable("the profile is longer than 64 KiB"));
        }
        Ok(Profile { permissions, attributes })
    }

    /// Adds what the configuration in force allows: permissions, of `within` only where it is given, and attributes
    /// under names that the credential does not use itself.
    ///
    /// # Errors
    ///
    /// [`TooMany`], and the identity is as before.
    pub(crate) fn add_to(
        &self,
        identity: &mut Identity,
        config: &ProfileConfig,
        within: Option<&[Arc<str>]>,
    ) -> Result<(), TooMany> {
        let allowed = Allowed::new(config);
        let added = self
            .permissions
            .iter()
            .filter(|permission| allowed.covers(permission) && within.is_none_or(|within| within.contains(permission)));
        let all: BTreeSet<&Arc<str>> = identity.permissions.iter().chain(added).collect();
        if all.len() > MAX_PERMISSIONS {
            return Err(TooMany);
        }
        identity.permissions = all.into_iter().map(Arc::clone).collect();
        for (name, value) in &self.attributes {
            if config.attributes.contains(name) && !identity.claims.contains_key(name) {
                identity.claims.insert(name.clone(), value.clone());
            }
        }
        Ok(())
    }
}

/// Whether `new` claims, as verified, are those of `old`, which `kept` was added to.
pub(crate) fn is_same_claims(old: &Map<String, Value>, new: &Map<String, Value>, kept: Option<&Profile>) -> bool {
    let added = |name: &String| kept.is_some_and(|kept| kept.attributes.contains_key(name));
    new.iter().all(|(name, value)| old.get(name) == Some(value))
        && old.keys().all(|name| new.contains_key(name) || added(name))
}

/// The url of a subject's profile. Every byte of a name outside the unreserved characters of RFC 3986 section 2.3 is
/// percent-encoded, so that no name ends its segment, its query or its host.
///
/// `None` for a name of `.` or `..` in the path: encoded or not, a reader of the url may take it for a step up
/// (RFC 3986 section 6.2.2.2).
pub(crate) fn fill_url(template: &str, issuer: &str, subject: &str) -> Option<String> {
    let path = template.split('?').next().unwrap_or_default();
    let mut url = template.to_owned();
    for (place, name) in [("{issuer}", issuer), ("{subject}", subject)] {
        if matches!(name, "." | "..") && path.contains(place) {
            return None;
        }
        url = url.replace(place, &encode(name));
    }
    Some(url)
}

fn encode(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

fn read_response(response: &HttpResponse, config: &ProfileConfig) -> Result<Profile, NoProfile> {
    match response.status {
        200 => {}
        404 => return Ok(Profile::default()),
        _ => {
            return Err(NoProfile::Unavailable {
                retry_after_ms: response.retry_after_ms,
                detail: "the profile source answered with another status than 200 or 404",
            });
        }
    }
    if !response.content_type.as_deref().is_some_and(is_json) {
        return Err(NoProfile::unavailable("the profile source answered with something else than application/json"));
    }
    if response.body.len() > MAX_BYTES {
        return Err(NoProfile::unavailable("the profile is longer than 64 KiB"));
    }
    let members = parse_object(&response.body, BOUNDS)
        .map_err(|_| NoProfile::unavailable("the profile source answered what is no strict JSON object"))?;
    Profile::read(&members, config)
}

/// `application/json`, with or without parameters (RFC 9110 section 8.3.1).
fn is_json(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// An array of strings, or one string split at single spaces. What the configuration does not allow is left out:
/// the source may serve others as well.
fn read_permissions(member: Option<&Value>, config: &ProfileConfig) -> Result<Vec<Arc<str>>, NoProfile> {
    let texts: Vec<&str> = match member {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) => text.split(' ').collect(),
        Some(Value::Array(list)) => list
            .iter()
            .map(Value::as_str)
            .collect::<Option<_>>()
            .ok_or(NoProfile::unavailable("the profile lists a permission that is no string"))?,
        Some(_) => return Err(NoProfile::unavailable("the permissions of the profile are neither list nor string")),
    };
    let allowed = Allowed::new(config);
    let permissions: BTreeSet<&str> = texts.into_iter().filter(|text| allowed.covers(text)).collect();
    if permissions.len() > MAX_PERMISSIONS {
        return Err(NoProfile::unavailable("the profile lists more than 256 permissions"));
    }
    Ok(permissions.into_iter().map(Arc::from).collect())
}

/// The permissions that a profile may add.
struct Allowed(Vec<Permission>);

impl Allowed {
    fn new(config: &ProfileConfig) -> Allowed {
        Allowed(config.permissions.iter().filter_map(|text| Permission::parse(text.as_str()).ok()).collect())
    }

    /// Never a wildcard: what is covered is one plain permission.
    fn covers(&self, text: &str) -> bool {
        text.len() <= MAX_PERMISSION_BYTES && self.0.iter().any(|pattern| pattern.covers(text))
    }
}

/// Whether a value nests no deeper than this.
fn fits(value: &Value, depth: usize) -> bool {
    let below = |value: &Value| depth.checked_sub(1).is_some_and(|depth| fits(value, depth));
    match value {
        Value::Array(list) => list.iter().all(below),
        Value::Object(map) => map.values().all(below),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{NoProfile, Profile, fill_url, is_same_claims};
    use crate::config::ProfileConfig;
    use crate::lookup::{Answer, HttpResponse};

    fn config() -> ProfileConfig {
        ProfileConfig {
            permissions: vec!["listing:*:read".to_owned(), "chat:write".to_owned()],
            attributes: vec!["plan".to_owned(), "limits".to_owned()],
            ..ProfileConfig::default()
        }
    }

    fn map(json: Value) -> Map<String, Value> {
        let Value::Object(map) = json else { panic!("no object") };
        map
    }

    fn read(json: Value) -> Result<Profile, NoProfile> {
        Profile::judge(&Answer::Profile(Box::new(map(json))), false, &config())
    }

    fn respond(status: u16, content_type: Option<&str>, body: &[u8]) -> Result<Profile, NoProfile> {
        let content_type = content_type.map(str::to_owned);
        let response = HttpResponse { status, content_type, retry_after_ms: Some(7), body: body.to_vec() };
        Profile::judge(&Answer::Response(Box::new(response)), true, &config())
    }

    #[test]
    fn permissions_are_a_list_or_a_string_and_only_those_allowed_are_kept() {
        let kept = |json: Value| read(json).unwrap().permissions.iter().map(ToString::to_string).collect::<Vec<_>>();
        let wanted = ["chat:write", "listing:7:read"];
        assert_eq!(kept(json!({ "permissions": ["listing:7:read", "chat:write", "chat:write", "admin"] })), wanted);
        assert_eq!(kept(json!({ "permissions": "listing:7:read  chat:write admin" })), wanted);
        for wild in ["listing:*:read", "*", "**", "listing:**", "*:write", "chat:*", "", "chat:write "] {
            assert!(kept(json!({ "permissions": [wild] })).is_empty(), "{wild}");
        }
        assert!(kept(json!({})).is_empty() && kept(json!({ "permissions": null })).is_empty());
    }

    #[test]
    fn another_shape_is_no_profile() {
        for wrong in [json!(7), json!({}), json!(true), json!(["chat:write", 7]), json!([["chat:write"]])] {
            assert!(matches!(read(json!({ "permissions": wrong })), Err(NoProfile::Unavailable { .. })), "{wrong}");
        }
    }

    #[test]
    fn permissions_are_bounded_in_number() {
        let many = |count: usize| json!({ "permissions": (0..count).map(|n| format!("listing:{n}:read")).collect::<Vec<_>>() });
        assert_eq!(read(many(256)).unwrap().permissions.len(), 256);
        assert_eq!(read(many(257)), Err(NoProfile::unavailable("the profile lists more than 256 permissions")));
        let others = json!({ "permissions": (0..1000).map(|n| format!("other:{n}")).collect::<Vec<_>>() });
        assert!(read(others).unwrap().permissions.is_empty(), "what is for others does not count");
    }

    #[test]
    fn attributes_are_those_listed_and_bounded_in_length_and_depth() {
        let profile = read(json!({ "plan": "pro", "limits": { "a": [1] }, "role": "admin" })).unwrap();
        assert_eq!(profile.attributes, map(json!({ "plan": "pro", "limits": { "a": [1] } })));
        assert!(read(json!({ "plan": null })).unwrap().attributes.is_empty());
        assert!(read(json!({ "plan": "x".repeat(1022) })).is_ok(), "with its quotes 1,024 bytes");
        assert!(read(json!({ "plan": "x".repeat(1023) })).is_err());
        assert!(read(json!({ "role": "x".repeat(2000) })).is_ok(), "what is not listed is not looked at");
        let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        assert!(read(json!({ "plan": nested(16) })).is_ok());
        assert!(read(json!({ "plan": nested(17) })).is_err());
        assert!(read(json!({ "plan": nested(100) })).is_err());
    }

    #[test]
    fn a_profile_is_bounded_as_a_whole() {
        let long = |n: usize| format!("listing:{n:0>128}:read");
        let list: Vec<_> = (0..256).map(long).collect();
        assert!(read(json!({ "permissions": list })).is_ok());
        let wide = ProfileConfig { permissions: vec!["a:**".to_owned()], ..config() };
        let list: Vec<_> = (0..256).map(|n| format!("a:{n}:{0}:{0}:{0}", "x".repeat(128))).collect();
        let answer = Answer::Profile(Box::new(map(json!({ "permissions": list }))));
        let wanted = Err(NoProfile::unavailable("the profile is longer than 64 KiB"));
        assert_eq!(Profile::judge(&answer, false, &wide), wanted);
    }

    #[test]
    fn only_a_json_object_with_status_200_is_a_profile_and_404_is_an_empty_one() {
        let good = br#"{"plan":"pro"}"#;
        for kind in ["application/json", "Application/JSON; charset=utf-8", "application/json;charset=utf-8"] {
            assert_eq!(respond(200, Some(kind), good).unwrap().attributes.len(), 1, "{kind}");
        }
        assert_eq!(respond(404, Some("text/html"), b"<html>"), Ok(Profile::default()));
        for kind in [None, Some("text/html"), Some("application/jsonp"), Some("text/json"), Some("")] {
            assert!(respond(200, kind, good).is_err(), "{kind:?}");
        }
        for status in [0, 100, 201, 204, 206, 301, 302, 304, 400, 401, 403, 410, 429, 500, 503] {
            let wanted = Some(7);
            let Err(NoProfile::Unavailable { retry_after_ms, .. }) = respond(status, Some("application/json"), good)
            else {
                panic!("{status}")
            };
            assert_eq!(retry_after_ms, wanted);
        }
        for body in ["", "[]", "null", "{", r#"{"plan":1,"plan":2}"#, "\u{feff}{}", r#"{"plan":"a"}x"#] {
            assert!(respond(200, Some("application/json"), body.as_bytes()).is_err(), "{body}");
        }
        let padded = |len: usize| format!("{{{}}}", " ".repeat(len - 2));
        assert!(respond(200, Some("application/json"), padded(65_536).as_bytes()).is_ok());
        assert!(respond(200, Some("application/json"), padded(65_537).as_bytes()).is_err());
    }

    #[test]
    fn an_answer_to_another_question_is_no_answer() {
        for answer in [Answer::Keys(b"{}".to_vec()), Answer::Unavailable { retry_after_ms: None }] {
            assert!(matches!(Profile::judge(&answer, true, &config()), Err(NoProfile::Unavailable { .. })));
        }
        let response = HttpResponse { status: 404, content_type: None, retry_after_ms: None, body: Vec::new() };
        let response = Answer::Response(Box::new(response));
        assert!(Profile::judge(&response, false, &config()).is_err(), "nobody was asked over HTTP");
        assert_eq!(Profile::judge(&Answer::Inactive, true, &config()), Err(NoProfile::Disabled));
    }

    #[test]
    fn no_name_changes_the_url_around_it() {
        let fill = |subject: &str| fill_url("https://u.example.com/v1/{issuer}/{subject}?of={subject}", "i", subject);
        let at = |encoded: &str| Some(format!("https://u.example.com/v1/i/{encoded}?of={encoded}"));
        assert_eq!(fill("ann-1._~"), at("ann-1._~"));
        assert_eq!(fill("../../admin?x=1#"), at("..%2F..%2Fadmin%3Fx%3D1%23"));
        assert_eq!(fill("a b&c=d;e@f:g\\h%2e\u{e9}"), at("a%20b%26c%3Dd%3Be%40f%3Ag%5Ch%252e%C3%A9"));
        assert_eq!(fill("{issuer}{subject}"), at("%7Bissuer%7D%7Bsubject%7D"));
        for byte in 0..=127u8 {
            let url = fill(&char::from(byte).to_string());
            let plain = byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
            let wanted = if plain { char::from(byte).to_string() } else { format!("%{byte:02X}") };
            assert_eq!(url, if byte == b'.' { None } else { at(&wanted) }, "{byte}");
        }
    }

    #[test]
    fn a_name_that_is_a_step_in_a_path_is_not_asked_about_there() {
        assert_eq!(fill_url("https://u.example.com/{subject}", "i", ".."), None);
        assert_eq!(fill_url("https://u.example.com/{issuer}?s={subject}", ".", "s"), None);
        let query = "https://u.example.com/?i={issuer}&s={subject}";
        assert_eq!(fill_url(query, ".", "..").as_deref(), Some("https://u.example.com/?i=.&s=.."));
    }

    #[test]
    fn claims_are_the_same_when_all_that_differs_was_added() {
        let kept = read(json!({ "plan": "pro" })).unwrap();
        let (old, new) = (map(json!({ "a": 1, "plan": "pro" })), map(json!({ "a": 1 })));
        assert!(is_same_claims(&old, &new, Some(&kept)) && is_same_claims(&new, &new, None));
        assert!(!is_same_claims(&old, &new, None), "nothing was added");
        for other in [json!({ "a": 2 }), json!({}), json!({ "a": 1, "b": 1 }), json!({ "a": 1, "plan": "free" })] {
            assert!(!is_same_claims(&old, &map(other.clone()), Some(&kept)), "{other}");
        }
    }
}
