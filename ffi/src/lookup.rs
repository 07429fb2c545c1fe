//! This file answers: how does a C program answer what the engine cannot know?
//!
//! No callbacks: the server takes questions, asks its own store, and answers. What it took stays with it.

use std::ffi::c_char;

use wsauth::Reason;
use wsauth::lookup::{Answer, HttpResponse, Lookup, LookupId, Question, Vouched};
use wsauth::time::WallTime;

use crate::abi::{
    WSAUTH_ANSWER_INACTIVE, WSAUTH_ANSWER_KEYS, WSAUTH_ANSWER_PROFILE, WSAUTH_ANSWER_RESPONSE,
    WSAUTH_ANSWER_UNAVAILABLE, WSAUTH_ANSWER_VOUCHED, WSAUTH_LOOKUP_DISCOVERY, WSAUTH_LOOKUP_INTROSPECTION,
    WSAUTH_LOOKUP_KEYS, WSAUTH_LOOKUP_PROFILE, WSAUTH_LOOKUP_SESSION, wsauth_answer, wsauth_bytes, wsauth_lookup,
};
use crate::boundary::{No, call};
use crate::engine::life;
use crate::life::wsauth_engine;
use crate::out::{Buffer, Out};
use crate::result::{WSAUTH_HANDLED_EMPTY, wsauth_result};
use crate::view::{self, MAX_DOCUMENT, MAX_TEXT, array, sized, text};

/// Longest claims document, in bytes.
const MAX_CLAIMS: usize = 64 * 1024;
/// Most permissions of one answer.
const MAX_PERMISSIONS: usize = 256;

/// Takes one question that waits for an answer. Ask after each handshake, message and poll until it says
/// WSAUTH_HANDLED_EMPTY; a configuration with keys of its own and no opaque tokens, sessions or profiles has none. What
/// has a `url` comes only where `lookups.driver` is "host": else the library's own workers ask it.
///
/// @param engine                     The engine.
/// @param lookup                     Receives the question; its views point into `buffer`.
/// @param buffer, capacity, needed   Room for its texts. 32,768 bytes are enough with the default limits.
/// @return WSAUTH_OK; WSAUTH_HANDLED_EMPTY; WSAUTH_HANDLED_BUFFER, and the question stays; misuse.
/// Ownership: copied out. A token or session id in it is a secret: wipe the buffer after.
/// Threads: any; each question goes to one of them.
/// Cost: short locks, one clock reading.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_lookup_next(
    engine: *const wsauth_engine,
    lookup: *mut wsauth_lookup,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
) -> wsauth_result {
    let nothing = wsauth_bytes { ptr: std::ptr::null(), len: 0 };
    let denying = wsauth_lookup { id: 0, kind: 0, timeout_ms: 0, issuer: nothing, about: nothing, url: nothing };
    // SAFETY: the caller's contract.
    let (out, mut buffer) = unsafe { (Out::new(lookup, denying), Buffer::new(buffer, capacity, needed)) };
    call(|| {
        let mut out = out.require()?;
        buffer.require()?;
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        let mut waiting = life.lookups.lock();
        let now = life.guard.now().mono;
        waiting.retain(|lookup| lookup.deadline > now);
        if waiting.is_empty() {
            // One: what is taken ahead would be handed out although it is answered, and counted although it is late.
            waiting.extend(life.guard.lookups(1));
        }
        let next = waiting.front().ok_or(No::Handled(WSAUTH_HANDLED_EMPTY))?;
        let mut shown = denying;
        shown.timeout_ms = u32::try_from(next.deadline.since(now)).unwrap_or(u32::MAX);
        show(next, &mut shown, &mut buffer)?;
        out.write(shown);
        waiting.pop_front();
        Ok(())
    })
}

fn show(lookup: &Lookup, out: &mut wsauth_lookup, buffer: &mut Buffer) -> Result<(), No> {
    out.id = lookup.id.0;
    let (kind, issuer, about): (u32, &str, &[u8]) = match &lookup.question {
        Question::Discovery { issuer, .. } => (WSAUTH_LOOKUP_DISCOVERY, issuer, &[]),
        Question::Keys { issuer, .. } => (WSAUTH_LOOKUP_KEYS, issuer, &[]),
        Question::Introspection { issuer, token, .. } => (WSAUTH_LOOKUP_INTROSPECTION, issuer, token.expose()),
        Question::Session { id } => (WSAUTH_LOOKUP_SESSION, "", id.expose()),
        Question::Profile { issuer, subject, .. } => (WSAUTH_LOOKUP_PROFILE, issuer, subject.as_bytes()),
    };
    let url = lookup.question.url().map_or("", |url| url);
    out.kind = kind;
    [out.issuer, out.about, out.url] = buffer.write_all([issuer.as_bytes(), about, url.as_bytes()])?;
    Ok(())
}

/// Answers a question. The outcome for those who waited comes as events of wsauth_poll.
///
/// @param engine  The engine.
/// @param id      From wsauth_lookup_next.
/// @param answer  The answer, begun with WSAUTH_ANSWER_INIT.
/// @return WSAUTH_OK; WSAUTH_MISUSE_HANDLE for a question that is answered already, late, or was never asked; misuse, and
///         the question stays.
/// Ownership: copied.
/// Threads: any.
/// Cost: those who waited.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_lookup_answer(
    engine: *const wsauth_engine,
    id: u64,
    answer: *const wsauth_answer,
) -> wsauth_result {
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        // SAFETY: the caller's contract.
        let answer = unsafe { parse(answer) }?;
        Ok(life.guard.answer(LookupId(id), answer)?)
    })
}

/// Puts a key set in force for an issuer with `jwks_url`, before any connection asks for it.
///
/// @param engine              The engine.
/// @param issuer, issuer_len  The issuer.
/// @param document, len       The key set, a JWKS of at most 1 MiB.
/// @return WSAUTH_OK; WSAUTH_KEY_UNKNOWN when the document was bad or the issuer is not such a one, and the old keys stay;
///         misuse.
/// Ownership: copied.
/// Threads: any.
/// Cost: parses every key.
/// Since: 0.1.0
///
/// # Safety
///
/// Pointers are as the header's contract has them: NULL, or valid for this call.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsauth_keys_load(
    engine: *const wsauth_engine,
    issuer: *const u8,
    issuer_len: usize,
    document: *const u8,
    len: usize,
) -> wsauth_result {
    call(|| {
        // SAFETY: the caller's contract.
        let life = unsafe { life(engine) }?;
        // SAFETY: the caller's contract.
        let issuer = unsafe { text(wsauth_bytes { ptr: issuer, len: issuer_len }, MAX_TEXT) }?;
        // SAFETY: the caller's contract.
        let document = unsafe { view::bytes(document, len, MAX_DOCUMENT, Reason::MisuseArgument) }?;
        if life.guard.load_keys(issuer, document) { Ok(()) } else { Err(Reason::KeyUnknown.into()) }
    })
}

/// # Safety
///
/// As [`sized`]; what it points to is valid for this call.
unsafe fn parse(answer: *const wsauth_answer) -> Result<Answer, No> {
    // SAFETY: handed on.
    let given = unsafe { sized(answer) }?;
    match given.kind {
        // SAFETY: handed on.
        WSAUTH_ANSWER_KEYS => unsafe { document(&given) }.map(Answer::Keys),
        // SAFETY: handed on.
        WSAUTH_ANSWER_RESPONSE => unsafe { parse_response(&given) }.map(|read| Answer::Response(Box::new(read))),
        // SAFETY: handed on.
        WSAUTH_ANSWER_PROFILE => unsafe { claims(&given) }.map(|members| Answer::Profile(Box::new(members))),
        // SAFETY: handed on.
        WSAUTH_ANSWER_VOUCHED => unsafe { parse_vouched(&given) }.map(|vouched| Answer::Vouched(Box::new(vouched))),
        WSAUTH_ANSWER_INACTIVE => Ok(Answer::Inactive),
        WSAUTH_ANSWER_UNAVAILABLE => Ok(Answer::Unavailable { retry_after_ms: retry_after(&given) }),
        _ => Err(Reason::MisuseArgument.into()),
    }
}

fn retry_after(given: &wsauth_answer) -> Option<u32> {
    Some(given.retry_after_ms).filter(|ms| *ms > 0)
}

/// # Safety
///
/// As [`parse`].
unsafe fn document(given: &wsauth_answer) -> Result<Vec<u8>, No> {
    let document = given.document;
    // SAFETY: handed on.
    unsafe { view::bytes(document.ptr, document.len, MAX_DOCUMENT, Reason::MisuseArgument) }.map(<[u8]>::to_vec)
}

/// # Safety
///
/// As [`parse`].
unsafe fn claims(given: &wsauth_answer) -> Result<serde_json::Map<String, serde_json::Value>, No> {
    // SAFETY: handed on.
    match unsafe { text(given.claims, MAX_CLAIMS) }? {
        "" => Ok(serde_json::Map::new()),
        claims => serde_json::from_str(claims).map_err(|_| Reason::MisuseArgument.into()),
    }
}

/// # Safety
///
/// As [`parse`].
unsafe fn parse_response(given: &wsauth_answer) -> Result<HttpResponse, No> {
    let status = u16::try_from(given.status).ok().filter(|status| (100..=999).contains(status));
    let content_type = given.content_type;
    // SAFETY: handed on.
    let content_type = unsafe { view::bytes(content_type.ptr, content_type.len, MAX_TEXT, Reason::MisuseArgument) }?;
    Ok(HttpResponse {
        status: status.ok_or(Reason::MisuseArgument)?,
        // The source chose it: what is no text is no type that anybody takes, and no mistake of the server's.
        content_type: Some(String::from_utf8_lossy(content_type).into_owned()).filter(|text| !text.is_empty()),
        retry_after_ms: retry_after(given),
        // SAFETY: handed on.
        body: unsafe { document(given) }?,
    })
}

/// # Safety
///
/// As [`parse`].
unsafe fn parse_vouched(given: &wsauth_answer) -> Result<Vouched, No> {
    // SAFETY: handed on.
    let own = |view: wsauth_bytes| unsafe { text(view, MAX_TEXT) }.map(str::to_owned);
    let optional = |view: wsauth_bytes| own(view).map(|text| Some(text).filter(|text| !text.is_empty()));
    // SAFETY: handed on.
    let permissions =
        unsafe { array(given.permissions, given.permission_count, MAX_PERMISSIONS, Reason::MisuseArgument) }?;
    // SAFETY: handed on.
    let claims = unsafe { claims(given) }?;
    Ok(Vouched {
        subject: own(given.subject)?,
        expiry: WallTime(given.expires_at_ms),
        issued_at: Some(given.issued_at_s).filter(|seconds| *seconds > 0),
        token_id: optional(given.token_id)?,
        session_id: optional(given.session_id)?,
        client_id: optional(given.client_id)?,
        tenant: optional(given.tenant)?,
        permissions: permissions.map(own).collect::<Result<_, _>>()?,
        claims,
    })
}
