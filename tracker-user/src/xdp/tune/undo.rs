//! Undoing changes: a setting gets its old value back, unless somebody has set it to something else
//! meanwhile.

use super::record::{Change, Record};
use crate::xdp::netlink::{self, Interface};
use anyhow::Context as _;
use std::path::Path;
use tracing::{info, warn};

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undone {
    /// What was done, or why not, for people.
    pub text: String,
    /// Whether somebody has to look after it.
    pub failed: bool,
}

impl Undone {
    /// Says it in the log.
    pub fn log(&self) {
        if self.failed {
            warn!("{}", self.text);
        } else {
            info!("{}", self.text);
        }
    }
}

/// Undoes what is on record in the map pinned at `path`. The map stays.
///
/// # Errors
/// When it cannot be read, or the kernel does not list its interfaces.
pub(in crate::xdp) fn undo_record(path: &Path) -> anyhow::Result<Vec<Undone>> {
    let (_, changes) = Record::open(path)?;
    let all = netlink::interfaces().context("cannot undo what was tuned")?;
    Ok(undo(&changes, &all))
}

/// Undoes changes, the last one first.
pub(super) fn undo(changes: &[Change], all: &[Interface]) -> Vec<Undone> {
    changes.iter().rev().filter_map(|change| undo_one(change, all)).collect()
}

/// `None` if nothing was to be done.
fn undo_one(change: &Change, all: &[Interface]) -> Option<Undone> {
    let Change { setting, old, new, .. } = change;
    let Some(Interface { name, .. }) = all.iter().find(|interface| change.is_of(interface)) else {
        let number = change.interface;
        let text =
            format!("the interface with number {number} is gone from here: nothing is undone there ({setting}: {old})");
        return Some(Undone { text, failed: false });
    };
    // A queue that is gone has taken its interrupt along.
    let now = setting.read(name)?;
    if now == *old {
        return None;
    }
    if now != *new {
        let text = format!("{name}: {setting}: {now} is left, as somebody has set it since ({old} → {new} by --tune)");
        return Some(Undone { text, failed: false });
    }
    let wrong = match setting.write(name, old) {
        Err(error) => Some(error.to_string()),
        Ok(()) => setting.read(name).filter(|now| now != old).map(|now| format!("it is {now} all the same")),
    };
    Some(match wrong {
        None => Undone { text: format!("{name}: {setting}: {new} → {old}, as it was before --tune"), failed: false },
        Some(error) => Undone {
            text: format!("{name}: {setting} is still {new} and was {old} before --tune: cannot set it back: {error}"),
            failed: true,
        },
    })
}
