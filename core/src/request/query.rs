//! This file answers: which parameters of the query carry a credential?

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::rules::HandshakeRules;
use super::upgrade::Upgrade;
use crate::config::CredentialSource;
use crate::decision::Reason;

/// Names under which clients put tokens, in any case. Whoever sends one believes to be authenticated by it, and has
/// already written the token into every log on the way: better told than ignored.
const TOKEN_LIKE: &[&str] = &[
    "token",
    "access_token",
    "access-token",
    "accesstoken",
    "auth_token",
    "auth-token",
    "authtoken",
    "id_token",
    "idtoken",
    "refresh_token",
    "bearer",
    "bearer_token",
    "jwt",
    "authorization",
];

/// The raw values, still percent-encoded.
#[derive(Clone, Copy, Default)]
pub(super) struct QueryCredentials<'a> {
    pub(super) token: Option<&'a [u8]>,
    pub(super) ticket: Option<&'a [u8]>,
}

/// Finds the token and the ticket in the query. Parameters are parted by `&` only; names are decoded once, then
/// compared byte by byte with the configured ones.
///
/// # Refusals
///
/// - `CredentialAmbiguous`: a configured name stands twice, in whatever spelling.
/// - `CredentialSourceDisabled`: a token-like name that is not a configured one, or one but for its case.
/// - `CredentialMalformed`: a broken escape.
pub(super) fn find_in_query<'a>(upgrade: Upgrade<'a>, rules: &HandshakeRules) -> Result<QueryCredentials<'a>, Reason> {
    let mut found = QueryCredentials::default();
    let Some(query) = upgrade.query() else { return Ok(found) };
    let token_name = rules.has(CredentialSource::Query).then_some(rules.query_parameter.as_bytes());
    let ticket_name = rules.has(CredentialSource::Ticket).then_some(rules.ticket_parameter.as_bytes());
    for parameter in query.split(|byte| *byte == b'&') {
        let mut parts = parameter.splitn(2, |byte| *byte == b'=');
        let name = decode_percent(parts.next().unwrap_or_default()).ok_or(Reason::CredentialMalformed)?;
        let value = parts.next().unwrap_or_default();
        let place = if Some(&*name) == token_name {
            &mut found.token
        } else if Some(&*name) == ticket_name {
            &mut found.ticket
        } else if is_token_like(&name, rules) {
            return Err(Reason::CredentialSourceDisabled);
        } else {
            continue;
        };
        if place.replace(value).is_some() {
            return Err(Reason::CredentialAmbiguous);
        }
    }
    Ok(found)
}

fn is_token_like(name: &[u8], rules: &HandshakeRules) -> bool {
    let ticket = rules.has(CredentialSource::Ticket).then_some(rules.ticket_parameter.as_str());
    let configured = [Some(rules.query_parameter.as_str()), ticket].into_iter().flatten();
    TOKEN_LIKE.iter().copied().chain(configured).any(|like| name.eq_ignore_ascii_case(like.as_bytes()))
}

/// Decodes percent escapes once; `None` when one is broken. `+` stays `+`.
pub(super) fn decode_percent(bytes: &[u8]) -> Option<Cow<'_, [u8]>> {
    escapes_are_whole(bytes).then(|| percent_decode(bytes).into())
}

/// Whether every `%` begins a whole escape.
pub(super) fn escapes_are_whole(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'%').skip(1).all(begins_with_hex_pair)
}

/// Whether a whole escape stands in the bytes.
pub(super) fn has_escape(bytes: &[u8]) -> bool {
    bytes.split(|byte| *byte == b'%').skip(1).any(begins_with_hex_pair)
}

fn begins_with_hex_pair(bytes: &[u8]) -> bool {
    matches!(bytes, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::super::rules::tests::rules;
    use super::super::upgrade::tests::upgrade;
    use super::*;

    type Found<'a> = Result<(Option<&'a str>, Option<&'a str>), Reason>;

    fn find<'a>(sources: &[CredentialSource], target: &'a str) -> Found<'a> {
        let rules = rules(|config| {
            config.credentials = sources.to_vec();
            config.query_parameter = "token".into();
        });
        find_in_query(upgrade(target, &[]), &rules).map(|found| (text(found.token), text(found.ticket)))
    }

    fn text(value: Option<&[u8]>) -> Option<&str> {
        value.map(|value| std::str::from_utf8(value).unwrap())
    }

    const BOTH: &[CredentialSource] = &[CredentialSource::Query, CredentialSource::Ticket];
    const NEITHER: &[CredentialSource] = &[CredentialSource::Authorization];

    #[test]
    fn configured_names_are_found_in_any_spelling_of_their_escapes() {
        assert_eq!(find(BOTH, "/ws?x=1&token=a.b.c"), Ok((Some("a.b.c"), None)));
        assert_eq!(find(BOTH, "/ws?to%6Ben=a%2e"), Ok((Some("a%2e"), None)));
        assert_eq!(find(BOTH, "/ws?ticket=t&token"), Ok((Some(""), Some("t"))));
        assert_eq!(find(BOTH, "/ws?token=a=b"), Ok((Some("a=b"), None)));
        assert_eq!(find(BOTH, "/ws"), Ok((None, None)));
        assert_eq!(find(BOTH, "/ws?&&=&x"), Ok((None, None)));
    }

    #[test]
    fn a_repeated_parameter_is_ambiguous_whatever_its_spelling() {
        for target in ["/?token=a&token=a", "/?token=a&tok%65n=b", "/?ticket=a&x&ticket=", "/?token&token"] {
            assert_eq!(find(BOTH, target), Err(Reason::CredentialAmbiguous), "{target}");
        }
    }

    #[test]
    fn token_like_names_are_refused_while_query_is_off_or_named_otherwise() {
        for name in ["token", "Token", "access_token", "ACCESS_TOKEN", "jwt", "%74oken", "bearer", "id_token"] {
            assert_eq!(find(NEITHER, &format!("/?a=1&{name}=x")), Err(Reason::CredentialSourceDisabled), "{name}");
        }
        for name in ["Token", "access_token", "Ticket"] {
            assert_eq!(find(BOTH, &format!("/?{name}=x")), Err(Reason::CredentialSourceDisabled), "{name}");
        }
        for name in ["ticket", "page_token", "tokens", "t"] {
            assert_eq!(find(NEITHER, &format!("/?{name}=x")), Ok((None, None)), "{name}");
        }
    }

    #[test]
    fn only_the_ampersand_parts_parameters() {
        assert_eq!(find(BOTH, "/?a=1;token=x"), Ok((None, None)));
        assert_eq!(find(BOTH, "/?token=a;token=b"), Ok((Some("a;token=b"), None)));
    }

    #[test]
    fn broken_escapes_in_names_are_refused() {
        for target in ["/?%=1", "/?tok%6=1", "/?%zz"] {
            assert_eq!(find(BOTH, target), Err(Reason::CredentialMalformed), "{target}");
        }
        assert_eq!(decode_percent(b"a%4"), None);
        assert_eq!(decode_percent(b"a%zz"), None);
        assert_eq!(decode_percent(b"%41+%2b").as_deref(), Some(&b"A++"[..]));
    }
}
