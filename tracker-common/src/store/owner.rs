//! Whose peer it is, among those who share its address: BEP 15's and HTTP's `key`, as much of it as
//! has room in a slot.
//!
//! A peer is an address and a port, so whoever shares its address (a NAT) could stop it, or say that
//! it has completed a download. A client says the same random key in all its announces, which others
//! do not know. Of that, four bits are kept: none, one of fourteen, or that it is contested.
//!
//! So few bits are guessed soon by whoever may try often. But a wrong guess makes the peer contested:
//! no key stops it then, not even the right one, until a key is kept again. That is the next one that
//! is announced when the peer has been silent for nearly an interval, which a peer that is there is
//! not. So there is one guess per peer and interval.
//!
//! A client that sends no key, or another one after it was started anew, is refreshed all the same,
//! and is the owner with its second announce at the latest. Until then it can leave only by being
//! silent, as one that crashes.

use super::slot::{KEY, KEY_SHIFT};
use crate::{codegen::is_nonzero, settings::Settings};

/// Of a client's key, what is kept in a slot, at the place where it is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner(u64);

/// Keys that are told apart.
const KEYS: u64 = 14;

/// Somebody has come with another key than the one that was kept.
const CONTESTED: u64 = KEY;

impl Owner {
    /// Of a client that sends no key: nobody's peer, or anybody's.
    pub const NONE: Self = Self(0);

    /// Of a client with this key. 0 is none.
    #[inline(always)]
    #[must_use]
    pub fn new(key: u32) -> Self {
        // So that keys that are small numbers differ, too.
        let mixed = u64::from(key.wrapping_mul(0x9e37_79b1));
        let number = ((mixed * KEYS) >> 32) + 1;
        Self((number * is_nonzero(key.into())) << KEY_SHIFT)
    }

    /// By the number that stands in a slot, as another tracker has told it; what is none is nobody.
    #[inline(always)]
    #[must_use]
    pub const fn of_number(number: u32) -> Self {
        if number <= 0xf { Self((number as u64) << KEY_SHIFT) } else { Self::NONE }
    }

    /// The bits for the flags of a peer.
    #[inline(always)]
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// 1 if a peer with these flags is another one's, else 0.
    #[inline(always)]
    #[must_use]
    pub fn is_strange_to(self, flags: u64) -> u64 {
        is_nonzero(flags & KEY) & is_nonzero((flags & KEY) ^ self.0)
    }

    /// What is kept when a peer with these flags, which has been silent for so many minutes, is
    /// refreshed by this owner.
    #[inline(always)]
    #[must_use]
    pub fn kept(self, flags: u64, silent: u32, settings: &Settings) -> u64 {
        let early = (u64::from(silent).wrapping_sub(patience(settings))) >> 63;
        self.0 | (CONTESTED * (self.is_strange_to(flags) & early))
    }

    /// The flags of a peer that somebody has tried to stop whom it is strange to.
    #[inline(always)]
    #[must_use]
    pub const fn contested(flags: u64) -> u64 {
        flags | CONTESTED
    }
}

/// Minutes of silence after which a peer may be somebody else's: less than any interval that is told
/// to clients.
#[inline(always)]
fn patience(settings: &Settings) -> u64 {
    u64::from(settings.interval.load().saturating_sub(settings.interval_jitter.load()) / 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn keys_are_spread_over_all_that_can_be_told_apart() {
        assert_eq!(Owner::new(0), Owner::NONE);
        for step in [1, 0x0100_0000, 0x0001_0001] {
            let mut seen = BTreeMap::new();
            for number in 1..=14_000_u32 {
                *seen.entry(Owner::new(number.wrapping_mul(step)).bits() >> KEY_SHIFT).or_insert(0) += 1;
            }
            seen.remove(&0);
            let keys: Vec<_> = seen.keys().copied().collect();
            assert!(keys.iter().all(|key| (1..=KEYS).contains(key)), "{keys:?}");
            assert!(step == 0x0100_0000 || keys.len() == KEYS as usize, "{step:#x}: {keys:?}");
        }
        assert_eq!(Owner::new(u32::MAX).bits() & !KEY, 0);
    }

    #[test]
    fn who_is_strange_becomes_the_owner_only_after_nearly_an_interval() {
        let settings = Settings::default();
        settings.interval.store(1800);
        settings.interval_jitter.store(180);
        let (one, other) = (Owner::new(1).bits(), Owner::new(2).bits());
        assert_ne!(one, other);
        for (name, kept, announced, silent, expected) in [
            ("the owner", one, one, 0, one),
            ("the owner, late", one, one, 40, one),
            ("a peer of nobody", 0, one, 0, one),
            ("nobody's stays so", 0, 0, 40, 0),
            ("another one", one, other, 0, CONTESTED),
            ("another one, nearly in time", one, other, 26, CONTESTED),
            ("another one, in time", one, other, 27, other),
            ("without a key", one, 0, 5, CONTESTED),
            ("without a key, in time", one, 0, 27, 0),
            ("contested", CONTESTED, one, 26, CONTESTED),
            ("contested, in time", CONTESTED, one, 27, one),
        ] {
            assert_eq!(Owner(announced).kept(kept, silent, &settings), expected, "{name}");
        }
    }

    #[test]
    fn peers_are_strange_to_other_keys_and_to_all_while_they_are_contested() {
        let (one, other) = (Owner::new(1), Owner::new(2));
        for (name, owner, flags, strange) in [
            ("its own", one, one.bits(), 0),
            ("another", one, other.bits(), 1),
            ("of nobody", one, 0, 0),
            ("contested", one, CONTESTED, 1),
            ("without a key", Owner::NONE, one.bits(), 1),
            ("of nobody and without a key", Owner::NONE, 0, 0),
        ] {
            assert_eq!(owner.is_strange_to(flags | !KEY), strange, "{name}");
        }
    }
}
