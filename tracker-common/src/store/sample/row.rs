//! The usual sample: peers that stand in a row in one list, copied as they stand. The requester is
//! not looked for among them: [`super::super::refresh`] has just found its slot.

use super::{
    super::{
        directory::is_partition_of,
        family::Family,
        list::{self, List, chunks_for},
        lock::Version,
        slot::Slots,
    },
    beginning::first_peer,
    wanted::{COLLECTED_MAX, Sample, Wanted},
};
use crate::{
    id::PartitionId,
    platform::{Context, Platform, SwarmRef},
    scratch::{PEERS_AT, Scratch},
};

/// Slots that are copied without a decision.
const GROUP: u32 = 8;

/// Chunks that are looked into at most.
const CHUNKS: u32 = 6;

/// Takes `wanted.count` peers of a swarm with so many partitions, from the first one on that was
/// chosen ([`super::look_ahead`]); behind the last one comes the first one, as in a ring. `None` if
/// that takes more than one partition or more than [`CHUNKS`], or if the partition was changed since
/// the requester was found in it.
#[inline(always)]
pub(super) fn of_partition<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    wanted: &Wanted<F::Key>,
    partitions: u32,
) -> Option<Sample> {
    let sampling = &cx.scratch.sampling;
    let partition = cx.platform.partition(PartitionId::new(sampling.first_partition.load()))?;
    let version = partition.lock.version()?;
    let index = sampling.first_index.load();
    if wanted.filter.may_hide(partition.scopes()) || !is_partition_of::<F>(partition, swarm.id, index) {
        return None;
    }
    // A seeder's partition has fewer leechers, as a rule.
    if partitions > 1 && wanted.filter.taken_of(List::<F>::occupancy(partition)) < wanted.count {
        return None;
    }
    let sample = take::<P, F, _>(cx, partition, version, wanted)?;
    if sample.count < wanted.count && partitions > 1 { None } else { Some(sample) }
}

/// The same of the list that the swarm record names: all its peers, if that are not more than
/// wanted.
#[inline(always)]
pub(super) fn of_record<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    wanted: &Wanted<F::Key>,
) -> Option<Sample> {
    let version = swarm.record.lock.version()?;
    if wanted.filter.may_hide(swarm.record.scopes()) || !F::is_list(swarm.record) {
        return None;
    }
    take::<P, F, _>(cx, swarm.record, version, wanted)
}

#[inline(always)]
fn take<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    list: &L,
    version: Version<'_>,
    wanted: &Wanted<F::Key>,
) -> Option<Sample> {
    let (scratch, sampling) = (cx.scratch, &cx.scratch.sampling);
    let peers = scratch.as_unknown_scalar_soon(wanted.filter.taken_of(list.occupancy()));
    if peers == 0 {
        return if version.still_holds() { Some(Sample::EMPTY) } else { None };
    }
    let first = first_peer(scratch, sampling.first_index.load(), peers);
    // One more, for the requester's place.
    let more = wanted.count + 1;
    let mut count = scratch.as_unknown_scalar_soon(if more < peers { more } else { peers });
    copy::<P, F, L>(cx, list, peers, first, count)?;

    let start = first % F::CHUNK_SLOTS;
    let own = sampling.own_partition.load();
    if own == 0 {
        return None;
    }
    if own == PartitionId::new(sampling.first_partition.load()).stored() {
        if sampling.own_version.load() != version.number() {
            return None;
        }
        let slot = scratch.found_slot.load();
        let behind = slot.wrapping_sub(first);
        let behind = if slot < first { behind.wrapping_add(peers) } else { behind };
        // A seeder is none of those that it is given.
        if slot < peers && behind < count {
            // The last one takes the requester's place. Masks that change nothing, for the verifier.
            count -= 1;
            let (last, own) = ((start + count) * F::PEER_BYTES, start.wrapping_add(behind) * F::PEER_BYTES);
            F::move_compact(scratch, (last & COLLECTED_MAX) as usize, (own & COLLECTED_MAX) as usize)?;
        }
    }
    let count = if count > wanted.count { wanted.count } else { count };
    if !version.still_holds() {
        return None;
    }
    Some(Sample { start: PEERS_AT as u32 + start * F::PEER_BYTES, count })
}

/// Copies the chunks that hold `count` peers from the `first` one on, without those in front of it
/// or behind the last: the first chunk to where peers are collected. `None` if these are too many
/// chunks.
#[inline(always)]
fn copy<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    list: &L,
    peers: u32,
    first: u32,
    count: u32,
) -> Option<()> {
    let scratch = cx.scratch;
    let chunks = chunks_for::<F>(peers);
    let mut from = first % F::CHUNK_SLOTS;
    let mut left = from + count;
    let mut chunk = first / F::CHUNK_SLOTS;
    let mut cursor = 0;
    for _ in 0..CHUNKS {
        let at = scratch.as_unknown_scalar_soon(if chunk >= chunks { 0 } else { chunk });
        let slots = list::chunk::<P, F, L>(cx.platform, list, at)?;
        let there = peers.wrapping_sub(at * F::CHUNK_SLOTS);
        let there = if there < F::CHUNK_SLOTS { there } else { F::CHUNK_SLOTS };
        let end = if left < there { left } else { there };
        // To the verifier all ways through the loop shall be one.
        let (from_here, to_here) = (scratch.as_unknown_scalar_soon(from), scratch.as_unknown_scalar(end));
        copy_groups::<F>(scratch, cursor & COLLECTED_MAX, slots, from_here, to_here);
        left = scratch.as_unknown_scalar_soon(left - end);
        if left == 0 {
            return Some(());
        }
        cursor = scratch.as_unknown_scalar_soon(cursor + there * F::PEER_BYTES);
        chunk = scratch.as_unknown_scalar_soon(at + 1);
        from = 0;
    }
    None
}

/// Copies the slots from `from` to `end` of a chunk, with what else is in their groups, and in such
/// a way that slot 0 would stand at the cursor.
#[inline(always)]
fn copy_groups<F: Family>(scratch: &Scratch, cursor: u32, slots: Slots<'_, F>, from: u32, end: u32) {
    for group in (0..F::CHUNK_SLOTS).step_by(GROUP as usize) {
        if from >= group + GROUP {
            continue;
        }
        if end <= group {
            break;
        }
        for number in group..group + GROUP {
            F::write(slots.slot(number as usize), scratch, cursor + number * F::PEER_BYTES);
        }
    }
}
