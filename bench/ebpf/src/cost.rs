//! Calls of each kind, [`COST_CALLS`] times, so that one can be timed.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_get_numa_node_id, bpf_loop},
    programs::XdpContext,
};
use bench_ebpf::COST_CALLS;

/// A helper that does next to nothing, and that the kernel does not turn into instructions.
#[inline(always)]
pub fn helper() -> u32 {
    let mut sum = 0;
    let mut turn = 0;
    while turn < COST_CALLS {
        // SAFETY: a helper without arguments.
        sum += unsafe { bpf_get_numa_node_id() };
        turn += 1;
    }
    if sum < 0 { xdp_action::XDP_ABORTED } else { xdp_action::XDP_TX }
}

#[inline(never)]
fn step(value: u64) -> u64 {
    value ^ (value >> 1)
}

/// A function of the program.
#[inline(always)]
pub fn function(ctx: &XdpContext) -> u32 {
    let mut value = ctx.ingress_ifindex() as u64;
    let mut turn = 0;
    while turn < COST_CALLS {
        value = step(value.wrapping_add(u64::from(turn)));
        turn += 1;
    }
    if value == 1 { xdp_action::XDP_ABORTED } else { xdp_action::XDP_TX }
}

unsafe extern "C" fn turn(_index: u32, _state: *mut c_void) -> i64 {
    0
}

/// Turns of a loop.
#[inline(always)]
pub fn turns() -> u32 {
    let callback: unsafe extern "C" fn(u32, *mut c_void) -> i64 = turn;
    let mut state = 0_u64;
    // SAFETY: the callback has the signature that bpf_loop calls, and takes nothing from the state.
    unsafe {
        bpf_loop(COST_CALLS, callback as *mut c_void, (&raw mut state).cast(), 0);
    }
    xdp_action::XDP_TX
}
