//! Calls of each kind, [`COST_CALLS`] times, so that one can be timed.

use core::ffi::c_void;

use aya_ebpf::{
    bindings::xdp_action,
    helpers::{bpf_get_numa_node_id, bpf_loop},
    programs::XdpContext,
};
use bench_ebpf::COST_CALLS;

use crate::maps;

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

/// A look-up of an address.
pub trait Lookup {
    /// Whether it is listed.
    fn is_listed(address: u32) -> bool;
}

/// No look-up.
pub struct Nothing;

impl Lookup for Nothing {
    #[inline(always)]
    fn is_listed(address: u32) -> bool {
        address == 1
    }
}

/// Among networks, in the kernel's own structure for them.
pub struct Networks;

impl Lookup for Networks {
    #[inline(always)]
    fn is_listed(address: u32) -> bool {
        maps::is_in_network(address.to_be())
    }
}

/// By a bit for each /24.
pub struct Pages;

impl Lookup for Pages {
    #[inline(always)]
    fn is_listed(address: u32) -> bool {
        maps::is_page_listed(address)
    }
}

struct Sequence {
    address: u64,
    listed: u64,
}

unsafe extern "C" fn look_up<L: Lookup>(_index: u32, state: *mut c_void) -> i64 {
    // SAFETY: the sequence that `addresses` hands to bpf_loop.
    let sequence = unsafe { &mut *state.cast::<Sequence>() };
    sequence.address ^= sequence.address << 13;
    sequence.address ^= sequence.address >> 7;
    sequence.address ^= sequence.address << 17;
    if L::is_listed(sequence.address as u32) {
        sequence.listed += 1;
    }
    0
}

/// Looks addresses up that look random, each another one.
#[inline(always)]
pub fn addresses<L: Lookup>() -> u32 {
    let Some(state) = maps::address() else { return xdp_action::XDP_ABORTED };
    // SAFETY: an element of a map that these programs alone use, one core at a time.
    let mut sequence = Sequence { address: unsafe { state.read() }, listed: 0 };
    let callback: unsafe extern "C" fn(u32, *mut c_void) -> i64 = look_up::<L>;
    // SAFETY: the callback has the signature that bpf_loop calls, and gets back the pointer given here,
    // which lives on this function's stack.
    unsafe {
        bpf_loop(COST_CALLS, callback as *mut c_void, (&raw mut sequence).cast(), 0);
    }
    // SAFETY: as above.
    unsafe { state.write(sequence.address | 1) };
    if sequence.listed > 1000 { xdp_action::XDP_ABORTED } else { xdp_action::XDP_TX }
}
