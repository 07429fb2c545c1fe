//! This file answers: does this handshake let in only those it should, and can anybody get in at all?

use ipnet::IpNet;

use super::super::place::{Place, shown};
use super::super::problem::Problem;
use super::super::types::{Config, CookieHolds, CredentialSource, HandshakeConfig};
use super::origin::{is_authority, require_origin};
use super::rules::require_permission;

/// Most elements of one list of the handshake.
const MAX_LIST: usize = 1024;

pub(crate) fn require_handshake(config: &Config) -> Result<(), Problem> {
    let handshake = &config.handshake;
    let at = |key: &str| Place::top("handshake").key(key);
    for (key, length) in [
        ("origins", handshake.origins.len()),
        ("subprotocols", handshake.subprotocols.len()),
        ("subprotocol_prefixes", handshake.subprotocol_prefixes.len()),
        ("paths", handshake.paths.len()),
        ("hosts", handshake.hosts.len()),
        ("trusted_proxies", handshake.trusted_proxies.len()),
        ("blocked", handshake.blocked.len()),
        ("required_permissions", handshake.required_permissions.len()),
    ] {
        if length > MAX_LIST {
            return Err(Problem::new(at(key), format_args!("a list here has at most {MAX_LIST} elements")));
        }
    }
    require_credentials(config)?;
    require_origins(handshake)?;
    require_networks(at("trusted_proxies"), &handshake.trusted_proxies, true)?;
    require_networks(at("blocked"), &handshake.blocked, false)?;
    require_names(handshake)?;
    require_places(handshake)?;
    for (index, permission) in handshake.required_permissions.iter().enumerate() {
        require_permission(at("required_permissions").index(index), permission, false)?;
    }
    Ok(())
}

fn require_credentials(config: &Config) -> Result<(), Problem> {
    let handshake = &config.handshake;
    let at = |key: &str| Place::top("handshake").key(key);
    let lists = |source| handshake.credentials.contains(&source);
    if handshake.credentials.is_empty() {
        return Err(Problem::new(at("credentials"), "must name at least one place: nobody could show a credential"));
    }
    let session_cookie = lists(CredentialSource::Cookie) && handshake.cookie_holds == CookieHolds::Session;
    if session_cookie && config.sessions.is_none() {
        let what = "is `session`, but [sessions] is not configured: no session could be looked up";
        return Err(Problem::new(at("cookie").key("holds"), what));
    }
    if config.issuers.is_empty() && !session_cookie {
        let what = "without an [[issuer]] only a cookie that holds a session can be accepted";
        return Err(Problem::new(at("credentials"), what));
    }
    if lists(CredentialSource::Subprotocol) && handshake.subprotocol_prefixes.is_empty() {
        let what = "must name at least one prefix, since `credentials` lists \"subprotocol\"";
        return Err(Problem::new(at("subprotocol_prefixes"), what));
    }
    Ok(())
}

fn require_origins(handshake: &HandshakeConfig) -> Result<(), Problem> {
    let place = Place::top("handshake").key("origins");
    let lists = |source| handshake.credentials.contains(&source);
    let cookies = lists(CredentialSource::Cookie);
    for (index, origin) in handshake.origins.iter().enumerate() {
        require_origin(place.index(index), origin, cookies)?;
    }
    if !handshake.origins.is_empty() {
        return Ok(());
    }
    if cookies {
        let what = "must name the origins of your pages: browsers send cookies for any page, and only the \
                    origin tells yours from a stranger's";
        return Err(Problem::new(place, what));
    }
    if lists(CredentialSource::Ticket) {
        let what = "must name the origins of your pages: a ticket is bound to the page it was issued to";
        return Err(Problem::new(place, what));
    }
    if handshake.require_origin.unwrap_or(lists(CredentialSource::Subprotocol)) {
        let what = "names no origin while one is required, so nobody could connect: name the origins of your \
                    pages, or write `require_origin = false` for clients that are no browsers";
        return Err(Problem::new(place, what));
    }
    Ok(())
}

fn require_networks(place: Place, networks: &[IpNet], trusted: bool) -> Result<(), Problem> {
    for (index, network) in networks.iter().enumerate() {
        let refuse = |what: String| Err(Problem::new(place.index(index), format_args!("`{network}` {what}")));
        if network.addr() != network.network() {
            return refuse(format!("has bits set behind its prefix: write {}", network.trunc()));
        }
        if trusted && network.prefix_len() == 0 {
            return refuse("trusts everybody: any client could then choose the address it is limited by".to_owned());
        }
        let mapped = match network {
            IpNet::V4(_) => false,
            IpNet::V6(network) => network.addr().to_ipv4_mapped().is_some() && network.prefix_len() >= 96,
        };
        if mapped {
            return refuse("is IPv4 written as IPv6 and would never match: write it as IPv4".to_owned());
        }
    }
    Ok(())
}

fn require_names(handshake: &HandshakeConfig) -> Result<(), Problem> {
    let at = |key: &str| Place::top("handshake").key(key);
    require_token(at("cookie").key("name"), &handshake.cookie_name)?;
    require_token(at("forwarded_header"), &handshake.forwarded_header)?;
    for (index, prefix) in handshake.subprotocol_prefixes.iter().enumerate() {
        require_token(at("subprotocol_prefixes").index(index), prefix)?;
    }
    for (index, protocol) in handshake.subprotocols.iter().enumerate() {
        let place = at("subprotocols").index(index);
        require_token(place.clone(), protocol)?;
        let carries =
            |prefix: &String| protocol.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if handshake.subprotocol_prefixes.iter().any(carries) {
            let what = "begins like the item that carries the token, which is never echoed";
            return Err(Problem::new(place, format_args!("`{}` {what}", shown(protocol))));
        }
    }
    for (key, name) in
        [("query_parameter", &handshake.query_parameter), ("ticket_parameter", &handshake.ticket_parameter)]
    {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if name.is_empty() || name.len() > 64 || !name.bytes().all(plain) {
            let what = "must be 1 to 64 letters, digits, `-`, `.`, `_` or `~`";
            return Err(Problem::new(at(key), what));
        }
    }
    if handshake.query_parameter == handshake.ticket_parameter {
        let what = "is also the `query_parameter`: a token and a ticket could not be told apart";
        return Err(Problem::new(at("ticket_parameter"), what));
    }
    Ok(())
}

fn require_places(handshake: &HandshakeConfig) -> Result<(), Problem> {
    let at = |key: &str| Place::top("handshake").key(key);
    for (index, path) in handshake.paths.iter().enumerate() {
        let exact = path.strip_suffix("/*").unwrap_or(path);
        let plain = exact.bytes().all(|byte| byte.is_ascii_graphic() && !b"?#*\\".contains(&byte));
        if !path.starts_with('/') || !plain || path.len() > 1024 {
            let what = "is no path such as /live or /live/*";
            return Err(Problem::new(at("paths").index(index), format_args!("`{}` {what}", shown(path))));
        }
    }
    for (index, host) in handshake.hosts.iter().enumerate() {
        if !is_authority(host) {
            let what = "is no host such as live.example.com or live.example.com:8443, in lower case";
            return Err(Problem::new(at("hosts").index(index), format_args!("`{}` {what}", shown(host))));
        }
    }
    Ok(())
}

/// A token of HTTP (RFC 9110 section 5.6.2), of at most 128 bytes.
fn require_token(place: Place, name: &str) -> Result<(), Problem> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > 128 || !name.bytes().all(allowed) {
        let what = "must be 1 to 128 letters, digits or marks that HTTP allows in a name";
        return Err(Problem::new(place, what));
    }
    Ok(())
}
