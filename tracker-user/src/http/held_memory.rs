//! What the connections of a thread hold in memory, and which of them holds most.
//!
//! A reply that the client does not take at once, and the beginning of a request, are kept for the
//! connection. That is bounded for each connection, but there may be thousands, so it is bounded
//! for all of them together as well. When it is too much, the connection that holds most is ended
//! first. Most connections hold nothing at any time and are not even known here.

use std::collections::BTreeSet;

/// See the module's text. Connections are known by their keys in
/// [`Deadlines`](super::deadlines::Deadlines).
pub struct HeldMemory {
    /// Bytes that each connection holds, by key.
    bytes: Vec<usize>,
    /// Connections that hold any, with their bytes; the largest last.
    holders: BTreeSet<(usize, u32)>,
    total: usize,
    limit: usize,
}

impl HeldMemory {
    /// For connections that may hold `limit` bytes together.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), holders: BTreeSet::new(), total: 0, limit }
    }

    /// A connection holds so many bytes now.
    pub fn set(&mut self, key: u32, bytes: usize) {
        let index = key as usize;
        if self.bytes.get(index).copied().unwrap_or(0) == bytes {
            return;
        }
        if self.bytes.len() <= index {
            self.bytes.resize(index + 1, 0);
        }
        let before = std::mem::replace(&mut self.bytes[index], bytes);
        self.total = self.total - before + bytes;
        if before > 0 {
            self.holders.remove(&(before, key));
        }
        if bytes > 0 {
            self.holders.insert((bytes, key));
        }
    }

    /// If all together hold too much: takes the connection that holds most out, and returns its
    /// key.
    pub fn pop_excess(&mut self) -> Option<u32> {
        if self.total <= self.limit {
            return None;
        }
        let (_, key) = *self.holders.last()?;
        self.set(key, 0);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_largest_holders_go_until_the_rest_fits() {
        // (most, what connections 0, 1, 2, … hold, which are ended)
        let rows: &[(usize, &[usize], &[u32])] = &[
            (100, &[], &[]),
            (100, &[0, 0], &[]),
            (100, &[50, 50], &[]),
            (100, &[50, 51], &[1]),
            (100, &[51, 50], &[0]),
            (100, &[10, 200, 20, 300], &[3, 1]),
            (100, &[101], &[0]),
            (0, &[1, 0, 2], &[2, 0]),
            (30, &[10, 10, 10, 10], &[3]),
        ];
        for (most, held, gone) in rows {
            let mut memory = HeldMemory::new(*most);
            for (key, bytes) in held.iter().enumerate() {
                memory.set(key as u32, *bytes);
            }
            let mut popped = Vec::new();
            while let Some(key) = memory.pop_excess() {
                popped.push(key);
            }
            assert_eq!(popped, *gone, "{held:?} of {most}");
        }
    }

    #[test]
    fn what_is_given_back_is_not_held() {
        let mut memory = HeldMemory::new(100);
        memory.set(7, 90);
        memory.set(8, 20);
        memory.set(7, 10);
        assert_eq!(memory.pop_excess(), None);
        memory.set(7, 0);
        memory.set(8, 0);
        assert_eq!((memory.total, memory.holders.len()), (0, 0));
    }

    #[test]
    fn the_sum_agrees_with_a_simple_model() {
        let mut memory = HeldMemory::new(5000);
        let mut model: HashMap<u32, usize> = HashMap::new();
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (key, bytes) = ((state >> 33) as u32 % 50, (state >> 48) as usize % 4 * 100);
            memory.set(key, bytes);
            model.insert(key, bytes);
            while let Some(key) = memory.pop_excess() {
                let largest = model.values().max().copied();
                assert_eq!(model.insert(key, 0), largest);
            }
            assert_eq!(memory.total, model.values().sum::<usize>());
            assert!(memory.total <= 5000);
        }
    }
}
