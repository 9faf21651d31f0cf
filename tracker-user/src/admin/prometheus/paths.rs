//! What is counted on every path: by the XDP program, sockets, HTTP and expiry.
//!
//! A series is written if it can happen on that path, or has happened all the same.

use super::page::Page;
use crate::{
    admission::addresses::BlockList,
    statistics::{PathCounters, XDP},
    store::CounterSet,
};
use tracker_common::outcome::{Event, FrameReason, REPLY_STEP, Reason, RequestReason, StoreError};

/// A metric of the counters that all paths have, and what distinguishes its events.
pub(super) struct Metric {
    pub name: &'static str,
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
        Event::PeerBlocked => (
            ("tracker_peers_blocked_total", "Peers removed because their addresses are on a list of those blocked."),
            &[],
        ),
        Event::KeyWrong => (
            (
                "tracker_peer_keys_wrong_total",
                "Stops and completed downloads that were not taken, as their key was not the peer's.",
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

/// Whether requests come by a path.
fn serves_clients(path: &str) -> bool {
    path != CounterSet::Expiry.label() && path != CounterSet::Cluster.label()
}

/// Whether an event can happen on a path.
fn can_happen(event: Event, path: &str) -> bool {
    let (xdp, http) = (path == XDP, path == CounterSet::Http.label());
    let clients = serves_clients(path);
    match event {
        Event::Connect4 | Event::Connect6 | Event::RepliesShortened => clients && !http,
        Event::Unstored => xdp,
        Event::Expired | Event::Recounted | Event::PeerBlocked => !clients,
        Event::TorrentRemoved | Event::Peer4Removed | Event::Peer6Removed => true,
        Event::Announce4
        | Event::Announce6
        | Event::Scrape4
        | Event::Scrape6
        | Event::Error4
        | Event::Error6
        | Event::ReplyBytes
        | Event::PeersReturned
        | Event::TorrentCreated
        | Event::Peer4Added
        | Event::Peer6Added
        | Event::Completed
        | Event::Evicted
        | Event::Grown
        | Event::Split
        | Event::Crowded
        | Event::TorrentEvicted
        | Event::KeyWrong => clients,
    }
}

/// What a reason means on a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// The packet is not ours, or sockets have to do it.
    Passed,
    /// It came for us and was refused.
    Refused,
    /// It does not happen here.
    Never,
}

fn meaning(reason: Reason, path: &str) -> Meaning {
    let (xdp, http) = (path == XDP, path == CounterSet::Http.label());
    if !serves_clients(path) {
        return Meaning::Never;
    }
    match reason {
        Reason::Frame(_) | Reason::Store(StoreError::Contended) if xdp => Meaning::Passed,
        // Sent to a broadcast address, which every thread would answer.
        Reason::Frame(FrameReason::NotForUs) if !http => Meaning::Refused,
        // The daemon's threads wait for each other.
        Reason::Frame(_) | Reason::Store(StoreError::Contended) => Meaning::Never,
        Reason::Request(
            RequestReason::TooShort
            | RequestReason::BadMagic
            | RequestReason::UnknownAction
            | RequestReason::ConnectionIdWrong
            | RequestReason::ConnectsLimited
            | RequestReason::ErrorHeldBack,
        ) if http => Meaning::Never,
        Reason::Request(_) | Reason::Store(_) => Meaning::Refused,
    }
}

/// Classes of replies that are shown: one of their upper bounds each.
const REPLIES_AT_MOST: [u32; 13] = [0, 8, 16, 24, 32, 48, 56, 64, 80, 104, 128, 160, 200];

const _: () = {
    let mut class = 0;
    while class < REPLIES_AT_MOST.len() {
        assert!(REPLIES_AT_MOST[class].is_multiple_of(REPLY_STEP), "a bound of what is counted");
        class += 1;
    }
};

impl Page {
    /// Everything that is counted on every path.
    pub fn paths(&mut self, paths: &[PathCounters], lists: &[BlockList]) {
        self.events(paths);
        let name = "tracker_requests_rejected_total";
        self.begin(name, "counter", "Requests not answered as asked, or not answered, by reason.");
        self.reasons(name, paths, Meaning::Refused);
        let name = "tracker_packets_passed_total";
        self.begin(name, "counter", "Packets that the XDP program left to the kernel and the sockets, by reason.");
        self.reasons(name, paths, Meaning::Passed);
        let clients = || paths.iter().filter(|path| serves_clients(path.label));
        self.begin("tracker_blocked_total", "counter", "Packets and requests from blocked addresses, by list.");
        for path in clients() {
            for list in lists {
                self.sample("tracker_blocked_total", &[("path", path.label), ("list", &list.name)], path.blocked(list));
            }
        }
        let name = "tracker_reply_peers";
        self.begin(name, "histogram", "Peers in replies to announces.");
        for path in clients() {
            let replies = path.replies();
            let mut classes: Vec<_> = REPLIES_AT_MOST.iter().map(|most| (f64::from(*most), 0)).collect();
            classes.push((f64::INFINITY, 0));
            for (most, count) in (0..).step_by(REPLY_STEP as usize).map(f64::from).zip(replies) {
                if let Some((_, sum)) = classes.iter_mut().find(|(bound, _)| most <= *bound) {
                    *sum += count;
                }
            }
            self.histogram(name, &[("path", path.label)], &classes, path.event(Event::PeersReturned));
        }
    }

    fn events(&mut self, paths: &[PathCounters]) {
        let mut written = Vec::new();
        for event in Event::ALL {
            let Metric { name, help, .. } = metric(*event);
            if written.contains(&name) {
                continue;
            }
            written.push(name);
            self.begin(name, "counter", help);
            let of_metric = || Event::ALL.iter().filter(move |event| metric(**event).name == name);
            for (path, event) in paths.iter().flat_map(|path| of_metric().map(move |event| (path, *event))) {
                let count = path.event(event);
                if count != 0 || can_happen(event, path.label) {
                    let labels: Vec<_> = [("path", path.label)].iter().chain(metric(event).labels).copied().collect();
                    self.sample(name, &labels, count);
                }
            }
        }
    }

    fn reasons(&mut self, name: &str, paths: &[PathCounters], wanted: Meaning) {
        for path in paths {
            for reason in Reason::all() {
                let count = path.reason(reason);
                let mut shown = meaning(reason, path.label);
                if shown == Meaning::Never && count != 0 {
                    shown = Meaning::Refused;
                }
                if shown == wanted {
                    self.sample(name, &[("path", path.label), ("reason", reason.label())], count);
                }
            }
        }
    }

    /// What each core has done by XDP. Cores that have done nothing yet are left out: a machine may
    /// have far fewer than the kernel has prepared for.
    pub fn cores(&mut self, cores: &[PathCounters]) {
        let figures: [Figure; 4] = [
            ("tracker_xdp_core_answered_total", "Requests that the XDP program answered as asked, by core.", |core| {
                ANSWERED.iter().map(|event| core.event(*event)).sum()
            }),
            ("tracker_xdp_core_rejected_total", "Requests that the XDP program refused, by core.", |core| {
                total(core, Meaning::Refused)
            }),
            ("tracker_xdp_core_passed_total", "Packets that the XDP program left to the kernel, by core.", |core| {
                total(core, Meaning::Passed)
            }),
            ("tracker_xdp_core_reply_bytes_total", "Bytes of replies by the XDP program, by core.", |core| {
                core.event(Event::ReplyBytes)
            }),
        ];
        for (name, help, figure) in figures {
            self.begin(name, "counter", help);
            for (number, core) in cores.iter().enumerate() {
                if figures.iter().any(|(.., figure)| figure(core) != 0) {
                    self.sample(name, &[("core", &number.to_string())], figure(core));
                }
            }
        }
    }
}

/// A metric of the cores: its name, what it says, and how it is read.
type Figure = (&'static str, &'static str, fn(&PathCounters) -> u64);

const ANSWERED: [Event; 6] =
    [Event::Connect4, Event::Connect6, Event::Announce4, Event::Announce6, Event::Scrape4, Event::Scrape6];

/// All reasons of one meaning.
fn total(core: &PathCounters, wanted: Meaning) -> u64 {
    let fitting = Reason::all().filter(|reason| meaning(*reason, XDP) == wanted);
    fitting.map(|reason| core.reason(reason)).fold(0, u64::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::NOTHING_COUNTED;
    use tracker_common::outcome::Counter;

    fn path(label: &'static str, counters: &[(Counter, u64)]) -> PathCounters {
        let mut counts = NOTHING_COUNTED;
        for (counter, count) in counters {
            counts[counter.index()] += count;
        }
        PathCounters::new(label, label, &counts)
    }

    fn written(paths: &[PathCounters]) -> String {
        let mut page = Page(String::new());
        page.paths(paths, &[BlockList { name: "list".into(), number: 1, before: Vec::new() }]);
        page.0
    }

    #[test]
    fn what_cannot_happen_on_a_path_is_not_shown_unless_it_has() {
        // (the beginning of a series, on which paths)
        let rows = [
            ("tracker_requests_answered_total{path=P,request=\"connect\",family=\"ipv4\"}", "xdp udp_socket"),
            ("tracker_requests_answered_total{path=P,request=\"announce\",family=\"ipv6\"}", "xdp udp_socket http"),
            ("tracker_requests_failed_total{path=P,family=\"ipv4\"}", "xdp udp_socket http"),
            ("tracker_announces_unstored_total{path=P}", "xdp"),
            ("tracker_replies_shortened_total{path=P}", "xdp udp_socket"),
            ("tracker_peers_expired_total{path=P}", "expiry"),
            ("tracker_peers_removed_total{path=P,family=\"ipv4\"}", "xdp udp_socket http expiry"),
            ("tracker_packets_passed_total{path=P,reason=\"not_udp\"}", "xdp"),
            ("tracker_packets_passed_total{path=P,reason=\"contended\"}", "xdp"),
            ("tracker_requests_rejected_total{path=P,reason=\"not_for_us\"}", "udp_socket"),
            ("tracker_requests_rejected_total{path=P,reason=\"internal\"}", "xdp udp_socket http"),
            ("tracker_requests_rejected_total{path=P,reason=\"bad_magic\"}", "xdp udp_socket"),
            ("tracker_requests_rejected_total{path=P,reason=\"rate_limited_announce\"}", "xdp udp_socket http"),
            ("tracker_requests_rejected_total{path=P,reason=\"no_room\"}", ""),
            ("tracker_blocked_total{path=P,list=\"list\"}", "xdp udp_socket http"),
            ("tracker_reply_peers_count{path=P}", "xdp udp_socket http"),
        ];
        let all = ["xdp", "udp_socket", "http", "expiry"];
        let page = written(&all.map(|label| path(label, &[])));
        for (series, paths) in rows {
            for label in all {
                let line = format!("{} 0\n", series.replace("=P", &format!("=\"{label}\"")));
                let expected = paths.split(' ').any(|path| path == label);
                assert_eq!(page.contains(&line), expected, "{line} in:\n{page}");
            }
        }
        let odd = [(Counter::Event(Event::Expired), 3), (Counter::Reason(FrameReason::NotIp.into()), 4)];
        let page = written(&[path("http", &odd)]);
        for line in [
            "tracker_peers_expired_total{path=\"http\"} 3\n",
            "tracker_requests_rejected_total{path=\"http\",reason=\"not_ip\"} 4\n",
        ] {
            assert!(page.contains(line), "{line} in:\n{page}");
        }
    }

    #[test]
    fn replies_fall_into_their_classes() {
        let announces = Counter::Event(Event::Announce4);
        let counters = [
            (announces, 10),
            // Of these, scrapes and connects are no replies to announces.
            (Counter::Replied(0), 100),
            (Counter::Replied(1), 1),
            (Counter::Replied(50), 2),
            (Counter::Replied(200), 3),
            (Counter::Event(Event::PeersReturned), 701),
        ];
        let page = written(&[path("xdp", &counters)]);
        for (bound, count) in [("0", 4), ("8", 5), ("48", 5), ("56", 7), ("160", 7), ("200", 10), ("+Inf", 10)] {
            let line = format!("tracker_reply_peers_bucket{{path=\"xdp\",le=\"{bound}\"}} {count}\n");
            assert!(page.contains(&line), "{line} in:\n{page}");
        }
        assert!(page.contains("tracker_reply_peers_sum{path=\"xdp\"} 701\n"), "{page}");
        assert!(page.contains("tracker_reply_peers_count{path=\"xdp\"} 10\n"), "{page}");
    }

    #[test]
    fn cores_that_have_done_nothing_are_left_out() {
        let busy = [
            (Counter::Event(Event::Announce6), 5),
            (Counter::Event(Event::Connect4), 2),
            (Counter::Reason(FrameReason::NotIp.into()), 7),
            (Counter::Reason(StoreError::Contended.into()), 1),
            (Counter::Reason(RequestReason::PortZero.into()), 3),
        ];
        let mut page = Page(String::new());
        page.cores(&[path("xdp", &[]), path("xdp", &busy)]);
        let samples: Vec<_> = page.0.lines().filter(|line| !line.starts_with('#')).collect();
        let expected = ["answered_total{core=\"1\"} 7", "rejected_total{core=\"1\"} 3", "passed_total{core=\"1\"} 8"];
        let expected = expected.map(|end| format!("tracker_xdp_core_{end}"));
        assert_eq!(samples[..3], expected);
        assert_eq!(samples.len(), 4);
    }
}
