//! Who may have more while little is left ([`super::allocator::is_little_left`]).
//!
//! Whoever holds one address can invent torrents and peers as fast as he can send. So when most of
//! the room is taken, what each address has been given lately is counted: new torrents, and chunks
//! for new peers. Beyond [`Settings::creations_per_address`] it is refused more for a while. A network that one user may
//! have all of ([`super::slot::SlotFormat::network`]) is counted as well, with [`NETWORKS`] times
//! as many. The counts are halved every minute, so an address that goes on asking is given half of
//! that per minute.
//!
//! Each core or thread counts by itself, in its scratch space: as many times as much may be created
//! as there are of them. There are few counters, and the smallest of four gives way to a new
//! address: whoever asks most is remembered.
//!
//! [`Settings::creations_per_address`]: crate::settings::Settings::creations_per_address

use super::hash::mix;
use crate::{
    limits,
    outcome::StoreError,
    platform::{Context, Platform},
    scratch::{CREATION_ENTRIES, Scratch},
};

/// A network is given so many times that.
pub const NETWORKS: u32 = 8;

/// The bit of a requester's network that says that it is one of IPv6. No network has so many bits.
pub(super) const NETWORK_IS_V6: u64 = 1 << 63;

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
    let limit = cx.settings.creations_per_address.load() as u32;
    if limit == 0 {
        return Ok(());
    }
    let (minute, keys) = (cx.minute(), &cx.settings.hash_keys);
    let (address, network) = (cx.scratch.requester[0].load(), cx.scratch.requester[1].load());
    let is_v6 = network & NETWORK_IS_V6 != 0;
    let source = mix(limits::source_of(cx.settings, address, is_v6).wrapping_mul(keys[1].load() | 1));
    let around = mix(network.wrapping_mul(keys[2].load() | 1));
    if count(cx.scratch, source, minute, limit) && count(cx.scratch, around, minute, limit * NETWORKS) {
        return Ok(());
    }
    if limits::is_exempt(cx.settings, address, is_v6) { Ok(()) } else { Err(StoreError::AddressBusy) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{FIRST_MINUTE, HostSizes, HostStore};

    const CREATIONS: u32 = 64;

    const NOTHING: HostSizes = HostSizes { index_buckets: 1, swarms: 1, partitions: 0, chunks_v4: 0, chunks_v6: 0 };

    #[test]
    fn ipv6_networks_of_the_size_that_is_configured_are_given_so_much() {
        // (bits, /64s that ask, asked by each, given to all of them)
        for (bits, networks, asked, expected) in [
            (64, 16, 10, 160),
            (56, 16, 10, CREATIONS),
            (56, 512, 1, 2 * CREATIONS),
            (48, 512, 1, CREATIONS),
            (32, 512, 1, CREATIONS),
        ] {
            let store = HostStore::new(&NOTHING, 1);
            let settings = store.settings();
            settings.creations_per_address.store(CREATIONS.into());
            settings.limit_mask_v6.store((u64::MAX << (64 - bits)).to_be());
            let platform = store.platform(1);
            let cx = platform.context();
            let mut given = 0;
            for number in 0..networks {
                let address: u64 = 0x2001_0db8_0001_0000 + number;
                cx.scratch.requester[0].store(address.to_be());
                cx.scratch.requester[1].store((address & !0xffff).to_be() | NETWORK_IS_V6);
                given += (0..asked).filter(|_| admit(&cx).is_ok()).count() as u32;
            }
            assert_eq!(given, expected, "{networks} networks of /{bits}");
            // An IPv4 address has no such prefix.
            cx.scratch.requester[0].store(0x0a00_0000);
            cx.scratch.requester[1].store(0x0a);
            assert!(admit(&cx).is_ok());
        }
    }

    #[test]
    fn addresses_and_networks_are_given_so_much_and_half_of_it_every_minute() {
        let store = HostStore::new(&NOTHING, 1);
        store.settings().creations_per_address.store(CREATIONS.into());
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
        store.settings().creations_per_address.store(CREATIONS.into());
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
    fn networks_without_limits_are_given_more_than_others() {
        let store = HostStore::new(&NOTHING, 4);
        let settings = store.settings();
        settings.creations_per_address.store(1);
        settings.exempt_v4[0][0].store(7);
        settings.exempt_v4[0][1].store(0xff);
        settings.exempt_counts[0].store(1);
        let platform = store.platform(1);
        let cx = platform.context();
        for (address, network, expected) in [(7, 7, 100), (0x107, 7, 100), (8, 8, 1), (0x207, 0x207 | NETWORK_IS_V6, 1)]
        {
            cx.scratch.requester[0].store(address);
            cx.scratch.requester[1].store(network);
            let given = (0..100).filter(|_| admit(&cx).is_ok()).count();
            assert_eq!(given, expected, "{address:#x} of {network:#x}");
        }
    }

    #[test]
    fn without_a_limit_per_address_nobody_is_refused() {
        let store = HostStore::new(&NOTHING, 3);
        let platform = store.platform(1);
        assert!((0..10 * CREATIONS * NETWORKS).all(|_| admit(&platform.context()).is_ok()));
    }
}
