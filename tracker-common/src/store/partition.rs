//! Swarms that outgrew their record: partitions, their directory, growing and splitting.
//!
//! A peer's partition comes from the low bits of its hash by linear hashing: with n partitions, those below the last power of
//! two that was passed are split already. Within a partition the peers stand one behind the other, in no order and without
//! gaps: chunk after chunk is full, and only the last one may have room. So a sample can be copied as it stands, a newcomer goes
//! to the end, and whoever leaves is replaced by the last one. A peer is found by looking at all of its partition, which is
//! some [`Family::PER_PARTITION`] words in a row.
//!
//! A swarm with more than [`Family::PER_PARTITION`] peers per partition gets one partition more: the next one in order is split.
//! All memory that takes is taken before the first peer moves, so that a failure changes nothing.

use super::{
    Family, NODE_REFS, PARTITION_CHUNKS, PARTITIONS_MAX, Partition, ROOT_REFS, Swarm,
    family::{self, at},
    pool,
    update::acquire,
};
use crate::{
    memory::{Memory, Step},
    outcome::{Event, StoreError},
    reply::Scratch,
    word::{Word, Word32, opaque},
};

/// Slots of a partition.
#[inline(always)]
#[must_use]
pub const fn capacity<F: Family>() -> u32 {
    PARTITION_CHUNKS * F::SLOTS
}

/// How many chunks so many peers take.
#[inline(always)]
#[must_use]
pub const fn chunks_for<F: Family>(peers: u32) -> u32 {
    peers.div_ceil(F::SLOTS)
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
    partition.owner.load() == swarm + 1 && partition.tagged_place() == (F::TAG | place)
}

/// Enters partition number `place`, the next one, into the directory; the swarm's lock is held.
#[inline(never)]
fn enter<M: Memory, F: Family>(memory: &M, swarm: &Swarm, place: u32, number: u32) -> Result<(), StoreError> {
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
    let Some(node) = node_ref(memory, upper, (place >> 6) & 63) else { return Err(StoreError::Internal) };
    set_node(memory, node, place & 63, number)
}

/// Moves the root's entries into a new node and makes that the root's first entry.
#[inline(always)]
fn deepen<M: Memory, F: Family>(memory: &M, swarm: &Swarm) -> Result<(), StoreError> {
    let node = pool::take::<M, pool::ChunksV4>(memory)?;
    let Some(chunk) = memory.chunk_v4(node) else { return Err(StoreError::Internal) };
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
fn set_node<M: Memory>(memory: &M, node: u32, index: u32, value: u32) -> Result<(), StoreError> {
    let Some(chunk) = memory.chunk_v4(node) else { return Err(StoreError::Internal) };
    set_half(at(&chunk.words, (index as usize >> 1) & 31), index, value);
    Ok(())
}

/// The words of the chunk that holds slot `number` of a partition, and the slot's first word.
#[inline(always)]
pub(super) fn slot<'m, M: Memory, F: Family>(
    memory: &'m M,
    partition: &Partition,
    number: u32,
) -> Option<(&'m [Word], usize)> {
    let words = F::chunk(memory, chunk_number(partition, number / F::SLOTS)?.load())?;
    // The compiler knows that the remainder is small, and must not take the mask away that shows it to the verifier.
    Some((words, opaque(u64::from(number % F::SLOTS)) as usize % F::SLOTS as usize * F::WORDS))
}

/// Finds the slot number of the peer with this key in a partition. Whoever holds no lock has to make sure afterwards that the
/// partition has not changed meanwhile.
#[inline(always)]
pub(super) fn find<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    partition: &Partition,
    key: F::Key,
) -> Option<u32> {
    let peers = partition.peers.load();
    // The slot found goes through memory, so that the verifier sees one way on from here and not one per slot.
    scratch.found_slot.store(u32::MAX);
    for index in 0..PARTITION_CHUNKS {
        if index * F::SLOTS >= peers {
            break;
        }
        let words = F::chunk(memory, partition.chunks[index as usize].load())?;
        if find_in::<F>(scratch, words, index * F::SLOTS, key) {
            break;
        }
    }
    let found = scratch.found_slot.load();
    if found == u32::MAX { None } else { Some(found) }
}

/// Looks through a chunk, whose first slot has the number `first`. Slots without a peer match nobody.
#[inline(always)]
fn find_in<F: Family>(scratch: &Scratch, words: &[Word], first: u32, key: F::Key) -> bool {
    for slot in 0..F::SLOTS {
        if F::matches(words, slot as usize * F::WORDS, key) {
            scratch.found_slot.store(first + slot);
            return true;
        }
    }
    false
}

/// The place where a partition keeps the number of a chunk.
#[inline(always)]
fn chunk_number(partition: &Partition, index: u32) -> Option<&Word32> {
    // Opaque: the compiler would check another form of the number than the one that is used.
    let index = opaque(u64::from(index)) as usize;
    if index < PARTITION_CHUNKS as usize { Some(&partition.chunks[index]) } else { None }
}

/// Takes chunks for a partition, or gives them back.
///
/// All fields have 8 bytes: LLVM merges stores to the stack, and the verifier wants them aligned.
struct Exchange<F> {
    partition: u64,
    /// Index of the first chunk.
    first: u64,
    /// Not 0: takes, and counts them in [`Scratch::chunks_taken`].
    take: u64,
    family: core::marker::PhantomData<F>,
}

impl<M: Memory, F: Family> Step<M> for Exchange<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let (Some(scratch), Some(partition)) = (memory.scratch(), memory.partition(self.partition as u32)) else {
            return false;
        };
        let Some(chunk) = chunk_number(partition, self.first as u32 + turn) else { return false };
        if self.take == 0 {
            pool::give_back::<M, F::Pool>(memory, chunk.load());
            return true;
        }
        let Ok(number) = pool::take::<M, F::Pool>(memory) else { return false };
        chunk.store(number);
        scratch.chunks_taken.store(turn + 1);
        true
    }
}

/// Takes the chunks that partition `number` with `from` peers needs to hold `to`. The partition's lock is held.
///
/// # Errors
/// [`StoreError::MemoryFull`]; nothing is changed then.
#[inline(always)]
fn reserve<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    number: u32,
    from: u32,
    to: u32,
) -> Result<(), StoreError> {
    let (first, end) = (chunks_for::<F>(from), chunks_for::<F>(to));
    let mut body = Exchange::<F> {
        partition: u64::from(number),
        first: u64::from(first),
        take: 1,
        family: core::marker::PhantomData,
    };
    scratch.chunks_taken.store(0);
    memory.repeat(end - first, &mut body);
    if scratch.chunks_taken.load() == end - first {
        return Ok(());
    }
    body.take = 0;
    memory.repeat(scratch.chunks_taken.load(), &mut body);
    Err(StoreError::MemoryFull)
}

/// Gives back the chunks that partition `number` no longer needs, now that it has `to` peers instead of `from`.
#[inline(always)]
fn release<M: Memory, F: Family>(memory: &M, number: u32, from: u32, to: u32) {
    let (first, end) = (chunks_for::<F>(to), chunks_for::<F>(from));
    let mut body = Exchange::<F> {
        partition: u64::from(number),
        first: u64::from(first),
        take: 0,
        family: core::marker::PhantomData,
    };
    memory.repeat(end.wrapping_sub(first), &mut body);
}

/// Puts a peer behind the last one, for whom there is a chunk. The partition's lock is held.
#[inline(always)]
fn append<M: Memory, F: Family>(memory: &M, partition: &Partition, key: F::Key, flags: u64) -> Option<()> {
    let peers = partition.peers.load();
    let (words, base) = slot::<M, F>(memory, partition, peers)?;
    F::occupy(words, base, key, flags);
    // Readers without a lock look at no more peers than this says.
    partition.peers.store(peers + 1);
    Some(())
}

/// Adds a peer. The partition's lock is held.
///
/// # Errors
/// [`StoreError::MemoryFull`], also when the partition is full; [`StoreError::Contended`].
#[inline(always)]
pub(super) fn insert<M: Memory, F: Family>(
    memory: &M,
    partition: &Partition,
    key: F::Key,
    flags: u64,
) -> Result<(), StoreError> {
    let peers = partition.peers.load();
    if peers >= capacity::<F>() {
        return Err(StoreError::MemoryFull);
    }
    if peers.is_multiple_of(F::SLOTS) {
        reserve_one::<M, F>(memory, partition, peers / F::SLOTS)?;
        memory.event(Event::Grown);
    }
    append::<M, F>(memory, partition, key, flags).ok_or(StoreError::Internal)
}

/// [`reserve`] for one chunk, without its loop.
#[inline(always)]
fn reserve_one<M: Memory, F: Family>(memory: &M, partition: &Partition, index: u32) -> Result<(), StoreError> {
    let number = pool::take::<M, F::Pool>(memory)?;
    let Some(chunk) = chunk_number(partition, index) else { return Err(StoreError::Internal) };
    chunk.store(number);
    Ok(())
}

/// Takes the peer out of slot `number`: the last one gets the slot. The partition's lock is held, and the change announced
/// ([`super::Lock::begin_change`]); the caller gives the chunk back that may be left empty ([`release_last`]).
#[inline(always)]
pub(super) fn remove<M: Memory, F: Family>(memory: &M, partition: &Partition, number: u32) -> Option<()> {
    let last = partition.peers.load().wrapping_sub(1);
    let (words, base) = slot::<M, F>(memory, partition, number)?;
    let (from, last_base) = slot::<M, F>(memory, partition, last)?;
    for word in 0..F::WORDS {
        at(words, base + word).store(at(from, last_base + word).load());
    }
    for word in 0..F::WORDS {
        at(from, last_base + word).store(0);
    }
    partition.peers.store(last);
    Some(())
}

/// Gives back the chunk that the last [`remove`] has left empty, if it has.
#[inline(always)]
pub(super) fn release_last<M: Memory, F: Family>(memory: &M, partition: &Partition) {
    let peers = partition.peers.load();
    if peers.is_multiple_of(F::SLOTS)
        && let Some(chunk) = chunk_number(partition, peers / F::SLOTS)
    {
        pool::give_back::<M, F::Pool>(memory, chunk.load());
    }
}

/// The peer of a chunk chosen by the hash that has not announced for the longest time: who goes when there is no memory left.
/// The number of its slot.
#[inline(always)]
pub(super) fn oldest<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    partition: &Partition,
    hash: u32,
    minute: u32,
) -> Option<u32> {
    let chunks = chunks_for::<F>(partition.peers.load());
    let first = scratch.forget((((hash >> 16) * chunks) >> 16) * F::SLOTS);
    let (words, _) = slot::<M, F>(memory, partition, first)?;
    oldest_of::<F>(scratch, words, F::SLOTS as usize, minute);
    Some(first + scratch.found_slot.load())
}

/// Leaves in [`Scratch::found_slot`] which of the first `slots` slots holds the peer that has not announced for the longest time.
#[inline(always)]
pub(super) fn oldest_of<F: Family>(scratch: &Scratch, words: &[Word], slots: usize, minute: u32) {
    scratch.found_slot.store(0);
    scratch.oldest_age.store(0);
    for slot in 0..slots {
        let flags = F::flags_at(words, slot * F::WORDS).load();
        let age = family::age(flags, minute);
        if flags & family::OCCUPIED != 0 && age > scratch.oldest_age.load() {
            scratch.oldest_age.store(age);
            scratch.found_slot.store(slot as u32);
        }
    }
}

/// Visits the peers of a partition from the last to the first: counts those who belong to another one, or moves them there.
///
/// All fields have 8 bytes: LLVM merges stores to the stack, and the verifier wants them aligned.
struct Move<F> {
    partition: u64,
    /// How many peers it had at first.
    peers: u64,
    /// Who does not belong to this place moves,
    place: u64,
    /// among so many partitions,
    partitions: u64,
    /// to the partition of this number + 1; 0 only counts.
    into: u64,
    family: core::marker::PhantomData<F>,
}

impl<M: Memory, F: Family> Step<M> for Move<F> {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let (Some(scratch), Some(settings)) = (memory.scratch(), memory.settings()) else { return false };
        let Some(partition) = memory.partition(self.partition as u32) else { return false };
        let number = (self.peers as u32).wrapping_sub(1).wrapping_sub(turn);
        let Some((words, base)) = slot::<M, F>(memory, partition, number) else { return false };
        let key = F::key_at(words, base);
        if u64::from(address(F::hash(settings, key), self.partitions as u32)) == self.place {
            return true;
        }
        scratch.moving_peers.store(scratch.moving_peers.load() + 1);
        if self.into == 0 {
            return true;
        }
        let Some(into) = memory.partition((self.into - 1) as u32) else { return false };
        let flags = F::flags_at(words, base).load();
        // Those behind it have been looked at already and stay, so it does not matter which of them takes its slot.
        append::<M, F>(memory, into, F::key_at(words, base), flags).is_some()
            && remove::<M, F>(memory, partition, number).is_some()
    }
}

/// Gives a family that outgrew the swarm record its first partition. The swarm's lock is held, and all slots are taken.
///
/// # Errors
/// [`StoreError::MemoryFull`], [`StoreError::Contended`]; nothing is changed then.
#[inline(always)]
pub(super) fn found<M: Memory, F: Family>(memory: &M, swarm: &Swarm, number: u32) -> Result<(), StoreError> {
    let first = pool::take::<M, pool::Partitions>(memory)?;
    let result = match memory.partition(first) {
        Some(partition) => match acquire(memory, &partition.lock) {
            Ok(()) => {
                let result = reserve_one::<M, F>(memory, partition, 0);
                if result.is_ok() {
                    partition.lock.begin_change();
                    partition.owner.store(number + 1);
                    partition.place.store(F::TAG);
                    partition.note_near(swarm.near());
                    if let Some((words, _)) = slot::<M, F>(memory, partition, 0) {
                        for word in 0..F::INLINE * F::WORDS {
                            at(words, word).store(at(F::inline(swarm), word).load());
                        }
                    }
                    partition.peers.store(F::INLINE as u32);
                }
                partition.lock.unlock();
                result
            }
            Err(reason) => Err(reason),
        },
        None => Err(StoreError::Internal),
    };
    if result.is_ok() {
        swarm.lock.begin_change();
        set_root::<F>(swarm, 0, first);
        F::root(swarm).store(family::root_word(F::INLINE as u32, 1));
        memory.event(Event::Grown);
    } else {
        pool::give_back::<M, pool::Partitions>(memory, first);
    }
    result
}

/// Splits the next partition of a swarm, if the swarm has become too large for those it has. No lock is held.
///
/// # Errors
/// [`StoreError::MemoryFull`], [`StoreError::Contended`]. Nothing is changed then.
#[inline(always)]
pub(super) fn split<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    number: u32,
) -> Result<(), StoreError> {
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
            result = split_locked::<M, F>(memory, scratch, swarm, number, partition, old, count);
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
fn split_locked<M: Memory, F: Family>(
    memory: &M,
    scratch: &Scratch,
    swarm: &Swarm,
    number: u32,
    partition: &Partition,
    old: u32,
    count: u32,
) -> Result<(), StoreError> {
    let peers = partition.peers.load();
    let mut body = Move::<F> {
        partition: u64::from(old),
        peers: u64::from(peers),
        place: u64::from(parent(count)),
        partitions: u64::from(count + 1),
        into: 0,
        family: core::marker::PhantomData,
    };
    scratch.moving_peers.store(0);
    memory.repeat(peers, &mut body);
    let moving = scratch.moving_peers.load();
    let new = pool::take::<M, pool::Partitions>(memory)?;
    let Some(target) = memory.partition(new) else { return Err(StoreError::Internal) };
    // An old number of it may be around, hence the lock.
    let result = match acquire(memory, &target.lock) {
        Ok(()) => {
            let mut result = reserve::<M, F>(memory, scratch, new, 0, moving);
            if result.is_ok() {
                result = enter::<M, F>(memory, swarm, count, new);
                if result.is_err() {
                    release::<M, F>(memory, new, moving, 0);
                }
            }
            if result.is_ok() {
                target.lock.begin_change();
                target.owner.store(number + 1);
                target.place.store(F::TAG | count);
                target.note_near(partition.near());
                target.peers.store(0);
                partition.lock.begin_change();
                body.into = u64::from(new) + 1;
                memory.repeat(peers, &mut body);
                release::<M, F>(memory, old, peers, partition.peers.load());
                F::root(swarm).add(1);
            }
            target.lock.unlock();
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
    let (there, moving) = (target.peers.load(), source.peers.load());
    if there + moving > capacity::<F>() || reserve::<M, F>(memory, scratch, into, there, there + moving).is_err() {
        return false;
    }
    target.lock.begin_change();
    source.lock.begin_change();
    target.note_near(source.near());
    F::root(swarm).add(1_u64.wrapping_neg());
    for number in 0..moving {
        if let Some((words, base)) = slot::<M, F>(memory, source, number) {
            let _there_is_room =
                append::<M, F>(memory, target, F::key_at(words, base), F::flags_at(words, base).load());
        }
    }
    source.owner.store(0);
    source.peers.store(0);
    release::<M, F>(memory, from, moving, 0);
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
    let peers = partition.peers.load();
    let fits = belongs::<F>(partition, number, 0) && peers as usize <= F::INLINE;
    if fits {
        swarm.lock.begin_change();
        partition.lock.begin_change();
        swarm.note_near(partition.near());
        let inline = F::inline(swarm);
        for word in inline {
            word.store(0);
        }
        for number in 0..peers {
            if let Some((words, base)) = slot::<M, F>(memory, partition, number) {
                let flags = F::flags_at(words, base).load();
                F::occupy(inline, number as usize * F::WORDS, F::key_at(words, base), flags);
            }
        }
        partition.owner.store(0);
        partition.peers.store(0);
        release::<M, F>(memory, part, peers, 0);
    }
    partition.lock.unlock();
    if fits {
        pool::give_back::<M, pool::Partitions>(memory, part);
    }
}
