//! What the connections of a thread hold in memory, and which of them holds most.
//!
//! A client that does not take its replies, or does not finish its request, has them kept for it. That is bounded for each
//! connection, but there may be thousands, so it is bounded for all of them together as well; and when it is too much, the
//! largest debtor goes first. Most connections owe nothing at any time and are not even known here.

use std::collections::BTreeSet;

/// See the module's text. Connections are known by their keys in [`Deadlines`](super::deadlines::Deadlines).
pub struct Debts {
    /// Bytes that each connection holds, by key.
    bytes: Vec<usize>,
    /// Those that hold any, the largest last.
    debtors: BTreeSet<(usize, u32)>,
    total: usize,
    most: usize,
}

impl Debts {
    /// For connections that may hold `most` bytes together.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self { bytes: Vec::new(), debtors: BTreeSet::new(), total: 0, most }
    }

    /// A connection holds so many bytes now.
    pub fn set(&mut self, key: u32, bytes: usize) {
        let place = key as usize;
        if self.bytes.get(place).copied().unwrap_or(0) == bytes {
            return;
        }
        if self.bytes.len() <= place {
            self.bytes.resize(place + 1, 0);
        }
        let before = std::mem::replace(&mut self.bytes[place], bytes);
        self.total = self.total - before + bytes;
        if before > 0 {
            self.debtors.remove(&(before, key));
        }
        if bytes > 0 {
            self.debtors.insert((bytes, key));
        }
    }

    /// If all together hold too much: takes the largest debtor out and returns its key.
    pub fn pop_excess(&mut self) -> Option<u32> {
        if self.total <= self.most {
            return None;
        }
        let (_, key) = *self.debtors.last()?;
        self.set(key, 0);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn the_largest_debtors_go_until_the_rest_fits() {
        // (most, what connections 0, 1, 2, … hold, who goes)
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
            let mut debts = Debts::new(*most);
            for (key, bytes) in held.iter().enumerate() {
                debts.set(key as u32, *bytes);
            }
            let mut popped = Vec::new();
            while let Some(key) = debts.pop_excess() {
                popped.push(key);
            }
            assert_eq!(popped, *gone, "{held:?} of {most}");
        }
    }

    #[test]
    fn what_is_paid_back_is_no_debt() {
        let mut debts = Debts::new(100);
        debts.set(7, 90);
        debts.set(8, 20);
        debts.set(7, 10);
        assert_eq!(debts.pop_excess(), None);
        debts.set(7, 0);
        debts.set(8, 0);
        assert_eq!((debts.total, debts.debtors.len()), (0, 0));
    }

    #[test]
    fn the_sum_agrees_with_a_simple_model() {
        let mut debts = Debts::new(5000);
        let mut model: HashMap<u32, usize> = HashMap::new();
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (key, bytes) = ((state >> 33) as u32 % 50, (state >> 48) as usize % 4 * 100);
            debts.set(key, bytes);
            model.insert(key, bytes);
            while let Some(key) = debts.pop_excess() {
                let largest = model.values().max().copied();
                assert_eq!(model.insert(key, 0), largest);
            }
            assert_eq!(debts.total, model.values().sum::<usize>());
            assert!(debts.total <= 5000);
        }
    }
}
