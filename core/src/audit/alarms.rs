//! This file answers: was this alarm raised a moment ago?

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::limit::Fingerprint;
use crate::limit::hash::Uniform;
use crate::time::MonoTime;

/// One alarm and source in this time, in milliseconds.
const EVERY_MS: u64 = 300_000;

/// When each alarm was last raised. As many entries as sources raised one within five minutes.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    raised: Mutex<HashMap<Fingerprint, MonoTime, Uniform>>,
}

impl Alarms {
    /// Whether this one is to be raised now; if so it counts as raised.
    pub(crate) fn is_due(&self, key: Fingerprint, now: MonoTime) -> bool {
        let mut raised = self.raised.lock();
        raised.retain(|_, at| now.since(*at) < EVERY_MS);
        if raised.contains_key(&key) {
            return false;
        }
        raised.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Alarms, EVERY_MS};
    use crate::limit::Fingerprint;
    use crate::time::MonoTime;

    #[test]
    fn each_alarm_is_raised_once_in_five_minutes() {
        let alarms = Alarms::default();
        let (one, other) = (Fingerprint::from_u128(1), Fingerprint::from_u128(2));
        assert!(alarms.is_due(one, MonoTime(0)));
        assert!(!alarms.is_due(one, MonoTime(EVERY_MS - 1)));
        assert!(alarms.is_due(other, MonoTime(EVERY_MS - 1)));
        assert!(alarms.is_due(one, MonoTime(EVERY_MS)));
        assert!(!alarms.is_due(one, MonoTime(EVERY_MS + 1)));
        assert_eq!(alarms.raised.lock().len(), 2);
    }
}
