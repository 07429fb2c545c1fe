//! This file answers: which connections does this subject, token or session have?
//!
//! Sharded by fingerprint; taken at admission, at the end of a connection and by revocation, never by a message.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::connection::ConnectionId;
use crate::limit::Fingerprint;
use crate::limit::hash::{Uniform, give_back};

const SHARDS: usize = 16;

/// Connections by fingerprint, oldest first. As large as the connection table, no larger.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Vec<Mutex<HashMap<Fingerprint, Vec<ConnectionId>, Uniform>>>,
}

impl Index {
    pub(crate) fn new() -> Index {
        Index { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Adds a connection and returns how many there are now; with a limit, refuses instead of exceeding it.
    pub(crate) fn insert(&self, key: Fingerprint, id: ConnectionId, limit: Option<usize>) -> Result<usize, usize> {
        let Some(shard) = self.shard(key) else { return Err(0) };
        let mut shard = shard.lock();
        let held = shard.get(&key).map_or(0, Vec::len);
        if limit.is_some_and(|limit| held >= limit) {
            return Err(held);
        }
        let entries = shard.entry(key).or_default();
        entries.push(id);
        Ok(entries.len())
    }

    /// Takes a connection out. Entries vanish with their last connection.
    pub(crate) fn remove(&self, key: Fingerprint, id: ConnectionId) {
        let Some(shard) = self.shard(key) else { return };
        let mut shard = shard.lock();
        if let Some(entries) = shard.get_mut(&key) {
            entries.retain(|entry| *entry != id);
            if entries.is_empty() {
                shard.remove(&key);
                give_back(&mut shard);
            }
        }
    }

    /// The connections under a key, oldest first.
    pub(crate) fn find(&self, key: Fingerprint) -> Vec<ConnectionId> {
        self.shard(key).and_then(|shard| shard.lock().get(&key).cloned()).unwrap_or_default()
    }

    /// How many keys are held.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn shard(&self, key: Fingerprint) -> Option<&Mutex<HashMap<Fingerprint, Vec<ConnectionId>, Uniform>>> {
        self.shards.get(key.bucket(SHARDS))
    }
}

#[cfg(test)]
mod tests {
    use super::Index;
    use crate::connection::ConnectionId;
    use crate::limit::Fingerprint;

    #[test]
    fn entries_come_back_in_order_and_vanish_at_zero() {
        let index = Index::new();
        let key = Fingerprint::from_u128(7);
        let ids: Vec<ConnectionId> = (1..4).map(ConnectionId::from_u64).collect();
        for id in &ids {
            index.insert(key, *id, None).unwrap();
        }
        assert_eq!(index.find(key), ids);
        assert_eq!(index.insert(key, ConnectionId::from_u64(9), Some(3)), Err(3));
        ids.iter().for_each(|id| index.remove(key, *id));
        assert_eq!(index.len(), 0);
        assert!(index.find(key).is_empty());
    }
}
