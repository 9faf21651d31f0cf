//! `/stats?mode=…` in the formats of opentracker, so that what people have built on them goes on
//! working. Most modes are for MRTG: two figures, the uptime, a title.
//!
//! Where the two trackers differ in what there is to count: `udp` counts the XDP program and the
//! sockets together and both address families, as opentracker's does; an accept is a TCP connection
//! or a UDP request; `top10` and `top100` rank the swarms as of the last sweep; nothing is ever
//! stalled by a mutex; `syncs` is what was received by livesync. `numwants` counts announces by
//! HTTP, as opentracker's does. What would have to be counted by network for every packet (`busy`,
//! `woodpeckers`), and what would keep requests (`fulllog`), is answered as by an opentracker that was
//! built without it: status 500.

mod errors;
pub mod networks;
#[cfg(test)]
mod tests;

use crate::{
    http::{
        counters::HttpEvent,
        tracker::{Format, counters::TrackerEvent},
    },
    statistics::{Renewals, Snapshot},
    store::totals::{TopSwarm, Totals},
};
use errors::http_errors;
use std::fmt::Write as _;
use tracker_common::outcome::{Event, Reason, RequestReason, StoreError};

/// The media type of what [`write()`] makes.
pub const CONTENT_TYPE: &str = "text/plain";

/// The modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Peers, seeders.
    Peer,
    /// Connections and requests.
    Conn,
    /// Scrapes by TCP and UDP.
    Scrp,
    /// UDP requests.
    Udp4,
    /// TCP connections.
    Tcp4,
    /// Torrents.
    Torr,
    /// Full scrapes.
    Fscr,
    /// Completed downloads.
    Completed,
    /// The ten largest swarms.
    Top10,
    /// The hundred largest swarms.
    Top100,
    /// Returning peers by minutes since their last announce.
    Renew,
    /// HTTP errors.
    Herr,
    /// All figures, as XML.
    Everything,
    /// The version.
    Version,
    /// Records received by livesync.
    Syncs,
    /// Announces by HTTP, by how many peers they want.
    Numwants,
}

/// What a mode asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    /// Figures.
    Figures(Mode),
    /// All torrents, in the format that the query names.
    Torrents,
    /// All torrents, as lines of a state file.
    State,
    /// The networks with the most peers.
    Networks,
    /// What is not counted here.
    Unavailable,
}

/// The modes that are no figures.
const OTHERS: [(&str, Page); 6] = [
    ("s24s", Page::Networks),
    ("tpbs", Page::Torrents),
    ("statedump", Page::State),
    ("busy", Page::Unavailable),
    ("fulllog", Page::Unavailable),
    ("woodpeckers", Page::Unavailable),
];

impl Page {
    /// The names of all modes.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Mode::ALL.iter().map(|(name, _)| *name).chain(OTHERS.map(|(name, _)| name))
    }

    /// What the mode of that name asks for.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        let other = || OTHERS.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, page)| *page);
        Mode::named(name).map(Self::Figures).or_else(other)
    }

    /// The format in which all torrents are listed, if they are.
    #[must_use]
    pub const fn format(self, asked: Option<Format>) -> Option<Format> {
        match (self, asked) {
            (Self::Torrents, Some(format)) => Some(format),
            (Self::Torrents, None) => Some(Format::Bencoded),
            (Self::State, _) => Some(Format::State),
            (Self::Figures(_) | Self::Networks | Self::Unavailable, _) => None,
        }
    }
}

impl Mode {
    /// All of them, with their names in the query.
    pub const ALL: &'static [(&'static str, Mode)] = &[
        ("peer", Mode::Peer),
        ("conn", Mode::Conn),
        ("scrp", Mode::Scrp),
        ("udp4", Mode::Udp4),
        ("tcp4", Mode::Tcp4),
        ("torr", Mode::Torr),
        ("fscr", Mode::Fscr),
        ("completed", Mode::Completed),
        ("top10", Mode::Top10),
        ("top100", Mode::Top100),
        ("renew", Mode::Renew),
        ("herr", Mode::Herr),
        ("everything", Mode::Everything),
        ("version", Mode::Version),
        ("syncs", Mode::Syncs),
        ("numwants", Mode::Numwants),
    ];

    /// The mode of that name.
    #[must_use]
    pub fn named(name: &[u8]) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| known.as_bytes() == name).map(|(_, mode)| *mode)
    }
}

/// The figures that several modes show.
struct Figures {
    tcp_accepted: u64,
    tcp_announces: u64,
    tcp_scrapes: u64,
    udp_requests: u64,
    udp_connects: u64,
    udp_announces: u64,
    udp_scrapes: u64,
    mismatches: u64,
    full_scrapes: u64,
    syncs: u64,
}

impl Figures {
    fn of(snapshot: &Snapshot) -> Self {
        let http = &snapshot.http;
        let tcp = |events: [Event; 2]| {
            let of_http = snapshot.paths.iter().filter(|path| path.label == crate::store::CounterSet::Http.label());
            of_http.flat_map(|path| events.map(|event| path.event(event))).sum::<u64>()
        };
        let udp =
            |events: [Event; 2]| snapshot.udp().flat_map(|path| events.map(|event| path.event(event))).sum::<u64>();
        let refused = |reason: Reason| snapshot.udp().map(|path| path.reason(reason)).sum::<u64>();
        let udp_connects = udp([Event::Connect4, Event::Connect6]);
        let udp_announces = udp([Event::Announce4, Event::Announce6]);
        let udp_scrapes = udp([Event::Scrape4, Event::Scrape6]);
        // What arrived at the tracker's ports, and not what the XDP program left to others.
        let unanswered: u64 = [
            Reason::Request(RequestReason::TooShort),
            Reason::Request(RequestReason::BadMagic),
            Reason::Request(RequestReason::UnknownAction),
            Reason::Request(RequestReason::ConnectionIdWrong),
            Reason::Request(RequestReason::PortZero),
            Reason::Request(RequestReason::ConnectsLimited),
            Reason::Request(RequestReason::AnnouncesLimited),
            Reason::Request(RequestReason::ScrapesLimited),
            Reason::Request(RequestReason::ErrorHeldBack),
            Reason::Store(StoreError::TorrentsFull),
            Reason::Store(StoreError::MemoryFull),
            Reason::Store(StoreError::Denied),
            Reason::Store(StoreError::NotAllowed),
            Reason::Store(StoreError::AddressBusy),
        ]
        .map(refused)
        .iter()
        .sum();
        Self {
            tcp_accepted: http.engine.event(HttpEvent::Accepted),
            tcp_announces: tcp([Event::Announce4, Event::Announce6]),
            tcp_scrapes: tcp([Event::Scrape4, Event::Scrape6]),
            udp_requests: udp_connects + udp_announces + udp_scrapes + unanswered,
            udp_connects,
            udp_announces,
            udp_scrapes,
            mismatches: refused(RequestReason::ConnectionIdWrong.into()) + refused(RequestReason::ErrorHeldBack.into()),
            full_scrapes: http.tracker.event(TrackerEvent::FullScrapeBegun),
            syncs: snapshot.cluster.as_ref().map_or(0, |cluster| cluster.livesync_received),
        }
    }

    fn accepted(&self) -> u64 {
        self.tcp_accepted + self.udp_requests
    }

    fn succeeded(&self) -> u64 {
        self.tcp_announces + self.udp_announces + self.udp_connects
    }
}

/// Writes the snapshot in one mode.
#[must_use]
pub fn write(snapshot: &Snapshot, mode: Mode) -> String {
    let figures = Figures::of(snapshot);
    let seconds = snapshot.uptime.as_secs();
    let hours = seconds / 3600;
    let per_second = |count: u64| count / seconds.max(1);
    let uptime = format!("{seconds} seconds ({hours} hours)");
    let connections = |title: &str, accepted: u64, succeeded: u64| {
        format!(
            "{accepted}\n{succeeded}\n{uptime}\nopentracker {title}, {} conns/s :: {} success/s.",
            per_second(accepted),
            per_second(succeeded)
        )
    };
    match mode {
        Mode::Peer => format!(
            "{}\n{}\nopentracker serving {} torrents\nopentracker",
            snapshot.peers(),
            snapshot.totals.seeders,
            snapshot.torrents
        ),
        Mode::Conn => connections("connections", figures.accepted(), figures.succeeded()),
        Mode::Scrp => format!(
            "{}\n{}\n{uptime}\nopentracker scrape stats, {} scrape/s (tcp and udp)",
            figures.tcp_scrapes,
            figures.udp_scrapes,
            per_second(figures.tcp_scrapes + figures.udp_scrapes)
        ),
        Mode::Udp4 => connections("udp4 stats", figures.udp_requests, figures.udp_announces + figures.udp_connects),
        Mode::Tcp4 => connections("tcp4 stats", figures.tcp_accepted, figures.tcp_announces),
        Mode::Torr => format!("{0}\n0\nopentracker serving {0} torrents\nopentracker", snapshot.torrents),
        Mode::Fscr => {
            let bytes = snapshot.http.tracker.event(TrackerEvent::FullScrapeBytes);
            format!(
                "{}\n{bytes}\n{uptime}\nopentracker full scrape stats, {} conns/s :: {} bytes/s.",
                figures.full_scrapes * 1000,
                per_second(figures.full_scrapes),
                per_second(bytes)
            )
        }
        Mode::Completed => {
            let completed = snapshot.event(Event::Completed);
            format!("{completed}\n0\n{uptime}\nopentracker, {} completed/h.", completed / hours.max(1))
        }
        Mode::Top10 => top(&snapshot.totals, 10),
        Mode::Top100 => top(&snapshot.totals, 100),
        Mode::Renew => renew(&snapshot.renewals),
        Mode::Herr => {
            let errors = http_errors(snapshot);
            let names = ["302 RED", "400 ...", "400 PAR", "400 COM", "403 IP ", "404 INV", "500 SRV"];
            let counts = [errors[0], errors[1], errors[2], errors[3], errors[6], errors[7], errors[8]];
            names.iter().zip(counts).fold(String::new(), |mut lines, (name, (_, count))| {
                // Writing into a string cannot fail.
                let _ = writeln!(lines, "{name} {count}");
                lines
            })
        }
        Mode::Everything => everything(snapshot, &figures),
        Mode::Version => version(),
        Mode::Syncs => {
            let (accepted, succeeded) = (per_second(figures.accepted()), per_second(figures.succeeded()));
            let syncs = figures.syncs;
            format!("{syncs}\n0\n{uptime}\nopentracker connections, {accepted} conns/s :: {succeeded} success/s.")
        }
        Mode::Numwants => {
            snapshot.http.wanted.iter().enumerate().fold(String::new(), |mut lines, (number, count)| {
                // Writing into a string cannot fail.
                let _ = writeln!(lines, "{number:03} => {count}");
                lines
            })
        }
    }
}

fn version() -> String {
    format!("tracker {}\n", env!("CARGO_PKG_VERSION"))
}

/// Lists by peers, seeders and leechers.
fn top(totals: &Totals, amount: usize) -> String {
    type Size = fn(&TopSwarm) -> u64;
    let lists: [(&str, &[TopSwarm], Size); 3] = [
        ("peers", &totals.top, |swarm| u64::from(swarm.counts.seeders) + u64::from(swarm.counts.leechers)),
        ("seeds", &totals.top_seeders, |swarm| swarm.counts.seeders.into()),
        ("leechers", &totals.top_leechers, |swarm| swarm.counts.leechers.into()),
    ];
    let mut lines = String::new();
    for (name, swarms, size) in lists {
        let _ = writeln!(lines, "Top {amount} torrents by {name}:");
        for swarm in swarms.iter().take(amount) {
            let _ = write!(lines, "\t{}\t", size(swarm));
            for byte in swarm.info_hash {
                let _ = write!(lines, "{byte:02X}");
            }
            lines.push('\n');
        }
    }
    lines
}

/// One line per minute; zeros where returning peers are not counted.
fn renew(renewals: &Renewals) -> String {
    let mut lines = String::new();
    for (minute, count) in renewals.iter().enumerate() {
        let _ = writeln!(lines, "{minute:02} {count}");
    }
    lines
}

fn everything(snapshot: &Snapshot, figures: &Figures) -> String {
    let mut renewals = String::new();
    for (minute, count) in snapshot.renewals.iter().enumerate() {
        let _ = writeln!(renewals, "      <count interval=\"{minute:02}\">{count}</count>");
    }
    let mut errors = String::new();
    for (code, count) in http_errors(snapshot) {
        let _ = writeln!(errors, "      <count code=\"{code}\">{count}</count>");
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<stats>
  <tracker_id>{id}</tracker_id>
  <version>
{version}  </version>
  <uptime>{uptime}</uptime>
  <torrents>
    <count_mutex>{torrents}</count_mutex>
    <count_iterator>{torrents}</count_iterator>
  </torrents>
  <peers>
    <count>{peers}</count>
  </peers>
  <seeds>
    <count>{seeders}</count>
  </seeds>
  <completed>
    <count>{completed}</count>
  </completed>
  <connections>
    <tcp>
      <accept>{tcp_accepted}</accept>
      <announce>{tcp_announces}</announce>
      <scrape>{tcp_scrapes}</scrape>
    </tcp>
    <udp>
      <overall>{udp_requests}</overall>
      <connect>{udp_connects}</connect>
      <announce>{udp_announces}</announce>
      <scrape>{udp_scrapes}</scrape>
      <missmatch>{mismatches}</missmatch>
    </udp>
    <livesync>
      <count>{syncs}</count>
    </livesync>
  </connections>
  <debug>
    <renew>
{renewals}    </renew>
    <http_error>
{errors}    </http_error>
    <mutex_stall>
      <count>0</count>
    </mutex_stall>
  </debug>
</stats>",
        id = std::process::id(),
        version = version(),
        uptime = snapshot.uptime.as_secs(),
        torrents = snapshot.torrents,
        peers = snapshot.peers(),
        seeders = snapshot.totals.seeders,
        completed = snapshot.event(Event::Completed),
        tcp_accepted = figures.tcp_accepted,
        tcp_announces = figures.tcp_announces,
        tcp_scrapes = figures.tcp_scrapes,
        udp_requests = figures.udp_requests,
        udp_connects = figures.udp_connects,
        udp_announces = figures.udp_announces,
        udp_scrapes = figures.udp_scrapes,
        mismatches = figures.mismatches,
        syncs = figures.syncs,
    )
}
