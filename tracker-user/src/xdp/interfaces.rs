//! The interfaces that the operator named, and the XDP program on each of them. Interfaces may
//! appear late, go, come back under another number, be renamed or moved; other processes may take
//! the program off or attach another one.
//!
//! [`Interfaces::reconcile`] compares what is there with what should be, and brings the two
//! together. It may be called at any time and does nothing if nothing has changed. Names decide:
//! the program belongs on the interface that has the name. A renamed interface keeps the program as
//! long as no other has its old name.

use super::{
    attach::{Attachment, Attempt, Misfit, Permission, adopt, attach, foreign, put_back},
    back_off::BackOff,
    bpf_link::Link,
    netlink::{self, AttachedMode, Interface},
    other_end::OtherEnd,
    program::Loaded,
    refusal::describe,
    status,
};
use std::{fs, sync::Arc, time::Instant};
use tracing::{info, warn};

/// All of them.
pub(super) struct Interfaces {
    loaded: Arc<Loaded>,
    permission: Permission,
    slots: Vec<Slot>,
}

struct Slot {
    /// The name that the operator gave.
    wanted: String,
    state: State,
    back_off: BackOff,
}

enum State {
    /// No interface has the name.
    Missing,
    /// The interface is there, as it was then, and the program is not on it.
    Off { interface: Interface, reason: String },
    /// The program is on the interface, which was like this then.
    On { interface: Interface, attachment: Attachment, since: Instant },
}

impl Interfaces {
    /// Nothing is attached yet.
    pub fn new(loaded: Arc<Loaded>, permission: Permission, names: &[String]) -> Self {
        let slot = |name: &String| Slot { wanted: name.clone(), state: State::Missing, back_off: BackOff::NONE };
        Self { loaded, permission, slots: names.iter().map(slot).collect() }
    }

    /// Numbers of the interfaces that the program is on.
    pub fn attached(&self) -> Vec<u32> {
        self.slots.iter().filter_map(Slot::attached).collect()
    }

    /// How the program runs on each of them, for the statistics.
    pub fn status(&self) -> Vec<status::InterfaceStatus> {
        self.slots.iter().map(Slot::status).collect()
    }

    /// Attaches the program to every interface that is there; the others are waited for.
    ///
    /// # Errors
    /// When an interface that is there does not take the program, and the mode asked for says that
    /// it must.
    pub fn attach_first(&mut self, all: &[Interface], now: Instant) -> anyhow::Result<()> {
        let (unwanted, mut misfits) = self.adopt(all, now);
        let assigned = self.assign(all);
        for (slot, interface) in self.slots.iter_mut().zip(&assigned) {
            match interface {
                Some(_) if slot.attached().is_some() => {}
                Some(interface) => {
                    let misfit = misfits.extract_if(.., |misfit| misfit.interface == interface.index).next();
                    let before = misfit.and_then(Misfit::take_off);
                    if let Err(error) = slot.attach(&self.loaded, self.permission, interface, now) {
                        before.into_iter().for_each(|mode| put_back(&self.loaded, interface, mode));
                        return Err(error);
                    }
                }
                None => warn!("{}", missing(&slot.wanted, all)),
            }
        }
        // Not before: a start that fails takes nothing away.
        for (name, link) in unwanted {
            info!("XDP is taken off the interface {name}, which is not among those to answer on");
            link.take_off();
        }
        let wanted: Vec<_> = assigned.iter().flatten().map(|interface| interface.index).collect();
        self.loaded.tuning.keep(&wanted);
        Ok(())
    }

    /// Goes on where a daemon before this one has attached the program. Returns the links that are
    /// not wanted any more, with the names of their interfaces, and those in a mode that is not.
    fn adopt(&mut self, all: &[Interface], now: Instant) -> (Vec<(String, Link)>, Vec<Misfit>) {
        let (mut unwanted, mut misfits) = (Vec::new(), Vec::new());
        for link in self.loaded.inherited_links() {
            let Ok(index) = link.interface() else { continue };
            let interface = all.iter().find(|interface| interface.index == index);
            let slot = self.slots.iter_mut().find(|slot| {
                slot.attached().is_none() && interface.is_some_and(|interface| interface.name == slot.wanted)
            });
            let (Some(interface), Some(slot)) = (interface, slot) else {
                let name = interface.map_or_else(|| format!("number {index}"), |interface| interface.name.clone());
                unwanted.push((name, link));
                continue;
            };
            match adopt(&self.loaded, interface, link, self.permission) {
                Ok(attachment) => {
                    info!("{}: XDP has answered UDP and goes on, in {} mode", interface.name, attachment.mode.label());
                    self.loaded.tuning.prepare(interface);
                    slot.state = State::On { interface: interface.clone(), attachment, since: now };
                }
                Err(misfit) => {
                    info!("{}: XDP is attached anew, in the mode asked for", interface.name);
                    misfits.push(misfit);
                }
            }
        }
        (unwanted, misfits)
    }

    /// Has the program stay on the interfaces, as far as it is pinned there.
    pub fn leave(&mut self) {
        for slot in &mut self.slots {
            if let State::On { attachment, .. } = &mut slot.state {
                attachment.link.leave();
            }
        }
    }

    /// Brings the program to where it should be, given all interfaces that there are.
    pub fn reconcile(&mut self, all: &[Interface], now: Instant) {
        let assigned = self.assign(all);
        // Release first, then attach: two interfaces may have swapped their names.
        for (slot, interface) in self.slots.iter_mut().zip(&assigned) {
            slot.release(&self.loaded, self.permission, *interface, now);
        }
        for (slot, interface) in self.slots.iter_mut().zip(&assigned) {
            let Some(interface) = interface else { continue };
            if slot.attached().is_some() {
                continue;
            }
            let others = foreign(&self.loaded, interface);
            if !others.is_empty() && !self.permission.force {
                slot.off(interface, format!("somebody else's program is there, {}", describe(&others)));
            } else if slot.back_off.is_over(now)
                && let Err(error) = slot.attach(&self.loaded, self.permission, interface, now)
            {
                slot.back_off.failed(now);
                slot.off(interface, format!("{error:#}"));
            }
        }
    }

    /// Whether it is time to reconcile, as far as can be found out cheaply: the kernel does not
    /// report every change.
    pub fn needs_reconcile(&self, now: Instant) -> bool {
        self.slots.iter().any(|slot| slot.needs_reconcile(self.permission, now))
    }

    /// The interface for each slot.
    fn assign<'a>(&self, all: &'a [Interface]) -> Vec<Option<&'a Interface>> {
        let wanted: Vec<_> =
            self.slots.iter().map(|slot| (slot.wanted.as_str(), slot.held(&self.loaded, all))).collect();
        assign(&wanted, all)
    }
}

/// The interface for each of the names, together with the number of the interface that has the
/// program for it now. An interface belongs to the name that it has; one that has no name of ours
/// stays where it was.
fn assign<'a>(wanted: &[(&str, Option<u32>)], all: &'a [Interface]) -> Vec<Option<&'a Interface>> {
    let named = |name: &str| all.iter().find(|interface| interface.name == name);
    let taken: Vec<u32> = wanted.iter().filter_map(|(name, _)| named(name)).map(|interface| interface.index).collect();
    let kept = |index: u32| all.iter().find(|interface| interface.index == index && !taken.contains(&index));
    wanted.iter().map(|(name, held)| named(name).or_else(|| held.and_then(kept))).collect()
}

/// Says that no interface has this name.
pub(super) fn missing(name: &str, all: &[Interface]) -> String {
    let names: Vec<_> = all.iter().map(|interface| interface.name.as_str()).collect();
    format!(
        "there is no network interface {name} (there are {}): sockets answer UDP until it comes, and then XDP is attached",
        names.join(", ")
    )
}

impl Slot {
    fn attached(&self) -> Option<u32> {
        match &self.state {
            State::On { interface, .. } => Some(interface.index),
            State::Missing | State::Off { .. } => None,
        }
    }

    /// The interface that the program is still on: the link may have been cut, and an interface
    /// that was moved to another network namespace takes its program along.
    fn held(&self, loaded: &Loaded, all: &[Interface]) -> Option<u32> {
        let State::On { interface, attachment, .. } = &self.state else { return None };
        let index = interface.index;
        let here =
            |other: &Interface| other.index == index && other.xdp.iter().any(|attached| attached.program == loaded.id);
        (attachment.link.interface().ok() == Some(index) && all.iter().any(here)).then_some(index)
    }

    fn needs_reconcile(&self, permission: Permission, now: Instant) -> bool {
        match &self.state {
            // The kernel tells when one comes.
            State::Missing => false,
            State::Off { interface, .. } => {
                // Another program there is waited for, unless it may be taken off.
                let free = |found: Interface| permission.force || found.xdp.is_empty() || found.xdp != interface.xdp;
                self.back_off.is_over(now) && netlink::find(interface.index, None).ok().flatten().is_none_or(free)
            }
            State::On { interface, attachment, .. } => {
                attachment.link.interface().ok() != Some(interface.index)
                    || interface.veth_peer.is_some() && OtherEnd::of(interface) != attachment.other_end
            }
        }
    }

    /// Detaches from an interface that does not have the name any more, and notices what other
    /// processes have done.
    fn release(&mut self, loaded: &Loaded, permission: Permission, present: Option<&Interface>, now: Instant) {
        match &mut self.state {
            State::Missing => (),
            State::Off { interface: old, .. } => match present {
                None => {
                    warn!("{} is gone: sockets answer UDP until it is back, and then XDP is attached again", old.name);
                    self.forget();
                }
                Some(new) if new.index != old.index => self.forget(),
                // The MTU may be why the driver refused the program.
                Some(new) if new.mtu != old.mtu => self.back_off = BackOff::NONE,
                Some(_) => (),
            },
            State::On { interface: old, attachment, since } => match present {
                None => {
                    warn!(
                        "{} is gone (deleted, renamed or moved to another network namespace), and the XDP program with it: \
                         sockets answer UDP until it is back, and then XDP is attached again",
                        old.name
                    );
                    self.forget();
                }
                Some(new) if new.index != old.index => {
                    warn!(
                        "{} is another interface now (number {} instead of {}): XDP is attached anew",
                        new.name, new.index, old.index
                    );
                    self.forget();
                }
                Some(new) if !new.xdp.iter().any(|attached| attached.program == loaded.id) => {
                    let wait = self.back_off.lost(*since, now);
                    let reason = "somebody has taken the XDP program off".to_owned();
                    warn!(
                        "{}: {reason}; sockets answer UDP, and it is attached again in {} s unless another program is there",
                        new.name,
                        wait.as_secs()
                    );
                    self.state = State::Off { interface: new.clone(), reason };
                }
                Some(new) => {
                    if new.name != old.name {
                        info!("{} is called {} now; XDP stays on it", old.name, new.name);
                    }
                    let other_end = OtherEnd::of(new);
                    if permission.mode.chooses() && reconsider(attachment, other_end, new.mtu != old.mtu) {
                        info!("{}: circumstances have changed, so the mode of XDP is chosen anew", new.name);
                        self.forget();
                        return;
                    }
                    if other_end != attachment.other_end && attachment.mode != AttachedMode::Generic {
                        attachment.note = other_end.warning(&new.name);
                        match &attachment.note {
                            Some(note) => warn!("{}: {note}", new.name),
                            None => info!("{}: the other end receives replies again", new.name),
                        }
                    }
                    attachment.other_end = other_end;
                    *old = new.clone();
                }
            },
        }
    }

    /// Takes the program off, and begins anew.
    fn forget(&mut self) {
        self.state = State::Missing;
        self.back_off = BackOff::NONE;
    }

    fn attach(
        &mut self,
        loaded: &Loaded,
        permission: Permission,
        interface: &Interface,
        now: Instant,
    ) -> anyhow::Result<()> {
        loaded.tuning.prepare(interface);
        let attachment = match attach(loaded, interface, permission)? {
            Attempt::Attached(attachment) => attachment,
            Attempt::Unfit(reason) => {
                self.back_off.failed(now);
                self.off(interface, reason);
                return Ok(());
            }
        };
        let (name, mode) = (&interface.name, attachment.mode.label());
        let note = attachment.note.as_deref().map_or_else(String::new, |note| format!(": {note}"));
        if attachment.mode == AttachedMode::Generic && permission.mode.chooses() {
            info!("{name}: XDP answers UDP, in generic mode, which costs more per packet than native{note}");
        } else if attachment.mode == AttachedMode::Native && attachment.other_end.loses_replies() {
            warn!("{name}: XDP answers UDP, in {mode} mode{note}");
        } else {
            info!("{name}: XDP answers UDP, in {mode} mode{note}");
        }
        self.state = State::On { interface: interface.clone(), attachment, since: now };
        Ok(())
    }

    /// Notes, and logs once, that the program is not there.
    fn off(&mut self, interface: &Interface, reason: String) {
        let known = matches!(&self.state, State::Off { reason: known, .. } if *known == reason);
        if !known {
            warn!("{}: no XDP, sockets answer UDP: {reason}", interface.name);
        }
        self.state = State::Off { interface: interface.clone(), reason };
    }

    fn status(&self) -> status::InterfaceStatus {
        let off = || "off".to_owned();
        match &self.state {
            State::Missing => status::InterfaceStatus {
                name: self.wanted.clone(),
                mode: off(),
                note: "there is no such interface; XDP is attached when it comes".into(),
                card: status::Card::default(),
            },
            State::Off { interface, reason } => status::InterfaceStatus {
                name: interface.name.clone(),
                mode: off(),
                note: reason.clone(),
                card: card(interface),
            },
            State::On { interface, attachment, .. } => status::InterfaceStatus {
                name: interface.name.clone(),
                mode: attachment.mode.label().to_owned(),
                note: attachment.note.clone().unwrap_or_default(),
                card: card(interface),
            },
        }
    }
}

/// The card of an interface. netlink does not tell drivers of hardware.
fn card(interface: &Interface) -> status::Card {
    let mut card = interface.card.clone();
    if card.driver.is_empty()
        && let Ok(driver) = fs::read_link(format!("/sys/class/net/{}/device/driver", interface.name))
        && let Some(name) = driver.file_name()
    {
        card.driver = name.to_string_lossy().into_owned();
    }
    card
}

/// Whether mode auto would choose otherwise by now.
fn reconsider(attachment: &Attachment, other_end: OtherEnd, mtu_changed: bool) -> bool {
    if attachment.mode == AttachedMode::Generic {
        !other_end.loses_replies() && (mtu_changed || attachment.other_end.loses_replies())
    } else {
        other_end.loses_replies()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str) -> Interface {
        Interface {
            index,
            name: name.into(),
            mac: Some([2; 6]),
            mtu: 1500,
            loopback: false,
            vlan_of: None,
            veth_peer: None,
            xdp: Vec::new(),
            card: status::Card::default(),
        }
    }

    #[test]
    fn names_decide_and_a_renamed_interface_keeps_its_program_until_they_do() {
        // What is wanted, with what has the program; what there is; what is assigned.
        type Row = (&'static [(&'static str, Option<u32>)], &'static [(u32, &'static str)], &'static [Option<u32>]);
        const ROWS: &[Row] = &[
            (&[("a", None)], &[(2, "a")], &[Some(2)]),
            (&[("a", None)], &[(2, "b")], &[None]),
            (&[("a", Some(2))], &[(2, "b")], &[Some(2)]),
            (&[("a", Some(2))], &[(3, "b")], &[None]),
            (&[("a", Some(2))], &[(2, "b"), (3, "a")], &[Some(3)]),
            (&[("a", Some(2)), ("b", Some(3))], &[(2, "b"), (3, "a")], &[Some(3), Some(2)]),
            (&[("a", Some(2)), ("b", None)], &[(2, "b")], &[None, Some(2)]),
            (&[("a", None), ("b", None)], &[], &[None, None]),
        ];
        for (wanted, there, expected) in ROWS {
            let all: Vec<_> = there.iter().map(|(index, name)| interface(*index, name)).collect();
            let assigned: Vec<_> =
                assign(wanted, &all).iter().map(|found| found.map(|interface| interface.index)).collect();
            assert_eq!(assigned, *expected, "{wanted:?} of {there:?}");
        }
    }
}
