//! This file answers: may this address be connected to, now that the name is resolved (REQUIREMENTS R-JWK-04)?
//!
//! What the operator wrote as an address is what he means. What a name stands for is decided by whoever runs its
//! DNS, and what a discovery document says by whoever wrote that: neither may lead to this machine or to the link,
//! where metadata services live. Private networks stay allowed: that is where issuers of intranets are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ureq::http::Uri;

/// Which addresses one source may have.
#[derive(Clone, Debug, Default)]
pub(super) struct Policy {
    /// The hosts in the configured urls of the source, without brackets.
    written: Vec<String>,
    /// Whether one of them is this machine.
    local: bool,
}

impl Policy {
    /// The policy of a source that is configured with these urls.
    pub(super) fn of<'a>(urls: impl IntoIterator<Item = &'a str>) -> Policy {
        let hosts = urls.into_iter().filter_map(|url| url.parse::<Uri>().ok()?.host().map(bare).map(str::to_owned));
        let written: Vec<String> = hosts.collect();
        let local = written.iter().any(|host| is_localhost(host) || literal(host).is_some_and(|ip| ip.is_loopback()));
        Policy { written, local }
    }

    /// The same, where connections go through this proxy.
    pub(super) fn through(mut self, proxy: Option<&str>) -> Policy {
        self.written.extend(proxy.and_then(|url| url.parse::<Uri>().ok()?.host().map(bare).map(str::to_owned)));
        self
    }

    /// Whether this url may be asked at all: https, or http on this machine when the operator asks there.
    pub(super) fn permits_url(&self, url: &Uri) -> bool {
        let Some(host) = url.host().map(bare) else { return false };
        let address = literal(host);
        let secure = match url.scheme_str() {
            Some("https") => true,
            Some("http") => self.local && (is_localhost(host) || address.is_some_and(|ip| ip.is_loopback())),
            _ => false,
        };
        let user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
        secure && !user && address.is_none_or(|address| self.permits(host, address))
    }

    /// Whether `host` may have this address.
    pub(super) fn permits(&self, host: &str, address: IpAddr) -> bool {
        let host = bare(host);
        let address = unmapped(address);
        if !is_special(address) {
            return true;
        }
        let written = self.written.iter().any(|own| own.eq_ignore_ascii_case(host));
        if literal(host).is_some() {
            return written || (self.local && address.is_loopback());
        }
        is_localhost(host) && address.is_loopback() && (written || self.local)
    }
}

/// A host without the brackets of an IPv6 address.
pub(super) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// The address that a host is, when it is one and no name.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    bare(host).parse().ok()
}

/// RFC 6761 section 6.3.
fn is_localhost(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// This machine, the link, nobody, or many.
fn is_special(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_special_v4(v4),
        IpAddr::V6(v6) => is_special_v6(v6),
    }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    // 0.0.0.0/8 is "this network" (RFC 1122 section 3.2.1.3): the kernel takes 0.0.0.0 for itself.
    first == 0 || address.is_loopback() || address.is_link_local() || address.is_multicast() || address.is_broadcast()
}

fn is_special_v6(address: Ipv6Addr) -> bool {
    address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || address.is_unicast_link_local()
        // The translators' prefix (RFC 6052) hides an IPv4 address as the mapped form does.
        || matches!(address.segments(), [0x64, 0xff9b, 0, 0, 0, 0, high, low]
            if is_special_v4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECIAL: [&str; 16] = [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::7f00:1",
    ];
    const COMMON: [&str; 8] = [
        "93.184.216.34",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "2606:4700::1",
        "fd00::1",
        "::ffff:10.0.0.1",
        "64:ff9b::5db8:d822",
    ];

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_never_leads_to_this_machine_or_the_link() {
        let policy = Policy::of(["https://id.example.com/jwks"]);
        for address in SPECIAL {
            assert!(!policy.permits("id.example.com", ip(address)), "{address}");
            assert!(!policy.permits("localhost", ip(address)), "{address}: nobody wrote localhost");
            // A name that the C library would read as an address.
            assert!(!policy.permits("2130706433", ip(address)), "{address}");
        }
        for address in COMMON {
            assert!(policy.permits("id.example.com", ip(address)), "{address}");
        }
    }

    #[test]
    fn what_the_operator_wrote_is_what_he_means() {
        let policy = Policy::of(["https://169.254.169.254/jwks"]);
        assert!(policy.permits("169.254.169.254", ip("169.254.169.254")));
        assert!(!policy.permits("127.0.0.1", ip("127.0.0.1")));
        let policy = Policy::of(["https://[::1]:8443/jwks"]);
        assert!(policy.permits("[::1]", ip("::1")) && policy.permits("127.0.0.1", ip("127.0.0.1")));
        assert!(policy.permits("localhost", ip("127.0.0.1")) && policy.permits("idp.localhost", ip("::1")));
        assert!(!policy.permits("localhost", ip("169.254.1.1")), "localhost is this machine and nothing else");
        assert!(!policy.permits("id.example.com", ip("::1")));
    }

    #[test]
    fn a_discovered_url_is_held_to_what_was_configured() {
        let uri = |text: &str| text.parse::<Uri>().unwrap();
        let remote = Policy::of(["https://id.example.com/.well-known/openid-configuration"]);
        for bad in [
            "http://id.example.com/jwks",
            "http://127.0.0.1/jwks",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://169.254.169.254/latest",
            "https://user@id.example.com/",
            "ftp://id.example.com/",
            "/jwks",
            "https://[::ffff:169.254.169.254]/",
            "http://localhost/jwks",
        ] {
            assert!(!remote.permits_url(&uri(bad)), "{bad}");
        }
        assert!(remote.permits_url(&uri("https://keys.example.net/jwks")));
        assert!(remote.permits_url(&uri("https://10.0.0.7/jwks")));
        let local = Policy::of(["http://localhost:8080/"]);
        assert!(local.permits_url(&uri("http://127.0.0.1:8080/jwks")) && local.permits_url(&uri("http://[::1]/")));
        assert!(!local.permits_url(&uri("http://10.0.0.7/jwks")) && !local.permits_url(&uri("http://x.test/")));
    }

    #[test]
    fn a_local_proxy_opens_nothing_else() {
        let policy = Policy::of(["https://id.example.com/"]).through(Some("http://127.0.0.1:3128"));
        assert!(policy.permits("127.0.0.1", ip("127.0.0.1")));
        assert!(!policy.permits("127.0.0.2", ip("127.0.0.2")) && !policy.permits("localhost", ip("127.0.0.1")));
    }
}
