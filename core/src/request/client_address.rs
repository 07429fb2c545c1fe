//! This file answers: from which address does this client come?

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::forwarded::{ForwardedHeader, parse_forwarded, parse_hop};
use super::rules::HandshakeRules;
use super::upgrade::{Lines, Peer, Upgrade};
use crate::decision::Reason;

/// The address of one client, IPv4-mapped IPv6 already folded to IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

/// What counts as one client for limits: an IPv4 address, or an IPv6 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressKey([u8; 17]);

/// Finds the client (RULES 10): the peer itself, unless it is a trusted proxy; then the first hop, right to left over
/// all lines of the one forwarded header, that is not a trusted proxy; the left-most when all are.
///
/// A trusted proxy that sends no such header is the client itself: so are health checks and services next door.
/// A trusted unix socket has no address to fall back to and is refused then.
///
/// # Refusals
///
/// - `MisusePeer`: the server gave no peer, or a unix socket without `trust_unix_peers`.
/// - `AddressUnparsable`: a hop that must be believed cannot be read, or a single-address header stands twice.
///
/// # Cost
///
/// One pass over the header from its end; what stands left of the client is not looked at (except within one line of
/// `Forwarded`, whose quotes can only be read from the left).
pub(crate) fn find_client_address(upgrade: Upgrade<'_>, rules: &HandshakeRules) -> Result<ClientAddress, Reason> {
    let peer = match upgrade.peer {
        Peer::Ip(address) => Some(address.to_canonical()),
        Peer::Unix if rules.trust_unix_peers => None,
        Peer::Unix | Peer::Unknown => return Err(Reason::MisusePeer),
    };
    if let Some(address) = peer.filter(|address| !rules.trusts(*address)) {
        return Ok(ClientAddress(address));
    }
    let lines = upgrade.values(rules.forwarded.name()).rev();
    let named = match rules.forwarded {
        ForwardedHeader::List => {
            let hops = lines.flat_map(|line| line.rsplit(|byte| *byte == b','));
            first_untrusted(hops.map(parse_hop), rules)?
        }
        ForwardedHeader::Forwarded => {
            let hops = lines.flat_map(|line| parse_forwarded(line).unwrap_or_else(|| vec![None]).into_iter().rev());
            first_untrusted(hops, rules)?
        }
        ForwardedHeader::Single(ref name) => match upgrade.single(name) {
            Lines::Absent => None,
            Lines::One(value) => Some(parse_hop(value).ok_or(Reason::AddressUnparsable)?),
            Lines::Repeated => return Err(Reason::AddressUnparsable),
        },
    };
    named.or(peer).map(ClientAddress).ok_or(Reason::AddressUnparsable)
}

/// The first hop that is no trusted proxy, else the last one walked over; `None` without hops.
fn first_untrusted(
    hops: impl Iterator<Item = Option<IpAddr>>,
    rules: &HandshakeRules,
) -> Result<Option<IpAddr>, Reason> {
    let mut last = None;
    for hop in hops {
        let address = hop.ok_or(Reason::AddressUnparsable)?;
        last = Some(address);
        if !rules.trusts(address) {
            break;
        }
    }
    Ok(last)
}

impl ClientAddress {
    /// The address.
    pub fn ip(self) -> IpAddr {
        self.0
    }

    /// The client as limits count it: IPv4 whole, IPv6 cut to `ipv6_prefix` bits (64 by default), since one client
    /// has a whole network to rotate through.
    pub fn key(self, ipv6_prefix: u8) -> AddressKey {
        let (family, bytes) = match self.0 {
            IpAddr::V4(address) => (4, address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => (6, network_of(address, ipv6_prefix).network().octets()),
        };
        let mut key = [family; 17];
        for (to, from) in key.iter_mut().skip(1).zip(bytes) {
            *to = from;
        }
        AddressKey(key)
    }

    /// Whether one of the networks holds this client. An IPv6 network smaller than `ipv6_prefix` blocks the whole
    /// client it lies in; IPv4-mapped networks mean their IPv4 ones.
    pub fn is_blocked(self, blocked: &[IpNet], ipv6_prefix: u8) -> bool {
        blocked.iter().any(|net| {
            contains(net, self.0)
                || match (net, self.0) {
                    (IpNet::V6(net), IpAddr::V6(address)) => {
                        fold(net).is_none() && network_of(address, ipv6_prefix).contains(&net.addr())
                    }
                    _ => false,
                }
        })
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AddressKey {
    /// The key as bytes: the family (4 or 6), then the address in IPv6 form.
    pub fn as_bytes(&self) -> &[u8; 17] {
        &self.0
    }
}

/// Whether a network holds an address that is already folded.
pub(super) fn contains(net: &IpNet, address: IpAddr) -> bool {
    match (net, address) {
        (IpNet::V4(net), IpAddr::V4(address)) => net.contains(&address),
        (IpNet::V6(net), IpAddr::V6(address)) => net.contains(&address),
        (IpNet::V6(net), IpAddr::V4(address)) => fold(net).is_some_and(|net| net.contains(&address)),
        (IpNet::V4(_), IpAddr::V6(_)) => false,
    }
}

/// The IPv4 network that `::ffff:a.b.c.d/n` means.
fn fold(net: &Ipv6Net) -> Option<Ipv4Net> {
    Ipv4Net::new(net.addr().to_ipv4_mapped()?, net.prefix_len().checked_sub(96)?).ok()
}

fn network_of(address: Ipv6Addr, prefix: u8) -> Ipv6Net {
    Ipv6Net::new(address, prefix).unwrap_or(Ipv6Net::from(address))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::rules::tests::rules;
    use super::super::upgrade::Header;
    use super::*;

    fn find(peer: Peer, header: &str, lines: &[&str]) -> Result<String, Reason> {
        let rules = rules(|config| {
            config.trusted_proxies =
                ["10.0.0.0/8", "fd00::/8", "::ffff:192.168.0.0/112"].map(|net| net.parse().unwrap()).into();
            config.trust_unix_peers = peer == Peer::Unix;
            config.forwarded_header = header.into();
        });
        let name = header.to_uppercase();
        let headers: Vec<Header<'_>> =
            lines.iter().map(|line| Header { name: name.as_bytes(), value: line.as_bytes() }).collect();
        let request = Upgrade { method: b"GET", target: b"/", headers: &headers, peer };
        find_client_address(request, &rules).map(|address| address.to_string())
    }

    fn ip(text: &str) -> Peer {
        Peer::Ip(text.parse().unwrap())
    }

    fn xff(peer: &str, lines: &[&str]) -> Result<String, Reason> {
        find(ip(peer), "x-forwarded-for", lines)
    }

    #[test]
    fn a_direct_client_is_its_peer_whatever_it_claims() {
        for lines in [&[][..], &["198.51.100.7"], &["garbage"], &[""]] {
            assert_eq!(xff("203.0.113.9", lines).as_deref(), Ok("203.0.113.9"));
        }
        assert_eq!(xff("::ffff:203.0.113.9", &["1.1.1.1"]).as_deref(), Ok("203.0.113.9"));
    }

    #[test]
    fn hops_are_walked_from_the_right_over_all_lines() {
        for (lines, client) in [
            (&["203.0.113.9"][..], "203.0.113.9"),
            (&["203.0.113.9:51234"], "203.0.113.9"),
            (&["1.2.3.4, 198.51.100.7"], "198.51.100.7"),
            (&["9.9.9.9, 198.51.100.7, 10.2.2.2"], "198.51.100.7"),
            (&["9.9.9.9, 198.51.100.7", "10.2.2.2,fd00::1"], "198.51.100.7"),
            (&["1.1.1.1", "2.2.2.2"], "2.2.2.2"),
            (&["not-an-ip, 203.0.113.9"], "203.0.113.9"),
            (&["10.3.3.3, 10.2.2.2"], "10.3.3.3"),
            (&["1.1.1.1, ::ffff:10.9.9.9"], "1.1.1.1"),
            (&["1.1.1.1, 192.168.7.7"], "1.1.1.1"),
            (&["::ffff:198.51.100.7"], "198.51.100.7"),
        ] {
            assert_eq!(xff("10.1.1.1", lines).as_deref(), Ok(client), "{lines:?}");
        }
        assert_eq!(xff("::ffff:10.1.1.1", &["1.1.1.1"]).as_deref(), Ok("1.1.1.1"));
    }

    #[test]
    fn what_a_trusted_proxy_says_must_be_readable() {
        for lines in
            [&["1.2.3.4, not-an-ip"][..], &[""], &["1.2.3.4,"], &["1.2.3.4", ""], &["garbage, 10.2.2.2"], &["unknown"]]
        {
            assert_eq!(xff("10.1.1.1", lines), Err(Reason::AddressUnparsable), "{lines:?}");
        }
    }

    #[test]
    fn without_the_header_a_trusted_proxy_is_the_client() {
        assert_eq!(xff("10.1.1.1", &[]).as_deref(), Ok("10.1.1.1"));
        assert_eq!(find(Peer::Unix, "x-forwarded-for", &[]), Err(Reason::AddressUnparsable));
        assert_eq!(find(Peer::Unix, "x-forwarded-for", &["203.0.113.9, 10.1.1.1"]).as_deref(), Ok("203.0.113.9"));
    }

    #[test]
    fn only_the_configured_header_is_read_by_its_own_grammar() {
        let proxy = ip("10.1.1.1");
        let two = "for=1.1.1.1, for=\"[2001:db8::7]:80\";by=10.1.1.1, for=10.2.2.2";
        assert_eq!(find(proxy, "forwarded", &[two]).as_deref(), Ok("2001:db8::7"));
        assert_eq!(find(proxy, "forwarded", &["for=1.1.1.1", "for=2.2.2.2"]).as_deref(), Ok("2.2.2.2"));
        for lines in
            [&["for=unknown"][..], &["for=\"1.1.1.1"], &["by=10.1.1.1"], &[""], &["for=1.1.1.1", "for=10.2.2.2;"]]
        {
            assert_eq!(find(proxy, "forwarded", lines), Err(Reason::AddressUnparsable), "{lines:?}");
        }
        assert_eq!(find(proxy, "x-real-ip", &["203.0.113.9"]).as_deref(), Ok("203.0.113.9"));
        assert_eq!(find(proxy, "x-real-ip", &["10.5.5.5"]).as_deref(), Ok("10.5.5.5"));
        for lines in [&["1.1.1.1", "1.1.1.1"][..], &["1.1.1.1, 2.2.2.2"], &[""]] {
            assert_eq!(find(proxy, "x-real-ip", lines), Err(Reason::AddressUnparsable), "{lines:?}");
        }
    }

    #[test]
    fn no_peer_is_misuse() {
        let rules = rules(|_| ());
        for peer in [Peer::Unknown, Peer::Unix] {
            let request = Upgrade { method: b"GET", target: b"/", headers: &[], peer };
            assert_eq!(find_client_address(request, &rules), Err(Reason::MisusePeer));
        }
    }

    fn client(text: &str) -> ClientAddress {
        ClientAddress(text.parse().unwrap())
    }

    #[test]
    fn ipv6_clients_count_by_their_network() {
        let key = |text: &str| client(text).key(64);
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:dead::1"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("203.0.113.9"), key("203.0.113.10"));
        assert_eq!(client("2001:db8:1:2::1").key(48), client("2001:db8:1:3::1").key(48));
        assert_ne!(client("2001:db8::1").key(128), client("2001:db8::2").key(128));
        assert_eq!(key("1.2.3.4").as_bytes()[0], 4);
        assert_eq!(key("2001:db8::").as_bytes()[..5], [6, 0x20, 0x01, 0x0d, 0xb8]);
    }

    #[test]
    fn a_block_reaches_the_whole_client() {
        let blocked =
            ["198.51.100.7/32", "2001:db8:1:2::/64", "2001:db8:9::7/128", "::ffff:192.0.2.0/120", "2001:db8:f000::/36"]
                .map(|net| net.parse().unwrap());
        let is = |text: &str| client(text).is_blocked(&blocked, 64);
        for address in [
            "198.51.100.7",
            "2001:db8:1:2:dead::1",
            "2001:db8:1:2::1",
            "2001:db8:9::8",
            "192.0.2.255",
            "2001:db8:ffff:1::1",
        ] {
            assert!(is(address), "{address}");
        }
        for address in ["198.51.100.8", "2001:db8:1:3::1", "2001:db8:9:1::7", "192.0.3.1", "203.0.113.9"] {
            assert!(!is(address), "{address}");
        }
        assert!(!is("::1"), "its /64 holds the mapped addresses");
        assert!(!client("1.2.3.4").is_blocked(&["::/0".parse().unwrap()], 64));
    }

    proptest! {
        #[test]
        fn nothing_a_client_writes_moves_it(claim in "[ -~]{0,60}") {
            // The proxy appends the true address; whatever stands left of it is the client's own text.
            prop_assert_eq!(xff("10.1.1.1", &[&claim, "203.0.113.9"]), Ok("203.0.113.9".to_string()));
            let one_line = format!("{claim}, 203.0.113.9");
            prop_assert_eq!(xff("10.1.1.1", &[&one_line]), Ok("203.0.113.9".to_string()));
            for appended in ["for=203.0.113.9", "for=\"203.0.113.9:80\";by=\"[fd00::1]\""] {
                let got = find(ip("10.1.1.1"), "forwarded", &[&format!("{claim}, {appended}")]);
                prop_assert!(matches!(got.as_deref(), Ok("203.0.113.9") | Err(Reason::AddressUnparsable)), "{:?}", got);
            }
        }
    }
}
