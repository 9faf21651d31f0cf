//! Work that few announces need, in global functions: the verifier looks at each of them once, whatever the arguments, and not
//! again on every path that leads to a call.

use crate::maps::Kernel;
use tracker_common::{
    outcome::StoreError,
    platform::{Platform as _, Rare},
    store::{
        cold,
        family::{Family, V4, V6},
    },
};

/// Calls the function that does the work.
#[inline(always)]
pub(crate) fn call(work: Rare) -> Result<u32, StoreError> {
    StoreError::unpack(match work {
        Rare::Create => rare_create(),
        Rare::Found { family: V4::TAG, swarm } => rare_found_v4(swarm),
        Rare::Found { swarm, .. } => rare_found_v6(swarm),
        // Left to a program of its own, with a stack of its own, that runs when the reply is ready.
        Rare::Split { swarm, .. } => later(swarm),
    })
}

#[inline(always)]
fn later(swarm: u32) -> u64 {
    if let Some(scratch) = Kernel.scratch() {
        scratch.handover.split.store(swarm + 1);
    }
    0
}

/// Gives the swarm that was left for later one more partition. Failure is no error: the next new peer tries again.
#[inline(always)]
pub(crate) fn split_now(family: u32) {
    let Some(scratch) = Kernel.scratch() else { return };
    let swarm = scratch.handover.split.load().wrapping_sub(1);
    if family == V4::TAG {
        rare_split_v4(swarm);
    } else {
        rare_split_v6(swarm);
    }
}

macro_rules! rare {
    ($($name:ident($($argument:ident),*) = $work:expr;)*) => {
        $(
            // SAFETY: the name is unique to this program; nobody but this program calls it.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub extern "C" fn $name($($argument: u32),*) -> u64 {
                StoreError::pack(cold::run($work, &Kernel))
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
