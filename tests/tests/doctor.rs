//! `tracker doctor` on real interfaces with things set wrong on purpose, each of which it has to find,
//! and on one as it should be, which it must not complain about. It changes nothing.

use serde_json::Value;
use std::collections::BTreeMap;
use tracker::xdp::ethtool::set_queues;
use tracker_tests::{
    namespace::{End, Namespace, Offload, Pair, ethtool},
    tracker::binary,
};

/// `ETHTOOL_GTXCSUM`.
const TRANSMIT_CHECKSUMS: u32 = 0x16;

/// Findings by code: how bad, and the command.
struct Report {
    status: i32,
    findings: BTreeMap<String, (String, Option<String>)>,
    value: Value,
}

impl Report {
    fn severity(&self, code: &str) -> &str {
        &self.findings.get(code).unwrap_or_else(|| panic!("{code}: {:#}", self.value)).0
    }

    /// What is wrong with interfaces.
    fn wrong_with_interfaces(&self) -> Vec<&str> {
        let list = self.value["findings"].as_array().expect("a list");
        let wrong = list.iter().filter(|finding| !finding["interface"].is_null() && finding["severity"] != "good");
        wrong.map(|finding| finding["code"].as_str().expect("a code")).collect()
    }
}

fn doctor(namespace: &Namespace, prefix: &[&str], arguments: &[&str]) -> Report {
    let binary = binary().expect("built");
    let mut command = match prefix {
        [] => namespace.command(&binary),
        [program, rest @ ..] => {
            let mut command = namespace.command(program);
            command.args(rest).arg(&binary);
            command
        }
    };
    let output =
        command.args(["doctor", "--json", "--max-torrents", "1000", "--max-peers", "1000"]).args(arguments).output();
    let output = output.expect("it runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let value: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let entry = |finding: &Value| {
        let text = |name: &str| finding[name].as_str().map(str::to_owned);
        (text("code").expect("a code"), (text("severity").expect("a severity"), text("command")))
    };
    let findings = value["findings"].as_array().expect("a list").iter().map(entry).collect();
    Report { status: output.status.code().expect("it ends"), findings, value }
}

#[test]
fn an_interface_as_it_should_be_is_not_complained_about() {
    // Both ends: the clients' has a program that takes what comes, and the tracker's none.
    let pair = Pair::new().expect("two namespaces");
    pair.server.set("ipv4/conf/all/rp_filter", "0").expect("a setting");
    pair.server.set(&format!("ipv4/conf/{}/rp_filter", Pair::SERVER_INTERFACE), "0").expect("a setting");
    let links = || pair.server.ip("-details link show").expect("links");
    let before = links();
    let report = doctor(&pair.server, &[], &[Pair::SERVER_INTERFACE]);
    assert_eq!(report.wrong_with_interfaces(), Vec::<&str>::new(), "{:#}", report.value);
    // A network namespace shows nothing of the JIT's settings; they are looked for in the first one.
    assert!(report.findings.contains_key("bpf_jit"), "{:#}", report.value);
    for code in ["kernel", "xdp_program", "memory_limit", "memory", "xdp_features", "mtu", "other_xdp", "firewall"] {
        assert_eq!(report.severity(code), "good", "{code}: {:#}", report.value);
    }
    assert_eq!(links(), before, "it changes nothing");
    let expected = if report.value["worst"] == "good" { 0 } else { 1 };
    assert_eq!(report.status, expected, "{:#}", report.value);
}

#[test]
fn what_is_wrong_with_an_interface_is_found() {
    type Row<'a> = (&'a str, &'a str, &'a dyn Fn(&Pair) -> Option<tracker_tests::pass::Attached>);
    let interface = Pair::SERVER_INTERFACE;
    let rows: [Row<'_>; 4] = [
        ("mtu", "advice", &|pair| {
            pair.server.ip(&format!("link set {interface} mtu 1000")).expect("set");
            None
        }),
        ("other_xdp", "problem", &|pair| {
            let end = End { namespace: Some(&pair.server), interface, ..pair.client_end() };
            Some(end.pass().expect("attached"))
        }),
        ("rp_filter", "advice", &|pair| {
            pair.server.set(&format!("ipv4/conf/{interface}/rp_filter"), "1").expect("set");
            None
        }),
        ("rp_filter", "advice", &|pair| {
            pair.server.set("ipv4/conf/all/rp_filter", "1").expect("set");
            None
        }),
    ];
    for (code, severity, make_wrong) in rows {
        let pair = Pair::new().expect("two namespaces");
        pair.server.set("ipv4/conf/all/rp_filter", "0").expect("a setting");
        pair.server.set(&format!("ipv4/conf/{interface}/rp_filter"), "0").expect("a setting");
        let _program = make_wrong(&pair);
        let report = doctor(&pair.server, &[], &[interface]);
        assert_eq!(report.severity(code), severity, "{code}: {:#}", report.value);
        assert_eq!(report.wrong_with_interfaces(), [code], "{:#}", report.value);
        assert!(report.findings[code].1.is_some(), "{code} has a command");
        assert_eq!(report.status, if severity == "problem" { 2 } else { report.status.max(1) }, "{:#}", report.value);
    }
}

#[test]
fn a_driver_that_takes_no_rules_is_said_to_take_none() {
    let namespace = Namespace::new().expect("a namespace");
    namespace.ip("link add one numrxqueues 2 numtxqueues 2 type veth peer name two").expect("a pair");
    for (queues, said) in [(1, None), (2, Some("good"))] {
        namespace.run(|| set_queues("one", queues)).expect("set");
        let report = doctor(&namespace, &[], &["one"]);
        let found = report.findings.get("steering");
        assert_eq!(found.map(|(severity, _)| severity.as_str()), said, "{queues}: {:#}", report.value);
        assert!(found.is_none_or(|(_, command)| command.is_none()), "nothing can be done: {:#}", report.value);
    }
}

#[test]
#[ignore = "takes VLAN interfaces (8021q), as the guest of `cargo xtask offload` has them"]
fn vlan_tags_that_are_taken_off_are_found() {
    /// `ETHTOOL_GFLAGS`, `ETHTOOL_SFLAGS`, and `ETH_FLAG_RXVLAN` in them.
    const FLAGS: [u32; 2] = [0x25, 0x26];
    const TAKEN_OFF: u32 = 1 << 8;
    let pair = Pair::new().expect("two namespaces");
    let interface = Pair::SERVER_INTERFACE;
    let severity = || doctor(&pair.server, &[], &[interface]).severity("vlan_offload").to_owned();
    assert_eq!(severity(), "good", "without VLANs");
    pair.server.ip(&format!("link add link {interface} name vlan7 type vlan id 7")).expect("made");
    let report = doctor(&pair.server, &[], &[interface]);
    assert_eq!(report.severity("vlan_offload"), "advice", "{:#}", report.value);
    assert_eq!(report.findings["vlan_offload"].1, Some(format!("ethtool -K {interface} rxvlan off")));
    pair.server.run(|| {
        let flags = ethtool(interface, FLAGS[0], 0).expect("flags");
        ethtool(interface, FLAGS[1], flags & !TAKEN_OFF).expect("set");
    });
    assert_eq!(severity(), "good", "left on");
}

/// A command inside a namespace; whether it has worked.
fn works(namespace: &Namespace, line: &str) -> bool {
    let mut words = line.split(' ');
    let mut command = namespace.command(words.next().expect("a program"));
    command.args(words).output().is_ok_and(|output| output.status.success())
}

#[test]
fn firewalls_that_keep_the_port_out_are_found() {
    let both = |target: &str, command: &str| {
        ["udp", "tcp"].map(|protocol| format!("{command} -A INPUT -p {protocol} --dport 6969 -j {target}"))
    };
    let mut tried = Vec::new();
    // Rules of nftables and of what was before it; IPv6 as well.
    for command in ["iptables", "iptables-legacy", "ip6tables", "ip6tables-legacy"] {
        let rule = |rest: &str| format!("{command} {rest}");
        let rows: [(&str, Vec<String>, Option<&str>); 7] = [
            ("a rule against UDP", vec![rule("-A INPUT -p udp --dport 6969 -j DROP")], Some("udp")),
            ("a rule against some TCP ports", vec![rule("-A INPUT -p tcp --dport 6000:7000 -j REJECT")], Some("tcp")),
            (
                "rules against others",
                vec![rule("-A INPUT -p udp --dport 53 -j DROP"), rule("-A INPUT -i lo -j DROP")],
                None,
            ),
            ("everybody is refused", vec![rule("-P INPUT DROP")], Some("udp")),
            ("but for the port", [vec![rule("-P INPUT DROP")], both("ACCEPT", command).to_vec()].concat(), None),
            (
                "a chain of its own",
                vec![rule("-N own"), rule("-A INPUT -j own"), rule("-A own -p udp -j DROP")],
                Some("udp"),
            ),
            (
                "one that comes back",
                vec![rule("-N own"), rule("-A INPUT -j own"), rule("-A own -j RETURN"), rule("-A own -j DROP")],
                None,
            ),
        ];
        // Of IPv6 only what is not the same code.
        let some = if command.starts_with("ip6") { 1 } else { rows.len() };
        for (name, lines, expected) in rows.into_iter().take(some) {
            let namespace = Namespace::new().expect("root");
            if !works(&namespace, &format!("{command} -L INPUT")) {
                eprintln!("{command} does not work on this machine: not tried");
                break;
            }
            if tried.last() != Some(&command) {
                tried.push(command);
            }
            for line in &lines {
                assert!(works(&namespace, line), "{line}");
            }
            let report = doctor(&namespace, &[], &["lo"]);
            let (severity, advice) = &report.findings["firewall"];
            assert_eq!(severity == "advice", expected.is_some(), "{command}, {name}: {:#}", report.value);
            // The command does what it says.
            let Some(protocol) = expected else { continue };
            let advice = advice.as_deref().expect("a command");
            assert!(advice.contains(protocol), "{command}, {name}: {advice}");
            if advice.starts_with("nft ") {
                continue;
            }
            for line in advice.split("; ") {
                assert!(works(&namespace, line), "{line}");
            }
            assert_eq!(doctor(&namespace, &[], &["lo"]).severity("firewall"), "good", "{command}, {name}: {advice}");
        }
    }
    // A kernel may lack the older ones.
    for one_of in [["iptables", "iptables-legacy"], ["ip6tables", "ip6tables-legacy"]] {
        assert!(one_of.iter().any(|command| tried.contains(command)), "tried: {tried:?}, and none of {one_of:?}");
    }
}

#[test]
fn what_is_wrong_with_the_other_end_is_found() {
    // Both ends in one namespace, so that each can be asked.
    let namespace = Namespace::new().expect("root");
    namespace.ip("link add one type veth peer name two").expect("a pair");
    namespace.ip("link set one up").expect("up");
    namespace.ip("link set two up").expect("up");
    for interface in ["all", "one"] {
        namespace.set(&format!("ipv4/conf/{interface}/rp_filter"), "0").expect("a setting");
    }
    let report = doctor(&namespace, &[], &["one"]);
    assert_eq!(report.wrong_with_interfaces(), ["veth_checksums", "veth_other_end"], "{:#}", report.value);
    assert_eq!(report.findings["veth_checksums"].1.as_deref(), Some("ethtool -K two tx off"));
    // No driver takes that in native mode.
    namespace.ip("link set one mtu 9000").expect("set");
    let report = doctor(&namespace, &[], &["one"]);
    assert_eq!((report.severity("mtu"), report.status), ("problem", 2), "{:#}", report.value);
    assert_eq!(report.findings["mtu"].1.as_deref(), Some("ip link set dev one mtu 1500"));
    namespace.ip("link set one mtu 1500").expect("set");
    namespace.run(|| {
        Offload::TransmitChecksums.set("two", false).expect("set");
        assert_eq!(ethtool("two", TRANSMIT_CHECKSUMS, 0).expect("asked"), 0);
    });
    let end = End { namespace: Some(&namespace), interface: "two", mac: [0; 6], addresses: &[] };
    let _pass = end.pass().expect("attached");
    let report = doctor(&namespace, &[], &["one"]);
    assert_eq!(report.wrong_with_interfaces(), Vec::<&str>::new(), "{:#}", report.value);
    assert_eq!(doctor(&namespace, &[], &["two"]).wrong_with_interfaces().first(), Some(&"other_xdp"));
}

#[test]
fn what_is_missing_around_it_is_found() {
    let namespace = Namespace::new().expect("root");
    // Without the right to load programs, and with few files.
    let report = doctor(&namespace, &["setpriv", "--bounding-set=-bpf,-sys_admin", "--inh-caps=-all"], &["lo"]);
    assert_eq!(report.severity("xdp_program"), "problem", "{:#}", report.value);
    let told = report.value.to_string();
    assert!(told.contains("CAP_BPF"), "{told}");
    assert_eq!(report.status, 2);
    let report = doctor(&namespace, &["prlimit", "--nofile=1024:1024"], &["lo"]);
    assert_eq!(report.severity("descriptors"), "advice", "{:#}", report.value);
    // A mount namespace of its own without a BPF file system.
    let without = ["unshare", "--mount", "sh", "-c", "umount -a -t bpf; exec \"$0\" \"$@\""];
    let report = doctor(&namespace, &without, &["lo"]);
    assert_eq!(report.severity("bpf_file_system"), "advice", "{:#}", report.value);
    // No such interface, and no default route.
    for (arguments, status, said) in
        [(&["nowhere0"][..], 3, "there is no interface nowhere0"), (&["--port", "x"], 2, "--port")]
    {
        let output =
            namespace.command(binary().expect("built")).arg("doctor").args(arguments).output().expect("it runs");
        assert_eq!(output.status.code(), Some(status), "{arguments:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{arguments:?}");
    }
}
