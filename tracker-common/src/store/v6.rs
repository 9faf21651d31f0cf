//! IPv6 peers: two address words, and one with flags, generation and port.

use super::{
    family::{Family, V6},
    filter::PeerFilter,
    hash::scramble,
    layout::{ChunkV6, NUMBER_BITS, Swarm},
    scope,
    slot::{FLAGS, IDENTITY, OCCUPIED, Slot, SlotFormat, Slots},
};
use crate::{
    bep15::connection_id::IpKey,
    codegen::{barrier_var, is_nonzero},
    id::ChunkId,
    outcome::IpVersion,
    platform::Platform,
    scratch::{PEERS_AT, Scratch},
    settings::Settings,
    word::Word,
};

/// The bits of the third word that hold the port.
const PORT: u64 = 0xffff;

/// Those amid the generation that are always 0 ([`super::asking`]).
const GAP: u64 = 0xff << NUMBER_BITS;

/// The next generation after that of this third word.
#[inline(always)]
fn next_generation(word: u64) -> u64 {
    // What is carried out of the lower part goes through the gap.
    ((word | GAP) & IDENTITY & !PORT).wrapping_add(PORT + 1) & IDENTITY & !GAP
}

impl SlotFormat for V6 {
    const WORDS: usize = 3;
    const PEER_BYTES: u32 = 18;
    type Key = [u64; 3];

    #[inline(always)]
    fn key(slot: Slot<'_, Self>) -> [u64; 3] {
        [slot.word(0).load(), slot.word(1).load(), slot.word(2).load() & PORT]
    }

    #[inline(always)]
    fn matches(slot: Slot<'_, Self>, key: [u64; 3]) -> bool {
        let flags = slot.word(2).load();
        let difference = (slot.word(0).load() ^ key[0])
            | (slot.word(1).load() ^ key[1])
            | ((flags ^ key[2]) & PORT)
            | (!flags & OCCUPIED);
        difference == 0
    }

    #[inline(always)]
    fn resembles(slot: Slot<'_, Self>, key: [u64; 3]) -> bool {
        // First the half of the address that most differ in. All of it, because servers have the
        // same half, as ::1 and ::2, and the same port. The barrier keeps that to one branch.
        slot.word(1).load() == key[1] && {
            let port = (slot.word(2).load() ^ key[2]) << (64 - PORT.count_ones());
            barrier_var((slot.word(0).load() ^ key[0]) | port) == 0
        }
    }

    #[inline(always)]
    fn address(slot: Slot<'_, Self>) -> u64 {
        slot.word(0).load()
    }

    #[inline(always)]
    fn address_of(key: [u64; 3]) -> u64 {
        key[0]
    }

    #[inline(always)]
    fn network(address: u64) -> u64 {
        address & 0xffff_ffff_ffff
    }

    #[inline(always)]
    fn flags_word(slot: Slot<'_, Self>) -> &Word {
        slot.word(2)
    }

    #[inline(always)]
    fn occupy(slot: Slot<'_, Self>, key: [u64; 3], flags: u64) {
        let word = slot.word(2);
        let generation = next_generation(word.load());
        slot.word(0).store(key[0]);
        slot.word(1).store(key[1]);
        word.store((flags & FLAGS) | generation | key[2]);
    }

    #[inline(always)]
    fn vacate(slot: Slot<'_, Self>) {
        let word = slot.word(2);
        word.store(word.load() & IDENTITY);
    }

    #[inline(always)]
    fn write(slot: Slot<'_, Self>, scratch: &Scratch, cursor: u32) {
        scratch.put_compact(cursor, slot.word(0).load());
        scratch.put_compact(cursor + 8, slot.word(1).load());
        scratch.put_compact(cursor + 16, slot.word(2).load());
    }

    #[inline(always)]
    fn write_if_eligible(
        slot: Slot<'_, Self>,
        scratch: &Scratch,
        cursor: u32,
        filter: PeerFilter,
        exclude: [u64; 3],
    ) -> u32 {
        let before = slot.word(2).load();
        let address = [slot.word(0).load(), slot.word(1).load()];
        let after = slot.word(2).load();
        scratch.put_compact(cursor, address[0]);
        scratch.put_compact(cursor + 8, address[1]);
        scratch.put_compact(cursor + 16, after);
        let other = is_nonzero((address[0] ^ exclude[0]) | (address[1] ^ exclude[1]) | ((after ^ exclude[2]) & PORT));
        let torn = is_nonzero(before ^ after);
        (filter.takes_flags(after) & other & !torn) as u32 * Self::PEER_BYTES
    }

    #[inline(always)]
    fn move_compact(scratch: &Scratch, from: usize, to: usize) -> Option<u32> {
        let address: [u64; 2] = [scratch.get(PEERS_AT + from)?, scratch.get(PEERS_AT + from + 8)?];
        let port: u16 = scratch.get(PEERS_AT + from + 16)?;
        scratch.put(PEERS_AT + to, address[0]);
        scratch.put(PEERS_AT + to + 8, address[1]);
        scratch.put(PEERS_AT + to + 16, port);
        Some(scope::of_v6(address))
    }

    #[inline(always)]
    fn keep_excluded(scratch: &Scratch, key: [u64; 3]) {
        scratch.excluded_peer[0].store(key[0]);
        scratch.excluded_peer[1].store(key[1]);
        scratch.excluded_peer[2].store(key[2]);
    }

    #[inline(always)]
    fn excluded(scratch: &Scratch) -> [u64; 3] {
        [scratch.excluded_peer[0].load(), scratch.excluded_peer[1].load(), scratch.excluded_peer[2].load()]
    }
}

impl Family for V6 {
    const CHUNK_SLOTS: u32 = 16;
    const RECORD_SLOTS: usize = 2;
    const NUMWANT_LIMIT: u32 = 100;
    const VERSION: IpVersion = IpVersion::V6;
    const TAG: u32 = 1 << 31;
    const HEADER_WORD: usize = 2;
    type Chunk = ChunkV6;

    #[inline(always)]
    fn chunk<P: Platform>(platform: &P, id: ChunkId) -> Option<Slots<'_, Self>> {
        platform.chunk_v6(id).map(|chunk| Slots::new(&chunk.words))
    }

    #[inline(always)]
    fn record(swarm: &Swarm) -> Slots<'_, Self> {
        Slots::new(&swarm.v6)
    }

    #[inline(always)]
    fn entry_word(pair: usize) -> usize {
        // Words 3, 4, 5 and 0: word 2 is the header. The barrier, because the compiler knows that
        // what is not below 3 is 3, and would ask for that; before Linux 6.8 the verifier does not
        // conclude from "not 3" that it is less.
        let pair = barrier_var(pair as u64) as usize;
        if pair >= 3 { 0 } else { 3 + pair }
    }

    #[inline(always)]
    fn ip(key: [u64; 3]) -> IpKey {
        IpKey::V6([key[0], key[1]])
    }

    #[inline(always)]
    fn scope(key: [u64; 3]) -> u32 {
        scope::of_v6([key[0], key[1]])
    }

    #[inline(always)]
    fn hash(settings: &Settings, key: [u64; 3]) -> u32 {
        let keys = &settings.hash_keys;
        let sum = keys[6]
            .load()
            .wrapping_add(keys[7].load().wrapping_mul(key[0] & 0xffff_ffff))
            .wrapping_add(keys[8].load().wrapping_mul(key[0] >> 32))
            .wrapping_add(keys[9].load().wrapping_mul(key[1] & 0xffff_ffff))
            .wrapping_add(keys[10].load().wrapping_mul(key[1] >> 32))
            .wrapping_add(keys[11].load().wrapping_mul(key[2] & PORT));
        scramble(sum)
    }
}

#[cfg(test)]
mod tests;
