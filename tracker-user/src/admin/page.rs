//! The statistics for people: `/stats` as plain text.

use crate::{
    http::{
        counters::HttpEvent,
        failure::HttpFailure,
        tracker::{counters::TrackerEvent, failure::NOT_FOUND},
    },
    statistics::{Snapshot, energy::Energy, rates::Rate},
    store::CounterSet,
    text::human_bytes,
};
use std::fmt::{self, Write as _};
use tracker_common::outcome::{Event, Reason};

/// Writes the snapshot.
#[must_use]
pub fn write(snapshot: &Snapshot) -> String {
    let mut page = String::with_capacity(8 << 10);
    // Writing into a string cannot fail.
    let _ = sections(&mut page, snapshot);
    page
}

fn sections(page: &mut String, snapshot: &Snapshot) -> fmt::Result {
    writeln!(page, "tracker {}, up {}", env!("CARGO_PKG_VERSION"), Span(snapshot.uptime.as_secs()))?;

    writeln!(page, "\nSwarms")?;
    let totals = &snapshot.totals;
    row(page, snapshot.torrents, "torrents")?;
    row(page, snapshot.peers_v4, "IPv4 peers")?;
    row(page, snapshot.peers_v6, "IPv6 peers")?;
    if totals.sweeps > 0 {
        writeln!(page, "\nSwarms, as counted within the last minute or two")?;
        row(page, totals.torrents_with_peers, "torrents with peers")?;
        row(page, totals.seeders, "seeders")?;
        row(page, totals.leechers, "leechers")?;
        row(page, totals.completed, "downloads completed in the torrents stored")?;
        writeln!(
            page,
            "{:>20.3}  seconds of processor time for counting them and removing what has expired",
            totals.sweep_seconds
        )?;
    }

    writeln!(page, "\nPer second{:>22} {:>15}", "last 10 s", "last minute")?;
    for ((rate, short), long) in Rate::ALL.iter().zip(snapshot.rates_10).zip(snapshot.rates_60) {
        writeln!(page, "{:<20}{short:>12.1} {long:>15.1}", rate.name())?;
    }

    writeln!(page, "\nInterfaces")?;
    if snapshot.interfaces.is_empty() {
        writeln!(page, "XDP runs on none; sockets answer everything")?;
    }
    for interface in &snapshot.interfaces {
        write!(page, "{:<20}{}", interface.name, interface.mode)?;
        writeln!(page, "{}{}", if interface.note.is_empty() { "" } else { ": " }, interface.note)?;
    }

    writeln!(page, "\nMemory")?;
    for fill in &snapshot.fill {
        let percent = if fill.limit == 0 { 0.0 } else { fill.used as f64 * 100.0 / fill.limit as f64 };
        row(
            page,
            fill.used,
            &format!("of {} {} ({percent:.1} %), {}", fill.limit, fill.name, human_bytes(fill.bytes)),
        )?;
    }
    writeln!(page, "{:>20}  the whole store", human_bytes(snapshot.store_bytes))?;
    if let Some(bytes) = snapshot.process.resident_bytes {
        writeln!(page, "{:>20}  resident memory of the process", human_bytes(bytes))?;
    }
    if let Some(seconds) = snapshot.process.cpu_seconds {
        writeln!(page, "{seconds:>20.2}  seconds of processor time since the start")?;
    }
    if let Some(Energy { method, joules, per_announce }) = snapshot.energy {
        let how = if method.is_measured() { "measured" } else { "estimated" };
        writeln!(page, "{joules:>20.1}  joules of the machine's processors since the start, {how}")?;
        if let Some(joules) = per_announce {
            writeln!(page, "{joules:>20.6}  joules per announce in the last minute, {how}")?;
        }
    }

    for path in &snapshot.paths {
        writeln!(page, "\nSince the start, {}", path.name)?;
        let events = Event::ALL.iter().map(|event| (path.event(*event), event.text()));
        let reasons = Reason::all().map(|reason| (path.reason(reason), reason.text()));
        let lists =
            snapshot.block_lists.iter().map(|list| (path.blocked(list), format!("of these by the list {}", list.name)));
        let lists: Vec<_> = lists.collect();
        let drops = if path.label == CounterSet::Udp.label() { snapshot.udp_drops } else { 0 };
        let lists = lists.iter().map(|(count, text)| (*count, text.as_str()));
        nonzero(
            page,
            events.chain(reasons).chain(lists).chain([(drops, "packets that the kernel dropped at the sockets")]),
        )?;
    }

    writeln!(page, "\nSince the start, HTTP connections and requests")?;
    let http = &snapshot.http;
    row(page, http.engine.open(), "connections open now")?;
    let full_scrapes = [TrackerEvent::FullScrapeBytes, TrackerEvent::FullScrapeTimeout];
    let (connections, memory) = HttpEvent::ALL.split_at(HttpEvent::MemoryExceeded as usize);
    let engine = |events: &'static [HttpEvent]| events.iter().map(|event| http.engine.labelled(*event));
    let rows = engine(connections)
        .chain(full_scrapes.map(|event| http.tracker.labelled(event)))
        .chain(engine(memory))
        .chain([http.tracker.labelled(TrackerEvent::Proxied)])
        .chain(http.requests())
        .chain(http.failures());
    nonzero(
        page,
        rows.map(|row| (row.count, if row.text == HttpFailure::NotFound.text() { NOT_FOUND } else { row.text })),
    )?;

    writeln!(page, "\nAlso: /stats?mode=everything and opentracker's other modes, /metrics for Prometheus.")
}

/// A figure and what it means.
fn row(page: &mut String, figure: u64, text: &str) -> fmt::Result {
    writeln!(page, "{figure:>20}  {text}")
}

/// The figures that are not zero.
fn nonzero<'a>(page: &mut String, rows: impl Iterator<Item = (u64, &'a str)>) -> fmt::Result {
    let mut none = true;
    for (figure, text) in rows.filter(|(figure, _)| *figure != 0) {
        row(page, figure, text)?;
        none = false;
    }
    if none { writeln!(page, "{:>20}", "nothing") } else { Ok(()) }
}

/// A span of time in seconds, as people say it.
struct Span(u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(seconds) = *self;
        match seconds / 86400 {
            0 => {}
            1 => write!(f, "1 day, ")?,
            days => write!(f, "{days} days, ")?,
        }
        write!(f, "{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::snapshot::tests::example;

    #[test]
    fn the_page_says_what_is_asked_of_it() {
        let page = write(&example());
        for part in [
            "up 2 days, 03:01:01",
            "   3  torrents\n",
            "  20  IPv4 peers\n",
            "   1  IPv6 peers\n",
            "  12  seeders\n",
            "   9  leechers\n",
            "of 12 torrents (25.0 %), 1.5 KiB",
            "5.0 MiB  the whole store",
            "3.0 MiB  resident memory",
            "    12.5  joules of the machine's processors since the start, estimated",
            "0.250000  joules per announce in the last minute, estimated",
            "generic: the driver has no native XDP",
            "1000  IPv4 connect answered",
            "  17  packets that the kernel dropped at the sockets",
            "   7  IPv4 announce answered",
            "   1  Port 0 is not valid",
            "Since the start, expiry\n             nothing",
        ] {
            assert!(page.contains(part), "{part:?} is missing in:\n{page}");
        }
    }

    #[test]
    fn spans_read_well() {
        assert_eq!(Span(59).to_string(), "00:00:59");
        assert_eq!(Span(86400).to_string(), "1 day, 00:00:00");
    }
}
