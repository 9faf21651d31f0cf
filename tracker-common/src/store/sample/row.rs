//! The usual sample: peers that stand in a row in one list, copied as they stand. The requester is
//! not looked for among them: [`super::super::refresh`] has just found its slot.

use super::{
    super::{
        family::Family,
        list::{self, List, chunks_for},
        lock::Version,
        slot::Slots,
    },
    beginning::first_peer,
    wanted::{COLLECTED_MAX, Sample, Wanted},
};
use crate::{
    codegen::barrier_var,
    platform::{Context, Platform},
    scratch::{PEERS_AT, Scratch},
};

/// Slots that are copied without a decision.
const GROUP: u32 = 8;

/// Chunks that are looked into at most.
const CHUNKS: u32 = 6;

/// A list of which peers are taken.
#[derive(Clone, Copy)]
pub(super) struct Place<'l> {
    /// The list's version.
    pub(super) version: Version<'l>,
    /// Which partition of the swarm it is.
    pub(super) index: u32,
    /// The list as in [`crate::scratch::Sampling::own_list`].
    pub(super) number: u32,
    /// Whether the family has others.
    pub(super) others: bool,
}

/// Takes `wanted.count` peers of a list, or all if there are fewer and no other lists, from the
/// first one on that was chosen ([`super::prefetch`]); behind the last one comes the first one, as
/// in a ring. For a seeder the last one is the last leecher. `None` if that takes more than one list
/// or more than [`CHUNKS`], or if the list was changed since the requester was found in it.
#[inline(always)]
pub(super) fn take<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    list: &L,
    place: Place<'_>,
    wanted: &Wanted<F::Key>,
) -> Option<Sample> {
    let (scratch, sampling) = (cx.scratch, &cx.scratch.sampling);
    let peers = scratch.as_unknown_scalar(wanted.filter.taken_of(list.occupancy()));
    if peers < wanted.count && place.others {
        return None;
    }
    let first = first_peer(scratch, place.index, peers);
    // One more, for the requester's place.
    let more = wanted.count + 1;
    let mut count = scratch.as_unknown_scalar(if more < peers { more } else { peers });
    copy::<P, F, L>(cx, list, peers, first, count)?;

    let start = first % F::CHUNK_SLOTS;
    let own = sampling.own_list.load();
    if own == 0 {
        return None;
    }
    if own == place.number {
        if sampling.own_version.load() != place.version.number() {
            return None;
        }
        let slot = scratch.found_slot.load();
        let behind = slot.wrapping_sub(first);
        let behind = if slot < first { behind.wrapping_add(peers) } else { behind };
        // A seeder stands behind all that are taken.
        if slot < peers && behind < count {
            // The last one takes the requester's place. Masks that change nothing, for the verifier.
            count -= 1;
            let (last, own) = ((start + count) * F::PEER_BYTES, start.wrapping_add(behind) * F::PEER_BYTES);
            F::move_compact(scratch, (last & COLLECTED_MAX) as usize, (own & COLLECTED_MAX) as usize)?;
        }
    }
    let count = if count > wanted.count { wanted.count } else { count };
    if (count < wanted.count && place.others) || !place.version.still_holds() {
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
        if chunk >= chunks {
            chunk = 0;
        }
        let at = barrier_var(u64::from(chunk)) as u32;
        let slots = list::chunk::<P, F, L>(cx.platform, list, at)?;
        let there = peers.wrapping_sub(at * F::CHUNK_SLOTS);
        let there = if there < F::CHUNK_SLOTS { there } else { F::CHUNK_SLOTS };
        let end = if left < there { left } else { there };
        // To the verifier all ways through the loop shall be one.
        let (from_here, to_here) = (scratch.as_unknown_scalar(from), scratch.as_unknown_scalar(end));
        copy_groups::<F>(scratch, cursor & COLLECTED_MAX, slots, from_here, to_here);
        left = scratch.as_unknown_scalar(left - end);
        if left == 0 {
            return Some(());
        }
        cursor = scratch.as_unknown_scalar(cursor + there * F::PEER_BYTES);
        chunk = scratch.as_unknown_scalar(at + 1);
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
