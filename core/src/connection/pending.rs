//! This file answers: what must this connection's peer and server still be told?
//!
//! A set of facts, not a queue: each stands at most once and the text is made when it is handed out, so a
//! connection's outbox cannot overflow (RULES 32).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::decision::Refusal;

/// What is owed, for one connection.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    /// The server waits to hear that a pending handshake succeeded.
    pub(crate) ready: bool,
    /// The peer is to be told that it is authenticated.
    pub(crate) authenticated: bool,
    /// The peer is to be asked for a new token.
    pub(crate) refresh_asked: bool,
    /// The peer is to be told that its new token is in force.
    pub(crate) refreshed: Option<PermissionDiff>,
    /// The peer is to be told that its new token was refused.
    pub(crate) refresh_failed: Option<Refusal>,
    /// Permissions changed without a new token.
    pub(crate) permissions_changed: Option<PermissionDiff>,
    /// The server is to be told of every change of permissions.
    pub(crate) host_permissions: Option<PermissionDiff>,
    /// The peer sends too fast.
    pub(crate) rate_limited: Option<u32>,
    /// A message was refused: why, and its type where that is one of ours.
    pub(crate) error: Option<(Refusal, Option<Arc<str>>)>,
    /// The server is to close the connection; the reason is the terminal one.
    pub(crate) close: bool,
}

/// Permissions gained and lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PermissionDiff {
    /// Gained.
    pub added: Vec<Arc<str>>,
    /// Lost.
    pub removed: Vec<Arc<str>>,
}

impl PermissionDiff {
    /// What changes from `old` to `new`.
    pub(crate) fn between(old: &[Arc<str>], new: &[Arc<str>]) -> PermissionDiff {
        let old: BTreeSet<&Arc<str>> = old.iter().collect();
        let new: BTreeSet<&Arc<str>> = new.iter().collect();
        PermissionDiff {
            added: new.difference(&old).map(|name| Arc::clone(name)).collect(),
            removed: old.difference(&new).map(|name| Arc::clone(name)).collect(),
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// This change followed by `next`, as one: what came and went again cancels out.
    pub(crate) fn then(self, next: PermissionDiff) -> PermissionDiff {
        let mut added: BTreeSet<Arc<str>> = self.added.into_iter().collect();
        let mut removed: BTreeSet<Arc<str>> = self.removed.into_iter().collect();
        for name in next.added {
            if !removed.remove(&name) {
                added.insert(name);
            }
        }
        for name in next.removed {
            if !added.remove(&name) {
                removed.insert(name);
            }
        }
        PermissionDiff { added: added.into_iter().collect(), removed: removed.into_iter().collect() }
    }
}

/// Merges a change into a slot that may hold an earlier one.
pub(crate) fn merge_diff(slot: &mut Option<PermissionDiff>, diff: PermissionDiff) {
    *slot = Some(match slot.take() {
        Some(earlier) => earlier.then(diff),
        None => diff,
    });
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::PermissionDiff;

    fn names(text: &str) -> Vec<Arc<str>> {
        text.split_whitespace().map(Arc::from).collect()
    }

    #[test]
    fn a_diff_names_what_came_and_what_went() {
        let diff = PermissionDiff::between(&names("a b c"), &names("b c d"));
        assert_eq!(diff, PermissionDiff { added: names("d"), removed: names("a") });
        assert!(PermissionDiff::between(&names("a b"), &names("b a")).is_empty());
    }

    #[test]
    fn merged_diffs_are_the_diff_of_the_ends() {
        let (first, second, third) = (names("a b"), names("b c"), names("a c d"));
        let merged = PermissionDiff::between(&first, &second).then(PermissionDiff::between(&second, &third));
        assert_eq!(merged, PermissionDiff::between(&first, &third));
    }
}
