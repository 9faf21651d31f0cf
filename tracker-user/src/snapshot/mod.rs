//! What outlives the machine: torrents with the numbers of their completed downloads, and with
//! `--snapshot-peers` their peers, in one file of the state directory.
//!
//! Unless asked for, no address of a peer is ever on the disk.
//!
//! | module | does |
//! |---|---|
//! | [`format`](mod@format) | the bytes of the file: its header, those of blocks, checksums |
//! | [`columns`] | what a block holds |
//! | [`write`](mod@write) | blocks into a file, and a file in place of the old one in one step |
//! | [`read`] | blocks out of a file, whatever has become of it |
//! | [`walk`] | the live store, torrent by torrent, without stopping anybody |
//! | [`save`] | the service that writes the file at intervals, and at the end |
//! | [`dated`] | the store with a clock that shows what it is told |
//! | [`restore`] | torrents and peers into a store, as old as they are |
//! | [`load`](mod@load) | the file into a new store; a damaged one is set aside |
//! | [`statedump`] | the lines of opentracker's state files |
//! | [`copy`](mod@copy) | one live store into another of other sizes, without a file |
//! | [`look`], [`page`](mod@page) | the live store for the operator: one torrent, all torrents |
//! | [`convert`] | a file of its own, without a tracker: export and import |

pub mod columns;
pub mod convert;
pub mod copy;
pub mod dated;
mod directory;
pub mod format;
pub mod load;
pub mod look;
pub mod page;
pub mod read;
pub mod restore;
pub mod save;
pub mod statedump;
#[cfg(test)]
mod tests;
pub mod walk;
pub mod write;

pub use load::load;
pub use save::{Periodic, Saver};

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The name of the file in the state directory.
pub const NAME: &str = "swarms.snapshot";

/// Whether snapshots are taken, where, and of what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The state directory.
    pub directory: PathBuf,
    /// From the end of one snapshot to the beginning of the next.
    pub interval: Duration,
    /// Whether peers are in it, with their addresses.
    pub peers: bool,
}

impl Plan {
    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        path_in(&self.directory)
    }
}

/// The file in this state directory.
#[must_use]
pub fn path_in(directory: &Path) -> PathBuf {
    directory.join(NAME)
}

/// How much a snapshot holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Records of torrents; one with very many peers has several.
    pub torrents: u64,
    /// IPv4 peers.
    pub peers_v4: u64,
    /// IPv6 peers.
    pub peers_v6: u64,
}

/// The wall clock's seconds since 1970; 0 before.
fn wall_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
