//! The walk of a sample over the partitions of a grown swarm: one partition after the other is
//! located and read.

use super::{
    super::{
        directory::{self, is_partition_of},
        family::Family,
        filter::PeerFilter,
        layout::{PARTITION_CHUNKS, Partition},
        linear_hash::{is_unsplit, partition_of, round_size},
        list::{List, chunks_for},
        lock::Version,
    },
    beginning::{first_peer, per_partition},
    list::{self, OwnChunk, Part},
    wanted::{COLLECTED_ENOUGH, PARTITIONS_READ_MAX, chunks_at_once},
};
use crate::{
    id::SwarmId,
    platform::{Context, Platform, Step, SwarmRef},
    scratch::{REMEMBERED_VERSIONS, Walk},
};
use core::marker::PhantomData;

/// The partition that a walk reads next.
#[derive(Clone, Copy)]
pub(super) struct Target<'m> {
    pub(super) partition: &'m Partition,
    /// Its index within the swarm.
    index: u32,
    /// Which of its chunks are read, counted from that of the sample's first peer: those from this
    /// one on.
    chunk_offset: u32,
}

/// One step of the loop. What is known between two steps is in the scratch space.
pub(super) struct WalkStep<F>(pub(super) PhantomData<F>);

impl<P: Platform, F: Family> Step<P> for WalkStep<F> {
    #[inline(always)]
    fn step(&mut self, platform: &P, _turn: u32) -> bool {
        let Ok(cx) = Context::new(platform) else { return false };
        let sampling = &cx.scratch.sampling;
        let Some(swarm) = cx.swarm(SwarmId::new(sampling.swarm.load())) else { return false };
        let mut walk = sampling.walk.load();
        if is_over::<F>(&walk) {
            return false;
        }
        let Some(target) = locate::<P, F>(&cx, swarm, &mut walk) else { return false };
        let goes_on = match target.partition.lock.version() {
            Some(version) => {
                let filter = PeerFilter::from_number(walk.filter);
                if filter.may_hide(target.partition.scopes()) {
                    // Not all of these can be given, so more have to be collected.
                    sampling.hides.store(1);
                    let enough = walk.enough + chunks_at_once(F::VERSION) * F::CHUNK_SLOTS * F::PEER_BYTES;
                    walk.enough = if enough > COLLECTED_ENOUGH { COLLECTED_ENOUGH } else { enough };
                }
                read::<P, F>(&cx, swarm, &mut walk, target, version)
            }
            None => {
                // Being changed: the same partition again in the next step.
                platform.pause(1);
                true
            }
        };
        sampling.walk.store(&walk);
        goes_on
    }
}

/// Whether enough partitions were read, or all chunks of all.
#[inline(always)]
fn is_over<F: Family>(walk: &Walk) -> bool {
    walk.partitions_read >= PARTITIONS_READ_MAX || walk.passes * chunks_at_once(F::VERSION) >= PARTITION_CHUNKS
}

/// Looks up the partition at the walk's position.
#[inline(always)]
pub(super) fn locate<'m, P: Platform, F: Family>(
    cx: &Context<'m, P>,
    swarm: SwarmRef<'_>,
    walk: &mut Walk,
) -> Option<Target<'m>> {
    // Positions beyond the last partition belong to those that have not been split yet.
    let index = partition_of(walk.position, walk.partitions);
    let second = if walk.position == index { 0 } else { 1 };
    // Of the two positions of a partition, that kind comes first which the first position of all
    // is.
    let offset =
        if is_unsplit(index, walk.partitions) { walk.passes * 2 + (second ^ walk.second_first) } else { walk.passes };
    // What the ways to here have shown of these numbers does not matter from here on.
    let chunk_offset = cx.scratch.as_unknown_scalar(offset * chunks_at_once(F::VERSION));
    let id = directory::find::<P, F>(cx.platform, swarm.record, index, walk.partitions)?;
    let partition = cx.platform.partition(cx.scratch.as_unknown_scalar(id))?;
    let index = cx.scratch.as_unknown_scalar(index);
    walk.partitions = cx.scratch.as_unknown_scalar(walk.partitions);
    walk.position = cx.scratch.as_unknown_scalar(walk.position);
    Some(Target { partition, index, chunk_offset })
}

/// How many peers of the partition may be taken.
#[inline(always)]
fn taken<F: Family>(walk: &Walk, target: Target<'_>) -> u32 {
    PeerFilter::from_number(walk.filter).taken_of(List::<F>::occupancy(target.partition))
}

/// Reads some chunks of the partition and moves the walk on. False if that was the last step.
#[inline(always)]
pub(super) fn read<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    walk: &mut Walk,
    target: Target<'_>,
    version: Version<'_>,
) -> bool {
    let chunks = chunks_for::<F>(taken::<F>(walk, target));
    cx.scratch.sampling.collected_here.store(walk.collected);
    let read = collect::<P, F>(cx, swarm.id, walk, target, version);
    // A partition that was changed while it was read is read again in the next step.
    if !version.still_holds() {
        return true;
    }
    // Had partitions been merged meanwhile, this one could hold peers that another one has given
    // already.
    match F::directory(swarm.record) {
        Some(header) if header.partitions >= walk.partitions => {}
        _ => return false,
    }
    walk.collected = cx.scratch.sampling.collected_here.load();
    if walk.collected < walk.enough {
        // So none of these has to be left out.
        cx.scratch.sampling.first_returned.store(0);
    }
    if walk.partitions == 1 && target.chunk_offset + chunks_at_once(F::VERSION) >= chunks {
        // Those were all peers.
        return false;
    }
    walk.partitions_read += read;
    walk.pass_found_peers |= read;
    // Next: the next step of this pass, or the first of another.
    let round = round_size(walk.partitions);
    walk.position = (walk.position + walk.stride) & (round - 1);
    walk.steps += 1;
    if walk.steps >= round {
        // After a pass in which no partition had a chunk left, no peer is missing.
        if walk.pass_found_peers == 0 {
            return false;
        }
        walk.steps = 0;
        walk.pass_found_peers = 0;
        walk.passes += 1;
    }
    walk.collected < walk.enough
}

/// Takes the chunks of a partition from the target's offset on, and leaves the bytes that are
/// collected then in [`crate::scratch::Sampling::collected_here`]. 0 if there is none.
#[inline(always)]
fn collect<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmId,
    walk: &Walk,
    target: Target<'_>,
    version: Version<'_>,
) -> u32 {
    let Target { partition, index, chunk_offset } = target;
    let scratch = cx.scratch;
    let filter = PeerFilter::from_number(walk.filter);
    let occupancy = List::<F>::occupancy(partition);
    let peers = filter.taken_of(occupancy);
    let chunks = chunks_for::<F>(peers);
    if chunk_offset >= chunks || !is_partition_of::<F>(partition, swarm, index) {
        return 0;
    }
    // The same for all steps of a partition in a sample, and no other's.
    let mark = scratch.sampling.random.load() ^ per_partition(index);
    // Further chunks of a partition that was changed since the first ones were read may hold peers
    // of those. A new peer changes no structure, but the number of peers, and with it which chunk
    // is which.
    let remembered = &scratch.versions[index as usize & (REMEMBERED_VERSIONS - 1)];
    let entry = u64::from(mark) << 32 | u64::from(version.number() ^ per_partition(peers));
    let known = remembered.load();
    if (known >> 32) as u32 != mark {
        remembered.store(entry);
    } else if known != entry {
        return 0;
    }
    // The chunk at offset 0 is that of a random peer, which is given first, so that those in the
    // last one, which may be few, do not come up more often.
    let first = first_peer(scratch, index, peers);
    let mut enough = walk.enough;
    if walk.collected == 0 {
        scratch.sampling.first_returned.store(first % F::CHUNK_SLOTS);
        // The peers before it in the chunk are dropped if the sample overflows.
        enough += first % F::CHUNK_SLOTS * F::PEER_BYTES;
    }
    let part = Part {
        peers,
        chunk: chunk_offset + first / F::CHUNK_SLOTS,
        count: chunks - chunk_offset,
        collected: walk.collected,
        enough,
        own: if index == walk.own_partition {
            OwnChunk::find::<P, F, _>(cx, partition, occupancy.peers)
        } else {
            OwnChunk::NONE
        },
    };
    let cursor = list::copy::<P, F, _>(cx, partition, part, chunks_at_once(F::VERSION), filter);
    scratch.sampling.collected_here.store(cursor);
    1
}
