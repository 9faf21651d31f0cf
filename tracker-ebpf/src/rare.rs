//! Work that few announces need, in global functions: the verifier looks at each of them once, whatever the arguments, and not
//! again on every path that leads to a call.

use crate::maps::Kernel;
use tracker_common::{
    memory::Memory as _,
    outcome::Reason,
    store::{Family, Rare, V4, V6},
};

/// Calls the function that does the work.
#[inline(always)]
pub(crate) fn call(work: Rare) -> Result<u32, Reason> {
    decode(match work {
        Rare::Create => rare_create(),
        Rare::Found { family: V4::TAG, swarm } => rare_found_v4(swarm),
        Rare::Found { swarm, .. } => rare_found_v6(swarm),
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

/// Gives the swarm that was left for later one more partition. Failure is no error: the next new peer tries again.
#[inline(always)]
pub(crate) fn split_now(family: u32) {
    let Some(scratch) = Kernel.scratch() else { return };
    let swarm = scratch.split_later.load().wrapping_sub(1);
    if family == V4::TAG {
        rare_split_v4(swarm);
    } else {
        rare_split_v6(swarm);
    }
}

/// A result in one register: the number, or one of these.
const MEMORY_FULL: i64 = -1;
const TORRENTS_FULL: i64 = -2;
const CONTENDED: i64 = -3;
const OTHER: i64 = -4;

#[inline(always)]
fn encode(result: Result<u32, Reason>) -> i64 {
    match result {
        Ok(number) => i64::from(number),
        Err(Reason::MemoryFull) => MEMORY_FULL,
        Err(Reason::TorrentsFull) => TORRENTS_FULL,
        Err(Reason::Contended) => CONTENDED,
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
    rare_split_v4(swarm) = Rare::Split { family: V4::TAG, swarm };
    rare_split_v6(swarm) = Rare::Split { family: V6::TAG, swarm };
}
