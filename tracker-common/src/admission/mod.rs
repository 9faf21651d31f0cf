//! Who may use the tracker for what: lists of torrents that alone are allowed, or that are denied,
//! and of addresses that are blocked ([`blocklist`]).
//!
//! Lists of torrents are asked where a torrent is made, and not for those that are known: a known torrent costs nothing,
//! and whoever changes a list removes the torrents that it no longer allows.

pub mod blocklist;
pub mod table;

use crate::{
    bep15::siphash::{Rest, siphash24},
    id::InfoHash,
    outcome::StoreError,
    platform::{Context, Platform},
    settings::Settings,
};
use table::{AccessBucket, buckets};

/// A list of torrents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum List {
    /// Only torrents on it are served.
    Allow = 1,
    /// Torrents on it are not served.
    Deny = 2,
}

impl List {
    /// Both, in the order in which they are asked.
    pub const ALL: [Self; 2] = [Self::Deny, Self::Allow];

    /// Its bit in [`Settings::access_lists`].
    #[inline(always)]
    #[must_use]
    pub const fn bit(self) -> u32 {
        self as u32
    }

    /// Whether it is in force.
    #[inline(always)]
    #[must_use]
    pub fn is_in_force(self, settings: &Settings) -> bool {
        settings.access_lists.load() & self.bit() != 0
    }
}

/// What stands in the table for a torrent on a list: SipHash-2-4 with a secret key, so nobody can
/// look for another torrent with the same. Never 0. One of 10^18 torrents that are not listed
/// passes for one that is.
#[inline(always)]
#[must_use]
pub fn fingerprint(settings: &Settings, list: List, info_hash: &InfoHash) -> u64 {
    let key = settings.access_key.each_ref().map(|word| word.load());
    let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|byte| info_hash[at + byte]));
    let rest = u32::from_le_bytes(core::array::from_fn(|byte| info_hash[16 + byte]));
    let rest = Rest { bytes: u64::from(rest) | (list as u64) << 32, length: 5 };
    siphash24(key, [word(0), word(8)], rest).max(1)
}

/// Whether a torrent is on a list.
#[inline(always)]
#[must_use]
pub fn is_listed<P: Platform>(cx: &Context<'_, P>, list: List, info_hash: &InfoHash) -> bool {
    let fingerprint = fingerprint(cx.settings, list, info_hash);
    let [one, other] = buckets(fingerprint, cx.settings.access_buckets.load());
    let contains = |number| cx.platform.access_bucket(number).is_some_and(|bucket| bucket.contains(fingerprint));
    contains(one) || contains(other)
}

/// Whether a torrent may be stored.
///
/// # Errors
/// [`StoreError::Denied`], [`StoreError::NotAllowed`].
#[inline(always)]
pub fn check<P: Platform>(cx: &Context<'_, P>, info_hash: &InfoHash) -> Result<(), StoreError> {
    if cx.settings.access_lists.load() == 0 {
        return Ok(());
    }
    if List::Deny.is_in_force(cx.settings) && is_listed(cx, List::Deny, info_hash) {
        return Err(StoreError::Denied);
    }
    if List::Allow.is_in_force(cx.settings) && !is_listed(cx, List::Allow, info_hash) {
        return Err(StoreError::NotAllowed);
    }
    Ok(())
}

const _: () = assert!(size_of::<AccessBucket>() == 64);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{HostSizes, HostStore};

    const SIZES: HostSizes = HostSizes { index_buckets: 2, swarms: 9, partitions: 0, chunks_v4: 0, chunks_v6: 0 };

    #[test]
    fn a_torrent_is_stored_if_the_lists_in_force_let_it() {
        let store = HostStore::new(&SIZES, 7);
        let platform = store.platform(1);
        let cx = &platform.context();
        let torrent = |number: u8| [number; 20];
        for (list, number) in [(List::Allow, 1), (List::Allow, 2), (List::Deny, 2), (List::Deny, 3)] {
            let fingerprint = fingerprint(cx.settings, list, &torrent(number));
            assert!(table::insert(|number| platform.access_bucket(number), 16, fingerprint));
        }
        let refused = [Err(StoreError::NotAllowed), Err(StoreError::Denied)];
        let [not_allowed, denied] = refused;
        // (lists in force, what is said of the torrents 1 to 4)
        for (lists, expected) in [
            (0, [Ok(()), Ok(()), Ok(()), Ok(())]),
            (List::Allow.bit(), [Ok(()), Ok(()), not_allowed, not_allowed]),
            (List::Deny.bit(), [Ok(()), denied, denied, Ok(())]),
            (List::Allow.bit() | List::Deny.bit(), [Ok(()), denied, denied, not_allowed]),
        ] {
            cx.settings.access_lists.store(lists);
            for (number, expected) in (1..).zip(expected) {
                assert_eq!(check(cx, &torrent(number)), expected, "torrent {number}, lists {lists}");
            }
        }
    }

    #[test]
    fn every_byte_of_the_info_hash_and_the_list_count() {
        let store = HostStore::new(&SIZES, 7);
        let of = |list, info_hash| fingerprint(store.settings(), list, &info_hash);
        let first = of(List::Allow, [7; 20]);
        assert_ne!(first, of(List::Deny, [7; 20]));
        for byte in 0..20 {
            let mut other = [7; 20];
            other[byte] ^= 0x80;
            assert_ne!(first, of(List::Allow, other), "byte {byte}");
        }
        assert_ne!(first, fingerprint(HostStore::new(&SIZES, 8).settings(), List::Allow, &[7; 20]));
    }
}
