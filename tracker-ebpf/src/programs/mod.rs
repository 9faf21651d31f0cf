//! The programs. `tracker` is attached to the interface; each of the others is entered by a tail
//! call ([`tracker_common::programs::Program`]), has a stack of its own, and is looked at by the
//! verifier once. All of it is inlined: a tail call from within a function costs more, and LLVM leaves
//! large functions as they are even where they are called once.

mod announce;
mod reply;
mod scrape;
mod split;
mod store;
mod tracker;

use crate::{
    frame::packet::Packet,
    kernel::Kernel,
    trace::{self, FrameStart},
};
use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    macros::xdp,
    programs::XdpContext,
};
use tracker_common::{
    outcome::{Counter, FrameReason, Reason, RequestReason, StoreError},
    platform::Platform as _,
    store::family::{V4, V6},
};

/// Where every packet begins.
#[xdp]
#[inline(always)]
pub fn tracker(context: XdpContext) -> u32 {
    finish(&context, tracker::run(&Packet::new(context.ctx)))
}

/// Goes on from `tracker` with announces over IPv4.
#[xdp]
#[inline(always)]
pub fn announce_v4(context: XdpContext) -> u32 {
    finish(&context, announce::run::<V4>(&Packet::new(context.ctx)))
}

/// The same for IPv6.
#[xdp]
#[inline(always)]
pub fn announce_v6(context: XdpContext) -> u32 {
    finish(&context, announce::run::<V6>(&Packet::new(context.ctx)))
}

/// Goes on from `announce_v4` with all but a known peer that is still there.
#[xdp]
#[inline(always)]
pub fn store_v4(context: XdpContext) -> u32 {
    finish(&context, store::run::<V4>(&Packet::new(context.ctx)))
}

/// The same for IPv6.
#[xdp]
#[inline(always)]
pub fn store_v6(context: XdpContext) -> u32 {
    finish(&context, store::run::<V6>(&Packet::new(context.ctx)))
}

/// Goes on from `store_v4` with an announce that made its swarm too large for its partitions.
#[xdp]
#[inline(always)]
pub fn split_v4(context: XdpContext) -> u32 {
    finish(&context, split::run::<V4>(&Packet::new(context.ctx)))
}

/// The same for IPv6.
#[xdp]
#[inline(always)]
pub fn split_v6(context: XdpContext) -> u32 {
    finish(&context, split::run::<V6>(&Packet::new(context.ctx)))
}

/// Goes on when an announce over IPv4 has been stored, unless `announce_v4` replies itself.
#[xdp]
#[inline(always)]
pub fn reply_v4(context: XdpContext) -> u32 {
    finish(&context, reply::run::<V4>(&Packet::new(context.ctx)))
}

/// The same for IPv6.
#[xdp]
#[inline(always)]
pub fn reply_v6(context: XdpContext) -> u32 {
    finish(&context, reply::run::<V6>(&Packet::new(context.ctx)))
}

/// Goes on from `tracker` with scrapes.
#[xdp]
#[inline(always)]
pub fn scrape(context: XdpContext) -> u32 {
    finish(&context, scrape::run(&Packet::new(context.ctx)))
}

/// The one place where an outcome becomes an XDP action.
#[inline(always)]
fn finish(context: &XdpContext, outcome: Result<(), Reason>) -> u32 {
    let reason = match outcome {
        Ok(()) => return XDP_TX,
        Err(reason) => reason,
    };
    let kernel = Kernel::without_counters();
    kernel.reason(reason);
    let action = match reason {
        // Not ours, or not understood, or nothing that we can do: the kernel and the daemon have a
        // look.
        Reason::Frame(
            FrameReason::NotIp
            | FrameReason::VlanStack
            | FrameReason::NotUdp
            | FrameReason::HeaderTruncated
            | FrameReason::IpOptions
            | FrameReason::Fragment
            | FrameReason::LengthMismatch
            | FrameReason::TooLong
            | FrameReason::NotForUs
            | FrameReason::SourceUnusable
            | FrameReason::ChecksumWrong
            | FrameReason::NoRoom,
        )
        | Reason::Store(StoreError::Contended | StoreError::Internal) => XDP_PASS,
        // For us, and not worth an answer: the daemon would drop it as well.
        Reason::Request(
            RequestReason::TooShort
            | RequestReason::BadMagic
            | RequestReason::UnknownAction
            | RequestReason::Blocked
            | RequestReason::ConnectsLimited
            | RequestReason::AnnouncesLimited
            | RequestReason::ScrapesLimited
            | RequestReason::ErrorHeldBack,
        ) => XDP_DROP,
        // Told to the client with an error text. They come here only from a scrape of nothing,
        // which the error would be longer than.
        Reason::Request(RequestReason::ConnectionIdWrong | RequestReason::PortZero)
        | Reason::Store(
            StoreError::TorrentsFull
            | StoreError::MemoryFull
            | StoreError::Denied
            | StoreError::NotAllowed
            | StoreError::AddressBusy,
        ) => XDP_DROP,
    };
    if let Some(settings) = kernel.settings() {
        trace::packet(settings, &Packet::new(context.ctx), Counter::Reason(reason), action, FrameStart::Packet);
    }
    action
}
