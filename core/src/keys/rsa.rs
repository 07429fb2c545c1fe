//! This file answers: is this RSA key fit to be trusted?

/// Smallest and largest modulus in bits (RFC 7518 section 3.3; the upper end bounds the cost of a verification).
const BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Smallest exponent; below it, sloppy padding checks elsewhere become forgeries.
const SMALLEST_EXPONENT: u64 = 65_537;

/// Exponents longer than this only cost time, and the verifier refuses them.
const EXPONENT_BITS: u32 = 33;

/// The odd primes up to 167, which the published ROCA detector examines.
const ROCA_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Checks modulus and exponent, both big-endian without leading zeros.
///
/// The text of a refusal is for the operator and shows nothing of the key.
pub(crate) fn require_fit(modulus: &[u8], exponent: &[u8]) -> Result<(), &'static str> {
    let (Some(first), Some(last)) = (modulus.first(), modulus.last()) else { return Err("the modulus is empty") };
    if *first == 0 {
        return Err("the modulus has a leading zero");
    }
    let bits = modulus.len().saturating_mul(8).saturating_sub(first.leading_zeros() as usize);
    if !BITS.contains(&bits) {
        return Err("the modulus is not 2048 to 8192 bits long");
    }
    if last & 1 == 0 {
        return Err("the modulus is even");
    }
    if exponent.first().is_none_or(|first| *first == 0) || exponent.len() > 8 {
        return Err("the exponent has a leading zero or is too long");
    }
    let exponent = exponent.iter().fold(0u64, |all, byte| (all << 8) | u64::from(*byte));
    if exponent < SMALLEST_EXPONENT || exponent & 1 == 0 || exponent >> EXPONENT_BITS != 0 {
        return Err("the exponent is not an odd number from 65537 to 2^33");
    }
    if has_roca_fingerprint(modulus) {
        return Err("the key is of the weak ROCA kind (CVE-2017-15361) and can be factored");
    }
    Ok(())
}

/// Whether the modulus has the structure of Infineon's broken generator: modulo every small prime it is a power of
/// 65537 (Nemec et al., "The Return of Coppersmith's Attack", section 2). A sound key passes for one by a chance of
/// less than 2^-27.
fn has_roca_fingerprint(modulus: &[u8]) -> bool {
    ROCA_PRIMES.iter().all(|prime| {
        // All numbers below stay under 168 * 256.
        let step = |value: u32, factor: u32, plus: u32| {
            value.wrapping_mul(factor).wrapping_add(plus).checked_rem(*prime).unwrap_or(0)
        };
        let rest = modulus.iter().fold(0, |rest, byte| step(rest, 256, u32::from(*byte)));
        let generator = step(65_537, 1, 0);
        let mut power = 1;
        for _ in 0..*prime {
            if power == rest {
                return true;
            }
            power = step(power, generator, 0);
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{has_roca_fingerprint, require_fit};

    fn modulus(bytes: usize) -> Vec<u8> {
        let mut modulus = vec![0xc5; bytes];
        modulus[bytes - 1] = 0xc7;
        modulus
    }

    #[test]
    fn size_and_exponent_have_bounds() {
        let e = [1, 0, 1];
        assert_eq!(require_fit(&modulus(256), &e), Ok(()));
        assert_eq!(require_fit(&modulus(1024), &e), Ok(()));
        assert_eq!(require_fit(&modulus(256), &[1, 0, 0, 0, 1]), Ok(()));
        let mut short = modulus(256);
        short[0] = 0x7f;
        let mut even = modulus(256);
        even[255] = 0xc6;
        for n in [vec![], modulus(128), modulus(1025), short, even, [vec![0], modulus(256)].concat()] {
            assert!(require_fit(&n, &e).is_err());
        }
        for e in [&[][..], &[1], &[3], &[0], &[1, 0, 0], &[1, 0, 2], &[0, 1, 0, 1], &[2, 0, 0, 0, 1], &[1; 9]] {
            assert!(require_fit(&modulus(256), e).is_err(), "{e:?}");
        }
    }

    #[test]
    fn a_power_of_65537_bears_the_fingerprint() {
        // 65537^3, big-endian.
        assert!(has_roca_fingerprint(&[1, 0, 3, 0, 3, 0, 1]));
        assert!(!has_roca_fingerprint(&[1, 0, 3, 0, 3, 0, 3]));
    }

    proptest! {
        #[test]
        fn random_numbers_do_not(bytes in proptest::collection::vec(any::<u8>(), 256)) {
            prop_assert!(!has_roca_fingerprint(&bytes));
        }
    }
}
