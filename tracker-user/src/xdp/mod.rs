//! The compiled XDP program in the kernel.
//!
//! | module | holds |
//! |---|---|
//! | [`system`] | whether this system and this process can use XDP at all |
//! | [`memory_limit`] | whether the control group has room for the maps |
//! | [`program`] | making the maps, loading the program |
//! | [`watch`] | the thread that follows interfaces and addresses |
//! | `interfaces` | the interfaces that were named, and the program on each of them |
//! | `attach`, `other_end`, `refusal` | attaching to one interface: choosing the mode, and what refusals mean |
//! | `mode` | where the program may run |
//! | [`status`] | how it runs on the interfaces, for people |
//! | `back_off` | when to try again |
//! | [`bpf_link`] | what holds a program on an interface; taking others off (`--force`) |
//! | [`destinations`] | which addresses and interfaces the program answers for |
//! | [`offload`] | what the network card does before the program sees a packet |
//! | [`object`] | the compiled program |
//! | [`netlink`] | what the kernel says of interfaces, addresses and attached XDP programs |
//! | `notifications` | waiting for the kernel to say that something has changed |

mod attach;
mod back_off;
pub mod bpf_link;
pub mod destinations;
mod interfaces;
pub mod memory_limit;
mod mode;
pub mod netlink;
mod notifications;
pub mod object;
pub mod offload;
mod other_end;
pub mod program;
mod refusal;
pub mod status;
pub mod system;
pub mod watch;

use anyhow::bail;
pub use mode::XdpMode;
use netlink::Interface;
pub use program::{KernelCounters, Loaded, Program};
use std::{
    thread,
    time::{Duration, Instant},
};
pub use system::{OLDEST_KERNEL, check_system};
pub use watch::Watch;

/// How long the start waits for the only interfaces that it could do anything with. Longer than it takes service managers to
/// give up (systemd: five starts within 10 seconds), so that the next start waits again.
const PATIENCE: Duration = Duration::from_secs(10);

/// Makes sure that there is something to begin with.
///
/// In mode auto that is so in any case: sockets answer until an interface comes. Otherwise one of the interfaces has to be there,
/// and is waited for; the others may come later.
///
/// # Errors
/// When none came, or when one that is there cannot carry the program.
pub fn wait_for_interfaces(names: &[String], mode: XdpMode) -> anyhow::Result<()> {
    const NAP: Duration = Duration::from_millis(100);

    let deadline = Instant::now() + PATIENCE;
    let mut told = false;
    loop {
        let all = netlink::interfaces()?;
        let present: Vec<&Interface> = all.iter().filter(|interface| names.contains(&interface.name)).collect();
        for interface in &present {
            attach::check_ethernet(interface)?;
        }
        if !present.is_empty() || mode == XdpMode::Auto {
            return Ok(());
        }
        let wanted = names.join(", ");
        let others = all.iter().map(|interface| interface.name.as_str()).collect::<Vec<_>>().join(", ");
        if Instant::now() >= deadline {
            bail!(
                "there is no network interface {wanted}; there are {others}. None came within {} s: correct --interface, or \
                 use --xdp-mode auto, which goes on with sockets until one comes",
                PATIENCE.as_secs()
            );
        }
        if !told {
            tracing::warn!(
                "there is no network interface {wanted} (there are {others}): waiting for it, {} s at most",
                PATIENCE.as_secs()
            );
            told = true;
        }
        thread::sleep(NAP);
    }
}
