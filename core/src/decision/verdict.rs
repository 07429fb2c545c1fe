//! This file answers: what can be said about one message or one delivery?

use crate::decision::Refusal;

/// Proof that one message may be handed to the application, or one delivery sent to the peer.
///
/// Only the engine makes it; there is no other way to be allowed.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivered {
    pub(crate) type_id: Option<u16>,
}

impl Delivered {
    /// The index of the message type in the policy, when the message had one.
    pub fn type_id(self) -> Option<u16> {
        self.type_id
    }
}

/// Why a message does not reach the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Withheld {
    /// It was a control message for wsauth; nothing to deliver, all is well.
    Consumed,
    /// The connection is still being authenticated: keep the message and offer it again after `Ready`,
    /// or stop reading until then.
    Hold,
    /// This message is refused; the connection lives on.
    Refused(Refusal),
    /// The connection must be closed; the same refusal is in the outbox with its close code.
    Close(Refusal),
}

impl Withheld {
    /// The refusal, where there is one.
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Withheld::Refused(refusal) | Withheld::Close(refusal) => Some(refusal),
            Withheld::Consumed | Withheld::Hold => None,
        }
    }
}
