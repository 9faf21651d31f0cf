//! The directory of a family's partitions: entries in the swarm record, or one or two levels of nodes below them.

use super::{
    allocator as pool,
    family::{Family, at},
    layout::{NODE_REFS, Partition, ROOT_REFS, Swarm},
};
use crate::{outcome::StoreError, platform::Platform, word::Word};

/// Reads one of two 32-bit entries of a word.
#[inline(always)]
pub(super) fn half(word: u64, index: u32) -> u32 {
    if index & 1 == 0 { word as u32 } else { (word >> 32) as u32 }
}

#[inline(always)]
pub(super) fn root_ref<F: Family>(swarm: &Swarm, index: u32) -> u32 {
    let word = at(F::inline(swarm), F::root_pair((index as usize & 7) >> 1)).load();
    half(word, index)
}

#[inline(always)]
pub(super) fn node_ref<M: Platform>(memory: &M, node: u32, index: u32) -> Option<u32> {
    let chunk = memory.chunk_v4(node)?;
    Some(half(at(&chunk.words, (index as usize >> 1) & 31).load(), index))
}

/// Writes an entry; the swarm's lock is held, so nobody else writes its neighbour.
#[inline(always)]
pub(super) fn set_half(word: &Word, index: u32, value: u32) {
    let seen = word.load();
    let value = u64::from(value);
    word.store(if index & 1 == 0 { (seen & !0xffff_ffff) | value } else { (seen & 0xffff_ffff) | value << 32 });
}

/// Partition number `place` of a swarm with `partitions` of them. What it reads may be outdated: the partition
/// itself says whether it is the right one ([`belongs`]).
#[inline(always)]
pub(super) fn lookup<M: Platform, F: Family>(memory: &M, swarm: &Swarm, place: u32, partitions: u32) -> Option<u32> {
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
pub(super) fn enter<M: Platform, F: Family>(
    memory: &M,
    swarm: &Swarm,
    place: u32,
    number: u32,
) -> Result<(), StoreError> {
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
pub(super) fn deepen<M: Platform, F: Family>(memory: &M, swarm: &Swarm) -> Result<(), StoreError> {
    let node = pool::take::<M, pool::ChunksV4>(memory)?;
    let Some(chunk) = memory.chunk_v4(node) else { return Err(StoreError::Internal) };
    for pair in 0..4 {
        at(&chunk.words, pair).store(at(F::inline(swarm), F::root_pair(pair)).load());
    }
    set_root::<F>(swarm, 0, node);
    Ok(())
}

#[inline(always)]
pub(super) fn set_root<F: Family>(swarm: &Swarm, index: u32, value: u32) {
    set_half(at(F::inline(swarm), F::root_pair((index as usize & 7) >> 1)), index, value);
}

#[inline(always)]
pub(super) fn set_node<M: Platform>(memory: &M, node: u32, index: u32, value: u32) -> Result<(), StoreError> {
    let Some(chunk) = memory.chunk_v4(node) else { return Err(StoreError::Internal) };
    set_half(at(&chunk.words, (index as usize >> 1) & 31), index, value);
    Ok(())
}

/// Takes the last partition out of the directory: the reverse of [`enter`].
pub(super) fn strike<M: Platform, F: Family>(memory: &M, swarm: &Swarm, place: u32) {
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
