//! This file answers: which public key stands in this PEM text or DER?

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::der::{Parameters, parse_public_key_info, parse_rsa_key};

/// A public key's numbers, before they are judged.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PublicNumbers {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    /// An uncompressed point on the curve that has the object identifier `curve`.
    Ec { curve: Curve, point: Vec<u8> },
    /// The 32 bytes of an Ed25519 key.
    Ed25519(Vec<u8>),
}

/// A curve of RFC 7518 section 6.2.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    /// Bytes of one coordinate.
    pub(crate) const fn coordinate_bytes(self) -> usize {
        match self {
            Curve::P256 => 32,
            Curve::P384 => 48,
            Curve::P521 => 66,
        }
    }
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const P521: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x23];

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// Reads one SubjectPublicKeyInfo, as PEM text (RFC 7468 section 13) or DER. Text before or after the block is
/// refused: a key's kind is never guessed from what surrounds it.
pub(crate) fn parse_public_key(material: &[u8]) -> Result<PublicNumbers, &'static str> {
    let decoded;
    let der = if material.first() == Some(&super::der::SEQUENCE) {
        material
    } else {
        decoded = parse_pem(material)?;
        &decoded
    };
    let Some(info) = parse_public_key_info(der) else {
        return Err("not the DER of a SubjectPublicKeyInfo");
    };
    match (info.algorithm, info.parameters) {
        (RSA, Parameters::Null) => {
            let (modulus, exponent) = parse_rsa_key(info.key).ok_or("not the DER of an RSA public key")?;
            Ok(PublicNumbers::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() })
        }
        (EC, Parameters::Oid(curve)) => {
            let curve = match curve {
                P256 => Curve::P256,
                P384 => Curve::P384,
                P521 => Curve::P521,
                _ => return Err("the curve is not P-256, P-384 or P-521"),
            };
            Ok(PublicNumbers::Ec { curve, point: info.key.to_vec() })
        }
        (ED25519, Parameters::Absent) => Ok(PublicNumbers::Ed25519(info.key.to_vec())),
        _ => Err("the key is not RSA, EC on a named curve, or Ed25519"),
    }
}

fn parse_pem(material: &[u8]) -> Result<Vec<u8>, &'static str> {
    let text = std::str::from_utf8(material).map_err(|_| "neither PEM text nor DER")?;
    if text.contains("PRIVATE KEY-----") {
        return Err("this is a private key; only its public half belongs here");
    }
    if text.contains("CERTIFICATE-----") {
        return Err("this is a certificate; extract its public key with `openssl x509 -pubkey -noout`");
    }
    if text.contains("BEGIN RSA PUBLIC KEY-----") {
        return Err("this is a PKCS#1 key; convert it with `openssl rsa -RSAPublicKey_in -pubout`");
    }
    let body = text.strip_prefix(BEGIN).ok_or("the text does not begin with `-----BEGIN PUBLIC KEY-----`")?;
    let (body, after) = body.split_once(END).ok_or("the text has no `-----END PUBLIC KEY-----`")?;
    if !after.chars().all(|c| matches!(c, '\r' | '\n')) {
        return Err("there is text after `-----END PUBLIC KEY-----`");
    }
    let base64: String = body.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(base64).map_err(|_| "the PEM block is not base64")
}

#[cfg(test)]
mod tests {
    use super::{Curve, PublicNumbers, parse_public_key};

    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAfU0Of2FTpptiQrUiq77mhf2kQg+INLEIw72uNp71Sfo=\n-----END PUBLIC KEY-----\n";
    const EC: &str = "-----BEGIN PUBLIC KEY-----\r\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEKSexBRK64+3c/kZ4KBKLrSkDJpkZ\r\n9whgacjE32xzKDjHeHlk6qwA5ZIfsUmKYPRgZ2az2WhQAVWNGpdOc0FRPg==\r\n-----END PUBLIC KEY-----";

    #[test]
    fn pem_and_der_give_the_same_numbers() {
        let PublicNumbers::Ed25519(raw) = parse_public_key(PEM.as_bytes()).unwrap() else { panic!() };
        assert_eq!((raw.len(), raw[0]), (32, 0x7d));
        let der = [&[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0][..], &raw].concat();
        assert_eq!(parse_public_key(&der), Ok(PublicNumbers::Ed25519(raw)));
        let PublicNumbers::Ec { curve: Curve::P256, point } = parse_public_key(EC.as_bytes()).unwrap() else {
            panic!()
        };
        assert_eq!((point.len(), point[0]), (65, 4));
    }

    #[test]
    fn a_block_stands_alone() {
        for text in [
            format!("\n{PEM}"),
            format!(" {PEM}"),
            format!("\n \u{200b}{PEM}"),
            format!("\u{feff}{PEM}"),
            format!("key: {PEM}"),
            format!("{PEM}x"),
            format!("{PEM}{PEM}"),
            PEM.replace("MCow", "MC ow"),
            PEM.replace("Sfo=", "Sfo"),
            PEM.replace("PUBLIC", "PRIVATE"),
            PEM.replace("PUBLIC KEY", "CERTIFICATE"),
            PEM.replace("PUBLIC", "RSA PUBLIC"),
            PEM.replace("-----END PUBLIC KEY-----", ""),
            String::new(),
            "0".to_owned(),
            "secret".to_owned(),
        ] {
            assert!(parse_public_key(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
