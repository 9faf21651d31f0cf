//! Who may have more while little is left ([`super::allocator::is_little_left`]).
//!
//! Whoever holds one address can invent torrents and peers as fast as he can send. So when most of
//! the room is taken, what each address has been given lately is counted: new torrents, and chunks
//! for new peers. Beyond [`CREATIONS`] it is refused more for a while. A network that one user may
//! have all of ([`super::slot::SlotFormat::network`]) is counted as well, with [`NETWORKS`] times
//! as many. The counts are halved every minute, so an address that goes on asking is given half of
//! that per minute.
//!
//! Each core or thread counts by itself, in its scratch space: as many times as much may be created
//! as there are of them. There are few counters, and the smallest of four gives way to a new
//! address: whoever asks most is remembered.

use super::hash::mix;
use crate::{
    outcome::StoreError,
    platform::{Context, Platform},
    scratch::{CREATION_ENTRIES, Scratch},
};

/// Torrents and chunks that one address is given at once.
pub const CREATIONS: u32 = 64;

/// A network is given so many times that.
pub const NETWORKS: u32 = 8;

/// Counters that an address may have one of.
const WAYS: usize = 4;

/// A counter that was last changed so long ago has nothing left of it.
const FORGOTTEN: u32 = 15;

/// The count in an entry, whose upper half is a tag: minute in the next 16 bits, and 16 of the count.
#[inline(always)]
fn count_of(entry: u64, minute: u32) -> u32 {
    let minutes = minute.wrapping_sub((entry >> 16) as u32) & 0xffff;
    let minutes = if minutes > FORGOTTEN { FORGOTTEN } else { minutes };
    (entry as u32 & 0xffff) >> minutes
}

/// Counts one creation. False if there were as many as there may be.
#[inline(always)]
fn count(scratch: &Scratch, hash: u64, minute: u32, limit: u32) -> bool {
    let first = hash as usize & (CREATION_ENTRIES - 1) & !(WAYS - 1);
    let tag = hash >> 32;
    // The place of the tag, or of the smallest count; through memory, for the verifier.
    scratch.found_slot.store(first as u32);
    scratch.oldest_age.store(u32::MAX);
    for way in 0..WAYS {
        let entry = scratch.creations[first + way].load();
        let count = count_of(entry, minute);
        if entry >> 32 == tag {
            scratch.found_slot.store((first + way) as u32);
            break;
        }
        if count < scratch.oldest_age.load() {
            scratch.oldest_age.store(count);
            scratch.found_slot.store((first + way) as u32);
        }
    }
    let word = &scratch.creations[scratch.found_slot.load() as usize & (CREATION_ENTRIES - 1)];
    let entry = word.load();
    let before = if entry >> 32 == tag { count_of(entry, minute) } else { 0 };
    if before >= limit {
        return false;
    }
    word.store(tag << 32 | u64::from(minute & 0xffff) << 16 | u64::from(before + 1));
    true
}

/// Whether the [requester](Scratch::requester) may have a torrent or a chunk, which is counted.
///
/// # Errors
/// [`StoreError::AddressBusy`].
#[inline(always)]
pub(super) fn admit<P: Platform>(cx: &Context<'_, P>) -> Result<(), StoreError> {
    // Where an address may have as many peers as it likes, it stands for many users.
    if cx.settings.max_peers_per_address.load() == 0 {
        return Ok(());
    }
    let (minute, keys) = (cx.minute(), &cx.settings.hash_keys);
    let hash = |key: usize| mix(cx.scratch.requester[key].load().wrapping_mul(keys[1 + key].load() | 1));
    if count(cx.scratch, hash(0), minute, CREATIONS) && count(cx.scratch, hash(1), minute, CREATIONS * NETWORKS) {
        Ok(())
    } else {
        Err(StoreError::AddressBusy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{FIRST_MINUTE, HostSizes, HostStore};

    const NOTHING: HostSizes = HostSizes { index_buckets: 1, swarms: 1, partitions: 0, chunks_v4: 0, chunks_v6: 0 };

    #[test]
    fn addresses_and_networks_are_given_so_much_and_half_of_it_every_minute() {
        let store = HostStore::new(&NOTHING, 1);
        store.settings().max_peers_per_address.store(8);
        let platform = store.platform(1);
        let cx = platform.context();
        let given = |address: u64, network: u64, asked: u32| {
            cx.scratch.requester[0].store(address);
            cx.scratch.requester[1].store(network);
            (0..asked).filter(|_| admit(&cx).is_ok()).count() as u32
        };
        // (minutes after the first, address, network, asked, given)
        for (minute, address, network, asked, expected) in [
            (0, 1, 100, 10, 10),
            (0, 1, 100, 1000, CREATIONS - 10),
            (0, 1, 100, 10, 0),
            (0, 2, 100, 10, 10),
            (0, 3, 200, 1000, CREATIONS),
            (1, 1, 100, 1000, CREATIONS / 2),
            (1, 1, 100, 10, 0),
            (2, 1, 100, 1000, CREATIONS / 2),
            (30, 1, 100, 1000, CREATIONS),
            (31, 4, 100, CREATIONS, CREATIONS),
            (65_536, 4, 100, 1, 1),
        ] {
            store.settings().minute.store(FIRST_MINUTE + minute);
            assert_eq!(given(address, network, asked), expected, "minute {minute}: {address} of {network}");
        }
        store.settings().minute.store(FIRST_MINUTE + 300);
        let of_network: u32 = (1000..2000).map(|address| given(address, 300, 5)).sum();
        assert_eq!(of_network, CREATIONS * NETWORKS);
        assert_eq!(given(1, 100, 5), 5, "others are not concerned");
    }

    #[test]
    fn who_asks_most_is_remembered_among_many() {
        let store = HostStore::new(&NOTHING, 2);
        store.settings().max_peers_per_address.store(8);
        let platform = store.platform(1);
        let cx = platform.context();
        let admitted = |address: u64| {
            cx.scratch.requester[0].store(address);
            cx.scratch.requester[1].store(address << 32);
            admit(&cx).is_ok()
        };
        let (mut greedy, mut others) = (0, 0);
        for round in 1..=10_000 {
            greedy += u32::from(admitted(7));
            others += u32::from(admitted(1000 + round));
        }
        assert!(greedy <= CREATIONS && others == 10_000, "{greedy} {others}");
    }

    #[test]
    fn without_a_limit_per_address_nobody_is_refused() {
        let store = HostStore::new(&NOTHING, 3);
        let platform = store.platform(1);
        assert!((0..10 * CREATIONS * NETWORKS).all(|_| admit(&platform.context()).is_ok()));
    }
}
