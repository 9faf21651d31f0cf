//! Where a sample of a grown swarm begins.

use super::super::{
    asking, directory,
    family::Family,
    filter::PeerFilter,
    layout::DirectoryHeader,
    linear_hash::{is_unsplit, partition_of, round_size},
    list::{self, List, chunks_for},
    scope::EVERYTHING,
};
use crate::{
    codegen::prefetch,
    id::{PartitionId, SwarmId},
    platform::{Context, Platform, SwarmRef},
    scratch::{SAMPLE_COUNTERS, Scratch},
    word::Word32,
};

/// From so many partitions on they do not stay in the processor's nearer caches.
const FAR: u32 = 1024;

/// Mixes the index of a partition into a number: another one for each partition.
#[inline(always)]
pub(super) fn per_partition(index: u32) -> u32 {
    index.wrapping_mul(0x9e37_79b9)
}

/// The counter of the samples that this core has taken of the swarm.
#[inline(always)]
fn counter(scratch: &Scratch, swarm: SwarmId) -> &Word32 {
    &scratch.samples[swarm.number() as usize % SAMPLE_COUNTERS]
}

/// Decides where a sample of a swarm with so many partitions begins.
///
/// One partition is all that most samples read, and forty random draws of eight partitions leave
/// out one now and then. So the samples that a core takes of a swarm are counted, and begin where
/// the count, read backwards bit by bit (van der Corput's sequence), points: every position has its
/// sample before one has a second, and the second begins half a partition from the first, the next
/// two at the quarters. Swarms that share a counter skip some of it, which makes the beginnings
/// random again.
#[inline(always)]
pub(super) fn choose<P: Platform>(cx: &Context<'_, P>, swarm: SwarmId, partitions: u32) {
    let counter = counter(cx.scratch, swarm);
    let mut count = counter.load();
    if count == 0 {
        count = cx.random();
        counter.store(count);
    }
    let count = cx.scratch.as_unknown_scalar_soon(count);
    let round = round_size(partitions);
    // The positions of a partition that has two of them are half a round apart: they come as late
    // one after the other as can be.
    let half = if round < 2 { 1 } else { round / 2 };
    let point = u64::from(count.reverse_bits()) * u64::from(half);
    let (index, rest) = ((point >> 32) as u32, point as u32);
    let position = (index + (rest >> 31) * half) & (round - 1);
    let whole = round < 2 || is_unsplit(index, partitions);
    cx.scratch.sampling.first_position.store(position);
    cx.scratch.sampling.first_peer.store(if whole { rest } else { rest << 1 });
}

/// Notes that a sample was taken. Not before: whoever takes up a sample that was given up begins
/// where that one would have.
#[inline(always)]
pub(super) fn advance(scratch: &Scratch, swarm: SwarmId) {
    let counter = counter(scratch, swarm);
    counter.store(counter.load().wrapping_add(1));
}

/// The number of the peer that a sample begins with in the partition with this index.
#[inline(always)]
pub(super) fn first_peer(scratch: &Scratch, index: u32, peers: u32) -> u32 {
    // Another one in each partition: a sample may read several.
    let peer = scratch.sampling.first_peer.load().wrapping_add(per_partition(index));
    ((u64::from(peer) * u64::from(peers)) >> 32) as u32
}

/// Decides where the next sample of the swarm begins, if it has a directory, and has the processor bring
/// the partition nearer that this is in: so it comes while the requester's own is waited for.
#[inline(always)]
pub fn look_ahead<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    directory: Option<DirectoryHeader>,
) {
    let sampling = &cx.scratch.sampling;
    sampling.own_partition.store(0);
    let Some(header) = directory else { return };
    if header.is_list() {
        choose(cx, swarm.id, 1);
        sampling.first_index.store(0);
        sampling.first_partition.store(PartitionId::RECORD.number());
        return;
    }
    let partitions = cx.scratch.as_unknown_scalar_soon(header.partitions);
    choose(cx, swarm.id, partitions);
    let position = sampling.first_position.load() & (round_size(partitions) - 1);
    let index = partition_of(position, partitions);
    let Some(id) = directory::find::<P, F>(cx.platform, swarm.record, index, partitions) else { return };
    sampling.first_index.store(index);
    sampling.first_partition.store(id.number());
    let Some(partition) = cx.platform.partition(id) else { return };
    if asking::was_asked_for(cx) {
        partition.ask_for();
    } else if partitions >= FAR {
        prefetch(partition);
    }
}

/// Whether what a sample of a swarm with so many partitions begins with is probably not in the processor's
/// nearer caches: it is one of many swarms, or so large. In the kernel, where [`look_ahead`] has chosen it.
#[inline(always)]
pub fn is_far<P: Platform>(cx: &Context<'_, P>, partitions: u32) -> bool {
    P::ASKING_TAKES && (partitions >= FAR || asking::was_asked_for(cx))
}

/// Has the processor bring the peers nearer that the sample begins with, for a seeder leechers. Who calls
/// it has the requester's own partition at hand, so the other one is there as well ([`look_ahead`]), and
/// goes on to look for the requester among its peers: for both lists of peers is waited at the same time.
#[inline(always)]
pub fn prefetch_peers<P: Platform, F: Family>(cx: &Context<'_, P>, seeder: bool) {
    let sampling = &cx.scratch.sampling;
    let Some(partition) = cx.platform.partition(PartitionId::new(sampling.first_partition.load())) else { return };
    let peers = PeerFilter::new(!seeder, EVERYTHING).taken_of(List::<F>::occupancy(partition));
    let chunks = chunks_for::<F>(peers);
    let mut chunk = first_peer(cx.scratch, sampling.first_index.load(), peers) / F::CHUNK_SLOTS;
    // Most of the usual 50, and few instructions.
    for _ in 0..2 {
        let Some(slots) = list::chunk::<P, F, _>(cx.platform, partition, chunk) else { return };
        slots.prefetch();
        chunk = if chunk + 1 >= chunks { 0 } else { chunk + 1 };
    }
}
