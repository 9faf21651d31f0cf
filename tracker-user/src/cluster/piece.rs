//! A snapshot of the live store for another node, in pieces: what is asked for, and what is answered.
//!
//! Whoever is asked keeps nothing in mind: a piece says where the next one begins. Torrents stay in their
//! records, and of a large swarm, which takes several pieces, the peers are given in an order that does
//! not depend on where they stand and who else is there. What changes meanwhile comes by messages, so all
//! that was there at the beginning, and has not left, arrives.
//!
//! ```text
//! request  "TQ", version, 0; where to begin: 4 bytes the record, 4 bytes which of its peers;
//!          8 bytes shards, a bit each; 2 bytes age in minutes of the oldest peers wanted
//! piece    "TP", version, 0; 8 bytes where the next one begins, all ones at the end;
//!          4 bytes each: torrents, IPv4 peers, IPv6 peers, bytes of the columns;
//!          the columns as in a snapshot's file, packed by zstd
//! ```

use super::message::shard_of;
use crate::{
    snapshot::{
        columns::{Block, Compact, Peers, RECORD_PEERS, Torrent, USUAL_COLUMNS},
        format::{BlockHeader, COLUMNS_MAX},
        walk::Walk,
    },
    store::Store,
};
use std::{
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, LazyLock},
};
use tracker_common::store::{
    family::{V4, V6},
    index,
    layout::SWARM_ALIVE,
};

const VERSION: u8 = 1;
const ASK: [u8; 4] = [b'T', b'Q', VERSION, 0];
const PIECE: [u8; 4] = [b'T', b'P', VERSION, 0];
const PIECE_HEADER: usize = 4 + 8 + 4 * 4;

/// There is no more.
const END: u64 = u64::MAX;

/// Records that are looked at for one piece: of a store with few torrents wanted, a piece may be empty.
const RECORDS: u32 = 1 << 17;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Where to begin: a record in the lower half, the place of its first peer in the upper; 0 at
    /// first.
    pub from: u64,
    /// Shards, a bit each.
    pub shards: u64,
    /// Minutes since the last announce of the oldest peers that are wanted.
    pub age: u16,
}

impl Ask {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&ASK[..], &self.from.to_le_bytes(), &self.shards.to_le_bytes(), &self.age.to_le_bytes()].concat()
    }

    /// From these bytes; `None` if they are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; 22] = bytes.try_into().ok()?;
        let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let age = u16::from_le_bytes([bytes[20], bytes[21]]);
        (bytes[..4] == ASK).then_some(Self { from: word(4)?, shards: word(12)?, age })
    }
}

/// The piece that was asked for, from a store.
#[must_use]
pub fn piece(store: &Arc<Store>, ask: &Ask) -> Vec<u8> {
    let mut walk = Walk::new(store, true);
    let mut block = Block::default();
    let (mut record, mut from) = (ask.from as u32, (ask.from >> 32) as u32);
    let mut looked_at = 0;
    let next = loop {
        let Some(swarm) = index::next(|number| store.bucket(number), record, u32::MAX) else { break END };
        looked_at += 1 + (swarm.id.number() - record) / 64;
        if looked_at > RECORDS {
            break u64::from(swarm.id.number());
        }
        if swarm.id.number() != record {
            from = 0;
        }
        record = swarm.id.number();
        let wanted = ask.shards >> shard_of(&swarm.record.info_hash()) & 1 != 0;
        let alive = swarm.record.active.load() & SWARM_ALIVE != 0;
        let Some((torrent, v4, v6)) = (wanted && alive).then(|| walk.whole(swarm)).flatten() else {
            (record, from) = (record + 1, 0);
            continue;
        };
        let ordered = from > 0 || v4.len() + v6.len() > RECORD_PEERS;
        let v4 = wanted_of::<V4>(v4, ask.age, from, ordered);
        let v6 = wanted_of::<V6>(v6, ask.age, from, ordered);
        let whole = v4.len() + v6.len();
        let mut done = 0;
        while done < whole && (!ordered || block.columns() < USUAL_COLUMNS) {
            done += add(&mut block, &torrent, (&v4, &v6), done);
        }
        if whole == 0 && torrent.completed > 0 && ask.age >= 480 {
            block.torrents.push((torrent, [0, 0]));
        }
        if done < whole {
            let next = if done < v4.len() { place_of::<V4>(&v4, done) } else { place_of::<V6>(&v6, done - v4.len()) };
            break u64::from(record) | u64::from(next) << 32;
        }
        (record, from) = (record + 1, 0);
        if block.columns() >= USUAL_COLUMNS {
            break u64::from(record);
        }
    };
    encode(&block, next)
}

/// Adds peers from number `done` on, as many as one record has room for; returns how many.
fn add(block: &mut Block, torrent: &Torrent, (v4, v6): (&Peers, &Peers), done: usize) -> usize {
    let first_v4 = done.min(v4.len());
    let count_v4 = (v4.len() - first_v4).min(RECORD_PEERS);
    let first_v6 = done.saturating_sub(v4.len());
    // Behind the last of IPv4.
    let rest = first_v4 + count_v4 == v4.len();
    let count_v6 = if rest { (v6.len() - first_v6).min(RECORD_PEERS) } else { 0 };
    block.torrents.push((*torrent, [count_v4 as u16, count_v6 as u16]));
    block.v4.extend::<V4>(v4, first_v4, count_v4);
    block.v6.extend::<V6>(v6, first_v6, count_v6);
    count_v4 + count_v6
}

/// What makes places, as long as this process runs.
static PLACES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// Where a peer stands among those of a swarm that takes several pieces: anywhere, but always there, IPv4
/// in the first half. Those that share a place are few, and may be given twice.
fn place<F: Compact>(peer: F::Key) -> u32 {
    let mut bytes = Vec::with_capacity(18);
    F::append(peer, &mut bytes);
    let half = if bytes.len() == 18 { 1 << 31 } else { 0 };
    PLACES.hash_one(&bytes) as u32 >> 1 | half
}

fn place_of<F: Compact>(peers: &Peers, number: usize) -> u32 {
    peers.of::<F>(number, 1).next().map_or(u32::MAX, |(peer, _)| place::<F>(peer))
}

/// Those that have announced within so many minutes, from a place on; by their places where these matter.
fn wanted_of<F: Compact>(peers: &Peers, age: u16, from: u32, ordered: bool) -> Peers {
    let young = peers.of::<F>(0, peers.len()).filter(|(_, state)| state.age <= age.into());
    let mut wanted = Peers::default();
    if ordered {
        let placed = young.map(|(peer, state)| (place::<F>(peer), peer, state));
        let mut placed: Vec<_> = placed.filter(|(place, ..)| *place >= from).collect();
        placed.sort_unstable_by_key(|(place, ..)| *place);
        placed.into_iter().for_each(|(_, peer, state)| wanted.push::<F>(peer, state));
    } else {
        young.for_each(|(peer, state)| wanted.push::<F>(peer, state));
    }
    wanted
}

fn encode(block: &Block, next: u64) -> Vec<u8> {
    let mut columns = Vec::new();
    block.encode(&mut columns);
    let packed = zstd::bulk::compress(&columns, 1).unwrap_or_default();
    let counts = [block.torrents.len(), block.v4.len(), block.v6.len(), columns.len()];
    let mut bytes = Vec::with_capacity(PIECE_HEADER + packed.len());
    bytes.extend_from_slice(&PIECE);
    bytes.extend_from_slice(&next.to_le_bytes());
    counts.iter().for_each(|count| bytes.extend_from_slice(&(*count as u32).to_le_bytes()));
    bytes.extend_from_slice(&packed);
    bytes
}

/// What is in a piece, and where the next one begins, if there is one; `None` if it is none.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<(Block, Option<u64>)> {
    let (header, packed) = bytes.split_at_checked(PIECE_HEADER)?;
    let next = u64::from_le_bytes(*header.get(4..)?.first_chunk()?);
    let count = |number: usize| Some(u32::from_le_bytes(*header.get(12 + number * 4..)?.first_chunk()?));
    let unpacked = count(3)?;
    if header[..4] != PIECE || unpacked as usize > COLUMNS_MAX {
        return None;
    }
    let columns = zstd::bulk::decompress(packed, unpacked as usize).ok()?;
    let header = BlockHeader {
        last: false,
        number: 0,
        torrents: count(0)?,
        peers_v4: count(1)?,
        peers_v6: count(2)?,
        unpacked,
        packed: packed.len() as u32,
        checksum: 0,
    };
    let block = (columns.len() == unpacked as usize).then(|| Block::decode(&header, &columns)).flatten()?;
    Some((block, (next != END).then_some(next)))
}

/// The torrents of a block, each with its peers.
pub fn torrents(block: &Block) -> impl Iterator<Item = (&Torrent, Peers, Peers)> {
    block.records().map(|(torrent, [v4, v6])| {
        let (mut peers_v4, mut peers_v6) = (Peers::default(), Peers::default());
        peers_v4.extend::<V4>(&block.v4, v4.0, v4.1);
        peers_v6.extend::<V6>(&block.v6, v6.0, v6.1);
        (torrent, peers_v4, peers_v6)
    })
}
