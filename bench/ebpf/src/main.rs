//! The benchmark's XDP programs.
//!
//! * `generate` runs in live-frames mode (`BPF_F_TEST_XDP_LIVE_FRAMES`) at the client's end of a
//!   veth pair and builds one request after the other into recycled pages, at a set pace.
//! * `validate` is attached there. It checks and counts the replies, and drops them, or, in a
//!   closed loop, turns each into the next request.
//! * `reflect` is attached to the tracker's end when the system under test is the bare reflector.
//! * `harness` runs in plain test mode: it builds a request and calls the tracker's program with
//!   it, without any network. `noop` takes the tracker's place to find out what the rest of that
//!   costs.
//! * `cost_…` each make calls of one kind, so that these can be timed.
//!
//! What they know of Ethernet, IP, UDP and BEP 15 is written a second time here and shares no code
//! with the tracker: a mistake in the tracker must not be hidden by the same one in its benchmark.
//!
//! They exist on the eBPF target only. On the host this is an empty binary, so that the workspace
//! builds without an eBPF toolchain.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod cost;
#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod reflect;
#[cfg(target_arch = "bpf")]
mod request;
#[cfg(target_arch = "bpf")]
mod validate;

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{bindings::xdp_action, helpers::bpf_redirect, macros::xdp, programs::XdpContext};

    use crate::{cost, frame, maps, reflect, request, validate};

    #[xdp]
    fn generate(ctx: XdpContext) -> u32 {
        // What is not sent is dropped: the kernel takes the page back and calls again.
        if request::paced(&ctx).is_some() { xdp_action::XDP_TX } else { xdp_action::XDP_DROP }
    }

    #[xdp]
    fn validate(ctx: XdpContext) -> u32 {
        match validate::reply(&ctx) {
            Some(validate::Verdict::NotAReply) => xdp_action::XDP_PASS,
            // Not XDP_TX: between veth ends that works only when the other one has an XDP program,
            // and not every tracker has. SAFETY: a helper that takes numbers.
            Some(validate::Verdict::NextRequest) => unsafe { bpf_redirect(ctx.ingress_ifindex() as u32, 0) as u32 },
            Some(validate::Verdict::Counted) | None => xdp_action::XDP_DROP,
        }
    }

    #[xdp]
    fn reflect(ctx: XdpContext) -> u32 {
        match reflect::turn_around(&ctx) {
            Some(true) => xdp_action::XDP_TX,
            Some(false) => xdp_action::XDP_PASS,
            None => xdp_action::XDP_DROP,
        }
    }

    #[xdp]
    fn harness(ctx: XdpContext) -> u32 {
        if frame::set_length(&ctx, maps::load().map_or(0, |load| load.frame_length)).is_some()
            && request::unpaced(&ctx).is_some()
        {
            // SAFETY: nothing here is left undone when the call does not return.
            unsafe { maps::TARGET.tail_call(&ctx, 0) };
        }
        xdp_action::XDP_ABORTED
    }

    #[xdp]
    fn cost_helper(_ctx: XdpContext) -> u32 {
        cost::helper()
    }

    #[xdp]
    fn cost_function(ctx: XdpContext) -> u32 {
        cost::function(&ctx)
    }

    #[xdp]
    fn cost_loop(_ctx: XdpContext) -> u32 {
        cost::turns()
    }

    #[xdp]
    fn cost_tail(ctx: XdpContext) -> u32 {
        // SAFETY: nothing here is left undone when the call does not return.
        unsafe { maps::TARGET.tail_call(&ctx, 0) };
        xdp_action::XDP_TX
    }

    #[xdp]
    fn cost_address(_ctx: XdpContext) -> u32 {
        cost::addresses::<cost::Nothing>()
    }

    #[xdp]
    fn cost_networks(_ctx: XdpContext) -> u32 {
        cost::addresses::<cost::Networks>()
    }

    #[xdp]
    fn cost_pages(_ctx: XdpContext) -> u32 {
        cost::addresses::<cost::Pages>()
    }

    #[xdp]
    fn noop(_ctx: XdpContext) -> u32 {
        xdp_action::XDP_TX
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses an endless loop, so an object that can panic does not
    // load.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {
    eprintln!("the benchmark's XDP programs are built for the eBPF target: cargo xtask build-ebpf");
    std::process::exit(1);
}
