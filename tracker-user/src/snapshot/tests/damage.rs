//! Whatever becomes of a file: it is noticed, and no more is lost than has to be.

use super::*;
use crate::snapshot::{
    columns::{COMPLETED_MAX, Peers},
    format::{BLOCK_BYTES, BlockHeader, COLUMNS_MAX, HEADER_BYTES, Unfit, payload_checksum},
};

/// A snapshot of several blocks.
fn several() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &HEADER).expect("memory");
    let mut random = Sequence(7);
    let mut peers = Peers::default();
    for number in 0..4000 {
        peers.push::<V4>(
            V4::key(random.next(u32::MAX).to_be_bytes(), 1 + number),
            State { age: random.next(45), leecher: number % 3 == 0, completed: number % 5 == 0 },
        );
    }
    for torrent in 0..30 {
        let torrent = Torrent { info_hash: info_hash(torrent), completed: torrent, idle: 1 };
        writer.add(&torrent, &peers, &Peers::default()).expect("memory");
    }
    writer.finish().expect("memory").0
}

/// Where blocks begin, and where the last one does.
fn beginnings(bytes: &[u8]) -> Vec<usize> {
    let (mut at, mut beginnings) = (HEADER_BYTES, Vec::new());
    while at < bytes.len() {
        beginnings.push(at);
        let header = BlockHeader::decode(bytes[at..].first_chunk().expect("a header"), HEADER.id).expect("a header");
        at += BLOCK_BYTES + header.packed as usize;
    }
    beginnings
}

/// A snapshot of a few torrents and peers.
fn small() -> Vec<u8> {
    let store = store_of(SOME);
    let handle = store.handle(CounterSet::Udp);
    for number in 0..12 {
        let event = if number % 2 == 0 { PeerEvent::Completed } else { PeerEvent::None };
        let peer = Peer { number, v6: number % 3 == 0, minutes_ago: 0, seeder: number % 4 < 2, event };
        peer.announce(&handle, number % 5);
    }
    snapshot_of(&store, HEADER)
}

/// Reads something that may have become anything: what is wrong with it, and blocks.
fn read_anything(bytes: &[u8]) -> (Option<Unfit>, Vec<Block>, Vec<Damage>) {
    match Reader::new(Cursor::new(bytes)).expect("memory") {
        Err(unfit) => (Some(unfit), Vec::new(), Vec::new()),
        Ok(reader) => {
            assert_eq!(*reader.header(), HEADER, "a wrong header was believed");
            let (blocks, damages) = read(bytes);
            (None, blocks, damages)
        }
    }
}

#[test]
fn every_change_of_a_byte_is_noticed() {
    let sound = small();
    let (_, blocks, damages) = read_anything(&sound);
    assert!(blocks.len() == 1 && damages.is_empty());
    for at in 0..sound.len() {
        for change in [0x01, 0x80, 0xff, sound[at]] {
            let mut bytes = sound.clone();
            bytes[at] ^= change;
            if bytes == sound {
                continue;
            }
            let (unfit, read, damages) = read_anything(&bytes);
            assert!(unfit.is_some() || !damages.is_empty(), "byte {at} ^ {change:#x} was not noticed");
            assert!(read.is_empty() || read == blocks, "byte {at} ^ {change:#x}: wrong contents");
        }
    }
}

#[test]
fn every_end_that_comes_too_early_is_noticed() {
    let sound = small();
    for length in 0..sound.len() {
        let (unfit, _, damages) = read_anything(&sound[..length]);
        assert!(unfit.is_some() || !damages.is_empty(), "{length} of {} bytes", sound.len());
    }
    assert_eq!(read_anything(&[]).0, Some(Unfit::Empty));
}

#[test]
fn only_damaged_blocks_are_lost() {
    let sound = several();
    let blocks = read(&sound).0;
    let beginnings = beginnings(&sound);
    let count = blocks.len();
    assert!(count >= 3 && beginnings.len() == count + 1, "{count}");
    let [first, second, third] = [beginnings[0], beginnings[1], beginnings[2]];
    let last = beginnings[count];
    let without = |lost: usize| [&blocks[..lost], &blocks[lost + 1..]].concat();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = sound.clone();
        change(&mut bytes);
        bytes
    };
    let mut other = Writer::new(Vec::new(), &Header { id: 1, ..HEADER }).expect("memory");
    other.add(&Torrent::default(), &Peers::default(), &Peers::default()).expect("memory");
    let other = other.finish().expect("memory").0;
    let at = |number: usize| number as u64;
    // What was done, what is left, what is said.
    type Row<'r> = (&'static str, Vec<u8>, Vec<Block>, Vec<Damage>);
    let rows: Vec<Row<'_>> = vec![
        ("nothing", sound.clone(), blocks.clone(), vec![]),
        (
            "a byte in a block",
            changed(&|bytes| bytes[second + 99] ^= 1),
            without(1),
            vec![Damage::Contents { block: 1, at: at(second) }],
        ),
        (
            "a byte in a block's header",
            changed(&|bytes| bytes[second + 9] ^= 1),
            without(1),
            vec![Damage::Header { at: at(second) }, Damage::Missing { first: 1, next: 2 }],
        ),
        (
            "a block's mark",
            changed(&|bytes| bytes[first] ^= 1),
            without(0),
            vec![Damage::Header { at: at(first) }, Damage::Missing { first: 0, next: 1 }],
        ),
        (
            "a block is gone",
            [&sound[..second], &sound[third..]].concat(),
            without(1),
            vec![Damage::Missing { first: 1, next: 2 }],
        ),
        (
            "a block is there twice",
            [&sound[..second], &sound[first..]].concat(),
            blocks.clone(),
            vec![Damage::Header { at: at(second) }],
        ),
        (
            "a hole of zeros, as a crash leaves",
            changed(&|bytes| bytes[second..third + 50].fill(0)),
            [&blocks[..1], &blocks[3..]].concat(),
            vec![Damage::Header { at: at(second) }, Damage::Missing { first: 1, next: 3 }],
        ),
        (
            "a block of another file",
            [&sound[..second], &other[HEADER_BYTES..], &sound[second..]].concat(),
            blocks.clone(),
            vec![Damage::Header { at: at(second) }],
        ),
        (
            "cut off in a block",
            sound[..third - 1].to_vec(),
            blocks[..1].to_vec(),
            vec![Damage::CutOff { at: at(third - 1) }],
        ),
        (
            "cut off between blocks",
            sound[..third].to_vec(),
            blocks[..2].to_vec(),
            vec![Damage::CutOff { at: at(third) }],
        ),
        ("without its end", sound[..last].to_vec(), blocks.clone(), vec![Damage::CutOff { at: at(last) }]),
        (
            "longer than it was",
            [&sound[..], b"x"].concat(),
            blocks.clone(),
            vec![Damage::Trailing { at: at(sound.len()) }],
        ),
        (
            "wrong totals",
            changed(&|bytes| bytes[last + BLOCK_BYTES] ^= 1),
            blocks.clone(),
            vec![Damage::Contents { block: count as u32, at: at(last) }],
        ),
        ("another end", [&sound[..third], &other_end(2)].concat(), blocks[..2].to_vec(), vec![Damage::Totals]),
    ];
    for (name, bytes, left, said) in rows {
        let (read, damages) = read(&bytes);
        assert_eq!(damages, said, "{name}");
        assert!(read == left, "{name}: {} blocks are left", read.len());
        assert!(damages.iter().all(|damage| !damage.to_string().is_empty()));
    }
}

/// The last block of a file that says that it holds nothing.
fn other_end(number: u32) -> Vec<u8> {
    let (header, totals) = BlockHeader::last(number, &crate::snapshot::Totals::default(), HEADER.id);
    [&header.encode(HEADER.id)[..], &totals].concat()
}

#[test]
fn files_of_others_and_of_later_trackers_are_told_apart() {
    let newer = |version: u32| {
        let mut bytes = HEADER.encode().to_vec();
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        bytes
    };
    let mut flags = HEADER.encode().to_vec();
    flags[12] = 2;
    for (name, bytes, unfit) in [
        ("nothing", vec![], Unfit::Empty),
        ("a byte", vec![0x93], Unfit::Foreign),
        ("text", b"0123456789012345678901234567890123456789:1:1\n".to_vec(), Unfit::Foreign),
        ("zeros", vec![0; 100_000], Unfit::Foreign),
        ("a beginning", HEADER.encode()[..20].to_vec(), Unfit::Header),
        ("a newer one", newer(2), Unfit::Newer(2)),
        ("a damaged version", newer(0x8000_0001), Unfit::Header),
        ("version 0", newer(0), Unfit::Header),
        ("flags", flags, Unfit::Header),
    ] {
        assert_eq!(Reader::new(Cursor::new(bytes)).expect("memory").err(), Some(unfit), "{name}");
    }
}

/// A file with one block of these columns, with right checksums whatever they are.
fn with_columns(header: BlockHeader, columns: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(columns, 1).expect("memory");
    let header = BlockHeader { packed: packed.len() as u32, checksum: payload_checksum(HEADER.id, &packed), ..header };
    [&HEADER.encode()[..], &header.encode(HEADER.id), &packed, &other_end(1)].concat()
}

#[test]
fn contents_that_no_tracker_writes_are_refused_although_their_checksum_is_right() {
    let mut peers = Peers::default();
    peers.push::<V4>(V4::key([1, 2, 3, 4], 5), State { age: 1, leecher: false, completed: false });
    let torrents = vec![(Torrent { info_hash: [1; 20], completed: COMPLETED_MAX, idle: 0 }, [1, 0])];
    let block = Block { torrents, v4: peers, v6: Peers::default() };
    let mut columns = Vec::new();
    block.encode(&mut columns);
    let good = BlockHeader {
        last: false,
        number: 0,
        torrents: 1,
        peers_v4: 1,
        peers_v6: 0,
        unpacked: columns.len() as u32,
        packed: 0,
        checksum: 0,
    };
    assert!(read(&with_columns(good, &columns)).0 == [block], "it is not the packing that is wrong");
    let changed = |at: usize, to: &[u8]| {
        let mut columns = columns.clone();
        columns[at..at + to.len()].copy_from_slice(to);
        columns
    };
    let longer = |bytes: usize| BlockHeader { unpacked: bytes as u32, ..good };
    let rows: Vec<(&str, BlockHeader, Vec<u8>)> = vec![
        ("more downloads than can be counted", good, changed(20, &(COMPLETED_MAX + 1).to_le_bytes())),
        ("two peers that are one", good, changed(28, &[2])),
        ("no peer that is one", good, changed(28, &[0])),
        ("an IPv6 peer that is not there", good, changed(30, &[1])),
        ("port 0", good, changed(36, &[0, 0])),
        ("an unknown state", good, changed(38, &[1, 0x80])),
        ("too few columns", good, columns[1..].to_vec()),
        ("too many columns", good, [&columns[..], &[0]].concat()),
        ("a longer length", longer(columns.len() + 1), columns.clone()),
        ("a shorter length", longer(columns.len() - 1), columns.clone()),
        ("more torrents", BlockHeader { torrents: u32::MAX, ..good }, columns.clone()),
        ("more peers", BlockHeader { peers_v6: u32::MAX, ..good }, columns.clone()),
        ("a bomb", longer(COLUMNS_MAX), vec![0; COLUMNS_MAX * 64]),
    ];
    for (name, header, columns) in rows {
        let (blocks, damages) = read(&with_columns(header, &columns));
        assert!(blocks.is_empty(), "{name}");
        assert!(damages.contains(&Damage::Contents { block: 0, at: HEADER_BYTES as u64 }), "{name}: {damages:?}");
    }
    // Longer than any: not even read.
    let header = BlockHeader { unpacked: COLUMNS_MAX as u32 + 1, ..good };
    assert_eq!(read(&with_columns(header, &columns)).1.first(), Some(&Damage::Header { at: HEADER_BYTES as u64 }));
}
