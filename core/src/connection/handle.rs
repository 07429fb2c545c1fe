//! This file answers: how is a connection named outside?

use core::fmt;

/// The name of one connection: shard (8 bits), index (24 bits) and generation (32 bits) in one integer.
///
/// Never a pointer and never a secret, but nothing for a peer either. A stale or never-issued handle is found
/// nowhere, so every call with one is refused (RULES 7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

/// Bits of the index; an index is always below `1 << INDEX_BITS`.
pub(crate) const INDEX_BITS: u32 = 24;

const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

impl ConnectionId {
    /// Puts a handle together. Bits of `index` above the 24th are dropped.
    pub(crate) const fn new(shard: u8, index: u32, generation: u32) -> ConnectionId {
        ConnectionId(((shard as u64) << 56) | (((index & INDEX_MASK) as u64) << 32) | generation as u64)
    }

    /// The handle as the integer that crosses a language border.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The handle back from an integer. Any integer is taken; one that was not issued is not found.
    pub const fn from_u64(value: u64) -> ConnectionId {
        ConnectionId(value)
    }

    /// The shard on which the connection is scheduled and reported.
    pub const fn shard(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The slot; below 2^24.
    pub const fn index(self) -> u32 {
        (self.0 >> 32) as u32 & INDEX_MASK
    }

    /// Which life of the slot. Zero is never issued.
    pub const fn generation(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionId({:#018x})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_come_back_and_debug_is_hex() {
        let id = ConnectionId::new(0x12, 0x34_5678, 0x9abc_def0);
        assert_eq!((id.shard(), id.index(), id.generation()), (0x12, 0x34_5678, 0x9abc_def0));
        assert_eq!(id.as_u64(), 0x1234_5678_9abc_def0);
        assert_eq!(format!("{id:?}"), "ConnectionId(0x123456789abcdef0)");
        assert_eq!(format!("{:?}", ConnectionId::from_u64(1)), "ConnectionId(0x0000000000000001)");
    }

    #[test]
    fn an_index_too_large_cannot_reach_the_shard() {
        assert_eq!(ConnectionId::new(0, u32::MAX, 1).shard(), 0);
    }

    proptest! {
        #[test]
        fn any_integer_survives_the_trip(value: u64) {
            let id = ConnectionId::from_u64(value);
            prop_assert_eq!(id.as_u64(), value);
            prop_assert_eq!(ConnectionId::new(id.shard(), id.index(), id.generation()), id);
        }
    }
}
