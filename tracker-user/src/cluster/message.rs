//! The bytes of a message: changes of peers of one shard, from one node.
//!
//! ```text
//! bytes  0…1    "TC"
//!        2      version
//!        3      0
//!        4…11   the node, a random number that it took at its start
//!        12…15  number of the message among those of the node in this shard
//!        16     shard
//!        17     0
//!        18…25  milliseconds since 1970; from version 2 on
//! sections, one for each kind of change and version of IP:
//!        0      kind, and 128 for IPv6
//!        1      0
//!        2…3    how many changes
//!        then   info_hash, address, port of each: 26 or 38 bytes
//!        then   whose peers they are, half a byte each; from version 2 on
//! ```
//!
//! Numbers are little-endian; address and port are in network order. Info_hashes and addresses are
//! random, so there is nothing to compress.
//!
//! A reader takes a message as a whole or not at all, in the order of its sections: those of IPv4 first,
//! each by the numbers of the kinds.

use tracker_common::{
    change::{Change, Kind},
    id::InfoHash,
};

/// The newest version, which is written.
pub const VERSION: u8 = 2;

/// The oldest version that is read.
pub const OLDEST: u8 = 1;

/// Bytes of a message at most: what a packet carries.
pub const MESSAGE_BYTES: usize = 1400;

/// Parts that all torrents are divided into, by the first bits of their info_hashes.
pub const SHARDS: usize = 64;

const MAGIC: [u8; 2] = *b"TC";
const HEADER_1: usize = 18;
const HEADER_2: usize = 26;
const SECTION: usize = 4;
const IPV6: u8 = 0x80;

/// The shard of a torrent.
#[must_use]
pub const fn shard_of(info_hash: &InfoHash) -> usize {
    (info_hash[0] >> 2) as usize
}

/// What stands in front of the changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Who has sent it.
    pub node: u64,
    /// Number of the message, from 0 on; goes round.
    pub sequence: u32,
    /// Which torrents it is about.
    pub shard: u8,
    /// When it was sent, in milliseconds since 1970; 0 if nobody says.
    pub time: u64,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It does not begin as one.
    Foreign,
    /// It is of a version that this tracker does not know.
    Version,
    /// It is not what a tracker writes.
    Malformed,
}

/// A message being written.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// By kind, those of IPv6 behind those of IPv4.
    sections: [Vec<Change>; 8],
}

const fn record_bytes(version: u8) -> usize {
    if version == 6 { 38 } else { 26 }
}

impl Batch {
    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sections.iter().all(Vec::is_empty)
    }

    /// Bytes of the sections.
    fn bytes(&self) -> usize {
        let sections = self.sections.iter().enumerate().filter(|(_, section)| !section.is_empty());
        // Half a byte for each owner.
        let bytes = |(place, section): (usize, &Vec<Change>)| {
            SECTION + section.len() * record_bytes(if place < 4 { 4 } else { 6 }) + section.len().div_ceil(2)
        };
        sections.map(bytes).sum()
    }

    /// Adds a change. True if there may be no room for another one.
    ///
    /// Whoever reads the message takes it kind by kind. So what was said of the peer before, and would
    /// be read after this, goes: its last change is what others keep.
    pub fn add(&mut self, change: &Change) -> bool {
        let (v4, v6) = self.sections.split_at_mut(4);
        let sections = if change.version == 6 { v6 } else { v4 };
        let is_same = |earlier: &Change| earlier.peer == change.peer && earlier.info_hash == change.info_hash;
        let mut kind = usize::from(change.kind & 3);
        // A seeder that has just completed its download: that is counted, and makes it a seeder.
        if kind == Kind::Seeder as usize && sections[Kind::Completed as usize].iter().any(is_same) {
            kind = Kind::Completed as usize;
        }
        sections[kind..].iter_mut().for_each(|section| section.retain(|earlier| !is_same(earlier)));
        sections[kind].push(Change { kind: kind as u8, ..*change });
        HEADER_2 + self.bytes() + SECTION + record_bytes(6) + 1 > MESSAGE_BYTES
    }

    /// The bytes, and how many changes are in them. Nothing is in it afterwards.
    pub fn take(&mut self, header: &Header) -> (Vec<u8>, usize) {
        let mut bytes = Vec::with_capacity(HEADER_2 + self.bytes());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, 0]);
        bytes.extend_from_slice(&header.node.to_le_bytes());
        bytes.extend_from_slice(&header.sequence.to_le_bytes());
        bytes.extend_from_slice(&[header.shard, 0]);
        bytes.extend_from_slice(&header.time.to_le_bytes());
        let mut changes = 0;
        for (place, section) in (0_u8..).zip(&mut self.sections).filter(|(_, section)| !section.is_empty()) {
            bytes.extend_from_slice(&[(place & 3) | if place < 4 { 0 } else { IPV6 }, 0]);
            bytes.extend_from_slice(&(section.len() as u16).to_le_bytes());
            for change in &*section {
                bytes.extend_from_slice(&change.info_hash);
                append_peer(change, &mut bytes);
            }
            for pair in section.chunks(2) {
                let second = pair.get(1).map_or(0, |change| change.owner);
                bytes.push((pair[0].owner & 15) | second << 4);
            }
            changes += section.len();
            section.clear();
        }
        (bytes, changes)
    }
}

/// Appends address and port, as in a compact reply.
pub(super) fn append_peer(change: &Change, bytes: &mut Vec<u8>) {
    if change.version == 6 {
        bytes.extend_from_slice(&change.peer[0].to_le_bytes());
        bytes.extend_from_slice(&change.peer[1].to_le_bytes());
        bytes.extend_from_slice(&change.peer[2].to_le_bytes()[..2]);
    } else {
        bytes.extend_from_slice(&change.peer[0].to_le_bytes()[..6]);
    }
}

/// Address and port out of 6 or 18 bytes; `None` if it is none, or has port 0.
pub(super) fn peer_of(bytes: &[u8]) -> Option<[u64; 3]> {
    let (address, port) = bytes.split_last_chunk::<2>()?;
    let port_word = u64::from(u16::from_le_bytes(*port));
    if port_word == 0 {
        return None;
    }
    match address.len() {
        4 => Some([u64::from(u32::from_le_bytes(*address.first_chunk()?)) | port_word << 32, 0, 0]),
        16 => {
            let words = u128::from_le_bytes(*address.first_chunk()?);
            Some([words as u64, (words >> 64) as u64, port_word])
        }
        _ => None,
    }
}

/// Reads a message.
///
/// # Errors
/// When it is none, or not whole.
pub fn parse(bytes: &[u8]) -> Result<(Header, Vec<Change>), Wrong> {
    let (version, header, rest) = head(bytes)?;
    let changes = changes(version, &header, rest).ok_or(Wrong::Malformed)?;
    Ok((header, changes))
}

/// Whose a message is, and how many changes are in it, none of which is looked at: all that a message
/// costs that is not going to be taken.
///
/// # Errors
/// When it is none, or not whole.
pub fn glance(bytes: &[u8]) -> Result<(Header, usize), Wrong> {
    let (version, header, mut rest) = head(bytes)?;
    let mut changes = 0;
    while !rest.is_empty() {
        changes += section(version, &mut rest).ok_or(Wrong::Malformed)?.count;
    }
    if changes == 0 { Err(Wrong::Malformed) } else { Ok((header, changes)) }
}

/// The version, what stands in front, and the rest.
fn head(bytes: &[u8]) -> Result<(u8, Header, &[u8]), Wrong> {
    let mut rest = bytes;
    let magic = rest.split_off(..2).ok_or(Wrong::Foreign)?;
    if magic != MAGIC {
        return Err(Wrong::Foreign);
    }
    let version = *rest.split_off_first().ok_or(Wrong::Foreign)?;
    if !(OLDEST..=VERSION).contains(&version) {
        return Err(Wrong::Version);
    }
    let header = header(version, &mut rest).ok_or(Wrong::Malformed)?;
    Ok((version, header, rest))
}

fn header(version: u8, rest: &mut &[u8]) -> Option<Header> {
    let header_bytes = if version == 1 { HEADER_1 } else { HEADER_2 } - 3;
    let header = rest.split_off(..header_bytes)?;
    let &shard = header.get(13)?;
    if header[0] != 0 || header[14] != 0 || usize::from(shard) >= SHARDS || rest.len() > MESSAGE_BYTES {
        return None;
    }
    let time = header.get(15..).and_then(|time| time.first_chunk()).map_or(0, |time| u64::from_le_bytes(*time));
    Some(Header {
        node: u64::from_le_bytes(*header.get(1..)?.first_chunk()?),
        sequence: u32::from_le_bytes(*header.get(9..)?.first_chunk()?),
        shard,
        time,
    })
}

/// Changes of one kind and version of IP.
struct Section<'a> {
    kind: u8,
    version: u8,
    count: usize,
    records: &'a [u8],
    owners: Option<&'a [u8]>,
}

fn section<'a>(version: u8, rest: &mut &'a [u8]) -> Option<Section<'a>> {
    let &[kind, unused, low, high] = rest.split_off(..SECTION)?.first_chunk::<4>()?;
    let count = usize::from(u16::from_le_bytes([low, high]));
    let version_of_ip = if kind & IPV6 == 0 { 4 } else { 6 };
    Kind::of_number((kind & !IPV6).into())?;
    if unused != 0 || count == 0 {
        return None;
    }
    let records = rest.split_off(..count * record_bytes(version_of_ip))?;
    let owners = if version == 1 { None } else { Some(rest.split_off(..count.div_ceil(2))?) };
    Some(Section { kind: kind & !IPV6, version: version_of_ip, count, records, owners })
}

fn changes(version: u8, header: &Header, mut rest: &[u8]) -> Option<Vec<Change>> {
    let mut changes = Vec::new();
    while !rest.is_empty() {
        let Section { kind, version, records, owners, .. } = section(version, &mut rest)?;
        for (number, record) in records.chunks_exact(record_bytes(version)).enumerate() {
            let (info_hash, peer) = record.split_first_chunk::<20>()?;
            if shard_of(info_hash) != usize::from(header.shard) {
                return None;
            }
            let owner = owners.map_or(0, |owners| owners[number / 2] >> (number % 2 * 4) & 15);
            changes.push(Change { peer: peer_of(peer)?, info_hash: *info_hash, kind, owner, version, unused: 0 });
        }
    }
    (!changes.is_empty()).then_some(changes)
}

#[cfg(test)]
mod tests;
