//! Fingerprints of listed torrents, in buckets of one cache line. A fingerprint is in one of two
//! buckets, the emptier one at the time; with four per bucket on average none of a hundred million
//! finds both full.
//!
//! A fingerprint is one word, so readers need no lock, and see a list that is being changed as a
//! whole entry more or less. One thread changes it.

use crate::{codegen::is_equal, word::Word};

/// Fingerprints per bucket.
pub const SLOTS: usize = 8;

/// Fingerprints per bucket that there is to be room for.
pub const LOAD: u32 = 4;

/// A bucket; 0 is a free place.
#[repr(C, align(64))]
#[derive(Default)]
pub struct AccessBucket {
    fingerprints: [Word; SLOTS],
}

impl AccessBucket {
    /// Whether this fingerprint, which is not 0, is in it.
    #[inline(always)]
    #[must_use]
    pub fn contains(&self, fingerprint: u64) -> bool {
        // Without a branch per word, which the verifier would follow.
        let mut found = 0;
        for word in &self.fingerprints {
            found |= is_equal(word.load(), fingerprint);
        }
        found != 0
    }

    /// What is in it.
    pub fn fingerprints(&self) -> impl Iterator<Item = u64> {
        self.fingerprints.iter().map(Word::load).filter(|fingerprint| *fingerprint != 0)
    }

    /// Takes out all that are not `wanted`. Returns how many.
    pub fn retain(&self, wanted: impl Fn(u64) -> bool) -> u64 {
        let mut removed = 0;
        for word in &self.fingerprints {
            let fingerprint = word.load();
            if fingerprint != 0 && !wanted(fingerprint) {
                word.store(0);
                removed += 1;
            }
        }
        removed
    }
}

/// The two buckets, of `count`, that a fingerprint may be in.
#[inline(always)]
#[must_use]
pub fn buckets(fingerprint: u64, count: u32) -> [u32; 2] {
    let of = |half: u64| ((half * u64::from(count)) >> 32) as u32;
    [of(fingerprint >> 32), of(fingerprint & 0xffff_ffff)]
}

/// How many buckets have room for so many fingerprints.
#[must_use]
pub const fn buckets_for(fingerprints: u64) -> u64 {
    fingerprints.div_ceil(LOAD as u64) + 1
}

/// Enters a fingerprint, once. False if there is no room.
pub fn insert<'m>(bucket: impl Fn(u32) -> Option<&'m AccessBucket>, count: u32, fingerprint: u64) -> bool {
    let [Some(one), Some(other)] = buckets(fingerprint, count).map(bucket) else { return false };
    if one.contains(fingerprint) || other.contains(fingerprint) {
        return true;
    }
    let used = |bucket: &AccessBucket| bucket.fingerprints().count();
    let emptier = if used(other) < used(one) { other } else { one };
    let free = emptier.fingerprints.iter().find(|word| word.load() == 0);
    free.inspect(|word| word.store(fingerprint)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, vec::Vec};

    /// Numbers that look random.
    fn fingerprint(number: u64) -> u64 {
        let mut word = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)).max(1)
    }

    fn table(count: u32) -> Vec<AccessBucket> {
        (0..count).map(|_| AccessBucket::default()).collect()
    }

    #[test]
    fn as_many_as_room_was_made_for_are_entered_and_found_and_no_others() {
        for entries in [0, 1, 3, 4, 100, 10_000, 1_000_000] {
            let count = buckets_for(entries) as u32;
            let table = table(count);
            let bucket = |number: u32| table.get(number as usize);
            let contains = |number: u64| {
                buckets(fingerprint(number), count)
                    .into_iter()
                    .any(|at| table[at as usize].contains(fingerprint(number)))
            };
            for number in 0..entries {
                assert!(insert(bucket, count, fingerprint(number)), "{number} of {entries}");
            }
            // Again is no change.
            assert!((0..entries).all(|number| insert(bucket, count, fingerprint(number))));
            assert!((0..entries).all(contains));
            assert!(!(entries..entries + 10_000).any(contains));
            assert_eq!(table.iter().map(|bucket| bucket.fingerprints().count() as u64).sum::<u64>(), entries);
        }
    }

    #[test]
    fn a_full_table_says_so_and_keeps_what_it_has() {
        let table = table(2);
        let bucket = |number: u32| table.get(number as usize);
        let entered: BTreeSet<u64> =
            (0..1000).map(fingerprint).filter(|fingerprint| insert(bucket, 2, *fingerprint)).collect();
        let kept: BTreeSet<u64> = table.iter().flat_map(AccessBucket::fingerprints).collect();
        assert_eq!(kept, entered);
        assert_eq!(kept.len(), 2 * SLOTS);
    }

    #[test]
    fn what_is_not_wanted_is_taken_out_and_its_place_used_again() {
        let table = table(100);
        let bucket = |number: u32| table.get(number as usize);
        assert!((0..300).all(|number| insert(bucket, 100, fingerprint(number))));
        let wanted: BTreeSet<u64> = (0..300).step_by(3).map(fingerprint).collect();
        let removed: u64 = table.iter().map(|bucket| bucket.retain(|fingerprint| wanted.contains(&fingerprint))).sum();
        assert_eq!(removed, 200);
        assert_eq!(table.iter().flat_map(AccessBucket::fingerprints).collect::<BTreeSet<_>>(), wanted);
        assert!((1000..1200).all(|number| insert(bucket, 100, fingerprint(number))));
    }

    #[test]
    fn buckets_are_inside_the_table() {
        for count in [1, 2, 3, 1000, u32::MAX] {
            for fingerprint in [1, u64::MAX, 0xffff_ffff, 1 << 63, 0xffff_ffff << 32] {
                assert!(
                    buckets(fingerprint, count).iter().all(|number| *number < count),
                    "{fingerprint:#x} of {count}"
                );
            }
        }
        assert!(!insert(|_| None, 5, 7), "a table that is not there has no room");
    }
}
