//! IPv4 peers: one word each.

use super::{
    family::{Family, V4},
    filter::PeerFilter,
    hash::scramble,
    layout::{ChunkV4, Swarm},
    scope,
    slot::{FLAGS, IDENTITY, MINUTE_SHIFT, Slot, SlotFormat, Slots},
};
use crate::{
    bep15::connection_id::IpKey,
    codegen::is_nonzero,
    id::ChunkId,
    outcome::IpVersion,
    platform::Platform,
    scratch::{PEERS_AT, Scratch},
    settings::Settings,
    word::Word,
};

impl SlotFormat for V4 {
    const WORDS: usize = 1;
    const PEER_BYTES: u32 = 6;
    type Key = u64;

    #[inline(always)]
    fn key(slot: Slot<'_, Self>) -> u64 {
        slot.word(0).load() & IDENTITY
    }

    #[inline(always)]
    fn matches(slot: Slot<'_, Self>, key: u64) -> bool {
        // An empty word is 0 and a key has a port: no need to look at the flags.
        (slot.word(0).load() ^ key) << (64 - MINUTE_SHIFT) == 0
    }

    #[inline(always)]
    fn resembles(slot: Slot<'_, Self>, key: u64) -> bool {
        // Half of the address and the port.
        slot.word(0).load_middle() == (key >> 16) as u32
    }

    #[inline(always)]
    fn address(slot: Slot<'_, Self>) -> u64 {
        slot.word(0).load() & 0xffff_ffff
    }

    #[inline(always)]
    fn address_of(key: u64) -> u64 {
        key & 0xffff_ffff
    }

    #[inline(always)]
    fn network(address: u64) -> u64 {
        address & 0xff_ffff
    }

    #[inline(always)]
    fn flags_word(slot: Slot<'_, Self>) -> &Word {
        slot.word(0)
    }

    #[inline(always)]
    fn occupy(slot: Slot<'_, Self>, key: u64, flags: u64) {
        slot.word(0).store(key | (flags & FLAGS));
    }

    #[inline(always)]
    fn vacate(slot: Slot<'_, Self>) {
        slot.word(0).store(0);
    }

    #[inline(always)]
    fn write(slot: Slot<'_, Self>, scratch: &Scratch, cursor: u32) {
        scratch.put_compact(cursor, slot.word(0).load());
    }

    #[inline(always)]
    fn write_if_eligible(
        slot: Slot<'_, Self>,
        scratch: &Scratch,
        cursor: u32,
        filter: PeerFilter,
        exclude: u64,
    ) -> u32 {
        let word = slot.word(0).load();
        scratch.put_compact(cursor, word);
        let other = is_nonzero((word ^ exclude) << (64 - MINUTE_SHIFT));
        (filter.takes_flags(word) & other) as u32 * Self::PEER_BYTES
    }

    #[inline(always)]
    fn move_compact(scratch: &Scratch, from: usize, to: usize) -> Option<u32> {
        let word: u64 = scratch.get(PEERS_AT + from)?;
        scratch.put(PEERS_AT + to, word as u32);
        scratch.put(PEERS_AT + to + 4, (word >> 32) as u16);
        Some(Self::scope(word))
    }

    #[inline(always)]
    fn keep_excluded(scratch: &Scratch, key: u64) {
        scratch.excluded_peer[0].store(key);
    }

    #[inline(always)]
    fn excluded(scratch: &Scratch) -> u64 {
        scratch.excluded_peer[0].load()
    }
}

impl Family for V4 {
    const CHUNK_SLOTS: u32 = 32;
    const RECORD_SLOTS: usize = 5;
    const NUMWANT_LIMIT: u32 = 320;
    const VERSION: IpVersion = IpVersion::V4;
    const TAG: u32 = 0;
    const HEADER_WORD: usize = 0;
    type Chunk = ChunkV4;

    #[inline(always)]
    fn chunk<P: Platform>(platform: &P, id: ChunkId) -> Option<Slots<'_, Self>> {
        platform.chunk_v4(id).map(|chunk| Slots::new(&chunk.words))
    }

    #[inline(always)]
    fn record(swarm: &Swarm) -> Slots<'_, Self> {
        Slots::new(&swarm.v4)
    }

    #[inline(always)]
    fn entry_word(pair: usize) -> usize {
        1 + pair
    }

    #[inline(always)]
    fn ip(key: u64) -> IpKey {
        IpKey::V4(key as u32)
    }

    #[inline(always)]
    fn scope(key: u64) -> u32 {
        scope::of_v4(key)
    }

    #[inline(always)]
    fn hash(settings: &Settings, key: u64) -> u32 {
        let keys = &settings.hash_keys;
        let sum = keys[6]
            .load()
            .wrapping_add(keys[7].load().wrapping_mul(key & 0xffff_ffff))
            .wrapping_add(keys[11].load().wrapping_mul((key >> 32) & 0xffff));
        scramble(sum)
    }
}

#[cfg(test)]
mod tests;
