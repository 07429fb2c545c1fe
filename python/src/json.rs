//! This file answers: how do claims become Python objects, and back?

use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString};
use serde_json::{Map, Value};

use crate::errors::bad_argument;

/// Deepest claims taken from a driver's answer, as deep as those of a token.
const MAX_DEPTH: usize = 32;

/// A fresh dict; changing it changes nothing else.
pub(crate) fn to_dict<'py>(py: Python<'py>, map: &Map<String, Value>) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (key, value) in map {
        dict.set_item(key, to_object(py, value)?)?;
    }
    Ok(dict)
}

fn to_object<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(flag) => PyBool::new(py, *flag).to_owned().into_any(),
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Array(values) => {
            let list = PyList::empty(py);
            for value in values {
                list.append(to_object(py, value)?)?;
            }
            list.into_any()
        }
        Value::Object(map) => to_dict(py, map)?.into_any(),
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => number.into_pyobject(py)?.into_any(),
            (_, Some(number), _) => number.into_pyobject(py)?.into_any(),
            (_, _, Some(number)) => PyFloat::new(py, number).into_any(),
            _ => py.None().into_bound(py),
        },
    })
}

/// Claims that a driver vouches for.
pub(crate) fn from_dict(dict: &Bound<'_, PyDict>) -> PyResult<Map<String, Value>> {
    match from_object(dict, 0)? {
        Value::Object(map) => Ok(map),
        _ => Err(bad_argument("claims: a dict expected")),
    }
}

fn from_object(value: &Bound<'_, PyAny>, depth: usize) -> PyResult<Value> {
    if depth > MAX_DEPTH {
        return Err(bad_argument("claims: nested deeper than 32"));
    }
    let deeper = depth.saturating_add(1);
    if value.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Value::String(crate::text::own_name(text)?.to_owned()));
    }
    if value.is_instance_of::<PyBool>() {
        return Ok(Value::Bool(value.extract()?));
    }
    if value.is_instance_of::<PyInt>() {
        let number = value.extract::<i64>().map_err(|_| bad_argument("claims: a number is too large"))?;
        return Ok(number.into());
    }
    if let Ok(number) = value.cast::<PyFloat>() {
        let number = serde_json::Number::from_f64(number.value());
        return number.map(Value::Number).ok_or_else(|| bad_argument("claims: a number is not finite"));
    }
    if let Ok(list) = value.cast::<PyList>() {
        return list.iter().map(|item| from_object(&item, deeper)).collect::<PyResult<Vec<_>>>().map(Value::Array);
    }
    if let Ok(dict) = value.cast::<PyDict>() {
        let mut map = Map::new();
        for (key, item) in dict.iter() {
            let key = key.cast::<PyString>().map_err(|_| bad_argument("claims: a key is a text"))?;
            map.insert(crate::text::own_name(key)?.to_owned(), from_object(&item, deeper)?);
        }
        return Ok(Value::Object(map));
    }
    Err(bad_argument("claims: JSON types expected"))
}
