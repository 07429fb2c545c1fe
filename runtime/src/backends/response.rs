//! This file answers: did a whole response come, and is it small enough to be looked at?

use std::io::Read;

use ureq::Body;
use ureq::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use ureq::http::{HeaderMap, Response};
use wsauth::lookup::{HttpResponse, Question};
use wsauth::time::WallTime;

use super::retry_after::parse_retry_after;

const KEYS_BYTES: u64 = 512 * 1024;
const OTHER_BYTES: u64 = 64 * 1024;

/// Reads the response to a question. `None`: cut, longer than its cap, or encoded in a way we did not ask for.
pub(super) fn read(question: &Question, response: Response<Body>, now: WallTime) -> Option<HttpResponse> {
    let (parts, body) = response.into_parts();
    // Nothing inflates here, so the cap holds for what is read and for what it means.
    if parts
        .headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return None;
    }
    let cap = if matches!(question, Question::Keys { .. }) { KEYS_BYTES } else { OTHER_BYTES };
    let mut bytes = Vec::new();
    let read = body.into_reader().take(cap.saturating_add(1)).read_to_end(&mut bytes).ok()?;
    if u64::try_from(read).ok()? > cap {
        return None;
    }
    Some(HttpResponse {
        status: parts.status.as_u16(),
        content_type: only(&parts.headers, CONTENT_TYPE).map(str::to_owned),
        retry_after_ms: only(&parts.headers, RETRY_AFTER).and_then(|value| parse_retry_after(value, now)),
        body: bytes,
    })
}

/// The value of a field that stands there exactly once.
fn only(headers: &HeaderMap, name: ureq::http::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() { None } else { Some(value) }
}
