//! Choosing the peers of a reply: random, never the asker, never a peer twice.
//!
//! A small swarm is read from its record. In a grown one whole chunks are taken, each beginning with a random line, from
//! partitions at a random stride from a random beginning. Partitions that linear hashing has yet to split hold twice as many
//! peers as the others, and get two turns where those get one. When all have had their turns the next lap takes other
//! chunks. What is collected beyond the wanted number is cut off at a random end. No lock is held: a
//! chunk is dropped again if its partition's structure changed while it was read.

use super::{
    Family, Lock, PARTITION_CHUNKS, PARTITIONS_MAX, Partition, Swarm,
    family::{self, Wanted},
    partition::{self, LINES, lookup},
};
use crate::{
    memory::{Memory, Step},
    reply::{PEERS_AT, Scratch, VERSIONS},
    word::{Word, opaque},
};

/// Chunks looked at for one reply, at most. Bounds the work where nearly everybody is a seeder and a seeder asks.
pub const VISITS: u32 = 32;

/// How often a structure that is being changed is looked at again, in a row.
const PATIENCE: u32 = 8;

/// Turns for the visits and for looking again at what was being changed.
const TURNS: u32 = 8 * VISITS;

/// How often the peers in a swarm record are read anew because they moved into partitions or back meanwhile.
const INLINE_TRIES: u32 = 2;

/// Bytes that can be collected before a line is copied: what the mask in `copy_line` lets through.
pub const COLLECTED_MAX: u32 = 2047;

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
/// `want` times [`Family::PEER_BYTES`] has to be below [`COLLECTED_MAX`].
#[inline(always)]
pub fn sample<M: Memory, F: Family>(memory: &M, swarm: u32, want: u32, seeders: bool, own: F::Key) -> Sample {
    let none = Sample { start: PEERS_AT as u32, count: 0 };
    let (Some(scratch), Some(record)) = (memory.scratch(), memory.swarm(swarm)) else { return none };
    if want == 0 {
        return none;
    }
    let random = memory.random();
    scratch.random.store(random);
    scratch.cursor.store(0);
    let wanted = Wanted::new(seeders);
    let root = F::root(record).load();
    if !family::is_root(root) {
        inline::<M, F>(memory, scratch, record, wanted, own);
    }
    let root = F::root(record).load();
    let partitions = family::root_partitions(root);
    if family::is_root(root) && partitions != 0 && partitions <= PARTITIONS_MAX {
        scratch.cursor.store(0);
        scratch.visited.store(0);
        scratch.lap.store(0);
        scratch.moved.store(0);
        scratch.failed.store(0);
        let ring = partition::ring(partitions);
        scratch.partition.store(random & (ring - 1));
        // So that VISITS strides stay within one lap, if there are that many turns; odd, so that a lap misses no turn.
        let stride = (((random >> 16) * (ring / VISITS)) >> 16) | 1;
        F::stash(scratch, own);
        let mut body = Visit::<F> {
            swarm: u64::from(swarm),
            partitions: u64::from(partitions),
            ring: u64::from(ring),
            stride: u64::from(stride),
            seed: u64::from(random),
            wanted,
            enough: u64::from(want * F::PEER_BYTES),
            family: core::marker::PhantomData,
        };
        memory.repeat(TURNS, &mut body);
    }
    cut::<F>(scratch, want)
}

/// Fewer peers than this are chosen from those collected as from a ring, so that all have the same chance. Of more, those at
/// both ends have a smaller one, which nobody will notice.
const FEW: u32 = 16;

/// Keeps `want` of the peers collected, from a random position on.
#[inline(always)]
fn cut<F: Family>(scratch: &Scratch, want: u32) -> Sample {
    let bytes = scratch.forget(scratch.cursor.load()) & COLLECTED_MAX;
    let collected = bytes / F::PEER_BYTES;
    if collected <= want {
        return Sample { start: PEERS_AT as u32, count: collected };
    }
    // The upper bits of the random number have chosen the line to begin with; mixed, they are another number.
    let random = scratch.random.load();
    let random = (random ^ random >> 15).wrapping_mul(0x85eb_ca6b) >> 16;
    let skip = if want < FEW {
        // The ring: the first ones once more behind the last one.
        for word in 0..(FEW * F::PEER_BYTES) as usize / 8 {
            if let Some(value) = scratch.get::<u64>(PEERS_AT + word * 8) {
                scratch.put(PEERS_AT + bytes as usize + word * 8, value);
            }
        }
        (collected * random) >> 16
    } else {
        ((collected - want + 1) * random) >> 16
    };
    Sample { start: PEERS_AT as u32 + skip * F::PEER_BYTES, count: want }
}

#[inline(always)]
fn inline<M: Memory, F: Family>(memory: &M, scratch: &Scratch, swarm: &Swarm, wanted: Wanted, own: F::Key) {
    for _ in 0..INLINE_TRIES {
        let Some(version) = settled(memory, &swarm.lock) else { continue };
        let words = F::inline(swarm);
        let mut cursor = 0;
        for slot in 0..F::INLINE {
            cursor += F::give(scratch, cursor, words, slot * F::WORDS, wanted, own);
        }
        if swarm.lock.unchanged_since(version) {
            scratch.cursor.store(cursor);
            return;
        }
    }
}

/// Waits, within limits, until nobody changes the structure, and returns its version.
#[inline(always)]
fn settled<M: Memory>(memory: &M, lock: &Lock) -> Option<u32> {
    for tries in 0..PATIENCE {
        if let Some(version) = lock.version() {
            return Some(version);
        }
        memory.pause(tries + 1);
    }
    None
}

/// Copies the wanted peers of a line behind the cursor and returns the cursor behind them.
#[inline(always)]
fn copy_line<F: Family>(scratch: &Scratch, cursor: u32, words: &[Word], line: u32, wanted: Wanted, own: F::Key) -> u32 {
    let mut cursor = cursor & COLLECTED_MAX;
    let start = opaque(u64::from(line % LINES) * (F::LINE * F::WORDS) as u64) as usize;
    for slot in 0..F::LINE {
        cursor += F::give(scratch, cursor, words, start + slot * F::WORDS, wanted, own);
    }
    cursor
}

/// Visits a partition and takes one chunk of it.
///
/// All fields have 8 bytes: LLVM merges stores to the stack, and the verifier wants them aligned.
struct Visit<F> {
    swarm: u64,
    partitions: u64,
    /// Turns in a lap: a power of two.
    ring: u64,
    stride: u64,
    seed: u64,
    wanted: Wanted,
    enough: u64,
    family: core::marker::PhantomData<F>,
}

impl<M: Memory, F: Family> Step<M> for Visit<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, _turn: u32) -> bool {
        let (Some(scratch), Some(swarm)) = (memory.scratch(), memory.swarm(self.swarm as u32)) else { return false };
        let visits = scratch.moved.load();
        let lap = scratch.lap.load();
        if visits >= VISITS || lap >= PARTITION_CHUNKS {
            return false;
        }
        let turn = scratch.partition.load();
        let partitions = self.partitions as u32;
        let ring = self.ring as u32;
        // Turns beyond the last partition belong to those that have not been split yet.
        let place = partition::address(turn, partitions);
        let second = if turn == place { 0 } else { 1 };
        let double = if turn != place || place + ring / 2 >= partitions && place < ring / 2 { 1 } else { 0 };
        let rank = (lap << double) + second;
        let Some(number) = lookup::<M, F>(memory, swarm, place, partitions) else { return false };
        let Some(part) = memory.partition(number) else { return false };
        // A partition that is being changed, or was while it was read, is visited again in the next turn.
        let Some(version) = settled(memory, &part.lock) else { return true };
        let own = F::stashed(scratch);
        let random = scratch.random.load().wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        scratch.random.store(random);
        let mut cursor = scratch.cursor.load();
        let mut visit = 0;
        if let Some(words) = self.choose(memory, scratch, part, place, rank, version) {
            visit = 1;
            let first = random >> 30;
            for line in 0..LINES {
                if u64::from(cursor) >= self.enough {
                    break;
                }
                cursor = copy_line::<F>(scratch, cursor, words, first + line, self.wanted, own);
            }
        }
        if !part.lock.unchanged_since(version) {
            return true;
        }
        // Had partitions been merged meanwhile, this one could hold peers that another one has given already.
        let root = F::root(swarm).load();
        if !family::is_root(root) || family::root_partitions(root) < partitions {
            return false;
        }
        scratch.cursor.store(cursor);
        scratch.moved.store(visits + visit);
        let fruitful = scratch.failed.load() | visit;
        scratch.failed.store(fruitful);
        // Next time: the next turn, or the next lap.
        scratch.partition.store((turn + self.stride as u32) & (ring - 1));
        let visited = scratch.visited.load() + 1;
        if visited >= ring {
            scratch.visited.store(0);
            scratch.failed.store(0);
            scratch.lap.store(lap + 1);
            // After a lap in which no partition had a chunk left nobody is missing.
            if fruitful == 0 {
                return false;
            }
        } else {
            scratch.visited.store(visited);
        }
        u64::from(cursor) < self.enough
    }
}

impl<F: Family> Visit<F> {
    /// The chunk of this rank in a partition; `None` if there is none left.
    #[inline(always)]
    fn choose<'m, M: Memory>(
        &self,
        memory: &'m M,
        scratch: &Scratch,
        part: &Partition,
        place: u32,
        rank: u32,
        version: u32,
    ) -> Option<&'m [Word]> {
        let chunks = part.chunk_count.load();
        if rank >= chunks || !partition::belongs::<F>(part, self.swarm as u32, place) {
            return None;
        }
        // The same for all turns of this partition in this sample, and no other's.
        let mark = self.seed as u32 ^ place.wrapping_mul(0x9e37_79b9);
        // A second chunk of a partition that was rebuilt since the first one was read may hold peers of the first.
        let remembered = &scratch.versions[place as usize & (VERSIONS - 1)];
        let entry = u64::from(mark) << 32 | u64::from(version);
        let known = remembered.load();
        if (known >> 32) as u32 != mark {
            remembered.store(entry);
        } else if known != entry {
            return None;
        }
        // The chunk of rank 0: random. A multiply and a shift bring it below the number of chunks.
        let begin = mark.wrapping_mul(0x85eb_ca6b) >> 24;
        let mut index = u64::from(rank) + ((u64::from(begin) * u64::from(chunks)) >> 8);
        if index >= u64::from(chunks) {
            index -= u64::from(chunks);
        }
        if index >= u64::from(PARTITION_CHUNKS) {
            return None;
        }
        F::chunk(memory, part.chunks[index as usize].load())
    }
}
