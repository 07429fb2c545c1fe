//! This file answers: who may vouch, and with which keys at present?

use std::sync::Arc;

use parking_lot::RwLock;

use super::ring::{KeyRing, Trust};
use crate::config::{IssuerConfig, KeysConfig};

/// The configured issuers, in the order written. Shared by all threads.
#[derive(Debug)]
pub struct Issuers {
    list: Vec<Issuer>,
    skipped: Vec<String>,
}

/// One issuer with its keys.
#[derive(Debug)]
pub struct Issuer {
    config: IssuerConfig,
    /// Shared with the same issuer of the rules before and after a reload: a set that comes during one is not lost.
    keys: Arc<RwLock<Versioned>>,
}

#[derive(Debug)]
struct Versioned {
    version: u64,
    ring: Arc<KeyRing>,
}

/// What came of a new key set.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeysLoaded {
    /// Ids of keys that are gone, or that now mean another key: what they vouched for is to be refreshed (RULES 30).
    pub removed: Vec<Arc<str>>,
    /// For the operator: keys of the document that cannot be used, and why.
    pub skipped: Vec<String>,
}

impl Issuers {
    /// Makes the rings of all issuers.
    ///
    /// Refused: a configured key that cannot be used, the same issuer twice, two issuers that take opaque tokens.
    /// The text names the issuer.
    pub fn from_config(configs: &[IssuerConfig]) -> Result<Issuers, String> {
        let mut issuers = Issuers { list: Vec::new(), skipped: Vec::new() };
        for config in configs {
            let name = &config.issuer;
            if issuers.find(name).is_some() {
                return Err(format!("issuer `{name}` stands twice"));
            }
            if config.opaque && issuers.opaque().is_some() {
                return Err(format!("issuer `{name}`: another issuer takes the opaque tokens already"));
            }
            let (ring, skipped) = KeyRing::from_config(config).map_err(|why| format!("issuer `{name}`: {why}"))?;
            issuers.skipped.extend(skipped.into_iter().map(|text| format!("issuer `{name}`: {text}")));
            let keys = Arc::new(RwLock::new(Versioned { version: 0, ring: Arc::new(ring) }));
            issuers.list.push(Issuer { config: config.clone(), keys });
        }
        Ok(issuers)
    }

    /// Takes over the fetched keys of issuers that stay where they were, and says which keys of each old issuer are
    /// gone (RULES 30). For a reload, before the new rules are in force.
    pub(crate) fn inherit(&mut self, old: &Issuers) -> Vec<(String, Vec<Arc<str>>)> {
        let mut gone = Vec::new();
        for before in &old.list {
            let Some(after) = self.list.iter_mut().find(|issuer| issuer.config.issuer == before.config.issuer) else {
                continue;
            };
            let same_place = match (&before.config.keys, &after.config.keys) {
                (KeysConfig::Remote(old), KeysConfig::Remote(new)) => {
                    (&old.url, old.discovery) == (&new.url, new.discovery)
                }
                _ => false,
            };
            if same_place {
                after.keys = Arc::clone(&before.keys);
            }
            let removed = before.keys().removed_in(&after.keys());
            if !removed.is_empty() {
                gone.push((before.config.issuer.clone(), removed));
            }
        }
        gone
    }

    /// For the operator: keys of configured documents that cannot be used, and why.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The issuer at an index, which stays the same for the life of this value.
    pub fn get(&self, index: usize) -> Option<&Issuer> {
        self.list.get(index)
    }

    /// Counts the changes of all their keys: while it stays the same, no ring has changed.
    pub(crate) fn version(&self) -> u64 {
        self.list.iter().fold(0, |sum, issuer| sum.wrapping_add(issuer.version()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none: then no token is ever accepted.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The index of the issuer of exactly this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.list.iter().position(|issuer| issuer.config.issuer == name)
    }

    /// The index of the only issuer, if there is only one.
    pub fn single(&self) -> Option<usize> {
        (self.list.len() == 1).then_some(0)
    }

    /// The index of the issuer that takes tokens that are no JWT.
    pub fn opaque(&self) -> Option<usize> {
        self.list.iter().position(|issuer| issuer.config.opaque)
    }
}

impl Issuer {
    /// Its configuration.
    pub fn config(&self) -> &IssuerConfig {
        &self.config
    }

    /// Whether its keys are fetched by the driver.
    pub fn is_remote(&self) -> bool {
        matches!(self.config.keys, KeysConfig::Remote(_))
    }

    /// Its present keys. Cost: one read lock and one reference count.
    pub fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys.read().ring)
    }

    /// The version of its keys: 0 until the first are loaded, then one more with each change of the set.
    pub fn version(&self) -> u64 {
        self.keys.read().version
    }

    /// Replaces the keys by those of a fetched document; a removed key stops working with this call.
    ///
    /// Refused, and the present keys kept: the issuer's keys are not fetched, or the document holds no key that can
    /// be used. The document is parsed outside the lock.
    pub fn load_keys(&self, document: &[u8]) -> Result<KeysLoaded, String> {
        if !self.is_remote() {
            return Err("the keys of this issuer are configured, not fetched".to_owned());
        }
        let (ring, skipped) = KeyRing::from_jwks(document, &self.config, Trust::Remote)?;
        Ok(KeysLoaded { removed: self.replace_keys(ring), skipped })
    }

    /// Forgets fetched keys that have become too old to be trusted; returns their ids.
    pub fn unload_keys(&self) -> Vec<Arc<str>> {
        if !self.is_remote() {
            return Vec::new();
        }
        // Ends the read lock before the write lock is taken.
        let emptied = self.keys().emptied();
        self.replace_keys(emptied)
    }

    fn replace_keys(&self, ring: KeyRing) -> Vec<Arc<str>> {
        let mut keys = self.keys.write();
        let removed = keys.ring.removed_in(&ring);
        let added = ring.removed_in(&keys.ring);
        // A version is a promise that cached verifications still hold; the same set again breaks none.
        if keys.version == 0 || !removed.is_empty() || !added.is_empty() {
            keys.version = keys.version.saturating_add(1);
        }
        keys.ring = Arc::new(ring);
        removed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Issuers;
    use crate::config::{IssuerConfig, KeysConfig, RemoteKeysConfig};
    use crate::token::Algorithm;
    use crate::token::tests::issuer;

    fn remote(name: &str) -> IssuerConfig {
        IssuerConfig {
            issuer: name.to_owned(),
            algorithms: vec![Algorithm::Ed25519],
            keys: KeysConfig::Remote(RemoteKeysConfig::new("https://id.example/jwks")),
            ..issuer()
        }
    }

    fn document(ids: &[&str]) -> Vec<u8> {
        let keys: Vec<_> = ids
            .iter()
            .map(|kid| {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
            })
            .collect();
        json!({ "keys": keys }).to_string().into_bytes()
    }

    #[test]
    fn issuers_are_found_by_their_exact_name() {
        let opaque = IssuerConfig { opaque: true, ..remote("https://b") };
        let issuers = Issuers::from_config(&[remote("https://a"), opaque.clone()]).unwrap();
        assert_eq!((issuers.find("https://b"), issuers.find("https://b/"), issuers.find("")), (Some(1), None, None));
        assert_eq!((issuers.single(), issuers.opaque(), issuers.len()), (None, Some(1), 2));
        let one = Issuers::from_config(&[remote("https://a")]).unwrap();
        assert_eq!((one.single(), one.opaque(), one.is_empty()), (Some(0), None, false));
        assert!(Issuers::from_config(&[remote("https://a"), remote("https://a")]).is_err());
        let other = IssuerConfig { issuer: "https://c".to_owned(), ..opaque.clone() };
        assert!(Issuers::from_config(&[opaque, other]).is_err());
        assert_eq!(Issuers::from_config(&[]).unwrap().single(), None);
    }

    #[test]
    fn a_good_set_replaces_and_a_bad_one_does_not() {
        let issuers = Issuers::from_config(&[remote("https://a")]).unwrap();
        let issuer = issuers.get(0).unwrap();
        let ids = || issuer.keys().key_ids().map(|id| id.to_string()).collect::<Vec<_>>();
        assert_eq!((issuer.version(), ids().len()), (0, 0));
        assert!(issuer.load_keys(b"{}").is_err());
        assert_eq!(issuer.version(), 0);
        assert!(issuer.load_keys(&document(&["a", "b"])).unwrap().removed.is_empty());
        assert_eq!((issuer.version(), ids()), (1, vec!["a".to_owned(), "b".to_owned()]));
        assert!(issuer.load_keys(&document(&["b", "a"])).unwrap().removed.is_empty());
        assert_eq!(issuer.version(), 1, "nothing changed");
        for bad in [&b""[..], b"<html>", &document(&[]), b"{\"keys\":[{\"kty\":\"RSA\"}]}"] {
            assert!(issuer.load_keys(bad).is_err());
        }
        assert_eq!(ids().len(), 2, "the last good set stays");
        let loaded = issuer.load_keys(&document(&["b", "c"])).unwrap();
        assert_eq!(loaded.removed.iter().map(|id| &**id).collect::<Vec<_>>(), ["a"]);
        assert_eq!((issuer.version(), ids()), (2, vec!["b".to_owned(), "c".to_owned()]));
        assert_eq!(issuer.unload_keys().len(), 2);
        assert_eq!((issuer.version(), ids().len()), (3, 0));
    }

    #[test]
    fn a_set_that_comes_during_a_reload_is_in_force_after_it() {
        let old = Issuers::from_config(&[remote("https://a")]).unwrap();
        old.get(0).unwrap().load_keys(&document(&["a", "b"])).unwrap();
        let mut new = Issuers::from_config(&[remote("https://a")]).unwrap();
        assert!(new.inherit(&old).is_empty());
        old.get(0).unwrap().load_keys(&document(&["b"])).unwrap();
        assert_eq!(new.get(0).unwrap().keys().key_ids().count(), 1, "the removed key is gone");
    }

    #[test]
    fn configured_keys_are_not_replaced_from_outside() {
        let local = IssuerConfig { keys: KeysConfig::None, ..remote("https://a") };
        let issuers = Issuers::from_config(&[local]).unwrap();
        assert!(issuers.get(0).unwrap().load_keys(&document(&["a"])).is_err());
        assert!(issuers.get(0).unwrap().unload_keys().is_empty());
    }
}
