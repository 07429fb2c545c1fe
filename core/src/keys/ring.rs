//! This file answers: which of one issuer's keys may verify this token now?

use std::collections::BTreeSet;
use std::sync::Arc;

use super::jwk::select_fitting;
use super::jwks::{MAX_KEYS, parse_jwks};
use super::key::Key;
use super::pem::parse_public_key;
use crate::config::{IssuerConfig, KeysConfig, PublicKeyConfig, SecretKeyConfig};
use crate::decision::Reason;
use crate::time::WallTime;
use crate::token::{Algorithm, Family, is_key_id};

/// Where a key set document comes from, and so what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The operator's own disk: secrets are accepted.
    Local,
    /// Anywhere else: public keys only.
    Remote,
}

/// The keys of one issuer. Never shared between issuers (RULES 11).
#[derive(Debug, Default)]
pub struct KeyRing {
    keys: Vec<Key>,
    algorithms: Vec<Algorithm>,
    /// The configuration gave its keys no names, so the names in tokens mean nothing.
    nameless: bool,
    /// Configured secrets, of which the second is the one being replaced.
    rotates: bool,
}

/// One or two keys to try, in this order.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'r> {
    first: &'r Key,
    second: Option<&'r Key>,
}

impl KeyRing {
    /// Makes the ring that the configuration describes, and texts about keys that were skipped.
    ///
    /// Empty for [`KeysConfig::Remote`] (nothing is loaded yet) and [`KeysConfig::None`]. Refused: HMAC beside
    /// public-key algorithms, and a configured key that cannot be used; in a key set document only when no key can.
    pub fn from_config(issuer: &IssuerConfig) -> Result<(KeyRing, Vec<String>), String> {
        require_one_kind(&issuer.algorithms)?;
        let keys = match &issuer.keys {
            KeysConfig::Remote(_) | KeysConfig::None => Vec::new(),
            KeysConfig::Secrets(secrets) => secret_keys(secrets, &issuer.algorithms)?,
            KeysConfig::Public(keys) => public_keys(keys, &issuer.algorithms)?,
            KeysConfig::Jwks { document, allow_secrets } => {
                let trust = if *allow_secrets { Trust::Local } else { Trust::Remote };
                return KeyRing::from_jwks(document, issuer, trust);
            }
        };
        let rotates = matches!(issuer.keys, KeysConfig::Secrets(_));
        let nameless = !keys.is_empty() && keys.iter().all(|key| key.key_id().is_none());
        Ok((KeyRing { keys, algorithms: issuer.algorithms.clone(), nameless, rotates }, Vec::new()))
    }

    /// Makes a ring from a key set document (RFC 7517), and texts about keys that were skipped.
    ///
    /// Refused: no such document, over 512 KiB or 256 keys, or without any key that can be used.
    pub fn from_jwks(document: &[u8], issuer: &IssuerConfig, trust: Trust) -> Result<(KeyRing, Vec<String>), String> {
        require_one_kind(&issuer.algorithms)?;
        let (keys, skipped) = parse_jwks(document, &issuer.algorithms, trust)?;
        if keys.is_empty() {
            let why = skipped.first().map_or("it is empty", |text| text.as_str());
            return Err(format!("no key of the set can be used: {why}"));
        }
        Ok((KeyRing { keys, algorithms: issuer.algorithms.clone(), nameless: false, rotates: false }, skipped))
    }

    /// Selects the keys that may have signed a token (RULES 11).
    ///
    /// A token that names a key gets exactly that key, never another. One that names none gets the only current key
    /// of its algorithm; configured secrets give the current one, then the previous one. Configured keys without
    /// any id serve tokens whatever these name.
    ///
    /// # Refusals
    ///
    /// - [`Reason::TokenAlgorithm`]: not on the issuer's list, or the named key serves another.
    /// - [`Reason::KeyUnknown`]: no current key fits.
    /// - [`Reason::KeyAmbiguous`]: the token names no key and several fit.
    pub fn select_key(
        &self,
        key_id: Option<&str>,
        algorithm: Algorithm,
        wall: WallTime,
    ) -> Result<Candidates<'_>, Reason> {
        if !self.algorithms.contains(&algorithm) {
            return Err(Reason::TokenAlgorithm);
        }
        let wanted = key_id.filter(|_| !self.nameless);
        let named = |key: &&Key| wanted.is_none() || key.key_id() == wanted;
        let mut current = self.keys.iter().filter(named).filter(|key| key.is_current(wall));
        let mut fitting = current.clone().filter(|key| key.algorithm() == algorithm);
        let Some(first) = fitting.next() else {
            let serves_another = wanted.is_some() && current.next().is_some();
            return Err(if serves_another { Reason::TokenAlgorithm } else { Reason::KeyUnknown });
        };
        let second = fitting.next();
        if second.is_some() && !self.rotates {
            return Err(Reason::KeyAmbiguous);
        }
        Ok(Candidates { first, second })
    }

    /// The ids of its keys; a fingerprint for a key without one.
    pub fn key_ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.keys.iter().map(Key::id)
    }

    /// Whether a key of this id may still be used.
    pub(crate) fn has_current(&self, id: &str, wall: WallTime) -> bool {
        self.keys.iter().any(|key| **key.id() == *id && key.is_current(wall))
    }

    /// The ids of keys that `newer` no longer has, or has under another meaning.
    pub(crate) fn removed_in(&self, newer: &KeyRing) -> Vec<Arc<str>> {
        let gone = |key: &&Key| !newer.keys.iter().any(|other| other.id() == key.id() && other.same(key));
        self.keys.iter().filter(gone).map(|key| Arc::clone(key.id())).collect()
    }
}

impl<'r> IntoIterator for Candidates<'r> {
    type Item = &'r Key;
    type IntoIter = std::iter::Chain<std::iter::Once<&'r Key>, std::option::IntoIter<&'r Key>>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(self.first).chain(self.second)
    }
}

/// A public key must never find itself in the place of a secret: an issuer signs or MACs, not both.
fn require_one_kind(algorithms: &[Algorithm]) -> Result<(), String> {
    let macs = algorithms.iter().filter(|algorithm| algorithm.is_mac()).count();
    if macs != 0 && macs != algorithms.len() {
        return Err("HMAC and public-key algorithms in one issuer".to_owned());
    }
    Ok(())
}

fn secret_keys(secrets: &[SecretKeyConfig], algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    if secrets.is_empty() || secrets.len() > 2 {
        return Err("the secrets are the current one and at most one previous".to_owned());
    }
    let algorithm = select_fitting(Family::Secret, algorithms)?;
    let keys = secrets.iter().map(|config| {
        let key = Key::from_secret(config.secret.expose(), algorithm)?;
        name_key(key, config.key_id.as_deref(), config.not_after)
    });
    require_distinct(keys.collect::<Result<_, String>>()?)
}

fn public_keys(configs: &[PublicKeyConfig], algorithms: &[Algorithm]) -> Result<Vec<Key>, String> {
    if configs.is_empty() || configs.len() > MAX_KEYS {
        return Err("not 1 to 256 public keys".to_owned());
    }
    let keys = configs.iter().map(|config| {
        let numbers = parse_public_key(&config.material)?;
        let algorithm = match config.algorithm {
            Some(algorithm) if algorithms.contains(&algorithm) => algorithm,
            Some(algorithm) => return Err(format!("{} is not one of the issuer's algorithms", algorithm.name())),
            None => select_fitting(numbers.family(), algorithms)?,
        };
        name_key(Key::from_numbers(&numbers, algorithm)?, config.key_id.as_deref(), config.not_after)
    });
    require_distinct(keys.collect::<Result<_, String>>()?)
}

fn name_key(key: Key, key_id: Option<&str>, not_after: Option<u64>) -> Result<Key, String> {
    if key_id.is_some_and(|id| !is_key_id(id)) {
        return Err("a key id is not 1 to 256 bytes of clean text".to_owned());
    }
    Ok(key.named(key_id).until(not_after))
}

fn require_distinct(keys: Vec<Key>) -> Result<Vec<Key>, String> {
    let ids: BTreeSet<&str> = keys.iter().map(|key| &**key.id()).collect();
    if ids.len() == keys.len() { Ok(keys) } else { Err("two keys have the same id".to_owned()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{KeyRing, Trust};
    use crate::config::{IssuerConfig, KeysConfig, PublicKeyConfig, SecretKeyConfig};
    use crate::decision::Reason;
    use crate::secret::Secret;
    use crate::time::WallTime;
    use crate::token::Algorithm::{self, ES256, Ed25519, HS256, HS384, RS256};
    use crate::token::tests::issuer;

    const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAfU0Of2FTpptiQrUiq77mhf2kQg+INLEIw72uNp71Sfo=\n-----END PUBLIC KEY-----\n";
    const NOW: WallTime = WallTime::from_secs(1_800_000_000);

    fn with(keys: KeysConfig, algorithms: &[Algorithm]) -> IssuerConfig {
        IssuerConfig { keys, algorithms: algorithms.to_vec(), ..issuer() }
    }

    fn secret(fill: u8, key_id: Option<&str>, not_after: Option<u64>) -> SecretKeyConfig {
        SecretKeyConfig { secret: Secret::new(vec![fill; 32]), key_id: key_id.map(str::to_owned), not_after }
    }

    fn secrets(list: Vec<SecretKeyConfig>) -> Result<KeyRing, String> {
        KeyRing::from_config(&with(KeysConfig::Secrets(list), &[HS256])).map(|(ring, _)| ring)
    }

    fn selected(ring: &KeyRing, key_id: Option<&str>, algorithm: Algorithm) -> Result<Vec<String>, Reason> {
        let candidates = ring.select_key(key_id, algorithm, NOW)?;
        Ok(candidates.into_iter().map(|key| key.id().to_string()).collect())
    }

    fn jwks(keys: &[(&str, Option<&str>)]) -> KeyRing {
        let okp = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let (x, y) = ("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0");
        let keys: Vec<_> = keys
            .iter()
            .map(|(kind, kid)| {
                let mut jwk = match *kind {
                    "OKP" => json!({"kty": "OKP", "crv": "Ed25519", "x": okp}),
                    _ => json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}),
                };
                if let Some(kid) = kid {
                    jwk["kid"] = json!(kid);
                }
                jwk
            })
            .collect();
        let document = json!({ "keys": keys }).to_string();
        KeyRing::from_jwks(document.as_bytes(), &with(KeysConfig::None, &[Ed25519, ES256]), Trust::Remote).unwrap().0
    }

    #[test]
    fn a_named_key_or_none() {
        let ring = jwks(&[("OKP", Some("a")), ("EC", Some("b")), ("EC", None)]);
        assert_eq!(selected(&ring, Some("a"), Ed25519), Ok(vec!["a".to_owned()]));
        assert_eq!(selected(&ring, Some("b"), ES256), Ok(vec!["b".to_owned()]));
        assert_eq!(selected(&ring, Some("b"), Ed25519), Err(Reason::TokenAlgorithm));
        assert_eq!(selected(&ring, Some("A"), Ed25519), Err(Reason::KeyUnknown));
        assert_eq!(selected(&ring, Some("a"), RS256), Err(Reason::TokenAlgorithm));
        let fingerprint = ring.key_ids().last().unwrap().to_string();
        assert_eq!(selected(&ring, Some(&fingerprint), ES256), Err(Reason::KeyUnknown), "no id, no name");
    }

    #[test]
    fn without_a_name_the_only_key_of_the_algorithm() {
        let ring = jwks(&[("OKP", Some("a")), ("EC", Some("b"))]);
        assert_eq!(selected(&ring, None, ES256), Ok(vec!["b".to_owned()]));
        let two = jwks(&[("EC", Some("a")), ("EC", Some("b"))]);
        assert_eq!(selected(&two, None, ES256), Err(Reason::KeyAmbiguous));
        assert_eq!(selected(&two, None, Ed25519), Err(Reason::KeyUnknown));
    }

    #[test]
    fn secrets_are_the_current_one_then_the_previous() {
        let ring = secrets(vec![secret(1, Some("new"), None), secret(2, Some("old"), None)]).unwrap();
        assert_eq!(selected(&ring, None, HS256), Ok(vec!["new".to_owned(), "old".to_owned()]));
        assert_eq!(selected(&ring, Some("old"), HS256), Ok(vec!["old".to_owned()]));
        assert_eq!(selected(&ring, Some("x"), HS256), Err(Reason::KeyUnknown));
        let nameless = secrets(vec![secret(1, None, None), secret(2, None, None)]).unwrap();
        assert_eq!(selected(&nameless, Some("x"), HS256).unwrap().len(), 2);
        let half = secrets(vec![secret(1, Some("new"), None), secret(2, None, None)]).unwrap();
        assert_eq!(selected(&half, Some("x"), HS256), Err(Reason::KeyUnknown), "a name that means something");
        assert_eq!(selected(&half, None, HS256).unwrap().len(), 2);
        for bad in [
            vec![],
            vec![secret(1, None, None), secret(2, None, None), secret(3, None, None)],
            vec![secret(1, Some("a"), None), secret(2, Some("a"), None)],
            vec![secret(1, Some(""), None)],
        ] {
            assert!(secrets(bad).is_err());
        }
    }

    #[test]
    fn a_key_ends_at_its_second() {
        let end = NOW.as_secs();
        let ring = secrets(vec![secret(1, Some("new"), None), secret(2, Some("old"), Some(end))]).unwrap();
        assert_eq!(selected(&ring, None, HS256), Ok(vec!["new".to_owned()]));
        assert_eq!(selected(&ring, Some("old"), HS256), Err(Reason::KeyUnknown));
        let before = WallTime(NOW.0 - 1);
        assert_eq!(ring.select_key(Some("old"), HS256, before).unwrap().into_iter().count(), 1);
    }

    #[test]
    fn configured_keys_must_be_usable() {
        let public = |material: &str, algorithm, algorithms: &[Algorithm]| {
            let key =
                PublicKeyConfig { material: material.as_bytes().to_vec(), key_id: None, algorithm, not_after: None };
            KeyRing::from_config(&with(KeysConfig::Public(vec![key]), algorithms)).map(|(ring, _)| ring)
        };
        let ring = public(PEM, None, &[Ed25519]).unwrap();
        assert_eq!(selected(&ring, Some("any"), Ed25519).unwrap().len(), 1, "the operator gave it no name");
        assert!(public(PEM, Some(Ed25519), &[Ed25519, RS256]).is_ok());
        assert!(public(PEM, Some(RS256), &[Ed25519, RS256]).is_err());
        assert!(public(PEM, Some(ES256), &[Ed25519]).is_err());
        assert!(public(PEM, None, &[RS256]).is_err());
        assert!(public("secret", None, &[Ed25519]).is_err());
        assert!(public(PEM, None, &[HS256]).is_err(), "a public key is never a secret");
        assert!(public(PEM, None, &[HS256, Ed25519]).is_err());
        let short = with(KeysConfig::Secrets(vec![secret(1, None, None)]), &[HS384]);
        assert!(KeyRing::from_config(&short).is_err());
        let several = with(KeysConfig::Secrets(vec![secret(1, None, None)]), &[HS256, HS384]);
        assert!(KeyRing::from_config(&several).is_err());
    }

    #[test]
    fn an_empty_list_allows_nothing() {
        let ring = KeyRing::default();
        assert_eq!(selected(&ring, None, RS256), Err(Reason::TokenAlgorithm));
    }

    #[test]
    fn removed_keys_are_named_also_when_their_id_lives_on() {
        let old = jwks(&[("OKP", Some("a")), ("EC", Some("b")), ("EC", None)]);
        let removed = |newer: &KeyRing| old.removed_in(newer).iter().map(|id| id.to_string()).collect::<Vec<_>>();
        assert!(removed(&jwks(&[("EC", None), ("EC", Some("b")), ("OKP", Some("a")), ("EC", Some("c"))])).is_empty());
        assert_eq!(removed(&jwks(&[("EC", Some("a")), ("EC", Some("b")), ("EC", None)])), ["a"]);
        assert_eq!(removed(&KeyRing::default()).len(), 3);
    }
}
