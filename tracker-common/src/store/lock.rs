//! A lock and a version in one 32-bit word.
//!
//! * bit 0: held. Whoever changes peers of a swarm record or of a partition holds its lock.
//! * bit 1: the structure (not just a peer) is being changed: readers without the lock wait.
//! * bits 2 and up: a version, one more after every change of structure.
//!
//! Readers that only copy peers take no lock: a peer is handed out from words that cannot tear, and a change of
//! structure is noticed by comparing the version before and after ([`Lock::version`]). Holders are a few
//! dozen to a few thousand instructions away from letting go. An XDP program cannot be put to sleep while it
//! holds the lock, but a thread of the daemon can; therefore the XDP program tries a bounded number of times and then
//! hands the packet to the daemon, which may wait.

use crate::word::{Word32, loads_done};

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
        seen & HELD == 0 && self.0.replace(seen, seen | HELD)
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
