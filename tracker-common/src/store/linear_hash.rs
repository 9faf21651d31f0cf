//! Linear hashing: which of a growing number of partitions a hash belongs to.
//!
//! With n partitions, those below the last power of two that was passed have been split already.
//! One more partition takes its peers from a single other one.

/// The mask of the round that `count` partitions are in: all bits below and including the highest
/// bit set in `count` - 1. For counts up to 2^16; 0 for a count of 1.
#[inline(always)]
fn round_mask(count: u32) -> u32 {
    bits_below((count.wrapping_sub(1)) & 0xffff)
}

/// All bits below and including the highest bit set.
#[inline(always)]
fn bits_below(mut n: u32) -> u32 {
    n |= n >> 1;
    n |= n >> 2;
    n |= n >> 4;
    n | n >> 8
}

/// The partition of a hash among `partitions`.
#[inline(always)]
#[must_use]
pub fn partition_of(hash: u32, partitions: u32) -> u32 {
    let mask = round_mask(partitions);
    let index = hash & mask;
    if index >= partitions { index & (mask >> 1) } else { index }
}

/// How many partitions there will be at the end of the round, when all have been split: the next
/// power of two.
#[inline(always)]
#[must_use]
pub fn round_size(partitions: u32) -> u32 {
    round_mask(partitions) + 1
}

/// The partition that is split to make the one with the index `next`.
#[inline(always)]
#[must_use]
pub fn split_source(next: u32) -> u32 {
    next & (bits_below(next) >> 1)
}

/// Whether the partition with this index has still to be split in this round, so that it holds
/// twice as many peers as others.
#[inline(always)]
#[must_use]
pub fn is_unsplit(index: u32, partitions: u32) -> bool {
    let round = round_size(partitions);
    index < round / 2 && index + round / 2 >= partitions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_few_hashes() {
        // (hash, partitions, index)
        for (hash, partitions, index) in [
            (0, 1, 0),
            (7, 1, 0),
            (1, 2, 1),
            (2, 2, 0),
            (2, 3, 2),
            (3, 3, 1),
            (3, 4, 3),
            (5, 5, 1),
            (4, 5, 4),
            (u32::MAX, 32_768, 32_767),
            (u32::MAX, 32_767, 16_383),
        ] {
            assert_eq!(partition_of(hash, partitions), index, "{hash} of {partitions}");
        }
    }

    #[test]
    fn a_new_partition_takes_from_its_source_alone() {
        for partitions in 1..600 {
            for hash in 0..2048 {
                let (before, after) = (partition_of(hash, partitions), partition_of(hash, partitions + 1));
                assert!(before < partitions);
                if before != after {
                    assert_eq!((before, after), (split_source(partitions), partitions), "{hash}");
                }
            }
        }
    }

    #[test]
    fn unsplit_partitions_hold_two_shares_of_the_round() {
        for partitions in 1..300 {
            let round = round_size(partitions);
            assert!(round.is_power_of_two() && round >= partitions && round / 2 < partitions.max(2));
            for index in 0..partitions {
                let shares = (0..round).filter(|hash| partition_of(*hash, partitions) == index).count();
                assert_eq!(shares == 2, is_unsplit(index, partitions), "{index} of {partitions}");
                assert!(shares == 1 || shares == 2);
            }
        }
    }
}
