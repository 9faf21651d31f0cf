//! The start of XDP: waits for an interface, loads the program, and makes the store of its maps.

use super::{
    KernelCounters, Loaded, Program, XdpMode, attach, check_system,
    netlink::{self, Interface},
    status::{self, Interfaces},
};
use crate::store::{Store, sizes::Sizes};
use anyhow::bail;
use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

/// How long the start waits for the only interfaces that it could do anything with. Longer than it takes service managers to
/// give up (systemd: five starts within 10 seconds), so that the next start waits again.
const PATIENCE: Duration = Duration::from_secs(10);

/// What there is in the kernel.
pub struct Kernel {
    /// The store, in the program's maps.
    pub store: Store,
    /// What the program counts.
    pub counters: KernelCounters,
    /// The program, ready to be attached.
    pub loaded: Loaded,
}

/// Loads the XDP program for the interfaces of these names. `None` if it is not wanted, or in mode auto, if it is not possible:
/// `shown` says why.
///
/// # Errors
/// When it is not possible in another mode.
pub fn load(names: &[String], mode: XdpMode, sizes: &Sizes, shown: &Interfaces) -> anyhow::Result<Option<Kernel>> {
    if mode == XdpMode::Off || names.is_empty() {
        return Ok(None);
    }
    wait_for_interfaces(names, mode)?;
    match load_program(sizes) {
        Ok(kernel) => Ok(Some(kernel)),
        Err(error) if mode == XdpMode::Auto => {
            tracing::warn!("no XDP, UDP is answered by sockets only: {error:#}");
            let off = |name: &String| status::Interface {
                name: name.clone(),
                mode: "off".into(),
                note: format!("{error:#}"),
            };
            shown.store(Arc::new(names.iter().map(off).collect()));
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

/// Makes sure that there is something to begin with.
///
/// In mode auto that is so in any case: sockets answer until an interface comes. Otherwise one of the interfaces has to be there,
/// and is waited for; the others may come later.
///
/// # Errors
/// When none came, or when one that is there cannot carry the program.
fn wait_for_interfaces(names: &[String], mode: XdpMode) -> anyhow::Result<()> {
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
