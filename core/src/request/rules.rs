//! This file answers: what does this engine ask of every upgrade request?

use std::net::IpAddr;

use ipnet::IpNet;

use super::client_address::contains;
use super::forwarded::ForwardedHeader;
use super::origin::OriginRules;
use super::place::Places;
use super::upgrade::is_token;
use crate::config::{CookieHolds, CredentialSource, HandshakeConfig};

/// The compiled form of [`HandshakeConfig`]; every request is judged by one of these.
#[derive(Clone, Debug)]
pub(crate) struct HandshakeRules {
    pub(crate) origins: OriginRules,
    /// Whether every credential needs an Origin; a cookie always does.
    pub(crate) require_origin: bool,
    pub(crate) blocked: Vec<IpNet>,
    pub(super) credentials: Vec<CredentialSource>,
    pub(super) cookie_name: String,
    pub(super) cookie_holds: CookieHolds,
    pub(super) cookie_beside_ignored: bool,
    pub(super) token_prefixes: Vec<String>,
    pub(super) subprotocols: Vec<String>,
    pub(super) query_parameter: String,
    pub(super) ticket_parameter: String,
    pub(super) places: Places,
    pub(super) trusted_proxies: Vec<IpNet>,
    pub(super) trust_unix_peers: bool,
    pub(super) forwarded: ForwardedHeader,
    pub(super) max_token_bytes: usize,
    pub(super) max_fields: usize,
    pub(super) max_field_bytes: usize,
    pub(super) max_fields_bytes: usize,
}

impl HandshakeRules {
    /// Compiles the configuration once. Errors are sentences for the operator.
    pub(crate) fn compile(config: &HandshakeConfig) -> Result<HandshakeRules, String> {
        require_names(config)?;
        let has = |source| config.credentials.contains(&source);
        // What a browser can be made to send by a foreign page needs an Origin; Authorization it cannot.
        let by_browser =
            has(CredentialSource::Cookie) || has(CredentialSource::Ticket) || has(CredentialSource::Subprotocol);
        Ok(HandshakeRules {
            origins: OriginRules::compile(&config.origins)?,
            require_origin: config.require_origin.unwrap_or(by_browser),
            blocked: config.blocked.clone(),
            credentials: config.credentials.clone(),
            cookie_name: config.cookie_name.clone(),
            cookie_holds: config.cookie_holds,
            cookie_beside_ignored: config.cookie_beside_ignored,
            token_prefixes: config.subprotocol_prefixes.clone(),
            subprotocols: config.subprotocols.clone(),
            query_parameter: config.query_parameter.clone(),
            ticket_parameter: config.ticket_parameter.clone(),
            places: Places::compile(&config.paths, &config.hosts)?,
            trusted_proxies: config.trusted_proxies.clone(),
            trust_unix_peers: config.trust_unix_peers,
            forwarded: ForwardedHeader::compile(&config.forwarded_header)?,
            max_token_bytes: config.max_token_bytes,
            max_fields: config.max_fields,
            max_field_bytes: config.max_field_bytes,
            max_fields_bytes: config.max_fields_bytes,
        })
    }

    /// Whether a credential may stand there.
    pub(crate) fn has(&self, source: CredentialSource) -> bool {
        self.credentials.contains(&source)
    }

    /// Whether an address, already folded, is a trusted proxy.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| contains(net, address))
    }
}

/// Refuses names that could never match, or that would match each other.
fn require_names(config: &HandshakeConfig) -> Result<(), String> {
    if !is_token(config.cookie_name.as_bytes()) {
        return Err(format!("cookie_name `{}` is not a cookie name", config.cookie_name));
    }
    for prefix in &config.subprotocol_prefixes {
        if !is_token(prefix.as_bytes()) {
            return Err(format!("subprotocol prefix `{prefix}` cannot begin a subprotocol"));
        }
    }
    for name in &config.subprotocols {
        let lower = name.to_ascii_lowercase();
        if !is_token(name.as_bytes()) {
            return Err(format!("subprotocol `{name}` is not a subprotocol name"));
        }
        if config.subprotocol_prefixes.iter().any(|prefix| lower.starts_with(&prefix.to_ascii_lowercase())) {
            return Err(format!("subprotocol `{name}` begins like one that carries a token"));
        }
    }
    for name in [&config.query_parameter, &config.ticket_parameter] {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("query parameter `{name}` is not a visible ASCII name"));
        }
    }
    if config.query_parameter.eq_ignore_ascii_case(&config.ticket_parameter) {
        return Err(format!("query parameter `{}` cannot carry both a token and a ticket", config.query_parameter));
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The documented defaults, with two origins and the credentials of DESIGN section 8.
    pub(crate) fn config() -> HandshakeConfig {
        HandshakeConfig {
            origins: vec!["https://app.example.com".into(), "https://*.tenant.example.com".into()],
            require_origin: None,
            credentials: vec![CredentialSource::Authorization, CredentialSource::Subprotocol],
            cookie_name: "__Host-ws".into(),
            cookie_holds: CookieHolds::Token,
            cookie_beside_ignored: false,
            subprotocol_prefixes: vec!["wsauth.bearer.".into()],
            subprotocols: Vec::new(),
            query_parameter: "access_token".into(),
            ticket_parameter: "ticket".into(),
            paths: Vec::new(),
            hosts: Vec::new(),
            trusted_proxies: Vec::new(),
            trust_unix_peers: false,
            forwarded_header: "x-forwarded-for".into(),
            blocked: Vec::new(),
            required_permissions: Vec::new(),
            authentication_deadline_ms: 10_000,
            lookup_deadline_ms: 5_000,
            max_token_bytes: 16 * 1024,
            max_fields: 128,
            max_field_bytes: 24 * 1024,
            max_fields_bytes: 64 * 1024,
        }
    }

    /// The rules of [`config`] after one change.
    pub(crate) fn rules(change: impl FnOnce(&mut HandshakeConfig)) -> HandshakeRules {
        let mut config = config();
        change(&mut config);
        HandshakeRules::compile(&config).unwrap()
    }

    fn problem(change: impl FnOnce(&mut HandshakeConfig)) -> String {
        let mut config = config();
        change(&mut config);
        HandshakeRules::compile(&config).unwrap_err()
    }

    #[test]
    fn an_origin_is_required_where_browsers_send_the_credential() {
        use CredentialSource::*;
        for (sources, required) in [
            (vec![Authorization, Query, FirstMessage], false),
            (vec![Cookie], true),
            (vec![Authorization, Ticket], true),
            (vec![Authorization, Subprotocol], true),
        ] {
            assert_eq!(rules(|config| config.credentials = sources.clone()).require_origin, required, "{sources:?}");
            let written = |config: &mut HandshakeConfig| {
                config.credentials = sources.clone();
                config.require_origin = Some(!required);
            };
            assert_eq!(rules(written).require_origin, !required);
        }
    }

    #[test]
    fn names_that_cannot_work_do_not_compile() {
        assert!(problem(|config| config.cookie_name = "a=b".into()).contains("`a=b`"));
        assert!(problem(|config| config.cookie_name = String::new()).contains("cookie_name"));
        assert!(problem(|config| config.subprotocol_prefixes = vec![String::new()]).contains("prefix"));
        assert!(problem(|config| config.subprotocols = vec!["a b".into()]).contains("`a b`"));
        assert!(problem(|config| config.subprotocols = vec!["Wsauth.bearer.x".into()]).contains("token"));
        assert!(problem(|config| config.query_parameter = String::new()).contains("visible"));
        assert!(problem(|config| config.ticket_parameter = "Access_Token".into()).contains("both"));
        assert!(problem(|config| config.forwarded_header = "a b".into()).contains("`a b`"));
        assert!(problem(|config| config.origins = vec!["*".into()]).contains("every site"));
        assert!(problem(|config| config.paths = vec!["ws".into()]).contains("`ws`"));
        assert!(problem(|config| config.hosts = vec!["*".into()]).contains("`*`"));
    }
}
