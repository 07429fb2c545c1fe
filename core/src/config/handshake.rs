//! This file answers: how is the section `[handshake]` read?

use std::net::IpAddr;

use ipnet::IpNet;

use super::fields::Fields;
use super::known;
use super::place::shown;
use super::problem::Problem;
use super::types::{CookieHolds, CredentialSource, HandshakeConfig};

/// The names credential sources are written with.
pub(crate) const CREDENTIALS: [(&str, CredentialSource); 6] = [
    ("authorization", CredentialSource::Authorization),
    ("cookie", CredentialSource::Cookie),
    ("subprotocol", CredentialSource::Subprotocol),
    ("query", CredentialSource::Query),
    ("ticket", CredentialSource::Ticket),
    ("first_message", CredentialSource::FirstMessage),
];

/// Reads `[handshake]`, in which `credentials` and `trusted_proxies` must be written.
pub(crate) fn handshake(fields: &Fields<'_>) -> Result<HandshakeConfig, Problem> {
    let mut handshake = HandshakeConfig::default();
    let Some(credentials) = fields.words("credentials", &CREDENTIALS)? else {
        let what = "is missing: where a credential may stand, such as [\"authorization\", \"ticket\"]";
        return Err(fields.problem("credentials", what));
    };
    let Some(trusted_proxies) = networks(fields, "trusted_proxies")? else {
        return Err(fields.problem(
            "trusted_proxies",
            "is missing: write [] when clients connect directly, or the networks of your proxies; \
             it decides whose word is taken for a client's address",
        ));
    };
    handshake.credentials = credentials;
    handshake.trusted_proxies = trusted_proxies;
    handshake.blocked = networks(fields, "blocked")?.unwrap_or_default();
    handshake.origins = lower(fields.texts("origins")?.unwrap_or_default());
    handshake.require_origin = fields.flag("require_origin")?;
    cookie(fields, &mut handshake)?;
    handshake.subprotocol_prefixes = fields.texts("subprotocol_prefixes")?.unwrap_or(handshake.subprotocol_prefixes);
    handshake.subprotocols = fields.texts("subprotocols")?.unwrap_or_default();
    handshake.query_parameter = fields.text("query_parameter")?.unwrap_or(handshake.query_parameter);
    handshake.ticket_parameter = fields.text("ticket_parameter")?.unwrap_or(handshake.ticket_parameter);
    handshake.paths = fields.texts("paths")?.unwrap_or_default();
    handshake.hosts = lower(fields.texts("hosts")?.unwrap_or_default());
    handshake.trust_unix_peers = fields.flag("trust_unix_peers")?.unwrap_or(false);
    if let Some(header) = fields.text("forwarded_header")? {
        handshake.forwarded_header = header.to_ascii_lowercase();
    }
    handshake.required_permissions = fields.texts("required_permissions")?.unwrap_or_default();
    handshake.authentication_deadline_ms =
        fields.duration("authentication_deadline")?.unwrap_or(handshake.authentication_deadline_ms);
    handshake.lookup_deadline_ms = fields.duration("lookup_deadline")?.unwrap_or(handshake.lookup_deadline_ms);
    handshake.max_token_bytes = fields.number("max_token_bytes")?.unwrap_or(handshake.max_token_bytes);
    handshake.max_fields = fields.number("max_fields")?.unwrap_or(handshake.max_fields);
    handshake.max_field_bytes = fields.number("max_field_bytes")?.unwrap_or(handshake.max_field_bytes);
    handshake.max_fields_bytes = fields.number("max_fields_bytes")?.unwrap_or(handshake.max_fields_bytes);
    Ok(handshake)
}

fn cookie(fields: &Fields<'_>, handshake: &mut HandshakeConfig) -> Result<(), Problem> {
    let beside = [("refuse", false), ("ignore", true)];
    handshake.cookie_beside_ignored = fields.word("cookie_beside", &beside)?.unwrap_or(false);
    let listed = handshake.credentials.contains(&CredentialSource::Cookie);
    let cookie = fields.section("cookie", &known::COOKIE)?;
    if let Some(name) = cookie.text("name")? {
        handshake.cookie_name = name;
    }
    let words = [("token", CookieHolds::Token), ("session", CookieHolds::Session)];
    match cookie.word("holds", &words)? {
        Some(holds) => handshake.cookie_holds = holds,
        None if listed || fields.has("cookie") => {
            return Err(cookie.problem("holds", "is missing: whether the cookie holds a `token` or a `session`"));
        }
        None => {}
    }
    if fields.has("cookie") && !listed {
        return Err(fields.problem("cookie", "is never read: `credentials` does not list \"cookie\""));
    }
    Ok(())
}

/// A list of networks, each as `10.0.0.0/8` or as one address.
fn networks(fields: &Fields<'_>, key: &str) -> Result<Option<Vec<IpNet>>, Problem> {
    let Some(texts) = fields.texts(key)? else { return Ok(None) };
    let mut networks = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().map_err(|_| {
                let what = format!("`{}` is no address and no network such as 10.0.0.0/8", shown(text));
                Problem::new(fields.at(key).index(index), what)
            })?,
        };
        networks.push(network);
    }
    Ok(Some(networks))
}

/// Hosts and schemes are compared in lower case, which is how browsers send them.
fn lower(mut texts: Vec<String>) -> Vec<String> {
    for text in &mut texts {
        text.make_ascii_lowercase();
    }
    texts
}
