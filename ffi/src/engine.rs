//! This file answers: how does a C program make, change and end an engine?

use std::ffi::{OsStr, c_char, c_int};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use wsauth::Reason;
use wsauth::time::MonoTime;
use wsauth_runtime::{ManualClock, StartError};

use crate::abi::wsauth_bytes;
use crate::boundary::{No, call, caught};
use crate::life::{Life, wsauth_engine};
use crate::out::{Buffer, Out};
use crate::result::wsauth_result;
use crate::view::{self, MAX_DOCUMENT, MAX_TEXT};
use crate::{fork, reason};

/// What a manual clock of the runtime starts at; in C it starts at 0.
const MONO_ORIGIN: u64 = 1_000_000_000;

/// The engine behind a pointer.
///
/// # Safety
///
/// `engine` is NULL or was made by `wsauth_engine_new` or its kin, and is not freed during `'a`.
pub(crate) unsafe fn borrow<'a>(engine: *const wsauth_engine) -> Result<&'a wsauth_engine, No> {
    // SAFETY: NULL or alive by this function's contract.
    unsafe { engine.as_ref() }.ok_or(Reason::MisuseArgument.into())
}

/// The life of this process behind a pointer.
///
/// # Safety
///
/// As [`borrow`].
pub(crate) unsafe fn life<'a>(engine: *const wsauth_engine) -> Result<&'a Life, No> {
    // SAFETY: handed on.
    unsafe { borrow(engine) }?.life()
}

/// Makes an engine of a TOML text; docs/config.md describes it. Secrets that it names come from environment and
/// files.
///
/// @param toml, len                   The text, UTF-8, at most 1 MiB.
/// @param engine                      Receives the engine, or NULL when there is none.
/// @param problem, capacity, needed   Receives what is wrong, as one sentence with its line. Cut where it does not fit;
///                                    *needed is then above capacity. Holds no secret. May be NULL, 0, NULL.
/// @return WSAUTH_OK, WSAUTH_CONFIG_INVALID, or misuse.
/// Ownership: the engine is yours; free it with wsauth_engine_free. Nothing else is kept.
/// Threads: any.
/// Cost: parses every key and compiles every rule: milliseconds. Starts no thread, opens no socket.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_engine_new(
    toml: *const u8,
    len: usize,
    engine: *mut *mut wsauth_engine,
    problem: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let (out, problem) = unsafe { (Out::new(engine, std::ptr::null_mut()), Buffer::new(problem, capacity, needed)) };
    call(|| {
        // SAFETY: the caller's contract.
        make(out, problem, || Ok(wsauth_engine::new(unsafe { toml_text(toml, len) }?, None)))
    })
}

/// Makes an engine of a TOML file of at most 1 MiB. Files that it names by relative paths are looked for beside it, now
/// and at each reload.
///
/// @param path, len                   The path, bytes as the operating system takes them.
/// @param engine                      As for wsauth_engine_new.
/// @param problem, capacity, needed   As for wsauth_engine_new.
/// @return WSAUTH_OK, WSAUTH_CONFIG_INVALID (also when the file cannot be read), or misuse.
/// Ownership: the engine is yours; free it with wsauth_engine_free. Nothing else is kept.
/// Threads: any.
/// Cost: as wsauth_engine_new, and reads files.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_engine_new_from_file(
    path: *const u8,
    len: usize,
    engine: *mut *mut wsauth_engine,
    problem: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let (out, problem) = unsafe { (Out::new(engine, std::ptr::null_mut()), Buffer::new(problem, capacity, needed)) };
    call(|| {
        make(out, problem, || {
            // SAFETY: the caller's contract.
            let path = unsafe { view::bytes(path, len, MAX_TEXT, Reason::MisuseArgument) }?;
            if path.is_empty() || path.contains(&0) {
                return Err(Reason::MisuseArgument.into());
            }
            Ok(wsauth_engine::from_file(Path::new(OsStr::from_bytes(path))))
        })
    })
}

/// Makes an engine for tests. It takes time from wsauth_clock_set and nowhere else, and all its randomness is
/// constant: never serve with it. Its monotonic clock begins at 0.
///
/// @param toml, len                   As for wsauth_engine_new.
/// @param wall_ms                     Milliseconds since 1970.
/// @param engine                      As for wsauth_engine_new.
/// @param problem, capacity, needed   As for wsauth_engine_new.
/// @return WSAUTH_OK, WSAUTH_CONFIG_INVALID, or misuse.
/// Ownership: the engine is yours; free it with wsauth_engine_free. Nothing else is kept.
/// Threads: any.
/// Cost: as wsauth_engine_new.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_engine_new_manual(
    toml: *const u8,
    len: usize,
    wall_ms: u64,
    engine: *mut *mut wsauth_engine,
    problem: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let (out, problem) = unsafe { (Out::new(engine, std::ptr::null_mut()), Buffer::new(problem, capacity, needed)) };
    call(|| {
        let clock = ManualClock::new(wall_ms);
        // SAFETY: the caller's contract.
        make(out, problem, || Ok(wsauth_engine::new(unsafe { toml_text(toml, len) }?, Some(clock))))
    })
}

/// Ends an engine. No other call on it may run or follow; connections need not be closed before. NULL is fine.
///
/// @param engine  The engine, or NULL.
/// @return Nothing.
/// Ownership: the engine and every view it handed out are gone, its wake descriptors closed.
/// Threads: any one.
/// Cost: frees everything; milliseconds for a million connections.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_engine_free(engine: *mut wsauth_engine) {
    if !engine.is_null() {
        // SAFETY: made with `Box::into_raw`, and the caller gives it away.
        caught(|| drop(unsafe { Box::from_raw(engine) }));
    }
}

/// Puts another configuration in force, as a whole; a bad one is refused and the old one stays. Live connections keep
/// their credential, and what they may do follows the new rules from their next message. Bounds of tables and the
/// number of shards stay as they were.
///
/// @param engine                      The engine.
/// @param toml, len                   The text, UTF-8, at most 1 MiB.
/// @param problem, capacity, needed   As for wsauth_engine_new.
/// @return WSAUTH_OK, WSAUTH_CONFIG_INVALID, or misuse.
/// Ownership: nothing is kept.
/// Threads: any, while other calls run. A fork waits for it.
/// Cost: as wsauth_engine_new.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_engine_reload(
    engine: *const wsauth_engine,
    toml: *const u8,
    len: usize,
    problem: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let mut problem = unsafe { Buffer::new(problem, capacity, needed) };
    call(|| {
        problem.require()?;
        // SAFETY: the caller's contract.
        let (engine, toml) = unsafe { (borrow(engine)?, toml_text(toml, len)?) };
        engine.reload(toml)?.map_err(|error| refuse(&mut problem, &error))
    })
}

/// The descriptor that becomes readable when a shard has events, questions or an earlier deadline. Put it into poll,
/// epoll or an event loop, level-triggered; never read, write or close it: wsauth_poll makes it unreadable. Ask again
/// after a fork. Whoever asks serves: key sets that have a URL are fetched from now on, before the first client needs
/// them, by the library's workers. Take it in the process that serves, after the last fork.
///
/// @param engine      The engine.
/// @param shard       The shard; 0 where there is one.
/// @param descriptor  Receives it, or -1.
/// @return WSAUTH_OK, misuse, or WSAUTH_FAULT_INTERNAL when the process is out of descriptors.
/// Ownership: the engine's.
/// Threads: any. May start the workers.
/// Cost: one system call the first time; does not wait for a network.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_engine_wake_descriptor(
    engine: *const wsauth_engine,
    shard: u32,
    descriptor: *mut c_int,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let out = unsafe { Out::new(descriptor, -1) };
    call(|| {
        let mut out = out.require()?;
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        let shard = life.require_shard(shard)?;
        let fd = life.guard.wake().fd(shard).map_err(|_| Reason::FaultInternal)?;
        // Whoever watches it serves: keys are fetched before the first client comes.
        life.guard.prefetch();
        out.write(fd.as_raw_fd());
        Ok(())
    })
}

/// How long a shard can wait for its next wsauth_poll, if its descriptor does not become readable earlier.
///
/// @param engine      The engine.
/// @param shard       The shard.
/// @param timeout_ms  Receives milliseconds, -1 for ever: as poll and epoll_wait take it.
/// @return WSAUTH_OK or misuse.
/// Ownership: nothing is kept.
/// Threads: any.
/// Cost: one lock of the shard's, one clock reading.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_engine_timeout(
    engine: *const wsauth_engine,
    shard: u32,
    timeout_ms: *mut i32,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let out = unsafe { Out::new(timeout_ms, 0) };
    call(|| {
        let mut out = out.require()?;
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        let shard = life.require_shard(shard)?;
        out.write(life.timeout(life.guard.next_deadline(shard)));
        Ok(())
    })
}

/// Counters and gauges in the Prometheus text format. Labels come from closed sets.
///
/// @param engine                     The engine.
/// @param buffer, capacity, needed   Receives the text.
/// @return WSAUTH_OK, WSAUTH_HANDLED_BUFFER, or misuse.
/// Ownership: copied out.
/// Threads: any.
/// Cost: formats some kilobytes.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_engine_metrics(
    engine: *const wsauth_engine,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> wsauth_result {
    // SAFETY: the caller's contract.
    let mut buffer = unsafe { Buffer::new(buffer, capacity, needed) };
    call(|| {
        buffer.require()?;
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        buffer.write(life.guard.metrics().as_bytes())
    })
}

/// Sets both clocks of an engine made with wsauth_engine_new_manual. The wall clock may be stepped in both directions.
///
/// @param engine   The engine.
/// @param wall_ms  Milliseconds since 1970.
/// @param mono_ms  Monotonic milliseconds since the engine was made. Earlier than before is misuse.
/// @return WSAUTH_OK or misuse; then nothing has changed.
/// Ownership: nothing is kept.
/// Threads: any.
/// Cost: makes the wake descriptors readable.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_clock_set(engine: *const wsauth_engine, wall_ms: u64, mono_ms: u64) -> wsauth_result {
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        let clock = life.clock.as_ref().ok_or(Reason::MisuseArgument)?;
        let target = MonoTime(mono_ms.checked_add(MONO_ORIGIN).ok_or(Reason::MisuseArgument)?);
        fork::unforked(|| {
            let now = clock.now();
            if target < now.mono {
                return Err(Reason::MisuseArgument.into());
            }
            clock.advance_ms(target.since(now.mono));
            clock.set_wall_ms(wall_ms);
            Ok(())
        })
    })
}

/// # Safety
///
/// As [`view::bytes`].
unsafe fn toml_text<'a>(toml: *const u8, len: usize) -> Result<&'a str, No> {
    // SAFETY: handed on.
    unsafe { view::text(wsauth_bytes { ptr: toml, len }, MAX_DOCUMENT) }
}

fn make(
    out: Out<*mut wsauth_engine>,
    mut problem: Buffer,
    make: impl FnOnce() -> Result<Result<wsauth_engine, StartError>, No>,
) -> Result<(), No> {
    let mut out = out.require()?;
    problem.require()?;
    reason::prepare();
    if !fork::register() {
        return Err(Reason::FaultInternal.into());
    }
    let engine = make()?.map_err(|error| refuse(&mut problem, &error))?;
    out.write(Box::into_raw(Box::new(engine)));
    Ok(())
}

fn refuse(problem: &mut Buffer, error: &StartError) -> No {
    problem.write_cut(&error.to_string());
    match error {
        StartError::NoRandomness => Reason::FaultInternal.into(),
        _ => Reason::ConfigInvalid.into(),
    }
}
