//! Choosing the peers of a reply: random, never the asker, never a peer twice.
//!
//! A small swarm is read from its record. In a grown one whole chunks are taken, some from a partition, from partitions at a
//! random stride from a random beginning. Partitions that linear hashing has yet to split hold twice as many peers as the
//! others, and get two turns where those get one. When all have had their turns the next lap takes other chunks. What is
//! collected beyond the wanted number is cut off at a random end. No lock is held: chunks are dropped again if their
//! partition's structure changed while they were read.

use super::{
    directory::{self, lookup},
    family::{self, Family, V4, V6, Wanted},
    layout::{self, PARTITION_CHUNKS, PARTITIONS_MAX, Partition, Swarm},
    linear_hash,
    partition::chunks_for,
};
use crate::{
    platform::{Platform, Step},
    scratch::{PEERS_AT, SCRATCH_BYTES, SPREADS, Scratch, VERSIONS, Visit},
    settings::Settings,
    word::{Word, opaque},
};

/// Partitions looked at for one reply, at most: enough for the largest reply. Bounds the work where nearly everybody is a seeder
/// and a seeder asks.
pub const VISITS: u32 = 12;

/// Turns for the visits and for looking again at what was being changed.
const TURNS: u32 = 8 * VISITS;

/// How often the peers in a swarm record are read anew because they moved into partitions or back meanwhile.
const INLINE_TRIES: u32 = 2;

/// Bytes that can be collected before a chunk is copied. All ones: it is a mask as well.
pub const COLLECTED_MAX: u32 = 4095;

/// Bytes that are enough in any case.
const COLLECTED_ENOUGH: u32 = COLLECTED_MAX - 400;

// The largest reply and the chunk that has been begun; and the copy of the first peers behind the last (`cut`).
const _: () = assert!((V4::WANT_LIMIT + V4::SLOTS) * V4::PEER_BYTES <= COLLECTED_MAX);
const _: () = assert!((V6::WANT_LIMIT + V6::SLOTS) * V6::PEER_BYTES <= COLLECTED_MAX);
const _: () = assert!(PEERS_AT + COLLECTED_MAX as usize + 300 + 8 <= SCRATCH_BYTES);

/// Compact peers in [`Scratch::bytes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Offset of the first one.
    pub start: u32,
    /// How many.
    pub count: u32,
}

/// Collects up to `want` of the `wanted` peers of swarm `number`, without `own`.
///
/// More than [`Family::WANT_LIMIT`] are not given. `None` only where [`Platform::HURRIED`], or [`Platform::BOUNDED`] and nearly all are too
/// near.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "what was looked up once is handed on, not looked up again")]
pub fn sample<M: Platform, F: Family>(
    memory: &M,
    settings: &Settings,
    scratch: &Scratch,
    number: u32,
    swarm: &Swarm,
    want: u32,
    wanted: Wanted,
    own: F::Key,
) -> Option<Sample> {
    if want == 0 {
        return Some(Sample { start: PEERS_AT as u32, count: 0 });
    }
    let want = if want > F::WANT_LIMIT { F::WANT_LIMIT } else { want };
    let random = memory.random();
    scratch.sample.random.store(random);
    scratch.sample.visit.cursor.store(0);
    scratch.sample.sift.store(0);
    if !layout::is_root(F::root(swarm).load()) {
        if wanted.excludes(swarm.near()) {
            if M::HURRIED {
                return None;
            }
            scratch.sample.sift.store(1);
        }
        inline::<M, F>(memory, scratch, swarm, wanted, own, random);
        if !M::HURRIED {
            sift::<M, F>(memory, scratch, wanted);
        }
    }
    let root = F::root(swarm).load();
    let partitions = layout::root_partitions(root);
    let mut want = want;
    if layout::is_root(root) && partitions != 0 && partitions <= PARTITIONS_MAX {
        // More than an average partition has, if there are others, takes more than one visit.
        if M::HURRIED && partitions > 1 && want > F::PER_PARTITION * 7 / 8 {
            return None;
        }
        want = scratch.forget(want);
        let partitions = scratch.forget(partitions);
        let ring = linear_hash::ring(partitions);
        if !M::HURRIED {
            begin(memory, scratch, number, partitions);
        }
        let turn = scratch.sample.first_turn.load() & (ring - 1);
        let mut visit = Visit {
            partitions,
            turn,
            flip: if turn >= partitions { 1 } else { 0 },
            // So that VISITS strides stay within one lap, if there are that many turns; odd, so that a lap misses no turn.
            stride: (((random >> 16) * (ring / VISITS)) >> 16) | 1,
            turns: 0,
            lap: 0,
            visits: 0,
            fruitful: 0,
            own_place: linear_hash::address(F::hash(settings, own), partitions),
            wanted: wanted.number(),
            cursor: 0,
            enough: want * F::PEER_BYTES,
        };
        F::stash(scratch, own);
        // The first visit is nearly always enough, and in the kernel each turn of the loop is a call.
        if M::HURRIED {
            if visit.go::<M, F>(memory, scratch, swarm, number) {
                return None;
            }
            scratch.sample.visit.cursor.store(visit.cursor);
        } else {
            scratch.sample.visit.store(&visit);
            scratch.sample.swarm.store(number);
            for _ in 0..if M::BOUNDED { 1 } else { VISITS } {
                memory.repeat(TURNS, &mut Turn::<F>(core::marker::PhantomData));
                let all = scratch.sample.visit.cursor.load() < scratch.sample.visit.enough.load();
                sift::<M, F>(memory, scratch, wanted);
                if all || scratch.sample.visit.cursor.load() >= want * F::PEER_BYTES {
                    break;
                }
                if M::BOUNDED {
                    // Most of the swarm is too near: that takes longer than there is time for here.
                    return None;
                }
                scratch.sample.visit.enough.store(want * F::PEER_BYTES);
            }
        }
        // Only now: whoever takes a sample that was given up begins where that one would have.
        let counter = &scratch.spreads[number as usize % SPREADS];
        counter.store(counter.load().wrapping_add(1));
    }
    Some(cut::<F>(scratch, want))
}

/// From so many partitions on they do not stay in the processor's nearer caches.
const FAR: u32 = 32;

/// Where [`Platform::HURRIED`], decides where the next sample begins, and, if the family has the root word `root`, has the processor
/// bring that nearer while the asker is looked for. Each of the two is a chain of two or three accesses that wait for each other;
/// so they wait at the same time.
#[inline(always)]
pub(super) fn prepare<M: Platform, F: Family>(memory: &M, scratch: &Scratch, number: u32, swarm: &Swarm, root: u64) {
    if !layout::is_root(root) {
        return;
    }
    let partitions = scratch.forget(layout::root_partitions(root));
    begin(memory, scratch, number, partitions);
    if partitions < FAR {
        return;
    }
    let turn = scratch.sample.first_turn.load() & (linear_hash::ring(partitions) - 1);
    let place = linear_hash::address(turn, partitions);
    let Some(part) = lookup::<M, F>(memory, swarm, place, partitions) else { return };
    let Some(part) = memory.partition(scratch.forget(part)) else { return };
    let peers = part.peers.load();
    let chunks = chunks_for::<F>(peers);
    let mut index = first_peer(scratch, place, peers) / F::SLOTS;
    for _ in 0..2 {
        let at = opaque(u64::from(index)) as usize;
        if at >= PARTITION_CHUNKS as usize {
            return;
        }
        let Some(words) = F::chunk(memory, part.chunks[at].load()) else { return };
        for line in (0..words.len()).step_by(8) {
            let _brought = family::at(words, line).load();
        }
        index = if index + 1 >= chunks { 0 } else { index + 1 };
    }
}

/// Decides where a sample of a swarm with so many partitions begins.
///
/// A visit to one partition is all that most samples are, and forty random draws of eight partitions leave out one now and then. So
/// the samples that a core takes of a swarm are counted, and begin where the count, read backwards bit by bit (van der Corput's
/// sequence), points: every turn has its sample before one has a second, and the second begins half a partition from the first, the
/// next two at the quarters. Swarms that share a counter skip some of it, which makes the beginnings random again.
#[inline(always)]
fn begin<M: Platform>(memory: &M, scratch: &Scratch, number: u32, partitions: u32) {
    let counter = &scratch.spreads[number as usize % SPREADS];
    let mut count = counter.load();
    if count == 0 {
        count = memory.random();
        counter.store(count);
    }
    let count = scratch.forget(count);
    let ring = linear_hash::ring(partitions);
    // The turns of a partition that has two of them are half a ring apart: they come as late one after the other as can be.
    let half = if ring < 2 { 1 } else { ring / 2 };
    let point = u64::from(count.reverse_bits()) * u64::from(half);
    let (place, rest) = ((point >> 32) as u32, point as u32);
    let turn = (place + (rest >> 31) * half) & (ring - 1);
    let whole = ring < 2 || has_two_turns(place, partitions, ring);
    let peer = if whole { rest } else { rest << 1 };
    scratch.sample.first_turn.store(turn);
    scratch.sample.first_peer.store(peer);
}

/// Whether linear hashing has still to split the partition at this place, so that it holds twice as many peers as others.
#[inline(always)]
fn has_two_turns(place: u32, partitions: u32, ring: u32) -> bool {
    place < ring / 2 && place + ring / 2 >= partitions
}

/// The number of the peer that a sample begins with in the partition at this place.
#[inline(always)]
fn first_peer(scratch: &Scratch, place: u32, peers: u32) -> u32 {
    // Another one in each partition: a sample may visit several.
    let peer = scratch.sample.first_peer.load().wrapping_add(place.wrapping_mul(0x9e37_79b9));
    ((u64::from(peer) * u64::from(peers)) >> 32) as u32
}

/// The same for all turns of a partition in a sample, and no other's.
#[inline(always)]
fn mark(random: u32, place: u32) -> u32 {
    random ^ place.wrapping_mul(0x9e37_79b9)
}

/// Keeps `want` of the peers collected, from a random one on and as from a ring.
#[inline(always)]
fn cut<F: Family>(scratch: &Scratch, want: u32) -> Sample {
    let bytes = scratch.forget(scratch.sample.visit.cursor.load());
    let collected = bytes / F::PEER_BYTES;
    if collected <= want {
        return Sample { start: PEERS_AT as u32, count: collected };
    }
    let first = scratch.sample.first.load();
    let skip = if first < collected { first } else { 0 };
    if skip + want > collected {
        // The ring: the first ones once more behind the last one.
        let again = (skip + want - collected) * F::PEER_BYTES;
        scratch.copy(PEERS_AT, PEERS_AT + bytes as usize, again as usize);
    }
    Sample { start: PEERS_AT as u32 + skip * F::PEER_BYTES, count: want }
}

#[inline(always)]
fn inline<M: Platform, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    wanted: Wanted,
    own: F::Key,
    random: u32,
) {
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
            scratch.sample.visit.cursor.store(cursor);
            scratch.sample.first.store((cursor / F::PEER_BYTES * (random >> 16)) >> 16);
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

/// Leaves the peers who are too near out of what was collected, one after the other.
struct Sift<F>(core::marker::PhantomData<F>);

impl<M: Platform, F: Family> Step<M> for Sift<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let Some(scratch) = memory.scratch() else { return false };
        let kept = scratch.sample.kept.load();
        let Some(near) = F::carry(scratch, (turn * F::PEER_BYTES) as usize, (kept & COLLECTED_MAX) as usize) else {
            return false;
        };
        let wanted = Wanted::from_number(scratch.sample.visit.wanted.load());
        scratch.sample.kept.store(kept + wanted.admits(near) * F::PEER_BYTES);
        true
    }
}

/// Leaves out of what was collected who is too near, if somebody may be; what is kept begins anywhere.
#[inline(always)]
fn sift<M: Platform, F: Family>(memory: &M, scratch: &Scratch, wanted: Wanted) {
    if scratch.sample.sift.load() == 0 {
        return;
    }
    scratch.sample.visit.wanted.store(wanted.number());
    scratch.sample.kept.store(0);
    memory.repeat(scratch.sample.visit.cursor.load() / F::PEER_BYTES, &mut Sift::<F>(core::marker::PhantomData));
    let kept = scratch.sample.kept.load();
    scratch.sample.visit.cursor.store(kept);
    scratch.sample.first.store((kept / F::PEER_BYTES * (scratch.sample.random.load() >> 16)) >> 16);
}

/// One turn of the loop. What is known between two turns is in [`Scratch::sample`].
struct Turn<F>(core::marker::PhantomData<F>);

impl<M: Platform, F: Family> Step<M> for Turn<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, _turn: u32) -> bool {
        let Some(scratch) = memory.scratch() else { return false };
        let number = scratch.sample.swarm.load();
        let Some(swarm) = memory.swarm(number) else { return false };
        let mut visit = scratch.sample.visit.load();
        let goes_on = visit.go::<M, F>(memory, scratch, swarm, number);
        scratch.sample.visit.store(&visit);
        goes_on
    }
}

impl Visit {
    /// Visits a partition and takes some chunks of it. False if that was the last.
    #[inline(always)]
    fn go<M: Platform, F: Family>(&mut self, memory: &M, scratch: &Scratch, swarm: &Swarm, number: u32) -> bool {
        if self.visits >= VISITS || self.lap * F::VISIT >= PARTITION_CHUNKS {
            return false;
        }
        let ring = linear_hash::ring(self.partitions);
        // Turns beyond the last partition belong to those that have not been split yet.
        let place = linear_hash::address(self.turn, self.partitions);
        let second = if self.turn == place { 0 } else { 1 };
        // Of two turns for one partition, that kind comes first which the first turn of all is.
        let rank =
            if has_two_turns(place, self.partitions, ring) { self.lap * 2 + (second ^ self.flip) } else { self.lap };
        // What the ways to here have shown of these numbers does not matter from here on.
        let rank = scratch.forget(rank * F::VISIT);
        let Some(part) = lookup::<M, F>(memory, swarm, place, self.partitions) else { return false };
        let Some(part) = memory.partition(scratch.forget(part)) else { return false };
        let place = scratch.forget(place);
        self.partitions = scratch.forget(self.partitions);
        self.turn = scratch.forget(self.turn);
        // A partition that is being changed, or was while it was read, is visited again in the next turn.
        let Some(version) = part.lock.version() else {
            memory.pause(1);
            return true;
        };
        // Where somebody is too near, so that not all of these can be given.
        let near = Wanted::from_number(self.wanted).excludes(part.near());
        if near {
            if M::HURRIED {
                return true;
            }
            scratch.sample.sift.store(1);
            let enough = self.enough + F::VISIT * F::SLOTS * F::PEER_BYTES;
            self.enough = if enough > COLLECTED_ENOUGH { COLLECTED_ENOUGH } else { enough };
        }
        scratch.sample.collected.store(self.cursor);
        let chunks = chunks_for::<F>(part.peers.load());
        let visit = self.take::<M, F>(memory, scratch, part, number, place, rank, version);
        if !part.lock.unchanged_since(version) {
            return true;
        }
        // Had partitions been merged meanwhile, this one could hold peers that another one has given already.
        let root = F::root(swarm).load();
        if !layout::is_root(root) || layout::root_partitions(root) < self.partitions {
            return false;
        }
        self.cursor = scratch.sample.collected.load();
        if self.cursor < self.enough {
            // So nobody of these has to be left out.
            scratch.sample.first.store(0);
        }
        if self.partitions == 1 && rank + F::VISIT >= chunks {
            // That was everybody.
            return false;
        }
        self.visits += visit;
        self.fruitful |= visit;
        // Next time: the next turn, or the next lap.
        self.turn = (self.turn + self.stride) & (ring - 1);
        self.turns += 1;
        if self.turns >= ring {
            // After a lap in which no partition had a chunk left nobody is missing.
            if self.fruitful == 0 {
                return false;
            }
            self.turns = 0;
            self.fruitful = 0;
            self.lap += 1;
        }
        self.cursor < self.enough
    }

    /// Takes the chunks of a partition from this rank on, and leaves the cursor behind them in [`Sampling::collected`](crate::scratch::Sampling::collected). 0 if there is none.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "what was looked up once is handed on, not looked up again")]
    fn take<M: Platform, F: Family>(
        &self,
        memory: &M,
        scratch: &Scratch,
        part: &Partition,
        swarm: u32,
        place: u32,
        rank: u32,
        version: u32,
    ) -> u32 {
        let peers = part.peers.load();
        let chunks = chunks_for::<F>(peers);
        if rank >= chunks || !directory::belongs::<F>(part, swarm, place) {
            return 0;
        }
        let random = scratch.sample.random.load();
        let mark = mark(random, place);
        // Further chunks of a partition that was changed since the first ones were read may hold peers of those. A newcomer changes
        // no structure, but the number of peers, and with it which chunk is which.
        let remembered = &scratch.versions[place as usize & (VERSIONS - 1)];
        let entry = u64::from(mark) << 32 | u64::from(version ^ peers.wrapping_mul(0x9e37_79b9));
        let known = remembered.load();
        if (known >> 32) as u32 != mark {
            remembered.store(entry);
        } else if known != entry {
            return 0;
        }
        // The chunk of rank 0 is that of a random peer, who is given first, so that those in the last one, which may be few, do not
        // come up more often.
        let first = first_peer(scratch, place, peers);
        let mut enough = self.enough;
        if self.cursor == 0 {
            scratch.sample.first.store(first % F::SLOTS);
            // Those in front of him are left out, if there are others.
            enough += first % F::SLOTS * F::PEER_BYTES;
        }
        let mut index = rank + first / F::SLOTS;
        let mut cursor = self.cursor;
        let wanted = Wanted::from_number(self.wanted);
        let plain = wanted.seeders() && place != self.own_place;
        let count = scratch.forget(chunks - rank);
        for taken in 0..F::VISIT {
            let chunks = scratch.forget(chunks);
            if index >= chunks {
                index -= chunks;
            }
            // The verifier does not follow the subtraction.
            let at = opaque(u64::from(index)) as usize;
            if at >= PARTITION_CHUNKS as usize || taken >= count || cursor >= enough {
                break;
            }
            let Some(words) = F::chunk(memory, part.chunks[at].load()) else { break };
            cursor &= COLLECTED_MAX;
            if plain {
                let left = scratch.forget(peers).wrapping_sub(at as u32 * F::SLOTS);
                cursor = copy_chunk::<F>(scratch, cursor, words, if left < F::SLOTS { left } else { F::SLOTS });
            } else {
                cursor = pick_from_chunk::<F>(scratch, cursor, words, wanted, F::stashed(scratch));
            }
            // To the verifier all ways through the loop shall be one.
            cursor = scratch.forget(cursor);
            index = scratch.forget(index + 1);
        }
        scratch.sample.collected.store(cursor);
        1
    }
}
