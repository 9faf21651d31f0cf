//! Lists of addresses in force on a store with peers.

use super::*;
use crate::store::{
    fixture,
    sizes::{Capacity, Sizes},
};
use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};
use tracker_common::{
    admission::blocklist::find,
    outcome::{BLOCK_LISTS, Counter, Event},
    store::{
        family::{V4, V6},
        hash::TorrentKey,
        index,
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    },
};

/// A file that is removed on drop.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: impl AsRef<[u8]>) -> Self {
        let path = std::env::temp_dir().join(format!("tracker-addresses-{name}-{}", std::process::id()));
        fs::write(&path, text).expect("writable");
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn addresses(block: &[&File], allow: &[&File]) -> Addresses {
    let paths = |files: &[&File]| files.iter().map(|file| file.path().to_owned()).collect();
    Addresses::read(&AddressFiles { block: paths(block), allow: paths(allow) }).expect("right")
}

fn handle(block_words: u32, torrents: u64) -> Handle {
    let sizes = Sizes::new(&Capacity { torrents, peers_v4: 20_000 + torrents, peers_v6: 20_000 }).expect("small");
    fixture::store_of(&Sizes { block_words, ..sizes }).handle(CounterSet::Udp)
}

fn list_of(handle: &Handle, address: impl Into<IpAddr>) -> u32 {
    find(&handle.context(), address.into().into())
}

#[test]
fn several_files_are_lists_of_their_own_and_allowed_addresses_win() {
    let p2p = File::new("a.p2p", "some: body:10.0.0.0-10.0.0.255\n");
    let dat = File::new(
        "b.dat",
        "010.000.000.128 - 010.000.001.255 , 000 , x\n011.000.000.000 - 011.255.255.255 , 200 , y\n",
    );
    let cidr = File::new("c", "2001:db8::/32\n10.0.1.0/24\n192.0.2.7\n");
    let allow = File::new("allow", "10.0.0.7\n2001:db8:7::/48\n");
    let words = addresses(&[&p2p, &dat, &cidr], &[&allow]).room().expect("few").expect("lists");
    let handle = handle(words, 10);
    let in_force = InForce::default();
    let six = |a: u16, b: u16| Ipv6Addr::new(0x2001, a, b, 0, 0, 0, 0, 1);
    // (files, allowed, list of 10.0.0.7, .200, 10.0.1.1, 11.0.0.1, 192.0.2.7, two of IPv6)
    type Row<'a> = (&'a [&'a File], &'a [&'a File], [usize; 7]);
    let rows: [Row<'_>; 6] = [
        (&[&p2p, &dat, &cidr], &[&allow], [0, 1, 2, 0, 3, 3, 0]),
        (&[&cidr, &dat, &p2p], &[], [3, 2, 1, 0, 1, 1, 1]),
        (&[&dat], &[], [0, 1, 1, 0, 0, 0, 0]),
        (&[&dat], &[&dat], [0; 7]),
        (&[], &[&allow], [0; 7]),
        (&[&p2p], &[], [1, 1, 0, 0, 0, 0, 0]),
    ];
    for (number, (block, allow, expected)) in rows.into_iter().enumerate() {
        addresses(block, allow).apply(&handle, &in_force, &Counted::new(), true).expect("room");
        let found = [[10, 0, 0, 7], [10, 0, 0, 200], [10, 0, 1, 1], [11, 0, 0, 1], [192, 0, 2, 7]]
            .map(|address| list_of(&handle, Ipv4Addr::from(address)));
        let found = [&found[..], &[list_of(&handle, six(0xdb8, 1)), list_of(&handle, six(0xdb8, 7))]].concat();
        // By their places among those that are given, whatever numbers they have.
        let lists = in_force.load();
        let place = |found: &u32| lists.iter().position(|list| u32::from(list.number) == *found);
        let places: Vec<_> = found.iter().map(|found| place(found).map_or(0, |place| place + 1)).collect();
        assert_eq!(places, expected, "row {number}: {lists:?}");
        let paths: Vec<_> = block.iter().map(|file| file.path().display().to_string()).collect();
        assert_eq!(lists.iter().map(|list| list.name.clone()).collect::<Vec<_>>(), paths, "row {number}");
    }
}

/// Stores peers of both families in one torrent.
fn announce(handle: &Handle, torrent: u32, peers: u16) {
    let mut info_hash = [0x5a; 20];
    info_hash[..4].copy_from_slice(&torrent.to_be_bytes());
    let info_hash = &info_hash;
    for number in 0..peers {
        let [high, low] = number.to_be_bytes();
        let (seeder, event) = (number % 3 == 0, PeerEvent::Completed);
        let peer = V4::key([10, high, low, 1], 7000);
        upsert::announce::<_, V4>(&handle.context(), &Announce { info_hash, peer, seeder, event, owner: Owner::NONE })
            .expect("room");
        let peer = V6::key([0x20, 1, 0, 0, high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], 7000);
        upsert::announce::<_, V6>(&handle.context(), &Announce { info_hash, peer, seeder, event, owner: Owner::NONE })
            .expect("room");
    }
}

/// How many peers a torrent has, by its counts.
fn count(handle: &Handle, torrent: u32) -> u32 {
    let mut info_hash = [0x5a; 20];
    info_hash[..4].copy_from_slice(&torrent.to_be_bytes());
    let cx = &handle.context();
    index::find(cx, &TorrentKey::new(cx.settings, &info_hash)).map_or(0, |swarm| {
        let counts = swarm.record.counts();
        counts.seeders + counts.leechers
    })
}

#[test]
fn a_change_removes_the_peers_that_it_blocks_and_no_others() {
    let words = u32::try_from(words_for(1 << 12, 1 << 12)).expect("few");
    let handle = handle(words, 100);
    let in_force = InForce::default();
    // In the record, in a list, in partitions.
    let sizes = [2_u16, 40, 700];
    // Every other /24, and every other /48.
    let mut text = String::new();
    for number in (0..700_u16).step_by(2) {
        let [high, low] = number.to_be_bytes();
        write!(text, "10.{high}.{low}.0/24\n2001:0:{number:x}::/48\n").expect("memory");
    }
    let file = File::new("every-other", &text);
    for (torrent, size) in (0..).zip(sizes) {
        announce(&handle, torrent, size);
        assert_eq!(count(&handle, torrent), u32::from(size) * 2);
    }
    addresses(&[&file], &[]).apply(&handle, &in_force, &Counted::new(), true).expect("room");
    for (torrent, size) in (0..).zip(sizes) {
        assert_eq!(count(&handle, torrent), u32::from(size / 2) * 2, "of {size}");
    }
    let blocked = Counter::Event(Event::PeerBlocked);
    let counted: u64 = handle.store().counters().iter().map(|(_, counters)| counters[blocked.index()]).sum();
    assert_eq!(counted, sizes.iter().map(|size| u64::from(size / 2) * 2).sum::<u64>());
    // Again, and without lists, nothing more is removed.
    addresses(&[&file], &[]).apply(&handle, &in_force, &Counted::new(), true).expect("room");
    addresses(&[], &[]).apply(&handle, &in_force, &Counted::new(), true).expect("room");
    assert_eq!(count(&handle, 2), 700);
    assert_eq!(handle.store().settings().blocked.load(), 0);
}

#[test]
fn lists_without_room_leave_those_before_in_force() {
    let (few, many) = (File::new("few", "10.0.0.1"), {
        let mut text = String::new();
        for number in 0..40_000_u32 {
            writeln!(text, "{}", Ipv4Addr::from_bits(0x0b00_0000 + number * 2)).expect("memory");
        }
        File::new("many", text)
    });
    let handle = handle(addresses(&[&few], &[]).room().expect("few").expect("a list"), 10);
    let in_force = InForce::default();
    addresses(&[&few], &[]).apply(&handle, &in_force, &Counted::new(), true).expect("room");
    let error =
        addresses(&[&many], &[]).apply(&handle, &in_force, &Counted::new(), true).expect_err("no room").to_string();
    assert!(error.contains("40000") && error.contains("restart"), "{error}");
    assert_eq!([Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(11, 0, 0, 0)].map(|ip| list_of(&handle, ip)), [1, 0]);
    assert_eq!(in_force.load().len(), 1);
}

#[test]
fn room_grows_in_steps_and_is_none_without_lists() {
    assert_eq!(addresses(&[], &[]).room().expect("none"), None);
    let file = |count: u32| {
        let lines: String =
            (0..count).map(|number| format!("{}\n", Ipv4Addr::from_bits(0x0b00_0000 + number * 2))).collect();
        File::new(&format!("steps-{count}"), lines)
    };
    let rooms =
        [0, 1, 5000, 6000, 12_000].map(|count| addresses(&[&file(count)], &[]).room().expect("few").expect("a list"));
    assert_eq!(rooms.iter().collect::<BTreeSet<_>>().len(), 3, "{rooms:?}");
    assert!(rooms.is_sorted());
}

#[test]
fn more_files_than_there_are_counters_are_refused_and_one_named_twice_is_one() {
    let files: Vec<_> = (0..=BLOCK_LISTS).map(|number| File::new(&format!("of-many-{number}"), "10.0.0.1")).collect();
    let read = |block: &[&File]| {
        let block = block.iter().map(|file| file.path().to_owned()).collect();
        Addresses::read(&AddressFiles { block, allow: vec![files[0].path().to_owned(); 40] })
    };
    let all: Vec<_> = files.iter().collect();
    // (files, how many lists they are; `None` if they are too many)
    for (block, lists) in [
        (&all[..BLOCK_LISTS], Some(BLOCK_LISTS)),
        (&all[..], None),
        (&[&all[..BLOCK_LISTS], &all[..BLOCK_LISTS]].concat(), Some(BLOCK_LISTS)),
        (&[all[0], all[1], all[0]], Some(2)),
    ] {
        match (read(block), lists) {
            (Ok(read), Some(lists)) => {
                assert_eq!((read.names.len(), read.entries()), (lists, lists), "{} files", block.len());
            }
            (Err(error), None) => assert!(error.to_string().contains("17"), "{error}"),
            (read, lists) => panic!("{} files: {read:?} instead of {lists:?} lists", block.len()),
        }
    }
}

#[test]
fn a_network_is_blocked_as_soon_as_one_of_its_addresses_is() {
    let block = File::new(
        "any-of",
        "192.0.2.0/24
198.51.100.7
2001:db8::/32
255.255.255.255
",
    );
    let allow = File::new(
        "any-of-allow",
        "192.0.2.0/25
2001:db8:7::/48
",
    );
    let lists = addresses(&[&block], &[&allow]);
    for (network, expected) in [
        ("192.0.2.0/24", true),
        ("192.0.2.0/25", false),
        ("192.0.2.127/32", false),
        ("192.0.2.128/32", true),
        ("192.0.0.0/16", true),
        ("192.0.1.0/24", false),
        ("192.0.3.0/24", false),
        ("198.51.100.7/32", true),
        ("198.51.100.6/31", true),
        ("198.51.100.8/29", false),
        ("255.255.255.254/32", false),
        ("255.255.255.254/31", true),
        ("0.0.0.0/8", false),
        ("0.0.0.0/1", false),
        ("128.0.0.0/1", true),
        ("2001:db8:7::/48", false),
        ("2001:db8:7:1::/64", false),
        ("2001:db8:6::/47", true),
        ("2001:db9::/32", false),
        ("::/1", true),
        ("8000::/1", false),
    ] {
        assert_eq!(lists.block_any_of(&network.parse().expect("a network")), expected, "{network}");
    }
    assert!(!addresses(&[], &[&allow]).block_any_of(&"0.0.0.0/1".parse().expect("a network")), "nothing is blocked");
}

#[test]
fn half_a_million_ranges_are_read_and_put_in_force() {
    let mut text = String::new();
    let mut at = 0x0100_0000_u32;
    for number in 0..500_000_u32 {
        let end = at + number % 700;
        writeln!(text, "name {number}:{}-{}", Ipv4Addr::from_bits(at), Ipv4Addr::from_bits(end)).expect("memory");
        at = end + 2 + number.wrapping_mul(0x9e37_79b9) % 6000;
    }
    let file = File::new("half-a-million.p2p", &text);
    let begin = Instant::now();
    let lists = addresses(&[&file], &[]);
    let read = begin.elapsed();
    let handle = handle(lists.room().expect("possible").expect("a list"), 300_000);
    for torrent in 0..300_000_u32 {
        let mut info_hash = [0x5a; 20];
        info_hash[..4].copy_from_slice(&torrent.to_be_bytes());
        let peer = V4::key(torrent.wrapping_mul(0x9e37_79b9).to_be_bytes(), 7000);
        let announce =
            Announce { info_hash: &info_hash, peer, seeder: true, event: PeerEvent::None, owner: Owner::NONE };
        upsert::announce::<_, V4>(&handle.context(), &announce).expect("room");
    }
    let begin = Instant::now();
    lists.apply(&handle, &InForce::default(), &Counted::new(), true).expect("room");
    println!("read in {read:?}, put in force in {:?}", begin.elapsed());
    let mut at = 0x0100_0000_u32;
    for number in 0..500_000_u32 {
        let end = at + number % 700;
        for (address, list) in [(at, 1), (end, 1), (end + 1, 0), (at - 1, 0)] {
            assert_eq!(list_of(&handle, Ipv4Addr::from_bits(address)), list, "range {number}");
        }
        at = end + 2 + number.wrapping_mul(0x9e37_79b9) % 6000;
    }
    for torrent in 0..300_000_u32 {
        let blocked = list_of(&handle, Ipv4Addr::from_bits(torrent.wrapping_mul(0x9e37_79b9))) != 0;
        assert_eq!(count(&handle, torrent), u32::from(!blocked), "torrent {torrent}");
    }
}
