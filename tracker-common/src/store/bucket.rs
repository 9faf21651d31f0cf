//! The tags of an index bucket: which of its records may be a torrent's, without looking at them.
//!
//! Four tags of 16 bits stand in a word and are compared at once.

use super::layout::{BucketHeader, TAG_WORDS};
use crate::{codegen::is_nonzero, scratch::Scratch, word::Word};

/// Bits of a tag.
const TAG_BITS: u32 = 16;

/// Ones in the lowest bit of each tag.
const ONES: u64 = 0x0001_0001_0001_0001;

/// The highest bit of each tag.
const HIGHEST: u64 = ONES << (TAG_BITS - 1);

/// The highest bit of the lowest tag in the word that is zero; further bits above it may be set as
/// well. 0 if no tag is zero.
#[inline(always)]
fn zeros(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHEST
}

/// The lowest bit that is set.
#[inline(always)]
fn lowest_bit(bits: u64) -> u64 {
    bits & bits.wrapping_neg()
}

/// Which tag of a word the lowest bit that [`zeros`] has set belongs to.
#[inline(always)]
fn lowest(zeros: u64) -> u32 {
    // Bit 0, 16, 32 or 48. The factor has 1, 2 and 3 where these bring them to the highest two bits.
    let lowest = lowest_bit(zeros) >> (TAG_BITS - 1);
    (lowest.wrapping_mul(1 << 46 | 2 << 30 | 3 << 14) >> 62) as u32
}

/// The word that holds the tag of a place, and by how many bits it is shifted there.
#[inline(always)]
fn tag_word(bucket: &BucketHeader, place: u32) -> (&Word, u32) {
    (&bucket.tags[(place / 4) as usize & (TAG_WORDS - 1)], place % 4 * TAG_BITS)
}

impl BucketHeader {
    /// Has the processor bring the tags nearer: that which stands before the first record's is always 0
    /// ([`Word::ask_for`]).
    #[inline(always)]
    pub(super) fn ask_for_tags(&self) {
        self.tags[0].ask_for(0);
    }

    /// The place with this tag; 0 for none. Without a branch: which tag it is no processor foretells.
    #[inline(always)]
    pub(super) fn tagged(&self, tag: u64) -> u32 {
        let pattern = tag.wrapping_mul(ONES);
        // One word at most has the tag. So that its number can be told as well, its bits, of which
        // there is one for each tag, go down by the number.
        let mut found = 0;
        for (number, word) in (0..).zip(&self.tags) {
            found |= zeros(word.load() ^ pattern) >> number;
        }
        let found = lowest_bit(found);
        let column = (found | found >> 32) as u32;
        let column = column | column >> 16;
        let bit = |mask: u32| is_nonzero(u64::from(column & mask)) as u32;
        // Bit 15 is of word 0, bit 8 of word 7.
        let word = bit(0x5500) | bit(0x3300) << 1 | bit(0x0f00) << 2;
        word * 4
            + (is_nonzero(found >> 16 & 0xffff) + is_nonzero(found >> 32 & 0xffff) * 2 + is_nonzero(found >> 48) * 3)
                as u32
    }

    /// The place with this tag; 0 for none. The word of the likely place is looked at first: nearly all
    /// torrents are there, and a comparison with all tags takes as long as several wrong guesses of the
    /// processor.
    #[inline(always)]
    pub(super) fn place(&self, likely: u32, tag: u64) -> u32 {
        let (word, _) = tag_word(self, likely);
        let found = zeros(word.load() ^ tag.wrapping_mul(ONES));
        if found == 0 { self.tagged(tag) } else { (likely & !3) + lowest(found) }
    }

    /// Claims a free record for a torrent with this tag: `place`, or if that is taken one whose tag stands
    /// in the same word, or any. Returns its place; 0 if all are taken, or were by others just now.
    #[inline(always)]
    pub(super) fn claim(&self, scratch: &Scratch, place: u32, tag: u64) -> u32 {
        let (word, shift) = tag_word(self, place);
        let seen = word.load();
        if seen >> shift & 0xffff == 0 && word.replace(seen, seen | tag << shift) {
            return place;
        }
        scratch.found_slot.store(0);
        for turn in 0..TAG_WORDS as u32 {
            let number = (place / 4 + turn) & (TAG_WORDS as u32 - 1);
            let word = &self.tags[number as usize];
            let seen = word.load();
            // The tag before the first record's is not to be found.
            let free = zeros(if number == 0 { seen | 0xffff } else { seen });
            if free != 0 {
                let at = lowest(free);
                if word.replace(seen, seen | tag << (at * TAG_BITS)) {
                    scratch.found_slot.store(number * 4 + at);
                    break;
                }
            }
        }
        scratch.found_slot.load()
    }

    /// Frees the record at a place that was claimed for this tag.
    #[inline(always)]
    pub(super) fn release(&self, place: u32, tag: u64) {
        let (word, shift) = tag_word(self, place);
        word.add((tag << shift).wrapping_neg());
    }

    /// The places in use: bit n for place n.
    #[must_use]
    pub fn places(&self) -> u32 {
        let tags = self.tags.iter().flat_map(|word| {
            let word = word.load();
            (0..4).map(move |tag| word >> (tag * TAG_BITS) & 0xffff)
        });
        (0..).zip(tags).fold(0, |places, (place, tag)| if tag == 0 { places } else { places | 1 << place })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{HostSizes, HostStore};

    const ONE: HostSizes = HostSizes { index_buckets: 1, swarms: 1, partitions: 0, chunks_v4: 0, chunks_v6: 0 };

    #[test]
    fn the_lowest_zero_is_found_whatever_stands_beside_it() {
        // (tags from the lowest on, which one is the first zero)
        for (tags, expected) in [
            ([0, 5, 5, 5], Some(0)),
            ([5, 0, 5, 5], Some(1)),
            ([5, 0xffff, 0, 0], Some(2)),
            ([1, 1, 1, 0], Some(3)),
            ([0, 1, 1, 1], Some(0)),
            ([0x8000, 0, 1, 0x8000], Some(1)),
            ([1, 1, 1, 1], None),
            ([0x8000, 0x8001, 0xffff, 0x7fff], None),
        ] {
            let word = (0..).zip(tags).fold(0_u64, |word, (at, tag)| word | tag << (at * TAG_BITS));
            let found = zeros(word);
            assert_eq!((found != 0).then(|| lowest(found)), expected, "{tags:x?}");
        }
    }

    #[test]
    fn records_are_claimed_where_they_are_likely_or_near_it_and_found_by_tag() {
        let store = HostStore::new(&ONE, 1);
        let platform = store.platform(1);
        let scratch = platform.context().scratch;
        let bucket = BucketHeader::default();
        for (place, tag, expected) in [(7, 0xabcd, 7), (31, 1, 31), (7, 2, 4), (31, 3, 28), (3, 4, 3), (7, 5, 5)] {
            assert_eq!((bucket.tagged(tag), bucket.place(place, tag)), (0, 0), "not yet");
            assert_eq!(bucket.claim(scratch, place, tag), expected);
            for likely in 1..=31 {
                assert_eq!((bucket.tagged(tag), bucket.place(likely, tag)), (expected, expected));
            }
        }
        assert_eq!(bucket.places(), 1 << 31 | 1 << 28 | 0b1011_1000);
        for tag in 100..125 {
            assert_ne!(bucket.claim(scratch, 7, tag), 0);
        }
        assert_eq!((bucket.claim(scratch, 7, 200), bucket.tagged(200)), (0, 0), "full");
        bucket.release(31, 1);
        assert_eq!(bucket.tagged(1), 0);
        assert_eq!(bucket.claim(scratch, 8, 200), 31);
        for (place, tag) in [(7, 0xabcd), (4, 2), (28, 3), (3, 4), (5, 5), (31, 200)] {
            assert_eq!(bucket.tagged(tag), place);
            bucket.release(place, tag);
        }
        for tag in 100..125 {
            bucket.release(bucket.tagged(tag), tag);
        }
        assert_eq!(bucket.places(), 0);
    }
}
