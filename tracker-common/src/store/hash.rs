//! Keyed hashes of torrents. Whoever does not know the keys cannot choose info_hashes that meet in
//! one bucket.

use super::layout::{SWARM_ALIVE, Swarm};
use crate::{id::InfoHash, settings::Settings};

/// The last step of a keyed multilinear hash. By itself such a hash is universal, but linear:
/// addresses in a row become hashes in equal steps, which crowd together for an unlucky key.
#[inline(always)]
#[must_use]
pub(super) fn scramble(sum: u64) -> u32 {
    let once = (sum ^ sum >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    ((once ^ once >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32
}

/// A torrent, hashed: where in the index it is looked for, and as what.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub struct TorrentKey {
    words: [u32; 5],
    home: u32,
    buckets: u32,
    tag: u32,
}

impl TorrentKey {
    /// Hashes an info_hash.
    #[inline(always)]
    #[must_use]
    pub fn new(settings: &Settings, info_hash: &InfoHash) -> Self {
        let mut words = [0_u32; 5];
        let keys = &settings.hash_keys;
        let mut home = keys[0].load();
        let mut tag = keys[6].load();
        for i in 0..5 {
            let at = i * 4;
            words[i] = u32::from_le_bytes([info_hash[at], info_hash[at + 1], info_hash[at + 2], info_hash[at + 3]]);
            home = home.wrapping_add(keys[1 + i].load().wrapping_mul(u64::from(words[i])));
            tag = tag.wrapping_add(keys[7 + i].load().wrapping_mul(u64::from(words[i])));
        }
        let buckets = settings.index_buckets.load();
        Self {
            words,
            home: ((u64::from(scramble(home)) * u64::from(buckets)) >> 32) as u32,
            buckets,
            tag: scramble(tag),
        }
    }

    /// The info_hash, 4 bytes in memory order each.
    #[inline(always)]
    pub(super) fn words(&self) -> &[u32; 5] {
        &self.words
    }

    /// The bucket that is looked into after so many others; 0 for the home bucket.
    #[inline(always)]
    pub(super) fn bucket(&self, probe: u32) -> u32 {
        let number = self.home + probe;
        if number >= self.buckets { number - self.buckets } else { number }
    }

    /// What stands beside the swarm's number in the index.
    #[inline(always)]
    pub(super) fn tag(&self) -> u32 {
        self.tag
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

    fn settings(key: u64) -> Settings {
        let settings = Settings::default();
        for (number, word) in (1..).zip(&settings.hash_keys) {
            word.store(key.wrapping_mul(number * 2 + 1));
        }
        settings.index_buckets.store(10);
        settings
    }

    #[test]
    fn buckets_are_in_range_and_wrap_around() {
        let settings = settings(0x9e37_79b9_7f4a_7c15);
        for first in 0..=255 {
            let key = TorrentKey::new(&settings, &[first; 20]);
            let buckets: Vec<_> = (0..10).map(|probe| key.bucket(probe)).collect();
            let mut sorted = buckets.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..10).collect::<Vec<_>>(), "{buckets:?}");
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
