//! The columns of a block: torrents and their peers, like beside like.

use super::format::{BlockHeader, COLUMNS_MAX, u32_at};
use tracker_common::{
    id::InfoHash,
    store::{
        family::{V4, V6},
        scope,
        slot::{COMPLETED, LEECHER, SlotFormat},
    },
};

/// The columns of a block are longer than this by no more than one torrent's.
pub const USUAL_COLUMNS: usize = 256 << 10;

/// Peers of either family with one torrent's record; a torrent with more has several records in a
/// row.
pub const RECORD_PEERS: usize = 4096;

/// More completed downloads the store cannot count: the other bits of the word are scopes.
pub const COMPLETED_MAX: u32 = (1 << (32 - scope::BITS)) - 1;

const TORRENT_BYTES: usize = 20 + 4 + 4 + 2 + 2;
const STATE_BYTES: usize = 2;

/// A torrent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Torrent {
    /// Its info_hash.
    pub info_hash: InfoHash,
    /// Downloads completed.
    pub completed: u32,
    /// Minutes from the last announce to the snapshot.
    pub idle: u32,
}

/// What is known of a peer besides its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Minutes from its last announce to the snapshot.
    pub age: u32,
    /// It does not have everything.
    pub leecher: bool,
    /// Its completed download was counted.
    pub completed: bool,
}

const STATE_COMPLETED: u16 = 1 << 13;
/// Minutes since the last announce.
const AGE: u16 = 0x1fff;

const STATE_LEECHER: u16 = 1 << 14;

impl State {
    /// That of a peer in the store with these flags, whose age is already known.
    #[must_use]
    pub fn of_flags(flags: u64, age: u32) -> Self {
        Self { age, leecher: flags & LEECHER != 0, completed: flags & COMPLETED != 0 }
    }

    fn to_number(self) -> u16 {
        let leecher = if self.leecher { STATE_LEECHER } else { 0 };
        let completed = if self.completed { STATE_COMPLETED } else { 0 };
        self.age.min(AGE.into()) as u16 | leecher | completed
    }

    fn from_number(number: u16) -> Option<Self> {
        let known = STATE_COMPLETED | STATE_LEECHER | AGE;
        (number & !known == 0).then(|| Self {
            age: (number & AGE).into(),
            leecher: number & STATE_LEECHER != 0,
            completed: number & STATE_COMPLETED != 0,
        })
    }
}

/// Peers as they stand in a file: address and port as in a compact reply (BEP 7, BEP 23).
pub trait Compact: SlotFormat {
    /// Appends address and port.
    fn append(key: Self::Key, bytes: &mut Vec<u8>);
    /// The key of the first peer in `bytes`; `None` if that is too short, or the port is 0.
    fn key_of(bytes: &[u8]) -> Option<Self::Key>;
}

impl Compact for V4 {
    fn append(key: u64, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&key.to_le_bytes()[..6]);
    }

    fn key_of(bytes: &[u8]) -> Option<u64> {
        let &[a, b, c, d, high, low] = bytes.first_chunk::<6>()?;
        let port = u16::from_be_bytes([high, low]);
        (port != 0).then(|| V4::key([a, b, c, d], port))
    }
}

impl Compact for V6 {
    fn append(key: [u64; 3], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&key[0].to_le_bytes());
        bytes.extend_from_slice(&key[1].to_le_bytes());
        bytes.extend_from_slice(&key[2].to_le_bytes()[..2]);
    }

    fn key_of(bytes: &[u8]) -> Option<[u64; 3]> {
        let (address, port) = bytes.first_chunk::<18>()?.split_first_chunk::<16>()?;
        let port = u16::from_be_bytes(*port.first_chunk()?);
        (port != 0).then(|| V6::key(*address, port))
    }
}

/// Peers of one family: a column of addresses with ports, and one of states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    addresses: Vec<u8>,
    states: Vec<u16>,
}

impl Peers {
    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// How many have announced within so many minutes.
    #[must_use]
    pub fn announced_within(&self, minutes: u32) -> u32 {
        self.states.iter().filter(|state| u32::from(**state & AGE) < minutes).count() as u32
    }

    /// Adds one.
    pub fn push<F: Compact>(&mut self, key: F::Key, state: State) {
        F::append(key, &mut self.addresses);
        self.states.push(state.to_number());
    }

    /// Takes out all but the first `count`.
    pub fn truncate<F: Compact>(&mut self, count: usize) {
        self.addresses.truncate(count * F::PEER_BYTES as usize);
        self.states.truncate(count);
    }

    /// Takes out all.
    pub fn clear(&mut self) {
        self.addresses.clear();
        self.states.clear();
    }

    /// Adds those from `first` on, `count` of them, of others.
    pub fn extend<F: Compact>(&mut self, others: &Peers, first: usize, count: usize) {
        let width = F::PEER_BYTES as usize;
        self.addresses.extend_from_slice(&others.addresses[first * width..(first + count) * width]);
        self.states.extend_from_slice(&others.states[first..first + count]);
    }

    /// Those from `first` on, `count` of them. What is no peer was refused by [`Block::decode`].
    pub fn of<F: Compact>(&self, first: usize, count: usize) -> impl Iterator<Item = (F::Key, State)> {
        let addresses = self.addresses.chunks_exact(F::PEER_BYTES as usize).skip(first);
        let states = self.states.iter().skip(first);
        addresses
            .zip(states)
            .take(count)
            .filter_map(|(address, state)| Some((F::key_of(address)?, State::from_number(*state)?)))
    }

    fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.addresses);
        self.states.iter().for_each(|state| into.extend_from_slice(&state.to_le_bytes()));
    }

    fn decode<F: Compact>(columns: &mut &[u8], count: usize) -> Option<Self> {
        let addresses = columns.split_off(..count * F::PEER_BYTES as usize)?;
        let states = columns.split_off(..count * STATE_BYTES)?;
        let states: Vec<_> = states.as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
        let sound = addresses.chunks_exact(F::PEER_BYTES as usize).all(|address| F::key_of(address).is_some())
            && states.iter().all(|state| State::from_number(*state).is_some());
        sound.then(|| Self { addresses: addresses.to_vec(), states })
    }
}

/// A block: torrents, each with how many of the peers are its own, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Records of torrents, with the numbers of their IPv4 and IPv6 peers.
    pub torrents: Vec<(Torrent, [u16; 2])>,
    /// IPv4 peers.
    pub v4: Peers,
    /// IPv6 peers.
    pub v6: Peers,
}

impl Block {
    /// Bytes of its columns.
    #[must_use]
    pub fn columns(&self) -> usize {
        columns(self.torrents.len(), self.v4.len(), self.v6.len())
    }

    /// Takes out everything.
    pub fn clear(&mut self) {
        self.torrents.clear();
        self.v4.clear();
        self.v6.clear();
    }

    /// Appends the columns.
    pub fn encode(&self, into: &mut Vec<u8>) {
        let torrents = || self.torrents.iter();
        torrents().for_each(|(torrent, _)| into.extend_from_slice(&torrent.info_hash));
        torrents().for_each(|(torrent, _)| into.extend_from_slice(&torrent.completed.to_le_bytes()));
        torrents().for_each(|(torrent, _)| into.extend_from_slice(&torrent.idle.to_le_bytes()));
        torrents().for_each(|(_, [v4, _])| into.extend_from_slice(&v4.to_le_bytes()));
        torrents().for_each(|(_, [_, v6])| into.extend_from_slice(&v6.to_le_bytes()));
        self.v4.encode(into);
        self.v6.encode(into);
    }

    /// Reads columns; `None` if they are not as the header says, or hold what no tracker writes.
    #[must_use]
    pub fn decode(header: &BlockHeader, bytes: &[u8]) -> Option<Self> {
        let count = header.torrents as usize;
        let (peers_v4, peers_v6) = (header.peers_v4 as usize, header.peers_v6 as usize);
        if bytes.len() > COLUMNS_MAX || bytes.len() != columns(count, peers_v4, peers_v6) {
            return None;
        }
        let mut rest = bytes;
        let rest = &mut rest;
        let hashes = rest.split_off(..count * 20)?.as_chunks::<20>().0;
        let completed = rest.split_off(..count * 4)?;
        let idle = rest.split_off(..count * 4)?;
        let [of_v4, of_v6] = [rest.split_off(..count * 2)?, rest.split_off(..count * 2)?];
        let u16_at = |bytes: &[u8], at: usize| u16::from_le_bytes([bytes[at * 2], bytes[at * 2 + 1]]);
        let torrents: Vec<_> = (0..count)
            .map(|at| {
                let torrent =
                    Torrent { info_hash: hashes[at], completed: u32_at(completed, at * 4), idle: u32_at(idle, at * 4) };
                (torrent, [u16_at(of_v4, at), u16_at(of_v6, at)])
            })
            .collect();
        let sum = |family: usize| torrents.iter().map(|(_, counts)| usize::from(counts[family])).sum::<usize>();
        let sound = sum(0) == peers_v4
            && sum(1) == peers_v6
            && torrents.iter().all(|(torrent, _)| torrent.completed <= COMPLETED_MAX);
        if !sound {
            return None;
        }
        Some(Self { torrents, v4: Peers::decode::<V4>(rest, peers_v4)?, v6: Peers::decode::<V6>(rest, peers_v6)? })
    }

    /// The torrents with the places of their peers: the first IPv4 one and how many, the same of
    /// IPv6.
    pub fn records(&self) -> impl Iterator<Item = (&Torrent, [(usize, usize); 2])> {
        let mut next = [0; 2];
        self.torrents.iter().map(move |(torrent, counts)| {
            let [v4, v6] = counts.map(usize::from);
            let places = [(next[0], v4), (next[1], v6)];
            next = [next[0] + v4, next[1] + v6];
            (torrent, places)
        })
    }
}

fn columns(torrents: usize, v4: usize, v6: usize) -> usize {
    // In 64 bits: the numbers come from a file.
    torrents * TORRENT_BYTES
        + v4 * (V4::PEER_BYTES as usize + STATE_BYTES)
        + v6 * (V6::PEER_BYTES as usize + STATE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_with_the_largest_torrent_fits() {
        assert!(USUAL_COLUMNS + columns(1, RECORD_PEERS, RECORD_PEERS) <= COLUMNS_MAX);
        assert!(RECORD_PEERS <= usize::from(u16::MAX));
    }
}
