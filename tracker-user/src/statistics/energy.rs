//! The energy that the machine's processors take: measured where the kernel tells, which is as RAPL
//! zones below `/sys/class/powercap` or as the perf events of the PMU `power`; else estimated from the
//! time for which the processors were busy, and called so.
//!
//! It is that of the whole machine, since nobody can tell whose a joule is: what XDP does is in no
//! process's time. On a machine that does nothing else, divided by the announces of the same time, it
//! is what an announce takes, with its share of what the processors take when they wait.
//!
//! What is measured may be readable to root alone, so it is opened before privileges are given up.

mod perf;

use std::{
    collections::VecDeque,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Where the kernel shows RAPL.
pub const POWERCAP: &str = "/sys/class/powercap";

/// Where the kernel shows what perf can count.
pub const PMU: &str = "/sys/bus/event_source/devices/power";

/// Where the kernel says how long the processors were busy.
const BUSY: &str = "/proc/stat";

/// What a busy core is taken to need, in watts, where nothing is measured: the power for which
/// processors of servers are made is 4 to 10 W per core. An estimate is right to within a factor of
/// two at best.
pub const WATTS_PER_CORE: f64 = 7.0;

/// Seconds in which `/proc/stat` counts.
const TICK: f64 = 0.01;

/// A counter that stands still for so long measures nothing: virtual machines have such. Real ones
/// move on every millisecond.
const STANDSTILL: Duration = Duration::from_millis(20);

/// How energy is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// RAPL zones of the kernel.
    Rapl,
    /// perf's counters.
    Perf,
    /// The time for which the processors were busy, times [`WATTS_PER_CORE`].
    Estimate,
}

impl Method {
    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rapl => "rapl",
            Self::Perf => "perf",
            Self::Estimate => "estimate",
        }
    }

    /// Whether it is a measurement.
    #[must_use]
    pub const fn is_measured(self) -> bool {
        !matches!(self, Self::Estimate)
    }
}

/// What was taken so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Energy {
    /// How it is known.
    pub method: Method,
    /// Joules since the start.
    pub joules: f64,
    /// Joules per announce of the last minute; `None` if there was none.
    pub per_announce: Option<f64>,
}

/// A RAPL zone: a processor package, with all that is in it.
struct Zone {
    file: File,
    /// Microjoules when it was read last, and where the counter begins anew.
    last: u64,
    range: u64,
}

impl Zone {
    fn open(directory: &Path) -> Option<Self> {
        let name = fs::read_to_string(directory.join("name")).ok()?;
        if !name.starts_with("package") {
            return None;
        }
        let range = fs::read_to_string(directory.join("max_energy_range_uj")).ok()?.trim().parse().ok()?;
        let mut zone = Self { file: File::open(directory.join("energy_uj")).ok()?, last: 0, range };
        zone.last = zone.read()?;
        Some(zone)
    }

    fn read(&self) -> Option<u64> {
        let mut text = [0; 32];
        let length = self.file.read_at(&mut text, 0).ok()?;
        str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
    }

    /// Joules since it was read last.
    fn more(&mut self) -> f64 {
        let Some(now) = self.read() else { return 0.0 };
        let more = now.checked_sub(self.last).unwrap_or(now + self.range.saturating_sub(self.last));
        self.last = now;
        more as f64 / 1e6
    }
}

enum Source {
    Rapl(Vec<Zone>),
    Perf(Vec<perf::Counter>),
    /// Seconds for which the processors had been busy when that was read last.
    Busy(File, f64),
    Nothing,
}

impl Source {
    fn method(&self) -> Method {
        match self {
            Self::Rapl(_) => Method::Rapl,
            Self::Perf(_) => Method::Perf,
            Self::Busy(..) | Self::Nothing => Method::Estimate,
        }
    }

    /// Joules since it was asked last.
    fn more(&mut self) -> f64 {
        match self {
            Self::Rapl(zones) => zones.iter_mut().map(Zone::more).sum(),
            Self::Perf(counters) => counters.iter_mut().map(perf::Counter::more).sum(),
            Self::Busy(file, last) => {
                let Some(now) = busy_seconds(file) else { return 0.0 };
                // Time that was given to guests may be taken back.
                let more = (now - *last).max(0.0);
                *last = now;
                more * WATTS_PER_CORE
            }
            Self::Nothing => 0.0,
        }
    }
}

/// The time for which all processors together were busy.
fn busy_seconds(stat: &File) -> Option<f64> {
    let mut text = [0; 256];
    let length = stat.read_at(&mut text, 0).ok()?;
    busy(&String::from_utf8_lossy(&text[..length]))
}

/// The same from the first line of `/proc/stat`: user, nice, system, and behind idle and iowait the
/// time of interrupts and software interrupts, among which is XDP.
fn busy(stat: &str) -> Option<f64> {
    let mut fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let ticks: Vec<u64> = fields.by_ref().take(7).map_while(|field| field.parse().ok()).collect();
    let [user, nice, system, _, _, interrupts, soft] = *ticks.first_chunk()?;
    Some((user + nice + system + interrupts + soft) as f64 * TICK)
}

/// Samples that joules per announce are taken over: a minute.
const SAMPLES: usize = 61;

/// Reads the energy; shared by all threads.
pub struct Meter(Mutex<Reading>);

struct Reading {
    source: Source,
    joules: f64,
    /// Joules and announces, once a second.
    samples: VecDeque<(f64, u64)>,
}

impl Meter {
    /// The best that there is on this machine.
    #[must_use]
    pub fn open() -> Self {
        Self::of([POWERCAP, PMU, BUSY].map(Path::new), || std::thread::sleep(STANDSTILL))
    }

    /// The same with other directories in the place of [`POWERCAP`] and [`PMU`], and another file in
    /// that of `/proc/stat`. After `wait` a counter has to have moved on.
    #[must_use]
    pub fn of([powercap, pmu, stat]: [&Path; 3], wait: impl Fn()) -> Self {
        let rapl = || moves(Source::Rapl(zones(powercap)), &wait);
        let perf = || moves(Source::Perf(perf::open(pmu)), &wait);
        let busy = || {
            let file = File::open(stat).ok()?;
            let last = busy_seconds(&file)?;
            Some(Source::Busy(file, last))
        };
        let source = rapl().or_else(perf).or_else(busy).unwrap_or(Source::Nothing);
        Self(Mutex::new(Reading { source, joules: 0.0, samples: VecDeque::new() }))
    }

    /// What was taken since the start, with `announces` as they are counted by now.
    #[must_use]
    pub fn read(&self, announces: u64) -> Energy {
        let mut reading = self.reading();
        reading.update();
        let per_announce = reading.samples.front().and_then(|(joules, before)| {
            let more = announces.saturating_sub(*before);
            (more > 0).then(|| (reading.joules - joules) / more as f64)
        });
        Energy { method: reading.source.method(), joules: reading.joules, per_announce }
    }

    /// Remembers the present figures; to be called once a second.
    pub fn sample(&self, announces: u64) {
        let mut reading = self.reading();
        reading.update();
        if reading.samples.len() == SAMPLES {
            reading.samples.pop_front();
        }
        let sample = (reading.joules, announces);
        reading.samples.push_back(sample);
    }

    fn reading(&self) -> MutexGuard<'_, Reading> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    fn update(&mut self) {
        self.joules += self.source.more();
    }
}

/// The packages below a directory. Zones within them have two numbers, and are counted with them.
fn zones(powercap: &Path) -> Vec<Zone> {
    let Ok(entries) = fs::read_dir(powercap) else { return Vec::new() };
    let zones = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("intel-rapl:"));
    zones.filter_map(|entry| Zone::open(&entry.path())).collect()
}

/// The source, if it counts anything.
fn moves(mut source: Source, wait: impl Fn()) -> Option<Source> {
    let empty = match &source {
        Source::Rapl(zones) => zones.is_empty(),
        Source::Perf(counters) => counters.is_empty(),
        Source::Busy(..) | Source::Nothing => true,
    };
    if empty {
        return None;
    }
    wait();
    (source.more() > 0.0).then_some(source)
}

/// Where energy is measured on this machine; `None` if it can only be estimated. Takes some
/// milliseconds.
#[must_use]
pub fn measured_by() -> Option<Method> {
    Some(Meter::open().reading().source.method()).filter(|method| method.is_measured())
}

#[cfg(test)]
mod tests;
