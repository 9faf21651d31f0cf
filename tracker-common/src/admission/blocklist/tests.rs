//! The table against a naive search through what it was made of.

use super::*;
use crate::host::{HostSizes, HostStore};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::{vec, vec::Vec};

const SIZES: HostSizes = HostSizes { index_buckets: 2, swarms: 9, partitions: 0, chunks_v4: 0, chunks_v6: 0 };

fn store(points_v4: usize, points_v6: usize) -> HostStore {
    let words = u32::try_from(words_for(points_v4, points_v6)).expect("few");
    HostStore::new(&SIZES, 7).with_block_words(words)
}

/// Has the points in force, in the generation that was not in use.
fn put_in_force(store: &HostStore, v4: &[Point<u32>], v6: &[Point<u128>]) {
    let settings = store.settings();
    let base = other_base(settings.block_words.load(), settings.blocked.load(), v4.len(), v6.len()).expect("room");
    assert!(write(|number| store.block_word(number), base, v4, v6));
    settings.blocked.store(base);
}

fn naive<A: Copy + Ord>(points: &[Point<A>], address: A) -> u32 {
    points.iter().rev().find(|(start, _)| *start <= address).map_or(0, |(_, list)| (*list).into())
}

fn listed(store: &HostStore, address: IpAddr) -> u32 {
    find(&store.platform(1).context(), address.into())
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Points whose distances have all magnitudes.
    fn points<A: Copy + Default + Ord>(&mut self, count: u64, address: impl Fn(u128) -> A) -> Vec<Point<A>> {
        let mut points = vec![(A::default(), (self.next() % 3) as u8)];
        let mut at = u128::from(self.next()) << 64 | u128::from(self.next());
        for _ in 0..count {
            let step = (u128::from(self.next()) << 64 | u128::from(self.next())) >> (self.next() % 128);
            at = at.wrapping_add(step);
            points.push((address(at), (self.next() % 4) as u8));
        }
        points.sort_unstable_by_key(|(address, _)| *address);
        points.dedup_by_key(|(address, _)| *address);
        points
    }
}

#[test]
fn random_tables_say_of_every_address_what_a_naive_search_says() {
    let mut random = Random(11);
    let store = store(5000, 5000);
    for round in 0..40_u64 {
        // All over, and close together.
        let count = [0, 1, 2, 60, 4000][(round % 5) as usize];
        let width = [32, 24, 13][(round % 3) as usize];
        let v4 = random.points(count, |at| {
            if width == 32 { (at >> 96) as u32 } else { 0x0a00_0000 | ((at >> (128 - width)) as u32) }
        });
        let high = u128::from(round % 4) << 124;
        let v6 = random.points(count, |at| match round % 3 {
            0 => at,
            1 => high + 0x1_0db8 * u128::from(round) + (at >> 60),
            _ => 0x2001_0db8 << 96 | at >> 48,
        });
        put_in_force(&store, &v4, &v6);
        let borders_v4 = v4.iter().flat_map(|(at, _)| [at.wrapping_sub(1), *at, at.wrapping_add(1), at ^ 0x80]);
        let some_v4 = (0..2000).map(|_| random.next() as u32).collect::<Vec<_>>();
        for address in borders_v4.chain(some_v4).chain([0, 1, u32::MAX]) {
            let found = listed(&store, Ipv4Addr::from_bits(address).into());
            assert_eq!(found, naive(&v4, address), "round {round}: {}", Ipv4Addr::from_bits(address));
        }
        let borders_v6 = v6.iter().flat_map(|(at, _)| [at.wrapping_sub(1), *at, at.wrapping_add(1), at ^ 1 << 64]);
        let some_v6 =
            (0..2000).map(|_| u128::from(random.next()) << 64 | u128::from(random.next())).collect::<Vec<_>>();
        let edges = [0, 1, u128::MAX, 1 << 125, (1 << 125) - 1, 3 << 124, (1 << 126) - 1, 1 << 126];
        for address in borders_v6.chain(some_v6).chain(edges) {
            let found = listed(&store, Ipv6Addr::from_bits(address).into());
            assert_eq!(found, naive(&v6, address), "round {round}: {}", Ipv6Addr::from_bits(address));
        }
    }
}

#[test]
fn everything_nothing_and_single_addresses_may_be_listed() {
    let store = store(8, 8);
    let [first, last]: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()];
    let (v4, v6): (IpAddr, IpAddr) = ([192, 0, 2, 7].into(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, 7].into());
    let six = |address: IpAddr| match address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(address) => address.to_bits(),
    };
    let (a, b) = (0xc000_0207, six(v6));
    let ula: IpAddr = [0xfd00, 0, 0, 0, 0, 0, 0, 1].into();
    // (points, lists of 0.0.0.0, 255.255.255.255, an address of either version and a local one)
    type Row<'a> = (&'a [Point<u32>], &'a [Point<u128>], [u32; 5]);
    let rows: [Row<'_>; 8] = [
        (&[], &[], [0; 5]),
        (&[(0, 0)], &[(0, 0)], [0; 5]),
        (&[(0, 3)], &[], [3, 3, 3, 0, 0]),
        (&[], &[(0, 16)], [0, 0, 0, 16, 16]),
        (&[(0, 0), (a, 2), (a + 1, 0)], &[(0, 0), (b, 1), (b + 1, 0)], [0, 0, 2, 1, 0]),
        (&[(0, 1), (a, 0), (a + 1, 2)], &[(0, 1), (b, 0), (b + 1, 2)], [1, 2, 0, 0, 2]),
        (&[(0, 0), (u32::MAX, 4)], &[(0, 0), (u128::MAX, 4)], [0, 4, 0, 0, 0]),
        (&[(0, 0)], &[(0, 0), (0xfd << 120, 5), (0xfe << 120, 0)], [0, 0, 0, 0, 5]),
    ];
    for (number, (points_v4, points_v6, expected)) in rows.into_iter().enumerate() {
        put_in_force(&store, points_v4, points_v6);
        assert_eq!([first, last, v4, v6, ula].map(|address| listed(&store, address)), expected, "row {number}");
    }
    store.settings().blocked.store(0);
    assert_eq!(listed(&store, v4), 0, "no table is in use");
}

#[test]
fn a_blocked_source_is_counted_by_list_and_refused() {
    let store = store(8, 8);
    put_in_force(&store, &[(0, 0), (0x0a00_0000, 2), (0x0b00_0000, 16), (0x0c00_0000, 0)], &[]);
    let platform = store.platform(1);
    let cx = &platform.context();
    for (address, list) in [([9, 9, 9, 9], 0), ([10, 0, 0, 1], 2), ([11, 255, 255, 255], 16), ([12, 0, 0, 0], 0)] {
        let before = platform.counted(Counter::Blocked(list.max(1)));
        let result = check(cx, IpAddr::from(address).into());
        let counted = platform.counted(Counter::Blocked(list.max(1))) - before;
        if list == 0 {
            assert_eq!((result, counted), (Ok(()), 0), "{address:?}");
        } else {
            assert_eq!((result, counted, cx.scratch.blocked_by.load()), (Err(RequestReason::Blocked), 1, list));
        }
    }
}

#[test]
fn generations_take_turns_and_have_room_for_what_was_asked() {
    for (v4, v6) in [(0, 0), (1, 0), (0, 1), (1000, 7), (1_000_001, 30_001)] {
        let words = u32::try_from(words_for(v4, v6)).expect("few");
        let first = other_base(words, 0, v4, v6).expect("room");
        let second = other_base(words, first, v4, v6).expect("room");
        assert_eq!((first, other_base(words, second, v4, v6)), (FIRST_BASE, Some(first)));
        assert!(u64::from(second) >= u64::from(first) + generation_words(v4, v6));
        assert!(u64::from(second) + generation_words(v4, v6) <= u64::from(words));
        assert_eq!(other_base(words, 0, v4 + 8, v6), None);
        assert_eq!(other_base(words, 0, v4, v6 + 3), None);
    }
    assert_eq!(other_base(1, 0, 0, 0), None, "a table that is not there");
    assert_eq!(other_base(u32::MAX, 0, MOST_POINTS + 1, 0), None);
}

#[test]
fn a_table_that_is_not_there_blocks_nobody() {
    let store = HostStore::new(&SIZES, 7);
    store.settings().blocked.store(FIRST_BASE);
    assert_eq!(listed(&store, [10, 0, 0, 1].into()), 0);
    assert!(!write(|_| None, FIRST_BASE, &[(0, 1)], &[]));
}

#[test]
fn comparisons_without_branches_are_right_at_the_borders() {
    let numbers = [0, 1, 2, (1 << 63) - 1, 1 << 63, (1 << 63) + 1, u64::MAX - 1, u64::MAX];
    for one in numbers {
        for other in numbers {
            assert_eq!(is_less(one, other), u64::from(one < other), "{one:#x} {other:#x}");
        }
    }
}
