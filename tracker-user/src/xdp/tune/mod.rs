//! Settings of network cards that pay for a tracker (`--tune`): set before XDP is attached, and undone
//! when it is taken off.
//!
//! | module | holds |
//! |---|---|
//! | `setting` | the settings: how each is read, what it should be, how it is set |
//! | `interrupts` | which core takes which interrupt |
//! | `record` | what was changed, written down where it outlives the process |
//! | `undo` | old values, put back |
//!
//! What was changed stays for as long as XDP may be on the interface. With pins that is until they are
//! taken down, by whoever does that; the record is pinned with them. Without pins it is until this
//! process ends, and a killed one undoes nothing.

mod interrupts;
mod record;
mod setting;
mod undo;

pub use interrupts::{cores, interrupts};
pub(super) use record::NAME;
pub use setting::SHORT_RING;
pub use undo::Undone;
pub(super) use undo::undo_record;

use super::{
    netlink::{self, Interface},
    pins::Directory,
};
use record::{Change, Record};
use setting::{Look, Setting};
use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tracing::{info, warn};

/// What was changed on all interfaces. Without pins it is undone on drop, at the latest.
#[derive(Default)]
pub struct Tuning {
    on: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    changes: Vec<Change>,
    /// Where they are written down, and its name; `None` without pins.
    record: Option<(Record, PathBuf)>,
    /// Interfaces that were tuned by this process. What is changed afterwards, somebody wants so.
    seen: BTreeSet<u32>,
}

impl Tuning {
    /// With what a tracker before this one has left on record. Where nothing can be written down although
    /// XDP may go on without this process, nothing is changed.
    pub(super) fn new(on: bool, pins: Option<&Directory>) -> Self {
        let Some(path) = pins.map(Directory::tuned) else {
            if on {
                info!("without pins, what --tune changes is undone when this process ends, but not if it is killed");
            }
            return Self { on, state: Mutex::default() };
        };
        let found = if path.exists() {
            Record::open(&path).map(Some)
        } else if on {
            Record::create(&path).map(|record| Some((record, Vec::new())))
        } else {
            Ok(None)
        };
        match found {
            Ok(found) => {
                let (record, changes) = found.map_or((None, Vec::new()), |(record, changes)| (Some(record), changes));
                let record = record.map(|record| (record, path));
                Self { on, state: Mutex::new(State { changes, record, seen: BTreeSet::new() }) }
            }
            Err(error) => {
                warn!("--tune changes nothing, as there is no place to write down what it was before: {error:#}");
                Self::default()
            }
        }
    }

    /// Whether there is anything to be set or undone.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.on || !self.state().changes.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what is to be set before XDP is attached to an interface, once.
    pub(super) fn prepare(&self, interface: &Interface) {
        let mut state = self.state();
        if !self.on || !state.seen.insert(interface.index) {
            return;
        }
        let mut not_offered = Vec::new();
        for setting in Setting::ALL {
            match setting.look(&interface.name) {
                Look::NotOffered => not_offered.push(setting.to_string()),
                Look::Good => (),
                Look::Change { old, new } => drop(state.change(interface, setting, old, &new)),
            }
        }
        if !not_offered.is_empty() {
            info!("{}: --tune leaves what its driver does not offer: {}", interface.name, not_offered.join(", "));
        }
        state.interrupts(interface);
    }

    /// Undoes the change of the number of queues: some drivers need a queue of their own for each core that
    /// sends by XDP, and have none left. Whether there was such a change.
    pub(super) fn take_back_queues(&self, interface: &Interface) -> bool {
        let mut state = self.state();
        let is_it = |change: &Change| change.setting == Setting::Queues && change.is_of(interface);
        let there = state.changes.iter().any(is_it);
        if there {
            state.undo_if(is_it);
        }
        there
    }

    /// Undoes everything but on these interfaces; all of it if nothing is to be tuned any more.
    pub(super) fn keep(&self, interfaces: &[u32]) {
        let mut state = self.state();
        state.undo_if(|change| !self.on || !interfaces.contains(&change.interface));
        if !self.on
            && let Some((_, path)) = state.record.take()
            && let Err(error) = fs::remove_file(&path)
        {
            warn!("cannot remove {}: {error}", path.display());
        }
    }

    /// XDP ends with this process: undoes everything. With pins that is up to whoever takes them down.
    pub fn end(&self) {
        let mut state = self.state();
        if state.record.is_none() {
            state.undo_if(|_| true);
        }
    }
}

impl Drop for Tuning {
    fn drop(&mut self) {
        self.end();
    }
}

impl State {
    /// Changes a setting, or says why not.
    ///
    /// # Errors
    /// What the driver says.
    fn change(&mut self, interface: &Interface, setting: Setting, old: String, new: &str) -> io::Result<()> {
        let name = &interface.name;
        let mac = interface.mac.unwrap_or_default();
        let change = Change { interface: interface.index, mac, setting, old, new: new.to_owned() };
        // One before it that is on record was set to something else by somebody, who wants it so.
        self.changes.retain(|before| !before.is_like(&change));
        self.changes.push(change.clone());
        if let Err(error) = self.write_down() {
            warn!("{name}: {setting}: {} is left, as a change could not be undone: {error:#}", change.old);
            self.changes.pop();
            return Ok(());
        }
        let result = setting.write(name, new);
        let now = setting.read(name).unwrap_or_default();
        match &result {
            Err(error) => warn!("{name}: {setting}: cannot change {} to {new} (--tune): {error}", change.old),
            Ok(()) if now == change.old => {
                warn!("{name}: {setting}: the driver leaves it at {now} instead of {new} (--tune)");
            }
            Ok(()) => info!("{name}: {setting}: {} → {now} (--tune)", change.old),
        }
        if now == change.old {
            self.changes.pop();
        } else if let Some(last) = self.changes.last_mut() {
            // Drivers round.
            last.new = now;
        }
        if let Err(error) = self.write_down() {
            warn!("{name}: {error:#}");
        }
        result
    }

    /// Gives each interrupt for received packets a core of its own, unless somebody else does that.
    fn interrupts(&mut self, interface: &Interface) {
        let root = Path::new("/");
        let Some(plan) = interrupts::plan(root, &interface.name) else { return };
        if interrupts::are_balanced(root) {
            info!("{}: --tune leaves interrupts to irqbalance, which runs", interface.name);
            return;
        }
        for (number, core) in plan {
            let setting = Setting::Interrupt(number);
            let Some(old) = setting.read(&interface.name) else { continue };
            let new = core.to_string();
            if old != new
                && let Err(error) = self.change(interface, setting, old, &new)
                && error.kind() == io::ErrorKind::PermissionDenied
            {
                warn!("{}: --tune leaves its interrupts: only root can move them", interface.name);
                return;
            }
        }
    }

    /// Undoes the changes that are meant, and forgets them.
    fn undo_if(&mut self, is_meant: impl Fn(&Change) -> bool) {
        let (meant, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.changes).into_iter().partition(is_meant);
        if meant.is_empty() {
            self.changes = kept;
            return;
        }
        match netlink::interfaces() {
            Ok(all) => undo::undo(&meant, &all).iter().for_each(Undone::log),
            Err(error) => warn!("cannot undo what was tuned: {error:#}"),
        }
        self.changes = kept;
        if let Err(error) = self.write_down() {
            warn!("{error:#}");
        }
    }

    fn write_down(&mut self) -> anyhow::Result<()> {
        self.record.as_mut().map_or(Ok(()), |(record, _)| record.store(&self.changes))
    }
}
