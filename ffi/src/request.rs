//! This file answers: what upgrade request did C bring?

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use wsauth::Reason;
use wsauth::request::{Header, Peer, Upgrade};

use crate::abi::{WSAUTH_PEER_SOCKADDR, WSAUTH_PEER_TEXT, WSAUTH_PEER_UNIX, wsauth_bytes, wsauth_request};
use crate::boundary::No;
use crate::view::{array, bytes, sized};

/// Most header lines looked at; the configured bound is lower.
const MAX_HEADERS: usize = 1_024;
/// Longest part of a request; the configured bounds are lower.
const MAX_PART: usize = 64 * 1024;
/// Longest address: a sockaddr_storage.
const MAX_PEER: usize = 128;

/// A request from C, borrowed for one call.
pub(crate) struct Request<'a> {
    pub(crate) shard: u32,
    method: &'a [u8],
    target: &'a [u8],
    headers: Vec<Header<'a>>,
    peer: Peer,
}

impl<'a> Request<'a> {
    /// # Safety
    ///
    /// `at` as [`sized`]; what it points to is valid for `'a`.
    pub(crate) unsafe fn new(at: *const wsauth_request) -> Result<Request<'a>, No> {
        // SAFETY: handed on.
        let given = unsafe { sized(at) }?;
        // SAFETY: handed on.
        let part = |view: wsauth_bytes| unsafe { bytes::<'a>(view.ptr, view.len, MAX_PART, Reason::RequestTooLarge) };
        // SAFETY: handed on.
        let lines = unsafe { array(given.headers, given.header_count, MAX_HEADERS, Reason::RequestTooLarge) }?;
        let headers = lines
            .map(|line| Ok(Header { name: part(line.name)?, value: part(line.value)? }))
            .collect::<Result<Vec<_>, No>>()?;
        // SAFETY: handed on.
        let peer = unsafe { bytes(given.peer.ptr, given.peer.len, MAX_PEER, Reason::MisusePeer) }?;
        Ok(Request {
            shard: given.shard,
            method: part(given.method)?,
            target: part(given.target)?,
            headers,
            peer: parse_peer(given.peer_kind, peer),
        })
    }

    pub(crate) fn upgrade(&self) -> Upgrade<'_> {
        Upgrade { method: self.method, target: self.target, headers: &self.headers, peer: self.peer }
    }
}

fn parse_peer(kind: u32, peer: &[u8]) -> Peer {
    let address = match kind {
        WSAUTH_PEER_TEXT => parse_text(peer),
        WSAUTH_PEER_SOCKADDR => return parse_sockaddr(peer),
        WSAUTH_PEER_UNIX if peer.is_empty() => return Peer::Unix,
        _ => None,
    };
    address.map_or(Peer::Unknown, Peer::Ip)
}

fn parse_text(peer: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(peer).ok()?;
    // `fe80::1%eth0`: getnameinfo names the interface, which is not part of the address.
    let (address, _zone) = text.split_once('%').unwrap_or((text, ""));
    address.parse().ok()
}

fn parse_sockaddr(peer: &[u8]) -> Peer {
    let family = peer.first_chunk().map(|family| i32::from(u16::from_ne_bytes(*family)));
    let address = match family {
        // sa_family 2, port 2, address 4.
        Some(libc::AF_INET) => chunk::<4>(peer, 4).map(|octets| IpAddr::V4(Ipv4Addr::from(octets))),
        // sa_family 2, port 2, flow 4, address 16.
        Some(libc::AF_INET6) => chunk::<16>(peer, 8).map(|octets| IpAddr::V6(Ipv6Addr::from(octets))),
        Some(libc::AF_UNIX) => return Peer::Unix,
        _ => None,
    };
    address.map_or(Peer::Unknown, Peer::Ip)
}

fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_text_and_from_the_system() {
        let ip = |text: &str| Peer::Ip(text.parse().unwrap());
        assert_eq!(parse_peer(WSAUTH_PEER_TEXT, b"192.0.2.1"), ip("192.0.2.1"));
        assert_eq!(parse_peer(WSAUTH_PEER_TEXT, b"fe80::1%eth0"), ip("fe80::1"));
        let v4 = [&(libc::AF_INET as u16).to_ne_bytes()[..], &[0, 80, 192, 0, 2, 1], &[0; 8]].concat();
        assert_eq!(parse_peer(WSAUTH_PEER_SOCKADDR, &v4), ip("192.0.2.1"));
        let mut v6 = [&(libc::AF_INET6 as u16).to_ne_bytes()[..], &[0; 22], &[0; 4]].concat();
        (v6[8], v6[23]) = (0x20, 1);
        assert_eq!(parse_peer(WSAUTH_PEER_SOCKADDR, &v6), ip("2000::1"));
        assert_eq!(parse_peer(WSAUTH_PEER_SOCKADDR, &(libc::AF_UNIX as u16).to_ne_bytes()), Peer::Unix);
        assert_eq!(parse_peer(WSAUTH_PEER_UNIX, b""), Peer::Unix);
    }

    #[test]
    fn everything_else_is_unknown() {
        let short = [&(libc::AF_INET as u16).to_ne_bytes()[..], &[0, 80, 192, 0, 2]].concat();
        for (kind, peer) in [
            (0, &b"192.0.2.1"[..]),
            (4, b"192.0.2.1"),
            (WSAUTH_PEER_TEXT, b""),
            (WSAUTH_PEER_TEXT, b"192.0.2.1:80"),
            (WSAUTH_PEER_TEXT, b"\xff"),
            (WSAUTH_PEER_SOCKADDR, b"\x02"),
            (WSAUTH_PEER_SOCKADDR, &short),
            (WSAUTH_PEER_UNIX, b"x"),
        ] {
            assert_eq!(parse_peer(kind, peer), Peer::Unknown, "{kind} {peer:?}");
        }
    }
}
