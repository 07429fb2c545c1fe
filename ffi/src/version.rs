//! This file answers: which wsauth is this?

use std::ffi::{CStr, c_char};

use crate::abi::WSAUTH_ABI;

/// The version of the library: WSAUTH_VERSION_NUMBER of the header it was made with.
///
/// @return major * 1000000 + minor * 1000 + patch.
/// Ownership: nothing is kept.
/// Threads: any.
/// Cost: none.
/// Since: 0.1.0
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_version_number() -> u32 {
    const {
        number(env!("CARGO_PKG_VERSION_MAJOR")) * 1_000_000
            + number(env!("CARGO_PKG_VERSION_MINOR")) * 1_000
            + number(env!("CARGO_PKG_VERSION_PATCH"))
    }
}

/// The version of the library as text, such as "0.1.0".
///
/// @return Static text.
/// Ownership: the library's; never freed.
/// Threads: any.
/// Cost: none.
/// Since: 0.1.0
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => c"",
    };
    VERSION.as_ptr()
}

/// The ABI of the library. A program works with it when this is the WSAUTH_ABI it was compiled with.
///
/// @return WSAUTH_ABI.
/// Ownership: nothing is kept.
/// Threads: any.
/// Cost: none.
/// Since: 0.1.0
#[must_use]
#[unsafe(no_mangle)]
pub extern "C" fn wsauth_abi() -> u32 {
    WSAUTH_ABI
}

#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "runs in the compiler, which says so")]
const fn number(text: &str) -> u32 {
    let (bytes, mut value, mut at) = (text.as_bytes(), 0, 0);
    while at < bytes.len() {
        value = value * 10 + (bytes[at] - b'0') as u32;
        at += 1;
    }
    value
}
