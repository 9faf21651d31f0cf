//! What the kernel has counted of the interfaces that the XDP program is for, whatever came by them.

use std::{fs, path::Path};

/// Where the kernel shows its interfaces.
const INTERFACES: &str = "/sys/class/net";

/// What is counted, by the names that the kernel has for it.
pub const COUNTERS: [&str; 8] =
    ["rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_dropped", "tx_dropped", "rx_errors", "tx_errors"];

/// The counters of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Its name.
    pub interface: String,
    /// In the order of [`COUNTERS`].
    pub counts: [u64; COUNTERS.len()],
}

impl Traffic {
    /// Reads those of an interface; `None` where it is gone, or the kernel does not show it.
    #[must_use]
    pub fn read(interface: &str) -> Option<Self> {
        Self::read_in(Path::new(INTERFACES), interface)
    }

    fn read_in(interfaces: &Path, interface: &str) -> Option<Self> {
        let directory = interfaces.join(interface).join("statistics");
        let mut counts = [0; COUNTERS.len()];
        for (count, name) in counts.iter_mut().zip(COUNTERS) {
            *count = fs::read_to_string(directory.join(name)).ok()?.trim().parse().ok()?;
        }
        Some(Self { interface: interface.to_owned(), counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_tests::temporary::Directory;

    #[test]
    fn counters_are_read_whole_or_not_at_all() {
        let directory = Directory::new("traffic");
        let statistics = directory.path("eth0/statistics");
        fs::create_dir_all(&statistics).expect("writable");
        let read = || Traffic::read_in(&directory.0, "eth0");
        for (number, name) in (1..).zip(COUNTERS) {
            assert_eq!(read(), None, "{name} is missing");
            fs::write(statistics.join(name), format!("{number}\n")).expect("writable");
        }
        assert_eq!(read(), Some(Traffic { interface: "eth0".into(), counts: [1, 2, 3, 4, 5, 6, 7, 8] }));
        assert!(Traffic::read("lo").is_some_and(|traffic| traffic.interface == "lo"));
        assert_eq!(Traffic::read("no such interface"), None);
    }
}
