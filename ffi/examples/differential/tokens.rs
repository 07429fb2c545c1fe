//! This file answers: which tokens do peers bring?

use std::collections::VecDeque;

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use crate::configs::{LOCAL, REMOTE, SECRETS};
use crate::random::Random;

/// The public half of RFC 8037 appendix A.
pub(crate) const KEY_SET: &str = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"kid\":\"e1\",\"alg\":\"EdDSA\",\
     \"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";
/// The private half as PKCS #8.
const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
     MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
     -----END PRIVATE KEY-----\n";

/// How long a credential lives, in seconds; sometimes it is over.
pub(crate) fn life(random: &mut Random) -> u64 {
    *random.pick(&[0, 1, 3, 20, 60, 120, 600, 600, 900, 3_600, 3_600, 7_200])
}

/// Tokens that were made, and how to make more.
#[derive(Default)]
pub(crate) struct Tokens {
    made: u64,
    /// Whole tokens, newest first.
    recent: VecDeque<String>,
}

impl Tokens {
    /// A token for a subject: mostly good.
    pub(crate) fn any(
        &mut self,
        random: &mut Random,
        wall_ms: u64,
        subject: &str,
        session: Option<&str>,
        issuer: &str,
    ) -> String {
        let fault = random.below(60);
        if fault == 0 {
            return random.pick(&["", "a.b.c", "a.b", "eyJhbGciOiJub25lIn0.e30.", "o-s1-0-1", "\u{e9}"]).to_string();
        }
        if fault < 4
            && let Some(old) = random.of(self.recent.make_contiguous())
        {
            return old.clone();
        }
        let now = wall_ms / 1000;
        let mut claims = json!({
            "iss": if fault == 4 { "https://nobody.example.com" } else { issuer },
            "aud": if fault == 5 { "other" } else { "live" },
            "sub": subject,
            "exp": if fault == 6 { now.saturating_sub(1) } else { now + life(random) },
            "jti": format!("t{}", self.made),
            "permissions": random.pick(&[
                &["chat:read", "chat:write"][..], &["chat:read", "room:7:join"], &["chat:read"], &[], &["chat:admin"],
                &["chat:read", "room:*:join", "user:s1:read"],
            ]),
        });
        self.made += 1;
        let mut set = |name: &str, value: serde_json::Value| claims[name] = value;
        if let Some(session) = session {
            set("sid", json!(session));
        }
        if !random.one_in(20) {
            set("iat", json!(now + u64::from(fault == 7) * 3_600));
        }
        match fault {
            8 => set("nbf", json!(now + 3_600)),
            9 => set("tenant", json!("t1")),
            10 => set("exp", json!("soon")),
            11 => set("exp", json!(now + 100_000_000)),
            12 => set("sub", json!("")),
            13 => set("cnf", json!({ "x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2" })),
            _ => {}
        }
        let mut token = if issuer == REMOTE {
            let mut header = Header::new(Algorithm::EdDSA);
            header.kid = Some(if fault == 14 { "e2" } else { "e1" }.to_owned());
            let key = EncodingKey::from_ed_pem(PRIVATE.as_bytes()).expect("a key");
            encode(&header, &claims, &key).expect("a token")
        } else {
            let (key_id, secret) = random.pick(&SECRETS);
            let mut header = Header::new(if fault == 15 { Algorithm::HS384 } else { Algorithm::HS256 });
            header.kid = (fault != 16).then(|| if fault == 17 { "k9" } else { key_id }.to_owned());
            let wrong = "not the secret that it should be!".as_bytes();
            let key = EncodingKey::from_secret(if fault == 18 { wrong } else { secret.as_bytes() });
            encode(&header, &claims, &key).expect("a token")
        };
        if fault == 19 {
            // A letter is changed anywhere.
            let at = random.below(token.len() as u64) as usize;
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            token.replace_range(at..=at, other);
        }
        if issuer == LOCAL {
            self.recent.push_front(token.clone());
            self.recent.truncate(100);
        }
        token
    }

    /// The id of a token that was made not long ago.
    pub(crate) fn recent_id(&self, random: &mut Random) -> String {
        format!("t{}", self.made.saturating_sub(random.below(150)))
    }
}

/// As JOSE writes bytes (RFC 7515).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (n, byte)| word | u32::from(*byte) << (16 - 8 * n));
        for n in 0..=chunk.len() {
            text.push(char::from(LETTERS[(word >> (18 - 6 * n) & 63) as usize]));
        }
    }
    text
}
