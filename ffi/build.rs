//! This file answers: under which name is the shared library found at run time?

/// Part of the name of the shared library. Raised together with `WSAUTH_ABI` when the ABI breaks.
const SONAME: &str = "libwsauth.so.0.1";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // cargo sets no SONAME; without one a consumer records the path it was linked with.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{SONAME}");
    // Thread-local destructors must not outlive the mapping: dlclose leaves the code where it is.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
