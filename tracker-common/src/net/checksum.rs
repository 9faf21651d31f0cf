//! The Internet checksum (RFC 1071): the ones' complement sum of 16-bit words, complemented.
//!
//! A sum is kept in 64 bits and in memory order: because 2^16, 2^32 and 2^48 are 1 modulo 2^16 - 1,
//! whole 32-bit words can be added, and the sum of words in memory order is the sum in network
//! order with its bytes swapped.

/// Adds the 16-bit words of `N` bytes, `N` being even.
#[inline(always)]
#[must_use]
pub fn add<const N: usize>(mut sum: u64, bytes: &[u8; N]) -> u64 {
    const { assert!(N.is_multiple_of(2)) };
    let mut i = 0;
    while i + 4 <= N {
        sum += u64::from(u32::from_ne_bytes([bytes[i], bytes[i + 1], bytes[i + 2], bytes[i + 3]]));
        i += 4;
    }
    if i < N {
        sum += u64::from(u16::from_ne_bytes([bytes[i], bytes[i + 1]]));
    }
    sum
}

/// Adds the four 16-bit words of a 64-bit word in memory order.
#[inline(always)]
#[must_use]
pub fn add_word(sum: u64, word: u64) -> u64 {
    sum + (word & 0xffff_ffff) + (word >> 32)
}

/// The sum of many 64-bit words in memory order, in two numbers: so that a word takes three
/// operations, where [`add_word`] takes five.
#[derive(Clone, Copy, Debug, Default)]
pub struct Words {
    /// The words, modulo 2^64.
    whole: u64,
    /// Their high halves.
    high: u64,
}

impl Words {
    /// Adds a word. Up to 2^32 of them can be added.
    #[inline(always)]
    pub fn add(&mut self, word: u64) {
        self.whole = self.whole.wrapping_add(word);
        self.high += word >> 32;
    }

    /// Their sum, as [`add_word`] would have it.
    #[inline(always)]
    #[must_use]
    pub fn sum(self) -> u64 {
        // Without the high halves, where they stood, the low ones are left.
        self.whole.wrapping_sub(self.high << 32) + self.high
    }
}

/// Folds a sum to 16 bits; all ones if the bytes summed carried a right checksum, 0 only for a sum
/// of 0.
#[inline(always)]
#[must_use]
pub fn fold(sum: u64) -> u16 {
    // A number added to itself with its halves exchanged has the sum of the halves in the upper
    // one, with what the lower one carries: which is what the sum itself carries.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// The checksum field for bytes with this sum, as it stands in memory.
#[inline(always)]
#[must_use]
pub fn finish(sum: u64) -> [u8; 2] {
    (!fold(sum)).to_ne_bytes()
}

/// The same for UDP, where a checksum of zero would mean that there is none (RFC 768).
#[inline(always)]
#[must_use]
pub fn finish_udp(sum: u64) -> [u8; 2] {
    let folded = !fold(sum);
    (if folded == 0 { 0xffff } else { folded }).to_ne_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the 16-bit words of a slice; an odd last byte is followed by a zero, as RFC 1071 says.
    fn add_slice(mut sum: u64, bytes: &[u8]) -> u64 {
        let (pairs, rest) = bytes.as_chunks::<2>();
        for pair in pairs {
            sum += u64::from(u16::from_ne_bytes(*pair));
        }
        if let [last] = rest {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        sum
    }

    #[test]
    fn rfc_1071_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(add(0, &bytes)).to_ne_bytes(), [0xdd, 0xf2]);
        assert_eq!(fold(add_slice(0, &bytes)).to_ne_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn both_ways_of_adding_agree_and_carries_are_kept() {
        let bytes = [0xff_u8; 98];
        assert_eq!(fold(add(0, &bytes)), fold(add_slice(0, &bytes)));
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0), 0);
        assert_eq!(finish_udp(0xffff), [0xff, 0xff]);
        assert_eq!(finish(0xffff), [0, 0]);
    }

    #[test]
    fn sums_fold_to_their_remainder_and_never_to_zero_but_from_it() {
        for (sum, folded) in [
            (0, 0),
            (1, 1),
            (0xffff, 0xffff),
            (0x1_0000, 1),
            (0x1_fffe, 0xffff),
            (0x1_ffff, 1),
            (0xffff_0000, 0xffff),
            (0xffff_ffff, 0xffff),
            (0x1_0000_0000, 1),
            (0xffff_ffff_0000_0000, 0xffff),
            (0xffff_ffff_0000_0001, 1),
            (0x8000_0000_8000_0000, 1),
            (u64::MAX - 1, 0xfffe),
            (u64::MAX, 0xffff),
        ] {
            assert_eq!(fold(sum), folded, "{sum:#x}");
            assert_eq!(u64::from(folded) % 0xffff, sum % 0xffff, "{sum:#x}");
        }
    }

    #[test]
    fn words_in_two_numbers_have_the_sum_of_words_in_one() {
        for words in [
            &[][..],
            &[1, 2, 3],
            &[u64::MAX; 200],
            &[1 << 63, 1 << 63, 0xffff_ffff, 0xffff_ffff, 1 << 32],
            &[0xffff_ffff_0000_0000; 3],
            &[0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0xffff_fffe_ffff_ffff],
        ] {
            let mut in_two = Words::default();
            words.iter().for_each(|word| in_two.add(*word));
            assert_eq!(in_two.sum(), words.iter().fold(0, |sum, word| add_word(sum, *word)), "{words:x?}");
        }
    }

    #[test]
    fn an_odd_byte_is_padded_behind() {
        assert_eq!(fold(add_slice(0, &[1, 2, 3])), fold(add_slice(0, &[1, 2, 3, 0])));
    }
}
