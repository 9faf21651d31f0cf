//! Keyed hashes of torrents. Whoever does not know the keys cannot choose info_hashes that meet in
//! one bucket.

use super::layout::{BUCKET_SWARMS, SWARM_ALIVE, Swarm};
use crate::{codegen::is_equal, id::InfoHash, settings::Settings};

/// The last step of a keyed multilinear hash. By itself such a hash is universal, but linear:
/// addresses in a row become hashes in equal steps, which crowd together for an unlucky key.
#[inline(always)]
pub(crate) fn mix(sum: u64) -> u64 {
    let once = (sum ^ sum >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (once ^ once >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// The half of that which depends on all of the sum.
#[inline(always)]
#[must_use]
pub(super) fn scramble(sum: u64) -> u32 {
    (mix(sum) >> 32) as u32
}

/// An info_hash, 4 bytes in memory order each.
#[inline(always)]
fn words_of(info_hash: &InfoHash) -> [u32; 5] {
    let mut words = [0; 5];
    for (word, bytes) in words.iter_mut().zip(info_hash.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

/// A torrent, hashed: where in the index it is looked for, and as what.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct TorrentKey {
    words: [u32; 5],
    buckets: u32,
    /// The home bucket follows from the upper half, tag and likely place from the lower.
    hash: u64,
}

impl TorrentKey {
    /// Hashes an info_hash.
    #[inline(always)]
    #[must_use]
    pub fn new(settings: &Settings, info_hash: &InfoHash) -> Self {
        let keys = &settings.hash_keys;
        let words = words_of(info_hash);
        let mut sum = keys[0].load();
        for i in 0..5 {
            sum = sum.wrapping_add(keys[1 + i].load().wrapping_mul(u64::from(words[i])));
        }
        let mixed = mix(sum);
        // The lower bits of a product depend on fewer of the factors.
        Self { words, buckets: settings.index_buckets.load(), hash: mixed ^ mixed >> 32 }
    }

    /// The key of an info_hash that was hashed before ([`TorrentKey::hash`]).
    #[inline(always)]
    #[must_use]
    pub fn from_hash(settings: &Settings, info_hash: &InfoHash, hash: u64) -> Self {
        Self { words: words_of(info_hash), buckets: settings.index_buckets.load(), hash }
    }

    /// All that [`TorrentKey::new`] has computed.
    #[inline(always)]
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The info_hash, 4 bytes in memory order each.
    #[inline(always)]
    pub(super) fn words(&self) -> &[u32; 5] {
        &self.words
    }

    /// The torrent.
    #[inline(always)]
    #[must_use]
    pub fn info_hash(&self) -> InfoHash {
        let mut info_hash = [0; 20];
        for (bytes, word) in info_hash.as_chunks_mut::<4>().0.iter_mut().zip(self.words) {
            *bytes = word.to_le_bytes();
        }
        info_hash
    }

    /// The bucket that is looked into after so many others; 0 for the home bucket. Any of all may
    /// follow any: full buckets do not crowd together, and the table can be nearly full.
    #[inline(always)]
    #[must_use]
    pub fn bucket(&self, probe: u32) -> u32 {
        let hash = if probe == 0 { self.hash } else { mix(self.hash ^ u64::from(probe.wrapping_mul(0x9e37_79b9))) };
        (((hash >> 32) * u64::from(self.buckets)) >> 32) as u32
    }

    /// What stands in the bucket for the torrent; 16 bits, not 0.
    #[inline(always)]
    #[must_use]
    pub fn tag(&self) -> u64 {
        let tag = self.hash >> 16 & 0xffff;
        tag | is_equal(tag, 0)
    }

    /// The place in a bucket that is the torrent's if it was free when the torrent came: 1 to
    /// [`BUCKET_SWARMS`].
    #[inline(always)]
    pub(super) fn likely_place(&self) -> u32 {
        (((self.hash & 0xffff) * BUCKET_SWARMS as u64) >> 16) as u32 + 1
    }

    /// Whether the record is in use and belongs to this torrent.
    #[inline(always)]
    #[must_use]
    pub fn matches(&self, swarm: &Swarm) -> bool {
        let mut difference = !swarm.active.load() & SWARM_ALIVE;
        for i in 0..5 {
            difference |= swarm.info_hash[i].load() ^ self.words[i];
        }
        difference == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn settings(key: u64) -> Settings {
        let settings = Settings::default();
        for (number, word) in (1..).zip(&settings.hash_keys) {
            word.store(key.wrapping_mul(number * 2 + 1));
        }
        settings.index_buckets.store(10);
        settings
    }

    #[test]
    fn buckets_tags_and_places_are_in_range_and_spread() {
        let settings = settings(0x9e37_79b9_7f4a_7c15);
        let (mut homes, mut places) = ([0; 10], [0; BUCKET_SWARMS + 1]);
        for first in 0..=255_u8 {
            for second in 0..=15 {
                let mut info_hash = [first; 20];
                info_hash[7] = second;
                let key = TorrentKey::new(&settings, &info_hash);
                homes[key.bucket(0) as usize] += 1;
                places[key.likely_place() as usize] += 1;
                assert!(key.tag() != 0 && key.tag() <= 0xffff);
                let buckets: BTreeSet<_> = (0..64).map(|probe| key.bucket(probe)).collect();
                assert!(buckets.len() >= 8 && buckets.last() < Some(&10), "{buckets:?}");
                let again = TorrentKey::from_hash(&settings, &info_hash, key.hash());
                assert_eq!((again.bucket(0), again.bucket(9)), (key.bucket(0), key.bucket(9)));
                assert_eq!((again.tag(), again.words()), (key.tag(), key.words()));
            }
        }
        assert!(homes.iter().all(|count| (300..520).contains(count)), "{homes:?}");
        assert_eq!(places[0], 0);
        assert!(places[1..].iter().all(|count| (80..190).contains(count)), "{places:?}");
    }

    #[test]
    fn a_tag_is_never_that_of_a_free_record() {
        for (hash, tag) in [(0, 1), (0x1_0000, 1), (0xffff_0000, 0xffff), (0xabcd, 1), (0x2_abcd, 2), (1 << 32, 1)] {
            let key = TorrentKey { words: [0; 5], buckets: 1, hash };
            assert_eq!(key.tag(), tag, "{hash:#x}");
        }
    }

    #[test]
    fn torrents_and_keys_make_different_hashes() {
        let one = TorrentKey::new(&settings(3), &[1; 20]);
        assert_ne!(one.tag(), TorrentKey::new(&settings(3), &[2; 20]).tag());
        assert_ne!(one.tag(), TorrentKey::new(&settings(5), &[1; 20]).tag());
        assert_eq!(one.tag(), TorrentKey::new(&settings(3), &[1; 20]).tag());
    }

    #[test]
    fn a_record_matches_while_it_is_in_use_by_the_torrent() {
        let key = TorrentKey::new(&settings(3), &[7; 20]);
        let swarm = Swarm::default();
        for word in &swarm.info_hash {
            word.store(0x0707_0707);
        }
        assert!(!key.matches(&swarm), "not in use");
        swarm.active.store(SWARM_ALIVE | 5);
        assert!(key.matches(&swarm));
        assert_eq!(swarm.info_hash(), [7; 20]);
        swarm.info_hash[4].store(0x0807_0707);
        assert!(!key.matches(&swarm), "another torrent's");
    }
}
