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
    /// How many peers the list has.
    pub(super) peers: u32,
    /// The first chunk, and after the last chunk of the list comes its first one.
    pub(super) chunk: u32,
    /// Chunks at most.
    pub(super) count: u32,
    /// Bytes that have been collected.
    pub(super) collected: u32,
    /// Bytes that are enough.
    pub(super) enough: u32,
}

/// Copies chunks of a list, at most `at_once`, behind what is collected, and returns the bytes that
/// are collected then. `takes_all`: without a look at the single peers.
#[inline(always)]
pub(super) fn copy<P: Platform, F: Family, L: List<F>>(
    cx: &Context<'_, P>,
    list: &L,
    part: Part,
    at_once: u32,
    (filter, takes_all): (PeerFilter, bool),
) -> u32 {
    let scratch = cx.scratch;
    let Part { peers, mut chunk, count, collected, enough } = part;
    let chunks = chunks_for::<F>(peers);
    let enough = scratch.as_unknown_scalar(enough);
    let mut cursor = scratch.as_unknown_scalar(collected);
    let count = scratch.as_unknown_scalar(count);
    for taken in 0..at_once {
        let chunks = scratch.as_unknown_scalar(chunks);
        if chunk >= chunks {
            chunk -= chunks;
        }
        if taken >= count || cursor >= enough {
            break;
        }
        // The verifier does not follow the subtraction, nor the compiler's forms of the number.
        let at = barrier_var(u64::from(chunk)) as u32;
        let Some(slots) = list::chunk::<P, F, L>(cx.platform, list, at) else { break };
        cursor &= COLLECTED_MAX;
        if takes_all {
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
pub(super) fn collect<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    swarm: SwarmRef<'_>,
    enough: u32,
    filter: PeerFilter,
) -> Option<()> {
    let (scratch, list) = (cx.scratch, swarm.record);
    let version = list.lock.version()?;
    let header = F::directory(list).filter(|header| header.is_list())?;
    let peers = scratch.as_unknown_scalar(header.peers);
    let first = first_peer(scratch, 0, peers);
    // The peers before it in its chunk are dropped if the sample overflows.
    let before = first % F::CHUNK_SLOTS;
    let part = Part {
        peers,
        chunk: first / F::CHUNK_SLOTS,
        count: chunks_for::<F>(peers),
        collected: 0,
        enough: enough + before * F::PEER_BYTES,
    };
    let cursor = copy::<P, F, _>(cx, list, part, RECORD_ENTRIES, (filter, false));
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
