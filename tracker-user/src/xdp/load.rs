//! The start of XDP: waits for an interface, loads the program, and makes the store of its maps.

use super::{
    KernelCounters, Loaded, Program, XdpMode, attach,
    card::Cards,
    check_system, memory_limit,
    netlink::{self, Interface},
    object::{Source, object},
    pins::{self, Cleared, Contents, Directory, identity::Identity},
    program::Pinning,
    refusal::describe,
    status::{Card, InterfaceStatus, LatestStatus},
    take_over::take_over,
    tune::{Tuning, Undone},
};
use crate::store::{Store, sizes::Sizes};
use anyhow::bail;
use std::{
    sync::{Arc, Mutex, atomic::Ordering},
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

/// What is to be loaded.
pub struct Wish<'a> {
    /// Names of the interfaces that it is for.
    pub names: &'a [String],
    /// Where it is to run there.
    pub mode: XdpMode,
    /// How large the store is.
    pub sizes: &'a Sizes,
    /// Where it is pinned.
    pub pins: &'a pins::Wanted,
    /// Whether settings of the interfaces are changed for it.
    pub tune: bool,
}

/// Loads the XDP program, or takes over the one that is pinned. `None` if it is not wanted, or in
/// mode auto, if it is not possible: `status` says why.
///
/// # Errors
/// When it is not possible in another mode; and in every mode, when something is pinned that cannot
/// be taken over: it answers clients, who would have two trackers.
pub fn load(wish: &Wish<'_>, status: &LatestStatus) -> anyhow::Result<Option<Kernel>> {
    let Wish { names, mode, sizes, pins, tune } = *wish;
    if mode == XdpMode::Off || names.is_empty() {
        pins.warn_of_others();
        return Ok(None);
    }
    wait_for_interfaces(names, mode)?;
    let loaded = match check_system() {
        Err(error) => match pins.refuse_others() {
            Err(others) => return Err(error.context(format!("{others:#}"))),
            Ok(()) => Err(error),
        },
        Ok(()) => match find_pins(pins)? {
            Some((directory, Contents::Complete(identity))) => {
                return take_over(directory, &identity, sizes)
                    .and_then(|kernel| with_cards(kernel, names, mode))
                    .map(|kernel| Some(with_tuning(kernel, tune)));
            }
            Some((directory, Contents::Incomplete)) => load_pinned(sizes, directory),
            None => load_program(sizes),
        },
    };
    match loaded {
        Ok(kernel) => with_cards(kernel, names, mode).map(|kernel| Some(with_tuning(kernel, tune))),
        Err(error) if mode.chooses() => {
            tracing::warn!("no XDP, UDP is answered by sockets only: {error:#}");
            warn_of_programs(names);
            let off = |name: &String| InterfaceStatus {
                name: name.clone(),
                mode: "off".into(),
                note: format!("{error:#}"),
                card: Card::default(),
            };
            status.store(Arc::new(names.iter().map(off).collect()));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Warns of programs that are on the interfaces: this user may not see what is pinned, or whose they are.
fn warn_of_programs(names: &[String]) {
    let all = netlink::interfaces().unwrap_or_default();
    for interface in all.iter().filter(|interface| names.contains(&interface.name) && !interface.xdp.is_empty()) {
        tracing::warn!(
            "{} has {}: if that is of a tracker before this one, clients have two trackers with swarms of their own; \
             `tracker detach` ends it",
            interface.name,
            describe(&interface.xdp)
        );
    }
}

/// Loads the programs for network cards, where there are such.
fn with_cards(mut kernel: Kernel, names: &[String], mode: XdpMode) -> anyhow::Result<Kernel> {
    let cards = Cards::load(&netlink::interfaces()?, names, mode);
    kernel.counters = cards.counted.clone().added_to(kernel.counters);
    kernel.loaded.card_programs = cards.programs();
    kernel.loaded.cards = Mutex::new(cards);
    Ok(kernel)
}

/// Reads what a tracker before this one has changed of the interfaces' settings, and makes a place to write
/// down what this one changes.
fn with_tuning(mut kernel: Kernel, tune: bool) -> Kernel {
    kernel.loaded.tuning = Tuning::new(tune, kernel.loaded.pins());
    kernel
}

/// The directory for pins, if there is to be one, and what is in it. What a daemon has left that was
/// killed too early is removed.
fn find_pins(wanted: &pins::Wanted) -> anyhow::Result<Option<(Directory, Contents)>> {
    let Some(directory) = wanted.open()? else { return Ok(None) };
    let contents = directory.contents()?;
    if matches!(contents, Contents::Incomplete) {
        let cleared = directory.clear()?;
        if cleared != Cleared::default() {
            tracing::info!(
                "removed pins from {} that a tracker left behind which was ended while it made them",
                directory.path().display()
            );
        }
        cleared.undone.iter().for_each(Undone::log);
    }
    Ok(Some((directory, contents)))
}

fn load_program(sizes: &Sizes) -> anyhow::Result<Kernel> {
    let mut program = Program::load(sizes)?;
    Ok(Kernel { store: program.store(sizes)?, counters: program.counters()?, loaded: program.keep() })
}

/// The same, and pins it. What was pinned is removed again unless the start succeeds
/// ([`Loaded::settle`]).
fn load_pinned(sizes: &Sizes, directory: Directory) -> anyhow::Result<Kernel> {
    let (pinning, object) = (Pinning::new(directory), object()?);
    memory_limit::check(sizes)?;
    pinning.provisional.store(true, Ordering::Relaxed);
    let mut program = Program::load_from(Source { object: &object, sizes, pinned: &[] })?;
    pinning.directory.pin_all(&mut program.ebpf, &Identity::new(&object, sizes.block_words))?;
    program.loaded.pinning = Some(pinning);
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
        if !present.is_empty() || mode.chooses() {
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
