//! Which capabilities the tracker needs when it has started, and what for. All others leave the
//! bounding set as well, so no program that it may execute has them.
//!
//! | capability | when | what for |
//! |---|---|---|
//! | `CAP_NET_ADMIN` | XDP | taking other programs off (`--force`), looking at the other end of a veth pair, asking a network card for its offloads, changing its settings (`--tune`) |
//! | `CAP_NET_ADMIN` | sockets, `net.core.rmem_max` below 8 MiB | receive buffers made long again after a flood |
//! | `CAP_SYS_ADMIN` | XDP, `--force` | cutting the BPF link of another process's program |
//! | `CAP_DAC_READ_SEARCH` | XDP, pins, `--user` | the way to the pins, where only root may go it (`/sys/fs/bpf` has mode 0700) |
//! | `CAP_DAC_OVERRIDE`, `CAP_CHOWN` | root, with a state directory of somebody else | writing there, in that user's name |
//!
//! The rest is *permitted* and not in force, and only unless `--in-place-upgrade off`: the program
//! that takes the place of this one has it in force from its start until it comes here.
//!
//! | capability | when | what for |
//! |---|---|---|
//! | `CAP_BPF`, `CAP_PERFMON` (or `CAP_SYS_ADMIN`, if that is what there was) | XDP | loading its own XDP program |
//! | `CAP_NET_BIND_SERVICE` | ports below 1024 | binding those that it was not handed |
//!
//! Attaching to an interface that appears later, pinning, reading counters: none of that takes a
//! capability since Linux 5.19, as the process has the descriptors of program and maps.

use super::{Needs, user::Identity};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, configure_capability_in_ambient_set,
    remove_capability_from_bounding_set, set_capabilities,
};
use std::{fmt, io, os::unix::fs::MetadataExt as _, path::Path};

/// Every capability that there may ever be.
fn each() -> impl Iterator<Item = CapabilitySet> {
    (0..u64::BITS).map(|number| CapabilitySet::from_bits_retain(1 << number))
}

/// What stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// In force.
    pub effective: CapabilitySet,
    /// For the program that takes the place of this one.
    pub for_next: CapabilitySet,
}

impl Kept {
    /// What is needed of what there is.
    #[must_use]
    pub fn new(needs: &Needs, upgrade: bool, identity: Option<&Identity>) -> Self {
        let had = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
        let foreign_state = |directory: &Path| {
            identity.is_none()
                && rustix::process::geteuid().is_root()
                && directory.metadata().is_ok_and(|metadata| metadata.uid() != 0)
        };
        // Also of a tracker that has become another user before it took this one's place.
        let becomes_or_is_user = identity.is_some() || !rustix::process::geteuid().is_root();
        let hidden_pins = |pins: &Path| becomes_or_is_user && !user_reaches(pins);
        let state = needs.state_dir.as_deref().is_some_and(foreign_state);
        let pins = needs.pins.as_deref().is_some_and(hidden_pins);
        Self::of(needs, upgrade, Way { state, pins }, had)
    }

    fn of(needs: &Needs, upgrade: bool, way: Way, had: CapabilitySet) -> Self {
        let mut effective = CapabilitySet::empty();
        let mut for_next = CapabilitySet::empty();
        effective.set(CapabilitySet::NET_ADMIN, needs.xdp || needs.long_buffers);
        effective.set(CapabilitySet::SYS_ADMIN, needs.xdp && needs.force);
        effective.set(CapabilitySet::DAC_READ_SEARCH, needs.xdp && way.pins);
        effective.set(CapabilitySet::DAC_OVERRIDE | CapabilitySet::CHOWN, way.state);
        if upgrade {
            let load = CapabilitySet::BPF | CapabilitySet::PERFMON;
            for_next.set(load, needs.xdp);
            for_next.set(CapabilitySet::SYS_ADMIN, needs.xdp && !had.contains(load));
            for_next.set(CapabilitySet::NET_BIND_SERVICE, needs.low_ports);
        }
        let effective = effective & had;
        Self { effective, for_next: for_next & had & !effective }
    }

    /// Nothing: what threads need that neither read requests nor start others.
    pub const NOTHING: Self = Self { effective: CapabilitySet::empty(), for_next: CapabilitySet::empty() };

    /// What is permitted, in force or not.
    #[must_use]
    pub fn permitted(self) -> CapabilitySet {
        self.effective | self.for_next
    }

    /// Has this thread keep nothing else. Async-signal-safe.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set(self) -> io::Result<()> {
        let all = self.permitted();
        // Takes CAP_SETPCAP; without that there is nothing in the set that this process could have.
        for capability in each().filter(|capability| !all.contains(*capability)) {
            let _ = remove_capability_from_bounding_set(capability);
        }
        let sets = CapabilitySets { effective: self.effective, permitted: all, inheritable: CapabilitySet::empty() };
        Ok(set_capabilities(None, sets)?)
    }
}

/// What the way to files is like.
#[derive(Clone, Copy, Debug, Default)]
struct Way {
    /// The state directory is somebody else's.
    state: bool,
    /// Only root gets to the pins.
    pins: bool,
}

/// Whether everybody may go through the directories that lead to `path`.
fn user_reaches(path: &Path) -> bool {
    path.ancestors().skip(1).all(|parent| parent.metadata().is_ok_and(|metadata| metadata.mode() & 1 != 0))
}

/// Has what is permitted be in force for the program that takes the place of this one. Root needs
/// nothing of this: it has by `exec` what is in the bounding set and was permitted.
pub(super) fn hand_on() -> io::Result<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let permitted = capabilities(None)?.permitted;
    set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable: permitted })?;
    for capability in each().filter(|capability| permitted.contains(*capability)) {
        configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |set: CapabilitySet| {
            let names = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect::<Vec<_>>();
            if names.is_empty() { "no capabilities".into() } else { names.join(", ") }
        };
        write!(f, "{}", names(self.effective))?;
        if !self.for_next.is_empty() {
            write!(f, " (and for a program that takes this one's place: {})", names(self.for_next))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NET: CapabilitySet = CapabilitySet::NET_ADMIN;
    const LOAD: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON);
    const ADMIN: CapabilitySet = CapabilitySet::SYS_ADMIN;
    const PORTS: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;
    const NONE: CapabilitySet = CapabilitySet::empty();

    #[test]
    fn what_stays_is_what_is_needed_of_what_there_was() {
        let xdp = || Needs { xdp: true, ..Needs::default() };
        let all = CapabilitySet::all();
        let way = Way::default();
        for (name, needs, upgrade, way, had, expected) in [
            ("sockets, root", Needs::default(), true, way, all, (NONE, NONE)),
            ("sockets, nobody", Needs::default(), true, way, NONE, (NONE, NONE)),
            ("long buffers", Needs { long_buffers: true, ..Needs::default() }, true, way, all, (NET, NONE)),
            ("low ports", Needs { low_ports: true, ..Needs::default() }, true, way, all, (NONE, PORTS)),
            ("low ports, for good", Needs { low_ports: true, ..Needs::default() }, false, way, all, (NONE, NONE)),
            ("XDP, root", xdp(), true, way, all, (NET, LOAD)),
            ("XDP, for good", xdp(), false, way, all, (NET, NONE)),
            ("XDP, three of them", xdp(), true, way, NET | LOAD, (NET, LOAD)),
            ("XDP, the old way", xdp(), true, way, NET | ADMIN, (NET, ADMIN)),
            ("force", Needs { force: true, ..xdp() }, true, way, all, (NET | ADMIN, LOAD)),
            ("force, three of them", Needs { force: true, ..xdp() }, true, way, NET | LOAD, (NET, LOAD)),
            ("force without XDP", Needs { force: true, ..Needs::default() }, true, way, all, (NONE, NONE)),
            (
                "hidden pins",
                xdp(),
                true,
                Way { pins: true, state: false },
                all,
                (NET | CapabilitySet::DAC_READ_SEARCH, LOAD),
            ),
            (
                "another's state",
                Needs::default(),
                true,
                Way { pins: false, state: true },
                all,
                (CapabilitySet::DAC_OVERRIDE | CapabilitySet::CHOWN, NONE),
            ),
        ] {
            let kept = Kept::of(&needs, upgrade, way, had);
            assert_eq!((kept.effective, kept.for_next), expected, "{name}");
        }
    }

    #[test]
    fn what_stays_is_named() {
        let kept = Kept { effective: NET, for_next: LOAD };
        assert_eq!(
            kept.to_string(),
            "CAP_NET_ADMIN (and for a program that takes this one's place: CAP_PERFMON, CAP_BPF)"
        );
        assert_eq!(Kept::NOTHING.to_string(), "no capabilities");
    }
}
