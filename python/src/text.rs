//! This file answers: which bytes does a Python text stand for?
//!
//! Peers choose most of these texts, so none of them may raise, and none may turn into another text that would be
//! accepted: what has no bytes becomes bytes that no reader takes.

use std::borrow::Cow;

use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyDict, PyInt, PyMemoryView, PyString};
use wsauth::Payload;
use wsauth::Reason;

use crate::errors::{bad_argument, misuse};

/// Stands for a character that is no byte: not legal in any field, target or name that is read.
const NO_BYTE: u8 = 0xFF;

/// Fills no pattern: a segment has at least one byte.
const UNFIT: &str = "";

/// A field name, a field value, a method or a target. A `str` is read the way WSGI and websockets write it, one
/// character a byte (ISO-8859-1), with surrogate escapes understood.
pub(crate) fn field_bytes<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    let Ok(text) = value.cast::<PyString>() else { return bytes(value) };
    match text.to_str() {
        Ok(text) if text.is_ascii() => Ok(Cow::Borrowed(text.as_bytes())),
        Ok(text) => Ok(Cow::Owned(text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(NO_BYTE)).collect())),
        Err(_) => {
            let units = text.call_method1("encode", ("utf-16-le", "surrogatepass"))?;
            let units = units.cast::<PyBytes>()?.as_bytes();
            let units = units.as_chunks::<2>().0.iter().map(|pair| u16::from_le_bytes(*pair));
            let byte = |unit: Result<char, std::char::DecodeUtf16Error>| match unit {
                Ok(c) => u8::try_from(u32::from(c)).unwrap_or(NO_BYTE),
                Err(lone) => match lone.unpaired_surrogate().checked_sub(0xDC00) {
                    Some(escaped @ 0x80..=0xFF) => u8::try_from(escaped).unwrap_or(NO_BYTE),
                    _ => NO_BYTE,
                },
            };
            Ok(Cow::Owned(char::decode_utf16(units).map(byte).collect()))
        }
    }
}

/// UTF-8 of a text, or bytes as they are. A lone surrogate becomes bytes that are no UTF-8, which are refused later.
pub(crate) fn utf8<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    let Ok(text) = value.cast::<PyString>() else { return bytes(value) };
    match text.to_str() {
        Ok(text) => Ok(Cow::Borrowed(text.as_bytes())),
        Err(_) => {
            let encoded = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
            Ok(Cow::Owned(encoded.cast::<PyBytes>()?.as_bytes().to_vec()))
        }
    }
}

/// One message: `str` is a text message, bytes are a binary one.
pub(crate) struct Data<'a> {
    bytes: Cow<'a, [u8]>,
    is_text: bool,
}

impl<'a> Data<'a> {
    pub(crate) fn new(value: &'a Bound<'_, PyAny>) -> PyResult<Data<'a>> {
        Ok(Data { bytes: utf8(value)?, is_text: value.is_instance_of::<PyString>() })
    }

    pub(crate) fn payload(&self) -> Payload<'_> {
        if self.is_text { Payload::Text(&self.bytes) } else { Payload::Binary(&self.bytes) }
    }
}

/// Bytes as they are.
pub(crate) fn bytes<'a>(value: &'a Bound<'_, PyAny>) -> PyResult<Cow<'a, [u8]>> {
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Cow::Borrowed(bytes.as_bytes()));
    }
    if let Ok(bytes) = value.cast::<PyByteArray>() {
        return Ok(Cow::Owned(bytes.to_vec()));
    }
    if value.is_instance_of::<PyMemoryView>() {
        let buffer = PyBuffer::<u8>::get(value).map_err(|_| bad_argument("a memoryview of bytes is expected"))?;
        return Ok(Cow::Owned(buffer.to_vec(value.py())?));
    }
    Err(bad_argument("str or bytes expected"))
}

/// A name that a peer may have chosen. What is no text matches nothing.
pub(crate) fn name<'a>(value: &'a Bound<'_, PyString>) -> Cow<'a, str> {
    value.to_string_lossy()
}

/// A name that the operator or the application chose.
pub(crate) fn own_name<'a>(value: &'a Bound<'_, PyString>) -> PyResult<&'a str> {
    value.to_str().map_err(|_| misuse(Reason::MisuseArgument, "the text holds a lone surrogate"))
}

/// Fields that fill the patterns of a rule: `str` and `int`. Anything else fills nothing, so its rule refuses;
/// the value may come straight out of a peer's JSON.
pub(crate) fn fields(fields: Option<&Bound<'_, PyDict>>) -> Vec<(String, String)> {
    let Some(fields) = fields else { return Vec::new() };
    let text = |value: &Bound<'_, PyAny>| {
        if let Ok(text) = value.cast::<PyString>() {
            return name(text).into_owned();
        }
        if value.is_instance_of::<PyInt>() && !value.is_instance_of::<PyBool>() {
            return value.extract::<i64>().map_or_else(|_| UNFIT.to_owned(), |number| number.to_string());
        }
        UNFIT.to_owned()
    };
    let key = |key: &Bound<'_, PyAny>| key.cast::<PyString>().map(|key| name(key).into_owned()).unwrap_or_default();
    fields.iter().map(|(field, value)| (key(&field), text(&value))).collect()
}

/// The same pairs, borrowed.
pub(crate) fn borrowed(fields: &[(String, String)]) -> Vec<(&str, &str)> {
    fields.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}
