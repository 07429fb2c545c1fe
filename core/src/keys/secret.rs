//! This file answers: may these bytes be a shared secret?

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::der::{parse_public_key_info, parse_rsa_key};
use crate::token::Algorithm;

/// Refuses a secret that is too short for its hash (RFC 7518 section 3.2), and text that is somebody's public key:
/// whoever keys a MAC with something public lets everyone sign (CVE-2016-5431 and its many children).
///
/// The text of a refusal is for the operator and shows nothing of the secret.
pub(crate) fn require_secret(secret: &[u8], algorithm: Algorithm) -> Result<(), &'static str> {
    let (shortest, text) = match algorithm {
        Algorithm::HS256 => (32, "the secret is shorter than the 32 bytes HS256 needs"),
        Algorithm::HS384 => (48, "the secret is shorter than the 48 bytes HS384 needs"),
        Algorithm::HS512 => (64, "the secret is shorter than the 64 bytes HS512 needs"),
        _ => return Err("a secret cannot serve a public-key algorithm"),
    };
    if secret.len() < shortest {
        return Err(text);
    }
    if is_public_material(secret) {
        return Err("the secret is the text of a public key, a certificate or a JWK, which is no secret");
    }
    Ok(())
}

/// Whether these bytes are a key of another kind, in any of the spellings a config file could hold.
fn is_public_material(bytes: &[u8]) -> bool {
    // UTF-16 text is the same text with zeros in it.
    let text: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != 0 && !byte.is_ascii_whitespace()).collect();
    let holds = |needle: &str| text.windows(needle.len()).any(|window| window == needle.as_bytes());
    let is_der = |bytes: &[u8]| parse_public_key_info(bytes).is_some() || parse_rsa_key(bytes).is_some();
    is_der(bytes)
        || ["BEGINPUBLICKEY", "BEGINRSAPUBLICKEY", "BEGINCERTIFICATE", "-----BEGIN", "----BEGINSSH2"]
            .into_iter()
            .any(holds)
        || ["ssh-rsa", "ssh-ed25519", "ssh-dss", "ecdsa-sha2-nistp"].into_iter().any(holds)
        || (holds("{") && holds("\"kty\""))
        || STANDARD.decode(&text).is_ok_and(|decoded| is_der(&decoded))
}

#[cfg(test)]
mod tests {
    use super::{is_public_material, require_secret};
    use crate::token::Algorithm;

    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAfU0Of2FTpptiQrUiq77mhf2kQg+INLEIw72uNp71Sfo=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn a_secret_is_at_least_as_long_as_its_hash() {
        for (algorithm, bytes) in [(Algorithm::HS256, 32), (Algorithm::HS384, 48), (Algorithm::HS512, 64)] {
            assert_eq!(require_secret(&vec![7; bytes], algorithm), Ok(()));
            assert!(require_secret(&vec![7; bytes - 1], algorithm).is_err());
            assert!(require_secret(&[], algorithm).is_err());
        }
        assert!(require_secret(&[7; 99], Algorithm::RS256).is_err());
    }

    #[test]
    fn public_keys_are_no_secrets_in_any_dress() {
        let utf16: Vec<u8> = PEM.bytes().flat_map(|byte| [byte, 0]).collect();
        let body = PEM.lines().nth(1).unwrap();
        let dressed = [
            PEM.as_bytes().to_vec(),
            PEM.trim().as_bytes().to_vec(),
            format!("\n \u{200b}{PEM}").into_bytes(),
            format!("x{PEM}").into_bytes(),
            utf16,
            body.as_bytes().to_vec(),
            super::Engine::decode(&super::STANDARD, body).unwrap(),
            b"\r\n{ \"e\":\"AQAB\", \"kty\" : \"RSA\", \"n\":\"AAAA\" }".to_vec(),
            b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAA user@host".to_vec(),
            b"\0\0\0\x07ssh-rsa\0\0\0\x03\x01\0\x01".to_vec(),
        ];
        for bytes in dressed {
            assert!(is_public_material(&bytes), "{bytes:?}");
        }
        for secret in [&b"correct horse battery staple correct horse"[..], &[0x30; 64], &[0; 32], b"{not a key}"] {
            assert!(!is_public_material(secret));
        }
    }
}
