//! This file answers: where does a shard keep something for each connection index?

/// Entries made at once.
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 10;

/// A vector over connection indexes that grows by chunks where it is written.
///
/// A plain vector would copy megabytes at once when it doubles, under the shard's lock. Bounded by the highest
/// index; nothing is given back, as the indexes are used again.
#[derive(Debug, Default)]
pub(crate) struct Sparse<T> {
    chunks: Vec<Option<Box<[T]>>>,
}

impl<T: Copy + Default> Sparse<T> {
    /// The entry of `index`, if its chunk exists.
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        self.chunks.get((index >> CHUNK_BITS) as usize)?.as_ref()?.get(within(index))
    }

    /// The entry of `index`, if its chunk exists.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.chunks.get_mut((index >> CHUNK_BITS) as usize)?.as_mut()?.get_mut(within(index))
    }

    /// The entry of `index`, made if need be. Always there.
    pub(crate) fn make(&mut self, index: u32) -> Option<&mut T> {
        let chunk = (index >> CHUNK_BITS) as usize;
        if self.chunks.len() <= chunk {
            self.chunks.resize_with(chunk.saturating_add(1), || None);
        }
        let chunk = self.chunks.get_mut(chunk)?;
        chunk.get_or_insert_with(|| vec![T::default(); CHUNK].into_boxed_slice()).get_mut(within(index))
    }
}

const fn within(index: u32) -> usize {
    index as usize & (CHUNK - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_made_is_there() {
        let mut sparse = Sparse::<u32>::default();
        assert_eq!(sparse.get(0), None);
        for index in [0, 1023, 1024, 0xff_ffff] {
            *sparse.make(index).unwrap() = index + 1;
        }
        for index in [0, 1023, 1024, 0xff_ffff] {
            assert_eq!(sparse.get(index), Some(&(index + 1)));
            assert_eq!(sparse.get_mut(index), Some(&mut (index + 1)));
        }
        assert_eq!(sparse.get(1), Some(&0));
        assert!(sparse.get(2048).is_none());
        assert!(sparse.get_mut(2048).is_none());
        assert_eq!(sparse.chunks.iter().flatten().count(), 3);
    }
}
