//! This file answers: how do secrets travel without ever being printed?

use std::fmt;

use zeroize::Zeroizing;

/// Bytes that are wiped when dropped and whose `Debug` shows only their length.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the bytes over.
    pub fn new(bytes: Vec<u8>) -> Secret {
        Secret(Zeroizing::new(bytes))
    }

    /// The bytes, for the one place that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// Random bytes from the operating system, given to an engine when it is made.
///
/// Every hash key, generation start and jitter of one engine is derived from it; the core has no
/// randomness of its own. Constant only in tests with a manual clock.
#[derive(Clone)]
pub struct EngineSeed(Zeroizing<[u8; 32]>);

impl EngineSeed {
    /// Wraps 32 random bytes.
    pub fn new(bytes: [u8; 32]) -> EngineSeed {
        EngineSeed(Zeroizing::new(bytes))
    }

    /// Derives an independent 128-bit key for one purpose: HMAC-SHA256(seed, label), cut.
    pub fn derive(&self, label: &str) -> [u64; 2] {
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &*self.0);
        let tag = aws_lc_rs::hmac::sign(&key, label.as_bytes());
        let mut words = [0u64; 2];
        for (word, bytes) in words.iter_mut().zip(tag.as_ref().chunks_exact(8)) {
            *word = bytes.iter().fold(0, |all, byte| (all << 8) | u64::from(*byte));
        }
        words
    }
}

impl fmt::Debug for EngineSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineSeed(32 bytes)")
    }
}
