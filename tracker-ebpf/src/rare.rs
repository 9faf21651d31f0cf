//! Work that few announces need, in global functions: the verifier looks at each of them once, whatever the arguments, and not
//! again on every path that leads to a call.

use crate::maps::Kernel;
use tracker_common::{
    memory::Memory as _,
    outcome::Reason,
    store::{Family, Rare, V4, V6, partition::ATTEMPTS},
};

/// Calls the function that does the work.
#[inline(always)]
pub(crate) fn call(work: Rare) -> Result<u32, Reason> {
    decode(match work {
        Rare::Create => rare_create(),
        Rare::Found { family: V4::TAG, swarm } => rare_found_v4(swarm),
        Rare::Found { swarm, .. } => rare_found_v6(swarm),
        Rare::Seek { family: V4::TAG, partition, hash, free: false } => rare_find_v4(partition, hash),
        Rare::Seek { family: V4::TAG, partition, hash, free: true } => rare_find_free_v4(partition, hash),
        Rare::Seek { partition, hash, free: false, .. } => rare_find_v6(partition, hash),
        Rare::Seek { partition, hash, free: true, .. } => rare_find_free_v6(partition, hash),
        Rare::Place { family: V4::TAG, split: false, chunks, hash } => rare_place_v4(chunks, hash),
        Rare::Place { family: V4::TAG, split: true, chunks, hash } => rare_place_split_v4(chunks, hash),
        Rare::Place { split: false, chunks, hash, .. } => rare_place_v6(chunks, hash),
        Rare::Place { split: true, chunks, hash, .. } => rare_place_split_v6(chunks, hash),
        Rare::Grow { family: V4::TAG, partition, extra, newcomer } => rare_grow_v4(partition, extra, newcomer),
        Rare::Grow { partition, extra, newcomer, .. } => rare_grow_v6(partition, extra, newcomer),
        // Left to a program of its own, with a stack of its own, that runs when the reply is ready.
        Rare::Split { swarm, .. } => later(swarm),
    })
}

#[inline(always)]
fn later(swarm: u32) -> i64 {
    if let Some(scratch) = Kernel.scratch() {
        scratch.split_later.store(swarm + 1);
    }
    0
}

/// Whether a swarm was left for later.
#[inline(always)]
pub(crate) fn is_left() -> bool {
    Kernel.scratch().is_some_and(|scratch| scratch.split_later.load() != 0)
}

/// Gives the swarm that was left for later one more partition.
#[inline(always)]
pub(crate) fn split_now(family: u32) {
    let Some(scratch) = Kernel.scratch() else { return };
    let swarm = scratch.split_later.load().wrapping_sub(1);
    let mut extra = 0;
    while extra < ATTEMPTS {
        let result = if family == V4::TAG { rare_split_v4(swarm, extra) } else { rare_split_v6(swarm, extra) };
        if result != NO_ROOM {
            break;
        }
        extra += 1;
    }
}

/// A result in one register: the number, or one of these.
const MEMORY_FULL: i64 = -1;
const TORRENTS_FULL: i64 = -2;
const CONTENDED: i64 = -3;
const NO_ROOM: i64 = -4;
const OTHER: i64 = -5;

#[inline(always)]
fn encode(result: Result<u32, Reason>) -> i64 {
    match result {
        Ok(number) => i64::from(number),
        Err(Reason::MemoryFull) => MEMORY_FULL,
        Err(Reason::TorrentsFull) => TORRENTS_FULL,
        Err(Reason::Contended) => CONTENDED,
        Err(Reason::NoRoom) => NO_ROOM,
        Err(_) => OTHER,
    }
}

#[inline(always)]
fn decode(result: i64) -> Result<u32, Reason> {
    match result {
        0.. => Ok(result as u32),
        MEMORY_FULL => Err(Reason::MemoryFull),
        TORRENTS_FULL => Err(Reason::TorrentsFull),
        CONTENDED => Err(Reason::Contended),
        NO_ROOM => Err(Reason::NoRoom),
        _ => Err(Reason::Internal),
    }
}

macro_rules! rare {
    ($($name:ident($($argument:ident),*) = $work:expr;)*) => {
        $(
            // SAFETY: the name is unique to this program; nobody but this program calls it.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name($($argument: u32),*) -> i64 {
                encode($work.run(&Kernel))
            }
        )*
    };
}

rare! {
    rare_create() = Rare::Create;
    rare_found_v4(swarm) = Rare::Found { family: V4::TAG, swarm };
    rare_found_v6(swarm) = Rare::Found { family: V6::TAG, swarm };
    rare_find_v4(partition, hash) = Rare::Seek { family: V4::TAG, partition, hash, free: false };
    rare_find_free_v4(partition, hash) = Rare::Seek { family: V4::TAG, partition, hash, free: true };
    rare_find_v6(partition, hash) = Rare::Seek { family: V6::TAG, partition, hash, free: false };
    rare_find_free_v6(partition, hash) = Rare::Seek { family: V6::TAG, partition, hash, free: true };
    rare_place_v4(chunks, hash) = Rare::Place { family: V4::TAG, split: false, chunks, hash };
    rare_place_split_v4(chunks, hash) = Rare::Place { family: V4::TAG, split: true, chunks, hash };
    rare_place_v6(chunks, hash) = Rare::Place { family: V6::TAG, split: false, chunks, hash };
    rare_place_split_v6(chunks, hash) = Rare::Place { family: V6::TAG, split: true, chunks, hash };
    rare_grow_v4(partition, extra, newcomer) = Rare::Grow { family: V4::TAG, partition, extra, newcomer };
    rare_grow_v6(partition, extra, newcomer) = Rare::Grow { family: V6::TAG, partition, extra, newcomer };
    rare_split_v4(swarm, extra) = Rare::Split { family: V4::TAG, swarm, extra };
    rare_split_v6(swarm, extra) = Rare::Split { family: V6::TAG, swarm, extra };
}
