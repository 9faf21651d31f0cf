//! opentracker's statistics: Debian's opentracker and this tracker are asked for all of them after the
//! same traffic, by XDP and by sockets, and what both can tell has to be the same, line by line.
//!
//! Debian's opentracker is built without IPv6, and for whitelists; it gives figures to whom
//! `access.stats` names, and always packs lists of torrents by gzip.

use std::{
    io::Write as _,
    net::SocketAddr,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::{Announce, InfoHash},
    client::{Response, UdpClient, http_announce, http_get, http_scrape},
    namespace::Pair,
    opentracker, patience,
    supervised::Supervised,
    temporary::Directory,
    tracker::Tracker,
};

/// Torrents whose info_hashes have every byte there is.
const TORRENTS: u8 = 13;
const CLIENTS: u8 = 6;

fn torrent(number: u8) -> InfoHash {
    std::array::from_fn(|place| number.wrapping_mul(20).wrapping_add(place as u8))
}

fn server() -> SocketAddr {
    SocketAddr::new(Pair::SERVER_V4.into(), 6969)
}

/// A tracker between two namespaces.
struct Site<T> {
    pair: Pair,
    _tracker: T,
}

impl<T> Site<T> {
    fn new(start: impl FnOnce(&Pair) -> T) -> Self {
        let pair = Pair::new().expect("two namespaces");
        let tracker = start(&pair);
        Self { pair, _tracker: tracker }
    }

    fn get(&self, query: &str) -> Response {
        http_get(Some(&self.pair.server), server(), &format!("/stats?{query}")).expect(query)
    }

    /// A page's bytes, unpacked.
    fn body(&self, mode: &str) -> Vec<u8> {
        let response = self.get(&format!("mode={mode}"));
        assert_eq!(response.status, 200, "{mode}");
        if response.header("content-encoding") == Some("gzip") { unpacked(&response.body) } else { response.body }
    }

    fn page(&self, mode: &str) -> String {
        String::from_utf8_lossy(&self.body(mode)).into_owned()
    }

    /// The same requests to each tracker.
    fn traffic(&self) {
        let client = &self.pair.client;
        for number in 0..CLIENTS {
            let source = SocketAddr::new(Pair::client_v4(number).into(), 0);
            let mut udp = UdpClient::connected(client, source, server()).expect("a connection id");
            for torrent_number in 0..TORRENTS {
                // Of the first torrents there are most peers, and of each of them another number of seeders.
                for port in 0..u16::from(TORRENTS - torrent_number) {
                    let left = u64::from(port % 3 + u16::from(torrent_number % 2));
                    let known = Announce { left, event: 2, ..Announce::new(torrent(torrent_number), 7000 + port) };
                    udp.announce(&known).expect("answered");
                    if port == 2 {
                        // Done, and back again.
                        udp.announce(&Announce { left: 0, event: 1, ..known.clone() }).expect("answered");
                        udp.announce(&Announce { left: 0, event: 0, ..known.clone() }).expect("answered");
                    }
                    if port == 3 {
                        udp.announce(&Announce { event: 3, ..known.clone() }).expect("answered");
                    }
                }
            }
            udp.scrape(&[torrent(1), torrent(2)]).expect("answered");
        }
        for port in 0..4 {
            let announce = Announce { left: 0, event: 1, ..Announce::new(torrent(12), 8000 + port) };
            http_announce(client, server(), &announce).expect("answered");
        }
        http_scrape(client, server(), &[torrent(3)]).expect("answered");
    }
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("gzip");
    child.stdin.take().expect("piped").write_all(bytes).expect("it reads");
    child.wait_with_output().expect("it ends").stdout
}

fn opentracker(pair: &Pair) -> (Supervised, Directory) {
    let torrents: Vec<_> = (0..TORRENTS).map(torrent).collect();
    let more = format!("access.stats {}\n", Pair::SERVER_V4);
    opentracker::start((pair, server().port()), "statistics", &torrents, &more).expect("opentracker runs")
}

fn tracker(pair: &Pair, mode: &str) -> Tracker {
    let options = ["--xdp-mode", mode, "--interface", Pair::SERVER_INTERFACE, "--max-torrents", "1000"];
    Tracker::start(&pair.server, &[&options[..], &["--max-peers-per-address", "0"]].concat()).expect("it runs")
}

/// What lies between tags in the XML page.
fn value(xml: &str, path: &str) -> String {
    let mut rest = xml;
    for tag in path.split('/') {
        let begin = format!("<{tag}>");
        rest = rest.split_once(&begin).unwrap_or_else(|| panic!("no {path} in {xml}")).1;
    }
    rest.split('<').next().unwrap_or_default().trim().to_owned()
}

/// The names of tags in the order of the page.
fn tags(xml: &str) -> Vec<String> {
    xml.split('<').skip(1).filter_map(|part| Some(part.split_once('>')?.0.to_owned())).collect()
}

/// The first lines, as numbers.
fn numbers(page: &str) -> [u64; 2] {
    let mut lines = page.lines().map(|line| line.parse().unwrap_or_else(|_| panic!("{line:?} in {page}")));
    [lines.next().expect("a figure"), lines.next().expect("a figure")]
}

#[test]
fn statistics_are_opentrackers_line_by_line() {
    let other = Site::new(opentracker);
    for mode in ["native", "off"] {
        let ours = Site::new(|pair| tracker(pair, mode));
        compare(&other, &ours, mode == "native");
    }
}

fn compare<A, B>(other: &Site<A>, ours: &Site<B>, first: bool) {
    const COUNTED: [&str; 4] = ["tcp4", "udp4", "conn", "scrp"];
    let counted = |theirs: &dyn Fn(&str) -> String| COUNTED.map(|mode| numbers(&theirs(mode)));
    let get_other = |mode: &str| other.page(mode);
    let get_ours = |mode: &str| ours.page(mode);
    let before = [counted(&get_other), counted(&get_ours)];
    if first {
        other.traffic();
    }
    ours.traffic();
    // The largest swarms, and seeders, are those of the last sweep.
    let begun = Instant::now();
    while ours.page("peer") != other.page("peer") {
        assert!(
            begun.elapsed() < patience(Duration::from_secs(60)),
            "{} and {}",
            other.page("peer"),
            ours.page("peer")
        );
        thread::sleep(Duration::from_millis(200));
    }
    for mode in ["torr", "s24s", "tpbs&format=txt", "tpbs&format=txtp", "tpbs&format=url", "tpbs&format=bin"] {
        assert_eq!(ours.page(mode), other.page(mode), "{mode}");
    }
    assert_eq!(ours.body("tpbs&format=ben"), other.body("tpbs&format=ben"));
    for mode in ["top10", "top100"] {
        // Newer versions of opentracker have a third list.
        let page = ours.page(mode);
        let (two, third) = page.split_at(
            page.find("Top 10 torrents by leechers").or(page.find("Top 100 torrents by leechers")).expect(mode),
        );
        assert_eq!(two, other.page(mode), "{mode}");
        assert!(third.lines().count() > 5, "{page}");
    }
    for mode in ["completed", "syncs"] {
        let line = |page: String| page.lines().take(2).map(str::to_owned).collect::<Vec<_>>();
        let titles = |page: String| {
            page.lines().skip(3).map(|line| line.split(',').next().map(str::to_owned)).collect::<Vec<_>>()
        };
        assert_eq!(line(ours.page(mode)), line(other.page(mode)), "{mode}");
        assert_eq!(titles(ours.page(mode)), titles(other.page(mode)), "{mode}");
    }
    let known = |page: String| page.lines().next().map(str::to_owned);
    assert_eq!(known(ours.page("renew")), known(other.page("renew")));
    assert_eq!(ours.page("renew").lines().count(), other.page("renew").lines().count());
    let labels = |page: String| page.lines().map(|line| line[..8].to_owned()).collect::<Vec<_>>();
    assert_eq!(labels(ours.page("herr")), labels(other.page("herr")));
    dumps_agree(&other.page("statedump"), &ours.page("statedump"));
    let (theirs, mine) = (other.page("everything"), ours.page("everything"));
    assert_eq!(tags(&mine), tags(&theirs));
    for path in [
        "torrents/count_mutex",
        "torrents/count_iterator",
        "peers/count",
        "seeds/count",
        "completed/count",
        "tcp/scrape",
        "udp/connect",
        "udp/announce",
        "udp/scrape",
        "udp/missmatch",
        "livesync/count",
    ] {
        assert_eq!(value(&mine, path), value(&theirs, path), "{path}");
    }
    if first {
        // Both were asked for as many pages.
        let after = [counted(&get_other), counted(&get_ours)];
        let moved = |site: usize, mode: usize, line: usize| after[site][mode][line] - before[site][mode][line];
        // Announces by TCP, all and successful packets by UDP, scrapes by both.
        for (mode, line) in [(0, 1), (1, 0), (1, 1), (3, 0), (3, 1)] {
            assert_eq!(moved(1, mode, line), moved(0, mode, line), "{} line {line}", COUNTED[mode]);
        }
    }
    for (query, theirs, mine) in [
        ("mode=busy", 500, 500),
        ("mode=fulllog", 500, 500),
        ("mode=woodpeckers", 500, 500),
        // Debian's is built without.
        ("mode=numwants", 400, 200),
        ("mode=nothing", 400, 400),
        ("mode=startstop", 400, 400),
        ("mode=toraddrem", 400, 400),
        ("mode=vers", 400, 400),
        ("mode=tpbs&format=xyz", 400, 400),
        ("mode=version", 200, 200),
        // Newer versions tell who took the path for that of announces.
        ("info_hash=x", 200, 400),
    ] {
        assert_eq!((other.get(query).status, ours.get(query).status), (theirs, mine), "{query}");
    }
}

/// Lines of state files: the same but for a minute.
fn dumps_agree(theirs: &str, mine: &str) {
    let parse = |dump: &str| -> Vec<(String, u64, String)> {
        let line = |line: &str| {
            let [hash, minute, completed] = line.split(':').collect::<Vec<_>>()[..] else { panic!("{line}") };
            (hash.to_owned(), minute.parse().expect("a minute"), completed.to_owned())
        };
        dump.lines().map(line).collect()
    };
    let (theirs, mine) = (parse(theirs), parse(mine));
    assert_eq!(theirs.len(), mine.len());
    for (one, other) in theirs.iter().zip(&mine) {
        assert_eq!((&one.0, &one.2), (&other.0, &other.2));
        assert!(one.1.abs_diff(other.1) <= 3, "{one:?} and {other:?}");
    }
}
