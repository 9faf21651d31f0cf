//! What the kernel says of the daemon: that it has lost no thread and no descriptor, is idle again,
//! and holds no more memory than it may.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tracker_tests::patience;

/// How long connections and the like may take to be gone after an attack. The time limits of the
/// daemon are 3 s.
const SETTLING: Duration = Duration::from_secs(30);

/// Descriptors that come and go by themselves: connections of honest clients, netlink sockets.
const FILES: usize = 4;

/// What all connections together may hold by default, and each of them, with what the process keeps
/// of memory that has been given back.
const MEMORY: u64 = (16 << 20) + 4096 * 3072 + (8 << 20);

/// How long the processor time of an idle daemon is measured, and what of one core it may take: a
/// twentieth for sweeps, and far less than a loop that never sleeps takes, even where there are
/// others who want the cores.
const IDLE: Duration = Duration::from_millis(500);
const IDLE_SHARE: f64 = 0.25;

/// The unit of processor time in `/proc`, in seconds.
const TICK: f64 = 0.01;

pub struct Vitals {
    threads: BTreeMap<String, usize>,
    files: usize,
    /// Bytes that are the process's own, without the maps that it shares with the kernel.
    memory: u64,
    /// The share of a core that it takes while nobody asks anything.
    idle: f64,
}

fn directory(process: u32) -> PathBuf {
    Path::new("/proc").join(process.to_string())
}

impl Vitals {
    pub fn read(process: u32) -> Self {
        let directory = directory(process);
        let files = fs::read_dir(directory.join("fd")).expect("the daemon runs").count();
        let mut threads = BTreeMap::new();
        for thread in fs::read_dir(directory.join("task")).expect("the daemon runs").flatten() {
            let Ok(name) = fs::read_to_string(thread.path().join("comm")) else { continue };
            // The kernel's own threads for io_uring.
            if !name.starts_with("iou-") {
                *threads.entry(name.trim().to_owned()).or_default() += 1;
            }
        }
        let status = fs::read_to_string(directory.join("status")).expect("the daemon runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a line");
        let memory = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10;
        Self { threads, files, memory, idle: 0.0 }
    }

    /// Threads that were there before and are not any more.
    fn lost(&self, before: &Self) -> Vec<String> {
        let missing = |(name, count): (&String, &usize)| {
            (self.threads.get(name).copied().unwrap_or(0) < *count).then(|| name.clone())
        };
        before.threads.iter().filter_map(missing).collect()
    }

    /// What is not as it was before.
    pub fn faults(&self, before: &Self) -> Vec<String> {
        let lost = self.lost(before);
        let more = self.memory.saturating_sub(before.memory);
        let rows = [
            (!lost.is_empty(), format!("threads are gone: {lost:?}")),
            (self.files > before.files + FILES, format!("{} files instead of {}", self.files, before.files)),
            (more > MEMORY, format!("{more} bytes of memory more than before")),
            (self.idle >= IDLE_SHARE, format!("{:.0} % of a core with nothing to do", 100.0 * self.idle)),
        ];
        rows.into_iter().filter(|(is_wrong, _)| *is_wrong).map(|(_, told)| told).collect()
    }
}

impl fmt::Display for Vitals {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threads, files, memory, idle } = self;
        let threads: usize = threads.values().sum();
        write!(to, "{threads} threads, {files} files, {} MiB, {:.0} % of a core when idle", memory >> 20, 100.0 * idle)
    }
}

/// Waits until there are as many descriptors as before, and measures how idle the daemon is then.
pub fn settled(process: u32, before: &Vitals) -> Vitals {
    let deadline = Instant::now() + patience(SETTLING);
    while Vitals::read(process).files > before.files + FILES && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(50));
    }
    // What has just ended may still be cleared away; a loop without an end does not end.
    loop {
        let (begun, used) = (Instant::now(), used(process));
        thread::sleep(IDLE);
        let idle = (self::used(process) - used) / begun.elapsed().as_secs_f64();
        if idle < IDLE_SHARE || Instant::now() > deadline {
            return Vitals { idle, ..Vitals::read(process) };
        }
    }
}

/// Processor time of all threads, in seconds.
fn used(process: u32) -> f64 {
    let stat = fs::read_to_string(directory(process).join("stat")).expect("the daemon runs");
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    rest.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() * TICK
}

#[test]
fn what_an_attack_leaves_behind_is_found() {
    let vitals = |threads: &[(&str, usize)], files, memory, idle| Vitals {
        threads: threads.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
        files,
        memory,
        idle,
    };
    let before = vitals(&[("clock", 1), ("udp", 2)], 30, 1 << 20, 0.0);
    // (what is there afterwards, how much of it is wrong)
    let rows = [
        (vitals(&[("clock", 1), ("udp", 2)], 30, 1 << 20, 0.05), 0),
        (vitals(&[("clock", 1), ("udp", 2), ("scrape", 1)], 30 + FILES, 9 << 20, 0.2), 0),
        (vitals(&[("clock", 1), ("udp", 1)], 30, 1 << 20, 0.0), 1),
        (vitals(&[("udp", 2)], 30, 1 << 20, 0.0), 1),
        (vitals(&[("clock", 1), ("udp", 2)], 31 + FILES, 1 << 20, 0.0), 1),
        (vitals(&[("clock", 1), ("udp", 2)], 30, 99 << 20, 0.0), 1),
        (vitals(&[("clock", 1), ("udp", 2)], 30, 1 << 20, 0.9), 1),
        (vitals(&[], 3000, 1 << 30, 1.0), 4),
    ];
    for (after, expected) in rows {
        let faults = after.faults(&before);
        assert_eq!(faults.len(), expected, "{after}: {faults:?}");
    }
    let own = Vitals::read(std::process::id());
    assert!(own.files > 2 && own.memory > 0 && !own.threads.is_empty(), "{own}");
}
