//! This file answers: who may vouch, and with which keys at present?

use std::sync::Arc;

use parking_lot::RwLock;

use super::discovery::Discovered;
use super::ring::{KeyRing, Trust};
use crate::config::{IssuerConfig, KeysConfig, RemoteKeysConfig};
use crate::lookup::Question;
use crate::time::Now;

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
    /// When the last good set came, on both clocks.
    fetched: Option<Now>,
    /// What the last good discovery document said.
    discovered: Option<Arc<Discovered>>,
}

/// Whom to ask about this issuer's opaque tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskAt {
    /// The host, which knows.
    Host,
    /// This endpoint.
    Url(Arc<str>),
    /// The endpoint that the discovery document names, which is to be asked for first.
    Undiscovered,
    /// Nobody: the discovery document names none.
    Nowhere,
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
            let keys = Versioned { version: 0, ring: Arc::new(ring), fetched: None, discovered: None };
            let keys = Arc::new(RwLock::new(keys));
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
            if before.place().is_some() && before.place() == after.place() {
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

    /// Those whose keys are fetched.
    pub(crate) fn remote(&self) -> impl Iterator<Item = &Issuer> {
        self.list.iter().filter(|issuer| issuer.is_remote())
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
        self.remote().is_some()
    }

    /// Its present keys. Cost: one read lock and one reference count.
    pub fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys.read().ring)
    }

    /// The version of its keys: 0 until the first are loaded, then one more with each change of the set.
    pub fn version(&self) -> u64 {
        self.keys.read().version
    }

    /// When the last good set came.
    pub fn fetched(&self) -> Option<Now> {
        self.keys.read().fetched
    }

    /// Whether its fetched keys are too old to vouch for anyone, by either clock: setting the wall clock back does not
    /// make them younger. False while none were ever fetched.
    pub fn is_stale(&self, now: Now) -> bool {
        let (Some(remote), Some(fetched)) = (self.remote(), self.fetched()) else { return false };
        now.mono.since(fetched.mono) >= remote.max_stale_ms || now.wall.since(fetched.wall) >= remote.max_stale_ms
    }

    /// Whether it has keys that may be used: configured, or fetched and not too old.
    pub fn has_keys(&self, now: Now) -> bool {
        !self.is_remote() || (self.version() > 0 && !self.is_stale(now))
    }

    /// The question that begins a fetch of its keys: for the discovery document where there is one, each time, since
    /// it may say something else by now.
    pub(crate) fn keys_question(&self) -> Option<Question> {
        let remote = self.remote()?;
        let (issuer, url) = (Arc::from(self.config.issuer.as_str()), Arc::from(remote.url.as_str()));
        Some(if remote.discovery { Question::Discovery { issuer, url } } else { Question::Keys { issuer, url } })
    }

    /// Whether an answer to this question still counts: a reload may have moved the issuer while it was out.
    pub(crate) fn is_asked_at(&self, question: &Question) -> bool {
        match (question, self.place()) {
            (Question::Discovery { url, .. }, Some((place, true))) => **url == *place,
            (Question::Keys { url, .. }, Some((place, false))) => **url == *place,
            (Question::Keys { url, .. }, Some((_, true))) => {
                self.discovered().is_some_and(|found| found.jwks_uri == *url)
            }
            _ => false,
        }
    }

    /// Whom to ask about its opaque tokens. An endpoint written in the configuration wins over a discovered one.
    pub fn introspection_url(&self) -> AskAt {
        let Some(introspection) = &self.config.introspection else { return AskAt::Host };
        if let Some(url) = &introspection.url {
            return AskAt::Url(Arc::from(url.as_str()));
        }
        match self.discovered().as_deref() {
            None => AskAt::Undiscovered,
            Some(found) => found.introspection_endpoint.clone().map_or(AskAt::Nowhere, AskAt::Url),
        }
    }

    /// What the last good discovery document said.
    pub fn discovered(&self) -> Option<Arc<Discovered>> {
        self.keys.read().discovered.clone()
    }

    /// Keeps what a good discovery document says, until the next one.
    pub(crate) fn set_discovered(&self, found: Discovered) {
        self.keys.write().discovered = Some(Arc::new(found));
    }

    /// Replaces the keys by those of a fetched document; a removed key stops working with this call.
    ///
    /// Refused, and the present keys kept: the issuer's keys are not fetched, or the document holds no key that can
    /// be used. The document is parsed outside the lock.
    pub fn load_keys(&self, document: &[u8], now: Now) -> Result<KeysLoaded, String> {
        if !self.is_remote() {
            return Err("the keys of this issuer are configured, not fetched".to_owned());
        }
        let (ring, skipped) = KeyRing::from_jwks(document, &self.config, Trust::Remote)?;
        Ok(KeysLoaded { removed: self.replace_keys(ring, now), skipped })
    }

    pub(crate) fn remote(&self) -> Option<&RemoteKeysConfig> {
        match &self.config.keys {
            KeysConfig::Remote(remote) => Some(remote),
            _ => None,
        }
    }

    /// Where its keys are fetched from: an issuer that moves begins anew.
    pub(crate) fn place(&self) -> Option<(&str, bool)> {
        self.remote().map(|remote| (remote.url.as_str(), remote.discovery))
    }

    fn replace_keys(&self, ring: KeyRing, now: Now) -> Vec<Arc<str>> {
        let mut keys = self.keys.write();
        let removed = keys.ring.removed_in(&ring);
        let added = ring.removed_in(&keys.ring);
        // A version is a promise that cached verifications still hold; the same set again breaks none.
        if keys.version == 0 || !removed.is_empty() || !added.is_empty() {
            keys.version = keys.version.saturating_add(1);
        }
        keys.ring = Arc::new(ring);
        keys.fetched = Some(now);
        removed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{AskAt, Issuers};
    use crate::config::{ClientAuthentication, IntrospectionConfig, IssuerConfig, KeysConfig, RemoteKeysConfig};
    use crate::keys::Discovered;
    use crate::secret::Secret;
    use crate::time::Now;
    use crate::token::Algorithm;
    use crate::token::tests::issuer;

    const NOW: Now = Now::new(1_800_000_000_000, 5_000);

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
        assert!(issuer.load_keys(b"{}", NOW).is_err());
        assert_eq!(issuer.version(), 0);
        assert!(issuer.load_keys(&document(&["a", "b"]), NOW).unwrap().removed.is_empty());
        assert_eq!((issuer.version(), ids()), (1, vec!["a".to_owned(), "b".to_owned()]));
        assert!(issuer.load_keys(&document(&["b", "a"]), NOW).unwrap().removed.is_empty());
        assert_eq!(issuer.version(), 1, "nothing changed");
        for bad in [&b""[..], b"<html>", &document(&[]), b"{\"keys\":[{\"kty\":\"RSA\"}]}"] {
            assert!(issuer.load_keys(bad, NOW).is_err());
        }
        assert_eq!(ids().len(), 2, "the last good set stays");
        let loaded = issuer.load_keys(&document(&["b", "c"]), NOW).unwrap();
        assert_eq!(loaded.removed.iter().map(|id| &**id).collect::<Vec<_>>(), ["a"]);
        assert_eq!((issuer.version(), ids()), (2, vec!["b".to_owned(), "c".to_owned()]));
    }

    #[test]
    fn a_set_that_comes_during_a_reload_is_in_force_after_it() {
        let old = Issuers::from_config(&[remote("https://a")]).unwrap();
        old.get(0).unwrap().load_keys(&document(&["a", "b"]), NOW).unwrap();
        let mut new = Issuers::from_config(&[remote("https://a")]).unwrap();
        assert!(new.inherit(&old).is_empty());
        old.get(0).unwrap().load_keys(&document(&["b"]), NOW).unwrap();
        assert_eq!(new.get(0).unwrap().keys().key_ids().count(), 1, "the removed key is gone");
    }

    #[test]
    fn configured_keys_are_not_replaced_from_outside() {
        let local = IssuerConfig { keys: KeysConfig::None, ..remote("https://a") };
        let issuers = Issuers::from_config(&[local]).unwrap();
        assert!(issuers.get(0).unwrap().load_keys(&document(&["a"]), NOW).is_err());
    }

    #[test]
    fn keys_are_too_old_by_either_clock() {
        let issuers = Issuers::from_config(&[remote("https://a")]).unwrap();
        let issuer = issuers.get(0).unwrap();
        let at = |wall: u64, mono: u64| Now::new(NOW.wall.0 + wall, NOW.mono.0 + mono);
        let limit = 86_400_000;
        assert_eq!((issuer.is_stale(at(limit, limit)), issuer.has_keys(NOW)), (false, false), "there are none");
        issuer.load_keys(&document(&["a"]), NOW).unwrap();
        for (wall, mono, stale) in [(0, 0, false), (limit - 1, limit - 1, false), (limit, 0, true), (0, limit, true)] {
            assert_eq!(issuer.is_stale(at(wall, mono)), stale, "{wall} {mono}");
            assert_eq!(issuer.has_keys(at(wall, mono)), !stale, "{wall} {mono}");
        }
        assert!(!issuer.is_stale(Now::new(0, NOW.mono.0)), "the wall clock was set back");
        issuer.load_keys(&document(&["a"]), at(limit, limit)).unwrap();
        assert!(!issuer.is_stale(at(limit, limit)), "the same set is a fresh one");
    }

    #[test]
    fn the_introspection_endpoint_is_the_configured_or_the_discovered_one() {
        let client = ClientAuthentication::Bearer { token: Secret::new(b"t".to_vec()) };
        let with = |url: Option<&str>| {
            let introspection =
                IntrospectionConfig { url: url.map(str::to_owned), ..IntrospectionConfig::new("", client.clone()) };
            let mut config = IssuerConfig { opaque: true, introspection: Some(introspection), ..remote("https://a") };
            if let KeysConfig::Remote(remote) = &mut config.keys {
                remote.discovery = true;
            }
            Issuers::from_config(&[config]).unwrap()
        };
        let found = |endpoint: Option<&str>| Discovered {
            jwks_uri: "https://id.example/jwks".into(),
            introspection_endpoint: endpoint.map(Into::into),
        };
        let host = Issuers::from_config(&[remote("https://a")]).unwrap();
        assert_eq!(host.get(0).unwrap().introspection_url(), AskAt::Host);
        let written = with(Some("https://id.example/ask"));
        assert_eq!(written.get(0).unwrap().introspection_url(), AskAt::Url("https://id.example/ask".into()));
        let issuers = with(None);
        let issuer = issuers.get(0).unwrap();
        assert_eq!(issuer.introspection_url(), AskAt::Undiscovered);
        issuer.set_discovered(found(None));
        assert_eq!(issuer.introspection_url(), AskAt::Nowhere);
        issuer.set_discovered(found(Some("https://id.example/other")));
        assert_eq!(issuer.introspection_url(), AskAt::Url("https://id.example/other".into()));
        let mut new = with(None);
        new.inherit(&issuers);
        assert!(new.get(0).unwrap().discovered().is_some(), "kept over a reload");
    }
}
