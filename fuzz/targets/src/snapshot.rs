//! Snapshot files, and opentracker's state files. Whatever is in them, they are read to their end, take
//! bounded memory, and what comes into a store hangs together.

use crate::input::Input;
use std::{io::Cursor, sync::Arc};
use tracker::{
    snapshot::{
        columns::{Block, Peers, State, Torrent},
        format::{BlockHeader, COLUMNS_MAX, Header, payload_checksum},
        load::load_from,
        read::{Reader, Unpacker},
        restore::{Restorer, Rules},
        statedump,
        write::Writer,
    },
    store::{
        CounterSet, Store,
        check::{Patience, check},
        clock, keys,
        sizes::{Capacity, Sizes},
        sweep::Timeouts,
    },
};
use tracker_common::store::family::{V4, V6};

const HEADER: Header = Header { peers: true, taken_at: 1_700_000_000, id: 0x0123_4567_89ab_cdef };
const TIMEOUTS: Timeouts = Timeouts { peer: 8000, torrent: 45, torrent_completed: u32::MAX };

/// Torrents that the store has room for.
const TORRENTS: u64 = 40;

/// The first byte says what the rest is: a file, the columns of a block, a block's compressed bytes
/// behind headers with the right checksums, or lines of a state file.
///
/// # Panics
/// When something is read that is more than there can be, or the store does not hang together.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.byte() % 4 {
        0 => file(input.0),
        1 => columns(&mut input),
        2 => packed(&mut input),
        _ => lines(input.0),
    }
}

fn store() -> Arc<Store> {
    let sizes = Sizes::new(&Capacity { torrents: TORRENTS, peers_v4: 300, peers_v6: 100 }).expect("small");
    let store = Arc::new(Store::anonymous(&sizes).expect("small"));
    keys::set(&store, None).expect("random numbers");
    clock::set(store.settings(), 1_700_000_000);
    store
}

fn assert_sound(store: &Arc<Store>) {
    let report = check(&store.handle(CounterSet::Expiry).context(), Patience::STILL);
    assert_eq!(report.faults, []);
    assert!(report.torrents <= TORRENTS, "{} torrents", report.torrents);
}

fn file(bytes: &[u8]) {
    let Ok(reader) = Reader::new(Cursor::new(bytes)).expect("memory does not fail") else { return };
    let mut unpacker = Unpacker::new().expect("memory");
    let mut blocks = 0;
    for packed in reader {
        // A byte that is looked at once cannot be damaged in many ways.
        blocks += 1;
        assert!(blocks <= bytes.len() + 2, "it goes on and on");
        if let Ok(block) = packed.and_then(|packed| unpacker.unpack(&packed)) {
            assert!(block.columns() <= COLUMNS_MAX);
        }
    }
    let reader = Reader::new(Cursor::new(bytes)).expect("memory").expect("the same again");
    let store = store();
    load_from(reader, &store, TIMEOUTS, true);
    assert_sound(&store);
}

fn columns(input: &mut Input<'_>) {
    let [torrents, peers_v4, peers_v6] = [(); 3].map(|()| u32::from(input.byte()));
    let header = BlockHeader {
        last: false,
        number: 0,
        torrents,
        peers_v4,
        peers_v6,
        unpacked: input.0.len() as u32,
        packed: 0,
        checksum: 0,
    };
    let Some(block) = Block::decode(&header, input.0) else { return };
    let mut again = Vec::new();
    block.encode(&mut again);
    assert_eq!(again, input.0, "a block is written as it is read");
    let store = store();
    let mut restorer = Restorer::new(&store, Rules { timeouts: TIMEOUTS, elapsed: 0, with_peers: true });
    restorer.block(&block);
    let report = restorer.report();
    let peers = report.peers + report.peers_expired + report.peers_refused;
    assert!(peers <= u64::from(peers_v4 + peers_v6), "{report:?} of {header:?}");
    assert_sound(&store);
}

fn packed(input: &mut Input<'_>) {
    let [torrents, peers_v4, peers_v6] = [(); 3].map(|()| u32::from(input.byte()));
    let unpacked = u32::from_le_bytes([(); 4].map(|()| input.byte())) % (2 * COLUMNS_MAX as u32);
    let header = BlockHeader {
        last: false,
        number: 0,
        torrents,
        peers_v4,
        peers_v6,
        unpacked,
        packed: input.0.len() as u32,
        checksum: payload_checksum(HEADER.id, input.0),
    };
    file(&[&HEADER.encode()[..], &header.encode(HEADER.id), input.0].concat());
}

fn lines(bytes: &[u8]) {
    const NOW: u64 = 28_333_333;
    let mut last = 0;
    let taken = statedump::read(bytes, NOW, |number, line| {
        assert!(number > last, "lines are counted");
        last = number;
        let Ok(line) = line else { return };
        let mut text = Vec::new();
        line.write(&mut text).expect("memory");
        assert_eq!(statedump::Line::parse(text.trim_ascii_end(), NOW), Ok(Some(line)), "it is read as it is written");
    });
    taken.expect("memory does not fail");
}

/// Inputs to begin with.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let torrent = |number: u8| Torrent { info_hash: [number; 20], completed: number.into(), idle: 3 };
    let state = |age, leecher, completed| State { age, leecher, completed };
    let (mut v4, mut v6) = (Peers::default(), Peers::default());
    for number in 0..9_u8 {
        v4.push::<V4>(V4::key([192, 0, 2, number], 6881), state(number.into(), number.is_multiple_of(2), number > 5));
        v6.push::<V6>(V6::key([number; 16], 6881), state(number.into(), number.is_multiple_of(2), number > 5));
    }
    let mut writer = Writer::new(Vec::new(), &HEADER).expect("memory");
    writer.add(&torrent(1), &v4, &v6).expect("memory");
    writer.add(&torrent(2), &Peers::default(), &Peers::default()).expect("memory");
    let (whole, _) = writer.finish().expect("memory");
    let mut block = Block { torrents: vec![(torrent(1), [9, 4]), (torrent(2), [0, 5])], v4, v6 };
    let mut columns = vec![1, 2, 9, 9];
    block.encode(&mut columns);
    block.clear();
    let cut = whole[..whole.len() - 30].to_vec();
    let packed = &whole[HEADER.encode().len() + 36..whole.len() - 60];
    let length = (columns.len() as u32 - 4).to_le_bytes();
    vec![
        [&[0][..], &whole].concat(),
        [&[0][..], &cut].concat(),
        columns,
        [&[2, 2, 9, 9][..], &length, packed].concat(),
        b"\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:28333333:7\n0123456789abcdef0123456789abcdef01234567:1:00\nx:1:1\n"
            .to_vec(),
    ]
}
