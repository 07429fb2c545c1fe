//! This file answers: which addresses does a name have, without waiting for ever and without being led astray?
//!
//! The C library's lookup cannot be interrupted. It runs on a thread of its own, of which there is a bounded number;
//! a worker waits for it no longer than its timeout. Addresses that the [`Policy`] does not permit are dropped here,
//! and the connection goes to those that are left: the name is not looked up again.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, select};
use parking_lot::Mutex;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use wsauth::time::MonoTime;

use super::address::{Policy, bare, literal};
use crate::clock::network_time;
use crate::threads;

/// Most lookups at once; one more fails at once. Those that hang stay until the C library gives up.
const MAX_THREADS: usize = 8;
/// Most addresses of one name that are tried.
const MAX_ADDRESSES: usize = 8;
/// A name is looked up again after this long: a client asks also when it has a connection open. In milliseconds.
const KEPT_MS: u64 = 10_000;
/// Most names kept. A source has two or three.
const MAX_KEPT: usize = 16;

/// The lookup of the operating system, or a test's.
pub(super) type Lookup = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

/// The lookup of the operating system.
pub(super) fn system() -> Lookup {
    Arc::new(|host, port| (host, port).to_socket_addrs().map(Iterator::collect))
}

/// Looks names up on helper threads. Shared by all sources.
pub(super) struct Names {
    lookup: Lookup,
    running: Arc<AtomicUsize>,
    stopped: Receiver<()>,
}

impl Names {
    /// Disconnecting `stopped` ends every wait.
    pub(super) fn new(lookup: Lookup, stopped: Receiver<()>) -> Names {
        Names { lookup, running: Arc::new(AtomicUsize::new(0)), stopped }
    }

    /// `None`: not found, not in time, or too many lookups hang.
    fn find(&self, host: &str, port: u16, within: Duration) -> Option<Vec<SocketAddr>> {
        struct Running(Arc<AtomicUsize>);
        impl Drop for Running {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::AcqRel);
            }
        }
        let before = self.running.fetch_add(1, Ordering::AcqRel);
        let running = Running(Arc::clone(&self.running));
        if before >= MAX_THREADS {
            return None;
        }
        let (tell, told) = bounded(1);
        let (lookup, name) = (Arc::clone(&self.lookup), host.to_owned());
        // Nobody waits for it at the end: it holds nothing of an engine.
        threads::start("wsauth-dns", move || {
            let _running = running;
            let _ = tell.send(lookup(&name, port));
        })
        .ok()?;
        select! {
            recv(told) -> found => found.ok()?.ok(),
            recv(self.stopped) -> _ => None,
            default(within) => None,
        }
    }
}

/// The names of one source.
pub(super) struct SourceNames {
    names: Arc<Names>,
    policy: Policy,
    kept: Mutex<HashMap<String, (MonoTime, Vec<SocketAddr>)>>,
}

impl SourceNames {
    pub(super) fn new(names: Arc<Names>, policy: Policy) -> SourceNames {
        SourceNames { names, policy, kept: Mutex::default() }
    }

    /// The permitted addresses of a host; none when it has none.
    fn find_permitted(&self, host: &str, port: u16, within: Duration) -> Vec<SocketAddr> {
        if let Some(address) = literal(host) {
            return Some(SocketAddr::new(address, port))
                .filter(|_| self.policy.permits(host, address))
                .into_iter()
                .collect();
        }
        let key = format!("{host}:{port}");
        let is_young = |found_at: MonoTime| network_time().since(found_at) < KEPT_MS;
        if let Some((found_at, addresses)) = self.kept.lock().get(&key)
            && is_young(*found_at)
        {
            return addresses.clone();
        }
        let found = self.names.find(host, port, within).unwrap_or_default();
        let permitted: Vec<SocketAddr> = found
            .into_iter()
            .filter(|address| self.policy.permits(host, address.ip()))
            .map(|address| SocketAddr::new(address.ip(), port))
            .take(MAX_ADDRESSES)
            .collect();
        let mut kept = self.kept.lock();
        kept.retain(|_, (found_at, _)| is_young(*found_at));
        if !permitted.is_empty() && kept.len() < MAX_KEPT {
            kept.insert(key, (network_time(), permitted.clone()));
        }
        permitted
    }
}

impl Resolver for SourceNames {
    fn resolve(&self, uri: &Uri, _: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().map(bare).ok_or(Error::HostNotFound)?;
        let port = match (uri.port_u16(), uri.scheme_str()) {
            (Some(port), _) => port,
            (None, Some("https")) => 443,
            (None, _) => 80,
        };
        let mut result = self.empty();
        for address in self.find_permitted(host, port, *timeout.after) {
            result.push(address);
        }
        if result.is_empty() { Err(Error::HostNotFound) } else { Ok(result) }
    }
}

impl fmt::Debug for SourceNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceNames({:?})", self.policy)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use crossbeam_channel::Sender;

    use super::*;

    fn names(lookup: Lookup, policy: Policy) -> (SourceNames, Sender<()>) {
        let (stop, stopped) = bounded(0);
        (SourceNames::new(Arc::new(Names::new(lookup, stopped)), policy), stop)
    }

    fn answering(addresses: &'static [&'static str]) -> (Lookup, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let lookup: Lookup = Arc::new(move |_, port| {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(addresses.iter().map(|text| SocketAddr::new(text.parse().unwrap(), port)).collect())
        });
        (lookup, asked)
    }

    fn remote() -> Policy {
        Policy::of(["https://id.example.com/"])
    }

    #[test]
    fn forbidden_addresses_are_dropped_and_the_others_kept_in_order() {
        let (lookup, _) =
            answering(&["169.254.169.254", "10.0.0.1", "::1", "::ffff:127.0.0.1", "93.184.216.34", "fe80::1"]);
        let (names, _stop) = names(lookup, remote());
        let found = names.find_permitted("id.example.com", 443, Duration::from_secs(20));
        assert_eq!(found, ["10.0.0.1:443".parse().unwrap(), "93.184.216.34:443".parse().unwrap()]);
    }

    #[test]
    fn a_name_that_has_only_forbidden_addresses_has_none() {
        for flipped in [&["169.254.169.254"][..], &["::1"], &["::ffff:169.254.169.254", "127.0.0.1"], &[]] {
            let (lookup, _) = answering(flipped);
            let (names, _stop) = names(lookup, remote());
            assert!(names.find_permitted("id.example.com", 443, Duration::from_secs(20)).is_empty(), "{flipped:?}");
        }
    }

    #[test]
    fn a_name_is_looked_up_once_for_a_while_and_what_is_forbidden_is_not_kept() {
        let (lookup, asked) = answering(&["10.0.0.1"]);
        let (good, _stop) = names(lookup, remote());
        let (lookup, asked_bad) = answering(&["127.0.0.1"]);
        let (bad, _stop) = names(lookup, remote());
        for _ in 0..5 {
            good.find_permitted("id.example.com", 443, Duration::from_secs(20));
            bad.find_permitted("id.example.com", 443, Duration::from_secs(20));
        }
        assert_eq!((asked.load(Ordering::SeqCst), asked_bad.load(Ordering::SeqCst)), (1, 5));
        for n in 0..100 {
            good.find_permitted(&format!("n{n}.example.com"), 443, Duration::from_secs(20));
        }
        assert!(good.kept.lock().len() <= MAX_KEPT);
    }

    #[test]
    fn lookups_that_hang_hold_nobody_and_are_bounded() {
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(Mutex::new(hang));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let lookup: Lookup = Arc::new(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = hang.lock().recv();
            Ok(Vec::new())
        });
        let (names, stop) = names(lookup, remote());
        for n in 0..20 {
            assert!(names.find_permitted(&format!("n{n}.test"), 443, Duration::from_millis(5)).is_empty());
        }
        assert!(asked.load(Ordering::SeqCst) <= MAX_THREADS);
        assert_eq!(names.names.running.load(Ordering::SeqCst), MAX_THREADS);
        drop(release);
        while names.names.running.load(Ordering::SeqCst) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        // Stopping ends a wait at once.
        let (_release, hang) = mpsc::channel::<()>();
        let hang = Mutex::new(hang);
        let waiting = SourceNames::new(
            Arc::new(Names::new(
                Arc::new(move |_, _| {
                    let _ = hang.lock().recv();
                    Ok(Vec::new())
                }),
                names.names.stopped.clone(),
            )),
            remote(),
        );
        drop(stop);
        assert!(waiting.find_permitted("id.example.com", 443, Duration::from_secs(600)).is_empty());
    }
}
