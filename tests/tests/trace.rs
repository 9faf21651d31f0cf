//! `tracker trace` beside a daemon with native XDP on a veth pair: each request is shown with what
//! became of it, and nothing is left on when nobody looks.

use anyhow::{Context as _, Result, ensure};
use std::{
    io::{self, PipeReader, Read as _},
    net::{IpAddr, SocketAddr},
    process::{Command, ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::{self, Announce, InfoHash},
    client::UdpClient,
    namespace::Pair,
    patience,
    supervised::{Ending, Printing, Supervised},
    tracker::{Tracker, binary},
};

const PORT: u16 = 6969;
const HASH: InfoHash = [0x3c; 20];
/// How long a trace may take to begin and to end; far more than it does.
const PATIENCE: Duration = Duration::from_secs(20);
const OTHER: InfoHash = [0x4d; 20];

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Site {
    _tracker: Tracker,
    pair: Pair,
    program: String,
    _turn: MutexGuard<'static, ()>,
}

/// A tracker for which one host may stand for many users.
fn start(pair: &Pair, more: &[&str]) -> Tracker {
    let options = [
        "--interface",
        Pair::SERVER_INTERFACE,
        "--xdp-mode",
        "native",
        "--max-torrents",
        "1000",
        "--max-peers-per-address",
        "0",
        "--max-creations-per-address",
        "0",
    ];
    Tracker::start(&pair.server, &[&options[..], more].concat()).expect("the tracker runs")
}

impl Site {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(more: &[&str]) -> Self {
        let turn = turn();
        let pair = Pair::new().expect("two namespaces");
        let tracker = start(&pair, more);
        let link = pair.server.ip(&format!("-d link show {}", Pair::SERVER_INTERFACE)).expect("the interface");
        let mut words = link.split_whitespace().skip_while(|word| *word != "prog/xdp").skip(2);
        let program = words.next().expect("an XDP program").to_owned();
        Self { _tracker: tracker, pair, program, _turn: turn }
    }

    fn client(&self, number: u8, ipv4: bool) -> UdpClient {
        UdpClient::new(&self.pair.client, SocketAddr::new(client(number, ipv4), 0), server(ipv4)).expect("a socket")
    }

    fn trace(&self, options: &[&str]) -> Tracing {
        Tracing::start(&self.pair, &[&["--program", &self.program], options].concat()).expect("it traces")
    }
}

fn server(ipv4: bool) -> SocketAddr {
    let address: IpAddr = if ipv4 { Pair::SERVER_V4.into() } else { Pair::SERVER_V6.into() };
    SocketAddr::new(address, PORT)
}

fn client(number: u8, ipv4: bool) -> IpAddr {
    if ipv4 { Pair::client_v4(number).into() } else { Pair::client_v6(number).into() }
}

/// A `tracker trace` that runs; killed on drop.
struct Tracing {
    child: Supervised,
    /// What it prints, until nobody reads it any more.
    output: Option<PipeReader>,
}

impl Tracing {
    /// Starts it, and waits until it traces.
    fn start(pair: &Pair, options: &[&str]) -> Result<Self> {
        let mut command = pair.server.command(binary()?);
        let (output, printed) = io::pipe()?;
        command.arg("trace").args(options).stdin(Stdio::null()).stdout(printed).stderr(Stdio::piped());
        let mut child = Supervised::start(command, Printing::AsPrepared, Ending::AT_ONCE)?;
        let deadline = Instant::now() + patience(PATIENCE);
        while !child.output().starts_with("tracing XDP program") {
            child.ensure_running()?;
            ensure!(Instant::now() < deadline, "it does not trace; it said:\n{}", child.output());
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Self { child, output: Some(output) })
    }

    fn signal(&self, signal: libc::c_int) {
        self.child.signal(signal).expect("it runs");
    }

    fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait(patience(PATIENCE))
    }

    /// What it has printed, when it has ended.
    fn lines(mut self) -> Result<Vec<String>> {
        let status = self.wait()?;
        ensure!(status.success(), "{status}");
        let mut text = String::new();
        self.output.take().context("it is read once")?.read_to_string(&mut text)?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// What a line says behind its time: interface, source, `>`, destination, request, bytes, outcome,
/// action, info_hash.
fn words(line: &str) -> Vec<&str> {
    line.split(' ').skip(1).collect()
}

fn hex(hash: &InfoHash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_blocked_source_is_shown_with_the_list_that_it_is_on() {
    let list = std::env::temp_dir().join(format!("tracker-test-trace-{}", std::process::id()));
    std::fs::write(&list, format!("{}\n{}\n", client(2, true), client(2, false))).expect("writable");
    let [path, empty] = [list.to_str().expect("UTF-8"), "/dev/null"];
    let site = Site::with(&["--block-addresses", empty, "--block-addresses", path]);
    std::fs::remove_file(&list).expect("there");
    for ipv4 in [true, false] {
        let tracing = site.trace(&["--count", "1", "--reason", "blocked"]);
        // Nothing in the datagram is looked at.
        site.client(1, ipv4).connect().expect("answered");
        site.client(2, ipv4).send(&[0; 3]).expect("sent");
        let lines = tracing.lines().expect("it ends");
        assert_eq!(words(&lines[0])[3..], [server(ipv4).to_string().as_str(), "-", "3", "blocked:2", "drop", "-"]);
    }
}

#[test]
fn requests_are_shown_with_what_became_of_them() {
    let site = Site::new();
    for ipv4 in [true, false] {
        let family = if ipv4 { "ipv4" } else { "ipv6" };
        let mut one = site.client(0, ipv4);
        let source = one.socket().local_addr().expect("bound").to_string();
        // Enough peers for a reply that the packet has to grow for.
        let mut filler = site.client(1, ipv4);
        filler.connect().expect("answered");
        for port in 1000..1040 {
            let announce = Announce { num_want: 0, ..Announce::new(HASH, port) };
            filler.announce(&announce).expect("answered");
        }
        let tracing = site.trace(&["--count", "10", "--source", &client(0, ipv4).to_string()]);
        one.connect().expect("answered");
        let id = one.connection_id();
        // The last reply is longer than its request, by no more than what a veth pair always has
        // room for in front of a packet; see docs/operation/cards.md.
        for num_want in [0, 5, if ipv4 { 30 } else { 12 }] {
            one.announce(&Announce { num_want, ..Announce::new(HASH, 7000) }).expect("answered");
        }
        one.scrape(&[OTHER, HASH, HASH]).expect("answered");
        // Another source, which is not asked for.
        filler.scrape(&[HASH]).expect("answered");
        one.exchange(&Announce { connection_id: id ^ 1, ..Announce::new(OTHER, 7000) }.bytes()).expect("an error");
        one.exchange(&Announce { connection_id: id, ..Announce::new(OTHER, 0) }.bytes()).expect("an error");
        one.send(&Announce::new(HASH, 7000).bytes()[..97]).expect("sent");
        one.send(&bep15::header(id, 9, 1)).expect("sent");
        one.send(&bep15::header(id, 0, 1)).expect("sent");
        let hash = hex(&HASH);
        let other = hex(&OTHER);
        let announced = format!("announce 98 announce_{family} tx {hash}");
        let expected = [
            format!("connect 16 connect_{family} tx -"),
            announced.clone(),
            announced.clone(),
            announced,
            format!("scrape 76 scrape_{family} tx {other}+2"),
            format!("announce 98 connection_id_wrong tx {other}"),
            format!("announce 98 port_zero tx {other}"),
            format!("announce 97 too_short drop {hash}"),
            "action-9 16 unknown_action drop -".to_owned(),
            "connect 16 bad_magic drop -".to_owned(),
        ];
        let lines = tracing.lines().expect("it ends by itself");
        let server = server(ipv4).to_string();
        let shown: Vec<_> = lines
            .iter()
            .map(|line| {
                let words = words(line);
                assert_eq!(words[..4], [Pair::SERVER_INTERFACE, &source, ">", &server], "{line}");
                words[4..].join(" ")
            })
            .collect();
        assert_eq!(shown, expected);
    }
}

#[test]
fn only_what_is_asked_for_is_shown() {
    let site = Site::new();
    let mut one = site.client(0, true);
    one.connect().expect("answered");
    let other_source = Pair::client_v4(1).to_string();
    let (hash, other) = (hex(&HASH), hex(&OTHER));
    for (options, expected) in [
        (vec!["--reason", "connection_id_wrong"], vec!["connection_id_wrong", "connection_id_wrong"]),
        (vec!["--reason", "announce_ipv4,scrape_ipv4"], vec!["announce_ipv4", "scrape_ipv4"]),
        (vec!["--reason", "announce_ipv4", "scrape_ipv6"], vec!["announce_ipv4"]),
        (vec!["--info-hash", &hash], vec!["announce_ipv4", "scrape_ipv4"]),
        (
            vec!["--info-hash", &other, "--reason", "connection_id_wrong"],
            vec!["connection_id_wrong", "connection_id_wrong"],
        ),
        (vec!["--source", &other_source], vec![]),
        (vec!["--reason", "not_ip", "vlan_stack"], vec![]),
        (vec![], vec!["announce_ipv4", "scrape_ipv4", "connection_id_wrong", "connection_id_wrong"]),
    ] {
        let tracing = site.trace(&options);
        one.announce(&Announce::new(HASH, 7000)).expect("answered");
        one.scrape(&[HASH]).expect("answered");
        for _ in 0..2 {
            one.exchange(&Announce { connection_id: 1, ..Announce::new(OTHER, 7000) }.bytes()).expect("an error");
        }
        // Packets are shown within moments, but nobody says when the last one was.
        std::thread::sleep(patience(Duration::from_millis(500)));
        tracing.signal(libc::SIGTERM);
        let lines = tracing.lines().expect("SIGTERM ends it in order");
        // ARP and neighbour discovery come at any time.
        let shown: Vec<_> = lines.iter().map(|line| words(line)[6]).filter(|label| *label != "not_ip").collect();
        assert_eq!(shown, expected, "{options:?}");
    }
}

#[test]
fn signals_and_readers_that_are_gone_end_it_quietly() {
    let site = Site::new();
    for signal in [Some(libc::SIGINT), Some(libc::SIGTERM), None] {
        let mut tracing = site.trace(&[]);
        match signal {
            Some(signal) => tracing.signal(signal),
            // Nothing is printed meanwhile.
            None => drop(tracing.output.take()),
        }
        assert!(tracing.wait().expect("it ends").success(), "{signal:?}");
        let said = tracing.child.output();
        assert_eq!(said.lines().count(), 1, "nothing after the line with which it begins: {signal:?}: {said}");
    }
}

#[test]
fn one_process_at_a_time_traces() {
    let site = Site::new();
    let first = site.trace(&[]);
    let error = Tracing::start(&site.pair, &["--program", &site.program]).err().expect("somebody traces").to_string();
    assert!(error.contains(&format!("process {} traces this tracker already", first.child.id())), "{error}");
    // Killed, it leaves nothing on for longer than a few seconds.
    first.signal(libc::SIGKILL);
    let mut one = site.client(0, true);
    one.connect().expect("answered");
    let next = site.trace(&["--count", "1"]);
    one.scrape(&[HASH]).expect("answered");
    let lines = next.lines().expect("it ends");
    assert_eq!(words(&lines[0])[6], "scrape_ipv4", "nothing that came before: {lines:?}");
}

#[test]
fn wrong_use_is_refused_with_a_reason() {
    let site = Site::new();
    for (options, expected) in [
        (&["--reason", "connection_id_wron"][..], "did you mean connection_id_wrong?"),
        (&["--reason", "peers_given"], "no outcome has this name"),
        (&["--reason"], "a value is required"),
        (&["--source", "192.0.2.7:80"], "an address without a port"),
        (&["--info-hash", "3c3c"], "40 hexadecimal digits"),
        (&["--count", "0"], "at least 1"),
        (&["--count", "-1"], "a whole number"),
        (&["--program", "tracker"], "a number is wanted"),
        (&["--program", "4294967295"], "no tracker's XDP program with the number 4294967295"),
        (&["--interface", "eth0"], "unexpected argument"),
        (&["now"], "unexpected argument"),
    ] {
        let output =
            site.pair.server.command(binary().expect("built")).arg("trace").args(options).output().expect("runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{options:?}: {said}");
    }
    // Without the privileges.
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-all", "--inh-caps", "-all", "--reuid", "65534", "--clear-groups"]);
    let output = command.arg(binary().expect("built")).arg("trace").output().expect("setpriv of util-linux");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("CAP_SYS_ADMIN") && !output.status.success(), "{said}");
}

#[test]
fn several_trackers_are_listed() {
    let site = Site::new();
    let pair = Pair::new().expect("two namespaces");
    let _second = start(&pair, &[]);
    let output = site.pair.server.command(binary().expect("built")).arg("trace").output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(
        said.contains("choose one with --program") && said.contains(&format!("\n  {}, running", site.program)),
        "{said}"
    );
    assert!(said.contains("198.18.0.1:6969"), "{said}");
}

#[test]
fn trace_ends_with_its_tracker() {
    let site = Site::new();
    let mut tracing = site.trace(&[]);
    site._tracker.stop().expect("it ends");
    assert!(!tracing.wait().expect("it ends").success());
    let said = tracing.child.output();
    assert!(said.contains("the tracker has ended"), "{said}");
}
