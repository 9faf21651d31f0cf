//! More room for a swarm that grows, less for one that shrinks: slots of the record, a list that the
//! record names, partitions.
//!
//! A swarm with more than [`peers_per_partition`] peers per partition gets one partition more: the
//! next one in order is split. The work per announce is bounded, whatever the size of the swarm.
//! All memory that a change takes is taken before the first peer moves, so that a failure changes
//! nothing.
//!
//! Order of locks: the swarm's, then that of the partition that exists already, then that of the
//! new or the last one.

use super::{
    allocator,
    directory::{self, is_partition_of, record_entry, set_record_entry},
    family::Family,
    journal::{Place, Undo},
    layout::{ChunkV4, DirectoryHeader, Occupancy, PARTITIONS_MAX, Partition, RECORD_ENTRIES},
    linear_hash::{partition_of, split_source},
    list::{List, chunks_for, put, remove, slot},
    partition::{capacity, release, reserve},
    record::{self, list_capacity},
    slot::LEECHER,
};
use crate::{
    codegen::barrier_var,
    id::{ChunkId, PartitionId, SwarmId},
    outcome::{Event, IpVersion, StoreError},
    platform::{Context, PartitionRef, Platform, Step, SwarmRef},
};
use core::marker::PhantomData;

/// A partition is split off, somewhere in the swarm, for every so many peers. The partitions whose
/// turn has not come yet hold up to twice as many, and that has to be well below the slots of
/// [`super::layout::PARTITION_CHUNKS`] chunks.
#[inline(always)]
#[must_use]
pub const fn peers_per_partition(version: IpVersion) -> u32 {
    match version {
        IpVersion::V4 => 128,
        IpVersion::V6 => 64,
    }
}

/// Whether a family with this directory has more peers than its partitions are meant for.
#[inline(always)]
pub(super) fn has_outgrown<F: Family>(directory: DirectoryHeader) -> bool {
    !directory.is_list() && directory.peers > directory.partitions.wrapping_mul(peers_per_partition(F::VERSION))
}

/// Visits the peers of a partition from the last to the first: counts those that belong to another
/// one, or moves them there.
///
/// All fields have 8 bytes: LLVM merges stores to the stack, and the verifier wants them aligned.
struct Move<F> {
    partition: u64,
    /// How many peers it had at first.
    peers: u64,
    /// Its index. Peers that do not belong to it move,
    index: u64,
    /// among so many partitions,
    partitions: u64,
    /// to the partition with this [`PartitionId::stored`]; 0 only counts.
    into: u64,
    family: PhantomData<F>,
}

impl<P: Platform, F: Family> Step<P> for Move<F> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let Ok(cx) = Context::new(platform) else { return false };
        let Some(partition) = platform.partition(PartitionId::new(self.partition as u32)) else { return false };
        let number = (self.peers as u32).wrapping_sub(1).wrapping_sub(turn);
        let Some(slot) = slot::<P, F, _>(platform, partition, number) else { return false };
        let key = slot.key();
        if u64::from(partition_of(F::hash(cx.settings, key), self.partitions as u32)) == self.index {
            return true;
        }
        cx.scratch.moving_peers.store(cx.scratch.moving_peers.load() + 1);
        if self.into == 0 {
            return true;
        }
        let Some(into) = platform.partition(PartitionId::new((self.into - 1) as u32)) else { return false };
        // The peers behind it have been looked at already and stay, so it does not matter which of
        // them takes its slot.
        put::<P, F, _>(platform, into, slot.key(), slot.flags()).is_some()
            && remove::<P, F, _>(platform, partition, number).is_some()
    }
}

/// Gives a family more room in one step: what outgrew the slots of the swarm record becomes a list,
/// and a list becomes the first partition. The swarm's lock is held. Where there are slots, all are
/// taken.
///
/// # Errors
/// [`StoreError::MemoryFull`], [`StoreError::Contended`]; nothing is changed then.
#[inline(always)]
pub(super) fn promote<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) -> Result<(), StoreError> {
    match F::directory(swarm.record) {
        None => slots_to_list::<P, F>(cx, swarm)?,
        Some(header) if header.is_list() => list_to_partition::<P, F>(cx, swarm)?,
        Some(_) => return Ok(()),
    }
    cx.platform.event(Event::Grown);
    Ok(())
}

/// Moves the peers in a record's slots into a chunk.
#[inline(always)]
fn slots_to_list<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) -> Result<(), StoreError> {
    let id = allocator::take::<P, F::Chunk>(cx)?;
    let Some(slots) = F::chunk(cx.platform, id) else { return Err(StoreError::Internal) };
    // Leechers from the first slot of the chunk on, seeders behind them, from the last one back.
    let (mut leechers, mut others) = (0_u32, F::RECORD_SLOTS as u32);
    for number in 0..F::RECORD_SLOTS {
        let slot = F::record(swarm.record).slot(number);
        let place = if slot.flags() & LEECHER == 0 {
            others = cx.scratch.as_unknown_scalar(others.wrapping_sub(1));
            others
        } else {
            leechers = cx.scratch.as_unknown_scalar(leechers + 1);
            leechers.wrapping_sub(1)
        };
        slots.slot(barrier_var(u64::from(place)) as usize % F::CHUNK_SLOTS as usize).copy(slot);
    }
    swarm.record.lock.begin_change();
    record::keep::<P, F>(cx.platform, swarm.record, Undo::All);
    set_record_entry::<F>(swarm.record, 0, id.number());
    List::<F>::set_occupancy(swarm.record, Occupancy { peers: F::RECORD_SLOTS as u32, leechers });
    record::kept(cx.platform);
    allocator::settle::<P, F::Chunk>(cx.platform, id);
    Ok(())
}

/// Makes a free partition the one with this index of the swarm, and notes the scopes of the peers
/// that it is going to hold. Its lock is held.
#[inline(always)]
fn begin_partition<F: Family>(partition: &Partition, swarm: SwarmId, index: u32, scopes: u32) {
    partition.lock.begin_change();
    partition.owner.store(swarm.stored());
    partition.index.store(F::TAG | index);
    partition.add_scopes(scopes);
}

/// Moves the chunks of a record's list into a new partition.
#[inline(always)]
fn list_to_partition<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) -> Result<(), StoreError> {
    let occupancy = List::<F>::occupancy(swarm.record);
    let first = allocator::take::<P, Partition>(cx)?;
    let result = match cx.platform.partition(first) {
        // An old number of it may be around, hence the lock. It is held until the header counts the
        // peers: from then on one that is evicted is counted out there.
        Some(partition) => match cx.platform.acquire(&partition.lock, Place::Partition(first)) {
            Ok(()) => {
                begin_partition::<F>(partition, swarm.id, 0, swarm.record.scopes());
                for index in 0..RECORD_ENTRIES {
                    partition.chunks[index as usize].store(record_entry::<F>(swarm.record, index));
                }
                partition.occupancy.store(occupancy.to_word());
                swarm.record.lock.begin_change();
                record::keep::<P, F>(cx.platform, swarm.record, Undo::Entries);
                directory::set_first::<F>(swarm.record, first);
                F::header(swarm.record).store(DirectoryHeader { peers: occupancy.peers, partitions: 1 }.to_word());
                record::kept(cx.platform);
                allocator::settle::<P, Partition>(cx.platform, first);
                cx.platform.release(&partition.lock);
                Ok(())
            }
            Err(error) => Err(error),
        },
        None => Err(StoreError::Internal),
    };
    if result.is_err() {
        allocator::give_back::<P, Partition>(cx.platform, first);
    }
    result
}

/// Splits the next partition of a swarm, if the swarm has become too large for those it has. No
/// lock is held.
///
/// # Errors
/// [`StoreError::MemoryFull`], [`StoreError::Contended`]; nothing is changed then.
#[inline(always)]
pub(super) fn split<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) -> Result<(), StoreError> {
    cx.platform.acquire(&swarm.record.lock, Place::Swarm(swarm.id))?;
    let mut result = Ok(());
    let mut done = false;
    if let Some(directory) = F::directory(swarm.record)
        && let partitions = directory.partitions
        && partitions < PARTITIONS_MAX
        && has_outgrown::<F>(directory)
        && let Some(source) = directory::find::<P, F>(cx.platform, swarm.record, split_source(partitions), partitions)
        && let Some(source) = cx.partition(source)
        && cx.platform.acquire(&source.record.lock, Place::Partition(source.id)).is_ok()
    {
        if is_partition_of::<F>(source.record, swarm.id, split_source(partitions)) {
            result = split_locked::<P, F>(cx, swarm, source, partitions);
            done = result.is_ok();
        }
        cx.platform.release(&source.record.lock);
    }
    cx.platform.release(&swarm.record.lock);
    if done {
        cx.platform.event(Event::Split);
    }
    result
}

/// Splits a partition of a swarm with `partitions` of them. The locks of both are held.
#[inline(always)]
fn split_locked<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    source: PartitionRef<'_>,
    partitions: u32,
) -> Result<(), StoreError> {
    let peers = source.record.peers();
    let mut body = Move::<F> {
        partition: u64::from(source.id.number()),
        peers: u64::from(peers),
        index: u64::from(split_source(partitions)),
        partitions: u64::from(partitions + 1),
        into: 0,
        family: PhantomData,
    };
    cx.scratch.moving_peers.store(0);
    cx.platform.repeat(peers, &mut body);
    let moving = cx.scratch.moving_peers.load();
    let new = allocator::take::<P, Partition>(cx)?;
    let Some(target) = cx.platform.partition(new) else { return Err(StoreError::Internal) };
    // An old number of it may be around, hence the lock.
    let result = match cx.platform.acquire(&target.lock, Place::Partition(new)) {
        Ok(()) => {
            let mut result = reserve::<P, F>(cx, new, 0, moving);
            if result.is_ok() {
                record::keep::<P, F>(cx.platform, swarm.record, Undo::Entries);
                result = directory::push::<P, F>(cx, swarm.record, partitions, new);
                if result.is_err() {
                    record::kept(cx.platform);
                    release::<P, F>(cx.platform, new, moving, 0);
                }
            }
            if result.is_ok() {
                begin_partition::<F>(target, swarm.id, partitions, source.record.scopes());
                target.occupancy.store(0);
                source.record.lock.begin_change();
                body.into = u64::from(new.number()) + 1;
                note_chunks::<P, F>(cx.platform, source.record, peers);
                cx.platform.repeat(peers, &mut body);
                // Before any chunk goes: a thread that is killed up to here leaves room for all peers
                // where they were.
                F::header(swarm.record).add(DirectoryHeader::ONE_PARTITION);
                record::kept(cx.platform);
                release::<P, F>(cx.platform, source.id, peers, source.record.peers());
                settle_all::<P, F>(cx.platform);
                allocator::settle::<P, Partition>(cx.platform, new);
            }
            cx.platform.release(&target.lock);
            result
        }
        Err(error) => Err(error),
    };
    if result.is_err() {
        allocator::give_back::<P, Partition>(cx.platform, new);
    }
    result
}

/// Removes the last partition of a swarm, whose lock is held: its peers go to the one it was split
/// from. False if that was not possible.
pub(super) fn merge<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) -> bool {
    let header = F::directory(swarm.record);
    let Some(DirectoryHeader { partitions, .. }) = header.filter(|header| header.partitions >= 2) else { return false };
    let last = partitions - 1;
    let find =
        |index| directory::find::<P, F>(cx.platform, swarm.record, index, partitions).and_then(|id| cx.partition(id));
    let (Some(target), Some(source)) = (find(split_source(last)), find(last)) else { return false };
    if cx.platform.acquire(&target.record.lock, Place::Partition(target.id)).is_err() {
        return false;
    }
    let merged = cx.platform.acquire(&source.record.lock, Place::Partition(source.id)).is_ok() && {
        let merged = merge_locked::<P, F>(cx, swarm, target, source);
        if merged {
            directory::pop::<P, F>(cx.platform, swarm.record, last);
        }
        cx.platform.release(&source.record.lock);
        merged
    };
    cx.platform.release(&target.record.lock);
    if merged {
        allocator::give_back::<P, Partition>(cx.platform, source.id);
    }
    debug_assert!(!merged || !is_partition_of::<F>(source.record, swarm.id, last));
    merged
}

/// Moves all peers of one partition into another. The locks of both and of the swarm are held.
/// False if there is no room.
fn merge_locked<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    target: PartitionRef<'_>,
    source: PartitionRef<'_>,
) -> bool {
    let (there, moving) = (target.record.peers(), source.record.peers());
    if there + moving > capacity::<F>() || reserve::<P, F>(cx, target.id, there, there + moving).is_err() {
        return false;
    }
    target.record.lock.begin_change();
    source.record.lock.begin_change();
    note_chunks::<P, F>(cx.platform, source.record, moving);
    allocator::note::<P, Partition>(cx.platform, source.id);
    record::keep::<P, F>(cx.platform, swarm.record, Undo::LastEntry);
    target.record.add_scopes(source.record.scopes());
    // Before the first peer moves: a sample that meets the same peers in both partitions sees that
    // there are fewer of them.
    F::header(swarm.record).add(DirectoryHeader::ONE_PARTITION.wrapping_neg());
    for number in 0..moving {
        if let Some(slot) = slot::<P, F, _>(cx.platform, source.record, number) {
            let _there_is_room = put::<P, F, _>(cx.platform, target.record, slot.key(), slot.flags());
        }
    }
    source.record.owner.store(0);
    source.record.occupancy.store(0);
    release::<P, F>(cx.platform, source.id, moving, 0);
    settle_all::<P, F>(cx.platform);
    true
}

/// Makes a list of a family's only partition, if the swarm record can name all of its chunks. The
/// swarm's lock is held.
pub(super) fn partition_to_list<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) {
    let Some(id) = directory::find::<P, F>(cx.platform, swarm.record, 0, 1) else { return };
    let Some(PartitionRef { record: partition, .. }) = cx.partition(id) else { return };
    if cx.platform.acquire(&partition.lock, Place::Partition(id)).is_err() {
        return;
    }
    let occupancy = List::<F>::occupancy(partition);
    let fits = is_partition_of::<F>(partition, swarm.id, 0) && occupancy.peers <= list_capacity::<F>();
    if fits {
        swarm.record.lock.begin_change();
        partition.lock.begin_change();
        swarm.record.add_scopes(partition.scopes());
        allocator::note::<P, Partition>(cx.platform, id);
        record::keep::<P, F>(cx.platform, swarm.record, Undo::Entries);
        for (index, chunk) in (0..RECORD_ENTRIES).zip(&partition.chunks) {
            set_record_entry::<F>(swarm.record, index, chunk.load());
        }
        List::<F>::set_occupancy(swarm.record, occupancy);
        record::kept(cx.platform);
        partition.owner.store(0);
        partition.occupancy.store(0);
    }
    cx.platform.release(&partition.lock);
    if fits {
        allocator::give_back::<P, Partition>(cx.platform, id);
    }
}

/// Moves the few peers of a list back into the slots of the swarm record, whose lock is held, if
/// they fit.
pub(super) fn list_to_slots<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) {
    let peers = List::<F>::peers(swarm.record);
    if !F::is_list(swarm.record) || peers as usize > F::RECORD_SLOTS {
        return;
    }
    let first = ChunkId::new(record_entry::<F>(swarm.record, 0));
    let Some(chunk) = F::chunk(cx.platform, first) else { return };
    swarm.record.lock.begin_change();
    if peers != 0 {
        allocator::note::<P, F::Chunk>(cx.platform, first);
    }
    record::keep::<P, F>(cx.platform, swarm.record, Undo::All);
    let slots = F::record(swarm.record);
    for word in slots.words() {
        word.store(0);
    }
    for number in 0..F::RECORD_SLOTS {
        if number < peers as usize {
            slots.slot(number).occupy(chunk.slot(number).key(), chunk.slot(number).flags());
        }
    }
    record::kept(cx.platform);
    if peers != 0 {
        allocator::give_back::<P, F::Chunk>(cx.platform, first);
    }
}

/// Notes all chunks of a partition with this many peers: some of them are about to be no longer its.
#[inline(always)]
fn note_chunks<P: Platform, F: Family>(platform: &P, partition: &Partition, peers: u32) {
    if platform.journal().is_some() {
        for index in 0..chunks_for::<F>(peers) {
            if let Some(id) = List::<F>::chunk_id(partition, index) {
                allocator::note::<P, F::Chunk>(platform, id);
            }
        }
    }
}

/// All chunks and nodes that were taken are part of something, or were given back.
#[inline(always)]
fn settle_all<P: Platform, F: Family>(platform: &P) {
    if let Some(journal) = platform.journal() {
        journal.forget_all(<F::Chunk as allocator::Element>::LIMIT);
        journal.forget_all(<ChunkV4 as allocator::Element>::LIMIT);
    }
}

#[cfg(test)]
mod tests;
