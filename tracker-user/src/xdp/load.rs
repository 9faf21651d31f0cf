//! The start of XDP: waits for an interface, loads the program, and makes the store of its maps.

use super::{
    KernelCounters, Loaded, Program, XdpMode, attach, check_system,
    netlink::{self, Interface},
    status::{InterfaceStatus, LatestStatus},
};
use crate::store::{Store, sizes::Sizes};
use anyhow::bail;
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How long the start waits for an interface, if none of those named is there. It is as long as the
/// period in which systemd counts failed starts (five within 10 seconds), so systemd never gives
/// up.
const INTERFACE_TIMEOUT: Duration = Duration::from_secs(10);

/// What has been loaded into the kernel.
pub struct Kernel {
    /// The store, in the program's maps.
    pub store: Store,
    /// What the program counts.
    pub counters: KernelCounters,
    /// The program, ready to be attached.
    pub loaded: Loaded,
}

/// Loads the XDP program for the interfaces of these names. `None` if it is not wanted, or in mode
/// auto, if it is not possible: `status` says why.
///
/// # Errors
/// When it is not possible in another mode.
pub fn load(names: &[String], mode: XdpMode, sizes: &Sizes, status: &LatestStatus) -> anyhow::Result<Option<Kernel>> {
    if mode == XdpMode::Off || names.is_empty() {
        return Ok(None);
    }
    wait_for_interfaces(names, mode)?;
    match load_program(sizes) {
        Ok(kernel) => Ok(Some(kernel)),
        Err(error) if mode == XdpMode::Auto => {
            tracing::warn!("no XDP, UDP is answered by sockets only: {error:#}");
            let off =
                |name: &String| InterfaceStatus { name: name.clone(), mode: "off".into(), note: format!("{error:#}") };
            status.store(Arc::new(names.iter().map(off).collect()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn load_program(sizes: &Sizes) -> anyhow::Result<Kernel> {
    check_system()?;
    let mut program = Program::load(sizes)?;
    Ok(Kernel { store: program.store(sizes)?, counters: program.counters()?, loaded: program.keep() })
}

/// Waits until one of the interfaces is there; the others may come later. In mode auto none has to
/// be there: sockets answer until one comes.
///
/// # Errors
/// When none came, or when one that is there is no Ethernet interface.
fn wait_for_interfaces(names: &[String], mode: XdpMode) -> anyhow::Result<()> {
    const CHECK_INTERVAL: Duration = Duration::from_millis(100);

    let deadline = Instant::now() + INTERFACE_TIMEOUT;
    let mut warned = false;
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
                INTERFACE_TIMEOUT.as_secs()
            );
        }
        if !warned {
            tracing::warn!(
                "there is no network interface {wanted} (there are {others}): waiting for it, {} s at most",
                INTERFACE_TIMEOUT.as_secs()
            );
            warned = true;
        }
        thread::sleep(CHECK_INTERVAL);
    }
}
