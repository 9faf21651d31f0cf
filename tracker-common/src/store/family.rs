//! What differs between IPv4 and IPv6 in the store.

use super::{
    layout::{DirectoryHeader, PARTITIONS_MAX, Swarm},
    slot::{SlotFormat, Slots},
};
use crate::{
    bep15::connection_id::IpKey, id::ChunkId, outcome::IpVersion, platform::Platform, settings::Settings, word::Word,
};

/// An address family.
pub trait Family: SlotFormat {
    /// Slots of a chunk; a power of two.
    const CHUNK_SLOTS: u32;
    /// Slots in a swarm record.
    const RECORD_SLOTS: usize;
    /// Most peers in a reply: what fits the scratch space.
    const NUMWANT_LIMIT: u32;
    /// Which it is.
    const VERSION: IpVersion;
    /// Distinguishes the families in [`super::layout::Partition::index`].
    const TAG: u32;
    /// Which word of the record is the flags word of the first slot, or the
    /// [`super::layout::DirectoryHeader`].
    const HEADER_WORD: usize;
    /// The kind of its chunks.
    type Chunk: super::allocator::Element<Id = ChunkId>;

    /// The slots of a chunk.
    fn chunk<P: Platform>(platform: &P, id: ChunkId) -> Option<Slots<'_, Self>>;
    /// The slots in a swarm record.
    fn record(swarm: &Swarm) -> Slots<'_, Self>;
    /// Which word of the record holds the directory entries `pair` * 2 and `pair` * 2 + 1, for
    /// `pair` below 4.
    fn entry_word(pair: usize) -> usize;
    /// The scope of the peer's address ([`super::scope`]).
    fn scope(key: Self::Key) -> u32;
    /// The peer's address.
    fn ip(key: Self::Key) -> IpKey;
    /// A keyed hash of a peer, which partition it is in. The first two keys from number 6 on are for
    /// its address ([`SlotFormat::address`]), those from number 9 on for what differs between peers
    /// of one address ([`Settings::keep_addresses_together`]).
    fn hash(settings: &Settings, key: Self::Key) -> u32;

    /// The directory header, if the family has outgrown the record's slots, or the first slot's flags.
    #[inline(always)]
    fn header(swarm: &Swarm) -> &Word {
        Self::record(swarm).word(Self::HEADER_WORD)
    }

    /// The directory header now; `None` if the family's peers are in the record's slots.
    #[inline(always)]
    fn directory(swarm: &Swarm) -> Option<DirectoryHeader> {
        DirectoryHeader::from_word(Self::header(swarm).load())
    }

    /// Whether the record names the chunks of a list ([`super::record`]).
    #[inline(always)]
    fn is_list(swarm: &Swarm) -> bool {
        matches!(Self::directory(swarm), Some(header) if header.is_list())
    }

    /// How many partitions the family has; `None` without any, or if the count cannot be one.
    #[inline(always)]
    fn partitions(swarm: &Swarm) -> Option<u32> {
        match Self::directory(swarm) {
            Some(header) if header.partitions != 0 && header.partitions <= PARTITIONS_MAX => Some(header.partitions),
            _ => None,
        }
    }
}

/// IPv4.
#[derive(Clone, Copy, Debug)]
pub struct V4;

/// IPv6.
#[derive(Clone, Copy, Debug)]
pub struct V6;

impl V4 {
    /// Address and port as they stand in a compact reply, in the low 48 bits.
    #[inline(always)]
    #[must_use]
    pub fn key(address: [u8; 4], port: u16) -> u64 {
        u64::from(u32::from_le_bytes(address)) | u64::from(port.to_be()) << 32
    }
}

impl V6 {
    /// Address as two words in memory order, port in network order.
    #[inline(always)]
    #[must_use]
    pub fn key(address: [u8; 16], port: u16) -> [u64; 3] {
        let words = u128::from_le_bytes(address);
        [words as u64, (words >> 64) as u64, u64::from(port.to_be())]
    }
}
