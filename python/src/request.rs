//! This file answers: how does a request in Python's types become an upgrade request?

use std::borrow::Cow;
use std::net::IpAddr;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyMapping, PyString, PyTuple};
use wsauth::request::{Header, Peer, Upgrade};

use crate::errors::bad_argument;
use crate::text::field_bytes;

/// An upgrade request, still in Python's types.
pub(crate) struct Request<'a, 'py> {
    pub(crate) method: &'a Bound<'py, PyAny>,
    pub(crate) target: &'a Bound<'py, PyAny>,
    pub(crate) headers: &'a Bound<'py, PyAny>,
    pub(crate) peer: &'a Bound<'py, PyAny>,
}

impl Request<'_, '_> {
    /// Lends the request to `decide` without copying its bytes where that can be helped.
    pub(crate) fn lend<T>(&self, decide: impl FnOnce(&Upgrade<'_>) -> T) -> PyResult<T> {
        let method = field_bytes(self.method)?;
        let target = field_bytes(self.target)?;
        let lines = lines(self.headers)?;
        let lines: Vec<BytesLine<'_>> =
            lines.iter().map(|(name, value)| Ok((field_bytes(name)?, field_bytes(value)?))).collect::<PyResult<_>>()?;
        let headers: Vec<Header<'_>> =
            lines.iter().map(|(name, value)| Header { name, value: value.trim_ascii() }).collect();
        let peer = peer(self.peer);
        Ok(decide(&Upgrade { method: &method, target: &target, headers: &headers, peer }))
    }
}

type BytesLine<'a> = (Cow<'a, [u8]>, Cow<'a, [u8]>);
type Line<'py> = (Bound<'py, PyAny>, Bound<'py, PyAny>);

/// All field lines in order, copied; values without the white space around them.
pub(crate) fn field_lines(headers: &Bound<'_, PyAny>) -> PyResult<Vec<(Vec<u8>, Vec<u8>)>> {
    let line =
        |(name, value): &Line<'_>| Ok((field_bytes(name)?.into_owned(), field_bytes(value)?.trim_ascii().to_vec()));
    lines(headers)?.iter().map(line).collect()
}

/// All field lines in order: pairs, or a mapping whose values may be lists for repeated fields.
fn lines<'py>(headers: &Bound<'py, PyAny>) -> PyResult<Vec<Line<'py>>> {
    let mut lines = Vec::new();
    let items = match headers.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => headers.clone(),
    };
    let pairs = items.try_iter().map_err(|_| bad_argument("headers: pairs or a mapping expected"))?;
    for pair in pairs {
        let (name, value): Line<'py> =
            pair?.extract().map_err(|_| bad_argument("headers: pairs of name and value expected"))?;
        if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            for value in value.try_iter()? {
                lines.push((name.clone(), value?));
            }
        } else {
            lines.push((name, value));
        }
    }
    Ok(lines)
}

/// The other end of the socket: an address, the pair that `getpeername` gives, or `"unix"`.
fn peer(peer: &Bound<'_, PyAny>) -> Peer {
    let first = peer.cast::<PyTuple>().ok().and_then(|pair| pair.get_item(0).ok());
    let Ok(text) = first.as_ref().unwrap_or(peer).cast::<PyString>() else { return Peer::Unknown };
    let text = text.to_string_lossy();
    if first.is_none() && text == "unix" {
        return Peer::Unix;
    }
    // A link-local address comes with its interface behind `%`.
    let address = text.split('%').next().unwrap_or_default();
    address.parse::<IpAddr>().map_or(Peer::Unknown, Peer::Ip)
}

/// Whether an object is a plain table.
pub(crate) fn is_mapping(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyDict>() || value.cast::<PyMapping>().is_ok()
}
