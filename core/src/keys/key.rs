//! This file answers: what is a key, and did it sign this?

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents, VerificationAlgorithm,
};
use aws_lc_rs::{digest, hmac};

use super::pem::{Curve, PublicNumbers, parse_public_key};
use super::rsa::require_fit;
use super::secret::require_secret;
use crate::decision::Reason;
use crate::time::WallTime;
use crate::token::{Algorithm, Family};

/// A key that verifies one algorithm and no other (RFC 8725 section 3.1). Parsed once, shared by all threads.
///
/// Its `Debug` shows algorithm and id, never material.
pub struct Key {
    algorithm: Algorithm,
    id: Arc<str>,
    named: bool,
    not_after: Option<u64>,
    material: [u8; 32],
    verifier: Verifier,
}

enum Verifier {
    /// Boxed: it is twenty times as large as the other.
    Mac(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

impl Key {
    /// Makes a key from a shared secret.
    ///
    /// Refused: a secret shorter than the algorithm's hash, and one that is the text of a public key
    /// (RFC 7518 section 3.2).
    pub fn from_secret(secret: &[u8], algorithm: Algorithm) -> Result<Key, &'static str> {
        require_secret(secret, algorithm)?;
        let hash = match algorithm {
            Algorithm::HS384 => hmac::HMAC_SHA384,
            Algorithm::HS512 => hmac::HMAC_SHA512,
            _ => hmac::HMAC_SHA256,
        };
        // What a MAC made with the secret gives away: no more than any token signed with it does.
        let finger = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), b"wsauth key fingerprint");
        let verifier = Verifier::Mac(Box::new(hmac::Key::new(hash, secret)));
        Ok(Key::new(algorithm, finger.as_ref(), "secret", verifier))
    }

    /// Makes a key from the PEM text or DER of a SubjectPublicKeyInfo.
    ///
    /// Refused: RSA outside 2048 to 8192 bits, with an exponent below 65537 or of the ROCA kind; points off their
    /// curve; Ed25519 keys of small order; a key that does not fit the algorithm; text around the PEM block.
    pub fn from_public(material: &[u8], algorithm: Algorithm) -> Result<Key, &'static str> {
        Key::from_numbers(&parse_public_key(material)?, algorithm)
    }

    /// Makes a key from the numbers of a PEM, DER or JWK.
    pub(super) fn from_numbers(numbers: &PublicNumbers, algorithm: Algorithm) -> Result<Key, &'static str> {
        if numbers.family() != algorithm.family() {
            return Err("the key does not fit the algorithm");
        }
        let parsed = match numbers {
            PublicNumbers::Rsa { modulus, exponent } => {
                require_fit(modulus, exponent)?;
                let parameters = rsa_parameters(algorithm).ok_or("the key does not fit the algorithm")?;
                let components = RsaPublicKeyComponents { n: modulus, e: exponent };
                components.to_parsed_public_key(parameters).map_err(|_| "not a valid RSA key")?
            }
            PublicNumbers::Ec { curve, point } => {
                let expected = curve.coordinate_bytes().saturating_mul(2).saturating_add(1);
                if point.len() != expected || point.first() != Some(&4) {
                    return Err("the point is not in its full, uncompressed form");
                }
                let algorithm: &'static dyn VerificationAlgorithm = match curve {
                    Curve::P256 => &ECDSA_P256_SHA256_FIXED,
                    Curve::P384 => &ECDSA_P384_SHA384_FIXED,
                    Curve::P521 => &ECDSA_P521_SHA512_FIXED,
                };
                ParsedPublicKey::new(algorithm, point).map_err(|_| "the point is not on the curve")?
            }
            PublicNumbers::Ed25519(raw) => {
                require_full_order(raw)?;
                ParsedPublicKey::new(&ED25519, raw).map_err(|_| "not a valid Ed25519 key")?
            }
        };
        let finger = digest::digest(&digest::SHA256, parsed.as_ref());
        Ok(Key::new(algorithm, finger.as_ref(), "key", Verifier::Public(parsed)))
    }

    fn new(algorithm: Algorithm, finger: &[u8], kind: &str, verifier: Verifier) -> Key {
        let mut material = [0; 32];
        material.iter_mut().zip(finger).for_each(|(to, from)| *to = *from);
        let short: String = finger.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let id = Arc::from(format!("{kind}-{short}"));
        Key { algorithm, id, named: false, not_after: None, material, verifier }
    }

    /// Gives the key the id under which tokens name it.
    pub(super) fn named(mut self, key_id: Option<&str>) -> Key {
        if let Some(key_id) = key_id {
            (self.id, self.named) = (Arc::from(key_id), true);
        }
        self
    }

    /// Ends the key at `not_after`, in seconds since 1970.
    pub(super) fn until(mut self, not_after: Option<u64>) -> Key {
        self.not_after = not_after;
        self
    }

    /// The one algorithm it serves.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Its key id; for a key without one, a fingerprint that stays the same while the key does.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The id under which tokens name it, if they do.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.named.then_some(&*self.id)
    }

    /// Whether it may still be used; not any more at the second `not_after`.
    pub(super) fn is_current(&self, wall: WallTime) -> bool {
        self.not_after.is_none_or(|end| wall < WallTime::from_secs(end))
    }

    /// Whether both are the same key for the same algorithm.
    pub(super) fn same(&self, other: &Key) -> bool {
        self.algorithm == other.algorithm && self.material == other.material
    }

    /// Whether this key made `signature` over exactly these bytes; otherwise [`Reason::SignatureInvalid`].
    ///
    /// MACs are compared in full length and constant time. ECDSA signatures are the two numbers in full length
    /// (RFC 7518 section 3.4); a high S is allowed.
    #[doc(hidden)]
    pub fn verify_bytes(&self, signed: &[u8], signature: &[u8]) -> Result<(), Reason> {
        let verified = match &self.verifier {
            Verifier::Mac(key) => hmac::verify(key, signed, signature),
            Verifier::Public(key) => key.verify_sig(signed, signature),
        };
        verified.map_err(|_| Reason::SignatureInvalid)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} {:?})", self.algorithm.name(), self.id)
    }
}

impl PublicNumbers {
    /// The kind of key these numbers are.
    pub(super) fn family(&self) -> Family {
        match self {
            PublicNumbers::Rsa { .. } => Family::Rsa,
            PublicNumbers::Ec { curve: Curve::P256, .. } => Family::P256,
            PublicNumbers::Ec { curve: Curve::P384, .. } => Family::P384,
            PublicNumbers::Ec { curve: Curve::P521, .. } => Family::P521,
            PublicNumbers::Ed25519(_) => Family::Ed25519,
        }
    }
}

fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

/// Ed25519's y coordinates, little-endian, whose points have an order of 1, 2, 4 or 8: anyone can sign for them.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
];

/// Refuses keys of small order and y coordinates that are not reduced (RFC 8032 section 5.1.3): aws-lc does not.
fn require_full_order(raw: &[u8]) -> Result<(), &'static str> {
    let Ok(mut y) = <[u8; 32]>::try_from(raw) else { return Err("an Ed25519 key has 32 bytes") };
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    let reduced = {
        // The prime 2^255 - 19 is ed ff .. ff 7f; compare from the high end.
        let prime = std::iter::once(&0x7f).chain([0xff; 30].iter()).chain(std::iter::once(&0xed));
        y.iter().rev().lt(prime)
    };
    if !reduced {
        return Err("the Ed25519 key is not in its canonical form");
    }
    if SMALL_ORDER.contains(&y) {
        return Err("the Ed25519 key has a small order; anyone could sign for it");
    }
    Ok(())
}
