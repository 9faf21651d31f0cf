//! SipHash-2-4 (Aumasson, Bernstein 2012) over numbers.

/// The last bytes of a message: up to 7, which share the word that every message ends with.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    /// The bytes as a little-endian number.
    pub bytes: u64,
    /// How many there are.
    pub length: u8,
}

/// SipHash-2-4 of `N` little-endian 64-bit words and the bytes behind them, that is of 8 `N` bytes
/// and those.
#[inline(always)]
#[must_use]
pub fn siphash24<const N: usize>(key: [u64; 2], words: [u64; N], rest: Rest) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let mut absorb = |word: u64| {
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    };
    let mut i = 0;
    while i < N {
        absorb(words[i]);
        i += 1;
    }
    absorb(rest.bytes | (8 * N as u64 + u64::from(rest.length)) << 56);
    v[2] ^= 0xff;
    round(&mut v);
    round(&mut v);
    round(&mut v);
    round(&mut v);
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(deprecated, reason = "the standard library's SipHash-2-4 is what we compare with")]
    fn agrees_with_the_standard_library() {
        use core::hash::{Hasher, SipHasher};
        for seed in 0..100_u64 {
            let key = [seed ^ 7, seed << 9];
            let words = [seed, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), !seed];
            for length in 0..8_u8 {
                let bytes = seed.wrapping_mul(0xd6e8_feb8_6659_fd93) & ((1 << (8 * length)) - 1);
                let rest = Rest { bytes, length };
                let reference = |words: &[u64]| {
                    let mut reference = SipHasher::new_with_keys(key[0], key[1]);
                    words.iter().for_each(|word| reference.write(&word.to_le_bytes()));
                    reference.write(&bytes.to_le_bytes()[..usize::from(length)]);
                    reference.finish()
                };
                assert_eq!(siphash24(key, words, rest), reference(&words));
                assert_eq!(siphash24(key, [words[1]], rest), reference(&words[1..2]));
                assert_eq!(siphash24(key, [], rest), reference(&[]));
            }
        }
    }
}
