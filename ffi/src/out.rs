//! This file answers: how do results go out?
//!
//! Every output is written before any work, with a value that denies, so that a caller who forgets the result reads
//! a no and never garbage. Text is copied out, whole or not at all, with a NUL behind it.

use std::ffi::c_char;

use wsauth::Reason;

use crate::abi::wsauth_bytes;
use crate::boundary::No;
use crate::result::WSAUTH_HANDLED_BUFFER;

/// Where one value goes.
pub(crate) struct Out<T>(*mut T);

impl<T: Copy> Out<T> {
    /// # Safety
    ///
    /// `at` is NULL or may be written to during this call.
    pub(crate) unsafe fn new(at: *mut T, denying: T) -> Out<T> {
        let mut out = Out(at);
        out.write(denying);
        out
    }

    /// Refuses NULL, where there is no use in a call without this output.
    pub(crate) fn require(self) -> Result<Out<T>, No> {
        if self.0.is_null() { Err(Reason::MisuseArgument.into()) } else { Ok(self) }
    }

    pub(crate) fn write(&mut self, value: T) {
        if !self.0.is_null() {
            // SAFETY: not NULL, and writable by the contract of `new`; alignment is not asked for.
            unsafe { self.0.write_unaligned(value) };
        }
    }
}

/// Where text goes: a buffer of the caller's, and how large it must be.
pub(crate) struct Buffer {
    at: *mut u8,
    capacity: usize,
    needed: Out<usize>,
}

impl Buffer {
    /// # Safety
    ///
    /// `at` is NULL or has room for `capacity` bytes; `needed` is NULL or may be written to.
    pub(crate) unsafe fn new(at: *mut c_char, capacity: usize, needed: *mut usize) -> Buffer {
        // SAFETY: handed on.
        let needed = unsafe { Out::new(needed, 0) };
        let mut buffer = Buffer { at: at.cast(), capacity, needed };
        buffer.put(0, b"");
        buffer
    }

    /// `{NULL, n}` is misuse; `{NULL, 0}` asks for the size.
    pub(crate) fn require(&self) -> Result<(), No> {
        if self.at.is_null() && self.capacity > 0 { Err(Reason::MisuseArgument.into()) } else { Ok(()) }
    }

    /// Whether `len` bytes and a NUL fit.
    pub(crate) fn fits(&self, len: usize) -> bool {
        len < self.capacity
    }

    /// Writes the text whole, or nothing but what is needed.
    pub(crate) fn write(&mut self, text: &[u8]) -> Result<(), No> {
        self.write_all([text]).map(|_| ())
    }

    /// Writes texts behind each other, all or none; returns where each stands. No copy of them is made on the way.
    pub(crate) fn write_all<const N: usize>(&mut self, texts: [&[u8]; N]) -> Result<[wsauth_bytes; N], No> {
        let len = texts.iter().fold(0usize, |len, text| len.saturating_add(text.len()));
        self.needed.write(len.saturating_add(1));
        if self.at.is_null() || !self.fits(len) {
            return Err(No::Handled(WSAUTH_HANDLED_BUFFER));
        }
        let mut at = 0usize;
        Ok(texts.map(|text| {
            self.put(at, text);
            // SAFETY: `at` is at most `len`, so inside the buffer.
            let ptr = unsafe { self.at.add(at) };
            at = at.saturating_add(text.len());
            wsauth_bytes { ptr, len: text.len() }
        }))
    }

    /// Writes as much as fits: a sentence for the operator is of use cut short.
    pub(crate) fn write_cut(&mut self, text: &str) {
        self.needed.write(text.len().saturating_add(1));
        let room = self.capacity.saturating_sub(1).min(text.len());
        let room = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        self.put(0, text.as_bytes().get(..room).unwrap_or_default());
    }

    /// Writes `text` and a NUL from `at` on, where that fits.
    fn put(&mut self, at: usize, text: &[u8]) {
        let end = at.saturating_add(text.len());
        if self.at.is_null() || !self.fits(end) {
            return;
        }
        // SAFETY: the buffer has room for more than `end` bytes by the contract of `new`, and is not Rust's.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), self.at.add(at), text.len()) };
        // SAFETY: as above.
        unsafe { self.at.add(end).write(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(room: &mut [u8], needed: &mut usize) -> Buffer {
        // SAFETY: both live longer than the buffer is used.
        unsafe { Buffer::new(room.as_mut_ptr().cast(), room.len(), needed) }
    }

    #[test]
    fn text_comes_whole_or_not_at_all() {
        let (mut room, mut needed) = ([b'x'; 5], 9);
        assert!(buffer(&mut room, &mut needed).write(b"four").is_ok());
        assert_eq!((&room, needed), (b"four\0", 5));
        assert_eq!(buffer(&mut room, &mut needed).write(b"five5").err(), Some(No::Handled(WSAUTH_HANDLED_BUFFER)));
        assert_eq!((room[0], needed), (0, 6));
        // SAFETY: no buffer at all.
        let mut none = unsafe { Buffer::new(std::ptr::null_mut(), 0, &mut needed) };
        assert!(none.require().is_ok() && none.write(b"").is_err());
        assert_eq!(needed, 1);
        // SAFETY: NULL is never written to.
        assert!(unsafe { Buffer::new(std::ptr::null_mut(), 1, std::ptr::null_mut()) }.require().is_err());
    }

    #[test]
    fn a_sentence_is_cut_between_characters() {
        let (mut room, mut needed) = ([b'x'; 4], 0);
        buffer(&mut room, &mut needed).write_cut("aéé");
        assert_eq!((&room, needed), (b"a\xc3\xa9\0", 6));
        buffer(&mut room[..0], &mut needed).write_cut("a");
        assert_eq!(needed, 2);
    }

    #[test]
    fn outputs_deny_from_the_start() {
        let mut value = 7u64;
        // SAFETY: it is alive.
        let _ = unsafe { Out::new(&mut value, 0) };
        assert_eq!(value, 0);
        // SAFETY: NULL is not written to.
        assert!(unsafe { Out::new(std::ptr::null_mut(), 0u64) }.require().is_err());
    }
}
