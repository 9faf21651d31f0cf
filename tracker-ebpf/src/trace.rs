//! Single packets, told to `tracker trace`. Mostly there is no trace, which then
//! costs a load and a compare.

use crate::{frame::packet::Packet, kernel::Kernel, maps::TRACE};
use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_ktime_get_ns, bpf_xdp_load_bytes},
};
use tracker_common::{
    codegen::barrier_var,
    outcome::{Counter, Event, Reason, RequestReason},
    platform::Platform as _,
    settings::Settings,
    trace::{CAPTURE, Record},
};

/// Where the request's frame begins.
#[derive(Clone, Copy)]
pub(crate) enum FrameStart {
    /// Where the packet begins.
    Packet,
    /// Where [`Handover::front_growth`](tracker_common::scratch::Handover::front_growth) says,
    /// which was set for this very packet.
    BehindGrowth,
}

/// Tells of a packet, during a trace: has to be called where the outcome is counted, and before
/// the request is overwritten.
#[inline(always)]
pub(crate) fn packet(settings: &Settings, packet: &Packet, outcome: Counter, action: u32, start: FrameStart) {
    if settings.trace_until.load() != 0 {
        cold_trace(packet.context(), outcome.index() as u32, action, start as u32);
    }
}

/// [`packet`] during a trace. A global function, which the verifier looks at once
/// ([`crate::cold`]).
// SAFETY: the name is unique to this program; nobody but this program calls it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cold_trace(context: *mut xdp_md, outcome: u32, action: u32, start: u32) -> u32 {
    let kernel = Kernel::without_counters();
    let (Some(settings), Some(scratch)) = (kernel.settings(), kernel.scratch()) else { return 0 };
    // Who asked may be gone.
    if settings.second.load() > settings.trace_until.load() {
        return 0;
    }
    let refused = outcome == Event::Error4 as u32 || outcome == Event::Error6 as u32;
    let outcome = if refused { scratch.refused.load() } else { outcome };
    if outcome >= u64::BITS || settings.trace_wanted.load() >> outcome & 1 == 0 {
        return 0;
    }
    let blocked = Counter::Reason(Reason::Request(RequestReason::Blocked)).index() as u32;
    let list = if outcome == blocked { scratch.blocked_by.load() << 16 } else { 0 };
    let packet = Packet::new(context);
    let front = if start == FrameStart::BehindGrowth as u32 { scratch.handover.front_growth.load() } else { 0 };
    let there = packet.length().wrapping_sub(front as usize);
    let captured = if there > CAPTURE { CAPTURE } else { there };
    // As in `Packet::load`: both bounds of the very number that is handed over.
    let less = barrier_var(captured.wrapping_sub(1) as u64) as usize;
    if less >= CAPTURE {
        return 0;
    }
    let captured = less + 1;
    let Some(mut entry) = TRACE.reserve::<Record>(0) else {
        settings.traces_lost.add(1);
        return 0;
    };
    let record = entry.as_mut_ptr();
    // SAFETY: the ring buffer has just given room for a record, which this run alone has until it
    // is submitted; `captured` is at most what `frame` has room for. The helpers have no other
    // preconditions.
    let copied = unsafe {
        (*record).time = bpf_ktime_get_ns().to_ne_bytes();
        (*record).outcome = (outcome | list).to_ne_bytes();
        (*record).action = action.to_ne_bytes();
        (*record).interface = packet.interface().to_ne_bytes();
        (*record).captured = (captured as u32).to_ne_bytes();
        bpf_xdp_load_bytes(context, front, (&raw mut (*record).frame).cast(), captured as u32)
    };
    if copied == 0 {
        entry.submit(0);
    } else {
        entry.discard(0);
    }
    0
}
