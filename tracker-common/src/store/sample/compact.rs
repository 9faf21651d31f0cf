//! Compact peers in the scratch space: copied from slots, and cut to the wanted number.

use super::{
    super::{family::Family, filter::PeerFilter, layout::Swarm, slot::Slots},
    wanted::{COLLECTED_MAX, Sample, Wanted},
};
use crate::{
    platform::{Context, Platform, Step},
    scratch::{PEERS_AT, Scratch},
};
use core::marker::PhantomData;

/// How often the peers in a swarm record are read anew because they moved into partitions or back
/// meanwhile.
const RECORD_TRIES: u32 = 2;

/// A random one of `count` peers.
#[inline(always)]
fn random_of(count: u32, random: u32) -> u32 {
    (count * (random >> 16)) >> 16
}

/// Collects the wanted peers of a swarm record.
#[inline(always)]
pub(super) fn from_record<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: &Swarm,
    wanted: &Wanted<F::Key>,
    random: u32,
) {
    for tries in 0..RECORD_TRIES {
        let Some(version) = swarm.lock.version() else {
            cx.platform.pause(tries + 1);
            continue;
        };
        let slots = F::record(swarm);
        let mut cursor = 0;
        for number in 0..F::RECORD_SLOTS {
            cursor += F::write_if_eligible(slots.slot(number), cx.scratch, cursor, wanted.filter, wanted.exclude);
        }
        if version.still_holds() {
            cx.scratch.sampling.walk.collected.store(cursor);
            cx.scratch.sampling.first_returned.store(random_of(cursor / F::PEER_BYTES, random));
            return;
        }
    }
}

/// Copies a chunk, of whose slots the first `peers` are taken, behind the cursor and returns the
/// cursor behind them.
#[inline(always)]
pub(super) fn copy_chunk<F: Family>(scratch: &Scratch, cursor: u32, slots: Slots<'_, F>, peers: u32) -> u32 {
    // Copying all of the chunk takes no decision per peer; what is too much is written over.
    for number in 0..F::CHUNK_SLOTS {
        F::write(slots.slot(number as usize), scratch, cursor + number * F::PEER_BYTES);
    }
    cursor + peers * F::PEER_BYTES
}

/// Copies the peers of a chunk that the filter takes behind the cursor and returns the cursor
/// behind them.
#[inline(always)]
pub(super) fn copy_eligible<F: Family>(
    scratch: &Scratch,
    mut cursor: u32,
    slots: Slots<'_, F>,
    filter: PeerFilter,
    exclude: F::Key,
) -> u32 {
    for number in 0..F::CHUNK_SLOTS as usize {
        cursor += F::write_if_eligible(slots.slot(number), scratch, cursor, filter, exclude);
    }
    cursor
}

/// Keeps those of the collected peers that the requester may see, one after the other.
struct KeepVisible<F>(PhantomData<F>);

impl<P: Platform, F: Family> Step<P> for KeepVisible<F> {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let Some(scratch) = platform.scratch() else { return false };
        let kept = scratch.sampling.kept.load();
        let from = (turn * F::PEER_BYTES) as usize;
        let Some(scope) = F::move_compact(scratch, from, (kept & COLLECTED_MAX) as usize) else { return false };
        let filter = PeerFilter::from_number(scratch.sampling.walk.filter.load());
        scratch.sampling.kept.store(kept + filter.shows(scope) * F::PEER_BYTES);
        true
    }
}

/// Drops the collected peers that are hidden from the requester, if there may be some. The rest
/// begins with any of them.
#[inline(always)]
pub(super) fn drop_hidden<P: Platform, F: Family>(cx: &Context<'_, P>, filter: PeerFilter) {
    let sampling = &cx.scratch.sampling;
    if sampling.hides.load() == 0 {
        return;
    }
    sampling.walk.filter.store(filter.number());
    sampling.kept.store(0);
    cx.platform.repeat(sampling.walk.collected.load() / F::PEER_BYTES, &mut KeepVisible::<F>(PhantomData));
    let kept = sampling.kept.load();
    sampling.walk.collected.store(kept);
    sampling.first_returned.store(random_of(kept / F::PEER_BYTES, sampling.random.load()));
}

/// Keeps `want` of the collected peers, from [`crate::scratch::Sampling::first_returned`] on and as
/// from a ring.
#[inline(always)]
pub(super) fn cut<F: Family>(scratch: &Scratch, want: u32) -> Sample {
    let bytes = scratch.sampling.walk.collected.load();
    let collected = bytes / F::PEER_BYTES;
    if collected <= want {
        return Sample { start: PEERS_AT as u32, count: collected };
    }
    let first = scratch.sampling.first_returned.load();
    let skip = if first < collected { first } else { 0 };
    if skip + want > collected {
        // The ring: the first ones once more behind the last one.
        let again = (skip + want - collected) * F::PEER_BYTES;
        scratch.copy(PEERS_AT, PEERS_AT + bytes as usize, again as usize);
    }
    Sample { start: PEERS_AT as u32 + skip * F::PEER_BYTES, count: want }
}
