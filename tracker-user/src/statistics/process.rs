//! What the kernel says of this process.

use std::fs;

/// The unit of processor time in `/proc`: 100 a second on every architecture this tracker runs on
/// (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory and processor time; `None` where `/proc` does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Resident memory in bytes. Of a store in BPF maps it holds the pages that the daemon itself
    /// has touched.
    pub resident_bytes: Option<u64>,
    /// User and system time of all threads since the start, in seconds.
    pub cpu_seconds: Option<f64>,
}

impl Process {
    /// Reads both.
    #[must_use]
    pub fn read() -> Self {
        Self {
            resident_bytes: fs::read_to_string("/proc/self/status").ok().and_then(|text| resident_bytes(&text)),
            cpu_seconds: fs::read_to_string("/proc/self/stat").ok().and_then(|text| cpu_seconds(&text)),
        }
    }
}

/// The line `VmRSS: … kB` of `status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Fields 14 and 15 of `stat`; the second field is a name in parentheses that may contain anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_understood() {
        assert_eq!(resident_bytes("Name:\ttracker\nVmRSS:\t    42 kB\nVmSwap:\t 0 kB\n"), Some(42 * 1024));
        assert_eq!(resident_bytes("Name:\ttracker\n"), None);
        assert_eq!(cpu_seconds("7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 30 12 13"), Some(0.42));
        assert_eq!(cpu_seconds("7 (tracker) S 1"), None);
        assert_eq!(cpu_seconds("nothing"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(Process::read().resident_bytes > Some(0));
    }
}
