//! A lock and a version in one 32-bit word.
//!
//! * bit 0: held. Whoever adds, removes or moves peers of a swarm record or of a partition holds its lock.
//! * bit 1: the structure (not just a peer) is being changed: readers without the lock wait.
//! * bits 2 and up: a version, one more after every change of structure.
//!
//! A peer that announces again changes one word, its minute, and that is done without the lock, by compare-and-swap
//! ([`Lock::free`], [`Lock::untouched_since`]): a peer that is moved meanwhile is seen by the lock word being another one, and then
//! it is done once more under the lock.
//!
//! Readers that only copy peers take no lock: a peer is handed out from words that cannot tear, and a change of
//! structure is noticed by comparing the version before and after ([`Lock::version`]). Holders are a few
//! dozen to a few thousand instructions away from letting go. An XDP program cannot be put to sleep while it
//! holds the lock, but a thread of the daemon can; therefore the XDP program tries a bounded number of times and then
//! hands the packet to the daemon, which may wait.

use crate::word::{Word32, loads_done, replaced};

const HELD: u32 = 1;
const CHANGING: u32 = 2;
const VERSION: u32 = 4;

/// See the module's text.
#[repr(transparent)]
#[derive(Default)]
pub struct Lock(Word32);

impl Lock {
    /// Tries once to take the lock.
    #[inline(always)]
    #[must_use]
    pub fn try_lock(&self) -> bool {
        let seen = self.0.load();
        let taken = seen & HELD == 0 && self.0.replace(seen, seen | HELD);
        // Whoever changes a word without the lock looks at the lock afterwards.
        replaced();
        taken
    }

    /// Announces, with the lock held, that what readers see is going to be inconsistent for a moment.
    #[inline(always)]
    pub fn begin_change(&self) {
        self.0.store(self.0.load() | CHANGING);
    }

    /// Lets go of the lock; after [`Lock::begin_change`], with a new version.
    #[inline(always)]
    pub fn unlock(&self) {
        let seen = self.0.load();
        let version = if seen & CHANGING == 0 { 0 } else { VERSION };
        self.0.store((seen & !(HELD | CHANGING)).wrapping_add(version));
    }

    /// The word, if nobody holds the lock: for a change of a single word that needs no lock, which has to be done again under the
    /// lock if the word is another one afterwards ([`Lock::untouched_since`]).
    #[inline(always)]
    #[must_use]
    pub fn free(&self) -> Option<u32> {
        let seen = self.0.load();
        if seen & (HELD | CHANGING) == 0 { Some(seen) } else { None }
    }

    /// Whether nobody holds the lock or has changed the structure since [`Lock::free`] said `seen`. The caller's change of the
    /// word was a [`crate::word::Word::replace`].
    #[inline(always)]
    #[must_use]
    pub fn untouched_since(&self, seen: u32) -> bool {
        replaced();
        self.0.load() == seen
    }

    /// The version, or `None` while the structure is being changed.
    #[inline(always)]
    #[must_use]
    pub fn version(&self) -> Option<u32> {
        let seen = self.0.load();
        if seen & CHANGING == 0 { Some(seen & !HELD) } else { None }
    }

    /// Whether everything read since [`Lock::version`] said `version` was read from one and the same structure.
    #[inline(always)]
    #[must_use]
    pub fn unchanged_since(&self, version: u32) -> bool {
        loads_done();
        self.0.load() & !HELD == version
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_lock_is_not_taken_twice() {
        let lock = Lock::default();
        assert!(lock.try_lock());
        assert!(!lock.try_lock());
        lock.unlock();
        assert!(lock.try_lock());
    }

    #[test]
    fn a_change_without_the_lock_notices_holders_and_changes_of_structure() {
        let lock = Lock::default();
        let seen = lock.free().expect("nobody holds it");
        assert!(lock.untouched_since(seen));
        assert!(lock.try_lock());
        assert_eq!(lock.free(), None);
        assert!(!lock.untouched_since(seen));
        lock.unlock();
        assert!(lock.untouched_since(seen), "whoever held it has changed peers only in place");
        assert!(lock.try_lock());
        lock.begin_change();
        lock.unlock();
        assert!(!lock.untouched_since(seen));
    }

    #[test]
    fn plain_holding_is_invisible_to_readers_but_a_change_is_not() {
        let lock = Lock::default();
        let version = lock.version().expect("nobody changes anything");
        assert!(lock.try_lock());
        assert!(lock.unchanged_since(version));
        lock.begin_change();
        assert_eq!(lock.version(), None);
        assert!(!lock.unchanged_since(version));
        lock.unlock();
        assert!(!lock.unchanged_since(version));
        assert!(lock.version().is_some());
    }
}
