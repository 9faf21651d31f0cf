//! Attaches the XDP program to one interface, in the best of the modes that are allowed.

use super::{
    XdpMode,
    bpf_link::{self, Link},
    netlink::{self, AttachedMode, AttachedProgram, Interface},
    other_end::OtherEnd,
    program::Loaded,
    refusal::{Refusal, describe},
};
use anyhow::{Context as _, bail, ensure};
use std::io;

/// The program on an interface; drop takes it off.
#[derive(Debug)]
pub(super) struct Attachment {
    /// What holds it there.
    pub link: Link,
    /// Where the kernel says that it runs.
    pub mode: AttachedMode,
    /// Why a better mode was not possible, or what is wrong with this one, for people.
    pub note: Option<String>,
    /// The other end of the veth pair when the mode was chosen.
    pub other_end: OtherEnd,
}

/// The result of an attempt that was no error.
#[derive(Debug)]
pub(super) enum Attempt {
    /// The program runs.
    Attached(Attachment),
    /// Mode auto, and the interface takes it in no mode, for this reason.
    Unfit(String),
}

/// What the operator allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Permission {
    /// The modes to try.
    pub mode: XdpMode,
    /// Whether other programs are taken off.
    pub force: bool,
}

/// Whether the program can do anything on this interface at all.
///
/// # Errors
/// Why not.
pub(super) fn check_ethernet(interface: &Interface) -> anyhow::Result<()> {
    ensure!(
        interface.mac.is_some() && !interface.loopback,
        "{0} is not an Ethernet interface, so the XDP program can do nothing there; the sockets answer on it, leave out \
         --interface {0}",
        interface.name
    );
    Ok(())
}

/// Programs on the interface that are not ours.
pub(super) fn foreign(loaded: &Loaded, interface: &Interface) -> Vec<AttachedProgram> {
    let ours = |program| program == loaded.id || loaded.card_programs.contains(&program);
    interface.xdp.iter().filter(|attached| !ours(attached.program)).copied().collect()
}

/// Attaches the program to an interface that it is not on.
///
/// In mode auto an interface that takes the program in no mode is not an error: the sockets answer
/// there.
///
/// # Errors
/// When another program is on the interface and may not be taken off, or when the mode asked for
/// does not work.
pub(super) fn attach(loaded: &Loaded, interface: &Interface, permission: Permission) -> anyhow::Result<Attempt> {
    check_ethernet(interface)?;
    let name = &interface.name;
    let others = foreign(loaded, interface);
    if !others.is_empty() {
        if !permission.force {
            bail!("{name} already has {}: stop what attached it, or take its place with --force", describe(&others));
        }
        tracing::warn!("{name} has {}, whose place is taken because of --force", describe(&others));
        bpf_link::detach_all(interface)?;
    }
    let other_end = OtherEnd::of(interface);
    let modes: &[AttachedMode] = match permission.mode {
        XdpMode::Auto | XdpMode::Offload if other_end.loses_replies() => &[AttachedMode::Generic],
        XdpMode::Auto | XdpMode::Offload => &[AttachedMode::Native, AttachedMode::Generic],
        XdpMode::Native => &[AttachedMode::Native],
        XdpMode::Generic => &[AttachedMode::Generic],
        XdpMode::Off => &[],
    };
    let mut reasons = Vec::new();
    if permission.mode.chooses() {
        reasons.extend(other_end.why_not_native(name));
    }
    for &mode in modes {
        match attach_or_with_fewer_queues(loaded, interface, mode) {
            Ok(mut link) => {
                if let Some(pins) = loaded.pins() {
                    let path = pins.free_link();
                    link.pin(&path)
                        .with_context(|| format!("cannot pin the BPF link of {name} as {}", path.display()))?;
                }
                let mode = confirm(loaded, interface)?;
                if mode != AttachedMode::Generic {
                    reasons.extend(other_end.warning(name));
                }
                let note = (!reasons.is_empty()).then(|| reasons.join("; "));
                return Ok(Attempt::Attached(Attachment { link, mode, note, other_end }));
            }
            Err(Refusal::Taken(error)) => return Err(error),
            Err(Refusal::Unfit(reason)) => reasons.push(reason),
        }
    }
    let reason = reasons.join("; ");
    match permission.mode {
        XdpMode::Auto | XdpMode::Offload | XdpMode::Off => Ok(Attempt::Unfit(reason)),
        XdpMode::Native => {
            bail!("{reason}. --xdp-mode auto goes on with generic XDP then, and without it with sockets")
        }
        XdpMode::Generic => bail!("{reason}. --xdp-mode off answers through sockets"),
    }
}

/// A link that a daemon before this one has made, in a mode that may not be: it stays until its place is
/// needed.
pub(super) struct Misfit {
    pub interface: u32,
    link: Link,
    mode: Option<AttachedMode>,
}

/// Goes on with a program that a daemon before this one has attached, if the mode is one that may be.
pub(super) fn adopt(
    loaded: &Loaded,
    interface: &Interface,
    mut link: Link,
    permission: Permission,
) -> Result<Attachment, Misfit> {
    let index = interface.index;
    let Some(attached) = interface.xdp.iter().find(|attached| attached.program == loaded.id) else {
        return Err(Misfit { interface: index, link, mode: None });
    };
    let mode = attached.mode;
    let other_end = OtherEnd::of(interface);
    let fits = match permission.mode {
        XdpMode::Auto | XdpMode::Offload => mode == AttachedMode::Generic || !other_end.loses_replies(),
        XdpMode::Native => mode == AttachedMode::Native,
        XdpMode::Generic => mode == AttachedMode::Generic,
        XdpMode::Off => false,
    };
    if !fits {
        return Err(Misfit { interface: index, link, mode: Some(mode) });
    }
    link.own();
    let note = if mode == AttachedMode::Generic { None } else { other_end.warning(&interface.name) };
    Ok(Attachment { link, mode, note, other_end })
}

impl Misfit {
    /// Makes room, as the kernel takes no second link. Returns the mode, to put it back if need be.
    pub fn take_off(self) -> Option<AttachedMode> {
        self.link.take_off();
        self.mode
    }
}

/// Has the program answer again as a daemon before this one had it, as this one does not start.
pub(super) fn put_back(loaded: &Loaded, interface: &Interface, mode: AttachedMode) {
    let put_back = || -> io::Result<()> {
        let mut link = Link::create(loaded.entry(), interface.index, mode)?;
        if let Some(pins) = loaded.pins() {
            link.pin(&pins.free_link())?;
        }
        link.leave();
        Ok(())
    };
    let (name, label) = (&interface.name, mode.label());
    match put_back() {
        Ok(()) => tracing::info!("{name}: XDP goes on in {label} mode, as before"),
        Err(error) => tracing::warn!("{name}: XDP does not go on in {label} mode: {error}"),
    }
}

/// Attaches it. Where more queues were set than the driver has room for with XDP, they are as they were
/// before.
fn attach_or_with_fewer_queues(loaded: &Loaded, interface: &Interface, mode: AttachedMode) -> Result<Link, Refusal> {
    let result = attach_in(loaded, interface, mode);
    let is_refused = mode == AttachedMode::Native && matches!(result, Err(Refusal::Unfit(_)));
    if is_refused && loaded.tuning.take_back_queues(interface) { attach_in(loaded, interface, mode) } else { result }
}

fn attach_in(loaded: &Loaded, interface: &Interface, mode: AttachedMode) -> Result<Link, Refusal> {
    Link::create(loaded.entry(), interface.index, mode).map_err(|error| Refusal::new(interface, mode, error))
}

/// Asks the kernel where the program runs on an interface.
fn confirm(loaded: &Loaded, interface: &Interface) -> anyhow::Result<AttachedMode> {
    let now = netlink::find(interface.index, None)?;
    let ours = now.and_then(|now| now.xdp.into_iter().find(|attached| attached.program == loaded.id));
    let Some(ours) = ours else {
        bail!(
            "the kernel took the XDP program (number {}) for {} but does not show it there",
            loaded.id,
            interface.name
        )
    };
    tracing::debug!("XDP program {} is attached to {} in {} mode", loaded.id, interface.name, ours.mode.label());
    Ok(ours.mode)
}
