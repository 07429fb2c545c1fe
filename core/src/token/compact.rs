//! This file answers: is this a well-formed compact token, and what does its header ask for?

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserializer;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::json::{Bounds, parse_object};
use crate::decision::Reason;

/// Longest token header in bytes, decoded.
pub const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Longest key id in bytes (RFC 7515 section 4.1.4 sets no bound).
pub const MAX_KEY_ID_BYTES: usize = 256;

/// A token of the right form (RFC 7515 section 7.1), about which nothing has been proved.
///
/// Its `Debug` shows lengths only. The one way on is [`verify_signature`](super::verify_signature).
pub struct Unverified<'t> {
    header: Header,
    payload: Vec<u8>,
    signature: Vec<u8>,
    signing_input: &'t [u8],
}

/// What a token header asks for. Members that are not read here are ignored (RFC 7515 section 4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// `alg`.
    pub algorithm: Algorithm,
    /// `kid`: 1 to 256 bytes without control characters.
    pub key_id: Option<String>,
    /// `typ`, as written.
    pub typ: Option<String>,
}

impl<'t> Unverified<'t> {
    /// Reads exactly three strict base64url parts whose first is a strict JSON object.
    ///
    /// # Refusals
    ///
    /// - [`Reason::TokenTooLarge`]: longer than `max_token_bytes`, or a header over 8 KiB.
    /// - [`Reason::TokenMalformed`]: other than three parts, padding, foreign characters, unused bits that are set.
    /// - [`Reason::TokenHeaderMalformed`]: the header is not one strict JSON object.
    /// - [`Reason::TokenAlgorithm`]: `alg` is absent, no string, or no name we know.
    /// - [`Reason::TokenCritical`]: `crit`, `b64`, `zip` or `enc` (RFC 7515 section 4.1.11, RFC 7797).
    /// - [`Reason::TokenKeyEmbedded`]: `jwk`, `jku`, `x5u` or `x5c` (RFC 8725 section 3.10).
    /// - [`Reason::TokenKeyId`], [`Reason::TokenType`]: `kid` or `typ` is not clean text.
    ///
    /// # Cost
    ///
    /// Linear in the length, which is checked first; no cryptography.
    pub fn parse(token: &'t [u8], max_token_bytes: usize) -> Result<Unverified<'t>, Reason> {
        if token.len() > max_token_bytes {
            return Err(Reason::TokenTooLarge);
        }
        let mut parts = token.split(|byte| *byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Reason::TokenMalformed);
        };
        if header.is_empty() || signature.is_empty() {
            return Err(Reason::TokenMalformed);
        }
        let header = decode(header)?;
        if header.len() > MAX_HEADER_BYTES {
            return Err(Reason::TokenTooLarge);
        }
        let signed_bytes = token.len().saturating_sub(signature.len()).saturating_sub(1);
        let signing_input = token.get(..signed_bytes).ok_or(Reason::TokenMalformed)?;
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        Ok(Unverified { header: Header::parse(&header)?, payload, signature, signing_input })
    }

    /// What the header asks for; not to be believed.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The top-level `iss`, unproved, to choose among configured issuers and for nothing else (RULES 11).
    ///
    /// `None` when the payload is no JSON object or `iss` is absent, repeated or no string.
    pub(crate) fn peek_issuer(&self) -> Option<String> {
        let mut source = serde_json::Deserializer::from_slice(&self.payload);
        source.deserialize_map(IssuerOnly).ok().flatten()
    }

    pub(super) fn signing_input(&self) -> &'t [u8] {
        self.signing_input
    }

    pub(super) fn signature(&self) -> &[u8] {
        &self.signature
    }

    pub(super) fn into_parts(self) -> (Header, Vec<u8>) {
        (self.header, self.payload)
    }
}

impl fmt::Debug for Unverified<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (payload, signature) = (self.payload.len(), self.signature.len());
        write!(f, "Unverified({payload} bytes of payload, {signature} of signature)")
    }
}

/// Whether these bytes have the shape of a JWT: three parts of base64 characters (RULES 12).
///
/// Sloppy on purpose where [`Unverified::parse`] is strict: a JWT with a padding sign added is still a JWT, so that
/// no edit to a refused JWT turns it into an opaque token that the issuer is asked about.
pub(crate) fn is_jwt_shaped(token: &[u8]) -> bool {
    let base64 = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_+/=.".contains(byte);
    token.iter().filter(|byte| **byte == b'.').count() == 2 && token.iter().all(base64)
}

/// Strict base64url (RFC 7515 section 2): no padding, no white space, unused bits zero.
fn decode(part: &[u8]) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::TokenMalformed)
}

impl Header {
    fn parse(text: &[u8]) -> Result<Header, Reason> {
        let map = parse_object(text, Bounds::TOKEN).map_err(|_| Reason::TokenHeaderMalformed)?;
        let algorithm = map.get("alg").and_then(Value::as_str).and_then(Algorithm::parse);
        let algorithm = algorithm.ok_or(Reason::TokenAlgorithm)?;
        if ["crit", "b64", "zip", "enc"].iter().any(|name| map.contains_key(*name)) {
            return Err(Reason::TokenCritical);
        }
        if ["jwk", "jku", "x5u", "x5c"].iter().any(|name| map.contains_key(*name)) {
            return Err(Reason::TokenKeyEmbedded);
        }
        let key_id = text_member(&map, "kid", Reason::TokenKeyId)?;
        if key_id.as_deref().is_some_and(|id| !is_key_id(id)) {
            return Err(Reason::TokenKeyId);
        }
        let typ = text_member(&map, "typ", Reason::TokenType)?;
        Ok(Header { algorithm, key_id, typ })
    }
}

/// Whether this text can be a key id: 1 to 256 bytes, no control characters.
pub(crate) fn is_key_id(text: &str) -> bool {
    (1..=MAX_KEY_ID_BYTES).contains(&text.len()) && !text.chars().any(char::is_control)
}

fn text_member(map: &Map<String, Value>, name: &str, reason: Reason) -> Result<Option<String>, Reason> {
    match map.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(reason),
    }
}

/// Reads the top-level `iss` and skips the rest without keeping it.
struct IssuerOnly;

impl<'de> Visitor<'de> for IssuerOnly {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Self::Value, A::Error> {
        let mut issuer = None;
        while let Some(name) = source.next_key::<String>()? {
            if name != "iss" {
                source.next_value::<IgnoredAny>()?;
            } else if issuer.replace(source.next_value::<String>()?).is_some() {
                return Err(A::Error::custom("iss stands twice"));
            }
        }
        Ok(issuer)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use proptest::prelude::*;

    use super::{Unverified, is_jwt_shaped};
    use crate::decision::Reason;
    use crate::token::Algorithm;

    const LIMIT: usize = 16 * 1024;

    fn token(header: &str, payload: &str) -> Vec<u8> {
        let encode = |part: &str| URL_SAFE_NO_PAD.encode(part);
        format!("{}.{}.AAAA", encode(header), encode(payload)).into_bytes()
    }

    fn refusal(token: &[u8]) -> Reason {
        Unverified::parse(token, LIMIT).expect_err("must be refused")
    }

    #[test]
    fn a_header_is_read_and_strangers_in_it_are_ignored() {
        let token = token(r#"{"alg":"EdDSA","kid":"k1","typ":"at+jwt","x":[1],"cty":"x"}"#, "hello");
        let parsed = Unverified::parse(&token, LIMIT).unwrap();
        assert_eq!(parsed.header().algorithm, Algorithm::Ed25519);
        assert_eq!(parsed.header().key_id.as_deref(), Some("k1"));
        assert_eq!(parsed.header().typ.as_deref(), Some("at+jwt"));
        assert_eq!(parsed.signing_input(), &token[..token.len() - 5]);
        assert_eq!(format!("{parsed:?}"), "Unverified(5 bytes of payload, 3 of signature)");
    }

    #[test]
    fn the_form_is_exact() {
        let good = String::from_utf8(token(r#"{"alg":"HS256"}"#, "{}")).unwrap();
        assert!(Unverified::parse(good.as_bytes(), LIMIT).is_ok());
        assert_eq!(Unverified::parse(good.as_bytes(), good.len() - 1).err(), Some(Reason::TokenTooLarge));
        let bad = [
            String::new(),
            "..".to_owned(),
            "a.b".to_owned(),
            ".".repeat(10_000),
            format!("{good}="),
            format!("{good}\n"),
            format!(" {good}"),
            format!("\"{good}\""),
            format!("{good}.AAAA"),
            format!(".{good}"),
            good.replace("AAAA", ""),
            good.replace("AAAA", "AAAAA"),
            good.replace("AAAA", "AB"),
            good.replace("AAAA", "A+A/"),
            good.replace("AAAA", "AA A"),
            good.replace('.', "%2E"),
        ];
        for text in bad {
            assert_eq!(refusal(text.as_bytes()), Reason::TokenMalformed, "{text:.60}");
        }
        assert!(Unverified::parse(&token(r#"{"alg":"HS256"}"#, ""), LIMIT).is_ok(), "the JWS layer has no claims");
    }

    #[test]
    fn each_header_rule_has_its_reason() {
        use Reason::{
            TokenAlgorithm, TokenCritical, TokenHeaderMalformed, TokenKeyEmbedded, TokenKeyId, TokenMalformed,
            TokenType,
        };
        let long = format!(r#"{{"alg":"HS256","kid":"{}"}}"#, "k".repeat(257));
        let cases = [
            ("[]", TokenHeaderMalformed),
            ("7", TokenHeaderMalformed),
            ("", TokenMalformed),
            (r#"{"alg":"RS256","alg":"none"}"#, TokenHeaderMalformed),
            ("{}", TokenAlgorithm),
            (r#"{"alg":"none"}"#, TokenAlgorithm),
            (r#"{"alg":"rs256"}"#, TokenAlgorithm),
            (r#"{"alg":null}"#, TokenAlgorithm),
            (r#"{"alg":["RS256"]}"#, TokenAlgorithm),
            (r#"{"alg":"RS256","crit":[]}"#, TokenCritical),
            (r#"{"alg":"RS256","b64":true}"#, TokenCritical),
            (r#"{"alg":"RS256","zip":"DEF"}"#, TokenCritical),
            (r#"{"alg":"RS256","enc":"A256GCM"}"#, TokenCritical),
            (r#"{"alg":"RS256","jwk":null}"#, TokenKeyEmbedded),
            (r#"{"alg":"RS256","jku":""}"#, TokenKeyEmbedded),
            (r#"{"alg":"RS256","x5u":""}"#, TokenKeyEmbedded),
            (r#"{"alg":"RS256","x5c":[]}"#, TokenKeyEmbedded),
            (r#"{"alg":"RS256","kid":""}"#, TokenKeyId),
            (r#"{"alg":"RS256","kid":null}"#, TokenKeyId),
            (r#"{"alg":"RS256","kid":"a\u0000"}"#, TokenKeyId),
            (r#"{"alg":"RS256","kid":"a\r\nb"}"#, TokenKeyId),
            (&long, TokenKeyId),
            (r#"{"alg":"RS256","typ":["at+jwt"]}"#, TokenType),
        ];
        for (header, reason) in cases {
            assert_eq!(refusal(&token(header, "{}")), reason, "{header:.60}");
        }
    }

    #[test]
    fn a_header_over_its_limit_is_refused_by_size() {
        let header = |pad: usize| format!(r#"{{"alg":"HS256","x":"{}"}}"#, "x".repeat(pad));
        let fits = 8 * 1024 - header(0).len();
        assert!(Unverified::parse(&token(&header(fits), "{}"), LIMIT).is_ok());
        assert_eq!(refusal(&token(&header(fits + 1), "{}")), Reason::TokenTooLarge);
    }

    #[test]
    fn only_a_single_top_level_string_names_the_issuer() {
        let peek =
            |payload: &str| Unverified::parse(&token(r#"{"alg":"HS256"}"#, payload), LIMIT).unwrap().peek_issuer();
        assert_eq!(peek(r#"{"a":{"iss":"x"},"iss":"y","b":[{"iss":"z"}]}"#), Some("y".to_owned()));
        for payload in [
            "",
            "[]",
            "{}",
            r#"{"iss":1}"#,
            r#"{"iss":["y"]}"#,
            r#"{"iss":"a","\u0069ss":"b"}"#,
            r#"{"a":{"iss":"x"}}"#,
        ] {
            assert_eq!(peek(payload), None, "{payload}");
        }
        assert_eq!(peek(&"[".repeat(10_000)), None);
        assert_eq!(peek(&format!("{{\"a\":{}", "[".repeat(10_000))), None);
    }

    #[test]
    fn a_jwt_stays_a_jwt_when_it_is_damaged() {
        for text in ["a.b.c", "a.b.c=", "a..c", "..", "a+/.b.c"] {
            assert!(is_jwt_shaped(text.as_bytes()), "{text}");
        }
        for text in ["", "abc", "a.b", "a.b.c.d.e", "a.b.c d", "a.b.c~"] {
            assert!(!is_jwt_shaped(text.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive(bytes in proptest::collection::vec(any::<u8>(), 0..300), header in ".{0,60}") {
            let _ = Unverified::parse(&bytes, LIMIT);
            let _ = Unverified::parse(&token(&header, "x"), LIMIT);
        }

        #[test]
        fn no_second_spelling_of_a_part_is_read(at in 0usize..60, byte in any::<u8>()) {
            let good = token(r#"{"alg":"HS256","kid":"key"}"#, r#"{"a":1}"#);
            let mut other = good.clone();
            let at = at % good.len();
            other[at] = byte;
            if let (Ok(one), Ok(two)) = (Unverified::parse(&good, LIMIT), Unverified::parse(&other, LIMIT)) {
                let same = one.header == two.header && one.payload == two.payload && one.signature == two.signature;
                prop_assert!(!same || good == other, "two texts, one token");
            }
        }
    }
}
