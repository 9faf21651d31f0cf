//! What the tracker may still do after its start: what the kernel says of each of its threads, what
//! does not work from within, and that everything else does.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tracker_tests::{
    bep15::Announce,
    bpffs::BpfFs,
    client::{UdpClient, http_get},
    namespace::{Namespace, Pair},
    soon,
    temporary::Directory,
    tracker::{Tracker, binary},
};

const TRACKER: SocketAddr = SocketAddr::new(IpAddr::V4(Pair::SERVER_V4), 6969);
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6969);

/// `nobody`, on nearly every system.
const NOBODY: u32 = 65534;

// Of linux/capability.h.
const DAC_READ_SEARCH: u64 = 1 << 2;
const NET_ADMIN: u64 = 1 << 12;
const SYS_ADMIN: u64 = 1 << 21;
const LOAD: u64 = 1 << 38 | 1 << 39;

/// One test at a time: see `veth.rs`.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the kernel says of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Thread {
    name: String,
    user: u32,
    effective: u64,
    permitted: u64,
    bounding: u64,
    no_new_privileges: u32,
    seccomp: u32,
}

fn threads(process: u32) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it runs");
    let status = |path: PathBuf| fs::read_to_string(path.join("status")).ok();
    let thread = |text: String| {
        let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(":\t")).collect();
        let bits = |name: &str| u64::from_str_radix(fields[name], 16).expect("bits");
        Thread {
            name: fields["Name"].into(),
            user: fields["Uid"].split_whitespace().nth(1).and_then(|user| user.parse().ok()).expect("a user"),
            effective: bits("CapEff"),
            permitted: bits("CapPrm"),
            bounding: bits("CapBnd"),
            no_new_privileges: fields["NoNewPrivs"].parse().expect("a number"),
            seccomp: fields["Seccomp"].parse().expect("a number"),
        }
    };
    tasks.flatten().filter_map(|task| status(task.path())).map(thread).collect()
}

/// Checks all threads of a tracker. Those of the log and for signals need no capabilities at all.
fn check(tracker: &Tracker, name: &str, user: u32, effective: u64, permitted: u64) {
    let threads = threads(tracker.process());
    assert!(threads.len() > 8, "{name}: {threads:#?}");
    for thread in threads {
        let bare = ["log", "signals"].contains(&thread.name.as_str());
        let expected = if bare { (0, 0) } else { (effective, permitted) };
        assert_eq!((thread.effective, thread.permitted), expected, "{name}: {thread:#x?}");
        assert_eq!((thread.user, thread.no_new_privileges, thread.seccomp), (user, 1, 2), "{name}: {thread:#x?}");
        // Who has no capabilities has no say in what root might give him, and nobody gives him any.
        assert!(bare || permitted == 0 || thread.bounding & !permitted == 0, "{name}: {thread:#x?}");
    }
}

#[test]
fn every_thread_has_what_it_needs_and_no_more() {
    let _turn = turn();
    let pair = Pair::new().expect("two namespaces");
    const XDP: &[&str] = &["--interface", Pair::SERVER_INTERFACE];
    // Without XDP it depends on net.core.rmem_max, whose default is not enough.
    let limit = fs::read_to_string("/proc/sys/net/core/rmem_max").ok().and_then(|limit| limit.trim().parse().ok());
    let buffers = if limit.is_some_and(|limit: u64| limit >= 8 << 20) { 0 } else { NET_ADMIN };
    type Row = (&'static str, &'static [&'static str], u32, u64, u64);
    let rows: [Row; 7] = [
        ("sockets", &[], 0, buffers, buffers),
        ("sockets, a user", &["--user", "nobody"], NOBODY, buffers, buffers),
        ("no UDP", &["--udp", "off"], 0, 0, 0),
        ("XDP", XDP, 0, NET_ADMIN, NET_ADMIN | LOAD),
        (
            "XDP, a user by number",
            &["--interface", Pair::SERVER_INTERFACE, "--user=65534"],
            NOBODY,
            NET_ADMIN,
            NET_ADMIN | LOAD,
        ),
        ("XDP, for good", &["--interface", Pair::SERVER_INTERFACE, "--in-place-upgrade=off"], 0, NET_ADMIN, NET_ADMIN),
        (
            "XDP, force",
            &["--interface", Pair::SERVER_INTERFACE, "--force"],
            0,
            NET_ADMIN | SYS_ADMIN,
            NET_ADMIN | SYS_ADMIN | LOAD,
        ),
    ];
    for (name, options, user, effective, permitted) in rows {
        let tracker = Tracker::start(&pair.server, options).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        check(&tracker, name, user, effective, permitted);
        soon(name, || tracker.log().contains("privileges from here on"));
        assert!(tracker.stop().expect("it ran").success(), "{name}");
    }
}

#[test]
fn all_of_it_can_be_switched_off_and_who_has_nothing_loses_nothing() {
    let _turn = turn();
    let namespace = Namespace::new().expect("a namespace");
    let off = ["--drop-capabilities=off", "--landlock=off", "--seccomp=off"];
    let tracker = Tracker::start(&namespace, &off).expect("it runs");
    for thread in threads(tracker.process()) {
        assert!(
            thread.effective & SYS_ADMIN != 0 && thread.seccomp == 0 && thread.no_new_privileges == 0,
            "{thread:?}"
        );
    }
    assert!(tracker.stop().expect("it ran").success());

    // A user like others, who asks for somebody else.
    let directory = Directory::new("privileges-readable");
    let tracker = Tracker::start_in(&namespace, &[], |command| {
        let script = format!("exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups \"$0\" run --user root");
        *command = namespace.command("/bin/sh");
        command.args(["-c", &script]).arg(readable_binary(&directory));
    })
    .expect("it runs");
    check(&tracker, "a user", NOBODY, 0, 0);
    assert!(tracker.log().contains("only root can become user root"), "{}", tracker.log());
    assert!(tracker.stop().expect("it ran").success());
    for (options, part) in [
        (["--user", "no-such-user"], "there is no user no-such-user"),
        (["--group", "no-such-group"], "there is no group no-such-group"),
    ] {
        let error = format!("{:#}", Tracker::start(&namespace, &options).expect_err("nobody to become"));
        assert!(error.contains(part), "{error}");
    }
}

/// The tracker where every user gets at it.
fn readable_binary(directory: &Directory) -> PathBuf {
    let path = directory.path("tracker");
    fs::copy(binary().expect("a tracker"), &path).expect("a copy");
    path
}

/// An announce by UDP. The reply comes from XDP, if that answers.
fn announce(pair: &Pair, port: u16) {
    let source = SocketAddr::from((Pair::client_v4(0), 0));
    let mut client = UdpClient::connected(&pair.client, source, TRACKER).expect("a connection id");
    client.announce(&Announce::new([7; 20], port)).expect("an answer");
}

fn by_xdp(tracker: &Tracker, pair: &Pair) -> f64 {
    let labels = [("path", "xdp"), ("request", "announce")];
    tracker.metrics(&pair.server).expect("metrics").sum("tracker_requests_answered_total", &labels)
}

#[test]
fn another_user_does_all_that_root_does() {
    let _turn = turn();
    let pair = Pair::new().expect("two namespaces");
    let pins = BpfFs::mount().expect("a BPF file system");
    let directory = Directory::new("privileges-user");
    let (state, config, list) = (directory.path("state"), directory.path("tracker.toml"), directory.path("list"));
    fs::write(&list, "").expect("writable");
    fs::write(&config, format!("interval = 600\nallow-list = [{list:?}]\n")).expect("writable");
    let program = directory.path("tracker");
    fs::copy(binary().expect("a tracker"), &program).expect("a copy");
    let path = pins.path();
    let start = || {
        Tracker::start_in(&pair.server, &[], |command| {
            *command = pair.server.command(&program);
            command.args(["run", "--user", "nobody", "--interface", Pair::SERVER_INTERFACE, "--interface", "later0"]);
            command.arg("--pin-path").arg(&path).arg("--state-dir").arg(&state).arg("--config").arg(&config);
        })
        .expect("it runs")
    };
    let allowed = NET_ADMIN | DAC_READ_SEARCH;
    let mut tracker = start();
    for round in 0..2 {
        check(&tracker, "with pins", NOBODY, allowed, allowed | LOAD);

        // An interface that appears later.
        pair.server.ip("link add later0 type veth peer name later1").expect("made");
        pair.server.ip("link set later0 up").expect("there");
        let runs = || pair.server.ip("link show later0").is_ok_and(|shown| shown.contains("xdp"));
        soon("it gets the program", runs);
        pair.server.ip("link delete later0").expect("it was there");

        // The configuration read again, with a list that has become another file.
        fs::write(directory.path("new"), format!("{}\n", "07".repeat(20))).expect("writable");
        fs::rename(directory.path("new"), &list).expect("the same directory");
        fs::write(&config, format!("interval = {}\nallow-list = [{list:?}]\n", 900 + round)).expect("writable");
        tracker.signal_until(libc::SIGHUP, "is in force; changed: interval").expect("it is read");
        announce(&pair, 3);
        assert!(by_xdp(&tracker, &pair) > 0.0, "{}", tracker.log());

        // Another program in its place.
        fs::copy(binary().expect("a tracker"), directory.path("new")).expect("a copy");
        fs::rename(directory.path("new"), &program).expect("the same directory");
        tracker.signal_until(libc::SIGUSR2, "is running").expect("it runs again");
        assert!(tracker.log().contains("taken over from the tracker before: 1 torrent"), "{}", tracker.log());
        assert!(tracker.log().contains("Landlock, as before"), "{}", tracker.log());
        check(&tracker, "after an upgrade", NOBODY, allowed, allowed | LOAD);
        announce(&pair, 4);

        // A stop and a start as root, with what the user has left.
        let log = tracker.log();
        assert!(!log.contains(" WARN ") || !log.contains("cannot"), "{log}");
        assert!(tracker.stop().expect("it ran").success());
        for file in ["connection.key", "swarms.snapshot"] {
            let owner = state.join(file).metadata().expect(file).uid();
            assert_eq!(owner, NOBODY, "{file}");
        }
        tracker = start();
        assert!(tracker.log().contains("taken over from the tracker before: 1 torrent"), "{}", tracker.log());
    }
    assert!(tracker.stop().expect("it ran").success());
    let detach = Command::new(&program).args(["detach", "--pin-path"]).arg(&path).status().expect("it runs");
    assert!(detach.success() && !path.exists());
}

#[test]
fn pins_go_from_user_to_user() {
    const ROOT: &[&str] = &[];
    const USER: &[&str] = &["--user", "nobody"];
    const OTHER: &[&str] = &["--user", "65533", "--group", "65533"];
    const GROUP: &[&str] = &["--group", "65533"];
    let _turn = turn();
    let pair = Pair::new().expect("two namespaces");
    let rows: [&[(&[&str], u32)]; 5] = [
        &[(ROOT, 0), (USER, NOBODY)],
        &[(USER, NOBODY), (ROOT, 0)],
        &[(USER, NOBODY), (OTHER, 65533), (USER, NOBODY)],
        &[(USER, NOBODY), (GROUP, 0), (ROOT, 0), (USER, NOBODY)],
        &[(GROUP, 0), (USER, NOBODY)],
    ];
    for users in rows {
        let pins = BpfFs::mount().expect("a BPF file system");
        let path = pins.path();
        let shown = path.to_str().expect("UTF-8");
        for (round, (user, number)) in users.iter().enumerate() {
            let options = ["--interface", Pair::SERVER_INTERFACE, "--interface", "later0", "--pin-path", shown];
            // The last one takes everything down.
            let last: &[&str] = if round + 1 == users.len() { &["--detach-on-stop"] } else { &[] };
            let tracker = Tracker::start(&pair.server, &[&options[..], last, user].concat())
                .unwrap_or_else(|error| panic!("{users:?}, {round}: {error:#}"));
            announce(&pair, 3);
            let log = tracker.log();
            assert!(round == 0 || log.contains("taken over from the tracker before: 1 torrent"), "{users:?}: {log}");
            assert_eq!(path.metadata().expect("pins").uid(), *number, "{users:?}, {round}");
            // A link of its own is pinned there, and one that is of no use any more is removed.
            pair.server.ip("link add later0 type veth peer name later1").expect("made");
            pair.server.ip("link set later0 up").expect("there");
            let runs = || pair.server.ip("link show later0").is_ok_and(|shown| shown.contains("xdp"));
            soon(&format!("{users:?}, {round}: it gets the program"), runs);
            soon("it is pinned", || tracker.log().contains("later0: XDP") || tracker.log().contains("on later0"));
            pair.server.ip("link delete later0").expect("it was there");
            let log = tracker.log();
            assert!(!log.contains("ermission denied") && !log.contains("cannot pin"), "{users:?}, {round}: {log}");
            assert!(tracker.stop().expect("it ran").success(), "{users:?}, {round}");
        }
        let left = fs::read_dir(&path).map_or(0, |entries| entries.count());
        assert_eq!(left, 0, "{users:?}: pins are left");
    }
}

#[test]
fn who_cannot_have_the_pins_is_told_what_to_do() {
    let _turn = turn();
    let pair = Pair::new().expect("two namespaces");
    let directory = Directory::new("privileges-pins");
    let program = readable_binary(&directory);
    const ANOTHER: &str = "--reuid 65533 --regid 65533 --clear-groups";
    const LOAD: &str = "+bpf,+perfmon,+net_admin,+dac_read_search";
    let another = format!("{ANOTHER} --inh-caps {LOAD} --ambient-caps {LOAD}");
    // (whose they are, who comes next by `setpriv`, what is said)
    for (user, next, said) in [
        ("root", another.as_str(), "belongs to another user (number 0)"),
        ("nobody", another.as_str(), "belongs to another user (number 65534)"),
        ("nobody", "--bounding-set -chown", "tracker detach --pin-path"),
    ] {
        let pins = BpfFs::mount().expect("a BPF file system");
        let path = pins.path();
        let shown = path.to_str().expect("UTF-8");
        let options = ["--interface", Pair::SERVER_INTERFACE, "--pin-path", shown];
        let tracker = Tracker::start(&pair.server, &[&options[..], &["--user", user]].concat()).expect("it runs");
        assert!(tracker.stop().expect("it ran").success());
        let result = Tracker::start_in(&pair.server, &[], |command| {
            let script = format!("exec setpriv {next} \"$0\" run \"$@\"");
            *command = pair.server.command("/bin/sh");
            command.args(["-c", &script]).arg(&program).args(options);
        });
        let error = format!("{:#}", result.map(drop).expect_err("they are not its own"));
        assert!(error.contains(said), "{user}, {next}: {error}");
        let owner = path.metadata().expect("pins").uid();
        assert_eq!(owner, if user == "root" { 0 } else { NOBODY }, "{user}, {next}");
        // Whoever may goes on with it.
        let tracker = Tracker::start(&pair.server, &[&options[..], &["--detach-on-stop"]].concat()).expect("it runs");
        assert!(tracker.log().contains("taken over from the tracker before"), "{}", tracker.log());
        assert!(tracker.stop().expect("it ran").success());
    }
}

#[test]
fn lists_elsewhere_are_read_at_the_next_start_and_the_log_says_so() {
    let _turn = turn();
    let namespace = Namespace::new().expect("a namespace");
    let (directory, elsewhere) = (Directory::new("privileges-here"), Directory::new("privileges-elsewhere"));
    let (config, list) = (directory.path("tracker.toml"), elsewhere.path("list"));
    fs::write(&config, "").expect("writable");
    fs::write(&list, "").expect("writable");
    let tracker = Tracker::start(&namespace, &["--config", config.to_str().expect("UTF-8")]).expect("it runs");
    fs::write(&config, format!("deny-list = [{list:?}]\n")).expect("writable");
    tracker.signal_until(libc::SIGHUP, "reads only in directories that were named").expect("the log says it");
    assert!(tracker.stop().expect("it ran").success());
}

/// What SIGUSR2 has the tracker try out as another one's first words, in what the tracker is confined
/// to. It fails, and says on standard error what it could do.
#[test]
fn version_of_a_tracker_that_is_a_spy() {
    if std::env::var_os(SPY).is_none() {
        return;
    }
    let done = |result: io::Result<()>| match result {
        Ok(()) => "done".to_owned(),
        Err(error) => error.raw_os_error().map_or_else(|| error.to_string(), |code| code.to_string()),
    };
    let call = |result: i64| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
    let path = |name: &str| std::env::var_os(name).map(PathBuf::from).expect("of the test");
    let (config, state) = (path("SPY_CONFIG"), path("SPY_STATE"));
    let other = path("SPY_OTHER").to_str().and_then(|id| id.parse::<libc::pid_t>().ok()).expect("a number");
    // SAFETY: plain system calls; what they point to is null or outlives them.
    let calls = unsafe {
        [
            ("ptrace", call(libc::ptrace(libc::PTRACE_SEIZE, other, 0, 0))),
            ("unshare", call(libc::unshare(libc::CLONE_NEWUSER).into())),
            ("chroot", call(libc::chroot(c"/".as_ptr()).into())),
            ("setuid", call(libc::syscall(libc::SYS_setresuid, 0, 0, 0))),
            ("packets", call(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0).into())),
            ("algorithms", call(libc::socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0).into())),
            ("signal", call(libc::kill(libc::getppid(), 0).into())),
            ("signal others", call(libc::kill(other, 0).into())),
            ("clock", call(libc::syscall(libc::SYS_clock_settime, libc::CLOCK_MONOTONIC, 0))),
        ]
    };
    let files = [
        ("read config", fs::read(&config).map(drop)),
        ("write config", fs::write(&config, "")),
        ("write state", fs::write(state.join("spy"), "")),
        ("read secrets", fs::read("/etc/shadow").map(drop)),
        ("list home", fs::read_dir("/root").map(drop)),
        ("write temporary", fs::write(std::env::temp_dir().join("spy"), "")),
        ("write kernel", fs::write("/proc/sys/kernel/hostname", "spy")),
        ("execute", Command::new("/bin/true").status().map(drop)),
        ("execute from state", execute_from(&state)),
        ("connect", TcpStream::connect(LOOPBACK).map(drop)),
    ];
    let text: Vec<_> =
        calls.into_iter().chain(files).map(|(name, result)| format!("{name}: {}", done(result))).collect();
    let _ = io::stderr().write_all(format!("[{}]", text.join(", ")).as_bytes());
    process::exit(1);
}

/// Runs a program that was put into a directory.
fn execute_from(directory: &Path) -> io::Result<()> {
    let program = directory.join("program");
    fs::copy(std::env::current_exe()?, &program)?;
    Command::new(program).arg("--list").stdout(Stdio::null()).stderr(Stdio::null()).status().map(drop)
}

/// Set where the test above is to do something.
const SPY: &str = "SPY_OF_PRIVILEGES";

/// What could be done from within a tracker with these options.
fn spied(namespace: &Namespace, options: &[&str]) -> BTreeMap<String, String> {
    let directory = Directory::new("privileges-spy");
    let (program, state, config) =
        (directory.path("bin/tracker"), directory.path("state"), directory.path("conf/t.toml"));
    for path in [&program, &config] {
        fs::create_dir_all(path.parent().expect("two levels")).expect("writable");
    }
    fs::write(&config, "").expect("writable");
    fs::copy(binary().expect("a tracker"), &program).expect("a copy");
    let mut other =
        Command::new("sleep").arg("60").stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a process");
    let tracker = Tracker::start_in(namespace, &[], |command| {
        *command = namespace.command(&program);
        command.arg("run").args(options).arg("--state-dir").arg(&state).arg("--config").arg(&config);
        command.env(SPY, "1").env("SPY_CONFIG", &config).env("SPY_STATE", &state);
        command.env("SPY_OTHER", other.id().to_string());
    })
    .expect("it runs");
    fs::copy(std::env::current_exe().expect("a test"), directory.path("bin/new")).expect("a copy");
    fs::rename(directory.path("bin/new"), &program).expect("the same directory");
    tracker.signal_until(libc::SIGUSR2, "this tracker goes on").expect("it goes on");
    let log = tracker.log();
    http_get(Some(namespace), LOOPBACK, "/stats").expect("it answers");
    assert!(tracker.stop().expect("it ran").success());
    let _ = (other.kill(), other.wait());
    let said = log.rsplit_once('[').and_then(|(_, said)| said.split_once(']')).unwrap_or_else(|| panic!("{log}")).0;
    said.split(", ").filter_map(|one| one.split_once(": ")).map(|(name, what)| (name.into(), what.into())).collect()
}

#[test]
fn what_is_forbidden_fails() {
    let _turn = turn();
    let namespace = Namespace::new().expect("a namespace");
    let (denied, not_permitted) = (libc::EACCES.to_string(), libc::EPERM.to_string());
    let all = spied(&namespace, &[]);
    let files_off = spied(&namespace, &["--landlock=off"]);
    let calls_off = spied(&namespace, &["--seccomp=off"]);
    // What fails; with Landlock off; with seccomp off.
    let rows: [(&str, &str, &str, &str); 19] = [
        ("ptrace", &not_permitted, &not_permitted, &not_permitted),
        ("unshare", &not_permitted, &not_permitted, "*"),
        ("chroot", &not_permitted, &not_permitted, &not_permitted),
        ("setuid", &not_permitted, &not_permitted, "done"),
        ("packets", &not_permitted, &not_permitted, &not_permitted),
        // Nothing but seccomp forbids it, where the kernel has it.
        ("algorithms", &not_permitted, &not_permitted, "*"),
        ("signal", "done", "done", "done"),
        ("signal others", &not_permitted, "done", &not_permitted),
        ("clock", &not_permitted, &not_permitted, "*"),
        ("read config", "done", "done", "done"),
        ("write config", &denied, "done", &denied),
        ("write state", "done", "done", "done"),
        ("read secrets", &denied, "done", &denied),
        ("list home", &denied, "done", &denied),
        ("write temporary", &denied, "done", &denied),
        ("write kernel", &denied, "*", &denied),
        ("execute", &denied, "done", &denied),
        ("execute from state", &denied, "done", &denied),
        ("connect", &denied, "done", &denied),
    ];
    for (name, with_all, without_landlock, without_seccomp) in rows {
        for (said, expected) in [(&all, with_all), (&files_off, without_landlock), (&calls_off, without_seccomp)] {
            let done = said.get(name).unwrap_or_else(|| panic!("{name}: {said:#?}"));
            assert!(expected == "*" || done == expected, "{name}: {done} instead of {expected}: {said:#?}");
        }
    }
    let _ = fs::remove_file(std::env::temp_dir().join("spy"));
}

#[test]
fn without_an_upgrade_in_place_nothing_is_executed() {
    let _turn = turn();
    let namespace = Namespace::new().expect("a namespace");
    let tracker = Tracker::start(&namespace, &["--in-place-upgrade=off"]).expect("it runs");
    let said = "as no other can take its place: --in-place-upgrade is off";
    tracker.signal_until(libc::SIGUSR2, said).expect("it goes on");
    check(
        &tracker,
        "after SIGUSR2",
        0,
        threads(tracker.process())[0].effective,
        threads(tracker.process())[0].permitted,
    );
    assert!(tracker.stop().expect("it ran").success());
}
