//! Taking everything down: what a half-made directory has, and all of it for `tracker detach`.

use super::{
    directory::{Directory, Entry},
    identity::Identity,
};
use crate::xdp::{
    bpf_link::Link,
    tune::{self, Undone},
};
use anyhow::Context as _;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// What was taken down.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cleared {
    /// Numbers of the interfaces that the program was on.
    pub interfaces: Vec<u32>,
    /// How many maps and programs were pinned.
    pub objects: usize,
    /// What became of settings that were changed for the tracker.
    pub undone: Vec<Undone>,
    /// What is left, because it is not the tracker's.
    pub left: Vec<PathBuf>,
}

impl Directory {
    /// Takes the program off all interfaces, and removes all pins. What is not the tracker's stays.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clear(&self) -> anyhow::Result<Cleared> {
        let mut entries = self.entries()?;
        // Links first, so that no packet comes to what is being taken down; then the record, as the
        // rest is not complete from then on.
        entries.sort_by_key(|(_, entry)| match entry {
            Entry::Link => 0,
            // Some drivers change nothing while XDP is there.
            Entry::Tuned => 1,
            Entry::Identity => 2,
            Entry::Set | Entry::Store | Entry::StoreBelow | Entry::Foreign => 3,
        });
        let mut cleared = Cleared::default();
        for (path, entry) in entries {
            match entry {
                Entry::Link => {
                    let link = Link::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
                    cleared.interfaces.extend(link.interface().ok().filter(|interface| *interface != 0));
                    link.take_off();
                }
                Entry::Tuned => {
                    cleared.undone = tune::undo_record(&path).unwrap_or_else(|error| {
                        vec![Undone { text: format!("what was tuned stays: {error:#}"), failed: true }]
                    });
                    remove(&path)?;
                }
                Entry::Identity | Entry::Store => {
                    remove(&path)?;
                    cleared.objects += 1;
                }
                Entry::Set | Entry::StoreBelow => cleared.objects += remove_all(&path)?,
                Entry::Foreign => cleared.left.push(path),
            }
        }
        Ok(cleared)
    }

    /// The same, and removes the directory if it is empty then and may be removed.
    ///
    /// # Errors
    /// As for [`Directory::clear`].
    pub fn take_down(&self) -> anyhow::Result<Cleared> {
        let cleared = self.clear()?;
        // Where somebody else has made it, it may have to stay.
        let _ = fs::remove_dir(self.path());
        Ok(cleared)
    }

    /// Sets of programs and stores that are not the ones of this record.
    pub(in crate::xdp) fn others(&self, used: &Identity) -> anyhow::Result<Vec<PathBuf>> {
        let (set, store) = (self.set(used), self.store(used));
        let is_other = |(path, entry): &(PathBuf, Entry)| match entry {
            Entry::Set => *path != set,
            Entry::StoreBelow => *path != store,
            Entry::Store => used.store != 0,
            Entry::Identity | Entry::Link | Entry::Tuned | Entry::Foreign => false,
        };
        Ok(self.entries()?.into_iter().filter(is_other).map(|(path, _)| path).collect())
    }

    /// Stores below the directory but for that of this record.
    pub(in crate::xdp) fn stores_but(&self, used: &Identity) -> anyhow::Result<Vec<PathBuf>> {
        let store = self.store(used);
        let all = self.entries()?.into_iter();
        Ok(all.filter(|(path, entry)| *entry == Entry::StoreBelow && *path != store).map(|(path, _)| path).collect())
    }

    /// Removes pins, and directories of pins with all that is in them.
    pub(in crate::xdp) fn remove(&self, pins: &[PathBuf]) -> anyhow::Result<()> {
        pins.iter().try_for_each(|path| if path.is_dir() { remove_all(path).map(drop) } else { remove(path) })
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Removes a directory of pins with all that is in it, and says how many there were.
pub(super) fn remove_all(path: &Path) -> anyhow::Result<usize> {
    let cannot = || format!("cannot remove {}", path.display());
    let mut removed = 0;
    for entry in fs::read_dir(path).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            removed += remove_all(&entry.path())?;
        } else {
            remove(&entry.path())?;
            removed += 1;
        }
    }
    fs::remove_dir(path).with_context(cannot)?;
    Ok(removed)
}
