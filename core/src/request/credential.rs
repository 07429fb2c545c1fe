//! This file answers: which one credential does this request carry?

use std::borrow::Cow;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::cookie::{find_cookie, is_cookie_octet};
use super::query::{decode_percent, find_in_query};
use super::rules::HandshakeRules;
use super::subprotocol::token_items;
use super::upgrade::{Lines, Upgrade, is_token};
use crate::config::{CookieHolds, CredentialSource};
use crate::decision::Reason;

/// One credential as it stood in the request: clean in form, not yet believed. `Debug` shows its length only.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credential<'a> {
    /// Where it stood.
    pub(crate) source: CredentialSource,
    /// What the configuration says it is.
    pub(crate) kind: CredentialKind,
    /// 1 to `max_token_bytes` bytes of `token68`; a session id may hold any cookie character.
    pub(crate) token: Cow<'a, [u8]>,
}

/// What a credential is, before anyone looks into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CredentialKind {
    /// A token, JWT or opaque.
    Token,
    /// The id of a cookie session.
    Session,
    /// A one-use ticket.
    Ticket,
}

/// Finds the credential over all configured sources (RULES 8). A source that is not listed does not exist: what
/// stands there is neither read nor counted, except that a token-like query parameter always refuses.
///
/// `None`: there is none; the caller decides between a first message and `CredentialMissing`. An Authorization of
/// another scheme, in a listed source, is no credential by itself but may not stand beside one.
///
/// # Refusals
///
/// - `CredentialAmbiguous`: more than one, in one source or over several. A cookie repeated with equal values is one.
/// - `CredentialMalformed`: the field, its encoding or the token's alphabet is wrong. Nothing else is tried then.
/// - `CredentialSourceDisabled`: a token-like query parameter that is not configured.
/// - `TokenTooLarge`: over `max_token_bytes`, or a cookie over 4,096 bytes.
///
/// # Cost
///
/// Linear in the fields read; allocates only for tokens that are percent- or base64-encoded.
pub(crate) fn find_credential<'a>(
    upgrade: Upgrade<'a>,
    rules: &HandshakeRules,
) -> Result<Option<Credential<'a>>, Reason> {
    let query = find_in_query(upgrade, rules)?;
    let authorization = find_authorization(upgrade, rules)?;
    let foreign = authorization == Authorization::Foreign;
    let explicit = [
        authorization.token(),
        find_subprotocol_item(upgrade, rules)?.map(|item| (CredentialSource::Subprotocol, item)),
        query.token.map(|value| (CredentialSource::Query, value)),
        query.ticket.map(|value| (CredentialSource::Ticket, value)),
    ];
    let mut present = explicit.into_iter().flatten();
    let mut chosen = present.next();
    if present.next().is_some() || (foreign && chosen.is_some()) {
        return Err(Reason::CredentialAmbiguous);
    }
    if chosen.is_none() || !rules.cookie_beside_ignored {
        let cookie = find_cookie(upgrade, rules)?.map(|value| (CredentialSource::Cookie, value));
        if cookie.is_some() && (foreign || chosen.is_some()) {
            return Err(Reason::CredentialAmbiguous);
        }
        chosen = chosen.or(cookie);
    }
    chosen.map(|(source, raw)| read(source, raw, rules)).transpose()
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({:?} from {:?}, {} bytes)", self.kind, self.source, self.token.len())
    }
}

/// Turns the raw text of one source into the credential it spells.
fn read<'a>(source: CredentialSource, raw: &'a [u8], rules: &HandshakeRules) -> Result<Credential<'a>, Reason> {
    let kind = match (source, rules.cookie_holds) {
        (CredentialSource::Cookie, CookieHolds::Session) => CredentialKind::Session,
        (CredentialSource::Ticket, _) => CredentialKind::Ticket,
        _ => CredentialKind::Token,
    };
    let token = match source {
        CredentialSource::Query | CredentialSource::Ticket => decode_percent(raw).ok_or(Reason::CredentialMalformed)?,
        CredentialSource::Subprotocol => decode_item(raw, rules)?,
        _ => Cow::Borrowed(raw),
    };
    if token.len() > rules.max_token_bytes {
        return Err(Reason::TokenTooLarge);
    }
    let clean = match kind {
        CredentialKind::Session => !token.is_empty() && token.iter().all(is_cookie_octet),
        CredentialKind::Token | CredentialKind::Ticket => is_token68(&token),
    };
    if clean { Ok(Credential { source, kind, token }) } else { Err(Reason::CredentialMalformed) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Authorization<'a> {
    Absent,
    /// Another scheme than Bearer.
    Foreign,
    Bearer(&'a [u8]),
}

impl<'a> Authorization<'a> {
    fn token(self) -> Option<(CredentialSource, &'a [u8])> {
        match self {
            Authorization::Bearer(token) => Some((CredentialSource::Authorization, token)),
            Authorization::Absent | Authorization::Foreign => None,
        }
    }
}

/// `Bearer` in any case, one or more spaces, the rest (RFC 9110 section 11.4).
fn find_authorization<'a>(upgrade: Upgrade<'a>, rules: &HandshakeRules) -> Result<Authorization<'a>, Reason> {
    if !rules.has(CredentialSource::Authorization) {
        return Ok(Authorization::Absent);
    }
    let value = match upgrade.single("authorization") {
        Lines::Absent => return Ok(Authorization::Absent),
        Lines::Repeated => return Err(Reason::CredentialAmbiguous),
        Lines::One(value) => value,
    };
    let at = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, mut token) = value.split_at_checked(at).unwrap_or((value, b""));
    if !is_token(scheme) {
        return Err(Reason::CredentialMalformed);
    }
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(Authorization::Foreign);
    }
    while let [b' ', rest @ ..] = token {
        token = rest;
    }
    Ok(Authorization::Bearer(token))
}

/// The one `Sec-WebSocket-Protocol` item with a token prefix, prefix included.
fn find_subprotocol_item<'a>(upgrade: Upgrade<'a>, rules: &HandshakeRules) -> Result<Option<&'a [u8]>, Reason> {
    if !rules.has(CredentialSource::Subprotocol) {
        return Ok(None);
    }
    let mut items = token_items(upgrade, rules);
    let item = items.next();
    if items.next().is_some() { Err(Reason::CredentialAmbiguous) } else { Ok(item) }
}

/// What stands behind the prefix: base64url of the token, without padding; or the JWT itself, whose dots base64url
/// does not have, so that no text can be read as both.
fn decode_item<'a>(item: &'a [u8], rules: &HandshakeRules) -> Result<Cow<'a, [u8]>, Reason> {
    // The longest prefix: one may begin another. Its case counts, as in every subprotocol.
    let longest =
        rules.token_prefixes.iter().filter(|prefix| item.starts_with(prefix.as_bytes())).map(String::len).max();
    let text = longest.and_then(|length| item.get(length..)).ok_or(Reason::CredentialMalformed)?;
    // Base64 adds a third.
    if text.len() / 4 > rules.max_token_bytes / 3 {
        return Err(Reason::TokenTooLarge);
    }
    if text.contains(&b'.') {
        let parts = text.split(|byte| *byte == b'.');
        let compact = parts.clone().count() == 3 && parts.clone().all(is_base64url);
        return if compact { Ok(Cow::Borrowed(text)) } else { Err(Reason::CredentialMalformed) };
    }
    URL_SAFE_NO_PAD.decode(text).map(Cow::Owned).map_err(|_| Reason::CredentialMalformed)
}

fn is_base64url(part: &[u8]) -> bool {
    !part.is_empty() && part.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
}

/// RFC 9110 section 11.2, which is also the `b64token` of RFC 6750.
fn is_token68(bytes: &[u8]) -> bool {
    let end = bytes.iter().rposition(|byte| *byte != b'=').map_or(0, |at| at.saturating_add(1));
    let body = bytes.get(..end).unwrap_or_default();
    !body.is_empty() && body.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte))
}

#[cfg(test)]
mod tests {
    use CredentialSource::*;
    use proptest::prelude::*;

    use super::super::rules::tests::rules;
    use super::super::upgrade::Header;
    use super::super::upgrade::tests::upgrade;
    use super::*;
    use crate::config::HandshakeConfig;

    type Found = Result<Option<(CredentialSource, String)>, Reason>;

    fn find_with(change: impl FnOnce(&mut HandshakeConfig), target: &str, fields: &[(&str, &str)]) -> Found {
        let headers: Vec<Header<'_>> =
            fields.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect();
        find_credential(upgrade(target, &headers), &rules(change)).map(|found| {
            found.map(|credential| (credential.source, String::from_utf8(credential.token.into_owned()).unwrap()))
        })
    }

    fn find(sources: &[CredentialSource], target: &str, fields: &[(&str, &str)]) -> Found {
        find_with(|config| config.credentials = sources.to_vec(), target, fields)
    }

    fn one(source: CredentialSource, token: &str) -> Found {
        Ok(Some((source, token.into())))
    }

    const ALL: &[CredentialSource] = &[Authorization, Cookie, Subprotocol, Query, Ticket];
    const MALFORMED: Found = Err(Reason::CredentialMalformed);
    const AMBIGUOUS: Found = Err(Reason::CredentialAmbiguous);
    const TOO_LARGE: Found = Err(Reason::TokenTooLarge);

    #[test]
    fn bearer_is_read_strictly() {
        let bearer = |value: &str| find(&[Authorization], "/", &[("AUTHORIZATION", value)]);
        for value in ["Bearer a.b-c_d~e+f/==", "bEaReR a.b-c_d~e+f/==", "Bearer    a.b-c_d~e+f/=="] {
            assert_eq!(bearer(value), one(Authorization, "a.b-c_d~e+f/=="), "{value}");
        }
        for value in [
            "",
            " ",
            "Bearer",
            "Bearer ",
            "Bearer =",
            "Bearer a ",
            "Bearer a b",
            "Bearer a, Bearer b",
            "Bearer\ta",
            "Bearer \ta",
            " Bearer a",
            "Bearer a=b",
            "Bearer \"a\"",
            "Bearer é",
            "Bearer a;b",
            "Bearer: a",
        ] {
            assert_eq!(bearer(value), MALFORMED, "{value}");
        }
        let twice = [("authorization", "Bearer a"), ("Authorization", "Bearer a")];
        assert_eq!(find(&[Authorization], "/", &twice), AMBIGUOUS);
    }

    #[test]
    fn another_scheme_is_no_credential_and_stands_beside_none() {
        for value in ["Basic YTpi", "BearerX a", "Negotiate", "DPoP a.b.c"] {
            assert_eq!(find(ALL, "/", &[("Authorization", value)]), Ok(None), "{value}");
            assert_eq!(find(ALL, "/?ticket=t", &[("Authorization", value)]), AMBIGUOUS, "{value}");
            assert_eq!(find(ALL, "/", &[("Authorization", value), ("Cookie", "__Host-ws=c")]), AMBIGUOUS, "{value}");
        }
    }

    #[test]
    fn sources_that_are_not_listed_do_not_exist() {
        let fields = [
            ("Authorization", "Bearer a"),
            ("Cookie", "__Host-ws=c"),
            ("Sec-WebSocket-Protocol", "chat.v1, wsauth.bearer.YQ"),
            ("X-User-Id", "admin"),
        ];
        assert_eq!(find(&[FirstMessage], "/?ticket=t", &fields), Ok(None));
        assert_eq!(find(&[Authorization], "/?ticket=t", &fields), one(Authorization, "a"));
        assert_eq!(find(&[Cookie], "/", &fields), one(Cookie, "c"));
        assert_eq!(find(&[Subprotocol], "/", &fields), one(Subprotocol, "a"));
        assert_eq!(find(&[Ticket], "/?ticket=t", &fields), one(Ticket, "t"));
        assert_eq!(find(&[Authorization], "/?token=t", &fields), Err(Reason::CredentialSourceDisabled));
    }

    #[test]
    fn any_two_credentials_are_ambiguous() {
        let places = [
            ("", Some(("Authorization", "Bearer a"))),
            ("", Some(("Cookie", "__Host-ws=c"))),
            ("", Some(("Sec-WebSocket-Protocol", "wsauth.bearer.YQ"))),
            ("access_token=q", None),
            ("ticket=t", None),
        ];
        for (at, first) in places.iter().enumerate() {
            assert!(matches!(find(ALL, &format!("/?{}", first.0), first.1.as_slice()), Ok(Some(_))));
            for second in &places[at + 1..] {
                let target = format!("/?{}&{}", first.0, second.0);
                let fields: Vec<_> = first.1.into_iter().chain(second.1).collect();
                assert_eq!(find(ALL, &target, &fields), AMBIGUOUS, "{target} {fields:?}");
            }
        }
    }

    #[test]
    fn a_cookie_beside_an_explicit_credential_may_be_ignored() {
        let beside = |fields: &[(&str, &str)]| {
            let change = |config: &mut HandshakeConfig| {
                config.credentials = ALL.to_vec();
                config.cookie_beside_ignored = true;
            };
            find_with(change, "/", fields)
        };
        assert_eq!(beside(&[("Cookie", "__Host-ws=c"), ("Authorization", "Bearer a")]), one(Authorization, "a"));
        assert_eq!(beside(&[("Cookie", "__Host-ws=\"c"), ("Authorization", "Bearer a")]), one(Authorization, "a"));
        assert_eq!(beside(&[("Cookie", "__Host-ws=c")]), one(Cookie, "c"));
        assert_eq!(beside(&[("Cookie", "__Host-ws=c"), ("Authorization", "Bearer ")]), MALFORMED);
        let two = [("Sec-WebSocket-Protocol", "wsauth.bearer.YQ"), ("Authorization", "Bearer a")];
        assert_eq!(beside(&two), AMBIGUOUS);
    }

    #[test]
    fn a_token_cookie_is_a_clean_token() {
        let cookie = |value: &str| find(&[Cookie], "/", &[("cookie", value)]);
        assert_eq!(cookie("a=b; __Host-ws=a.b.c; c=d"), one(Cookie, "a.b.c"));
        assert_eq!(cookie("__host-ws=a"), Ok(None));
        for value in ["__Host-ws=", "__Host-ws=\"a\"", "__Host-ws=a b", "__Host-ws=a,b", "__Host-ws=é", "__Host-ws==a"]
        {
            assert_eq!(cookie(value), MALFORMED, "{value}");
        }
    }

    #[test]
    fn a_session_cookie_may_hold_any_cookie_character() {
        let session = |value: &str| {
            let change = |config: &mut HandshakeConfig| {
                config.credentials = vec![Cookie];
                config.cookie_holds = CookieHolds::Session;
            };
            find_with(change, "/", &[("Cookie", value)])
        };
        assert_eq!(session("__Host-ws=s%3Aab=.c!d"), one(Cookie, "s%3Aab=.c!d"));
        assert_eq!(session("__Host-ws=\"a\""), MALFORMED);
        assert_eq!(session("__Host-ws="), MALFORMED);
    }

    #[test]
    fn subprotocols_carry_base64url_or_the_jwt_itself() {
        let offer = |value: &str| find(&[Subprotocol], "/", &[("Sec-WebSocket-Protocol", value)]);
        assert_eq!(offer("chat.v1, wsauth.bearer.YS5iLmM"), one(Subprotocol, "a.b.c"));
        assert_eq!(offer("wsauth.bearer.YS5iLmM"), one(Subprotocol, "a.b.c"));
        assert_eq!(offer("wsauth.bearer.a.b.c,chat.v1"), one(Subprotocol, "a.b.c"));
        assert_eq!(offer("chat.v1, wsauth.bearer"), Ok(None));
        for value in [
            "wsauth.bearer.",
            "wsauth.bearer.a",
            "wsauth.bearer.YR",
            "wsauth.bearer.YS5iLmM%3D",
            "wsauth.bearer.a.b",
            "wsauth.bearer.a.b.",
            "wsauth.bearer.a.b.c.d",
            "wsauth.bearer.a.b.c~",
            "wsauth.bearer.AP__",
            "wsauth.bearer.YSBi",
            "Wsauth.Bearer.YS5iLmM",
        ] {
            assert_eq!(offer(value), MALFORMED, "{value}");
        }
        for value in [
            "wsauth.bearer.YQ, wsauth.bearer.YQ",
            "wsauth.bearer.YQ, WSAUTH.BEARER.YQ",
            "wsauth.bearer.YQ,wsauth.bearer.",
        ] {
            assert_eq!(offer(value), AMBIGUOUS, "{value}");
        }
        let lines = [("Sec-WebSocket-Protocol", "wsauth.bearer.YQ"), ("sec-websocket-protocol", "wsauth.bearer.Yg")];
        assert_eq!(find(&[Subprotocol], "/", &lines), AMBIGUOUS);
    }

    #[test]
    fn of_two_prefixes_the_longer_one_counts() {
        let change = |config: &mut HandshakeConfig| config.subprotocol_prefixes = vec!["b.".into(), "b.x.".into()];
        assert_eq!(find_with(change, "/", &[("Sec-WebSocket-Protocol", "b.x.YQ")]), one(Subprotocol, "a"));
        assert_eq!(find_with(change, "/", &[("Sec-WebSocket-Protocol", "b.YQ")]), one(Subprotocol, "a"));
    }

    #[test]
    fn the_query_is_read_when_switched_on() {
        let query = |target: &str| find(&[Query, Ticket], target, &[]);
        assert_eq!(query("/?x=1&access_token=a.b.c"), one(Query, "a.b.c"));
        assert_eq!(query("/?access%5Ftoken=a%2Eb%2ec%3D"), one(Query, "a.b.c="));
        assert_eq!(query("/?ticket=abc-_"), one(Ticket, "abc-_"));
        for target in [
            "/?access_token=",
            "/?access_token",
            "/?access_token=a%20b",
            "/?access_token=a%zz",
            "/?access_token=a%4",
            "/?access_token=a%00",
            "/?access_token=a;access_token=b",
            "/?access_token=a=b",
            "/?ticket=a%0d%0a",
            "/?ticket=",
        ] {
            assert_eq!(query(target), MALFORMED, "{target}");
        }
        assert_eq!(query("/?access_token=a&access_token=a"), AMBIGUOUS);
        assert_eq!(query("/?Access_Token=a"), Err(Reason::CredentialSourceDisabled));
        assert_eq!(query("/?a=1;access_token=b"), Ok(None));
    }

    #[test]
    fn tokens_are_bounded_after_decoding() {
        let small = |target: &str, fields: &[(&str, &str)]| {
            let change = |config: &mut HandshakeConfig| {
                config.credentials = ALL.to_vec();
                config.max_token_bytes = 9;
            };
            find_with(change, target, fields)
        };
        assert_eq!(small("/", &[("Authorization", "Bearer 123456789")]), one(Authorization, "123456789"));
        assert_eq!(small("/", &[("Authorization", "Bearer 1234567890")]), TOO_LARGE);
        assert_eq!(small("/?access_token=12345678%39", &[]), one(Query, "123456789"));
        assert_eq!(small("/?access_token=123456789%30", &[]), TOO_LARGE);
        assert_eq!(
            small("/", &[("Sec-WebSocket-Protocol", "wsauth.bearer.MTIzNDU2Nzg5")]),
            one(Subprotocol, "123456789")
        );
        assert_eq!(small("/", &[("Sec-WebSocket-Protocol", "wsauth.bearer.MTIzNDU2Nzg5MA")]), TOO_LARGE);
        assert_eq!(small("/", &[("Sec-WebSocket-Protocol", &format!("wsauth.bearer.{}", "!".repeat(999)))]), TOO_LARGE);
    }

    #[test]
    fn debug_shows_no_token() {
        let headers = [Header { name: b"Authorization", value: b"Bearer hunter2" }];
        let found = find_credential(upgrade("/", &headers), &rules(|_| ())).unwrap().unwrap();
        assert_eq!(format!("{found:?}"), "Credential(Token from Authorization, 7 bytes)");
        assert_eq!(found.kind, CredentialKind::Token);
    }

    proptest! {
        #[test]
        fn a_token_comes_back_as_it_was_sent(token in "[A-Za-z0-9._~+/-]{1,40}={0,2}") {
            let item = format!("wsauth.bearer.{}", URL_SAFE_NO_PAD.encode(&token));
            prop_assert_eq!(find(ALL, "/", &[("Sec-WebSocket-Protocol", &item)]), one(Subprotocol, &token));
            let escaped: String = token.bytes().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(find(ALL, &format!("/?access_token={escaped}"), &[]), one(Query, &token));
            let bearer = format!("Bearer {token}");
            prop_assert_eq!(find(ALL, "/", &[("Authorization", &bearer)]), one(Authorization, &token));
        }
    }
}
