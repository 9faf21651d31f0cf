//! Bytes of the fuzzer as numbers. All bytes mean something, and what is missing at the end is zero,
//! so that whatever the fuzzer cuts and joins is an input again.

/// What is left of an input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// Two bytes, the low one first.
    pub fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// So many bytes, or as many as there are.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }

    /// A byte that chooses from a table.
    pub fn choose<T: Copy>(&mut self, table: &[T]) -> T {
        table[usize::from(self.byte()) % table.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_zero() {
        let mut input = Input(&[1, 2, 3]);
        assert_eq!((input.byte(), input.word(), input.is_empty()), (1, 0x302, true));
        assert_eq!((input.byte(), input.word(), input.bytes(3)), (0, 0, &[][..]));
        assert_eq!(Input(&[7]).choose(&[1, 2, 3]), 2);
    }
}
