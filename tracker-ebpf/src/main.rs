//! The XDP program: answers BEP 15 over IPv4 and IPv6 from the store, and passes on whatever it
//! does not fully understand.
//!
//! | module | holds |
//! |---|---|
//! | `programs` | the entry, and the programs that it goes on in by tail calls: one file each |
//! | `frame` | the packet: headers read, checked and written, and its length |
//! | `kernel` | the core that runs the program |
//! | `platform` | the kernel's side of `tracker_common::platform` |
//! | `maps` | the maps |
//! | `clock` | the clock of the store, where no daemon sets it |
//! | `cold` | work that few announces need, in functions that the verifier looks at once |
//! | `trace` | single packets told to `tracker trace` |

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(
    not(target_arch = "bpf"),
    allow(dead_code, unused_imports, reason = "off the BPF target there is only a stub")
)]

#[cfg(target_arch = "bpf")]
mod clock;
#[cfg(target_arch = "bpf")]
mod cold;
#[cfg(target_arch = "bpf")]
mod frame;
#[cfg(target_arch = "bpf")]
mod kernel;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod platform;
#[cfg(target_arch = "bpf")]
mod programs;
#[cfg(target_arch = "bpf")]
mod trace;

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
