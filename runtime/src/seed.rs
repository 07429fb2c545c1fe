//! This file answers: where does randomness come from?

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use wsauth::secret::EngineSeed;

use crate::clock::Clock;
use crate::start::StartError;

/// Makes the seed of one engine: from the operating system, and constant only with a manual clock (RULES 33), so
/// that a test that fails fails again.
pub(crate) fn seed(clock: &Clock) -> Result<EngineSeed, StartError> {
    let mut bytes = [0x5a; 32];
    if !clock.is_manual() {
        SystemRandom::new().fill(&mut bytes).map_err(|_| StartError::NoRandomness)?;
    }
    Ok(EngineSeed::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    #[test]
    fn only_a_manual_clock_makes_seeds_repeat() {
        let of = |clock: &Clock| seed(clock).unwrap().derive("test");
        assert_ne!(of(&Clock::system()), of(&Clock::system()));
        let manual = Clock::manual(ManualClock::new(0));
        assert_eq!(of(&manual), of(&manual));
        assert_ne!(of(&manual), of(&Clock::system()));
    }
}
