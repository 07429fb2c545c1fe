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
