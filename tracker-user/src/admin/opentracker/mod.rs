//! `/stats?mode=…` in the formats of opentracker, so that what people have built on them goes on
//! working. Most modes are for MRTG: two figures, the uptime, a title.
//!
//! Where the two trackers differ in what there is to count: `udp` counts the XDP program and the
//! sockets together and both address families, as opentracker's does; an accept is a TCP connection
//! or a UDP request; `top10` and `top100` rank the largest swarms of the last sweep; nothing is
//! ever stalled by a mutex, and there is no livesync.

mod errors;

use crate::{
    http::{counters::HttpEvent, tracker::counters::TrackerEvent},
    statistics::{Renewals, Snapshot},
    store::totals::TopSwarm,
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
            mismatches: refused(RequestReason::ConnectionIdWrong.into()),
            full_scrapes: http.tracker.event(TrackerEvent::FullScrape),
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
        Mode::Top10 => top(&snapshot.totals.top, 10),
        Mode::Top100 => top(&snapshot.totals.top, 100),
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
    }
}

fn version() -> String {
    format!("tracker {}\n", env!("CARGO_PKG_VERSION"))
}

/// Lists by peers, seeders and leechers. All three draw on the swarms with the most peers, which is
/// exact for the first list.
fn top(swarms: &[TopSwarm], amount: usize) -> String {
    let mut lines = String::new();
    for (name, seeders, leechers) in [("peers", 1, 1), ("seeds", 1, 0), ("leechers", 0, 1)] {
        let _ = writeln!(lines, "Top {amount} torrents by {name}:");
        let size =
            |swarm: &TopSwarm| u64::from(swarm.counts.seeders) * seeders + u64::from(swarm.counts.leechers) * leechers;
        let mut ranked: Vec<_> =
            swarms.iter().map(|swarm| (size(swarm), swarm)).filter(|(size, _)| *size > 0).collect();
        ranked.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        for (size, swarm) in ranked.into_iter().take(amount) {
            let _ = write!(lines, "\t{size}\t");
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
      <count>0</count>
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
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::snapshot::tests::example;

    fn lines(mode: Mode) -> Vec<String> {
        write(&example(), mode).lines().map(str::to_owned).collect()
    }

    #[test]
    fn mrtg_modes_have_two_figures_an_uptime_and_a_title() {
        let rows: &[(Mode, [&str; 4])] = &[
            (Mode::Peer, ["21", "12", "opentracker serving 3 torrents", "opentracker"]),
            (Mode::Torr, ["3", "0", "opentracker serving 3 torrents", "opentracker"]),
            (Mode::Tcp4, ["16", "7", "183661 seconds (51 hours)", "opentracker tcp4 stats, 0 conns/s :: 0 success/s."]),
            (
                Mode::Scrp,
                ["2", "2218", "183661 seconds (51 hours)", "opentracker scrape stats, 0 scrape/s (tcp and udp)"],
            ),
        ];
        for (mode, expected) in rows {
            assert_eq!(lines(*mode), expected, "{mode:?}");
        }
        for mode in [Mode::Conn, Mode::Udp4, Mode::Fscr, Mode::Completed] {
            let lines = lines(mode);
            assert_eq!(lines.len(), 4, "{mode:?}");
            for line in &lines[..2] {
                line.parse::<u64>().unwrap_or_else(|_| panic!("{mode:?} begins with two numbers, not {line}"));
            }
            assert_eq!(lines[2], "183661 seconds (51 hours)");
            assert!(lines[3].starts_with("opentracker"));
        }
    }

    #[test]
    fn largest_swarms_are_ranked_three_times() {
        let (ab, oc, ff) = ("AB".repeat(20), "0C".repeat(20), "FF".repeat(20));
        let expected = format!(
            "Top 10 torrents by peers:\n\t12\t{ab}\n\t7\t{oc}\n\t2\t{ff}\n\
             Top 10 torrents by seeds:\n\t7\t{oc}\n\t4\t{ab}\n\t1\t{ff}\n\
             Top 10 torrents by leechers:\n\t8\t{ab}\n\t1\t{ff}\n"
        );
        assert_eq!(write(&example(), Mode::Top10), expected);
        assert!(write(&example(), Mode::Top100).starts_with("Top 100 torrents by peers:\n"));
    }

    #[test]
    fn returning_peers_are_45_lines() {
        let mut snapshot = example();
        assert_eq!(write(&snapshot, Mode::Renew).lines().count(), 45);
        assert!(write(&snapshot, Mode::Renew).starts_with("00 0\n01 0\n"));
        snapshot.renewals = std::array::from_fn(|minute| minute as u64);
        assert!(write(&snapshot, Mode::Renew).ends_with("\n43 43\n44 44\n"));
        assert!(write(&snapshot, Mode::Everything).contains("      <count interval=\"44\">44</count>\n"));
    }

    #[test]
    fn errors_have_opentrackers_names() {
        assert_eq!(lines(Mode::Herr)[2], "400 PAR 1");
        assert!(write(&example(), Mode::Everything).contains("<count code=\"400 Invalid Parameter\">1</count>"));
    }

    #[test]
    fn everything_is_balanced_xml() {
        let page = write(&example(), Mode::Everything);
        let mut open = Vec::new();
        for tag in page.split('<').skip(1).filter_map(|part| part.split('>').next()) {
            match tag.as_bytes()[0] {
                b'?' => {}
                b'/' => assert_eq!(open.pop(), Some(&tag[1..])),
                _ => open.push(tag.split(' ').next().expect("a name")),
            }
        }
        assert_eq!(open, Vec::<&str>::new());
    }

    #[test]
    fn modes_are_found_by_their_exact_names() {
        for (name, mode) in Mode::ALL {
            assert_eq!(Mode::named(name.as_bytes()), Some(*mode));
        }
        for name in ["", "Peer", "peers", "busy", "top1000"] {
            assert_eq!(Mode::named(name.as_bytes()), None, "{name}");
        }
    }
}
