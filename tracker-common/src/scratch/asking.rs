//! Which torrents' records the processor may be told to bring nearer, where that takes them from other
//! cores ([`Word32::ask_for`]).

use crate::word::Word32;

/// Torrents that are remembered. A power of two.
const TORRENTS: usize = 512;

/// How many announces are taken for forged when one was.
const SUSPECTS: u32 = 8;

/// What a core remembers of the announces it was sent.
#[repr(C)]
pub struct Asking {
    torrents: [Word32; TORRENTS],
    suspects: Word32,
    asked: Word32,
}

impl Default for Asking {
    fn default() -> Self {
        Self { torrents: [const { Word32::new(0) }; TORRENTS], suspects: Word32::default(), asked: Word32::default() }
    }
}

impl Asking {
    /// Whether it is worth it for the torrent with this [hash](crate::store::hash::TorrentKey::hash), which
    /// is remembered from now on.
    ///
    /// Not if it was seen lately: then all of it is likely to be in this core's cache, and in those of
    /// others, who shall not have to fetch it back. And not for some announces after one with a wrong
    /// connection id: a flood of forged ones shall not wait for memory.
    #[inline(always)]
    #[must_use]
    pub fn may_ask_for(&self, hash: u64) -> bool {
        let suspects = self.suspects.load();
        if suspects != 0 {
            self.suspects.store(suspects - 1);
            self.asked.store(0);
            return false;
        }
        let word = &self.torrents[(hash >> 32) as usize % TORRENTS];
        let mark = hash as u32;
        if word.load() == mark {
            self.asked.store(0);
            return false;
        }
        word.store(mark);
        self.asked.store(1);
        true
    }

    /// Whether the last torrent was one that may be asked for: the same goes for what it leads to.
    #[inline(always)]
    #[must_use]
    pub fn asked(&self) -> bool {
        self.asked.load() != 0
    }

    /// Notes that an announce had a wrong connection id.
    #[inline(always)]
    pub fn suspect(&self) {
        self.suspects.store(SUSPECTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torrent_is_asked_for_until_it_is_remembered_and_again_when_another_took_its_place() {
        let asking = Asking::default();
        let place = (TORRENTS as u64) << 32;
        // (hash, asked for)
        for (hash, expected) in [
            (5, true),
            (5, false),
            (1 << 32 | 5, true),
            (5, false),
            (6, true),
            (5, true),
            (place | 5, false),
            (place | 7, true),
            (5, true),
            (1 << 32 | 5, false),
        ] {
            assert_eq!((asking.may_ask_for(hash), asking.asked()), (expected, expected), "{hash:#x}");
        }
    }

    #[test]
    fn after_a_wrong_connection_id_some_announces_ask_for_nothing_and_are_not_remembered() {
        let asking = Asking::default();
        for round in 0..3_u64 {
            asking.suspect();
            asking.suspect();
            for number in 0..SUSPECTS {
                assert!(!asking.may_ask_for(9 + round) && !asking.asked(), "{number}");
            }
            assert!(asking.may_ask_for(9 + round));
            assert!(!asking.may_ask_for(9 + round));
        }
    }
}
