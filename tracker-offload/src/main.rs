//! The XDP program for network cards that run one themselves. It answers connects, drops what is
//! junk to the tracker's port, and passes on everything else, to the program in the driver, which
//! would have done the same with what is answered or dropped here.
//!
//! Cards can do little. This is written for Netronome's (`nfp`), the one driver of Linux that runs
//! XDP programs in the card: no loop, no helper but a map's look-up, no clock, no store into a map's
//! value, nothing wider than 32 bits to be multiplied, offsets that are known beforehand.
//! `cargo xtask test` holds the object against these rules, instruction by instruction.
//!
//! | module | holds |
//! |---|---|
//! | `maps` | what the daemon tells, and the counters |
//! | `packet` | the packet's bytes, all at offsets that the compiler knows |
//! | `request` | what is done with a packet |

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![cfg_attr(
    not(target_arch = "bpf"),
    allow(dead_code, unused_imports, reason = "off the BPF target there is only a stub")
)]

#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod packet;
#[cfg(target_arch = "bpf")]
mod request;

#[cfg(target_arch = "bpf")]
mod program {
    use crate::request::{self, Verdict};
    use aya_ebpf::{
        bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
        macros::xdp,
        programs::XdpContext,
    };

    /// Where every packet begins, and the only program.
    #[xdp]
    #[inline(always)]
    pub fn offload(context: XdpContext) -> u32 {
        match request::run(context.ctx) {
            Verdict::Pass => XDP_PASS,
            Verdict::Drop => XDP_DROP,
            Verdict::Answer => XDP_TX,
        }
    }
}

/// What the kernel is told; none of the helpers used asks for the GPL.
// SAFETY: the section is read by the loader as a string that ends with a zero byte.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"MIT\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier refuses a program in which this can be reached.
    loop {}
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
