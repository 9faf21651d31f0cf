//! Room for a reply that is longer than its request, where drivers leave none behind the packet.

use super::{packet::Packet, parse, served};
use crate::kernel::Kernel;
use aya_ebpf::bindings::xdp_md;
use tracker_common::platform::Platform as _;

/// What nearly every driver leaves in front of a packet: XDP_PACKET_HEADROOM is 256, and the kernel
/// needs 40 for itself.
const HEADROOM: u32 = 192;

/// What [`cold_grow`] returns for a packet that is as it was.
const REFUSED: u32 = u32::MAX;

/// Gives the packet up to `more` bytes where [`Packet::grow`] fails, and returns how many. `None`,
/// and the packet is as it was, if there is not room for `least`, and a daemon to answer it instead.
#[inline(always)]
pub(crate) fn at_both_ends(packet: &Packet, more: u32, least: u32) -> Option<u32> {
    let grown = cold_grow(packet.context(), more, least);
    if grown == REFUSED { None } else { Some(grown) }
}

/// [`at_both_ends`]; [`REFUSED`] for `None`. A global function, which the
/// verifier looks at once ([`crate::cold`]).
///
/// A veth pair leaves a packet that came from a socket only what is missing to the next multiple of
/// 64 bytes behind it, but room in front. How much there is at either end nobody tells, so it is
/// found out by halves.
// SAFETY: the name is unique to this program; nobody but this program calls it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cold_grow(context: *mut xdp_md, more: u32, least: u32) -> u32 {
    let packet = Packet::new(context);
    let kernel = Kernel::without_counters();
    let Some(scratch) = kernel.scratch() else { return 0 };
    // In memory, so that the verifier does not follow every sum of steps that fitted.
    let left = &scratch.growth_left;
    left.store(more);
    if more > HEADROOM && packet.head(HEADROOM) {
        left.store(more - HEADROOM);
    }
    let mut step = FRONT_STEP;
    while step >= FRONT_STEP / 16 {
        if left.load() >= step && packet.head(step) {
            left.store(left.load() - step);
        }
        step /= 2;
    }
    let behind = left.load();
    let in_front = more.wrapping_sub(behind);
    scratch.handover.front_growth.store(in_front);
    if behind > 0 && packet.tail(behind as i32) {
        return more;
    }
    let mut step = TAIL_STEP;
    while step > 0 {
        if left.load() >= step && packet.tail(step as i32) {
            left.store(left.load() - step);
        }
        step /= 2;
    }
    let grown = more.wrapping_sub(left.load());
    if grown < least && served::is_served(&packet, parse::checked_l2(scratch) + in_front as usize) {
        // What was there is still where it was, between the two ends.
        packet.tail(left.load().wrapping_sub(behind) as i32);
        packet.head(in_front.wrapping_neg());
        return REFUSED;
    }
    grown
}

/// By how much at most a packet grows at once in front, and then by its halves, down to a 16th.
const FRONT_STEP: u32 = 128;

/// The same behind, down to a byte.
const TAIL_STEP: u32 = 512;
