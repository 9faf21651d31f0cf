//! The daemon with XDP on a veth pair under mixed load, as long as one likes: clients of both
//! families that come and go, junk and forged packets, limits that are hit, restarts. Afterwards
//! every packet is accounted for by the daemon's counters, its memory and its descriptors are what
//! they were, and its store is sound.
//!
//! `cargo xtask soak --minutes N` sets `SOAK_SECONDS` and `SOAK_KILLS`; without them it takes half
//! a minute.

#[path = "soak/load.rs"]
mod load;

use load::{End, Over, Sent, load};
use std::{
    fmt::Write as _,
    fs,
    process::Command,
    sync::atomic::AtomicBool,
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    bpffs::BpfFs,
    namespace::Pair,
    tracker::{Metrics, Tracker, binary},
};

/// Clients that wait for answers.
const CLIENTS: u8 = 6;

/// How long one daemon runs, at most.
const PHASE: Duration = Duration::from_secs(60);

/// By how much the daemon's own memory may grow while it is under load; what is stored is not in it.
const GROWTH: u64 = 8 << 20;

/// So small that all of them are hit.
const LIMITS: [&str; 10] = [
    "--max-torrents",
    "2000",
    "--max-peers",
    "40000",
    "--max-peers-v6",
    "6000",
    "--max-peers-per-address",
    "0",
    "--max-creations-per-address",
    "0",
];

fn from_environment(name: &str, without: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(without)
}

/// What the daemon's process takes.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    /// Bytes of memory that is its own.
    memory: u64,
    descriptors: usize,
}

fn footprint(process: u32) -> Footprint {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a kernel that tells it");
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).expect("the daemon runs").count();
    Footprint { memory: kilobytes << 10, descriptors }
}

/// A tracker in a namespace.
struct Site {
    pair: Pair,
    /// Where a killed daemon leaves its maps.
    pins: Option<BpfFs>,
}

impl Site {
    fn new(kills: u64) -> Self {
        let pins = (kills > 0).then(|| BpfFs::mount().expect("a BPF file system"));
        Self { pair: Pair::new().expect("two namespaces"), pins }
    }

    fn start(&self) -> Tracker {
        let path = self.pins.as_ref().map_or("off".into(), BpfFs::path);
        let pins = ["--pin-path", path.to_str().expect("a path")];
        let interface = ["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", "native"];
        let options = [&interface[..], &LIMITS[..], &pins].concat();
        Tracker::start(&self.pair.server, &options).expect("the tracker runs")
    }

    fn metrics(&self, tracker: &Tracker) -> Metrics {
        tracker.metrics(&self.pair.server).expect("metrics")
    }

    /// Runs `tracker check-store`; what it says if something is wrong.
    fn check(&self) -> Option<String> {
        let links = self.pair.server.ip(&format!("link show dev {}", Pair::SERVER_INTERFACE)).expect("the interface");
        let mut words = links.split_whitespace().skip_while(|word| !word.starts_with("prog/xdp")).skip(1);
        let program = (words.next() == Some("id")).then(|| words.next()).flatten().expect("an XDP program");
        let checked = Command::new(binary().expect("a daemon")).args(["check-store", "--program", program]).output();
        let checked = checked.expect("it runs");
        let told = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
        (!checked.status.success()).then_some(told)
    }
}

/// What a phase came to.
#[derive(Default)]
struct Account {
    sent: Sent,
    /// UDP requests by what became of them, as the daemon counts: answered as asked, answered with
    /// an error, left without an answer.
    answered: u64,
    errors: u64,
    dropped: u64,
    by_sockets: u64,
    wrong: Vec<String>,
}

impl Account {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.errors += other.errors;
        self.dropped += other.dropped;
        self.by_sockets += other.by_sockets;
        self.wrong.extend(other.wrong);
    }

    fn of(sent: Sent, before: &Metrics, after: &Metrics) -> Self {
        let moved = |name: &str, labels: &[(&str, &str)]| (after.sum(name, labels) - before.sum(name, labels)) as u64;
        let by = |path: &str, name: &str, label: &str, value: &str| moved(name, &[("path", path), (label, value)]);
        let both =
            |name: &str, label: &str, value: &str| by("xdp", name, label, value) + by("udp_socket", name, label, value);
        let mut wrong = Vec::new();
        let mut same = |what: &str, counted: u64, expected: u64| {
            if counted != expected {
                wrong.push(format!("{what}: the daemon counts {counted}, the clients {expected}"));
            }
        };
        let answered =
            ["connect", "announce", "scrape"].map(|kind| both("tracker_requests_answered_total", "request", kind));
        for (kind, name) in ["connects", "announces", "scrapes"].iter().enumerate() {
            same(&format!("{name} answered"), answered[kind], sent.answered[kind]);
        }
        let failed = |path| moved("tracker_requests_failed_total", &[("path", path)]);
        let errors = failed("xdp") + failed("udp_socket");
        same("errors", errors, sent.errors + sent.forged);
        let rejected = |reason: &str| both("tracker_requests_rejected_total", "reason", reason);
        same("wrong connection ids", rejected("connection_id_wrong"), sent.wrong_ids + sent.forged);
        let junk: u64 = ["too_short", "bad_magic", "unknown_action"].iter().map(|reason| rejected(reason)).sum();
        same("junk", junk, sent.junk);
        let checksums = by("xdp", "tracker_packets_passed_total", "reason", "checksum_wrong");
        same("wrong checksums", checksums, sent.wrong_checksums);
        same("requests without an answer", sent.lost, 0);
        let answered = answered.iter().sum();
        let dropped = junk + checksums;
        same("packets", answered + errors + dropped, sent.packets());
        let http = moved("tracker_requests_answered_total", &[("path", "http")]);
        let http_failed = failed("http");
        same("HTTP requests answered", http, sent.http[0] + sent.http[1] - sent.http_failed);
        same("HTTP requests failed", http_failed, sent.http_failed);
        same("counts that had drifted", moved("tracker_swarms_recounted_total", &[]), 0);
        same("internal errors", rejected("internal"), 0);
        let by_sockets = moved("tracker_requests_answered_total", &[("path", "udp_socket")]);
        Self { sent, answered, errors, dropped, by_sockets, wrong }
    }
}

/// One daemon from its start on: load, checks in the midst of it, and an account in the end.
fn phase(site: &Site, tracker: &Tracker, length: Duration, seed: u64) -> (Account, [Footprint; 2]) {
    let before = site.metrics(tracker);
    let ended = AtomicBool::new(false);
    let begin = Instant::now();
    let (sent, warm, in_the_midst) = thread::scope(|scope| {
        let end = End(&ended);
        let work = scope.spawn(|| load(&site.pair, CLIENTS, Over::Both, &ended, seed));
        // Buffers of connections and of the log have their size by then.
        thread::sleep(length / 3);
        let warm = footprint(tracker.process());
        let mut told = Vec::new();
        while begin.elapsed() < length {
            told.extend(site.check());
            thread::sleep(Duration::from_secs(2).min(length.saturating_sub(begin.elapsed())));
        }
        drop(end);
        (work.join().expect("no panic"), warm, told)
    });
    // Frames that nobody waits for an answer to, and counters of threads that are still asleep.
    thread::sleep(Duration::from_millis(300));
    let last = footprint(tracker.process());
    let mut account = Account::of(sent, &before, &site.metrics(tracker));
    account.wrong.extend(in_the_midst.into_iter().map(|told| format!("under load, {told}")));
    account.wrong.extend(site.check().map(|told| format!("afterwards, {told}")));
    if last.memory > warm.memory + GROWTH {
        account.wrong.push(format!("memory has grown from {} to {} bytes", warm.memory, last.memory));
    }
    if last.descriptors > warm.descriptors + usize::from(CLIENTS) {
        account.wrong.push(format!("{} descriptors have become {}", warm.descriptors, last.descriptors));
    }
    (account, [warm, last])
}

/// Kills the daemon under load and starts it anew. What was on its way then is lost or not; the
/// store has to be sound.
fn kill(site: &Site, tracker: Tracker, seed: u64) -> (Tracker, Vec<String>) {
    let ended = AtomicBool::new(false);
    let (next, wrong) = thread::scope(|scope| {
        let end = End(&ended);
        // HTTP would be refused until the next one is there.
        let work = scope.spawn(|| load(&site.pair, CLIENTS, Over::Udp, &ended, seed));
        thread::sleep(Duration::from_millis(500 + seed % 997));
        tracker.signal(libc::SIGKILL).expect("it runs");
        drop(tracker);
        let next = site.start();
        thread::sleep(Duration::from_secs(1));
        drop(end);
        let sent = work.join().expect("no panic");
        let mut wrong: Vec<_> = site.check().map(|told| format!("after a kill, {told}")).into_iter().collect();
        // What the sockets had when their process was killed, which the kernel takes some time to close: at
        // most one request of each client.
        if sent.lost > u64::from(CLIENTS) {
            wrong.push(format!("around a kill {} of {} requests were not answered", sent.lost, sent.packets()));
        }
        (next, wrong)
    });
    (next, wrong)
}

#[test]
fn soak() {
    let length = Duration::from_secs(from_environment("SOAK_SECONDS", 24));
    let kills = from_environment("SOAK_KILLS", 0);
    let phases = u32::try_from(length.as_secs().div_ceil(PHASE.as_secs())).expect("not for years").max(2);
    let site = Site::new(kills);
    let mut tracker = site.start();
    let mut all = Account::default();
    let mut table = String::new();
    let mut killed = 0;
    for number in 0..phases {
        let (account, [warm, last]) = phase(&site, &tracker, length / phases, 0x9e37_79b9 + u64::from(number));
        let _ = writeln!(
            table,
            "{number:>5}{:>12}{:>12}{:>10}{:>10}{:>10}{:>8}{:>9} ms{:>10} K{:>6}",
            account.sent.packets(),
            account.answered,
            account.errors,
            account.dropped,
            account.by_sockets,
            account.sent.http.iter().sum::<u64>(),
            account.sent.longest.as_millis(),
            last.memory.saturating_sub(warm.memory) / 1024,
            last.descriptors
        );
        all.add(account);
        while killed * u64::from(phases) < kills * u64::from(number + 1) {
            killed += 1;
            let (next, wrong) = kill(&site, tracker, 77 * killed);
            tracker = next;
            all.wrong.extend(wrong);
        }
        // Each phase has a daemon of its own.
        if number + 1 < phases {
            assert!(tracker.stop().expect("it ends").success(), "the daemon ended with a failure");
            tracker = site.start();
        }
    }
    let log = tracker.log();
    assert!(tracker.stop().expect("it ends").success(), "the daemon ended with a failure: {log}");
    if let Some(pins) = &site.pins {
        let _ = Command::new(binary().expect("a daemon")).arg("detach").arg("--pin-path").arg(pins.path()).output();
    }
    println!(
        "phase        sent    answered    errors   dropped   sockets    HTTP     longest      grown   fds\n{table}{} packets \
         sent = {} answered + {} errors + {} dropped; {killed} kills",
        all.sent.packets(),
        all.answered,
        all.errors,
        all.dropped
    );
    assert!(all.wrong.is_empty(), "{}", all.wrong.join("\n"));
    assert!(all.sent.answered.iter().chain(&all.sent.http).all(|count| *count > 0), "{:?}", all.sent);
}
