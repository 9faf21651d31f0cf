//! What the kernel says of this process.

use std::fs;

/// The unit of processor time in `/proc`: 100 a second on every architecture this tracker runs on
/// (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What it uses; `None` where `/proc` does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Resident memory in bytes. Of a store in BPF maps it holds the pages that the daemon itself
    /// has touched.
    pub resident_bytes: Option<u64>,
    /// Address space in bytes.
    pub virtual_bytes: Option<u64>,
    /// User and system time of all threads since the start, in seconds.
    pub cpu_seconds: Option<f64>,
    /// File descriptors in use.
    pub open_files: Option<u64>,
    /// File descriptors that it may have.
    pub most_files: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

impl Process {
    /// Reads all.
    #[must_use]
    pub fn read() -> Self {
        let status = fs::read_to_string("/proc/self/status").ok();
        let of_status = |label| status.as_deref().and_then(|text| value(text, label));
        Self {
            resident_bytes: of_status("VmRSS:").map(|kibibytes| kibibytes * 1024),
            virtual_bytes: of_status("VmSize:").map(|kibibytes| kibibytes * 1024),
            cpu_seconds: fs::read_to_string("/proc/self/stat").ok().and_then(|text| cpu_seconds(&text)),
            // The one by which they are counted is among them.
            open_files: fs::read_dir("/proc/self/fd").ok().map(|files| (files.count() as u64).saturating_sub(1)),
            most_files: fs::read_to_string("/proc/self/limits").ok().and_then(|text| most_files(&text)),
            threads: of_status("Threads:"),
        }
    }
}

/// The number in the line of `status` that begins with a label.
fn value(status: &str, label: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(label))?;
    line.trim_end_matches("kB").trim().parse().ok()
}

/// The limit in force of open files, from `limits`.
fn most_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
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
        let status = "Name:\ttracker\nVmSize:\t 100 kB\nVmRSS:\t    42 kB\nVmSwap:\t 0 kB\nThreads:\t7\n";
        let rows = [("VmRSS:", Some(42)), ("VmSize:", Some(100)), ("Threads:", Some(7)), ("Name:", None), ("X:", None)];
        for (label, expected) in rows {
            assert_eq!(value(status, label), expected, "{label}");
        }
        let limits =
            |soft: &str| format!("Limit   Soft Limit  Hard Limit  Units\nMax open files   {soft}  4096  files\n");
        assert_eq!(most_files(&limits("1024")), Some(1024));
        assert_eq!(most_files(&limits("unlimited")), None);
        assert_eq!(most_files("Limit\n"), None);
        assert_eq!(cpu_seconds("7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 30 12 13"), Some(0.42));
        assert_eq!(cpu_seconds("7 (tracker) S 1"), None);
        assert_eq!(cpu_seconds("nothing"), None);
    }

    #[test]
    fn this_process_has_memory() {
        let process = Process::read();
        assert!(process.resident_bytes > Some(0) && process.virtual_bytes > process.resident_bytes, "{process:?}");
        assert!(process.open_files > Some(0) && process.open_files < process.most_files, "{process:?}");
        let _one_more = fs::File::open("/proc/self/stat").expect("readable");
        assert!(process.threads > Some(0) && Process::read().open_files.is_some(), "{process:?}");
    }
}
