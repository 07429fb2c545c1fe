//! This file answers: in which states may a connection be, and from where to where may it move?

/// Where a connection stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum State {
    /// The slot holds no connection.
    Free = 0,
    /// The identity is known; the connection stands in the index, but revocation was not yet looked up (RULES 4).
    Admitting = 1,
    /// A lookup that decides about the credential is out (RULES 15).
    Authenticating = 2,
    /// The credential comes with the first message (RULES 15).
    AwaitingAuth = 3,
    /// Admitted: the only state in which anything is allowed.
    Live = 4,
    /// The decision to close has fallen; the server was not heard yet.
    Closing = 5,
}

impl State {
    /// All states, in the order of their numbers.
    #[cfg(test)]
    pub(crate) const ALL: [State; 6] =
        [State::Free, State::Admitting, State::Authenticating, State::AwaitingAuth, State::Live, State::Closing];

    /// The state of a number. An unknown number is `Closing`, in which nothing is allowed.
    pub(crate) const fn from_bits(bits: u8) -> State {
        match bits {
            0 => State::Free,
            1 => State::Admitting,
            2 => State::Authenticating,
            3 => State::AwaitingAuth,
            4 => State::Live,
            _ => State::Closing,
        }
    }

    /// The number of this state; fits four bits.
    pub(crate) const fn bits(self) -> u8 {
        self as u8
    }
}

/// Whether a connection may go from one state straight to another.
///
/// INVARIANT: `Live` is entered from `Admitting` only, so nobody becomes live without the look into the
/// revocation table that follows the insertion (RULES 4). `Closing` leads nowhere but to `Free`.
pub(crate) const fn may_move(from: State, to: State) -> bool {
    use State::{Admitting, Authenticating, AwaitingAuth, Closing, Free, Live};
    match (from, to) {
        // A handshake opens a connection: verified, waiting for a lookup, or waiting for the first message.
        (Free, Admitting | Authenticating | AwaitingAuth) => true,
        // The first message brought a credential; it needs a lookup, or is verified at once.
        (AwaitingAuth, Authenticating | Admitting) => true,
        // The lookup was answered.
        (Authenticating, Admitting) => true,
        // Not revoked.
        (Admitting, Live) => true,
        // Any of them may be cut off, or given up by the server.
        (Admitting | Authenticating | AwaitingAuth | Live, Closing | Free) => true,
        (Closing, Free) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_unknown_ones_allow_nothing() {
        for state in State::ALL {
            assert_eq!(State::from_bits(state.bits()), state);
        }
        for bits in 6..=u8::MAX {
            assert_eq!(State::from_bits(bits), State::Closing);
        }
    }

    #[test]
    fn the_moves_are_exactly_these() {
        use State::*;
        let legal = [
            (Free, Admitting),
            (Free, Authenticating),
            (Free, AwaitingAuth),
            (AwaitingAuth, Authenticating),
            (AwaitingAuth, Admitting),
            (Authenticating, Admitting),
            (Admitting, Live),
            (Admitting, Closing),
            (Authenticating, Closing),
            (AwaitingAuth, Closing),
            (Live, Closing),
            (Admitting, Free),
            (Authenticating, Free),
            (AwaitingAuth, Free),
            (Live, Free),
            (Closing, Free),
        ];
        for from in State::ALL {
            for to in State::ALL {
                assert_eq!(may_move(from, to), legal.contains(&(from, to)), "{from:?} to {to:?}");
            }
        }
    }
}
