//! The directory of a family's partitions: a stack, by index. Up to 8 entries stand in the swarm
//! record; up to 512 in nodes that those 8 point to; up to 32 768 with one level of nodes more. A
//! node is an IPv4 chunk, whatever the family.
//!
//! The swarm's lock is held wherever the directory is changed. Readers hold nothing and may get
//! outdated numbers; the partition itself says whether it is the right one ([`is_partition_of`]).

use super::{
    allocator,
    family::Family,
    layout::{ChunkV4, NODE_ENTRIES, Partition, RECORD_ENTRIES, Swarm},
};
use crate::{
    id::{ChunkId, PartitionId, SwarmId},
    outcome::StoreError,
    platform::{Context, Platform},
    word::Word,
};

/// From this many partitions on there are two levels of nodes.
const TWO_LEVELS: u32 = RECORD_ENTRIES * NODE_ENTRIES;

/// Reads one of the two 32-bit entries of a word.
#[inline(always)]
fn entry(word: u64, index: u32) -> u32 {
    if index & 1 == 0 { word as u32 } else { (word >> 32) as u32 }
}

/// Writes an entry. The swarm's lock is held, so nobody else writes its neighbour.
#[inline(always)]
fn set_entry(word: &Word, index: u32, value: u32) {
    let seen = word.load();
    let value = u64::from(value);
    word.store(if index & 1 == 0 { (seen & !0xffff_ffff) | value } else { (seen & 0xffff_ffff) | value << 32 });
}

/// The word of the record that holds the entry.
#[inline(always)]
fn record_word<F: Family>(swarm: &Swarm, index: u32) -> &Word {
    F::record(swarm).word(F::entry_word((index as usize & 7) >> 1))
}

/// An entry of the record, with an index modulo [`RECORD_ENTRIES`].
#[inline(always)]
pub(super) fn record_entry<F: Family>(swarm: &Swarm, index: u32) -> u32 {
    entry(record_word::<F>(swarm, index).load(), index)
}

/// Writes it. The swarm's lock is held.
#[inline(always)]
pub(super) fn set_record_entry<F: Family>(swarm: &Swarm, index: u32, value: u32) {
    set_entry(record_word::<F>(swarm, index), index, value);
}

#[inline(always)]
fn node_word(node: &ChunkV4, index: u32) -> &Word {
    &node.words[(index as usize >> 1) & 31]
}

#[inline(always)]
fn node_entry<P: Platform>(platform: &P, node: u32, index: u32) -> Option<u32> {
    let node = platform.node(ChunkId::new(node))?;
    Some(entry(node_word(node, index).load(), index))
}

#[inline(always)]
fn set_node_entry<P: Platform>(platform: &P, node: u32, index: u32, value: u32) -> Result<(), StoreError> {
    let Some(node) = platform.node(ChunkId::new(node)) else { return Err(StoreError::Internal) };
    set_entry(node_word(node, index), index, value);
    Ok(())
}

/// The partition with this index, of a swarm with `partitions` of them. What it reads may be
/// outdated.
#[inline(always)]
pub fn find<P: Platform, F: Family>(platform: &P, swarm: &Swarm, index: u32, partitions: u32) -> Option<PartitionId> {
    let number = if partitions <= RECORD_ENTRIES {
        record_entry::<F>(swarm, index)
    } else if partitions <= TWO_LEVELS {
        node_entry(platform, record_entry::<F>(swarm, index >> 6), index & 63)?
    } else {
        let node = node_entry(platform, record_entry::<F>(swarm, index >> 12), (index >> 6) & 63)?;
        node_entry(platform, node, index & 63)?
    };
    Some(PartitionId::new(number))
}

/// Whether the partition is the one with this index of the swarm.
#[inline(always)]
#[must_use]
pub fn is_partition_of<F: Family>(partition: &Partition, swarm: SwarmId, index: u32) -> bool {
    partition.owner.load() == swarm.stored() && partition.tagged_index() == (F::TAG | index)
}

/// Enters a family's first partition, or replaces the record's first entry.
#[inline(always)]
pub(super) fn set_first<F: Family>(swarm: &Swarm, id: PartitionId) {
    set_record_entry::<F>(swarm, 0, id.number());
}

/// Takes a node.
#[inline(always)]
fn take_node<P: Platform>(cx: &Context<'_, P>) -> Result<u32, StoreError> {
    allocator::take::<P, ChunkV4>(cx).map(ChunkId::number)
}

#[inline(always)]
fn give_node_back<P: Platform>(platform: &P, node: u32) {
    allocator::give_back::<P, ChunkV4>(platform, ChunkId::new(node));
}

/// Enters the next partition, which gets this index.
///
/// # Errors
/// As [`allocator::take`]; nothing is changed then.
#[inline(never)]
pub(super) fn push<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: &Swarm,
    index: u32,
    id: PartitionId,
) -> Result<(), StoreError> {
    if index < RECORD_ENTRIES {
        set_record_entry::<F>(swarm, index, id.number());
        return Ok(());
    }
    if index < TWO_LEVELS {
        // The directory gets a level when the record is full, and a node when the last one is.
        if index == RECORD_ENTRIES {
            add_level::<P, F>(cx, swarm)?;
        } else if index & 63 == 0 {
            set_record_entry::<F>(swarm, index >> 6, take_node(cx)?);
        }
        return set_node_entry(cx.platform, record_entry::<F>(swarm, index >> 6), index & 63, id.number());
    }
    // All that can fail comes before the first change that a reader with the old count would
    // stumble over.
    let leaf = if index & 63 == 0 { take_node(cx)? } else { 0 };
    let upper = if index == TWO_LEVELS {
        add_level::<P, F>(cx, swarm)
    } else if index & 0xfff == 0 {
        match take_node(cx) {
            Ok(node) => {
                set_record_entry::<F>(swarm, index >> 12, node);
                Ok(())
            }
            Err(error) => Err(error),
        }
    } else {
        Ok(())
    };
    if let Err(error) = upper {
        give_node_back(cx.platform, leaf);
        return Err(error);
    }
    let upper = record_entry::<F>(swarm, index >> 12);
    if index & 63 == 0 {
        set_node_entry(cx.platform, upper, (index >> 6) & 63, leaf)?;
    }
    let Some(node) = node_entry(cx.platform, upper, (index >> 6) & 63) else { return Err(StoreError::Internal) };
    set_node_entry(cx.platform, node, index & 63, id.number())
}

/// Moves the record's entries into a new node and makes that the record's first entry.
#[inline(always)]
fn add_level<P: Platform, F: Family>(cx: &Context<'_, P>, swarm: &Swarm) -> Result<(), StoreError> {
    let number = take_node(cx)?;
    let Some(node) = cx.platform.node(ChunkId::new(number)) else { return Err(StoreError::Internal) };
    for pair in 0..4 {
        node.words[pair].store(F::record(swarm).word(F::entry_word(pair)).load());
    }
    set_record_entry::<F>(swarm, 0, number);
    Ok(())
}

/// Moves the entries of the record's first node back into the record: the reverse of [`add_level`].
fn remove_level<P: Platform, F: Family>(platform: &P, swarm: &Swarm) {
    if let Some(node) = platform.node(ChunkId::new(record_entry::<F>(swarm, 0))) {
        for pair in 0..4 {
            F::record(swarm).word(F::entry_word(pair)).store(node.words[pair].load());
        }
    }
}

/// The nodes that the directory no longer needs without its last partition, which has this index.
pub(super) fn last_nodes<P: Platform, F: Family>(platform: &P, swarm: &Swarm, index: u32) -> [Option<ChunkId>; 2] {
    let node = |needless, number| if needless { Some(ChunkId::new(number)) } else { None };
    let needless = index & 63 == 0 && index >= RECORD_ENTRIES;
    if index < TWO_LEVELS {
        return [node(needless || index == RECORD_ENTRIES, record_entry::<F>(swarm, index >> 6)), None];
    }
    let upper = record_entry::<F>(swarm, index >> 12);
    let leaf = node_entry(platform, upper, (index >> 6) & 63).filter(|_| needless).map(ChunkId::new);
    [leaf, node(index == TWO_LEVELS || index & 0xfff == 0, upper)]
}

/// The node of a directory with two levels of them that holds the entries from `index` *
/// [`NODE_ENTRIES`] on.
#[cfg(not(target_arch = "bpf"))]
pub(super) fn leaf<P: Platform, F: Family>(platform: &P, swarm: &Swarm, index: u32) -> Option<ChunkId> {
    node_entry(platform, record_entry::<F>(swarm, index >> 6), index & 63).map(ChunkId::new)
}

/// Leaves a directory with the index of its last partition to those before it.
pub(super) fn unlink_last<P: Platform, F: Family>(platform: &P, swarm: &Swarm, index: u32) {
    if index == RECORD_ENTRIES || index == TWO_LEVELS {
        remove_level::<P, F>(platform, swarm);
    }
}

/// Takes the last partition, which has this index, out: the reverse of [`push`].
pub(super) fn pop<P: Platform, F: Family>(platform: &P, swarm: &Swarm, index: u32) {
    let nodes = last_nodes::<P, F>(platform, swarm, index);
    for node in nodes.into_iter().flatten() {
        allocator::note::<P, ChunkV4>(platform, node);
    }
    unlink_last::<P, F>(platform, swarm, index);
    if let Some(journal) = platform.journal() {
        journal.record_done();
    }
    for node in nodes.into_iter().flatten() {
        give_node_back(platform, node.number());
    }
}

#[cfg(test)]
mod tests;
