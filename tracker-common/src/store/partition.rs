//! Swarms that outgrew their record: partitions, their directory, growing and splitting.
//!
//! A peer's partition comes from the low bits of its hash by linear hashing: with n partitions, those below
//! the last power of two that was passed are split already. Its home line within the partition comes from the high bits;
//! the peer is in its home line or one of the following ones, wherever a slot was free; how far away at most is written in the
//! partition (its reach). Because a search always looks that far, a slot that becomes free needs no mark.
//!
//! A partition that has no free slot within [`Family::WINDOW`] lines is rebuilt with one chunk more; when the swarm has more than
//! [`Family::PER_PARTITION`] peers per partition, the next partition in order is split. Both build new chunks
//! beside the old ones and exchange them at the end, so that a failure on the way (no memory) changes nothing.

use super::{
    Family, NODE_REFS, PARTITION_CHUNKS, PARTITIONS_MAX, Partition, ROOT_REFS, Rare, Swarm,
    family::{self, OCCUPIED, at},
    pool,
    update::acquire,
};
use crate::{
    memory::{Memory, Step},
    outcome::{Event, Reason},
    reply::{REFS, Scratch},
    word::{Word, Word32, opaque},
};

/// Lines of a chunk.
pub const LINES: u32 = 4;

/// Slots of a chunk.
#[inline(always)]
pub const fn slots<F: Family>() -> u32 {
    LINES * F::LINE as u32
}

/// Chunks for so many peers when a partition is rebuilt: three quarters full.
#[inline(always)]
pub(super) fn chunks_for<F: Family>(peers: u32) -> u32 {
    let per_chunk = slots::<F>() * 3 / 4;
    peers.div_ceil(per_chunk).clamp(1, PARTITION_CHUNKS)
}

/// All bits below and including the highest bit set in `n`, for `n` below 2^16.
#[inline(always)]
fn smear(mut n: u32) -> u32 {
    n |= n >> 1;
    n |= n >> 2;
    n |= n >> 4;
    n | n >> 8
}

/// Linear hashing: the partition of a hash among `partitions`.
#[inline(always)]
#[must_use]
pub fn address(hash: u32, partitions: u32) -> u32 {
    let mask = smear(partitions.wrapping_sub(1) & 0xffff);
    let place = hash & mask;
    if place >= partitions { place & (mask >> 1) } else { place }
}

/// The next power of two: how many partitions there will be when all have been split.
#[inline(always)]
pub(super) fn ring(partitions: u32) -> u32 {
    smear(partitions.wrapping_sub(1) & 0xffff) + 1
}

/// The partition that is split to make partition number `next`.
#[inline(always)]
fn parent(next: u32) -> u32 {
    next & (smear(next) >> 1)
}

/// A position in a partition: chunk number and word index of the slot.
#[derive(Clone, Copy)]
pub(super) struct Position {
    chunk: u32,
    base: u32,
}

impl Position {
    /// The chunk's words and the slot's first word.
    #[inline(always)]
    pub(super) fn words<F: Family, M: Memory>(self, memory: &M) -> Option<(&[Word], usize)> {
        let words = F::chunk(memory, self.chunk)?;
        let base = self.base as usize;
        // For the verifier, which no longer knows where the number came from.
        if base > (slots::<F>() as usize - 1) * F::WORDS {
            return None;
        }
        Some((words, base))
    }
}

/// Reads one of two 32-bit entries of a word.
#[inline(always)]
fn half(word: u64, index: u32) -> u32 {
    if index & 1 == 0 { word as u32 } else { (word >> 32) as u32 }
}

#[inline(always)]
fn root_ref<F: Family>(swarm: &Swarm, index: u32) -> u32 {
    let word = at(F::inline(swarm), F::root_pair((index as usize & 7) >> 1)).load();
    half(word, index)
}

#[inline(always)]
fn node_ref<M: Memory>(memory: &M, node: u32, index: u32) -> Option<u32> {
    let chunk = memory.chunk_v4(node)?;
    Some(half(at(&chunk.words, (index as usize >> 1) & 31).load(), index))
}

/// Writes an entry; the swarm's lock is held, so nobody else writes its neighbour.
#[inline(always)]
fn set_half(word: &Word, index: u32, value: u32) {
    let seen = word.load();
    let value = u64::from(value);
    word.store(if index & 1 == 0 { (seen & !0xffff_ffff) | value } else { (seen & 0xffff_ffff) | value << 32 });
}

/// Partition number `place` of a swarm with `partitions` of them. What it reads may be outdated: the partition
/// itself says whether it is the right one ([`belongs`]).
#[inline(always)]
pub(super) fn lookup<M: Memory, F: Family>(memory: &M, swarm: &Swarm, place: u32, partitions: u32) -> Option<u32> {
    if partitions <= ROOT_REFS {
        Some(root_ref::<F>(swarm, place))
    } else if partitions <= ROOT_REFS * NODE_REFS {
        node_ref(memory, root_ref::<F>(swarm, place >> 6), place & 63)
    } else {
        let node = node_ref(memory, root_ref::<F>(swarm, place >> 12), (place >> 6) & 63)?;
        node_ref(memory, node, place & 63)
    }
}

/// Whether the partition is number `place` of the swarm.
#[inline(always)]
pub(super) fn belongs<F: Family>(partition: &Partition, swarm: u32, place: u32) -> bool {
    partition.owner.load() == swarm + 1 && partition.place.load() & !REACH == (F::TAG | place)
}

const REACH: u32 = 0xff << REACH_SHIFT;
const REACH_SHIFT: u32 = 16;

/// Within how many lines from its home line every peer is.
#[inline(always)]
pub(super) fn reach(partition: &Partition) -> u32 {
    (partition.place.load() & REACH) >> REACH_SHIFT
}

#[inline(always)]
fn set_reach(partition: &Partition, reach: u32) {
    partition.place.store((partition.place.load() & !REACH) | reach << REACH_SHIFT);
}

/// Notes that a peer was put into the slot last found.
#[inline(always)]
pub(super) fn extend_reach(scratch: &Scratch, partition: &Partition) {
    let needed = scratch.step.load() + 1;
    if needed > reach(partition) {
        set_reach(partition, needed);
    }
}

/// Enters partition number `place`, the next one, into the directory; the swarm's lock is held.
#[inline(never)]
fn enter<M: Memory, F: Family>(memory: &M, swarm: &Swarm, place: u32, number: u32) -> Result<(), Reason> {
    if place < ROOT_REFS {
        set_root::<F>(swarm, place, number);
        return Ok(());
    }
    if place < ROOT_REFS * NODE_REFS {
        // The directory gets a level when its root is full, and a node when the last one is.
        if place == ROOT_REFS {
            deepen::<M, F>(memory, swarm)?;
        } else if place & 63 == 0 {
            set_root::<F>(swarm, place >> 6, pool::take::<M, pool::ChunksV4>(memory)?);
        }
        return set_node(memory, root_ref::<F>(swarm, place >> 6), place & 63, number);
    }
    // All that can fail comes before the first change that a reader with the old count would stumble over.
    let leaf = if place & 63 == 0 { pool::take::<M, pool::ChunksV4>(memory)? } else { 0 };
    let upper = if place == ROOT_REFS * NODE_REFS {
        deepen::<M, F>(memory, swarm)
    } else if place & 0xfff == 0 {
        match pool::take::<M, pool::ChunksV4>(memory) {
            Ok(node) => {
                set_root::<F>(swarm, place >> 12, node);
                Ok(())
            }
            Err(reason) => Err(reason),
        }
    } else {
        Ok(())
    };
    if let Err(reason) = upper {
        pool::give_back::<M, pool::ChunksV4>(memory, leaf);
        return Err(reason);
    }
    let upper = root_ref::<F>(swarm, place >> 12);
    if place & 63 == 0 {
        set_node(memory, upper, (place >> 6) & 63, leaf)?;
    }
    let Some(node) = node_ref(memory, upper, (place >> 6) & 63) else { return Err(Reason::Internal) };
    set_node(memory, node, place & 63, number)
}

/// Moves the root's entries into a new node and makes that the root's first entry.
#[inline(always)]
fn deepen<M: Memory, F: Family>(memory: &M, swarm: &Swarm) -> Result<(), Reason> {
    let node = pool::take::<M, pool::ChunksV4>(memory)?;
    let Some(chunk) = memory.chunk_v4(node) else { return Err(Reason::Internal) };
    for pair in 0..4 {
        at(&chunk.words, pair).store(at(F::inline(swarm), F::root_pair(pair)).load());
    }
    set_root::<F>(swarm, 0, node);
    Ok(())
}

#[inline(always)]
fn set_root<F: Family>(swarm: &Swarm, index: u32, value: u32) {
    set_half(at(F::inline(swarm), F::root_pair((index as usize & 7) >> 1)), index, value);
}

#[inline(always)]
fn set_node<M: Memory>(memory: &M, node: u32, index: u32, value: u32) -> Result<(), Reason> {
    let Some(chunk) = memory.chunk_v4(node) else { return Err(Reason::Internal) };
    set_half(at(&chunk.words, (index as usize >> 1) & 31), index, value);
    Ok(())
}

/// What [`scan`] looks for.
#[derive(Clone, Copy)]
pub(super) enum Target<K> {
    /// The peer's slot.
    Peer(K),
    /// A free slot.
    Free,
}

/// Where chunk numbers stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the partition of this number.
    Of(u32),
    /// In [`Scratch::refs`].
    New,
    /// In [`Scratch::refs_split`].
    NewSplit,
}

/// Looks line by line, from the home line on, for the peer whose key is stashed, or for a free slot.
///
/// All fields have 8 bytes, as in [`Move`].
struct Search<F> {
    /// Partition number + 1; 0 for [`Chunks::New`].
    partition: u64,
    split: u64,
    free: u64,
    home: u64,
    lines: u64,
    /// Chunk number + 1 of the slot found.
    chunk: u64,
    family: core::marker::PhantomData<F>,
}

impl<M: Memory, F: Family> Step<M> for Search<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let Some(scratch) = memory.scratch() else { return false };
        let mut line = self.home as u32 + turn;
        if line >= self.lines as u32 {
            line -= self.lines as u32;
        }
        let target = if self.free == 0 { Target::Peer(F::stashed(scratch)) } else { Target::Free };
        let found = if self.partition == 0 {
            line_of::<M, F, REFS>(memory, scratch, list(scratch, self.split != 0), line, target)
        } else {
            let Some(partition) = memory.partition((self.partition - 1) as u32) else { return false };
            line_of::<M, F, { PARTITION_CHUNKS as usize }>(memory, scratch, &partition.chunks, line, target)
        };
        match found {
            Some(Position { chunk, .. }) => {
                scratch.step.store(turn);
                self.chunk = u64::from(chunk) + 1;
                false
            }
            None => true,
        }
    }
}

/// Looks through the first `window` lines from the home line. The slot found is left in [`Scratch::found`], the distance of its
/// line in [`Scratch::step`].
#[inline(always)]
fn scan<M: Memory, F: Family>(
    memory: &M,
    place: Chunks,
    chunks: u32,
    window: u32,
    hash: u32,
    free: bool,
) -> Result<u32, Reason> {
    let lines = chunks * LINES;
    let mut search = Search::<F> {
        partition: if let Chunks::Of(number) = place { u64::from(number) + 1 } else { 0 },
        split: u64::from(place == Chunks::NewSplit),
        free: u64::from(free),
        home: u64::from(((hash >> 16) * lines) >> 16),
        lines: u64::from(lines),
        chunk: 0,
        family: core::marker::PhantomData,
    };
    memory.repeat(if window < lines { window } else { lines }, &mut search);
    if search.chunk == 0 { Err(Reason::NoRoom) } else { Ok((search.chunk - 1) as u32) }
}

/// Looks through one line.
#[inline(always)]
pub(super) fn line_of<M: Memory, F: Family, const N: usize>(
    memory: &M,
    scratch: &Scratch,
    refs: &[Word32; N],
    line: u32,
    target: Target<F::Key>,
) -> Option<Position> {
    let index = opaque(u64::from(line / LINES)) as usize;
    if index >= N {
        return None;
    }
    let chunk = refs[index].load();
    let words = F::chunk(memory, chunk)?;
    let start = opaque(u64::from(line % LINES) * (F::LINE * F::WORDS) as u64) as usize;
    // The slot found goes through memory, so that the verifier sees one way on from here and not one per slot.
    scratch.found.store(u32::MAX);
    for slot in 0..F::LINE {
        let base = start + slot * F::WORDS;
        let hit = match target {
            Target::Peer(key) => F::matches(words, base, key),
            Target::Free => F::flags_at(words, base).load() & OCCUPIED == 0,
        };
        if hit {
            scratch.found.store(base as u32);
            break;
        }
    }
    let base = scratch.found.load();
    if base == u32::MAX { None } else { Some(Position { chunk, base }) }
}

/// Finds the slot of the peer with this key and hash in a partition.
#[inline(always)]
pub(super) fn find<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    partition: &Partition,
    number: u32,
    hash: u32,
    key: F::Key,
) -> Option<Position> {
    // Most peers are in their home line.
    let lines = partition.chunk_count.load() * LINES;
    let home = scratch.forget(((hash >> 16) * lines) >> 16);
    let there =
        line_of::<M, F, { PARTITION_CHUNKS as usize }>(memory, scratch, &partition.chunks, home, Target::Peer(key));
    if there.is_some() || reach(partition) <= 1 {
        return there;
    }
    F::stash(scratch, key);
    seek::<M, F>(memory, scratch, number, hash, false)
}

/// Finds a free slot for a peer with this hash in a partition.
#[inline(always)]
pub(super) fn find_free<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    number: u32,
    hash: u32,
) -> Option<Position> {
    seek::<M, F>(memory, scratch, number, hash, true)
}

#[inline(always)]
fn seek<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    partition: u32,
    hash: u32,
    free: bool,
) -> Option<Position> {
    match memory.rarely(Rare::Seek { family: F::TAG, partition, hash, free }) {
        Ok(chunk) => Some(Position { chunk, base: scratch.found.load() }),
        Err(_) => None,
    }
}

/// Finds a free slot in the new chunks of a partition being rebuilt, or in those of the partition being split off.
#[inline(always)]
fn place_in<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    split: bool,
    chunks: u32,
    hash: u32,
) -> Option<Position> {
    match memory.rarely(Rare::Place { family: F::TAG, split, chunks, hash }) {
        Ok(chunk) => Some(Position { chunk, base: scratch.found.load() }),
        Err(_) => None,
    }
}

/// [`Rare::Place`]: the chunk of the slot; the slot is left in [`Scratch::found`].
#[inline(always)]
pub(super) fn place_here<M: Memory, F: Family>(memory: &M, split: bool, chunks: u32, hash: u32) -> Result<u32, Reason> {
    let place = if split { Chunks::NewSplit } else { Chunks::New };
    scan::<M, F>(memory, place, chunks, F::WINDOW, hash, true)
}

/// [`Rare::Seek`]: the chunk of the slot that is looked for; the slot is left in [`Scratch::found`].
#[inline(always)]
pub(super) fn seek_here<M: Memory, F: Family>(memory: &M, number: u32, hash: u32, free: bool) -> Result<u32, Reason> {
    let Some(partition) = memory.partition(number) else { return Err(Reason::Internal) };
    let window = if free { F::WINDOW } else { reach(partition) };
    scan::<M, F>(memory, Chunks::Of(number), partition.chunk_count.load(), window, hash, free)
}

/// The peer in the window that has not announced for the longest time: who goes when there is no memory left.
#[inline(never)]
pub(super) fn oldest<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    partition: &Partition,
    hash: u32,
    minute: u32,
) -> Option<Position> {
    let lines = partition.chunk_count.load() * LINES;
    let line = ((hash >> 16) * lines) >> 16;
    let index = opaque(u64::from(line / LINES)) as usize;
    if index >= PARTITION_CHUNKS as usize {
        return None;
    }
    let chunk = partition.chunks[index].load();
    let words = F::chunk(memory, chunk)?;
    let start = opaque(u64::from(line % LINES) * (F::LINE * F::WORDS) as u64) as usize;
    oldest_of::<F>(scratch, words, start, F::LINE, minute);
    Some(Position { chunk, base: scratch.found.load() })
}

/// Leaves in [`Scratch::found`] which of the `slots` slots from word `start` on holds the peer that has not announced for the
/// longest time.
#[inline(always)]
pub(super) fn oldest_of<F: Family>(scratch: &Scratch, words: &[Word], start: usize, slots: usize, minute: u32) {
    scratch.found.store(start as u32);
    scratch.moved.store(0);
    for slot in 0..slots {
        let base = start + slot * F::WORDS;
        let age = family::age(F::flags_at(words, base).load(), minute);
        if age > scratch.moved.load() {
            scratch.moved.store(age);
            scratch.found.store(base as u32);
        }
    }
}

/// Takes chunks into a list; on failure those taken are given back.
struct TakeChunks<F> {
    split: u64,
    family: core::marker::PhantomData<F>,
}

impl<M: Memory, F: Family> Step<M> for TakeChunks<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let Some(scratch) = memory.scratch() else { return false };
        match pool::take::<M, F::Pool>(memory) {
            Ok(number) => {
                list(scratch, self.split != 0)[turn as usize & (REFS - 1)].store(number);
                scratch.moved.store(turn + 1);
                true
            }
            Err(_) => {
                scratch.failed.store(1);
                false
            }
        }
    }
}

/// Gives the chunks of a list back.
struct GiveChunks<F> {
    split: u64,
    family: core::marker::PhantomData<F>,
}

impl<M: Memory, F: Family> Step<M> for GiveChunks<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let Some(scratch) = memory.scratch() else { return false };
        pool::give_back::<M, F::Pool>(memory, list(scratch, self.split != 0)[turn as usize & (REFS - 1)].load());
        true
    }
}

#[inline(always)]
fn list(scratch: &Scratch, split: bool) -> &[Word32; REFS] {
    if split { &scratch.refs_split } else { &scratch.refs }
}

#[inline(never)]
fn take_chunks<M: Memory, F: Family>(memory: &M, scratch: &Scratch, split: bool, count: u32) -> Result<(), Reason> {
    scratch.failed.store(0);
    scratch.moved.store(0);
    scratch.reach.store(0);
    scratch.reach_split.store(0);
    memory.repeat(count, &mut TakeChunks::<F> { split: u64::from(split), family: core::marker::PhantomData });
    if scratch.failed.load() == 0 {
        return Ok(());
    }
    give_chunks::<M, F>(memory, split, scratch.moved.load());
    Err(Reason::MemoryFull)
}

#[inline(never)]
fn give_chunks<M: Memory, F: Family>(memory: &M, split: bool, count: u32) {
    memory.repeat(count, &mut GiveChunks::<F> { split: u64::from(split), family: core::marker::PhantomData });
}

/// Visits every slot of a partition: counts its peers, or copies them into new chunks.
///
/// All fields have 8 bytes: LLVM merges stores to the stack, and the verifier wants them aligned.
struct Move<F> {
    partition: u64,
    partitions: u64,
    place: u64,
    chunks: u64,
    chunks_split: u64,
    count_only: u64,
    family: core::marker::PhantomData<F>,
}

impl<F: Family> Move<F> {
    /// Counts, among `partitions`, who belongs to `place` and who does not.
    #[inline(always)]
    fn counting(partition: u32, partitions: u32, place: u32) -> Self {
        Self {
            partition: u64::from(partition),
            partitions: u64::from(partitions),
            place: u64::from(place),
            chunks: 0,
            chunks_split: 0,
            count_only: 1,
            family: core::marker::PhantomData,
        }
    }

    /// From now on copies: those who belong to `place` into the first list of chunks, the others into the second.
    #[inline(always)]
    fn copy(&mut self, chunks: u32, chunks_split: u32) {
        self.chunks = u64::from(chunks);
        self.chunks_split = u64::from(chunks_split);
        self.count_only = 0;
    }
}

impl<M: Memory, F: Family> Step<M> for Move<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let (Some(scratch), Some(settings)) = (memory.scratch(), memory.settings()) else { return false };
        let Some(partition) = memory.partition(self.partition as u32) else { return false };
        let index = turn / slots::<F>();
        if index >= PARTITION_CHUNKS {
            return false;
        }
        let Some(words) = F::chunk(memory, partition.chunks[index as usize].load()) else { return false };
        let base = (turn % slots::<F>()) as usize * F::WORDS;
        let flags = F::flags_at(words, base).load();
        if flags & OCCUPIED == 0 {
            return true;
        }
        let hash = F::hash(settings, F::key_at(words, base));
        let stays = u64::from(address(hash, self.partitions as u32)) == self.place;
        if self.count_only != 0 {
            if stays {
                scratch.lap.store(scratch.lap.load() + 1);
            } else {
                scratch.visited.store(scratch.visited.load() + 1);
            }
            return true;
        }
        let chunks = if stays { self.chunks } else { self.chunks_split } as u32;
        let target =
            place_in::<M, F>(memory, scratch, !stays, chunks, hash).and_then(|position| position.words::<F, M>(memory));
        match target {
            Some((new, place)) => {
                // Read once more rather than kept: the stack is short.
                F::occupy(new, place, F::key_at(words, base), flags);
                let reach = if stays { &scratch.reach } else { &scratch.reach_split };
                let needed = scratch.step.load() + 1;
                if needed > reach.load() {
                    reach.store(needed);
                }
                true
            }
            None => {
                scratch.failed.store(1);
                false
            }
        }
    }
}

/// Puts the chunks of the first list into the partition and the partition's into the list.
#[inline(always)]
fn exchange(scratch: &Scratch, partition: &Partition, chunks: u32) -> u32 {
    let before = partition.chunk_count.load();
    partition.lock.begin_change();
    for (old, new) in partition.chunks.iter().zip(&scratch.refs) {
        let number = old.load();
        old.store(new.load());
        new.store(number);
    }
    partition.chunk_count.store(chunks);
    set_reach(partition, scratch.reach.load());
    before
}

/// How many sizes are tried when a partition is rebuilt: now and then the window of a peer is full although there is room
/// elsewhere.
pub const ATTEMPTS: u32 = 6;

/// Rebuilds a partition, whose lock is held, with `chunks` chunks, such that there is a free slot for a peer with the hash
/// `newcomer`.
///
/// # Errors
/// [`Reason::MemoryFull`] when there are not that many, [`Reason::NoRoom`] when a peer found no place in them; nothing is changed
/// then.
#[inline(always)]
pub(super) fn rebuild<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    partition: &Partition,
    number: u32,
    chunks: u32,
    newcomer: u32,
) -> Result<(), Reason> {
    if chunks > PARTITION_CHUNKS {
        return Err(Reason::MemoryFull);
    }
    take_chunks::<M, F>(memory, scratch, false, chunks)?;
    let turns = partition.chunk_count.load() * slots::<F>();
    // With one partition every address is 0, so everybody stays.
    let mut body = Move::<F>::counting(number, 1, 0);
    body.copy(chunks, 0);
    memory.repeat(turns, &mut body);
    let fits = scratch.failed.load() == 0 && place_in::<M, F>(memory, scratch, false, chunks, newcomer).is_some();
    let give = if fits {
        memory.event(Event::Grown);
        exchange(scratch, partition, chunks)
    } else {
        chunks
    };
    give_chunks::<M, F>(memory, false, give);
    if fits { Ok(()) } else { Err(Reason::NoRoom) }
}

/// Copies the peers in a swarm record into a partition of one chunk.
struct MoveIn<F> {
    swarm: u64,
    partition: u64,
    family: core::marker::PhantomData<F>,
}

impl<M: Memory, F: Family> Step<M> for MoveIn<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let (Some(scratch), Some(settings)) = (memory.scratch(), memory.settings()) else { return false };
        let Some(swarm) = memory.swarm(self.swarm as u32) else { return false };
        let inline = F::inline(swarm);
        let slot = opaque(u64::from(turn)) as usize;
        if slot >= F::INLINE {
            return false;
        }
        let base = slot * F::WORDS;
        let flags = F::flags_at(inline, base).load();
        let key = F::key_at(inline, base);
        let hash = F::hash(settings, key);
        // The window of a single chunk is the whole chunk: there is room.
        let free = find_free::<M, F>(memory, scratch, self.partition as u32, hash);
        if let Some((words, free)) = free.and_then(|position| position.words::<F, M>(memory)) {
            F::occupy(words, free, key, flags);
        }
        true
    }
}

/// Gives a family that outgrew the swarm record its first partition. The swarm's lock is held.
///
/// # Errors
/// [`Reason::MemoryFull`], [`Reason::Contended`]; nothing is changed then.
#[inline(always)]
pub(super) fn found<M: Memory, F: Family>(memory: &M, swarm: &Swarm, number: u32) -> Result<(), Reason> {
    let first = pool::take::<M, pool::Partitions>(memory)?;
    let result = match pool::take::<M, F::Pool>(memory) {
        Ok(chunk) => match memory.partition(first) {
            Some(partition) => match acquire(memory, &partition.lock) {
                Ok(()) => {
                    partition.lock.begin_change();
                    partition.owner.store(number + 1);
                    // A single chunk is searched as a whole.
                    partition.place.store(F::TAG | LINES << REACH_SHIFT);
                    partition.chunk_count.store(1);
                    partition.chunks[0].store(chunk);
                    let mut body = MoveIn::<F> {
                        swarm: u64::from(number),
                        partition: u64::from(first),
                        family: core::marker::PhantomData,
                    };
                    memory.repeat(F::INLINE as u32, &mut body);
                    partition.lock.unlock();
                    swarm.lock.begin_change();
                    set_root::<F>(swarm, 0, first);
                    F::root(swarm).store(family::root_word(F::INLINE as u32, 1));
                    memory.event(Event::Grown);
                    Ok(())
                }
                Err(reason) => {
                    pool::give_back::<M, F::Pool>(memory, chunk);
                    Err(reason)
                }
            },
            None => Err(Reason::Internal),
        },
        Err(reason) => Err(reason),
    };
    if result.is_err() {
        pool::give_back::<M, pool::Partitions>(memory, first);
    }
    result
}

/// Splits the next partition of a swarm, if the swarm has become too large for those it has. No lock is held. `extra` chunks
/// more than usual are given to both halves.
///
/// # Errors
/// [`Reason::NoRoom`] when a peer found no place: more chunks may help. [`Reason::MemoryFull`], [`Reason::Contended`]. Nothing
/// is changed then.
#[inline(always)]
pub(super) fn split<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    number: u32,
    extra: u32,
) -> Result<(), Reason> {
    acquire(memory, &swarm.lock)?;
    let mut result = Ok(());
    let root = F::root(swarm).load();
    let count = family::root_partitions(root);
    if family::is_root(root)
        && count < PARTITIONS_MAX
        && family::root_peers(root) > count.wrapping_mul(F::PER_PARTITION)
        && let Some(old) = lookup::<M, F>(memory, swarm, parent(count), count)
        && let Some(partition) = memory.partition(old)
        && acquire(memory, &partition.lock).is_ok()
    {
        if belongs::<F>(partition, number, parent(count)) {
            result = split_locked::<M, F>(memory, scratch, swarm, number, partition, old, count, extra);
        }
        partition.lock.unlock();
    }
    swarm.lock.unlock();
    if result.is_ok() {
        memory.event(Event::Split);
    }
    result
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "what was looked up once is handed on, not looked up again")]
fn split_locked<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    number: u32,
    partition: &Partition,
    old: u32,
    count: u32,
    extra: u32,
) -> Result<(), Reason> {
    let mut body = Move::<F>::counting(old, count + 1, parent(count));
    let turns = partition.chunk_count.load() * slots::<F>();
    scratch.lap.store(0);
    scratch.visited.store(0);
    memory.repeat(turns, &mut body);
    let chunks = chunks_for::<F>(scratch.lap.load()) + extra;
    let chunks_split = chunks_for::<F>(scratch.visited.load()) + extra;
    if chunks > PARTITION_CHUNKS || chunks_split > PARTITION_CHUNKS {
        return Err(Reason::Internal);
    }
    body.copy(chunks, chunks_split);
    take_chunks::<M, F>(memory, scratch, false, chunks)?;
    if let Err(reason) = take_chunks::<M, F>(memory, scratch, true, chunks_split) {
        give_chunks::<M, F>(memory, false, chunks);
        return Err(reason);
    }
    memory.repeat(turns, &mut body);
    let mut result = if scratch.failed.load() == 0 { Ok(()) } else { Err(Reason::NoRoom) };
    if result.is_ok() {
        result = publish_split::<M, F>(memory, scratch, swarm, number, chunks_split, count);
    }
    if result.is_ok() {
        let before = exchange(scratch, partition, chunks);
        F::root(swarm).add(1);
        give_chunks::<M, F>(memory, false, before);
    } else {
        give_chunks::<M, F>(memory, false, chunks);
        give_chunks::<M, F>(memory, true, chunks_split);
    }
    result
}

/// Makes the second list a partition and enters it into the directory.
#[inline(always)]
fn publish_split<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    number: u32,
    chunks: u32,
    place: u32,
) -> Result<(), Reason> {
    let new = pool::take::<M, pool::Partitions>(memory)?;
    let Some(partition) = memory.partition(new) else { return Err(Reason::Internal) };
    let result = match acquire(memory, &partition.lock) {
        Ok(()) => {
            partition.lock.begin_change();
            partition.chunk_count.store(chunks);
            for (old, new) in partition.chunks.iter().zip(&scratch.refs_split) {
                old.store(new.load());
            }
            partition.place.store(F::TAG | place);
            set_reach(partition, scratch.reach_split.load());
            partition.owner.store(number + 1);
            let result = enter::<M, F>(memory, swarm, place, new);
            if result.is_err() {
                partition.owner.store(0);
            }
            // Nobody looks for it before the root word counts it; it may be unlocked now.
            partition.lock.unlock();
            result
        }
        Err(reason) => Err(reason),
    };
    if result.is_err() {
        pool::give_back::<M, pool::Partitions>(memory, new);
    }
    result
}

/// Removes the last partition of a swarm: its peers go to the one it was split from. The swarm's lock is held. False if that
/// was not possible.
pub(super) fn merge<M: Memory, F: Family>(memory: &M, scratch: &Scratch, swarm: &Swarm, number: u32) -> bool {
    let count = family::root_partitions(F::root(swarm).load());
    if count < 2 {
        return false;
    }
    let last = count - 1;
    let find = |place| {
        let part = lookup::<M, F>(memory, swarm, place, count)?;
        Some((part, memory.partition(part)?))
    };
    let (Some((into, target)), Some((from, source))) = (find(parent(last)), find(last)) else { return false };
    if acquire(memory, &target.lock).is_err() {
        return false;
    }
    let merged = acquire(memory, &source.lock).is_ok() && {
        let merged = merge_locked::<M, F>(memory, scratch, swarm, (into, target), (from, source), last);
        source.lock.unlock();
        merged
    };
    target.lock.unlock();
    if merged {
        pool::give_back::<M, pool::Partitions>(memory, from);
    }
    debug_assert!(!merged || !belongs::<F>(source, number, last));
    merged
}

fn merge_locked<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    (into, target): (u32, &Partition),
    (from, source): (u32, &Partition),
    last: u32,
) -> bool {
    // Among one partition everybody's address is 0: all stay.
    let mut body = Move::<F>::counting(into, 1, 0);
    let both = |body: &mut Move<F>| {
        for (part, partition) in [(into, target), (from, source)] {
            body.partition = u64::from(part);
            memory.repeat(partition.chunk_count.load() * slots::<F>(), body);
        }
    };
    scratch.lap.store(0);
    both(&mut body);
    let chunks = chunks_for::<F>(scratch.lap.load());
    if take_chunks::<M, F>(memory, scratch, false, chunks).is_err() {
        return false;
    }
    body.copy(chunks, 0);
    both(&mut body);
    if scratch.failed.load() != 0 {
        give_chunks::<M, F>(memory, false, chunks);
        return false;
    }
    F::root(swarm).add(1_u64.wrapping_neg());
    let before = exchange(scratch, target, chunks);
    give_chunks::<M, F>(memory, false, before);
    source.lock.begin_change();
    source.owner.store(0);
    for chunk in source.chunks.iter().take(source.chunk_count.load() as usize) {
        pool::give_back::<M, F::Pool>(memory, chunk.load());
    }
    source.chunk_count.store(0);
    strike::<M, F>(memory, swarm, last);
    true
}

/// Takes the last partition out of the directory: the reverse of [`enter`].
fn strike<M: Memory, F: Family>(memory: &M, swarm: &Swarm, place: u32) {
    let give = |node: Option<u32>| {
        if let Some(node) = node {
            pool::give_back::<M, pool::ChunksV4>(memory, node);
        }
    };
    let flatten = || {
        let node = root_ref::<F>(swarm, 0);
        if let Some(chunk) = memory.chunk_v4(node) {
            for pair in 0..4 {
                at(F::inline(swarm), F::root_pair(pair)).store(at(&chunk.words, pair).load());
            }
            pool::give_back::<M, pool::ChunksV4>(memory, node);
        }
    };
    if place < ROOT_REFS {
        return;
    }
    if place < ROOT_REFS * NODE_REFS {
        if place == ROOT_REFS {
            flatten();
        } else if place & 63 == 0 {
            give(Some(root_ref::<F>(swarm, place >> 6)));
        }
        return;
    }
    let upper = root_ref::<F>(swarm, place >> 12);
    if place & 63 == 0 {
        give(node_ref(memory, upper, (place >> 6) & 63));
    }
    if place == ROOT_REFS * NODE_REFS {
        flatten();
    } else if place & 0xfff == 0 {
        give(Some(upper));
    }
}

/// Brings the few peers of a family with one partition back into the swarm record, whose lock is held, if they fit.
pub(super) fn dissolve<M: Memory, F: Family>(memory: &M, swarm: &Swarm, number: u32) {
    let Some(part) = lookup::<M, F>(memory, swarm, 0, 1) else { return };
    let Some(partition) = memory.partition(part) else { return };
    if acquire(memory, &partition.lock).is_err() {
        return;
    }
    let chunks = partition.chunk_count.load() as usize;
    let peers = || {
        partition
            .chunks
            .iter()
            .take(chunks)
            .filter_map(|chunk| F::chunk(memory, chunk.load()))
            .flat_map(|words| (0..slots::<F>() as usize).map(move |slot| (words, slot * F::WORDS)))
            .filter(|(words, base)| F::flags_at(words, *base).load() & OCCUPIED != 0)
    };
    let fits = belongs::<F>(partition, number, 0) && peers().count() <= F::INLINE;
    if fits {
        swarm.lock.begin_change();
        partition.lock.begin_change();
        let inline = F::inline(swarm);
        for word in inline {
            word.store(0);
        }
        for (slot, (words, base)) in peers().enumerate() {
            F::occupy(inline, slot * F::WORDS, F::key_at(words, base), F::flags_at(words, base).load());
        }
        partition.owner.store(0);
        for chunk in partition.chunks.iter().take(chunks) {
            pool::give_back::<M, F::Pool>(memory, chunk.load());
        }
        partition.chunk_count.store(0);
    }
    partition.lock.unlock();
    if fits {
        pool::give_back::<M, pool::Partitions>(memory, part);
    }
}
