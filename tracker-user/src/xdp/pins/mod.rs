//! Pins: names in a directory of a BPF file system, which hold maps, programs and links when no
//! process does. So XDP goes on answering when the daemon is stopped, killed or replaced, and the
//! next daemon takes the store over.
//!
//! | name | what it is |
//! |---|---|
//! | `SETTINGS`, `POOLS`, `INDEX`, … | the store: maps by their names |
//! | `store_…/` | one that was made later, for other limits; the ones above are gone then |
//! | `programs_…/` | a set of programs, by the hash of their object, with the maps that are theirs alone: the table of tail calls, scratch space, counters, traces |
//! | `IDENTITY` | a map of one record ([`identity`]): which layout the store has, and which store and set are the ones in use |
//! | `link_…` | what holds the program on an interface |
//! | `TUNED` | what was changed of the settings of interfaces ([`super::tune`]); undone when it is removed |
//!
//! `IDENTITY` is pinned last and removed first: where it is, store and set are complete. A daemon may
//! be killed between any two steps, so whatever it leaves is either that, or without `IDENTITY` and
//! of no use to anybody.
//!
//! The directory is locked (`flock`) by the daemon that works with it.

mod clear;
mod directory;
pub mod identity;
mod write;

pub use clear::Cleared;
pub(in crate::xdp) use directory::set_in;
pub use directory::{Contents, Directory, Failure, store_in};

use anyhow::bail;
use std::path::{Path, PathBuf};

/// Where the pins are, if nobody says otherwise.
pub const DEFAULT_PATH: &str = "/sys/fs/bpf/tracker";

/// What the operator wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Pins in [`DEFAULT_PATH`], if that is possible.
    #[default]
    IfPossible,
    /// Pins in this directory, or no start.
    At(PathBuf),
    /// No pins: XDP ends with the process.
    Off,
}

impl Wanted {
    /// Warns if a tracker before this one has left XDP answering, when this one is to do without.
    pub fn warn_of_others(&self) {
        if let Some(path) = self.others() {
            tracing::warn!(
                "a tracker has left XDP answering with swarms of its own, which this one does not take over, as it is to do \
                 without XDP; `tracker detach --pin-path {}` ends it",
                path.display()
            );
        }
    }

    /// Refuses to do without XDP if a tracker before this one has left it answering where this one would
    /// pin it.
    ///
    /// # Errors
    /// When it has, as far as this user may see it.
    pub(in crate::xdp) fn refuse_others(&self) -> anyhow::Result<()> {
        match self.others() {
            Some(path) if *self != Self::Off => bail!(
                "a tracker has left XDP answering, and this one cannot take it over: sockets beside it would be a second \
                 tracker with other swarms. Give it what is missing; or `tracker detach --pin-path {}` ends XDP, with all \
                 swarms in it",
                path.display()
            ),
            _ => self.warn_of_others(),
        }
        Ok(())
    }

    /// Where a tracker before this one has pinned what it left.
    fn others(&self) -> Option<&Path> {
        let path = match self {
            Self::Off | Self::IfPossible => Path::new(DEFAULT_PATH),
            Self::At(path) => path,
        };
        path.join(identity::NAME).exists().then_some(path)
    }

    /// The directory, made if it is missing, and locked. `None` if there are to be no pins, or if
    /// they are not possible and nobody has asked for them.
    ///
    /// # Errors
    /// When another process works with it, when it is not ours, and when it was asked for and cannot
    /// be used.
    pub fn open(&self) -> anyhow::Result<Option<Directory>> {
        let path = match self {
            Self::Off => return Ok(None),
            Self::IfPossible => Path::new(DEFAULT_PATH),
            Self::At(path) => path,
        };
        match Directory::open(path) {
            Ok(directory) => Ok(Some(directory)),
            Err(Failure::Unusable(error)) if *self == Self::IfPossible => {
                tracing::warn!(
                    "XDP ends with this process, and a restart forgets all swarms, because nothing can be pinned: {error:#}. \
                     --pin-path off says that this is meant"
                );
                Ok(None)
            }
            Err(Failure::Unusable(error) | Failure::Refused(error)) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn nobody_does_without_xdp_beside_pins_that_answer() {
        let path = std::env::temp_dir().join(format!("tracker-pins-left-{}", std::process::id()));
        fs::create_dir_all(&path).expect("writable");
        for (entry, is_refused) in [("programs_00", false), ("link_0", false), (identity::NAME, true)] {
            fs::write(path.join(entry), "").expect("writable");
            let result = Wanted::At(path.clone()).refuse_others().map_err(|error| format!("{error:#}"));
            assert_eq!(result.is_err(), is_refused, "{entry}: {result:?}");
        }
        fs::remove_dir_all(&path).expect("it is there");
    }
}
