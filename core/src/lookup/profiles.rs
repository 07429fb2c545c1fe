//! This file answers: whose profile is known already, and for how long?

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::dirty::Lock;
use crate::limit::Fingerprint;
use crate::limit::hash::Uniform;
use crate::lookup::profile::Profile;
use crate::time::MonoTime;

/// Most profiles that are remembered (RULES 37); the oldest makes room.
const MAX_PROFILES: usize = 10_000;

/// Profiles that were answered a short while ago. One lock, taken only where a profile is configured.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    inner: Lock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    known: HashMap<Fingerprint, (MonoTime, Arc<Profile>), Uniform>,
    /// In the order they came, with their end. INVARIANT: every entry of `known` stands here with its own end.
    order: VecDeque<(MonoTime, Fingerprint)>,
}

impl Profiles {
    pub(crate) fn new() -> Profiles {
        Profiles::default()
    }

    /// Forgets all of them where they were left dirty. True if they were.
    pub(crate) fn rebuild(&self) -> bool {
        self.inner.repair(|inner| *inner = Inner::default())
    }

    /// The profile under this name, unless its time is over.
    pub(crate) fn find(&self, name: Fingerprint, now: MonoTime) -> Option<Arc<Profile>> {
        let inner = self.inner.lock();
        inner.known.get(&name).filter(|(until, _)| now < *until).map(|(_, profile)| Arc::clone(profile))
    }

    /// Remembers a profile until then.
    pub(crate) fn insert(&self, name: Fingerprint, profile: Arc<Profile>, until: MonoTime, now: MonoTime) {
        let mut inner = self.inner.lock();
        while let Some((end, oldest)) = inner.order.front().copied() {
            if now < end && inner.order.len() < MAX_PROFILES {
                break;
            }
            inner.order.pop_front();
            // Another end: it came again since.
            if inner.known.get(&oldest).is_some_and(|(until, _)| *until == end) {
                inner.known.remove(&oldest);
            }
        }
        inner.known.insert(name, (until, profile));
        inner.order.push_back((until, name));
    }
}

#[cfg(test)]
mod tests {
    use super::{Arc, Fingerprint, MAX_PROFILES, MonoTime, Profile, Profiles};

    fn name(n: usize) -> Fingerprint {
        Fingerprint::from_u128(u128::try_from(n).unwrap())
    }

    #[test]
    fn a_profile_is_found_until_its_time_is_over() {
        let profiles = Profiles::new();
        profiles.insert(name(1), Arc::default(), MonoTime(100), MonoTime(0));
        assert!(profiles.find(name(1), MonoTime(99)).is_some());
        assert!(profiles.find(name(1), MonoTime(100)).is_none());
        assert!(profiles.find(name(2), MonoTime(0)).is_none());
        profiles.insert(name(1), Arc::default(), MonoTime(200), MonoTime(100));
        assert!(profiles.find(name(1), MonoTime(199)).is_some());
    }

    #[test]
    fn the_oldest_makes_room_and_what_is_over_is_forgotten() {
        let profiles = Profiles::new();
        let profile: Arc<Profile> = Arc::default();
        for n in 0..=MAX_PROFILES {
            profiles.insert(name(n), Arc::clone(&profile), MonoTime(100), MonoTime(0));
        }
        assert!(profiles.find(name(0), MonoTime(0)).is_none());
        assert!(profiles.find(name(1), MonoTime(0)).is_some());
        for _ in 0..3 * MAX_PROFILES {
            profiles.insert(name(7), Arc::clone(&profile), MonoTime(100), MonoTime(0));
        }
        let held = |profiles: &Profiles| {
            let inner = profiles.inner.lock();
            (inner.known.len(), inner.order.len())
        };
        assert!(held(&profiles).1 <= MAX_PROFILES, "{:?}", held(&profiles));
        assert!(profiles.find(name(7), MonoTime(99)).is_some());
        profiles.insert(name(0), profile, MonoTime(300), MonoTime(100));
        assert_eq!(held(&profiles), (1, 1));
    }
}
