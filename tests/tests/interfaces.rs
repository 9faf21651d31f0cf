//! What becomes of XDP while interfaces and addresses come and go under the running daemon, and
//! other programs with them: real interfaces in network namespaces, and counters that say who has
//! answered.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process, thread,
    time::Duration,
};
use tracker::xdp::{bpf_link, netlink, offload};
use tracker_tests::{
    client::{UdpClient, http_get},
    control_group::ControlGroup,
    namespace::{End, Namespace, connect},
    pass, soon,
    tracker::{Metrics, Tracker},
};

const PORT: u16 = 6969;

/// The interfaces of a pair, and what the tracker is told to attach to.
const SERVER: &str = "server0";
const CLIENT: &str = "client0";

/// The tracker's host and the clients' host, with a cable between them or not.
struct Hosts {
    server: Namespace,
    client: Namespace,
}

/// The tracker's address on the cable of this number.
const fn server_v4(cable: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, cable, 1)
}

const fn client_v4(cable: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 18, cable, 2)
}

const fn server_v6(cable: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, cable as u16, 0, 0, 0, 1)
}

const fn client_v6(cable: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, cable as u16, 0, 0, 0, 2)
}

impl Hosts {
    fn new() -> Self {
        Self { server: Namespace::new().expect("root"), client: Namespace::new().expect("root") }
    }

    /// Two hosts with a cable, number 0.
    fn connected() -> Self {
        let hosts = Self::new();
        hosts.plug(SERVER, CLIENT, 0);
        hosts
    }

    /// Connects the hosts by a cable: names of its ends, and its number.
    fn plug(&self, server: &str, client: &str, cable: u8) {
        let addresses = |v4: Ipv4Addr, v6: Ipv6Addr| [(IpAddr::from(v4), 24), (IpAddr::from(v6), 64)];
        let its = addresses(server_v4(cable), server_v6(cable));
        let theirs = addresses(client_v4(cable), client_v6(cable));
        let one = End {
            namespace: Some(&self.server),
            interface: server,
            mac: [0x02, 0, 0, 0, cable, 0x01],
            addresses: &its,
        };
        let other = End {
            namespace: Some(&self.client),
            interface: client,
            mac: [0x02, 0, 0, 0, cable, 0x02],
            addresses: &theirs,
        };
        connect(one, other).expect("a veth pair");
    }

    /// Attaches the program that passes everything at the clients' end.
    fn pass(&self, client: &str) -> pass::Attached {
        self.client.run(|| pass::attach(client)).expect("attached")
    }

    fn ip(&self, arguments: &str) {
        self.server.ip(arguments).expect("ip");
    }

    fn start(&self, options: &[&str]) -> anyhow::Result<Tracker> {
        let sizes = ["--max-torrents", "1000", "--max-peers", "1000"];
        Tracker::start(&self.server, &[&sizes[..], options].concat())
    }

    fn metrics(&self, tracker: &Tracker) -> Metrics {
        tracker.metrics(&self.server).expect("metrics")
    }

    /// Whether `/metrics` and `/stats` say that XDP runs in this mode on this interface.
    fn shows(&self, tracker: &Tracker, interface: &str, mode: &str) -> bool {
        let labels = [("interface", interface), ("mode", mode)];
        let metrics = self.metrics(tracker).sum("tracker_interface_info", &labels) == 1.0;
        let page = http_get(Some(&self.server), (Ipv4Addr::LOCALHOST, PORT).into(), "/stats.txt").expect("answered");
        let row = format!("{interface:<20}{mode}");
        metrics && page.text().expect("status 200").lines().any(|line| line.starts_with(&row))
    }

    /// Waits until the statistics and the kernel agree that XDP runs in this mode.
    fn await_mode(&self, tracker: &Tracker, interface: &str, mode: &str) {
        let kernel = || {
            let link = self.server.ip(&format!("link show {interface}")).unwrap_or_default();
            if link.contains("xdpgeneric") {
                "generic"
            } else if link.contains("xdp") {
                "native"
            } else {
                "off"
            }
        };
        soon(&format!("{interface} is {mode}"), || kernel() == mode && self.shows(tracker, interface, mode));
    }

    /// Who answers a connect to this address.
    fn answerer(&self, tracker: &Tracker, address: IpAddr, source: IpAddr) -> &'static str {
        let answered = || {
            let metrics = self.metrics(tracker);
            ["xdp", "udp_socket"].map(|path| {
                metrics.sum("tracker_requests_answered_total", &[("path", path), ("request", "connect")]) as u64
            })
        };
        let before = answered();
        UdpClient::connected(&self.client, SocketAddr::new(source, 0), SocketAddr::new(address, PORT))
            .expect("a connect is answered");
        match answered() {
            [xdp, _] if xdp > before[0] => "xdp",
            [_, sockets] if sockets > before[1] => "udp_socket",
            counters => panic!("nobody has answered: {before:?} {counters:?}"),
        }
    }

    /// Waits until XDP, or the sockets, answer both families on a cable.
    fn await_answerer(&self, tracker: &Tracker, cable: u8, who: &str) {
        for (address, source) in [
            (IpAddr::from(server_v4(cable)), IpAddr::from(client_v4(cable))),
            (server_v6(cable).into(), client_v6(cable).into()),
        ] {
            soon(&format!("{who} answers {address}"), || self.answerer(tracker, address, source) == who);
        }
    }

    /// Takes whatever holds a program on the tracker's interface off it, as `bpftool link detach`
    /// does.
    fn detach(&self, interface: &str) {
        self.server
            .enter(|| {
                let all = netlink::interfaces()?;
                let interface = all.iter().find(|one| one.name == interface).expect("it is there");
                bpf_link::detach_all(interface)
            })
            .expect("detached");
    }
}

#[test]
fn interface_that_comes_late_is_attached_to() {
    for (options, mode) in [
        (&["--interface", "late0"][..], "native"),
        (&["--interface", "late0", "--xdp-mode", "auto"], "native"),
        (&["--interface", SERVER, "--interface", "late0", "--xdp-mode", "native"], "native"),
        (&["--interface", "late0", "--interface", SERVER, "--xdp-mode", "generic"], "generic"),
    ] {
        let hosts = Hosts::connected();
        let _pass = hosts.pass(CLIENT);
        let tracker = hosts.start(options).unwrap_or_else(|error| panic!("{options:?}: {error:#}"));
        assert!(hosts.shows(&tracker, "late0", "off"), "{options:?}");
        soon("the log says that late0 is missing", || tracker.log().contains("no network interface late0"));
        if options.contains(&SERVER) {
            hosts.await_mode(&tracker, SERVER, mode);
        }
        hosts.plug("late0", "late1", 1);
        let _pass = hosts.pass("late1");
        hosts.await_mode(&tracker, "late0", mode);
        hosts.await_answerer(&tracker, 1, "xdp");
        assert!(tracker.stop().expect("ends on SIGTERM").success());
        assert!(!hosts.server.ip("link show late0").expect("there").contains("xdp"), "the program is still attached");
    }
}

#[test]
fn only_interface_is_waited_for_but_not_for_ever() {
    let hosts = Hosts::new();
    for mode in ["native", "generic"] {
        let error = hosts.start(&["--interface", "never0", "--xdp-mode", mode]).expect_err("it never comes");
        let error = format!("{error:#}");
        assert!(error.contains("no network interface never0") && error.contains("waiting"), "{mode}: {error}");
    }
    // Not waited for: it is there, and will never do.
    for mode in ["auto", "native"] {
        let error = hosts.start(&["--interface", "lo", "--xdp-mode", mode]).expect_err("no Ethernet");
        let error = format!("{error:#}");
        assert!(error.contains("not an Ethernet interface") && !error.contains("waiting"), "{mode}: {error}");
    }
    let tracker = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_secs(2));
            hosts.plug(SERVER, CLIENT, 0);
        });
        hosts.start(&["--interface", SERVER, "--xdp-mode", "native"]).expect("it came")
    });
    hosts.await_mode(&tracker, SERVER, "native");
}

#[test]
fn interface_that_is_made_anew_is_attached_to_again() {
    let hosts = Hosts::connected();
    let pass = hosts.pass(CLIENT);
    let tracker = hosts.start(&["--interface", SERVER, "--xdp-mode", "native"]).expect("the tracker runs");
    hosts.await_answerer(&tracker, 0, "xdp");
    drop(pass);
    for _ in 0..3 {
        hosts.ip(&format!("link delete {SERVER}"));
        soon("it is off", || hosts.shows(&tracker, SERVER, "off"));
        soon("the log line", || tracker.log().contains("server0 is gone"));
        hosts.plug(SERVER, CLIENT, 0);
        let _pass = hosts.pass(CLIENT);
        hosts.await_mode(&tracker, SERVER, "native");
        hosts.await_answerer(&tracker, 0, "xdp");
    }
    // So fast that nobody sees it go.
    hosts.ip(&format!("link delete {SERVER}"));
    hosts.plug(SERVER, CLIENT, 0);
    let _pass = hosts.pass(CLIENT);
    hosts.await_mode(&tracker, SERVER, "native");
    hosts.await_answerer(&tracker, 0, "xdp");
}

#[test]
fn interface_that_is_moved_away_loses_its_program_and_gets_it_again() {
    let hosts = Hosts::connected();
    let _pass = hosts.pass(CLIENT);
    let elsewhere = Namespace::new().expect("root");
    let tracker = hosts.start(&["--interface", SERVER, "--xdp-mode", "native"]).expect("the tracker runs");
    hosts.await_answerer(&tracker, 0, "xdp");
    hosts.ip(&format!("link set {SERVER} netns {}", elsewhere.name()));
    soon("it is off", || hosts.shows(&tracker, SERVER, "off"));
    soon("the log line", || tracker.log().contains("server0 is gone"));
    soon("the program is not left on it", || {
        !elsewhere.ip(&format!("link show {SERVER}")).expect("it is there").contains("xdp")
    });
    elsewhere.ip(&format!("link set {SERVER} netns {}", hosts.server.name())).expect("back");
    hosts.ip(&format!("address add {}/24 dev {SERVER}", server_v4(0)));
    hosts.ip(&format!("link set {SERVER} up"));
    hosts.await_mode(&tracker, SERVER, "native");
    soon("XDP answers", || hosts.answerer(&tracker, server_v4(0).into(), client_v4(0).into()) == "xdp");
}

#[test]
fn renamed_interface_keeps_its_program_until_another_has_its_name() {
    let hosts = Hosts::connected();
    let _pass = hosts.pass(CLIENT);
    let tracker = hosts.start(&["--interface", SERVER, "--xdp-mode", "native"]).expect("the tracker runs");
    hosts.ip(&format!("link set {SERVER} down"));
    hosts.ip(&format!("link set {SERVER} name other0"));
    hosts.ip("link set other0 up");
    hosts.await_mode(&tracker, "other0", "native");
    assert!(!hosts.shows(&tracker, SERVER, "native"));
    hosts
        .server
        .ip(&format!("address replace {}/64 dev other0", server_v6(0)))
        .expect("IPv6 addresses go with the link");
    soon("XDP answers", || hosts.answerer(&tracker, server_v4(0).into(), client_v4(0).into()) == "xdp");

    hosts.plug(SERVER, "client1", 1);
    let _pass = hosts.pass("client1");
    hosts.await_mode(&tracker, SERVER, "native");
    hosts.await_answerer(&tracker, 1, "xdp");
    assert!(!hosts.server.ip("link show other0").expect("there").contains("xdp"), "the program is on both");
    // A name can also come to an interface that has been there all the time.
    hosts.ip(&format!("link delete {SERVER}"));
    soon("it is off", || hosts.shows(&tracker, SERVER, "off"));
    hosts.ip("link set other0 down");
    hosts.ip(&format!("link set other0 name {SERVER}"));
    hosts.ip(&format!("link set {SERVER} up"));
    hosts.await_mode(&tracker, SERVER, "native");
}

#[test]
fn interfaces_that_swap_their_names_swap_nothing_else() {
    let hosts = Hosts::connected();
    hosts.plug("server1", "client1", 1);
    let _pass = [hosts.pass(CLIENT), hosts.pass("client1")];
    let options = ["--interface", SERVER, "--interface", "server1", "--xdp-mode", "native"];
    let tracker = hosts.start(&options).expect("the tracker runs");
    for (from, to) in [(SERVER, "spare"), ("server1", SERVER), ("spare", "server1")] {
        hosts.ip(&format!("link set {from} down"));
        hosts.ip(&format!("link set {from} name {to}"));
        hosts.ip(&format!("link set {to} up"));
    }
    for interface in [SERVER, "server1"] {
        hosts.await_mode(&tracker, interface, "native");
    }
    for cable in [0, 1] {
        soon("XDP answers", || hosts.answerer(&tracker, server_v4(cable).into(), client_v4(cable).into()) == "xdp");
    }
}

#[test]
fn program_that_is_taken_off_comes_back_but_not_in_a_fight() {
    for mode in ["native", "generic"] {
        let hosts = Hosts::connected();
        let _pass = hosts.pass(CLIENT);
        let tracker = hosts.start(&["--interface", SERVER, "--xdp-mode", mode]).expect("the tracker runs");
        hosts.await_answerer(&tracker, 0, "xdp");
        // This takes off only what is not held by a link.
        let _ = hosts.server.ip(&format!("link set {SERVER} xdp off"));
        hosts.await_mode(&tracker, SERVER, mode);
        hosts.await_answerer(&tracker, 0, "xdp");
        assert!(!tracker.log().contains("taken the XDP program off"), "{}", tracker.log());
        for seconds in [1, 2, 4] {
            hosts.detach(SERVER);
            soon("it is off", || hosts.shows(&tracker, SERVER, "off"));
            let said = format!(
                "somebody has taken the XDP program off; sockets answer UDP, and it is attached again in {seconds} s"
            );
            soon("the log line", || tracker.log().contains(&said));
            hosts.await_answerer(&tracker, 0, "udp_socket");
            hosts.await_mode(&tracker, SERVER, mode);
            hosts.await_answerer(&tracker, 0, "xdp");
        }
    }
}

#[test]
fn program_of_somebody_else_is_left_alone_until_it_goes() {
    let hosts = Hosts::connected();
    let _pass = hosts.pass(CLIENT);
    let tracker = hosts.start(&["--interface", SERVER, "--xdp-mode", "auto"]).expect("the tracker runs");
    hosts.await_mode(&tracker, SERVER, "native");
    hosts.detach(SERVER);
    let foreign = hosts.server.run(|| pass::attach(SERVER)).expect("attached");
    soon("it is said", || tracker.log().contains("somebody else's program is there"));
    assert!(hosts.shows(&tracker, SERVER, "off"));
    hosts.await_answerer(&tracker, 0, "udp_socket");
    // Longer than it takes to try again.
    thread::sleep(Duration::from_secs(3));
    assert!(hosts.server.ip(&format!("link show {SERVER}")).expect("there").contains("xdp"), "it was taken off");
    assert_eq!(tracker.log().matches("somebody else's program is there").count(), 1, "{}", tracker.log());
    drop(foreign);
    hosts.await_mode(&tracker, SERVER, "native");
    hosts.await_answerer(&tracker, 0, "xdp");
}

#[test]
fn force_takes_the_place_again_and_touches_no_other_namespace() {
    let hosts = Hosts::connected();
    // The number of its interface is that of the tracker's, in another namespace.
    let _pass = hosts.pass(CLIENT);
    let _foreign = hosts.server.run(|| pass::attach(SERVER)).expect("attached");
    let options = ["--interface", SERVER, "--xdp-mode", "native", "--force"];
    let tracker = hosts.start(&options).expect("the tracker runs");
    hosts.await_answerer(&tracker, 0, "xdp");
    hosts.detach(SERVER);
    let _foreign = hosts.server.run(|| pass::attach(SERVER)).expect("attached");
    soon("its place is taken", || hosts.answerer(&tracker, server_v4(0).into(), client_v4(0).into()) == "xdp");
    assert!(hosts.client.ip(&format!("link show {CLIENT}")).expect("there").contains("xdp"), "the clients' is gone");
}

#[test]
fn addresses_are_answered_for_when_they_come_and_not_when_they_go() {
    let hosts = Hosts::connected();
    let _pass = hosts.pass(CLIENT);
    let tracker = hosts.start(&["--interface", SERVER, "--xdp-mode", "native"]).expect("the tracker runs");
    let (v4, v6) = (Ipv4Addr::new(198, 18, 0, 77), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x77));
    for _ in 0..2 {
        hosts.ip(&format!("address add {v4}/24 dev {SERVER}"));
        hosts.ip(&format!("address add {v6}/64 dev {SERVER} nodad"));
        soon("XDP answers", || hosts.answerer(&tracker, v4.into(), client_v4(0).into()) == "xdp");
        soon("XDP answers", || hosts.answerer(&tracker, v6.into(), client_v6(0).into()) == "xdp");
        hosts.ip(&format!("address delete {v4}/24 dev {SERVER}"));
        hosts.ip(&format!("address delete {v6}/64 dev {SERVER}"));
        soon("nobody answers", || {
            let answered = |source: IpAddr, to: IpAddr| {
                UdpClient::connected(&hosts.client, SocketAddr::new(source, 0), SocketAddr::new(to, PORT)).is_ok()
            };
            !answered(client_v4(0).into(), v4.into()) && !answered(client_v6(0).into(), v6.into())
        });
    }
    // The same by another MAC address.
    hosts.ip(&format!("link set {SERVER} address 02:00:00:00:00:99"));
    hosts.client.ip(&format!("neighbour flush dev {CLIENT}")).expect("ip");
    hosts.await_answerer(&tracker, 0, "xdp");
}

#[test]
fn named_address_is_answered_for_once_this_host_has_it() {
    let hosts = Hosts::connected();
    let _pass = hosts.pass(CLIENT);
    hosts.server.set("ipv4/ip_nonlocal_bind", "1").expect("a setting");
    hosts.server.set("ipv6/ip_nonlocal_bind", "1").expect("a setting");
    let (v4, v6) = (Ipv4Addr::new(198, 18, 0, 77), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x77));
    let listen = [format!("{v4}:{PORT}"), format!("[{v6}]:{PORT}")];
    let options = ["--interface", SERVER, "--xdp-mode", "native", "--udp", &listen[0], "--udp", &listen[1]];
    let tracker = hosts.start(&options).expect("the tracker runs");
    for listen in &listen {
        soon("the log line", || tracker.log().contains(&format!("XDP does not answer for {listen} yet")));
    }
    hosts.ip(&format!("address add {v4}/24 dev {SERVER}"));
    soon("XDP answers", || hosts.answerer(&tracker, v4.into(), client_v4(0).into()) == "xdp");
    // Tentative for a second at least, and XDP is as silent as the kernel meanwhile.
    hosts.server.set(&format!("ipv6/conf/{SERVER}/accept_dad"), "1").expect("a setting");
    hosts.server.set(&format!("ipv6/conf/{SERVER}/dad_transmits"), "3").expect("a setting");
    hosts.ip(&format!("address add {v6}/64 dev {SERVER}"));
    let tentative =
        || hosts.server.ip(&format!("-6 address show dev {SERVER} tentative")).expect("ip").contains("::77");
    assert!(tentative(), "duplicate address detection is over already");
    thread::sleep(Duration::from_millis(500));
    let yet = !tracker.log().contains(&format!("XDP answers for {}, {}", listen[0], listen[1]));
    assert!(!tentative() || yet, "{}", tracker.log());
    soon("XDP answers", || !tentative() && hosts.answerer(&tracker, v6.into(), client_v6(0).into()) == "xdp");
    // Without the address on any interface, but with a route that says that it is ours.
    hosts.ip(&format!("address delete {v4}/24 dev {SERVER}"));
    soon("it is noticed", || tracker.log().matches(&format!("XDP does not answer for {} yet", listen[0])).count() == 2);
    hosts.ip(&format!("route add local {v4} dev lo"));
    hosts.ip(&format!("address add 198.18.0.78/24 dev {SERVER}"));
    hosts.client.ip(&format!("neighbour replace {v4} lladdr 02:00:00:00:00:01 dev {CLIENT}")).expect("ip");
    soon("XDP answers", || hosts.answerer(&tracker, v4.into(), client_v4(0).into()) == "xdp");
}

/// Connects to the tracker and says whether an answer came.
fn is_answered(client: &Namespace, cable: u8) -> bool {
    let source = SocketAddr::new(client_v4(cable).into(), 0);
    UdpClient::connected(client, source, SocketAddr::new(server_v4(cable).into(), PORT)).is_ok()
}

#[test]
fn auto_takes_native_mode_on_veth_only_while_the_other_end_receives() {
    let hosts = Hosts::connected();
    let tracker = hosts.start(&["--interface", SERVER]).expect("the tracker runs");
    hosts.await_mode(&tracker, SERVER, "generic");
    assert!(
        tracker.log().contains("other end of the veth pair server0 has no native XDP program"),
        "{}",
        tracker.log()
    );
    hosts.await_answerer(&tracker, 0, "xdp");
    for _ in 0..2 {
        let pass = hosts.pass(CLIENT);
        hosts.await_mode(&tracker, SERVER, "native");
        hosts.await_answerer(&tracker, 0, "xdp");
        drop(pass);
        hosts.await_mode(&tracker, SERVER, "generic");
        hosts.await_answerer(&tracker, 0, "xdp");
    }
    // One in generic mode does not receive either.
    hosts.client.ip(&format!("link set {CLIENT} down")).expect("ip");
    hosts.client.ip(&format!("link set {CLIENT} up")).expect("ip");
    tracker.stop().expect("ends on SIGTERM");
    let _pass = hosts.pass(CLIENT);
    let tracker = hosts.start(&["--interface", SERVER]).expect("the tracker runs");
    hosts.await_mode(&tracker, SERVER, "native");
}

#[test]
fn other_end_of_a_veth_pair_is_seen_in_the_same_namespace_too() {
    let hosts = Hosts::connected();
    hosts.ip("link add near0 type veth peer name near1");
    hosts.ip("link set near0 up");
    hosts.ip("link set near1 up");
    let tracker = hosts.start(&["--interface", "near0"]).expect("the tracker runs");
    hosts.await_mode(&tracker, "near0", "generic");
    let _pass = hosts.server.run(|| pass::attach("near1")).expect("attached");
    hosts.await_mode(&tracker, "near0", "native");
    // It may also move to where the numbers of interfaces mean others.
    hosts.ip(&format!("link set near1 netns {}", hosts.client.name()));
    thread::sleep(Duration::from_secs(3));
    hosts.await_mode(&tracker, "near0", "native");
}

#[test]
fn native_mode_on_request_warns_while_the_other_end_does_not_receive() {
    let hosts = Hosts::connected();
    let tracker = hosts.start(&["--interface", SERVER, "--xdp-mode", "native"]).expect("the tracker runs");
    hosts.await_mode(&tracker, SERVER, "native");
    let lost = || tracker.log().matches("the replies are LOST").count();
    assert_eq!(lost(), 1, "{}", tracker.log());
    assert!(!is_answered(&hosts.client, 0), "the warning is wrong");
    let pass = hosts.pass(CLIENT);
    soon("the other end is seen", || tracker.log().contains("the other end receives replies again"));
    assert!(is_answered(&hosts.client, 0));
    drop(pass);
    soon("it is warned again", || lost() == 2);
    drop(tracker);
    let _pass = hosts.pass(CLIENT);
    let tracker = hosts.start(&["--interface", SERVER, "--xdp-mode", "native"]).expect("the tracker runs");
    assert!(!tracker.log().contains("LOST"), "{}", tracker.log());
}

/// More changes at once than the kernel keeps notifications of.
#[test]
fn lost_notifications_lose_no_change() {
    let hosts = Hosts::connected();
    let _pass = hosts.pass(CLIENT);
    let tracker = hosts.start(&["--interface", SERVER, "--xdp-mode", "native"]).expect("the tracker runs");
    let process = libc::pid_t::try_from(tracker.process()).expect("a number");
    let signal = |signal| {
        // SAFETY: takes no pointer; the child has not been waited for, so the number is still its
        // own.
        assert_eq!(unsafe { libc::kill(process, signal) }, 0);
    };
    signal(libc::SIGSTOP);
    let lines: String = (0..3000)
        .map(|number| {
            let what = if number % 2 == 0 { "add" } else { "delete" };
            format!("address {what} 198.18.200.1/32 dev lo\n")
        })
        .collect();
    let mut batch = hosts.server.command("ip");
    let mut batch = batch.args(["-batch", "-"]).stdin(process::Stdio::piped()).spawn().expect("ip");
    batch.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("written");
    assert!(batch.wait().expect("ended").success());
    hosts.ip(&format!("link delete {SERVER}"));
    hosts.plug(SERVER, CLIENT, 0);
    let _pass = hosts.pass(CLIENT);
    signal(libc::SIGCONT);
    hosts.await_mode(&tracker, SERVER, "native");
    hosts.await_answerer(&tracker, 0, "xdp");
    // And they are heard again.
    hosts.ip(&format!("address add 198.18.0.77/24 dev {SERVER}"));
    soon("XDP answers", || {
        hosts.answerer(&tracker, Ipv4Addr::new(198, 18, 0, 77).into(), client_v4(0).into()) == "xdp"
    });
}

#[test]
fn receive_offload_of_vlan_tags_is_seen() {
    let hosts = Hosts::connected();
    hosts.server.run(|| {
        let all = netlink::interfaces().expect("netlink");
        let find = |name: &str| all.iter().find(|one| one.name == name).expect("it is there");
        assert!(!offload::takes_vlan_tags_off(find("lo")));
        for on in [true, false, true] {
            set_receive_vlan(SERVER, on);
            assert_eq!(offload::takes_vlan_tags_off(find(SERVER)), on);
        }
    });
}

/// `ethtool -K INTERFACE rxvlan on|off`
fn set_receive_vlan(interface: &str, on: bool) {
    const GET_FLAGS: u32 = 0x25;
    const SET_FLAGS: u32 = 0x26;
    const RECEIVE_VLAN: u32 = 1 << 8;
    let flags = tracker_tests::namespace::ethtool(interface, GET_FLAGS, 0).expect("ethtool");
    let flags = if on { flags | RECEIVE_VLAN } else { flags & !RECEIVE_VLAN };
    tracker_tests::namespace::ethtool(interface, SET_FLAGS, flags).expect("ethtool");
}

#[test]
fn control_group_without_room_for_the_maps_is_said_and_not_died_of() {
    // 250 MiB of maps.
    let options = ["--interface", SERVER, "--max-torrents", "1000000", "--max-peers", "3000000"];
    let hosts = Hosts::connected();
    let _pass = hosts.pass(CLIENT);
    let group = ControlGroup::new(100 << 20).expect("a control group can be made");
    let start = |options: &[&str]| Tracker::start_in(&hosts.server, options, |command| group.join(command));
    let forced = [&options[..], &["--xdp-mode", "native"]].concat();
    let error = format!("{:#}", start(&forced).expect_err("there is no room"));
    for part in ["control group", "100.0 MiB", "--max-torrents", "--xdp-mode off", "exit status: 1"] {
        assert!(error.contains(part), "{part:?} is not in {error}");
    }
    let tracker = start(&options).expect("goes on without XDP");
    soon("the log line", || tracker.log().contains("no XDP, UDP is answered by sockets only"));
    soon("the log line", || tracker.log().contains("before it is full"));
    assert!(hosts.shows(&tracker, SERVER, "off"));
    hosts.await_answerer(&tracker, 0, "udp_socket");
    tracker.stop().expect("ends on SIGTERM");
    // Smaller ones have room, in the same group.
    let small = ["--interface", SERVER, "--max-torrents", "1000", "--max-peers", "1000"];
    let tracker = start(&small).expect("there is room");
    hosts.await_mode(&tracker, SERVER, "native");
    assert!(!tracker.log().contains("control group"), "{}", tracker.log());
}
