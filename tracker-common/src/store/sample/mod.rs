//! Choosing the peers of a reply: random, never the requester, never a peer twice.
//!
//! A small swarm is read from its record, a middle one from its list: whole chunks from a random
//! peer on, and after the last the first, as from a ring. In a grown one whole chunks are taken,
//! some from a partition, from partitions at a random stride from a random beginning. Partitions that linear
//! hashing has yet to split hold twice as many peers as the others, and get two steps where those
//! get one. When all have had their steps, the next pass takes other chunks. What is collected
//! beyond the wanted number is cut off at a random end. No lock is held: chunks are dropped again
//! if their partition's structure changed while they were read.
//!
//! [`from_one_partition`] is for the program that answers most announces: no loop, and nothing of
//! what a loop takes of the stack. [`sample`] does whatever it takes.
//!
//! A seeder is given leechers only. These stand first in each list, so its sample reads the lists as
//! if there were no others.

mod beginning;
mod compact;
mod list;
mod row;
mod walk;
mod wanted;

pub use beginning::look_ahead;
pub(super) use beginning::{is_far, prefetch_peers};
pub use wanted::{PARTITIONS_READ_MAX, Sample, Wanted, chunks_at_once};

use super::{
    family::Family,
    filter::PeerFilter,
    linear_hash::{partition_of, round_size},
    resize::peers_per_partition,
};
use crate::{
    platform::{Context, Platform, SwarmRef},
    scratch::Walk,
};
use core::marker::PhantomData;
use wanted::COLLECTED_ENOUGH;

/// Steps of the loop: for the partitions to read, and to look again at those that were being
/// changed.
const STEPS: u32 = 8 * PARTITIONS_READ_MAX;

/// Prepares the scratch space, and returns what is wanted. To the verifier there is one way on from
/// here, however the wanted number and the filter came about.
#[inline(always)]
fn start<P: Platform, F: Family>(cx: &Context<'_, P>, wanted: &Wanted<F::Key>) -> Wanted<F::Key> {
    let sampling = &cx.scratch.sampling;
    sampling.walk.collected.store(0);
    sampling.hides.store(0);
    let count = if wanted.count > F::NUMWANT_LIMIT { F::NUMWANT_LIMIT } else { wanted.count };
    Wanted {
        count: cx.scratch.as_unknown_scalar(count),
        filter: PeerFilter::from_number(cx.scratch.as_unknown_scalar(wanted.filter.number())),
        exclude: wanted.exclude,
    }
}

/// The walk over the partitions of a swarm in which a sample with this random number begins at
/// [`crate::scratch::Sampling::first_position`].
#[inline(always)]
fn new_walk<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    partitions: u32,
    want: u32,
    random: u32,
    wanted: &Wanted<F::Key>,
) -> Walk {
    let round = round_size(partitions);
    let position = cx.scratch.sampling.first_position.load() & (round - 1);
    F::keep_excluded(cx.scratch, wanted.exclude);
    Walk {
        partitions,
        position,
        second_first: if position >= partitions { 1 } else { 0 },
        // So that PARTITIONS_READ_MAX strides stay within one pass, if there are that many steps;
        // odd, so that a pass misses none.
        stride: (((random >> 16) * (round / PARTITIONS_READ_MAX)) >> 16) | 1,
        steps: 0,
        passes: 0,
        partitions_read: 0,
        pass_found_peers: 0,
        own_partition: partition_of(F::hash(cx.settings, wanted.exclude), partitions),
        filter: wanted.filter.number(),
        collected: 0,
        enough: want * F::PEER_BYTES,
    }
}

/// Collects peers if one partition has enough of them, or if the swarm is small. `None` where that
/// takes more: [`sample`] then begins where this one would have. Where a sample begins was decided
/// by [`look_ahead`], and the requester found by [`super::refresh::refresh`].
#[inline(always)]
pub fn from_one_partition<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    wanted: &Wanted<F::Key>,
) -> Option<Sample> {
    if wanted.count == 0 {
        return Some(Sample::EMPTY);
    }
    let wanted = &start::<P, F>(cx, wanted);
    let want = wanted.count;
    if F::directory(swarm.record).is_none() {
        if wanted.filter.may_hide(swarm.record.scopes()) {
            return None;
        }
        compact::from_record::<P, F>(cx, swarm.record, wanted, cx.random());
    }
    let sample = if F::is_list(swarm.record) {
        row::of_record::<P, F>(cx, swarm, wanted)?
    } else if let Some(partitions) = F::partitions(swarm.record) {
        // More than an average partition has, if there are others, takes more than one.
        if partitions > 1 && want > peers_per_partition(F::VERSION) * 7 / 8 {
            return None;
        }
        row::of_partition::<P, F>(cx, swarm, wanted, partitions)?
    } else {
        return Some(compact::cut::<F>(cx.scratch, want));
    };
    beginning::advance(cx.scratch, swarm.id);
    Some(sample)
}

/// Collects up to the wanted number of peers. `None` only where tries are limited
/// ([`Platform::SPIN_LIMIT`]) and nearly all peers are hidden from the requester.
#[inline(always)]
pub fn sample<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    wanted: &Wanted<F::Key>,
) -> Option<Sample> {
    if wanted.count == 0 {
        return Some(Sample::EMPTY);
    }
    let wanted = &start::<P, F>(cx, wanted);
    let (random, mut want) = (cx.random(), wanted.count);
    let sampling = &cx.scratch.sampling;
    sampling.random.store(random);
    if F::directory(swarm.record).is_none() {
        if wanted.filter.may_hide(swarm.record.scopes()) {
            sampling.hides.store(1);
        }
        compact::from_record::<P, F>(cx, swarm.record, wanted, random);
        compact::drop_hidden::<P, F>(cx, wanted.filter);
    }
    if F::is_list(swarm.record) {
        want = cx.scratch.as_unknown_scalar(want);
        beginning::choose(cx, swarm.id, 1);
        let hides = wanted.filter.may_hide(swarm.record.scopes());
        sampling.hides.store(if hides { 1 } else { 0 });
        sampling.walk.enough.store(if hides { COLLECTED_ENOUGH } else { want * F::PEER_BYTES });
        sampling.walk.filter.store(wanted.filter.number());
        sampling.swarm.store(swarm.id.number());
        F::keep_excluded(cx.scratch, wanted.exclude);
        cx.platform.repeat(STEPS, &mut list::Collect::<F>(PhantomData));
        compact::drop_hidden::<P, F>(cx, wanted.filter);
        beginning::advance(cx.scratch, swarm.id);
    }
    if let Some(partitions) = F::partitions(swarm.record) {
        want = cx.scratch.as_unknown_scalar(want);
        let partitions = cx.scratch.as_unknown_scalar(partitions);
        beginning::choose(cx, swarm.id, partitions);
        let walk = new_walk::<P, F>(cx, partitions, want, random, wanted);
        sampling.walk.store(&walk);
        sampling.swarm.store(swarm.id.number());
        for _ in 0..if P::SPIN_LIMIT.is_some() { 1 } else { PARTITIONS_READ_MAX } {
            cx.platform.repeat(STEPS, &mut walk::WalkStep::<F>(PhantomData));
            let all = sampling.walk.collected.load() < sampling.walk.enough.load();
            compact::drop_hidden::<P, F>(cx, wanted.filter);
            if all || sampling.walk.collected.load() >= want * F::PEER_BYTES {
                break;
            }
            if P::SPIN_LIMIT.is_some() {
                // Most of the swarm is hidden: finding the others takes longer than there is time
                // for here.
                return None;
            }
            sampling.walk.enough.store(want * F::PEER_BYTES);
        }
        beginning::advance(cx.scratch, swarm.id);
    }
    Some(compact::cut::<F>(cx.scratch, want))
}

#[cfg(test)]
mod tests;
