//! This file answers: which algorithms exist here?

/// A signature or MAC algorithm (RFC 7518 section 3.1, RFC 8037, RFC 9864). `none` cannot be expressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are the registered ones")]
pub enum Algorithm {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    /// `EdDSA` and `Ed25519` name the same thing here.
    Ed25519,
}

/// The kind of key an algorithm needs: what `kty` and `crv` say in a JWK, what the OID says in a PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// A shared secret.
    Secret,
    /// RSA, for PKCS#1 v1.5 and PSS.
    Rsa,
    /// The curve P-256.
    P256,
    /// The curve P-384.
    P384,
    /// The curve P-521.
    P521,
    /// The curve of Ed25519.
    Ed25519,
}

impl Algorithm {
    /// Every algorithm, in the order of the registry.
    pub const ALL: [Algorithm; 13] = [
        Algorithm::HS256,
        Algorithm::HS384,
        Algorithm::HS512,
        Algorithm::RS256,
        Algorithm::RS384,
        Algorithm::RS512,
        Algorithm::PS256,
        Algorithm::PS384,
        Algorithm::PS512,
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::ES512,
        Algorithm::Ed25519,
    ];

    /// Reads a registered name, byte for byte: no other case, no spaces, no `none`.
    pub fn parse(name: &str) -> Option<Algorithm> {
        if name == "EdDSA" {
            return Some(Algorithm::Ed25519);
        }
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The registered name; `Ed25519` for both of its names.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::HS256 => "HS256",
            Algorithm::HS384 => "HS384",
            Algorithm::HS512 => "HS512",
            Algorithm::RS256 => "RS256",
            Algorithm::RS384 => "RS384",
            Algorithm::RS512 => "RS512",
            Algorithm::PS256 => "PS256",
            Algorithm::PS384 => "PS384",
            Algorithm::PS512 => "PS512",
            Algorithm::ES256 => "ES256",
            Algorithm::ES384 => "ES384",
            Algorithm::ES512 => "ES512",
            Algorithm::Ed25519 => "Ed25519",
        }
    }

    /// The kind of key it needs.
    pub const fn family(self) -> Family {
        match self {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Family::Secret,
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => Family::Rsa,
            Algorithm::ES256 => Family::P256,
            Algorithm::ES384 => Family::P384,
            Algorithm::ES512 => Family::P521,
            Algorithm::Ed25519 => Family::Ed25519,
        }
    }

    /// Whether it is a MAC, whose verifier could also sign.
    pub const fn is_mac(self) -> bool {
        matches!(self.family(), Family::Secret)
    }
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Family};

    #[test]
    fn names_read_back_and_nothing_else_does() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
            assert_eq!(Algorithm::parse(&algorithm.name().to_lowercase()), None);
            assert_eq!(algorithm.is_mac(), algorithm.family() == Family::Secret);
        }
        assert_eq!(Algorithm::parse("EdDSA"), Some(Algorithm::Ed25519));
        for name in
            ["", "none", "None", "nOnE", "RS256 ", " RS256", "RS256\0", "HS1", "ES256K", "Ed448", "RSA1_5", "dir"]
        {
            assert_eq!(Algorithm::parse(name), None, "{name:?}");
        }
    }
}
