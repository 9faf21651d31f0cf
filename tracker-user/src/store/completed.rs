//! Completed downloads for the log. Neither the XDP program nor who answers a request says anything
//! of single downloads: the sweep compares the number of each torrent with what it was the last time.
//! So there is no address to be told, and a line may stand for several downloads.

use std::{collections::HashMap, fmt::Write as _};
use tracing::info;
use tracker_common::id::InfoHash;

/// The name of these lines for `--log`.
const TARGET: &str = "completed";

/// Numbers of completed downloads: as of the sweep before, and of this one. Torrents without any are
/// not in it.
#[derive(Debug, Default)]
pub(super) struct Completed {
    /// `None` in the first sweep, in which nothing is new.
    before: Option<HashMap<InfoHash, u32>>,
    now: HashMap<InfoHash, u32>,
}

impl Completed {
    /// A torrent, with its number.
    pub fn see(&mut self, info_hash: InfoHash, number: u32) {
        let new = self.note(info_hash, number);
        if new > 0 {
            let hex = info_hash.iter().fold(String::new(), |mut hex, byte| {
                let _infallible = write!(hex, "{byte:02x}");
                hex
            });
            info!(target: TARGET, "event=completed info_hash={hex} downloads={new} total={number}");
        }
    }

    /// How many are new.
    fn note(&mut self, info_hash: InfoHash, number: u32) -> u32 {
        if number == 0 {
            return 0;
        }
        self.now.insert(info_hash, number);
        let Some(before) = &self.before else { return 0 };
        number.saturating_sub(before.get(&info_hash).copied().unwrap_or(0))
    }

    /// For the next sweep.
    pub fn next(self) -> Self {
        Self { before: Some(self.now), now: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_since_the_last_sweep_is_told() {
        let torrent = |number: u8| -> InfoHash { [number; 20] };
        let mut completed = Completed::default();
        assert_eq!(completed.note(torrent(1), 7), 0, "nothing is known of before");
        let mut completed = completed.next();
        for (number, downloads, new) in [(1, 7, 0), (2, 0, 0), (3, 2, 2)] {
            assert_eq!(completed.note(torrent(number), downloads), new, "{number}");
        }
        let mut completed = completed.next();
        for (number, downloads, new) in [(1, 9, 2), (2, 1, 1), (3, 1, 0)] {
            assert_eq!(completed.note(torrent(number), downloads), new, "{number}");
        }
    }
}
