//! This file answers: what stands in this DER?
//!
//! Only what a SubjectPublicKeyInfo needs (RFC 5280 section 4.1), and only its one canonical form: definite lengths
//! in their shortest spelling, nothing left over.

/// Tags that are read.
pub(crate) const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const NULL: u8 = 0x05;
const OID: u8 = 0x06;
pub(crate) const SEQUENCE: u8 = 0x30;

/// A SubjectPublicKeyInfo, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PublicKeyInfo<'d> {
    /// The algorithm's object identifier, encoded.
    pub(crate) algorithm: &'d [u8],
    /// What follows it.
    pub(crate) parameters: Parameters<'d>,
    /// The key itself, as the algorithm writes it.
    pub(crate) key: &'d [u8],
}

/// The parameters of an algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameters<'d> {
    /// Nothing.
    Absent,
    /// NULL.
    Null,
    /// An object identifier, encoded: a named curve.
    Oid(&'d [u8]),
}

/// Reads a whole SubjectPublicKeyInfo.
pub(crate) fn parse_public_key_info(bytes: &[u8]) -> Option<PublicKeyInfo<'_>> {
    let mut info = only(bytes, SEQUENCE)?;
    let mut algorithm = take(&mut info, SEQUENCE)?;
    let bits = only(info, BIT_STRING)?;
    let oid = take(&mut algorithm, OID)?;
    let parameters = match algorithm.first() {
        None => Parameters::Absent,
        Some(&NULL) if only(algorithm, NULL)?.is_empty() => Parameters::Null,
        Some(&OID) => Parameters::Oid(only(algorithm, OID)?),
        Some(_) => return None,
    };
    let (0, key) = bits.split_first().map(|(unused, key)| (*unused, key))? else { return None };
    Some(PublicKeyInfo { algorithm: oid, parameters, key })
}

/// Reads a whole RSAPublicKey (RFC 8017 appendix A.1.1): modulus and exponent without leading zeros.
pub(crate) fn parse_rsa_key(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut key = only(bytes, SEQUENCE)?;
    let modulus = positive(take(&mut key, INTEGER)?)?;
    let exponent = positive(only(key, INTEGER)?)?;
    Some((modulus, exponent))
}

/// The content of an element that fills `bytes` completely.
fn only(mut bytes: &[u8], tag: u8) -> Option<&[u8]> {
    let content = take(&mut bytes, tag)?;
    bytes.is_empty().then_some(content)
}

/// Takes the element at the start of `bytes` and returns its content.
fn take<'d>(bytes: &mut &'d [u8], tag: u8) -> Option<&'d [u8]> {
    let (found, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => {
            let (low, rest) = rest.split_first()?;
            (usize::from(*low), rest)
        }
        0x82 => {
            let (high, rest) = rest.split_first()?;
            let (low, rest) = rest.split_first()?;
            (usize::from(u16::from_be_bytes([*high, *low])), rest)
        }
        _ => return None,
    };
    let shortest = match first {
        0x81 => length > 0x7f,
        0x82 => length > 0xff,
        _ => true,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    (*found == tag && shortest).then_some(content)
}

/// An INTEGER's content as an unsigned number without leading zero; `None` when negative, zero or padded.
fn positive(content: &[u8]) -> Option<&[u8]> {
    match content {
        [0, rest @ ..] if rest.first().is_some_and(|first| *first >= 0x80) => Some(rest),
        [0x01..=0x7f, ..] => Some(content),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Parameters, parse_public_key_info, parse_rsa_key};

    /// SEQUENCE { SEQUENCE { OID 1.3.101.112 } BIT STRING 00 AA BB }
    const INFO: [u8; 14] = [0x30, 0x0c, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x03, 0x00, 0xaa, 0xbb];

    #[test]
    fn a_public_key_info_is_read_whole_or_not_at_all() {
        let info = parse_public_key_info(&INFO).unwrap();
        assert_eq!((info.algorithm, info.parameters), (&[0x2b, 0x65, 0x70][..], Parameters::Absent));
        assert_eq!(info.key, [0xaa, 0xbb]);
        for length in 0..INFO.len() {
            assert_eq!(parse_public_key_info(&INFO[..length]), None);
        }
        assert_eq!(parse_public_key_info(&[&INFO[..], &[0]].concat()), None);
        let mut unused_bits = INFO;
        unused_bits[11] = 1;
        assert_eq!(parse_public_key_info(&unused_bits), None);
    }

    #[test]
    fn lengths_and_integers_have_one_spelling() {
        assert_eq!(parse_rsa_key(&[0x30, 6, 2, 1, 5, 2, 1, 3]), Some((&[5][..], &[3][..])));
        assert_eq!(parse_rsa_key(&[0x30, 7, 2, 2, 0, 0x85, 2, 1, 3]), Some((&[0x85][..], &[3][..])));
        for bytes in [
            &[0x30, 0x81, 6, 2, 1, 5, 2, 1, 3][..],
            &[0x30, 0x80, 2, 1, 5, 2, 1, 3, 0, 0],
            &[0x30, 7, 2, 2, 0, 5, 2, 1, 3],
            &[0x30, 6, 2, 1, 0x85, 2, 1, 3],
            &[0x30, 6, 2, 1, 0, 2, 1, 3],
            &[0x30, 5, 2, 0, 2, 1, 3],
            &[0x30, 9, 2, 1, 5, 2, 1, 3, 2, 1, 1],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(parse_rsa_key(bytes), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = (parse_public_key_info(&bytes), parse_rsa_key(&bytes));
        }
    }
}
