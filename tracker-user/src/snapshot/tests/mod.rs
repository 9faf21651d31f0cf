//! Snapshots of stores that tests have made, and what they hold.

mod contents;
mod converting;
mod copying;
mod damage;
mod directories;
mod live;
mod measure;

use super::{
    columns::{Block, State, Torrent},
    format::Header,
    read::{Damage, Reader, Unpacker},
    walk::Walk,
    write::Writer,
};
use crate::store::{CounterSet, Handle, Store, clock, fixture, sizes::Capacity, sizes::Sizes};
use std::{
    collections::BTreeMap,
    fs,
    io::Cursor,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};
use tracker_common::{
    id::InfoHash,
    store::{
        family::{Family, V4, V6},
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    },
};

/// The second that the stores' clocks show.
const NOW: u32 = 1_700_000_000;
const HEADER: Header = Header { peers: true, taken_at: NOW as u64, id: 0x0123_4567_89ab_cdef };
const SOME: Capacity = Capacity { torrents: 2000, peers_v4: 40_000, peers_v6: 20_000 };

fn store_of(capacity: Capacity) -> Arc<Store> {
    let store = fixture::store_of(&Sizes::new(&capacity).expect("small"));
    clock::set(store.settings(), NOW);
    store
}

/// Numbers that look random and are the same every time.
struct Sequence(u64);

impl Sequence {
    fn next(&mut self, below: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (((self.0 >> 32) * u64::from(below)) >> 32) as u32
    }
}

/// What is known of a torrent: downloads, minutes idle, peers by address and port.
type Known = BTreeMap<InfoHash, (u32, u32, BTreeMap<Vec<u8>, State>)>;

fn info_hash(number: u32) -> InfoHash {
    let mut info_hash = [0x5a; 20];
    info_hash[8..12].copy_from_slice(&number.to_be_bytes());
    info_hash
}

/// A peer, announced so many minutes ago.
#[derive(Clone, Copy)]
struct Peer {
    number: u32,
    v6: bool,
    minutes_ago: u32,
    seeder: bool,
    event: PeerEvent,
}

impl Peer {
    fn address(self) -> Vec<u8> {
        // Such as stands nowhere by accident.
        let [a, b, c, d] = (self.number + 1).wrapping_mul(0x9e37_79b1).to_be_bytes();
        let port = [0x1a, 0xe1 ^ a];
        if self.v6 {
            [&[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, a, b, c, d][..], &port].concat()
        } else {
            [&[a, b, c, d][..], &port].concat()
        }
    }

    fn announce(self, handle: &Handle, torrent: u32) {
        clock::set(handle.store().settings(), NOW - self.minutes_ago * 60);
        let address = self.address();
        let info_hash = &info_hash(torrent);
        if self.v6 {
            let (address, port) = address.split_first_chunk().expect("16 bytes");
            self.store::<V6>(handle, info_hash, V6::key(*address, u16::from_be_bytes([port[0], port[1]])));
        } else {
            let (address, port) = address.split_first_chunk().expect("4 bytes");
            self.store::<V4>(handle, info_hash, V4::key(*address, u16::from_be_bytes([port[0], port[1]])));
        }
        clock::set(handle.store().settings(), NOW);
    }

    fn store<F: Family>(self, handle: &Handle, info_hash: &InfoHash, peer: F::Key) {
        let announce = Announce { info_hash, peer, seeder: self.seeder, event: self.event, owner: Owner::NONE };
        upsert::announce::<_, F>(&handle.context(), &announce).expect("there is room");
    }
}

/// Fills a store with swarms of all sizes, and says what is in it.
fn fill(store: &Arc<Store>, seed: u64) -> Known {
    let handle = store.handle(CounterSet::Udp);
    let mut random = Sequence(seed);
    let mut known = Known::new();
    // From a few peers in the record over a list to many partitions.
    let sizes = [1, 1, 2, 3, 5, 6, 9, 20, 100, 256, 257, 400, 1300, 5000];
    for torrent in 0..140_u32 {
        let (completed, idle, peers) = known.entry(info_hash(torrent)).or_default();
        *idle = u32::MAX;
        let size = sizes[torrent as usize % sizes.len()];
        let size = if torrent >= 28 { size.min(256) } else { size };
        // The first ones announced longest ago, so that an old minute never follows a new one.
        for number in 0..size {
            let v6 = random.next(3) == 0;
            let minutes_ago = (size - number) * 40 / size;
            let seeder = random.next(2) == 0;
            let event = [PeerEvent::None, PeerEvent::Started, PeerEvent::Completed][random.next(3) as usize];
            let mut peer = Peer { number: torrent << 16 | number, v6, minutes_ago, seeder, event };
            peer.announce(&handle, torrent);
            let counted = seeder && event == PeerEvent::Completed;
            *completed += u32::from(counted);
            let mut state = State { age: minutes_ago, leecher: !seeder, completed: counted };
            if random.next(10) == 0 {
                // It looks again, and some data have gone.
                (peer.seeder, peer.event, state.leecher) = (false, PeerEvent::None, true);
                peer.announce(&handle, torrent);
            }
            peers.insert(peer.address(), state);
            *idle = minutes_ago;
        }
    }
    known
}

fn snapshot_of(store: &Arc<Store>, header: Header) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), &header).expect("memory");
    assert!(Walk::new(store, header.peers).run(&mut writer, &mut || true).expect("memory"));
    writer.finish().expect("memory").0
}

/// All that a snapshot holds, and what is wrong with it.
fn read(bytes: &[u8]) -> (Vec<Block>, Vec<Damage>) {
    let reader = Reader::new(Cursor::new(bytes)).expect("memory").expect("a header");
    let mut unpacker = Unpacker::new().expect("memory");
    let (mut blocks, mut damages) = (Vec::new(), Vec::new());
    for block in reader {
        match block.and_then(|packed| unpacker.unpack(&packed)) {
            Ok(block) => blocks.push(block),
            Err(damage) => damages.push(damage),
        }
    }
    (blocks, damages)
}

fn known_in(blocks: &[Block]) -> Known {
    let mut known = Known::new();
    for block in blocks {
        for (torrent, [v4, v6]) in block.records() {
            let Torrent { info_hash, completed, idle } = *torrent;
            let entry = known.entry(info_hash).or_insert_with(|| (completed, idle, BTreeMap::new()));
            assert_eq!((entry.0, entry.1), (completed, idle), "all records of a torrent say the same");
            let mut peers = Vec::new();
            for (key, state) in block.v4.of::<V4>(v4.0, v4.1) {
                let mut address = Vec::new();
                <V4 as super::columns::Compact>::append(key, &mut address);
                peers.push((address, state));
            }
            for (key, state) in block.v6.of::<V6>(v6.0, v6.1) {
                let mut address = Vec::new();
                <V6 as super::columns::Compact>::append(key, &mut address);
                peers.push((address, state));
            }
            entry.2.extend(peers);
        }
    }
    known
}

/// What a snapshot without damage holds.
fn known_of(bytes: &[u8]) -> Known {
    let (blocks, damages) = read(bytes);
    assert_eq!(damages, []);
    known_in(&blocks)
}

/// A directory of this test's own, removed with it.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tracker-snapshot-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("writable");
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("it is there").flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
