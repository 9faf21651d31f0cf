//! SipHash-2-4 (Aumasson, Bernstein 2012) over whole words.

/// SipHash-2-4 of `N` little-endian 64-bit words, that is of 8 `N` bytes.
#[inline(always)]
#[must_use]
pub fn siphash24<const N: usize>(key: [u64; 2], words: [u64; N]) -> u64 {
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
    absorb((8 * N as u64) << 56);
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
    #[test]
    #[expect(deprecated, reason = "the standard library's SipHash-2-4 is what we compare with")]
    fn agrees_with_the_standard_library() {
        use core::hash::{Hasher, SipHasher};
        for seed in 0..100_u64 {
            let key = [seed ^ 7, seed << 9];
            let words = [seed, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15), !seed];
            let reference = |words: &[u64]| {
                let mut reference = SipHasher::new_with_keys(key[0], key[1]);
                words.iter().for_each(|word| reference.write(&word.to_le_bytes()));
                reference.finish()
            };
            assert_eq!(super::siphash24(key, words), reference(&words));
            assert_eq!(super::siphash24(key, [words[1]]), reference(&words[1..2]));
        }
    }
}
