//! Reading a list of peers, as from a ring; and the sample of a family whose only list the swarm
//! record names.

use super::{
    super::{
        family::Family,
        filter::PeerFilter,
        layout::RECORD_ENTRIES,
        list::{self, List, chunks_for},
    },
    beginning::first_peer,
    compact,
    wanted::COLLECTED_MAX,
};
use crate::{
    codegen::barrier_var,
    id::SwarmId,
    platform::{Context, Platform, Step, SwarmRef},
};
use core::marker::PhantomData;

/// How much is taken of a list.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// How many peers of the list may be taken, from its first one on.
    pub(super) peers: u32,
    /// The first chunk, and after the last chunk of these comes the first one of the list.
    pub(super) chunk: u32,
    /// Chunks at most.
    pub(super) count: u32,
    /// Bytes that have been collected.
    pub(super) collected: u32,
    /// Bytes that are enough.
    pub(super) enough: u32,
    /// Where the requester may be.
    pub(super) own: OwnChunk,
}

/// In which chunks of a list the requester may stand: those whose index is `index` under `mask`. One
/// comparison for all cases, as the verifier follows both ways of each with each chunk.
#[derive(Clone, Copy)]
pub(super) struct OwnChunk {
    mask: u32,
    index: u32,
}

impl OwnChunk {
    /// In none.
    pub(super) const NONE: Self = Self { mask: 0, index: 1 };

    /// The chunk of a list with so many peers in which the excluded peer stands: if it is what the
    /// last search has found, as it is when an announce is answered. If not, it may be any.
    #[inline(always)]
    pub(super) fn find<P: Platform, F: Family, L: List<F>>(cx: &Context<'_, P>, list: &L, peers: u32) -> Self {
        let number = cx.scratch.found_slot.load();
        let found = number < peers
            && match list::slot::<P, F, L>(cx.platform, list, number) {
                Some(slot) => slot.matches(F::excluded(cx.scratch)),
                None => false,
            };
        Self {
            mask: cx.scratch.as_unknown_scalar(if found { u32::MAX } else { 0 }),
            index: cx.scratch.as_unknown_scalar(if found { number / F::CHUNK_SLOTS } else { 0 }),
        }
    }

    /// Whether the requester may stand in this chunk.
    #[inline(always)]
    fn may_be(self, chunk: u32) -> bool {
        chunk & self.mask == self.index
    }
}

/// Copies chunks of a list, at most `at_once`, behind what is collected, and returns the bytes that
/// are collected then. Peers are looked at one by one only where the requester may be.
#[inline(always)]
pub(super) fn copy<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    list: &L,
    part: Part,
    at_once: u32,
    filter: PeerFilter,
) -> u32 {
    let scratch = cx.scratch;
    let Part { peers, mut chunk, count, collected, enough, own } = part;
    let chunks = chunks_for::<F>(peers);
    let enough = scratch.as_unknown_scalar(enough);
    let mut cursor = scratch.as_unknown_scalar(collected);
    let count = scratch.as_unknown_scalar(count);
    // 64 bits wide: where two numbers of 32 bits share a word of the stack, the verifier loses sight
    // of both, and would see no end.
    for taken in 0..u64::from(at_once) {
        let chunks = scratch.as_unknown_scalar(chunks);
        if chunk >= chunks {
            chunk -= chunks;
        }
        if taken >= u64::from(count) || cursor >= enough {
            break;
        }
        // The verifier does not follow the subtraction, nor the compiler's forms of the number.
        let at = barrier_var(u64::from(chunk)) as u32;
        let Some(slots) = list::chunk::<P, F, L>(cx.platform, list, at) else { break };
        cursor &= COLLECTED_MAX;
        if !own.may_be(at) {
            let left = scratch.as_unknown_scalar(peers).wrapping_sub(at * F::CHUNK_SLOTS);
            let left = if left < F::CHUNK_SLOTS { left } else { F::CHUNK_SLOTS };
            cursor = compact::copy_chunk::<F>(scratch, cursor, slots, left);
        } else {
            cursor = compact::copy_eligible::<F>(scratch, cursor, slots, filter, F::excluded(scratch));
        }
        // To the verifier all ways through the loop shall be one.
        cursor = scratch.as_unknown_scalar(cursor);
        chunk = scratch.as_unknown_scalar(chunk + 1);
    }
    cursor
}

/// Collects peers of the list that the swarm record names, from that one on that was chosen as the
/// first ([`super::beginning`]), until that are `enough` bytes or all. `None` if it changes
/// meanwhile or is none.
#[inline(always)]
fn collect<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    enough: u32,
    filter: PeerFilter,
) -> Option<()> {
    let (scratch, list) = (cx.scratch, swarm.record);
    let version = list.lock.version()?;
    if !F::is_list(list) {
        return None;
    }
    let occupancy = List::<F>::occupancy(list);
    let peers = scratch.as_unknown_scalar(filter.taken_of(occupancy));
    let first = first_peer(scratch, 0, peers);
    // The peers before it in its chunk are dropped if the sample overflows.
    let before = first % F::CHUNK_SLOTS;
    let part = Part {
        peers,
        chunk: first / F::CHUNK_SLOTS,
        count: chunks_for::<F>(peers),
        collected: 0,
        enough: enough + before * F::PEER_BYTES,
        own: OwnChunk::find::<P, F, _>(cx, list, occupancy.peers),
    };
    let cursor = copy::<P, F, _>(cx, list, part, RECORD_ENTRIES, filter);
    if !version.still_holds() {
        return None;
    }
    scratch.sampling.walk.collected.store(cursor);
    scratch.sampling.first_returned.store(before);
    Some(())
}

/// [`collect`] as the body of a loop that tries again as long as the list changes. What it needs is
/// in the scratch space.
pub(super) struct Collect<F>(pub(super) PhantomData<F>);

impl<P: Platform, F: Family> Step<P> for Collect<F> {
    #[inline(always)]
    fn step(&mut self, platform: &P, _turn: u32) -> bool {
        let Ok(cx) = Context::new(platform) else { return false };
        let sampling = &cx.scratch.sampling;
        let Some(swarm) = cx.swarm(SwarmId::new(sampling.swarm.load())) else { return false };
        let (enough, filter) = (sampling.walk.enough.load(), PeerFilter::from_number(sampling.walk.filter.load()));
        let done = collect::<P, F>(&cx, swarm, enough, filter).is_some();
        if !done {
            platform.pause(1);
        }
        !done && F::is_list(swarm.record)
    }
}

#[cfg(test)]
mod tests;
