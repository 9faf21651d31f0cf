use super::*;
use crate::host::{HostPlatform, HostSizes, HostStore};
use table::{TICKS, cost};

const NOTHING: HostSizes = HostSizes { index_buckets: 1, swarms: 1, partitions: 0, chunks_v4: 0, chunks_v6: 0 };

/// So many requests of each kind per minute.
const LIMITS: [u32; 3] = [30, 60, 120];

fn limited(seed: u64) -> HostStore {
    let store = HostStore::new(&NOTHING, seed);
    let settings = store.settings();
    settings.second.store(1_700_000_000);
    for (kind, limit) in Kind::ALL.into_iter().zip(LIMITS) {
        settings.limit_costs[kind as usize].store(cost(limit));
        settings.limits.store(settings.limits.load() | kind.bit());
    }
    settings.limit_mask_v6.store(u64::MAX);
    store
}

fn v6(number: u64, host: u64) -> IpKey {
    IpKey::V6([(0x2001_0db8_u64 << 32 | number).to_be(), host])
}

/// How many of so many requests are admitted.
fn admitted(platform: &HostPlatform<'_>, kind: Kind, source: IpKey, requests: u32) -> u32 {
    (0..requests).filter(|_| admit(&platform.context(), kind, source).is_ok()).count() as u32
}

#[test]
fn a_source_may_ask_as_often_as_the_limit_of_the_kind_says() {
    let store = limited(1);
    let platform = store.platform(1);
    let one = IpKey::V4(0x0100_000a);
    let start = store.settings().second.load();
    // (seconds after the first, kind, source, requests, admitted)
    for (second, kind, source, requests, expected) in [
        (0, Kind::Announce, one, 10, 10),
        (0, Kind::Announce, one, 100, 50),
        (0, Kind::Announce, one, 100, 0),
        // Others, and other kinds, are not concerned.
        (0, Kind::Announce, IpKey::V4(0x0200_000a), 100, 60),
        (0, Kind::Connect, one, 100, 30),
        (0, Kind::Scrape, one, 200, 120),
        // The same bits are not the same address.
        (0, Kind::Announce, IpKey::V6([0x0100_000a, 0]), 100, 60),
        // One token per second, two per second, one in two.
        (1, Kind::Announce, one, 100, 1),
        (1, Kind::Scrape, one, 100, 2),
        (1, Kind::Connect, one, 100, 0),
        (2, Kind::Connect, one, 100, 1),
        (11, Kind::Announce, one, 100, 10),
        (71, Kind::Announce, one, 100, 60),
        (100_000, Kind::Announce, one, 100, 60),
    ] {
        store.settings().second.store(start + second);
        assert_eq!(admitted(&platform, kind, source, requests), expected, "second {second}: {kind:?} of {source:?}");
    }
}

#[test]
fn what_is_refused_says_which_kind_it_was_and_costs_nothing() {
    let store = limited(2);
    let platform = store.platform(1);
    let reasons = [RequestReason::ConnectsLimited, RequestReason::AnnouncesLimited, RequestReason::ScrapesLimited];
    for (kind, reason) in Kind::ALL.into_iter().zip(reasons) {
        let source = IpKey::V4(7);
        assert_eq!(admitted(&platform, kind, source, 1000), LIMITS[kind as usize]);
        assert_eq!(admit(&platform.context(), kind, source), Err(reason));
        store.settings().second.store(store.settings().second.load() + 60);
        assert_eq!(admitted(&platform, kind, source, 1000), LIMITS[kind as usize], "refused ones were counted");
    }
}

#[test]
fn ipv6_addresses_are_counted_by_network() {
    let store = limited(3);
    let platform = store.platform(1);
    let of = |source| admitted(&platform, Kind::Announce, source, 100);
    assert_eq!((of(v6(1, 1)), of(v6(1, 2)), of(v6(2, 1))), (60, 0, 60));
    // The first 56 bits in memory order.
    store.settings().limit_mask_v6.store((u64::MAX << 8).to_be());
    assert_eq!((of(v6(0x1_00, 1)), of(v6(0x1_ff, 1)), of(v6(0x2_00, 1))), (60, 0, 60));
}

#[test]
fn without_limits_everything_is_admitted_and_nothing_is_counted() {
    let store = limited(4);
    let platform = store.platform(1);
    let limits = &store.settings().limits;
    let all = limits.load();
    limits.store(all & !Kind::Announce.bit());
    assert_eq!(admitted(&platform, Kind::Announce, IpKey::V4(7), 1000), 1000);
    limits.store(all);
    assert_eq!(admitted(&platform, Kind::Announce, IpKey::V4(7), 1000), 60, "what was before was counted");
}

#[test]
fn networks_without_limits_are_those_named() {
    let store = limited(5);
    let platform = store.platform(1);
    let settings = store.settings();
    let v4 = |address: [u8; 4]| u32::from_le_bytes(address);
    let networks = [([10, 1, 0, 0], [255, 255, 0, 0]), ([192, 0, 2, 7], [255; 4])];
    for (to, (network, mask)) in settings.exempt_v4.iter().zip(networks) {
        to[0].store(v4(network).into());
        to[1].store(v4(mask).into());
    }
    settings.exempt_counts[0].store(2);
    settings.exempt_v6[0][0].store(0x2001_0db8_0000_0001_u64.to_be());
    settings.exempt_v6[0][1].store(u64::MAX);
    settings.exempt_counts[1].store(1);
    for (source, exempt) in [
        (IpKey::V4(v4([10, 1, 255, 3])), true),
        (IpKey::V4(v4([10, 2, 0, 0])), false),
        (IpKey::V4(v4([192, 0, 2, 7])), true),
        (IpKey::V4(v4([192, 0, 2, 6])), false),
        // What is in the table behind those that count.
        (IpKey::V4(0), false),
        (v6(1, 9), true),
        (v6(2, 9), false),
    ] {
        let expected = if exempt { 1000 } else { 60 };
        assert_eq!(admitted(&platform, Kind::Announce, source, 1000), expected, "{source:?}");
    }
}

#[test]
fn a_flood_from_invented_addresses_takes_nothing_from_anybody() {
    let store = limited(6);
    let platform = store.platform(1);
    let start = store.settings().second.load();
    let (mut honest, mut greedy) = (0, 0);
    // A million addresses in ten seconds: ten times what there are buckets for.
    for number in 0..1_000_000_u32 {
        store.settings().second.store(start + number / 100_000);
        admitted(&platform, Kind::Connect, IpKey::V4(number.wrapping_mul(0x9e37_79b1)), 1);
        if number % 20_000 == 0 {
            honest += admitted(&platform, Kind::Connect, v6(u64::from(number), 1), 1);
            honest += admitted(&platform, Kind::Announce, v6(7, 1), 1);
        }
        if number % 50 == 0 {
            greedy += admitted(&platform, Kind::Connect, IpKey::V4(0x0700_0001), 1);
        }
    }
    assert_eq!(honest, 100);
    // Two thousand requests a second are remembered even so.
    assert!((LIMITS[0]..3 * LIMITS[0]).contains(&greedy), "{greedy} of 20000");
}

#[test]
fn who_asks_most_stays_when_a_set_is_full() {
    let store = limited(7);
    let platform = store.platform(1);
    // Everybody into one set: none but the first eight can be remembered, and these are.
    let sources: Vec<_> = (0..1_000_000_u32)
        .filter(|number| {
            let keys = &store.settings().hash_keys;
            let sum = u64::from(*number).wrapping_mul(keys[1].load() | 1).wrapping_add(keys[0].load());
            table::set_of(mix(sum)) == 5
        })
        .map(IpKey::V4)
        .collect();
    assert!(sources.len() > 100);
    let (greedy, others) = sources.split_at(4);
    for source in greedy {
        assert_eq!(admitted(&platform, Kind::Connect, *source, 100), 30);
    }
    for source in others {
        assert_eq!(admitted(&platform, Kind::Connect, *source, 1), 1);
    }
    for source in greedy {
        assert_eq!(admitted(&platform, Kind::Connect, *source, 100), 0, "{source:?} was forgotten");
    }
}

#[test]
fn as_many_errors_are_told_in_a_second_as_are_allowed() {
    let store = limited(8);
    let platform = store.platform(1);
    let settings = store.settings();
    let told = |asked: u32| {
        let cx = platform.context();
        (0..asked).filter(|_| wrong_id(&cx) == RequestReason::ConnectionIdWrong).count()
    };
    assert_eq!(told(1000), 1000, "without a limit all");
    settings.limits.store(ERRORS);
    settings.limit_errors.store(25);
    for (second, asked, expected) in [(0, 10, 10), (0, 100, 15), (0, 100, 0), (1, 100, 25), (9, 20, 20)] {
        settings.second.store(1_800_000_000 + second);
        assert_eq!(told(asked), expected, "second {second}");
    }
    let other = store.platform(2);
    let cx = other.context();
    let by_another = (0..100).filter(|_| wrong_id(&cx) == RequestReason::ConnectionIdWrong).count();
    assert_eq!(by_another, 5, "all threads and cores share them");
}

#[test]
fn a_clock_that_one_core_has_seen_earlier_forgives_nothing() {
    let store = limited(9);
    let platform = store.platform(1);
    let second = store.settings().second.load();
    store.settings().second.store(second + 1);
    assert_eq!(admitted(&platform, Kind::Announce, IpKey::V4(7), 100), 60);
    store.settings().second.store(second);
    assert_eq!(admitted(&platform, Kind::Announce, IpKey::V4(7), 100), 0);
    assert_eq!(FULL / TICKS, 60);
}
