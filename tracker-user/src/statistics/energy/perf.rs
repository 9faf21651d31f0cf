//! Energy as perf counts it: the events `energy-pkg` and `energy-psys` of the PMU `power`.

use std::{
    fs::{self, File},
    io::Read as _,
    os::fd::{FromRawFd as _, RawFd},
    path::Path,
};

/// The first version of `perf_event_attr` (linux/perf_event.h), which every kernel takes.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    others: [u64; 6],
}

/// `PERF_ATTR_SIZE_VER0`
const SIZE: u32 = 64;

const _: () = assert!(size_of::<Attributes>() == SIZE as usize);

/// `PERF_FLAG_FD_CLOEXEC`
const CLOSE_ON_EXEC: libc::c_ulong = 8;

/// A counter of one package.
pub(super) struct Counter {
    file: File,
    /// Joules of each count.
    scale: f64,
    last: u64,
}

impl Counter {
    /// Joules since it was read last.
    pub fn more(&mut self) -> f64 {
        let mut count = [0; 8];
        if self.file.read_exact(&mut count).is_err() {
            return 0.0;
        }
        let now = u64::from_ne_bytes(count);
        let more = now.saturating_sub(self.last);
        self.last = now;
        more as f64 * self.scale
    }
}

/// Counters of all packages, or of the whole machine where packages have none; empty if the kernel
/// has none or does not let this process count.
pub(super) fn open(pmu: &Path) -> Vec<Counter> {
    let text = |name: &str| fs::read_to_string(pmu.join(name)).ok();
    let Some(kind) = text("type").and_then(|text| text.trim().parse().ok()) else { return Vec::new() };
    let cpus = text("cpumask").map(|text| cpus(&text)).unwrap_or_default();
    let of = |event: &str| {
        let (config, scale) = (text(&format!("events/{event}"))?, text(&format!("events/{event}.scale"))?);
        let (config, scale) = (config_of(&config)?, scale.trim().parse().ok()?);
        let counters: Vec<_> = cpus.iter().filter_map(|cpu| counter(kind, config, *cpu, scale)).collect();
        (!counters.is_empty()).then_some(counters)
    };
    ["energy-pkg", "energy-psys"].into_iter().find_map(of).unwrap_or_default()
}

/// The number in `event=0x02`.
fn config_of(event: &str) -> Option<u64> {
    u64::from_str_radix(event.trim().strip_prefix("event=0x")?, 16).ok()
}

/// The processors in `0,32` or `0-1`: one of each package.
fn cpus(mask: &str) -> Vec<i32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    mask.trim().split(',').filter_map(range).flatten().collect()
}

fn counter(kind: u32, config: u64, cpu: i32, scale: f64) -> Option<Counter> {
    let attributes = Attributes { kind, size: SIZE, config, ..Attributes::default() };
    // SAFETY: the pointer is to a record of the size that stands in it, and outlives the call.
    let file = unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, cpu, -1, CLOSE_ON_EXEC) };
    let file = RawFd::try_from(file).ok().filter(|file| *file >= 0)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Some(Counter { file: unsafe { File::from_raw_fd(file) }, scale, last: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_events_is_understood() {
        for (text, expected) in [("event=0x02\n", Some(2)), ("event=0x1f", Some(31)), ("event=2", None), ("", None)] {
            assert_eq!(config_of(text), expected, "{text}");
        }
        let rows: [(&str, &[i32]); 5] =
            [("0\n", &[0]), ("0,32\n", &[0, 32]), ("0-2", &[0, 1, 2]), ("", &[]), ("x", &[])];
        for (text, expected) in rows {
            assert_eq!(cpus(text), expected, "{text}");
        }
        assert!(open(Path::new("/nowhere")).is_empty());
    }
}
