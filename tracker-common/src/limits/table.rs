//! What sources have asked for lately: a table of fixed size, in sets of one cache line.
//!
//! A source, which is an IPv4 address or an IPv6 network, has a bucket of tokens for each kind of
//! request, and a bucket is one word. The word does not say how many tokens there are but when the
//! bucket will be full again, so nobody has to fill it, and a word of all zeros is a full bucket.
//!
//! A source that is not found in its set gets a full bucket in place of the fullest one there: to
//! be forgotten is never to anybody's disadvantage, and who asks most is remembered longest. Each
//! kind has sets of its own, so that connects from invented addresses push nobody's announces out.

use crate::word::Word;

/// Requests that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Connects. These alone come from addresses that nothing is known of.
    Connect,
    /// Announces, by UDP and HTTP.
    Announce,
    /// Scrapes, by UDP and HTTP.
    Scrape,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Connect, Self::Announce, Self::Scrape];

    /// Its bit in [`Settings::limits`](crate::settings::Settings::limits).
    #[inline(always)]
    #[must_use]
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The kind with this number.
    #[inline(always)]
    #[must_use]
    pub const fn of(number: u32) -> Self {
        match number {
            0 => Self::Connect,
            1 => Self::Announce,
            _ => Self::Scrape,
        }
    }
}

/// The bit in [`Settings::limits`](crate::settings::Settings::limits) for errors that are told to
/// whoever has shown nothing.
pub const ERRORS: u32 = 1 << Kind::ALL.len();

/// Buckets of a set.
pub const WAYS: usize = 8;

/// Sets per kind. A power of two.
pub const SETS: u32 = 4096;

/// The set whose first word counts the errors of a second: in a line of its own.
pub const ERRORS_SET: u32 = SETS * Kind::ALL.len() as u32;

/// All sets.
pub const ALL_SETS: u32 = ERRORS_SET + 1;

/// A set.
#[repr(C, align(64))]
#[derive(Default)]
pub struct LimitSet {
    /// Its buckets.
    pub words: [Word; WAYS],
}

const _: () = assert!(size_of::<LimitSet>() == 64);

/// Bits of a word that are a time, in [`TICKS`].
const TIME_BITS: u32 = 40;

const TIME: u64 = (1 << TIME_BITS) - 1;

/// Parts of a second.
pub const TICKS: u64 = 1 << 16;

/// Seconds in which an empty bucket becomes full.
pub const SECONDS: u64 = 60;

/// What a bucket holds, in the time that it takes to get it.
pub const FULL: u64 = SECONDS * TICKS;

/// A time that is further ahead than this was meant long ago: 194 days, and the clock came round.
const AHEAD: u64 = FULL + 4 * TICKS;

/// The time at a second of the clock.
#[inline(always)]
#[must_use]
pub const fn time(second: u32) -> u64 {
    (second as u64 * TICKS) & TIME
}

/// What is missing in a bucket, in the time that it takes to get it: 0 for a full one, and for a
/// word of zeros nearly always.
#[inline(always)]
#[must_use]
pub const fn missing(word: u64, now: u64) -> u64 {
    let missing = word.wrapping_sub(now) & TIME;
    if missing > AHEAD { 0 } else { missing }
}

/// Who a bucket is of.
#[inline(always)]
#[must_use]
pub const fn tag(word: u64) -> u64 {
    word >> TIME_BITS
}

/// Which of a kind's sets a source has by its hash.
#[inline(always)]
#[must_use]
pub const fn set_of(hash: u64) -> u32 {
    // Of the bits that depend on all of what was hashed, those that no tag is made of.
    (hash >> 24) as u32 & (SETS - 1)
}

/// The tag of a source by its hash. Never 0.
#[inline(always)]
#[must_use]
pub const fn tag_of(hash: u64) -> u64 {
    tag(hash) | 1
}

/// The bucket of a source in which so much is missing.
#[inline(always)]
#[must_use]
pub const fn bucket(tag: u64, now: u64, missing: u64) -> u64 {
    tag << TIME_BITS | (now + missing) & TIME
}

/// What one of `per_minute` requests (1 or more) takes out of a bucket, so that so many find enough
/// in a full one.
#[must_use]
pub const fn cost(per_minute: u32) -> u32 {
    let cost = FULL / per_minute as u64;
    if cost == 0 { 1 } else { cost as u32 }
}

/// The most requests per minute that a limit can be about.
pub const MOST_PER_MINUTE: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_says_whose_it_is_and_what_is_missing_until_it_is_full() {
        let now = time(4_000_000_000);
        for (missing_now, later, missing_then) in [
            (0, 0, 0),
            (1, 0, 1),
            (FULL, 0, FULL),
            (FULL, 1, FULL - TICKS),
            (FULL, 59, TICKS),
            (FULL, 60, 0),
            (FULL, 86_400, 0),
            (TICKS, 100 * 86_400, 0),
        ] {
            let word = bucket(0xab_cdef, now, missing_now);
            assert_eq!(tag(word), 0xab_cdef);
            let then = time(4_000_000_000 + later);
            assert_eq!(missing(word, then), missing_then, "{missing_now} and {later} s later");
        }
        // Another core may be a second ahead.
        assert_eq!(missing(bucket(1, time(101), FULL), time(100)), FULL + TICKS);
        assert_eq!(missing(0, time(1_700_000_000)), 0, "nobody's bucket is full");
    }

    #[test]
    fn as_many_requests_as_the_limit_says_find_enough_in_a_full_bucket() {
        for per_minute in [1, 2, 59, 60, 61, 1000, 12_345, MOST_PER_MINUTE] {
            let (cost, requests) = (u64::from(cost(per_minute)), u64::from(per_minute));
            assert!(cost * requests <= FULL, "{per_minute} do not");
            // What is lost by whole ticks.
            assert!(cost * (requests + requests / 3 + 1) > FULL, "far more than {per_minute} do");
        }
    }

    #[test]
    fn kinds_have_sets_and_bits_of_their_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind as u32), kind);
            assert_eq!(kind.bit() & ERRORS, 0);
            assert!((kind as u32 + 1) * SETS <= ERRORS_SET);
        }
        assert_eq!(Kind::ALL.iter().fold(ERRORS, |all, kind| all ^ kind.bit()), 0b1111);
    }
}
