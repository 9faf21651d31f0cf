//! Keyed hashes.

/// The last step of a keyed multilinear hash. By itself such a hash is universal, but linear: addresses in a row become
/// hashes in equal steps, which crowd together for an unlucky key.
#[inline(always)]
#[must_use]
pub(super) fn scramble(sum: u64) -> u32 {
    let once = (sum ^ sum >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    ((once ^ once >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32
}
