//! Warnings of trouble that shows in counters only: the tracker is full, or packets are lost. A
//! thread reads the counters every second. Each kind of warning is logged at most once a minute,
//! with the number of events.
//!
//! The same thread logs when an address that was missing at the start has been configured.

use crate::{
    listen, logging,
    service::{Service, Shutdown},
    statistics::{PathCounters, Statistics},
};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tracker_common::outcome::{Event, StoreError};

/// How often the counters are read.
const INTERVAL: Duration = Duration::from_secs(1);

/// The shortest time between two warnings of a kind.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(60);

/// Kinds of trouble that are warned of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    TorrentsFull,
    MemoryFull,
    Evicted,
    TorrentsEvicted,
    AddressBusy,
    Lost,
}

impl Trouble {
    const ALL: [Trouble; 6] = [
        Trouble::TorrentsFull,
        Trouble::MemoryFull,
        Trouble::Evicted,
        Trouble::TorrentsEvicted,
        Trouble::AddressBusy,
        Trouble::Lost,
    ];

    /// How often it has happened. Counters that are pinned begin before the start.
    fn total(self, paths: &[PathCounters], lost: u64) -> u64 {
        let sum = |of: &dyn Fn(&PathCounters) -> u64| paths.iter().map(of).fold(0, u64::wrapping_add);
        match self {
            Trouble::TorrentsFull => sum(&|path| path.reason(StoreError::TorrentsFull)),
            Trouble::MemoryFull => sum(&|path| path.reason(StoreError::MemoryFull)),
            Trouble::Evicted => sum(&|path| path.event(Event::Evicted)),
            Trouble::TorrentsEvicted => sum(&|path| path.event(Event::TorrentEvicted)),
            Trouble::AddressBusy => sum(&|path| path.reason(StoreError::AddressBusy)),
            Trouble::Lost => lost,
        }
    }

    /// The warning, when it has happened `times`.
    fn text(self, times: u64) -> String {
        match self {
            Trouble::TorrentsFull => format!(
                "the tracker is full: {times} announces for new torrents were refused; raise --max-torrents or shorten \
                 --torrent-timeout"
            ),
            Trouble::MemoryFull => format!(
                "the tracker is full: {times} new peers were refused, there was no memory and nobody to evict; raise \
                 --max-peers or --max-peers-v6, or shorten --peer-timeout"
            ),
            Trouble::Evicted => format!(
                "the room for peers is used up: {times} peers were evicted in favour of newer ones; raise --max-peers or \
                 --max-peers-v6, or shorten --peer-timeout"
            ),
            Trouble::TorrentsEvicted => format!(
                "the room for torrents is used up: {times} torrents without peers or of one user alone gave way to new \
                 ones; raise --max-torrents or shorten --torrent-timeout"
            ),
            Trouble::AddressBusy => format!(
                "the tracker is nearly full: {times} announces were refused because their addresses ask for too much; \
                 somebody may be flooding it, or --max-torrents and --max-peers are too small"
            ),
            Trouble::Lost => format!(
                "{times} UDP packets were lost at the sockets: their receive buffers were full (or checksums wrong); \
                 larger buffers (sysctl net.core.rmem_max), more --udp-threads or XDP (--interface) take more"
            ),
        }
    }
}

/// Decides when a kind of trouble is worth a warning.
struct Alarm {
    trouble: Trouble,
    /// The total as of the last warning.
    said: u64,
    /// The last warning.
    at: Option<Instant>,
}

impl Alarm {
    /// Of what comes after this total.
    fn new(trouble: Trouble, total: u64) -> Self {
        Self { trouble, said: total, at: None }
    }

    /// How many times to warn of, if a warning is due.
    fn due(&mut self, total: u64, now: Instant) -> Option<u64> {
        let times = total.wrapping_sub(self.said);
        let recently = self.at.is_some_and(|at| now.duration_since(at) < SHORTEST_INTERVAL);
        if times == 0 || recently {
            return None;
        }
        self.said = total;
        self.at = Some(now);
        Some(times)
    }
}

/// Reads the counters and warns, in a thread of its own.
pub struct Warnings {
    statistics: Arc<Statistics>,
    missing: Vec<(&'static str, SocketAddr)>,
    alarms: [Alarm; Trouble::ALL.len()],
}

impl Warnings {
    /// Warns of what comes from now on: the tracker before has warned of what there was. `missing` are
    /// the addresses that this host did not have at the start, with their protocols.
    #[must_use]
    pub fn new(statistics: Arc<Statistics>, missing: Vec<(&'static str, SocketAddr)>) -> Self {
        let (paths, lost) = (statistics.paths(), statistics.udp_drops.total());
        let alarms = Trouble::ALL.map(|trouble| Alarm::new(trouble, trouble.total(&paths, lost)));
        Self { statistics, missing, alarms }
    }

    fn check(&mut self) {
        let now = Instant::now();
        let paths = self.statistics.paths();
        let lost = self.statistics.udp_drops.total();
        for alarm in &mut self.alarms {
            if let Some(times) = alarm.due(alarm.trouble.total(&paths, lost), now) {
                tracing::warn!("{}", alarm.trouble.text(times));
            }
        }
        self.missing.retain(|(protocol, address)| {
            let there = listen::address::is_there(*address);
            if there {
                tracing::info!("{protocol} {address}: the address is there now");
            }
            !there
        });
    }
}

impl Service for Warnings {
    fn name(&self) -> String {
        "warnings".into()
    }

    fn run(mut self, shutdown: &Shutdown) -> anyhow::Result<()> {
        while shutdown.sleep(INTERVAL) {
            self.check();
            logging::tell_repeats(false);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::NOTHING_COUNTED;
    use tracker_common::outcome::Counter;

    #[test]
    fn trouble_is_said_once_a_minute_with_all_that_has_come_meanwhile() {
        let begun = Instant::now();
        // From the start, and with what the tracker before has warned of.
        for before in [0, 100] {
            let mut alarm = Alarm::new(Trouble::Lost, before);
            for (second, total, expected) in [
                (0, 0, None),
                (1, 3, Some(3)),
                (2, 4, None),
                (60, 9, None),
                (61, 9, Some(6)),
                (62, 9, None),
                (300, 9, None),
                (301, 10, Some(1)),
            ] {
                let now = begun + Duration::from_secs(second);
                assert_eq!(alarm.due(before + total, now), expected, "{before} before, second {second}");
            }
        }
    }

    #[test]
    fn every_path_is_looked_at() {
        for (counter, trouble) in [
            (Counter::Reason(StoreError::TorrentsFull.into()), Trouble::TorrentsFull),
            (Counter::Reason(StoreError::MemoryFull.into()), Trouble::MemoryFull),
            (Counter::Event(Event::Evicted), Trouble::Evicted),
            (Counter::Event(Event::TorrentEvicted), Trouble::TorrentsEvicted),
            (Counter::Reason(StoreError::AddressBusy.into()), Trouble::AddressBusy),
        ] {
            let mut counters = NOTHING_COUNTED;
            counters[counter.index()] = 2;
            let paths = ["xdp", "http"].map(|path| PathCounters::new(path, path, &counters));
            for other in Trouble::ALL {
                let expected = if other == trouble { 4 } else { 0 };
                assert_eq!(other.total(&paths, 0), expected, "{other:?} of {counter:?}");
            }
        }
        assert_eq!(Trouble::Lost.total(&[], 5), 5);
    }
}
