//! A lock and a version in one 32-bit word.
//!
//! * bit 0: held. Whoever adds, removes or moves peers of a swarm record or of a partition holds
//!   its lock.
//! * bit 1: the structure, not just a peer, is being changed: readers without the lock wait.
//! * bits 2 to 23: a version, one more after every change of structure, modulo their number.
//! * bits 24 and up: 0 ([`Word32::ask_for`]).
//!
//! A peer that announces again changes one word, its minute. That is done without the lock, by
//! compare-and-swap ([`Lock::free`], [`Free::still_holds`]): if the peer is moved meanwhile the
//! lock word is another one, and the announce is stored once more under the lock.
//!
//! Readers that only copy peers take no lock either: a peer is handed out from words that cannot
//! tear, and a change of structure is noticed by comparing the version before and after
//! ([`Lock::version`]).
//!
//! # Order
//! A thread that waits for a lock while it holds others takes them in one of these orders
//! (`docs/architecture.md`, Concurrency): swarm, then partition, and a second partition only under
//! the swarm's lock; bucket, then a free swarm record, to store a torrent; swarm, then bucket, to
//! remove one. Holders are a few dozen to a few thousand instructions away from letting go. An XDP
//! program cannot be put to sleep while it holds a lock, but a thread of the daemon can; therefore
//! the XDP program tries a bounded number of times and then hands the packet to the daemon, which
//! may wait.

use crate::word::{Word32, loads_done, replaced};

const HELD: u32 = 1;
const CHANGING: u32 = 2;
const VERSION: u32 = 4;
const MASK: u32 = 0xff_ffff;

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
        // A thread that changes a word without the lock looks at the lock afterwards.
        replaced();
        taken
    }

    /// Announces, with the lock held, that what readers see is going to be inconsistent for a
    /// moment.
    #[inline(always)]
    pub fn begin_change(&self) {
        self.0.store(self.0.load() | CHANGING);
    }

    /// Lets go of the lock; after [`Lock::begin_change`], with a new version.
    #[inline(always)]
    pub fn unlock(&self) {
        let seen = self.0.load();
        let version = if seen & CHANGING == 0 { 0 } else { VERSION };
        self.0.store((seen & !(HELD | CHANGING)).wrapping_add(version) & MASK);
    }

    /// Has the processor bring the lock's cache line nearer ([`Word32::ask_for`]).
    #[inline(always)]
    pub(super) fn ask_for(&self) {
        self.0.ask_for(3);
    }

    /// What a change of a single word needs that takes no lock: `None` while it is held. The
    /// change has to be done again under the lock if it [did not hold](Free::still_holds)
    /// afterwards.
    #[inline(always)]
    #[must_use]
    pub fn free(&self) -> Option<Free<'_>> {
        let seen = self.0.load();
        if seen & (HELD | CHANGING) == 0 { Some(Free { lock: self, seen }) } else { None }
    }

    /// What readers need that take no lock: `None` while the structure is being changed.
    #[inline(always)]
    #[must_use]
    pub fn version(&self) -> Option<Version<'_>> {
        let seen = self.0.load();
        if seen & CHANGING == 0 { Some(Version { lock: self, seen: seen & !HELD }) } else { None }
    }
}

/// A lock that was free.
#[derive(Clone, Copy)]
pub struct Free<'l> {
    lock: &'l Lock,
    seen: u32,
}

impl Free<'_> {
    /// Whether the lock is free and the structure is the same still. The caller's change of the
    /// word was a [`crate::word::Word::replace`].
    #[inline(always)]
    #[must_use]
    pub fn still_holds(self) -> bool {
        replaced();
        self.lock.0.load() == self.seen
    }

    /// The number of the structure's version ([`Version::number`]).
    #[inline(always)]
    #[must_use]
    pub fn version_number(self) -> u32 {
        self.seen
    }
}

/// A version of a structure.
#[derive(Clone, Copy)]
pub struct Version<'l> {
    lock: &'l Lock,
    seen: u32,
}

impl Version<'_> {
    /// Whether everything read since was read from one and the same structure.
    #[inline(always)]
    #[must_use]
    pub fn still_holds(self) -> bool {
        loads_done();
        self.lock.0.load() & !HELD == self.seen
    }

    /// A number that is the same for the same version of a structure, and no other's.
    #[inline(always)]
    #[must_use]
    pub fn number(self) -> u32 {
        self.seen
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
    fn the_highest_byte_stays_zero_through_all_versions() {
        // (before, after a change, after plain holding)
        for (before, changed, held) in [
            (0, 4, 0),
            (0x00ff_fff8, 0x00ff_fffc, 0x00ff_fff8),
            (0x00ff_fffc, 0, 0x00ff_fffc),
            // As in a store of an older version.
            (0x0100_0000, 4, 0),
            (0xffff_fffc, 0, 0x00ff_fffc),
        ] {
            for (changes, after) in [(true, changed), (false, held)] {
                let lock = Lock(Word32::new(before));
                assert!(lock.try_lock());
                if changes {
                    lock.begin_change();
                }
                lock.unlock();
                assert_eq!(lock.0.load(), after, "{before:#x} {changes}");
                assert!(lock.free().is_some());
            }
        }
    }

    #[test]
    fn a_change_without_the_lock_notices_holders_and_changes_of_structure() {
        let lock = Lock::default();
        let free = lock.free().expect("nobody holds it");
        assert!(free.still_holds());
        assert!(lock.try_lock());
        assert!(lock.free().is_none());
        assert!(!free.still_holds());
        lock.unlock();
        assert!(free.still_holds(), "whoever held it has changed peers only in place");
        assert!(lock.try_lock());
        lock.begin_change();
        lock.unlock();
        assert!(!free.still_holds());
    }

    #[test]
    fn plain_holding_is_invisible_to_readers_but_a_change_is_not() {
        let lock = Lock::default();
        let version = lock.version().expect("nobody changes anything");
        assert_eq!(lock.free().map(Free::version_number), Some(version.number()));
        assert!(lock.try_lock());
        assert!(version.still_holds());
        lock.begin_change();
        assert!(lock.version().is_none());
        assert!(!version.still_holds());
        lock.unlock();
        assert!(!version.still_holds());
        let next = lock.version().expect("the change is over");
        assert_ne!(next.number(), version.number());
    }
}
