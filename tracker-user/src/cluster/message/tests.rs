use super::*;

const HEADER: Header = Header { node: 0x1122_3344_5566_7788, sequence: 7, shard: 5, time: 1_700_000_000_123 };

fn change(number: u8, kind: Kind, version: u8) -> Change {
    let mut info_hash = [number; 20];
    info_hash[0] = 5 << 2 | (number & 3);
    let peer = if version == 6 {
        [0x0102_0304_b80d_0120, u64::from(number), 0xe11a]
    } else {
        [0x1ae1_0000_0000 | u64::from(number) << 24 | 0xc0, 0, 0]
    };
    Change { peer, info_hash, kind: kind as u8, owner: number & 15, version, unused: 0 }
}

fn some() -> Vec<Change> {
    let kinds = [Kind::Leecher, Kind::Seeder, Kind::Completed, Kind::Left];
    [4, 6]
        .into_iter()
        .flat_map(|version| kinds.map(|kind| (kind, version)))
        .flat_map(|(kind, version)| (1..=3).map(move |number| change(number, kind, version)))
        .collect()
}

fn written(changes: &[Change]) -> Vec<u8> {
    let mut batch = Batch::default();
    for change in changes {
        batch.add(change);
    }
    let (bytes, count) = batch.take(&HEADER);
    assert!(batch.is_empty() && count == changes.len());
    bytes
}

/// A message of version 1: no time, no owners.
fn version_1(changes: &[Change]) -> Vec<u8> {
    let mut bytes = written(changes)[..18].to_vec();
    bytes[2] = 1;
    for change in changes {
        bytes.extend_from_slice(&[change.kind | if change.version == 6 { 128 } else { 0 }, 0, 1, 0]);
        bytes.extend_from_slice(&change.info_hash);
        append_peer(change, &mut bytes);
    }
    bytes
}

#[test]
fn what_is_written_is_read() {
    let all = some();
    assert_eq!(parse(&written(&all)), Ok((HEADER, all.clone())));
    assert_eq!(glance(&written(&all)), Ok((HEADER, all.len())));
    let first = Header { time: 0, ..HEADER };
    assert_eq!(glance(&version_1(&all)), Ok((first, all.len())));
    for one in all {
        let bytes = written(&[one]);
        assert_eq!(bytes.len(), 26 + 4 + if one.version == 6 { 38 } else { 26 } + 1);
        assert_eq!(parse(&bytes), Ok((HEADER, vec![one])));
    }
}

#[test]
fn the_bytes_are_those_that_are_documented() {
    let mut one = change(1, Kind::Left, 4);
    one.owner = 9;
    let expected = [
        &b"TC\x02\0\x88\x77\x66\x55\x44\x33\x22\x11\x07\0\0\0\x05\0"[..],
        &1_700_000_000_123_u64.to_le_bytes(),
        &[3, 0, 1, 0],
        &one.info_hash,
        &[0xc0, 0, 0, 1, 0xe1, 0x1a],
        &[9],
    ]
    .concat();
    assert_eq!(written(&[one]), expected);
}

#[test]
fn the_older_format_is_understood() {
    let all = some();
    let older: Vec<_> = all.iter().map(|change| Change { owner: 0, ..*change }).collect();
    assert_eq!(parse(&version_1(&all)), Ok((Header { time: 0, ..HEADER }, older)));
}

#[test]
fn the_last_change_of_a_peer_is_read_last() {
    use Kind::{Completed, Leecher, Left, Seeder};
    // (what becomes of a peer, what is read)
    let rows: [(&[Kind], &[Kind]); 12] = [
        (&[Left, Leecher], &[Leecher]),
        (&[Left, Seeder], &[Seeder]),
        (&[Left, Completed], &[Completed]),
        (&[Leecher, Left], &[Leecher, Left]),
        (&[Leecher, Left, Leecher], &[Leecher]),
        (&[Seeder, Leecher], &[Leecher]),
        (&[Leecher, Seeder], &[Leecher, Seeder]),
        (&[Leecher, Leecher, Leecher], &[Leecher]),
        (&[Leecher, Completed, Left], &[Leecher, Completed, Left]),
        // The download counts.
        (&[Completed, Seeder], &[Completed]),
        (&[Completed, Left, Seeder], &[Completed]),
        (&[Completed, Leecher], &[Leecher]),
    ];
    for (happened, expected) in rows {
        for version in [4, 6] {
            let mut batch = Batch::default();
            // Neither another peer nor the same one in another torrent is concerned.
            let other = |kind| Change { info_hash: [5 << 2; 20], ..change(1, kind, version) };
            let others = [change(2, Left, version), change(3, Left, 10 - version), other(Left)];
            others.iter().for_each(|change| _ = batch.add(change));
            for (number, kind) in (1..).zip(happened) {
                batch.add(&Change { owner: number, ..change(1, *kind, version) });
            }
            let (_, read) = parse(&batch.take(&HEADER).0).expect("a message");
            let peer = change(1, Left, version);
            let (of_peer, rest): (Vec<_>, Vec<_>) =
                read.into_iter().partition(|change| (change.peer, change.info_hash) == (peer.peer, peer.info_hash));
            let kinds: Vec<_> = of_peer.iter().filter_map(|change| Kind::of_number(change.kind.into())).collect();
            assert_eq!((&kinds[..], rest.len()), (expected, 3), "{happened:?}, IPv{version}");
            let last = of_peer.last().map(|change| usize::from(change.owner));
            assert_eq!(last, Some(happened.len()), "{happened:?}, IPv{version}: its owner");
        }
    }
}

#[test]
fn replaced_changes_make_room() {
    let mut batch = Batch::default();
    for turn in 0..1000 {
        assert!(!batch.add(&change(1, Kind::ALL[3 - turn % 4], 4)), "{turn}");
    }
    let (bytes, count) = batch.take(&HEADER);
    assert!(count <= 4 && bytes.len() < 200, "{count}");
}

#[test]
fn messages_are_full_before_they_are_too_long() {
    for version in [4, 6] {
        let mut batch = Batch::default();
        let mut added = 1;
        while !batch.add(&change(added as u8, Kind::ALL[added % 4], version)) {
            added += 1;
        }
        let (bytes, count) = batch.take(&HEADER);
        assert!(count == added && bytes.len() <= MESSAGE_BYTES && bytes.len() > MESSAGE_BYTES - 2 * 44, "{version}");
        assert!(count >= if version == 4 { 48 } else { 32 }, "{version}: {count}");
    }
}

#[test]
fn what_is_no_message_is_refused_as_a_whole() {
    let good = written(&some());
    let with = |at: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[at] = value;
        bytes
    };
    let behind = |more: &[u8]| [&good[..], more].concat();
    let mut foreign_shard = change(1, Kind::Seeder, 4);
    foreign_shard.info_hash[0] = 6 << 2;
    let mut without_port = change(1, Kind::Seeder, 4);
    without_port.peer[0] &= 0xffff_ffff;
    let rows: [(&str, Vec<u8>, Wrong); 16] = [
        ("nothing", vec![], Wrong::Foreign),
        ("one byte", b"T".to_vec(), Wrong::Foreign),
        ("text", b"hello, world".to_vec(), Wrong::Foreign),
        ("a bencoded announce", b"d8:intervali1800ee".to_vec(), Wrong::Foreign),
        ("no version", b"TC".to_vec(), Wrong::Foreign),
        ("version 0", with(2, 0), Wrong::Version),
        ("a later version", with(2, VERSION + 1), Wrong::Version),
        ("flags", with(3, 1), Wrong::Malformed),
        ("shard 64", with(16, 64), Wrong::Malformed),
        ("another shard", with(16, 6), Wrong::Malformed),
        ("behind the shard", with(17, 1), Wrong::Malformed),
        ("kind 4", with(26, 4), Wrong::Malformed),
        ("behind the kind", with(27, 1), Wrong::Malformed),
        ("an empty section", behind(&[0, 0, 0, 0]), Wrong::Malformed),
        ("a torrent of another shard", written(&[foreign_shard]), Wrong::Malformed),
        ("port 0", written(&[without_port]), Wrong::Malformed),
    ];
    for (name, bytes, wrong) in rows {
        assert_eq!(parse(&bytes), Err(wrong), "{name}");
        let in_a_change = ["another shard", "a torrent of another shard", "port 0"].contains(&name);
        assert_eq!(glance(&bytes).err(), (!in_a_change).then_some(wrong), "{name}, at a glance");
    }
    for length in 3..good.len() {
        // Cut off between two sections it is a shorter message.
        if let Ok((_, changes)) = parse(&good[..length]) {
            assert!(changes.len().is_multiple_of(3) && !changes.is_empty(), "{length}");
        }
    }
    assert_eq!(parse(&written(&[])), Err(Wrong::Malformed), "no change");
    assert_eq!(parse(&behind(&vec![0; 4000])), Err(Wrong::Malformed), "too long");
}
