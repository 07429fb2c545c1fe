//! This file answers: under which key does a table file what a peer named?

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

/// A keyed 128-bit hash that stands for a name in a table.
///
/// Nobody without the key can find two names with one fingerprint, or crowd one bucket of a table; by chance
/// it takes about 2^64 names. Tables hold it instead of the name, so that their size is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Fingerprint(u128);

impl Fingerprint {
    /// Any number, for the tests of tables.
    #[cfg(test)]
    pub(crate) const fn from_u128(number: u128) -> Fingerprint {
        Fingerprint(number)
    }

    /// Eight hex digits: enough to recognise one token in a log, too little to learn anything of it.
    pub(crate) fn hex8(self) -> String {
        format!("{:08x}", self.0 >> 96)
    }

    /// A number below `buckets` (which must not be 0; 0 gives 0), for choosing a lock.
    pub(crate) fn bucket(self, buckets: usize) -> usize {
        // The high half: the maps index with the low one.
        let high = (self.0 >> 64) as usize;
        high.checked_rem(buckets).unwrap_or(0)
    }

    /// The low half, as a number that is spread evenly.
    pub(crate) fn low(self) -> u64 {
        self.0 as u64
    }
}

/// Makes fingerprints under one key. One per table, from `EngineSeed::derive(label)`.
#[derive(Clone)]
pub(crate) struct Fingerprinter {
    key: [u64; 2],
}

impl Fingerprinter {
    /// Takes a key that no peer knows.
    pub(crate) const fn new(key: [u64; 2]) -> Fingerprinter {
        Fingerprinter { key }
    }

    /// The fingerprint of a sequence of parts. Each part is framed by its length, so `("ab", "c")` and
    /// `("a", "bc")` differ. No allocation; about two cycles a byte.
    pub(crate) fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        // SipHash-2-4-128 of: for each part its length as 8 bytes, then its bytes, zero-filled to a word.
        // The length says how many words follow, so the encoding can be read back and is unambiguous.
        let mut state = Sip::new(self.key);
        let mut bytes = 0usize;
        for part in parts {
            state.absorb(part.len() as u64);
            let (words, rest) = part.as_chunks::<8>();
            for word in words {
                state.absorb(u64::from_le_bytes(*word));
            }
            if !rest.is_empty() {
                state.absorb(last_word(rest));
            }
            bytes = bytes.wrapping_add(8).wrapping_add(part.len().next_multiple_of(8));
        }
        state.finish(&[], bytes)
    }
}

impl std::fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fingerprinter(keyed)")
    }
}

/// Gives the memory of a flood back once most of it is gone. Nothing to do in most calls; otherwise one walk over
/// what is left, for at least as many removals before it.
pub(crate) fn give_back<V>(map: &mut HashMap<Fingerprint, V, Uniform>) {
    if map.capacity() > SMALL && map.len() < map.capacity() / 8 {
        map.shrink_to(map.capacity() / 2);
    }
}

/// Below this capacity a map keeps its memory.
const SMALL: usize = 256;

/// Builds the hasher of maps keyed by [`Fingerprint`]: the fingerprint is already keyed and uniform, so its low
/// half is the hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Uniform;

/// See [`Uniform`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UniformHasher(u64);

impl BuildHasher for Uniform {
    type Hasher = UniformHasher;

    fn build_hasher(&self) -> UniformHasher {
        UniformHasher(0)
    }
}

impl Hasher for UniformHasher {
    fn write_u128(&mut self, value: u128) {
        self.0 ^= Fingerprint(value).low();
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// SipHash-2-4 with 128 bits of output (Aumasson and Bernstein, 2012, and their reference code).
struct Sip {
    v: [u64; 4],
}

impl Sip {
    const fn new(key: [u64; 2]) -> Sip {
        let [k0, k1] = key;
        Sip {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    fn absorb(&mut self, word: u64) {
        self.v[3] ^= word;
        self.rounds(2);
        self.v[0] ^= word;
    }

    /// Ends a message of `length` bytes, of which `rest` (at most seven) did not fill a word.
    fn finish(mut self, rest: &[u8], length: usize) -> Fingerprint {
        self.absorb(last_word(rest) | ((length as u64) << 56));
        self.v[2] ^= 0xee;
        self.rounds(4);
        let low = self.fold();
        self.v[1] ^= 0xdd;
        self.rounds(4);
        Fingerprint(u128::from(low) | (u128::from(self.fold()) << 64))
    }

    const fn fold(&self) -> u64 {
        let [v0, v1, v2, v3] = self.v;
        v0 ^ v1 ^ v2 ^ v3
    }

    fn rounds(&mut self, count: u32) {
        let [mut v0, mut v1, mut v2, mut v3] = self.v;
        for _ in 0..count {
            v0 = v0.wrapping_add(v1);
            v1 = v1.rotate_left(13) ^ v0;
            v0 = v0.rotate_left(32);
            v2 = v2.wrapping_add(v3);
            v3 = v3.rotate_left(16) ^ v2;
            v0 = v0.wrapping_add(v3);
            v3 = v3.rotate_left(21) ^ v0;
            v2 = v2.wrapping_add(v1);
            v1 = v1.rotate_left(17) ^ v2;
            v2 = v2.rotate_left(32);
        }
        self.v = [v0, v1, v2, v3];
    }
}

/// Up to seven bytes as a little-endian word, filled with zeros.
fn last_word(rest: &[u8]) -> u64 {
    rest.iter().rev().fold(0, |word: u64, byte| (word << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::{Fingerprint, Fingerprinter, SMALL, Sip, Uniform, give_back};

    /// The published function over plain bytes, to compare with the published vectors.
    fn siphash_2_4_128(key: [u64; 2], bytes: &[u8]) -> [u8; 16] {
        let mut state = Sip::new(key);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            state.absorb(u64::from_le_bytes(*word));
        }
        state.finish(rest, bytes.len()).0.to_le_bytes()
    }

    #[test]
    fn agrees_with_the_published_vectors() {
        let key = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let bytes: Vec<u8> = (0..16).collect();
        let vectors: [(usize, u128); 7] = [
            (0, 0xa3817f04ba25a8e66df67214c7550293),
            (1, 0xda87c1d86b99af44347659119b22fc45),
            (2, 0x8177228da4a45dc7fca38bdef60affe4),
            (3, 0x9c70b60c5267a94e5f33b6b02985ed51),
            (7, 0xa1f1ebbed8dbc153c0b84aa61ff08239),
            (8, 0x3b62a9ba6258f5610f83e264f31497b4),
            (15, 0x5493e99933b0a8117e08ec0f97cfc3d9),
        ];
        for (length, expected) in vectors {
            assert_eq!(siphash_2_4_128(key, &bytes[..length]), expected.to_be_bytes(), "length {length}");
        }
    }

    #[test]
    fn is_the_published_function_over_the_framed_parts() {
        let key = [7, 9];
        let hash = Fingerprinter::new(key);
        let mut framed = 9u64.to_le_bytes().to_vec();
        framed.extend_from_slice(b"ninebytes\0\0\0\0\0\0\0");
        assert_eq!(hash.fingerprint(&[b"ninebytes"]).0.to_le_bytes(), siphash_2_4_128(key, &framed));
        framed.extend_from_slice(&8u64.to_le_bytes());
        framed.extend_from_slice(b"oneword!");
        assert_eq!(hash.fingerprint(&[b"ninebytes", b"oneword!"]).0.to_le_bytes(), siphash_2_4_128(key, &framed));
    }

    #[test]
    fn framing_keys_and_order_all_matter() {
        let hash = Fingerprinter::new([1, 2]);
        let all = [
            hash.fingerprint(&[]),
            hash.fingerprint(&[b""]),
            hash.fingerprint(&[b"", b""]),
            hash.fingerprint(&[b"abc"]),
            hash.fingerprint(&[b"ab", b"c"]),
            hash.fingerprint(&[b"a", b"bc"]),
            hash.fingerprint(&[b"c", b"ab"]),
            hash.fingerprint(&[b"abc\0"]),
            hash.fingerprint(&[b"abc", b"\0"]),
            Fingerprinter::new([2, 1]).fingerprint(&[b"abc"]),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
    }

    #[test]
    fn shows_eight_digits_and_no_key() {
        assert_eq!(Fingerprint(0x0012_3456 << 96).hex8(), "00123456");
        assert_eq!(format!("{:?}", Fingerprinter::new([1, 2])), "Fingerprinter(keyed)");
        assert_eq!(Fingerprint(u128::MAX).bucket(0), 0);
    }

    #[test]
    fn a_map_over_it_finds_what_was_put_in() {
        let hash = Fingerprinter::new([3, 4]);
        let mut map = HashMap::with_hasher(Uniform);
        for n in 0..2_000u32 {
            map.insert(hash.fingerprint(&[&n.to_le_bytes()]), n);
        }
        assert_eq!(map.len(), 2_000);
        for n in 0..2_000u32 {
            assert_eq!(map.get(&hash.fingerprint(&[&n.to_le_bytes()])), Some(&n));
        }
        let mut used = HashSet::new();
        map.keys().for_each(|key| {
            used.insert(key.bucket(16));
        });
        assert_eq!(used.len(), 16);
    }

    #[test]
    fn the_memory_of_a_flood_is_given_back_and_nothing_lost() {
        let hash = Fingerprinter::new([3, 4]);
        let name = |n: u32| hash.fingerprint(&[&n.to_le_bytes()]);
        let mut map: HashMap<Fingerprint, u32, Uniform> = (0..10_000).map(|n| (name(n), n)).collect();
        for n in 10..10_000 {
            map.remove(&name(n));
            give_back(&mut map);
        }
        assert!(map.capacity() <= 2 * SMALL, "{}", map.capacity());
        assert!((0..10).all(|n| map.get(&name(n)) == Some(&n)));
    }

    proptest! {
        #[test]
        fn different_parts_have_different_fingerprints(
            a in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..4),
            b in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..4),
        ) {
            let hash = Fingerprinter::new([5, 6]);
            let view = |parts: &Vec<Vec<u8>>| {
                let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                hash.fingerprint(&parts)
            };
            prop_assert_eq!(view(&a) == view(&b), a == b);
        }
    }
}
