//! This file answers: how do bytes come in?
//!
//! As pointer and length. A length above its cap is refused before the pointer is looked at; `{NULL, n}` is misuse.
//! What C keeps valid for the call is borrowed for the call and never longer.

use std::mem::size_of;

use wsauth::Reason;

use crate::abi::{wsauth_bytes, wsauth_field};
use crate::boundary::No;

/// Longest name or value that is not a message, a token or a document: 64 KiB.
pub(crate) const MAX_TEXT: usize = 64 * 1024;
/// Longest message looked at; the configured bound is lower.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024 * 1024;
/// Longest configuration, key set or claims document: 1 MiB.
pub(crate) const MAX_DOCUMENT: usize = 1024 * 1024;

/// Bytes at `ptr`, at most `cap`; `too_long` above it.
///
/// # Safety
///
/// Unless `len` is above `cap` or `ptr` is NULL, `ptr` points to `len` bytes that stay valid and unchanged for `'a`.
pub(crate) unsafe fn bytes<'a>(ptr: *const u8, len: usize, cap: usize, too_long: Reason) -> Result<&'a [u8], No> {
    if len > cap {
        return Err(too_long.into());
    }
    if len == 0 {
        return Ok(&[]);
    }
    if ptr.is_null() {
        return Err(Reason::MisuseArgument.into());
    }
    // SAFETY: not NULL, at most `cap` bytes, valid by this function's contract; bytes have no alignment.
    Ok(unsafe { std::slice::from_raw_parts(ptr, len) })
}

/// The same, as UTF-8.
///
/// # Safety
///
/// As [`bytes`].
pub(crate) unsafe fn text<'a>(view: wsauth_bytes, cap: usize) -> Result<&'a str, No> {
    // SAFETY: handed on.
    let bytes = unsafe { bytes(view.ptr, view.len, cap, Reason::MisuseArgument) }?;
    std::str::from_utf8(bytes).map_err(|_| Reason::MisuseArgument.into())
}

/// One element of an array in C, which may be misaligned there.
///
/// # Safety
///
/// `first` points to more than `index` elements.
unsafe fn element<T: Copy>(first: *const T, index: usize) -> T {
    // SAFETY: inside the array by this function's contract.
    let place = unsafe { first.add(index) };
    // SAFETY: as above; alignment is not asked for.
    unsafe { place.read_unaligned() }
}

/// Copies an array of plain values, at most `cap` of them; `too_many` above it.
///
/// # Safety
///
/// Unless `count` is above `cap` or `first` is NULL, `first` points to `count` values.
pub(crate) unsafe fn array<'a, T: Copy + 'a>(
    first: *const T,
    count: usize,
    cap: usize,
    too_many: Reason,
) -> Result<impl ExactSizeIterator<Item = T> + 'a, No> {
    if count > cap {
        return Err(too_many.into());
    }
    if count > 0 && first.is_null() {
        return Err(Reason::MisuseArgument.into());
    }
    // SAFETY: `index` is below `count`, and not reached when that is 0.
    Ok((0..count).map(move |index| unsafe { element(first, index) }))
}

/// Most fields that fill a pattern in one call.
pub(crate) const MAX_FIELDS: usize = 32;

/// Name and value pairs on the stack: naming fields allocates nothing.
pub(crate) struct Fields<'a> {
    pairs: [(&'a str, &'a str); MAX_FIELDS],
    count: usize,
}

impl<'a> Fields<'a> {
    /// # Safety
    ///
    /// As [`array`], and each view as [`bytes`].
    pub(crate) unsafe fn new(first: *const wsauth_field, count: usize) -> Result<Fields<'a>, No> {
        let mut fields = Fields { pairs: [("", ""); MAX_FIELDS], count };
        // SAFETY: handed on.
        let given = unsafe { array(first, count, MAX_FIELDS, Reason::MisuseArgument) }?;
        for (pair, field) in fields.pairs.iter_mut().zip(given) {
            // SAFETY: handed on.
            let name = unsafe { text(field.name, MAX_TEXT) }?;
            // SAFETY: handed on.
            let value = unsafe { text(field.value, MAX_TEXT) }?;
            *pair = (name, value);
        }
        Ok(fields)
    }

    pub(crate) fn pairs(&self) -> &[(&'a str, &'a str)] {
        self.pairs.get(..self.count).unwrap_or_default()
    }
}

/// A struct that begins with its size. Any other size than today's is misuse: a smaller one is not made yet, and a
/// larger one might forbid what we cannot read.
///
/// # Safety
///
/// `at` is NULL or points to a `u32`, which is `size_of::<T>()` only where a whole `T` stands.
pub(crate) unsafe fn sized<T: Copy>(at: *const T) -> Result<T, No> {
    if at.is_null() {
        return Err(Reason::MisuseArgument.into());
    }
    // SAFETY: not NULL, and a u32 stands there by this function's contract.
    let size = unsafe { at.cast::<u32>().read_unaligned() };
    if usize::try_from(size).ok() != Some(size_of::<T>()) {
        return Err(Reason::MisuseArgument.into());
    }
    // SAFETY: the size says that a whole T stands there.
    Ok(unsafe { at.read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::wsauth_revocation;

    fn misuse<T>(result: Result<T, No>) -> bool {
        result.err() == Some(Reason::MisuseArgument.into())
    }

    #[test]
    fn lengths_are_judged_before_pointers() {
        let nowhere = std::ptr::without_provenance::<u8>(1);
        // SAFETY: a length above the cap or of 0 keeps the pointer from being followed.
        let (long, empty) =
            unsafe { (bytes(nowhere, 11, 10, Reason::TokenTooLarge), bytes(nowhere, 0, 10, Reason::TokenTooLarge)) };
        assert_eq!(long, Err(Reason::TokenTooLarge.into()));
        assert_eq!(empty, Ok(&[][..]));
        // SAFETY: NULL is found out.
        assert!(misuse(unsafe { bytes(std::ptr::null(), 1, 10, Reason::TokenTooLarge) }));
        // SAFETY: too many of them.
        assert!(misuse(unsafe { Fields::new(std::ptr::without_provenance(8), MAX_FIELDS + 1) }));
    }

    #[test]
    fn text_is_utf_8() {
        let of = |bytes: &'static [u8]| wsauth_bytes { ptr: bytes.as_ptr(), len: bytes.len() };
        // SAFETY: both are alive.
        let (good, bad) = unsafe { (text(of("é".as_bytes()), 10), text(of(b"\xed\xa0\x80"), 10)) };
        assert_eq!(good, Ok("é"));
        assert!(misuse(bad));
    }

    #[test]
    fn only_todays_size_is_read() {
        for size in [0, 4, size_of::<wsauth_revocation>() as u32 + 8, u32::MAX] {
            // SAFETY: a u32 stands there.
            assert!(misuse(unsafe { sized(std::ptr::from_ref(&size).cast::<wsauth_revocation>()) }));
        }
    }
}
