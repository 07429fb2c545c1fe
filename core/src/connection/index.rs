//! This file answers: which connections does this subject, token or session have?
//!
//! Sharded by fingerprint; taken at admission, at the end of a connection and by revocation, never by a message.

use std::collections::HashMap;

use crate::connection::ConnectionId;
use crate::dirty::Lock;
use crate::limit::Fingerprint;
use crate::limit::hash::{Uniform, give_back};

const SHARDS: usize = 16;

/// Connections by fingerprint, oldest first. As large as the connection table, no larger.
#[derive(Debug)]
pub(crate) struct Index {
    shards: Vec<Lock<HashMap<Fingerprint, Vec<ConnectionId>, Uniform>>>,
}

impl Index {
    pub(crate) fn new() -> Index {
        Index { shards: (0..SHARDS).map(|_| Lock::default()).collect() }
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

    /// Forgets every entry of a shard that was left dirty. True when there was one: then [`restore`](Self::restore)
    /// those of each connection.
    pub(crate) fn rebuild(&self) -> bool {
        // Counted, so that the first does not hide the next.
        self.shards.iter().filter(|shard| shard.repair(HashMap::clear)).count() > 0
    }

    /// Adds a connection under a key unless it stands there.
    pub(crate) fn restore(&self, key: Fingerprint, id: ConnectionId) {
        let Some(shard) = self.shard(key) else { return };
        let mut shard = shard.lock();
        let entries = shard.entry(key).or_default();
        if !entries.contains(&id) {
            entries.push(id);
        }
    }

    /// Takes every connection out that `is_gone`, whatever its keys.
    pub(crate) fn sweep(&self, is_gone: impl Fn(ConnectionId) -> bool) {
        for shard in &self.shards {
            shard.lock().retain(|_, entries| {
                entries.retain(|id| !is_gone(*id));
                !entries.is_empty()
            });
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

    fn shard(&self, key: Fingerprint) -> Option<&Lock<HashMap<Fingerprint, Vec<ConnectionId>, Uniform>>> {
        self.shards.get(key.bucket(SHARDS))
    }
}

#[cfg(test)]
mod tests {
    use super::Index;
    use crate::connection::ConnectionId;
    use crate::limit::Fingerprint;

    #[test]
    fn what_is_rebuilt_has_what_is_restored_and_nothing_that_is_swept() {
        let index = Index::new();
        let (key, other) = (Fingerprint::from_u128(7), Fingerprint::from_u128(8));
        let [kept, gone] = [1, 2].map(ConnectionId::from_u64);
        for (key, id) in [(key, kept), (other, gone)] {
            index.insert(key, id, None).unwrap();
        }
        assert!(!index.rebuild());
        index.shard(key).unwrap().spoil(|shard| shard.entry(key).or_default().push(gone));
        assert!(index.rebuild() && index.find(key).is_empty() && !index.rebuild());
        assert_eq!(index.find(other).len(), usize::from(key.bucket(super::SHARDS) != other.bucket(super::SHARDS)));
        index.restore(key, kept);
        index.restore(key, kept);
        index.restore(other, gone);
        assert_eq!(index.find(key), [kept]);
        index.sweep(|id| id == gone);
        assert_eq!((index.len(), index.find(key)), (1, vec![kept]));
    }

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
