//! The bytes of a snapshot. All numbers are little-endian.
//!
//! ```text
//! header   40 bytes: magic (8), version (4), flags (4), seconds since 1970 (8), id of the file (8),
//!          0 (4), checksum (4)
//! block    36 bytes: mark (4), number (4), torrents (4), IPv4 peers (4), IPv6 peers (4), unpacked
//!          and packed length (4, 4), checksum of what follows (4), checksum of these 32 bytes (4);
//!          then the columns, packed by zstd
//! …
//! last     36 bytes as above with a mark of its own, then how many torrents, IPv4 and IPv6 peers
//!          there are in all (8 each)
//! ```
//!
//! The columns of a block are those of its torrents (info_hash, completed downloads, minutes since
//! the last announce, how many peers of either family) and then those of its peers, first all IPv4
//! addresses with ports, then their states, then both of IPv6. Like stands beside like, which packs
//! better: of a peer, nearly nothing but its address is left.
//!
//! Every checksum (CRC-32) begins with the id of the file, so that a block of another file, which
//! may have stood at the same place of the disk, is not taken for one of this. It finds any change
//! of up to 32 bits in a row.

use super::Totals;
use crc32fast::Hasher;
use std::fmt;

/// Bytes of the file's header.
pub const HEADER_BYTES: usize = 40;

/// Bytes of a block's header.
pub const BLOCK_BYTES: usize = 36;

/// Bytes of what follows the last block's header.
pub const LAST_BYTES: usize = 24;

/// Longer columns are in no snapshot: what a reader has to have room for.
pub const COLUMNS_MAX: usize = 1 << 20;

const MAGIC: [u8; 8] = *b"\x93swarms\n";
const VERSION: u32 = 1;

/// In the header's flags: peers are in the file.
const WITH_PEERS: u32 = 1;

/// What a block begins with: unlikely in packed bytes, so that the next block can be looked for
/// behind a damaged one.
pub const MARK: [u8; 4] = *b"\xb1\x0c\x5e\x9d";

/// What the last block begins with.
pub const LAST_MARK: [u8; 4] = *b"\xe4\xd0\x5e\x9d";

/// Why something is no snapshot that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Without a byte.
    Empty,
    /// Written by something else.
    Foreign,
    /// In a format that came later.
    Newer(u32),
    /// Its header is damaged.
    Header,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "is empty"),
            Self::Foreign => write!(f, "is no snapshot of this tracker"),
            Self::Newer(version) => {
                write!(f, "was written by a newer tracker (format {version}, known up to {VERSION})")
            }
            Self::Header => write!(f, "is damaged in its header"),
        }
    }
}

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whether peers are in the file.
    pub peers: bool,
    /// When it was begun: the wall clock's seconds since 1970.
    pub taken_at: u64,
    /// A random number.
    pub id: u64,
}

fn checksum(id: u64, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// A number in a block; 0 behind its end, where the caller has looked.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

impl Header {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(if self.peers { WITH_PEERS } else { 0 }).to_le_bytes());
        bytes[16..24].copy_from_slice(&self.taken_at.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.id.to_le_bytes());
        let sum = checksum(0, &bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the beginning of a file, all of it if it is shorter.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unfit> {
        if bytes.is_empty() {
            return Err(Unfit::Empty);
        }
        if !bytes.starts_with(&MAGIC) {
            return Err(Unfit::Foreign);
        }
        if bytes.len() < HEADER_BYTES {
            return Err(Unfit::Header);
        }
        let sum = checksum(0, &bytes[..HEADER_BYTES - 4]);
        let sound = u32_at(bytes, HEADER_BYTES - 4) == sum;
        match u32_at(bytes, 8) {
            VERSION if sound => {}
            // The header of another version may be a longer one.
            version if version > VERSION && version < VERSION + 1000 && !sound => return Err(Unfit::Newer(version)),
            version if version > VERSION && sound => return Err(Unfit::Newer(version)),
            _ => return Err(Unfit::Header),
        }
        let flags = u32_at(bytes, 12);
        if flags & !WITH_PEERS != 0 {
            return Err(Unfit::Header);
        }
        Ok(Self { peers: flags & WITH_PEERS != 0, taken_at: u64_at(bytes, 16), id: u64_at(bytes, 24) })
    }
}

/// What a block begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    /// Whether it is the one that ends the file.
    pub last: bool,
    /// Its number, counted from 0.
    pub number: u32,
    /// Records of torrents.
    pub torrents: u32,
    /// IPv4 peers.
    pub peers_v4: u32,
    /// IPv6 peers.
    pub peers_v6: u32,
    /// Bytes of the columns.
    pub unpacked: u32,
    /// Bytes that follow.
    pub packed: u32,
    /// Their checksum.
    pub checksum: u32,
}

impl BlockHeader {
    /// The bytes, in a file with this id.
    #[must_use]
    pub fn encode(&self, id: u64) -> [u8; BLOCK_BYTES] {
        let mut bytes = [0; BLOCK_BYTES];
        bytes[..4].copy_from_slice(if self.last { &LAST_MARK } else { &MARK });
        let fields =
            [self.number, self.torrents, self.peers_v4, self.peers_v6, self.unpacked, self.packed, self.checksum];
        for (bytes, field) in bytes[4..].as_chunks_mut::<4>().0.iter_mut().zip(fields) {
            *bytes = field.to_le_bytes();
        }
        let sum = checksum(id, &bytes[..BLOCK_BYTES - 4]);
        bytes[BLOCK_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads them; `None` if they are not those of a block of this file.
    #[must_use]
    pub fn decode(bytes: &[u8; BLOCK_BYTES], id: u64) -> Option<Self> {
        let last = bytes.starts_with(&LAST_MARK);
        if !last && !bytes.starts_with(&MARK) {
            return None;
        }
        if u32_at(bytes, BLOCK_BYTES - 4) != checksum(id, &bytes[..BLOCK_BYTES - 4]) {
            return None;
        }
        let field = |number: usize| u32_at(bytes, 4 + number * 4);
        let header = Self {
            last,
            number: field(0),
            torrents: field(1),
            peers_v4: field(2),
            peers_v6: field(3),
            unpacked: field(4),
            packed: field(5),
            checksum: field(6),
        };
        let fits = header.unpacked as usize <= COLUMNS_MAX && header.packed as usize <= packed_max();
        fits.then_some(header)
    }

    /// Whether these are the bytes that follow it, in a file with this id.
    #[must_use]
    pub fn is_followed_by(&self, bytes: &[u8], id: u64) -> bool {
        bytes.len() == self.packed as usize && checksum(id, bytes) == self.checksum
    }

    /// The header of the last block, and what follows it.
    #[must_use]
    pub fn last(number: u32, totals: &Totals, id: u64) -> (Self, [u8; LAST_BYTES]) {
        let mut bytes = [0; LAST_BYTES];
        bytes[..8].copy_from_slice(&totals.torrents.to_le_bytes());
        bytes[8..16].copy_from_slice(&totals.peers_v4.to_le_bytes());
        bytes[16..].copy_from_slice(&totals.peers_v6.to_le_bytes());
        let header = Self {
            last: true,
            number,
            torrents: 0,
            peers_v4: 0,
            peers_v6: 0,
            unpacked: 0,
            packed: LAST_BYTES as u32,
            checksum: checksum(id, &bytes),
        };
        (header, bytes)
    }
}

/// The checksum of what follows a block's header, in a file with this id.
#[must_use]
pub fn payload_checksum(id: u64, bytes: &[u8]) -> u32 {
    checksum(id, bytes)
}

/// The totals that follow the last block's header.
#[must_use]
pub fn totals_of(bytes: &[u8]) -> Option<Totals> {
    (bytes.len() == LAST_BYTES).then(|| Totals {
        torrents: u64_at(bytes, 0),
        peers_v4: u64_at(bytes, 8),
        peers_v6: u64_at(bytes, 16),
    })
}

/// The most bytes that columns take when they are packed.
#[must_use]
pub fn packed_max() -> usize {
    zstd::zstd_safe::compress_bound(COLUMNS_MAX)
}
