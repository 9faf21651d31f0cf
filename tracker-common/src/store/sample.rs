//! Choosing the peers of a reply: random, never the asker, never a peer twice.
//!
//! A small swarm is read from its record. In a grown one whole chunks are taken, two from a partition, from partitions at a
//! random stride from a random beginning. Partitions that linear hashing has yet to split hold twice as many peers as the
//! others, and get two turns where those get one. When all have had their turns the next lap takes other chunks. What is
//! collected beyond the wanted number is cut off at a random end. No lock is held: chunks are dropped again if their
//! partition's structure changed while they were read.

use super::{
    Family, PARTITION_CHUNKS, PARTITIONS_MAX, Partition, Swarm, V4, V6,
    family::{self, Wanted},
    partition::{self, chunks_for, lookup},
};
use crate::{
    memory::{Memory, Step},
    reply::{PEERS_AT, START_MASK, Scratch, VERSIONS},
    word::{Word, opaque},
};

/// Partitions looked at for one reply, at most. Bounds the work where nearly everybody is a seeder and a seeder asks.
pub const VISITS: u32 = 32;

/// Chunks taken at a visit.
pub const CHUNKS_PER_VISIT: u32 = 2;

/// Turns for the visits and for looking again at what was being changed.
const TURNS: u32 = 8 * VISITS;

/// How often the peers in a swarm record are read anew because they moved into partitions or back meanwhile.
const INLINE_TRIES: u32 = 2;

/// Bytes that can be collected before a chunk is copied. All ones: it is a mask as well.
pub const COLLECTED_MAX: u32 = 2047;

// The largest reply and the chunk that has been begun; and the copy of the first peers behind the last (`cut`).
const _: () = assert!(V4::WANT_LIMIT * V4::PEER_BYTES <= COLLECTED_MAX && V6::WANT_LIMIT * V6::PEER_BYTES <= COLLECTED_MAX);
const _: () = assert!(PEERS_AT + COLLECTED_MAX as usize + 18 * 16 <= START_MASK);

/// Compact peers in [`Scratch::bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Offset of the first one.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// Collects up to `want` peers of a swarm, seeders among them only if `seeders`, without `own`.
///
/// More than [`Family::WANT_LIMIT`] are not given.
#[inline(always)]
pub fn sample<M: Memory, F: Family>(memory: &M, swarm: u32, want: u32, seeders: bool, own: F::Key) -> Sample {
    let none = Sample { start: PEERS_AT as u32, count: 0 };
    let (Some(scratch), Some(settings), Some(record)) = (memory.scratch(), memory.settings(), memory.swarm(swarm))
    else {
        return none;
    };
    if want == 0 {
        return none;
    }
    let want = if want > F::WANT_LIMIT { F::WANT_LIMIT } else { want };
    let state = &scratch.sample;
    let random = memory.random();
    state.random.store(random);
    state.cursor.store(0);
    let wanted = Wanted::new(seeders);
    if !family::is_root(F::root(record).load()) {
        inline::<M, F>(memory, scratch, record, wanted, own);
    }
    let root = F::root(record).load();
    let partitions = family::root_partitions(root);
    if family::is_root(root) && partitions != 0 && partitions <= PARTITIONS_MAX {
        let ring = partition::ring(partitions);
        state.cursor.store(0);
        state.enough.store(want * F::PEER_BYTES);
        state.swarm.store(swarm);
        state.partitions.store(partitions);
        state.turn.store(random & (ring - 1));
        // So that VISITS strides stay within one lap, if there are that many turns; odd, so that a lap misses no turn.
        state.stride.store((((random >> 16) * (ring / VISITS)) >> 16) | 1);
        state.turns.store(0);
        state.lap.store(0);
        state.visits.store(0);
        state.fruitful.store(0);
        state.own_place.store(partition::address(F::hash(settings, own), partitions));
        state.seeders.store(u32::from(seeders));
        F::stash(scratch, own);
        let mut visit = Visit::<F>(core::marker::PhantomData);
        // The first visit is nearly always enough, and in the kernel each turn of the loop is a call.
        if visit.step(memory, 0) {
            memory.repeat(TURNS - 1, &mut visit);
        }
    }
    cut::<F>(scratch, want)
}

/// Keeps `want` of the peers collected, from a random one on and as from a ring, so that all have the same chance.
#[inline(always)]
fn cut<F: Family>(scratch: &Scratch, want: u32) -> Sample {
    let bytes = scratch.forget(scratch.sample.cursor.load());
    let collected = bytes / F::PEER_BYTES;
    if collected <= want {
        return Sample { start: PEERS_AT as u32, count: collected };
    }
    // The random number has chosen the partitions; mixed, it is another one.
    let random = scratch.sample.random.load();
    let random = (random ^ random >> 15).wrapping_mul(0x85eb_ca6b) >> 16;
    let skip = (collected * random) >> 16;
    if skip + want > collected {
        // The ring: the first ones once more behind the last one.
        let again = (skip + want - collected) * F::PEER_BYTES;
        scratch.copy(PEERS_AT, PEERS_AT + bytes as usize, again as usize);
    }
    Sample { start: PEERS_AT as u32 + skip * F::PEER_BYTES, count: want }
}

#[inline(always)]
fn inline<M: Memory, F: Family>(memory: &M, scratch: &Scratch, swarm: &Swarm, wanted: Wanted, own: F::Key) {
    for tries in 0..INLINE_TRIES {
        let Some(version) = swarm.lock.version() else {
            memory.pause(tries + 1);
            continue;
        };
        let words = F::inline(swarm);
        let mut cursor = 0;
        for slot in 0..F::INLINE {
            cursor += F::give(scratch, cursor, words, slot * F::WORDS, wanted, own);
        }
        if swarm.lock.unchanged_since(version) {
            scratch.sample.cursor.store(cursor);
            return;
        }
    }
}

/// Copies a chunk, of whose slots the first `peers` are taken, behind the cursor and returns the cursor behind them.
#[inline(always)]
fn copy_chunk<F: Family>(scratch: &Scratch, cursor: u32, words: &[Word], peers: u32) -> u32 {
    // Copying all of the chunk takes no decision per peer; what is too much is written over.
    for slot in 0..F::SLOTS {
        F::copy(scratch, cursor + slot * F::PEER_BYTES, words, slot as usize * F::WORDS);
    }
    cursor + peers * F::PEER_BYTES
}

/// Copies the wanted peers of a chunk behind the cursor and returns the cursor behind them.
#[inline(always)]
fn pick_from_chunk<F: Family>(scratch: &Scratch, mut cursor: u32, words: &[Word], wanted: Wanted, own: F::Key) -> u32 {
    for slot in 0..F::SLOTS as usize {
        cursor += F::give(scratch, cursor, words, slot * F::WORDS, wanted, own);
    }
    cursor
}

/// Visits a partition and takes some chunks of it. All it knows is in [`Scratch::sample`].
struct Visit<F>(core::marker::PhantomData<F>);

impl<M: Memory, F: Family> Step<M> for Visit<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, _turn: u32) -> bool {
        let Some(scratch) = memory.scratch() else { return false };
        let state = &scratch.sample;
        let Some(swarm) = memory.swarm(state.swarm.load()) else { return false };
        let visits = state.visits.load();
        let lap = state.lap.load();
        if visits >= VISITS || lap * CHUNKS_PER_VISIT >= PARTITION_CHUNKS {
            return false;
        }
        let turn = state.turn.load();
        let partitions = state.partitions.load();
        let ring = partition::ring(partitions);
        // Turns beyond the last partition belong to those that have not been split yet.
        let place = partition::address(turn, partitions);
        let second = if turn == place { 0 } else { 1 };
        let double = if turn != place || place + ring / 2 >= partitions && place < ring / 2 { 1 } else { 0 };
        let rank = scratch.forget(((lap << double) + second) * CHUNKS_PER_VISIT);
        let Some(number) = lookup::<M, F>(memory, swarm, place, partitions) else { return false };
        let Some(part) = memory.partition(scratch.forget(number)) else { return false };
        // A partition that is being changed, or was while it was read, is visited again in the next turn.
        let Some(version) = part.lock.version() else {
            memory.pause(1);
            return true;
        };
        let visit = take::<M, F>(memory, scratch, part, place, rank, version);
        if !part.lock.unchanged_since(version) {
            return true;
        }
        // Had partitions been merged meanwhile, this one could hold peers that another one has given already.
        let root = F::root(swarm).load();
        if !family::is_root(root) || family::root_partitions(root) < partitions {
            return false;
        }
        let cursor = scratch.found.load();
        state.cursor.store(cursor);
        state.visits.store(visits + visit);
        let fruitful = state.fruitful.load() | visit;
        // Next time: the next turn, or the next lap.
        state.turn.store((turn + state.stride.load()) & (ring - 1));
        let turns = state.turns.load() + 1;
        if turns < ring {
            state.turns.store(turns);
            state.fruitful.store(fruitful);
        } else {
            state.turns.store(0);
            state.fruitful.store(0);
            state.lap.store(lap + 1);
            // After a lap in which no partition had a chunk left nobody is missing.
            if fruitful == 0 {
                return false;
            }
        }
        cursor < state.enough.load()
    }
}

/// Takes the chunks of a partition from this rank on, and leaves the cursor behind them in [`Scratch::found`]. 0 if there is none.
#[inline(always)]
fn take<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    part: &Partition,
    place: u32,
    rank: u32,
    version: u32,
) -> u32 {
    let state = &scratch.sample;
    let mut cursor = state.cursor.load();
    scratch.found.store(cursor);
    let peers = part.peers.load();
    let chunks = chunks_for::<F>(peers);
    if rank >= chunks || !partition::belongs::<F>(part, state.swarm.load(), place) {
        return 0;
    }
    // The same for all turns of this partition in this sample, and no other's.
    let mark = state.random.load() ^ place.wrapping_mul(0x9e37_79b9);
    // Further chunks of a partition that was changed since the first ones were read may hold peers of those.
    let remembered = &scratch.versions[place as usize & (VERSIONS - 1)];
    let entry = u64::from(mark) << 32 | u64::from(version);
    let known = remembered.load();
    if (known >> 32) as u32 != mark {
        remembered.store(entry);
    } else if known != entry {
        return 0;
    }
    // The chunk of rank 0: random. A multiply and a shift bring it below the number of chunks.
    let begin = mark.wrapping_mul(0x85eb_ca6b) >> 24;
    let mut index = rank + ((begin * chunks) >> 8);
    let wanted = Wanted::new(state.seeders.load() != 0);
    let plain = wanted.all() && place != state.own_place.load();
    let enough = state.enough.load();
    for taken in 0..CHUNKS_PER_VISIT {
        if index >= chunks {
            index -= chunks;
        }
        // The verifier does not follow the subtraction.
        let at = opaque(u64::from(scratch.forget(index))) as usize;
        if at >= PARTITION_CHUNKS as usize || rank + taken >= chunks || cursor >= enough {
            break;
        }
        let Some(words) = F::chunk(memory, part.chunks[at].load()) else { break };
        cursor &= COLLECTED_MAX;
        if plain {
            let left = peers.wrapping_sub(at as u32 * F::SLOTS);
            cursor = copy_chunk::<F>(scratch, cursor, words, if left < F::SLOTS { left } else { F::SLOTS });
        } else {
            cursor = pick_from_chunk::<F>(scratch, cursor, words, wanted, F::stashed(scratch));
        }
        cursor = scratch.forget(cursor);
        index += 1;
    }
    scratch.found.store(cursor);
    1
}
