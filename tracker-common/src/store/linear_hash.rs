//! Linear hashing: which of a growing number of partitions a hash belongs to.

/// All bits below and including the highest bit set in `n`, for `n` below 2^16.
#[inline(always)]
pub(super) fn smear(mut n: u32) -> u32 {
    n |= n >> 1;
    n |= n >> 2;
    n |= n >> 4;
    n | n >> 8
}

/// Linear hashing: the partition of a hash among `partitions`.
#[inline(always)]
#[must_use]
pub fn address(hash: u32, partitions: u32) -> u32 {
    let mask = smear(partitions.wrapping_sub(1) & 0xffff);
    let place = hash & mask;
    if place >= partitions { place & (mask >> 1) } else { place }
}

/// The next power of two: how many partitions there will be when all have been split.
#[inline(always)]
pub(super) fn ring(partitions: u32) -> u32 {
    smear(partitions.wrapping_sub(1) & 0xffff) + 1
}

/// The partition that is split to make partition number `next`.
#[inline(always)]
pub(super) fn parent(next: u32) -> u32 {
    next & (smear(next) >> 1)
}
