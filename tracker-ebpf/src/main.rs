//! The XDP program: answers BEP 15 over IPv4 and IPv6 from the store, and passes on whatever it does not fully
//! understand.
//!
//! | module | holds |
//! |---|---|
//! | `main` | the entry, and the match from outcome to XDP action |
//! | `network` | what differs between IPv4 and IPv6 in a packet |
//! | `request` | a frame's headers, checked; which request it carries |
//! | `reply` | the packet turned into one that carries the reply |
//! | `packet` | the door to the packet's bytes |
//! | `maps` | the door to the maps |
//! | `trace` | single packets told to whoever asks |
//! | `rare` | work that few announces need, in functions that the verifier looks at once |

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    not(target_arch = "bpf"),
    allow(dead_code, unused_imports, reason = "off the BPF target there is only a stub")
)]

#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod network;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod rare;
#[cfg(target_arch = "bpf")]
mod reply;
#[cfg(target_arch = "bpf")]
mod request;
#[cfg(target_arch = "bpf")]
mod trace;

#[cfg(target_arch = "bpf")]
mod programs {
    use crate::{
        maps::Kernel,
        packet::Packet,
        request,
        trace::{self, Place},
    };
    use aya_ebpf::{
        bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
        macros::xdp,
        programs::XdpContext,
    };
    use tracker_common::{
        outcome::{Counter, FrameReason, Reason, RequestReason, StoreError},
        platform::Platform,
        store::family::{V4, V6},
    };

    /// The tracker: where every packet begins.
    #[xdp]
    pub fn tracker(context: XdpContext) -> u32 {
        action(&context, request::answer)
    }

    /// Called by the tracker for announces over IPv4. Programs of their own have a stack of their own, and the verifier looks
    /// at each of them once.
    #[xdp]
    pub fn announce_v4(context: XdpContext) -> u32 {
        action(&context, request::announce::<V4>)
    }

    /// Called by the tracker for announces over IPv6.
    #[xdp]
    pub fn announce_v6(context: XdpContext) -> u32 {
        action(&context, request::announce::<V6>)
    }

    /// Called by `announce_v4` for all but a known peer that is still there.
    #[xdp]
    pub fn store_v4(context: XdpContext) -> u32 {
        action(&context, request::store_announce::<V4>)
    }

    /// Called by `announce_v6`, likewise.
    #[xdp]
    pub fn store_v6(context: XdpContext) -> u32 {
        action(&context, request::store_announce::<V6>)
    }

    /// Called when an announce over IPv4 has been stored, unless `announce_v4` replies itself.
    #[xdp]
    pub fn reply_v4(context: XdpContext) -> u32 {
        action(&context, request::reply_stored::<V4>)
    }

    /// The same for IPv6.
    #[xdp]
    pub fn reply_v6(context: XdpContext) -> u32 {
        action(&context, request::reply_stored::<V6>)
    }

    /// Called by `store_v4` for an announce that made its swarm too large for its partitions; goes on in `reply_v4`.
    #[xdp]
    pub fn split_v4(context: XdpContext) -> u32 {
        action(&context, request::split::<V4>)
    }

    /// The same for IPv6.
    #[xdp]
    pub fn split_v6(context: XdpContext) -> u32 {
        action(&context, request::split::<V6>)
    }

    /// Called by the tracker for scrapes.
    #[xdp]
    pub fn scrape(context: XdpContext) -> u32 {
        action(&context, request::scrape_any)
    }

    /// The one place where an outcome becomes an XDP action.
    #[inline(always)]
    fn action(context: &XdpContext, program: impl FnOnce(&Packet) -> Result<(), Reason>) -> u32 {
        let packet = Packet::new(context.ctx);
        let reason = match program(&packet) {
            Ok(()) => return XDP_TX,
            Err(reason) => reason,
        };
        Kernel.reason(reason);
        let action = match reason {
            // Not ours, or not understood, or nothing that we can do: the kernel and the daemon have a look.
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
            // For us, understood, and not worth an answer: the daemon would drop it as well.
            Reason::Request(RequestReason::TooShort | RequestReason::BadMagic | RequestReason::UnknownAction) => {
                XDP_DROP
            }
            // Told to the client with an error text. They come here only from a scrape of nothing, which an error would be longer
            // than.
            Reason::Request(RequestReason::ConnectionIdWrong | RequestReason::PortZero)
            | Reason::Store(StoreError::TorrentsFull | StoreError::MemoryFull) => XDP_DROP,
        };
        if let Some(settings) = Kernel.settings() {
            trace::packet(settings, &packet, Counter::Reason(reason), action, Place::Beginning);
        }
        action
    }

    /// Passes everything. A veth end hands over what its peer sends by XDP_TX only if it has a program itself.
    #[xdp]
    pub fn pass(_context: XdpContext) -> u32 {
        XDP_PASS
    }

    /// What the kernel is told; none of the helpers used asks for the GPL.
    // SAFETY: the section is read by the loader as a string that ends with a zero byte.
    #[unsafe(link_section = "license")]
    #[unsafe(no_mangle)]
    static LICENSE: [u8; 4] = *b"MIT\0";

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        // The verifier refuses a program in which this can be reached.
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
