//! Which core does what, and how much of it was used.
//!
//! The tracker's core runs the system's process and the thread in which the kernel polls the
//! tracker's network interface (threaded NAPI); the load's core runs everything else. Processor
//! time is taken from the scheduler's own nanosecond accounts of these threads.

use std::{collections::BTreeMap, fs, io, mem, path::Path, time::Instant};

use anyhow::{Context as _, bail};

use crate::energy;

/// The two cores.
#[derive(Clone, Copy, Debug)]
pub struct Cores {
    /// Core of the system and its receive path.
    pub tracker: usize,
    /// Core of load generation and reply reception.
    pub load: usize,
}

/// The nice value of everything that is measured.
pub const FAVOURED: i32 = -20;

/// A thread, or a process of one thread, by its id.
pub type Thread = libc::pid_t;

/// Ties a thread to a core; 0 is the calling thread.
pub fn pin(thread: Thread, core: usize) -> io::Result<()> {
    // SAFETY: all zero bytes is an empty CPU set; CPU_SET checks its bounds; the set outlives the
    // call.
    let result = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How urgent the threads of a process are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// Favoured over everything ordinary.
    Measured,
    /// Runs only when nobody else wants to. Stopping a process would be simpler, but not every
    /// program survives that: its system calls come back with EINTR.
    Idle,
}

/// Sets how urgent every thread of a process is.
pub fn set_urgency(process: Thread, urgency: Urgency) -> anyhow::Result<()> {
    for thread in threads_of(process) {
        let policy = match urgency {
            Urgency::Measured => libc::SCHED_OTHER,
            Urgency::Idle => libc::SCHED_IDLE,
        };
        let parameters = libc::sched_param { sched_priority: 0 };
        // SAFETY: the parameters outlive the call.
        if unsafe { libc::sched_setscheduler(thread, policy, &raw const parameters) } != 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("cannot set the scheduling policy of thread {thread}"));
        }
        set_nice(thread, FAVOURED).with_context(|| format!("cannot set the nice value of thread {thread}"))?;
    }
    Ok(())
}

/// Lets a thread run before all ordinary ones.
pub fn prefer(thread: Thread) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters outlive the call.
    if unsafe { libc::sched_setscheduler(thread, libc::SCHED_FIFO, &raw const parameters) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Lets the calling thread run only when nobody else wants to.
pub fn yield_to_all() -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the parameters outlive the call.
    match unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sets the nice value of a thread (0: the calling one, and what it starts from now on). With -20
/// it gets most of the time when others want to run too; every system gets the same, so it changes
/// nothing on a quiet machine.
pub fn set_nice(thread: Thread, nice: i32) -> io::Result<()> {
    // SAFETY: a system call without pointers.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, thread.cast_unsigned(), nice) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// The kernel threads that poll `interface` (threaded NAPI).
pub fn polling_threads(interface: &str) -> anyhow::Result<Vec<Thread>> {
    let prefix = format!("napi/{interface}-");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.starts_with(&prefix)) {
            found.push(process);
        }
    }
    if found.is_empty() {
        bail!("the kernel polls {interface} in no thread of its own: threaded NAPI did not come on");
    }
    Ok(found)
}

fn threads_of(process: Thread) -> Vec<Thread> {
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The thread of a process that has this name.
pub fn thread_named(process: Thread, name: &str) -> anyhow::Result<Thread> {
    let is_it = |thread: &Thread| {
        fs::read_to_string(format!("/proc/{process}/task/{thread}/comm")).is_ok_and(|comm| comm.trim() == name)
    };
    threads_of(process)
        .into_iter()
        .find(is_it)
        .with_context(|| format!("process {process} has no thread of the name {name}"))
}

/// Lets every thread of a process run as programs do that nobody has arranged anything for: on all
/// cores, with ordinary priority.
pub fn release(process: Thread) -> anyhow::Result<()> {
    set_urgency(process, Urgency::Measured)?;
    for thread in threads_of(process) {
        // SAFETY: all one bits is the set of all CPUs, of which the kernel takes those that there
        // are; it outlives the call.
        let result = unsafe {
            let mut set: libc::cpu_set_t = mem::zeroed();
            (&raw mut set).write_bytes(0xff, 1);
            libc::sched_setaffinity(thread, size_of::<libc::cpu_set_t>(), &raw const set)
        };
        if result != 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("cannot let thread {thread} go"));
        }
        set_nice(thread, 0).with_context(|| format!("cannot set the nice value of thread {thread}"))?;
    }
    Ok(())
}

/// Ties every thread of a process to a core.
pub fn pin_all(process: Thread, core: usize) -> anyhow::Result<()> {
    for thread in threads_of(process) {
        pin(thread, core).with_context(|| format!("cannot tie thread {thread} to core {core}"))?;
    }
    Ok(())
}

/// Nanoseconds that a thread of a process has run.
pub fn thread_time(process: Thread, thread: Thread) -> u64 {
    run_time(Path::new(&format!("/proc/{process}/task/{thread}")))
}

/// Nanoseconds that a thread has run.
fn run_time(thread: &Path) -> u64 {
    let text = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
    text.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Nanoseconds that all threads of a process have run. Threads that have ended are not counted.
pub fn process_time(process: Thread) -> u64 {
    let tasks = Path::new("/proc").join(process.to_string()).join("task");
    threads_of(process).into_iter().map(|thread| run_time(&tasks.join(thread.to_string()))).sum()
}

/// Hundredths of seconds that a core was not idle, and all that have passed.
fn core_ticks(core: usize) -> anyhow::Result<(u64, u64)> {
    let text = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    let name = format!("cpu{core} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name)).with_context(|| format!("no core {core}"))?;
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let all: u64 = ticks.iter().take(8).sum();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    Ok((all - idle, all))
}

/// Processor time and the clock at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Accounts {
    time: Instant,
    process: u64,
    receive: u64,
    core: (u64, u64),
    joules: Option<f64>,
}

/// What was used between two moments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Time that has passed.
    pub seconds: f64,
    /// Processor time of the system's process, in nanoseconds.
    pub process_time: u64,
    /// Processor time of the thread that polls the tracker's interface, in nanoseconds.
    pub receive_time: u64,
    /// How much of the tracker's core was not idle, whoever used it.
    pub core_busy: f64,
    /// Joules of the whole processor, or an estimate of the tracker's own ([`energy`]).
    pub joules: f64,
}

impl Accounts {
    pub fn take(core: usize, process: Option<Thread>, polling: &[Thread]) -> anyhow::Result<Self> {
        Ok(Self {
            joules: energy::measured(),
            core: core_ticks(core)?,
            process: process.map_or(0, process_time),
            receive: polling.iter().map(|&thread| process_time(thread)).sum(),
            time: Instant::now(),
        })
    }

    pub fn since(self, before: Self) -> Usage {
        let used = self.process - before.process + (self.receive - before.receive);
        let measured = self.joules.zip(before.joules).map(|(now, then)| now - then);
        Usage {
            joules: energy::joules(measured, used),
            seconds: (self.time - before.time).as_secs_f64(),
            process_time: self.process - before.process,
            receive_time: self.receive - before.receive,
            core_busy: (self.core.0 - before.core.0) as f64 / (self.core.1 - before.core.1).max(1) as f64,
        }
    }
}

/// The BPF maps that a process has open, by the kernel's numbers, and the bytes that they take (memlock).
pub fn maps_of(process: Thread) -> BTreeMap<u32, u64> {
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        // Other descriptors have a `memlock` too (programs): those are not maps.
        if let (Some(map), Some(memlock)) = (value("map_id:"), value("memlock:"))
            && let (Ok(map), Ok(memlock)) = (map.parse(), memlock.parse())
        {
            maps.insert(map, memlock);
        }
    }
    maps
}

/// Bytes a process takes, and the BPF maps it has open.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Footprint {
    /// What is resident in the process (Rss), its program and libraries included, whether others
    /// use these too or not. BPF maps that it has mapped are not part of it: they are counted as
    /// maps, once, and whole.
    pub process: u64,
    /// BPF maps, as the kernel accounts them (memlock).
    pub maps: u64,
}

impl Footprint {
    pub fn of(process: Thread) -> Self {
        let mappings = fs::read_to_string(format!("/proc/{process}/smaps")).unwrap_or_default();
        Self { process: resident(&mappings), maps: maps_of(process).values().sum() }
    }

    pub fn total(self) -> u64 {
        self.process + self.maps
    }
}

/// Bytes that are resident in a process, by its /proc/…/smaps, without BPF maps.
fn resident(smaps: &str) -> u64 {
    let (mut kilobytes, mut counts) = (0, true);
    for line in smaps.lines() {
        if let Some(size) = line.strip_prefix("Rss:") {
            if counts {
                kilobytes += size.trim().trim_end_matches(" kB").parse().unwrap_or(0);
            }
        } else if !line.split_whitespace().next().is_some_and(|word| word.ends_with(':')) {
            // The line that a mapping begins with: addresses, rights, offset, device, inode, and
            // what is mapped.
            counts = !line.ends_with("anon_inode:bpf-map");
        }
    }
    kilobytes * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_bpf_maps_are_no_part_of_the_process() {
        let text = "55d0-55d9 r-xp 00001000 fe:00 1183 /usr/bin/tracker\nSize: 40 kB\nRss:   36 kB\nPss: 12 kB\n";
        let heap = "7f00-7f80 rw-p 00000000 00:00 0 \nSize: 512 kB\nRss:       100 kB\nVmFlags: rd wr\n";
        let map = "7fa0-7fb0 rw-s 00000000 00:0f 8 anon_inode:bpf-map\nSize: 64 kB\nRss: 64 kB\n";
        for (smaps, kilobytes) in [
            (String::new(), 0),
            (text.to_owned(), 36),
            ([text, heap].concat(), 136),
            (map.to_owned(), 0),
            ([text, map, heap].concat(), 136),
        ] {
            assert_eq!(resident(&smaps), kilobytes * 1024, "{smaps}");
        }
    }
}
