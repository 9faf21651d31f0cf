//! `--tune` through the real daemon, on veth ends with several queues: what is set, what is said, and when
//! it is undone, by whom, and when it is not.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tracker::xdp::{bpf_link, ethtool::set_queues, netlink};
use tracker_tests::{
    bep15::Announce,
    bpffs::BpfFs,
    client::UdpClient,
    namespace::{Namespace, Offload, ethtool},
    pass, soon,
    tracker::{Tracker, binary},
};

const SERVER: &str = "server0";
const CLIENT: &str = "client0";

/// `ETHTOOL_GFLAGS`, `ETHTOOL_SFLAGS`, and `ETH_FLAG_RXVLAN` in them.
const GET_FLAGS: u32 = 0x25;
const SET_FLAGS: u32 = 0x26;
const VLAN: u32 = 1 << 8;

/// `ETH_FLAG_TXVLAN`: tags are put into packets by the card.
const SENT_VLAN: u32 = 1 << 7;

/// What an interface is like: queues for receiving, and whether VLAN tags are taken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    queues: usize,
    vlan: bool,
}

/// Before anybody has changed anything.
const BEFORE: Settings = Settings { queues: 1, vlan: true };

/// As `--tune` has it, of at most four queues.
fn tuned() -> Settings {
    Settings { queues: cores().min(4), vlan: false }
}

fn cores() -> usize {
    let online = fs::read_to_string("/sys/devices/system/cpu/online").expect("it is there");
    let parts = online.trim().split(',').map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        last.parse::<usize>().expect("a number") + 1 - first.parse::<usize>().expect("a number")
    });
    parts.sum()
}

/// A host for trackers and one for clients, with a cable between them, and a BPF file system.
struct Site {
    server: Namespace,
    client: Namespace,
    pins: BpfFs,
    pass: Option<pass::Attached>,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    /// The clients' end sends by so many queues.
    fn new(sending: u32) -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (server, client) = (Namespace::new().expect("root"), Namespace::new().expect("root"));
        let pins = BpfFs::mount().expect("a BPF file system");
        let mut site = Self { server, client, pins, pass: None, _turn: turn };
        site.plug(SERVER, CLIENT, sending);
        site.pass = Some(site.client.run(|| pass::attach(CLIENT)).expect("attached"));
        site
    }

    fn plug(&self, server: &str, client: &str, sending: u32) {
        let peer = format!("peer name {client} netns {} numrxqueues 1 numtxqueues {sending}", self.client.name());
        // A tracker may wait for one of its name.
        self.server.ip(&format!("link add new0 numrxqueues 4 numtxqueues 1 type veth {peer}")).expect("a pair");
        self.server.run(|| set_queues("new0", BEFORE.queues as u32)).expect("one queue");
        self.server.ip(&format!("link set new0 name {server}")).expect("renamed");
        self.server.ip(&format!("link set {server} up")).expect("up");
        self.client.ip(&format!("link set {client} up")).expect("up");
        self.client.run(|| Offload::TransmitChecksums.set(client, false)).expect("set");
    }

    fn start(&self, options: &[&str]) -> Tracker {
        self.try_start(options).expect("the tracker runs")
    }

    fn try_start(&self, options: &[&str]) -> anyhow::Result<Tracker> {
        let path = self.pins.path();
        let mut all = vec!["--max-torrents", "1000", "--max-peers", "1000", "--interface", SERVER];
        if !options.contains(&"--pin-path") {
            all.extend(["--pin-path", path.to_str().expect("UTF-8")]);
        }
        Tracker::start(&self.server, &[&all[..], options].concat())
    }

    fn detach_from(&self, namespace: &Namespace) -> String {
        let mut command = namespace.command(binary().expect("a tracker"));
        let output = command.args(["detach", "--pin-path"]).arg(self.pins.path()).output().expect("it runs");
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{text}");
        text
    }

    fn detach(&self) -> String {
        self.detach_from(&self.server)
    }

    fn record(&self) -> PathBuf {
        self.pins.path().join("TUNED")
    }

    fn settings(&self, interface: &str) -> Settings {
        settings(&self.server, interface)
    }

    fn set_vlan(&self, on: bool) {
        self.server.run(|| {
            let flags = ethtool(SERVER, GET_FLAGS, 0).expect("flags") & !VLAN;
            ethtool(SERVER, SET_FLAGS, flags | if on { VLAN } else { 0 }).expect("set");
        });
    }
}

/// As the kernel shows them in /sys, and by another request than the tracker's.
fn settings(namespace: &Namespace, interface: &str) -> Settings {
    let queues = namespace.command("ls").arg(format!("/sys/class/net/{interface}/queues")).output().expect("ls");
    let queues = String::from_utf8_lossy(&queues.stdout).lines().filter(|name| name.starts_with("rx-")).count();
    let flags = namespace.run(|| ethtool(interface, GET_FLAGS, 0)).expect("flags");
    Settings { queues, vlan: flags & VLAN != 0 }
}

/// How a tracker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
}

#[test]
fn nothing_is_touched_without_the_option() {
    let site = Site::new(1);
    for options in [&[][..], &["--tune=off"], &["--pin-path", "off"]] {
        let tracker = site.start(options);
        assert_eq!(site.settings(SERVER), BEFORE, "{options:?}");
        assert!(!site.record().exists() && !tracker.log().contains("--tune"), "{options:?}: {}", tracker.log());
        assert!(tracker.stop().expect("it ran").success());
        assert!(!site.detach().contains("--tune"));
        assert_eq!(site.settings(SERVER), BEFORE, "{options:?}");
    }
}

#[test]
fn what_is_set_stays_as_long_as_xdp_and_is_undone_with_it() {
    // (options, how it ends, what it is like then)
    let rows: [(&[&str], End, Settings); 7] = [
        (&["--pin-path", "off"], End::Stop, BEFORE),
        (&["--detach-on-stop"], End::Stop, BEFORE),
        (&["--detach-on-stop", "--user", "65534", "--group", "65534"], End::Stop, BEFORE),
        (&["--xdp-mode", "generic", "--detach-on-stop"], End::Stop, BEFORE),
        (&[], End::Stop, tuned()),
        (&[], End::Kill, tuned()),
        // Documented: without pins nobody knows what it was.
        (&["--pin-path", "off"], End::Kill, tuned()),
    ];
    for (options, end, expected) in rows {
        let site = Site::new(1);
        let tracker = site.start(&[options, &["--tune"]].concat());
        // The log comes later than answers.
        soon("it has started", || tracker.log().contains("is running"));
        let log = tracker.log();
        assert_eq!(site.settings(SERVER), tuned(), "{options:?}: {log}");
        assert!(log.contains("taking VLAN tags off (rxvlan): on → off (--tune)"), "{options:?}: {log}");
        let not_offered = log.lines().find(|line| line.contains("leaves what its driver does not offer"));
        let parts = ["descriptors of a ring", "rx-flow-hash udp4", "rx-flow-hash udp6"];
        assert!(not_offered.is_some_and(|line| parts.iter().all(|part| line.contains(part))), "{log}");
        assert!(!not_offered.is_some_and(|line| line.contains("rxvlan")), "{log}");
        match end {
            End::Stop => assert!(tracker.stop().expect("it ran").success(), "{options:?}"),
            End::Kill => drop(tracker.kill().expect("it ran")),
        }
        soon(&format!("{options:?} {end:?}"), || site.settings(SERVER) == expected);
        if site.record().exists() {
            let said = site.detach();
            assert!(said.contains("off → on, as it was before --tune"), "{said}");
            assert_eq!(site.settings(SERVER), BEFORE, "{options:?}: {said}");
        }
        // Another user may not remove the directory itself.
        assert!(!site.record().exists(), "{options:?}");
    }
}

#[test]
fn the_next_tracker_undoes_what_a_killed_one_has_set_or_goes_on_with_it() {
    let site = Site::new(1);
    site.plug("other0", "other1", 1);
    drop(site.start(&["--tune"]).kill().expect("it ran"));
    assert_eq!(site.settings(SERVER), tuned());
    // With it: what it was before the first one is what it will be.
    let tracker = site.start(&["--tune"]);
    assert!(!tracker.log().contains("→"), "{}", tracker.log());
    drop(tracker.kill().expect("it ran"));
    assert_eq!(site.settings(SERVER), tuned());
    // On another interface besides, and then on that alone.
    drop(site.start(&["--tune", "--interface", "other0"]).kill().expect("it ran"));
    assert_eq!((site.settings(SERVER), site.settings("other0")), (tuned(), tuned()));
    // Without it.
    let tracker = site.start(&[]);
    assert_eq!((site.settings(SERVER), site.settings("other0")), (BEFORE, BEFORE), "{}", tracker.log());
    assert!(!site.record().exists() && tracker.log().contains("as it was before --tune"), "{}", tracker.log());
    assert!(tracker.stop().expect("it ran").success());
    assert!(!site.detach().contains("--tune"));
}

#[test]
fn what_somebody_has_set_since_is_left() {
    let by_detach: &[&str] = &[];
    for options in [by_detach, &["--detach-on-stop"], &["--pin-path", "off"]] {
        let site = Site::new(1);
        let tracker = site.start(&[options, &["--tune"]].concat());
        site.server.run(|| set_queues(SERVER, 3)).expect("set");
        assert!(tracker.stop().expect("it ran").success());
        let said = if options == by_detach { site.detach() } else { String::new() };
        assert_eq!(site.settings(SERVER), Settings { queues: 3, vlan: true }, "{options:?}: {said}");
        assert!(options != by_detach || cores() == 1 || said.contains("3 is left, as somebody has set it"), "{said}");
    }
    // Also by the next tracker with it, as long as it has nothing against it.
    let site = Site::new(1);
    drop(site.start(&["--tune"]).kill().expect("it ran"));
    site.server.run(|| set_queues(SERVER, 4)).expect("set");
    site.set_vlan(true);
    let tracker = site.start(&["--tune", "--detach-on-stop"]);
    assert_eq!(site.settings(SERVER), Settings { queues: 4, vlan: false }, "{}", tracker.log());
    // And while it runs: it sets everything once.
    site.set_vlan(true);
    site.server.run(|| {
        let all = netlink::interfaces().expect("netlink");
        let server = all.into_iter().find(|interface| interface.name == SERVER).expect("it is there");
        bpf_link::detach_all(&server).expect("taken off");
    });
    soon("XDP is attached again", || tracker.log().contains("XDP answers UDP"));
    assert_eq!(site.settings(SERVER), Settings { queues: 4, vlan: true }, "{}", tracker.log());
    assert!(tracker.stop().expect("it ran").success());
    assert_eq!(site.settings(SERVER), Settings { queues: 4, vlan: true });
}

#[test]
fn a_start_that_fails_leaves_nothing_changed() {
    for options in [&["--tune"][..], &["--tune", "--pin-path", "off"]] {
        let site = Site::new(1);
        let other = site.server.run(|| pass::attach(SERVER)).expect("attached");
        let error = site.try_start(options).map(drop).expect_err("there is no room").to_string();
        drop(other);
        assert_eq!(site.settings(SERVER), BEFORE, "{options:?}: {error}");
        assert!(!site.pins.path().exists(), "{options:?}");
    }
}

#[test]
fn interfaces_that_come_later_are_tuned_and_those_elsewhere_are_left() {
    let site = Site::new(1);
    let tracker = site.start(&["--tune", "--interface", "other0"]);
    site.plug("other0", "other1", 1);
    soon("the new one is tuned", || site.settings("other0") == tuned());
    assert!(tracker.stop().expect("it ran").success());
    // With the number of the tracker's interface, in another namespace.
    let elsewhere = Namespace::new().expect("root");
    let index = site.server.ip(&format!("-oneline link show {SERVER}")).expect("a link");
    let index = index.split(':').next().expect("a number").to_owned();
    elsewhere
        .ip(&format!("link add {SERVER} index {index} numrxqueues 4 type veth peer name {CLIENT} index 99"))
        .expect("a pair");
    elsewhere.run(|| set_queues(SERVER, tuned().queues as u32)).expect("set");
    let before = settings(&elsewhere, SERVER);
    let said = site.detach_from(&elsewhere);
    assert!(said.contains("is gone from here: nothing is undone"), "{said}");
    assert_eq!((settings(&elsewhere, SERVER), site.settings(SERVER)), (before, tuned()), "{said}");
}

#[test]
fn a_tracker_that_takes_the_place_of_another_goes_on_with_what_it_has_set() {
    let site = Site::new(1);
    let tracker = site.start(&["--tune", "--detach-on-stop"]);
    soon("it has started", || tracker.log().contains("privileges from here on"));
    tracker.signal_until(libc::SIGUSR2, "privileges from here on").expect("the next one has started");
    soon("it has taken over", || tracker.log().contains("XDP has answered UDP and goes on"));
    assert_eq!(site.settings(SERVER), tuned(), "{}", tracker.log());
    assert!(tracker.stop().expect("it ran").success());
    assert_eq!(site.settings(SERVER), BEFORE);
}

#[test]
fn queues_that_xdp_needs_are_there_with_it() {
    if cores() < 2 {
        return;
    }
    // The kernel attaches to a veth end only if it receives by as many queues as the other end sends by.
    let site = Site::new(2);
    let native = ["--xdp-mode", "native", "--detach-on-stop"];
    assert!(site.try_start(&native).is_err());
    let tracker = site.start(&[&native[..], &["--tune"]].concat());
    assert!(tracker.log().contains("in native mode"), "{}", tracker.log());
    assert!(tracker.stop().expect("it ran").success());
    assert_eq!(site.settings(SERVER), BEFORE);
}

#[test]
#[ignore = "takes VLAN interfaces (8021q), as the guest of `cargo xtask offload` has them"]
fn requests_by_vlans_are_answered_by_sockets_or_with_their_tag() {
    const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 1);
    const CLIENT_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 7, 0, 2);
    // (options, who answers, what is said of it)
    for (options, path, said) in [
        (&[][..], "udp_socket", "the card of server0 takes the VLAN tags off"),
        (&["--tune"], "xdp", "taking VLAN tags off (rxvlan): on → off"),
    ] {
        let site = Site::new(1);
        for (namespace, interface, address) in
            [(&site.server, SERVER, SERVER_ADDRESS), (&site.client, CLIENT, CLIENT_ADDRESS)]
        {
            namespace.ip(&format!("link add link {interface} name vlan7 type vlan id 7")).expect("made");
            namespace.ip(&format!("address add {address}/24 dev vlan7")).expect("set");
            namespace.ip("link set vlan7 up").expect("up");
        }
        site.client.run(|| {
            let flags = ethtool(CLIENT, GET_FLAGS, 0).expect("flags") & !SENT_VLAN;
            ethtool(CLIENT, SET_FLAGS, flags).expect("tags are in packets");
        });
        let tracker = site.start(&[options, &["--detach-on-stop"]].concat());
        soon("it is said", || tracker.log().contains(said));
        let (source, to) = (SocketAddr::from((CLIENT_ADDRESS, 0)), SocketAddr::from((SERVER_ADDRESS, 6969)));
        let mut client = UdpClient::connected(&site.client, source, to).expect("a connection id");
        client.announce(&Announce::new([7; 20], 7000)).expect("an answer");
        let metrics = tracker.metrics(&site.server).expect("metrics");
        let answered =
            |path| metrics.sum("tracker_requests_answered_total", &[("path", path), ("request", "announce")]) as u64;
        let other = if path == "xdp" { "udp_socket" } else { "xdp" };
        assert!(answered(path) > 0 && answered(other) == 0, "{options:?}: {}", tracker.log());
        assert!(tracker.stop().expect("it ran").success());
    }
}
