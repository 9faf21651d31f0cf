//! Work that few announces need, in global functions: the verifier looks at each of them once, whatever the arguments, and not
//! again on every path that leads to a call.

use crate::maps::Kernel;
use tracker_common::{
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
        Rare::Grow { family: V4::TAG, partition } => rare_grow_v4(partition),
        Rare::Grow { partition, .. } => rare_grow_v6(partition),
        Rare::Split { family: V4::TAG, swarm } => rare_split_v4(swarm),
        Rare::Split { swarm, .. } => rare_split_v6(swarm),
    })
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
    ($($name:ident($($argument:ident)?) = $work:expr;)*) => {
        $(
            // SAFETY: the name is unique to this program; nobody but this program calls it.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name($($argument: u32)?) -> i64 {
                encode($work.run(&Kernel))
            }
        )*
    };
}

rare! {
    rare_create() = Rare::Create;
    rare_found_v4(swarm) = Rare::Found { family: V4::TAG, swarm };
    rare_found_v6(swarm) = Rare::Found { family: V6::TAG, swarm };
    rare_grow_v4(partition) = Rare::Grow { family: V4::TAG, partition };
    rare_grow_v6(partition) = Rare::Grow { family: V6::TAG, partition };
    rare_split_v4(swarm) = Rare::Split { family: V4::TAG, swarm };
    rare_split_v6(swarm) = Rare::Split { family: V6::TAG, swarm };
}
