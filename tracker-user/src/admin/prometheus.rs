//! The statistics for Prometheus: its text format 0.0.4, with names as Prometheus and OpenMetrics
//! want them (base units, `_total` behind counters, one unit and one meaning per name, what differs
//! in labels).

use crate::{
    http::{counters::HttpEvent, tracker::counters::TrackerEvent},
    statistics::{PathCounters, Snapshot},
};
use std::fmt::{Display, Write as _};
use tracker_common::outcome::{Event, Reason};

/// The media type of what [`write()`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A metric of the counters that all paths have, and what distinguishes its events.
struct Metric {
    name: &'static str,
    help: &'static str,
    labels: &'static [(&'static str, &'static str)],
}

/// Which metric an event belongs to.
const fn metric(event: Event) -> Metric {
    const REQUESTS: (&str, &str) = ("tracker_requests_answered_total", "Requests answered as asked.");
    const ERRORS: (&str, &str) =
        ("tracker_requests_failed_total", "Requests answered with an error or a failure reason.");
    const ADDED: (&str, &str) = ("tracker_peers_added_total", "Peers stored for the first time.");
    const REMOVED: (&str, &str) = ("tracker_peers_removed_total", "Peers that stopped, expired or were evicted.");
    const V4: (&str, &str) = ("family", "ipv4");
    const V6: (&str, &str) = ("family", "ipv6");
    const CONNECT: (&str, &str) = ("request", "connect");
    const ANNOUNCE: (&str, &str) = ("request", "announce");
    const SCRAPE: (&str, &str) = ("request", "scrape");
    type Row = ((&'static str, &'static str), &'static [(&'static str, &'static str)]);
    let ((name, help), labels): Row = match event {
        Event::Connect4 => (REQUESTS, &[CONNECT, V4]),
        Event::Connect6 => (REQUESTS, &[CONNECT, V6]),
        Event::Announce4 => (REQUESTS, &[ANNOUNCE, V4]),
        Event::Announce6 => (REQUESTS, &[ANNOUNCE, V6]),
        Event::Scrape4 => (REQUESTS, &[SCRAPE, V4]),
        Event::Scrape6 => (REQUESTS, &[SCRAPE, V6]),
        Event::Error4 => (ERRORS, &[V4]),
        Event::Error6 => (ERRORS, &[V6]),
        Event::ReplyBytes => (("tracker_reply_bytes_total", "Bytes of replies, without UDP or TCP headers."), &[]),
        Event::PeersReturned => (("tracker_peers_given_total", "Peers handed out in replies to announces."), &[]),
        Event::RepliesShortened => (
            (
                "tracker_replies_shortened_total",
                "Replies with fewer peers than wanted, because the packet could not grow or would not have fitted the way.",
            ),
            &[],
        ),
        Event::TorrentCreated => (("tracker_torrents_created_total", "Torrents stored for the first time."), &[]),
        Event::TorrentRemoved => (
            ("tracker_torrents_removed_total", "Torrents removed, because they were idle or gave way to new ones."),
            &[],
        ),
        Event::Peer4Added => (ADDED, &[V4]),
        Event::Peer4Removed => (REMOVED, &[V4]),
        Event::Peer6Added => (ADDED, &[V6]),
        Event::Peer6Removed => (REMOVED, &[V6]),
        Event::Completed => (("tracker_downloads_completed_total", "Downloads that peers said they completed."), &[]),
        Event::Evicted => (("tracker_peers_evicted_total", "Peers replaced by newer ones for want of memory."), &[]),
        Event::Expired => (("tracker_peers_expired_total", "Peers removed because they no longer announced."), &[]),
        Event::Grown => (("tracker_swarm_chunks_added_total", "Chunks of peer slots given to growing swarms."), &[]),
        Event::Split => (("tracker_swarm_partitions_split_total", "Partitions of big swarms split in two."), &[]),
        Event::Unstored => (
            (
                "tracker_announces_unstored_total",
                "Announces that the XDP program answered without storing them, as the daemon had died or was stopped.",
            ),
            &[],
        ),
        Event::Recounted => {
            (("tracker_swarms_recounted_total", "Swarms whose counts had drifted and were set right."), &[])
        }
        Event::Crowded => (
            (
                "tracker_peers_crowded_out_total",
                "Peers replaced by newer ones of their address, which had as many in the swarm as it may.",
            ),
            &[],
        ),
        Event::TorrentEvicted => (
            (
                "tracker_torrents_evicted_total",
                "Torrents without peers, or of one user alone, that gave way to new ones for want of room.",
            ),
            &[],
        ),
    };
    Metric { name, help, labels }
}

/// Metrics being written.
struct Page(String);

impl Page {
    /// Begins a metric.
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a string cannot fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// A sample of the metric begun last.
    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (number, (label, content)) in labels.iter().enumerate() {
            self.0.push(if number == 0 { '{' } else { ',' });
            self.0.push_str(label);
            self.0.push_str("=\"");
            for character in content.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = writeln!(self.0, " {value}");
    }

    /// A metric of one sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.begin(name, kind, help);
        self.sample(name, &[], value);
    }

    /// Everything that is counted on every path.
    fn events(&mut self, paths: &[PathCounters]) {
        let mut written = Vec::new();
        for event in Event::ALL {
            let Metric { name, help, .. } = metric(*event);
            if written.contains(&name) {
                continue;
            }
            written.push(name);
            self.begin(name, "counter", help);
            for path in paths {
                for event in Event::ALL {
                    let of = metric(*event);
                    if of.name == name {
                        let labels: Vec<_> =
                            std::iter::once(("path", path.label)).chain(of.labels.iter().copied()).collect();
                        self.sample(name, &labels, path.event(*event));
                    }
                }
            }
        }
    }
}

/// Writes the snapshot.
#[must_use]
pub fn write(snapshot: &Snapshot) -> String {
    let mut page = Page(String::with_capacity(32 << 10));
    page.begin("tracker_build_info", "gauge", "Version of the tracker; always 1.");
    page.sample("tracker_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.single(
        "process_start_time_seconds",
        "gauge",
        "Start of the process, in seconds since 1970.",
        snapshot.started_at,
    );
    if let Some(seconds) = snapshot.process.cpu_seconds {
        page.single("process_cpu_seconds_total", "counter", "User and system time used by the process.", seconds);
    }
    if let Some(bytes) = snapshot.process.resident_bytes {
        page.single("process_resident_memory_bytes", "gauge", "Resident memory of the process.", bytes);
    }

    page.begin("tracker_interface_info", "gauge", "Mode in which XDP runs on an interface; always 1.");
    for interface in &snapshot.interfaces {
        let labels = [("interface", interface.name.as_str()), ("mode", interface.mode.as_str())];
        page.sample("tracker_interface_info", &labels, 1);
    }

    page.single("tracker_torrents", "gauge", "Torrents stored.", snapshot.torrents);
    page.begin("tracker_peers", "gauge", "Peers stored.");
    page.sample("tracker_peers", &[("family", "ipv4")], snapshot.peers_v4);
    page.sample("tracker_peers", &[("family", "ipv6")], snapshot.peers_v6);
    let totals = &snapshot.totals;
    page.single(
        "tracker_torrents_with_peers",
        "gauge",
        "Torrents with at least one peer, as of the last walk through the store.",
        totals.torrents_with_peers,
    );
    page.single("tracker_seeders", "gauge", "Seeders, as of the last walk through the store.", totals.seeders);
    page.single("tracker_leechers", "gauge", "Leechers, as of the last walk through the store.", totals.leechers);
    page.single(
        "tracker_store_walks_total",
        "counter",
        "Walks through the store that remove what has expired.",
        totals.sweeps,
    );
    page.single(
        "tracker_store_walk_cpu_seconds",
        "gauge",
        "Processor time of the last walk through the store.",
        totals.sweep_seconds,
    );

    page.begin("tracker_store_elements", "gauge", "Elements of the store in use.");
    for fill in &snapshot.fill {
        page.sample("tracker_store_elements", &[("pool", fill.label)], fill.used);
    }
    page.begin("tracker_store_elements_limit", "gauge", "Elements of the store there are.");
    for fill in &snapshot.fill {
        page.sample("tracker_store_elements_limit", &[("pool", fill.label)], fill.limit);
    }
    page.single("tracker_store_size_bytes", "gauge", "Size of the store with all its parts.", snapshot.store_bytes);

    page.events(&snapshot.paths);
    page.begin("tracker_requests_rejected_total", "counter", "Packets and requests not answered as asked, by reason.");
    for path in &snapshot.paths {
        for reason in Reason::all() {
            let labels = [("path", path.label), ("reason", reason.label())];
            page.sample("tracker_requests_rejected_total", &labels, path.reason(reason));
        }
    }
    page.single(
        "tracker_udp_receive_drops_total",
        "counter",
        "Packets that the kernel dropped at the UDP sockets, because their receive buffers were full or checksums wrong.",
        snapshot.udp_drops,
    );
    let name = "tracker_peer_renewals_total";
    page.begin(name, "counter", "Announces of stored peers by whole minutes since their last announce.");
    for (minutes, count) in snapshot.renewals.iter().enumerate() {
        page.sample(name, &[("minutes", &minutes.to_string())], count);
    }

    page.http(snapshot);
    page.0
}

impl Page {
    /// What only HTTP counts.
    fn http(&mut self, snapshot: &Snapshot) {
        let http = &snapshot.http;
        let (engine, tracker) = (&http.engine, &http.tracker);
        let name = "tracker_http_requests_total";
        self.begin(name, "counter", "HTTP requests, whatever became of them.");
        for kind in http.requests() {
            self.sample(name, &[("request", kind.label)], kind.count);
        }
        let name = "tracker_http_failures_total";
        self.begin(name, "counter", "HTTP requests not answered as asked, by reason.");
        for failure in http.failures() {
            self.sample(name, &[("reason", failure.label)], failure.count);
        }
        self.single("tracker_http_connections", "gauge", "HTTP connections open.", engine.open());
        self.single(
            "tracker_http_connections_accepted_total",
            "counter",
            "HTTP connections accepted.",
            engine.event(HttpEvent::Accepted),
        );
        self.single(
            "tracker_http_accept_failures_total",
            "counter",
            "HTTP connections that the system could not hand over, as when it has no file descriptor left.",
            engine.event(HttpEvent::AcceptFailed),
        );
        let name = "tracker_http_connections_aborted_total";
        self.begin(
            name,
            "counter",
            "HTTP connections that the tracker closed for another reason than the end of a request.",
        );
        for reason in [
            engine.labelled(HttpEvent::Evicted),
            engine.labelled(HttpEvent::Refused),
            engine.labelled(HttpEvent::IdleTimeout),
            engine.labelled(HttpEvent::HeaderTimeout),
            engine.labelled(HttpEvent::WriteTimeout),
            tracker.labelled(TrackerEvent::FullScrapeTimeout),
            engine.labelled(HttpEvent::MemoryExceeded),
        ] {
            self.sample(name, &[("reason", reason.label)], reason.count);
        }
        for (name, help, count) in [
            (
                "tracker_http_proxied_announces_total",
                "HTTP announces that named another client in a header; the proxy's address was stored.",
                tracker.event(TrackerEvent::Proxied),
            ),
            ("tracker_http_received_bytes_total", "Bytes received by HTTP.", engine.event(HttpEvent::ReceivedBytes)),
            ("tracker_http_sent_bytes_total", "Bytes sent by HTTP.", engine.event(HttpEvent::SentBytes)),
            (
                "tracker_http_full_scrape_bytes_total",
                "Bytes of full scrapes sent.",
                tracker.event(TrackerEvent::FullScrapeBytes),
            ),
        ] {
            self.single(name, "counter", help, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::snapshot::tests::example;
    use std::collections::{HashMap, HashSet};

    /// Reads the format as strictly as Prometheus does, and checks the naming rules on the way.
    fn read(page: &str) -> HashMap<String, f64> {
        let mut samples = HashMap::new();
        let mut seen = HashSet::new();
        let mut current = (String::new(), String::new());
        assert!(page.ends_with('\n'));
        for line in page.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help text");
                assert!(!help.is_empty());
                assert!(seen.insert(name.to_owned()), "{name} appears twice");
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
                current = (name.to_owned(), String::new());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(name, current.0);
                assert!(["counter", "gauge"].contains(&kind), "{kind}");
                assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
                current.1 = kind.to_owned();
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a value");
                let name = series.split('{').next().expect("a name");
                assert_eq!(name, current.0, "sample outside its metric");
                if let Some(labels) = series.strip_prefix(name).and_then(|rest| rest.strip_prefix('{')) {
                    assert!(labels.ends_with("\"}"), "{line}");
                }
                let value: f64 = value.parse().expect("a number");
                assert!(samples.insert(series.to_owned(), value).is_none(), "{series} appears twice");
            }
        }
        samples
    }

    #[test]
    fn the_page_is_in_the_format_and_the_figures_are_in_their_places() {
        let snapshot = example();
        let samples = read(&write(&snapshot));
        let expected = [
            (r#"tracker_requests_answered_total{path="http",request="announce",family="ipv4"}"#, 7.0),
            (r#"tracker_requests_answered_total{path="http",request="scrape",family="ipv6"}"#, 2.0),
            (r#"tracker_requests_answered_total{path="xdp",request="connect",family="ipv4"}"#, 1000.0),
            (r#"tracker_requests_answered_total{path="udp_socket",request="connect",family="ipv6"}"#, 101.0),
            (r#"tracker_requests_rejected_total{path="udp_socket",reason="not_ip"}"#, 100.0 + Event::ALL.len() as f64),
            (r#"tracker_http_failures_total{reason="port_zero"}"#, 1.0),
            (r#"tracker_interface_info{interface="eth\"0",mode="generic"}"#, 1.0),
            (r#"tracker_peers{family="ipv4"}"#, 20.0),
            (r#"tracker_peers{family="ipv6"}"#, 1.0),
            (r#"tracker_store_elements{pool="swarms"}"#, 3.0),
            (r#"tracker_store_elements_limit{pool="swarms"}"#, 12.0),
            ("tracker_seeders", 12.0),
            ("tracker_udp_receive_drops_total", 17.0),
            ("tracker_torrents", 3.0),
            ("process_start_time_seconds", 1_700_000_000.5),
        ];
        for (series, value) in expected {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
        // Every event and every reason of every path is there.
        let of_paths = samples.keys().filter(|series| series.contains("path=\"")).count();
        assert_eq!(
            of_paths,
            snapshot.paths.len() * (tracker_common::outcome::COUNTERS - tracker_common::outcome::REFRESH_AGES)
        );
    }

    #[test]
    fn returning_peers_appear_when_they_are_counted() {
        let mut snapshot = example();
        snapshot.renewals = std::array::from_fn(|minutes| minutes as u64 * 2);
        let samples = read(&write(&snapshot));
        assert_eq!(samples.get(r#"tracker_peer_renewals_total{minutes="44"}"#), Some(&88.0));
    }
}
