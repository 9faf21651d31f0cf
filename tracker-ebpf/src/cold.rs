//! Work that few announces need, in global functions: the verifier looks at each of them once,
//! whatever the arguments, and not again on every path that leads to a call. Such a function takes
//! and returns plain numbers.

use crate::kernel::Kernel;
use tracker_common::{
    bep15::connection_id::IpKey,
    id::{PartitionId, SwarmId},
    limits::table::Kind,
    outcome::{IpVersion, StoreError},
    platform::{ColdPath, Platform as _},
    store::cold,
};

/// Calls the function that does the work.
#[inline(always)]
pub(crate) fn call(work: ColdPath) -> Result<u32, StoreError> {
    StoreError::unpack(match work {
        ColdPath::CreateTorrent => cold_create_torrent(),
        ColdPath::FindTorrent(at) => cold_find_torrent(at),
        ColdPath::Promote(IpVersion::V4, swarm) => cold_promote_v4(swarm.number()),
        ColdPath::Promote(IpVersion::V6, swarm) => cold_promote_v6(swarm.number()),
        // Left to a program of its own, with a stack of its own, that runs when the announce has
        // been stored.
        ColdPath::Split(_, swarm) => split_later(swarm),
        ColdPath::ClaimTorrent => cold_claim_torrent(),
        ColdPath::EvictTorrent => cold_evict_torrent(),
        ColdPath::ClaimChunk(IpVersion::V4) => cold_claim_chunk_v4(),
        ColdPath::ClaimChunk(IpVersion::V6) => cold_claim_chunk_v6(),
        ColdPath::Crowd(IpVersion::V4, swarm, list) => cold_crowd_v4(swarm.number(), list.number()),
        ColdPath::Crowd(IpVersion::V6, swarm, list) => cold_crowd_v6(swarm.number(), list.number()),
        ColdPath::BlockList(IpKey::V4(address)) => cold_block_list_v4(address),
        ColdPath::BlockList(IpKey::V6([first, second])) => {
            let halves = [first, first >> 32, second, second >> 32].map(|half| half as u32);
            cold_block_list_v6(halves[0], halves[1], halves[2], halves[3])
        }
        ColdPath::Limit(kind) => cold_limit(kind as u32),
        ColdPath::Tell => cold_tell(),
        ColdPath::CardId(IpKey::V4(address), id) => cold_card_id(IpVersion::V4 as u32, address.into(), 0, id),
        ColdPath::CardId(IpKey::V6([first, second]), id) => cold_card_id(IpVersion::V6 as u32, first, second, id),
        ColdPath::TellChange(IpVersion::V4) => cold_tell_change_v4(),
        ColdPath::TellChange(IpVersion::V6) => cold_tell_change_v6(),
    })
}

#[inline(always)]
fn split_later(swarm: SwarmId) -> u64 {
    if let Some(scratch) = Kernel::without_counters().scratch() {
        scratch.handover.split.store(swarm.stored());
    }
    0
}

/// Gives the swarm that was left for later one more partition. Failure is no error: the next new
/// peer tries again.
#[inline(always)]
pub(crate) fn split_now(version: IpVersion) {
    let kernel = Kernel::without_counters();
    let Some(scratch) = kernel.scratch() else { return };
    let swarm = scratch.handover.split.load().wrapping_sub(1);
    match version {
        IpVersion::V4 => cold_split_v4(swarm),
        IpVersion::V6 => cold_split_v6(swarm),
    };
}

macro_rules! global_functions {
    ($($name:ident($($argument:ident),*) = $work:expr;)*) => {
        $(
            // SAFETY: the name is unique to this program; nobody but this program calls it.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name($($argument: u32),*) -> u64 {
                StoreError::pack(cold::run($work, &Kernel::without_counters()))
            }
        )*
    };
}

global_functions! {
    cold_create_torrent() = ColdPath::CreateTorrent;
    cold_find_torrent(at) = ColdPath::FindTorrent(at);
    cold_promote_v4(swarm) = ColdPath::Promote(IpVersion::V4, SwarmId::new(swarm));
    cold_promote_v6(swarm) = ColdPath::Promote(IpVersion::V6, SwarmId::new(swarm));
    cold_split_v4(swarm) = ColdPath::Split(IpVersion::V4, SwarmId::new(swarm));
    cold_split_v6(swarm) = ColdPath::Split(IpVersion::V6, SwarmId::new(swarm));
    cold_claim_torrent() = ColdPath::ClaimTorrent;
    cold_evict_torrent() = ColdPath::EvictTorrent;
    cold_claim_chunk_v4() = ColdPath::ClaimChunk(IpVersion::V4);
    cold_claim_chunk_v6() = ColdPath::ClaimChunk(IpVersion::V6);
    cold_crowd_v4(swarm, list) = ColdPath::Crowd(IpVersion::V4, SwarmId::new(swarm), PartitionId::new(list));
    cold_crowd_v6(swarm, list) = ColdPath::Crowd(IpVersion::V6, SwarmId::new(swarm), PartitionId::new(list));
    cold_block_list_v4(address) = ColdPath::BlockList(IpKey::V4(address));
    cold_block_list_v6(a, b, c, d) = ColdPath::BlockList(IpKey::V6([
        u64::from(a) | u64::from(b) << 32,
        u64::from(c) | u64::from(d) << 32,
    ]));
    cold_limit(kind) = ColdPath::Limit(Kind::of(kind));
    cold_tell() = ColdPath::Tell;
    cold_tell_change_v4() = ColdPath::TellChange(IpVersion::V4);
    cold_tell_change_v6() = ColdPath::TellChange(IpVersion::V6);
}

/// The one with numbers of 64 bits.
// SAFETY: as above.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cold_card_id(version: u32, first: u64, second: u64, id: u64) -> u64 {
    let source = if version == IpVersion::V4 as u32 { IpKey::V4(first as u32) } else { IpKey::V6([first, second]) };
    StoreError::pack(cold::run(ColdPath::CardId(source, id), &Kernel::without_counters()))
}
