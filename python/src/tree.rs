//! This file answers: how does a Python dict become a configuration tree?

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyFloat, PyInt, PyList, PyMapping, PyString, PyTuple};
use wsauth::config::{ConfigProblem, Kind, Value};

use crate::errors::config_error;

/// Deepest nesting. A dict that holds itself ends here.
const MAX_DEPTH: usize = 16;

/// Turns dicts, lists, texts, numbers and booleans into a tree. `bytes` stand for key material where the file would
/// have `{ base64 = "…" }`.
///
/// # Errors
///
/// `ConfigError` with the path of the value: None, a number beyond 64 bits, a lone surrogate, a key that is no
/// text, any other type, nesting deeper than 16.
pub(crate) fn tree(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    convert(value, "", 0)
}

fn convert(value: &Bound<'_, PyAny>, place: &str, depth: usize) -> PyResult<Value> {
    if depth > MAX_DEPTH {
        return Err(problem(place, "nested deeper than 16"));
    }
    let kind = if let Ok(text) = value.cast::<PyString>() {
        Kind::String(clean(text, place)?)
    } else if value.is_instance_of::<PyBool>() {
        Kind::Boolean(value.extract()?)
    } else if value.is_instance_of::<PyInt>() {
        Kind::Integer(value.extract().map_err(|_| problem(place, "this number is too large"))?)
    } else if value.is_instance_of::<PyFloat>() {
        Kind::Float(value.extract()?)
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        let text = Kind::String(STANDARD.encode(bytes.as_bytes()));
        return Ok(Value::table(vec![("base64".to_owned(), text.into())]));
    } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        let mut values = Vec::new();
        for (index, item) in value.try_iter()?.enumerate() {
            values.push(convert(&item?, &format!("{place}[{index}]"), depth.saturating_add(1))?);
        }
        Kind::Array(values)
    } else if let Ok(mapping) = value.cast::<PyMapping>() {
        let mut entries = Vec::new();
        for pair in mapping.items()? {
            let (key, item): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair.extract()?;
            let key = key.cast::<PyString>().map_err(|_| problem(place, "a key is a text"))?;
            let key = clean(key, place)?;
            let inner = if place.is_empty() { key.clone() } else { format!("{place}.{key}") };
            let item = convert(&item, &inner, depth.saturating_add(1))?;
            entries.push((key, item));
        }
        return Ok(Value::table(entries));
    } else if value.is_none() {
        return Err(problem(place, "None is no value; leave the key out"));
    } else {
        return Err(problem(place, "expected a text, a number, true or false, a list, a table or bytes"));
    };
    Ok(kind.into())
}

fn clean(text: &Bound<'_, PyString>, place: &str) -> PyResult<String> {
    text.to_str().map(str::to_owned).map_err(|_| problem(place, "the text holds a lone surrogate"))
}

fn problem(place: &str, what: &str) -> PyErr {
    let what = if place.is_empty() { what.to_owned() } else { format!("{place}: {what}") };
    config_error(&ConfigProblem { key: place.to_owned(), line: None, what, nearest: None })
}
