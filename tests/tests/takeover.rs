//! The daemon is killed, stopped, replaced and upgraded on one end of a veth pair, while clients on
//! the other end go on asking: not one request may stay without its answer, and nothing may be
//! forgotten.

#[path = "takeover/load.rs"]
mod load;
#[path = "takeover/modes.rs"]
mod modes;
#[path = "takeover/older.rs"]
mod older;
#[path = "takeover/sizes.rs"]
mod sizes;

use load::{Load, Sums};
use std::{
    fs,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tracker::xdp::netlink;
use tracker_tests::{
    bep15::Announce,
    bpf,
    bpffs::{self, BpfFs},
    client::UdpClient,
    namespace::Pair,
    pass,
    tracker::{Tracker, binary},
    workspace,
};

/// One test at a time: see `veth.rs`.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A host for trackers, one for clients, and a BPF file system.
struct Site {
    pair: Pair,
    pins: BpfFs,
    _turn: MutexGuard<'static, ()>,
}

impl Site {
    fn new() -> Self {
        let turn = turn();
        Self {
            pair: Pair::new().expect("two namespaces"),
            pins: BpfFs::mount().expect("a BPF file system"),
            _turn: turn,
        }
    }

    fn path(&self) -> PathBuf {
        self.pins.path()
    }

    /// Starts a tracker with the pins, and options besides.
    fn start(&self, options: &[&str]) -> Tracker {
        self.start_with(options, |_| ())
    }

    fn start_with(&self, options: &[&str], prepare: impl FnOnce(&mut Command)) -> Tracker {
        let path = self.path();
        let options = [&self.options(&path), options].concat();
        Tracker::start_in(&self.pair.server, &options, prepare).expect("the tracker runs")
    }

    fn options<'a>(&self, path: &'a Path) -> Vec<&'a str> {
        let path = path.to_str().expect("UTF-8");
        let pins = ["--pin-path", path, "--interface", Pair::SERVER_INTERFACE];
        [&pins[..], &["--max-torrents", "1000", "--max-peers-per-address", "0", "--max-creations-per-address", "0"]]
            .concat()
    }

    /// Runs a command of the tracker to its end: whether it succeeded, and what it printed.
    fn run(&self, arguments: &[&str]) -> (bool, String) {
        // One that starts although it should not would never end.
        let mut command = self.pair.server.command("timeout");
        let output = command.arg("30").arg(binary().expect("a tracker")).args(arguments).output().expect("a tracker");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// What a tracker says that does not start.
    fn refused(&self, options: &[&str]) -> String {
        let path = self.path();
        let (started, said) = self.run(&[&["run"], &self.options(&path)[..], options].concat());
        assert!(!started, "{said}");
        said
    }

    fn detach(&self) -> (bool, String) {
        self.run(&["detach", "--pin-path", self.path().to_str().expect("UTF-8")])
    }

    /// The kernel's numbers of the XDP programs on an interface of the tracker's host.
    fn programs(&self, interface: &str) -> Vec<u32> {
        let all = self.pair.server.run(netlink::interfaces).expect("netlink");
        let interface = all.into_iter().find(|found| found.name == interface).expect("it is there");
        interface.xdp.iter().map(|attached| attached.program).collect()
    }

    fn client(&self) -> UdpClient {
        let tracker = SocketAddr::new(Pair::SERVER_V4.into(), 6969);
        UdpClient::connected(&self.pair.client, SocketAddr::new(Pair::client_v4(5).into(), 0), tracker)
            .expect("XDP answers")
    }
}

/// Nothing was left without an answer, and nothing was wrong.
fn assert_all(sums: &Sums, least: u64) {
    assert!(sums.wrong.is_empty() && sums.sent == sums.answered, "{sums:#?}");
    assert!(sums.sent > least, "{sums:?}");
    eprintln!("{} requests, all answered; the slowest took {:?}", sums.sent, sums.slowest);
}

/// No program has found the table of those that it goes on in empty. The packet would have gone to the
/// sockets, which may have answered it later.
fn assert_no_empty_table(site: &Site, tracker: &Tracker) {
    let metrics = tracker.metrics(&site.pair.server).expect("metrics");
    let internal = [("path", "xdp"), ("reason", "internal")];
    assert_eq!(metrics.sum("tracker_requests_rejected_total", &internal), 0.0, "a packet met half of a program");
}

/// How often a tracker is killed: more often where an environment variable says so.
fn rounds() -> u32 {
    std::env::var("TRACKER_TESTS_KILLS").ok().and_then(|kills| kills.parse().ok()).unwrap_or(3)
}

/// Waits for up to so many milliseconds.
fn sleep_at_random(milliseconds: u32) {
    let random = RandomState::new().build_hasher().finish();
    thread::sleep(Duration::from_millis(random % u64::from(milliseconds)));
}

/// The object with other bytes at its end: another object, by its hash, of the same program.
fn another_object(number: u32) -> PathBuf {
    let object = std::env::var_os(workspace::OBJECT_VARIABLE)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../tracker-user/bpf/tracker.bpf.o"), PathBuf::from);
    let path = std::env::temp_dir().join(format!("tracker-takeover-{}-{number}.o", std::process::id()));
    let mut bytes = fs::read(&object).expect("the object");
    bytes.extend(number.to_le_bytes());
    fs::write(&path, bytes).expect("writable");
    path
}

#[test]
fn kills_leave_no_request_without_an_answer_and_nothing_is_forgotten() {
    let site = Site::new();
    let mut tracker = site.start(&[]);
    let program = site.programs(Pair::SERVER_INTERFACE);
    let load = Load::start(&site.pair);
    for _ in 0..rounds() {
        sleep_at_random(1500);
        tracker.kill().expect("it ran");
        assert_eq!(site.programs(Pair::SERVER_INTERFACE), program, "it stays");
        sleep_at_random(700);
        tracker = site.start(&[]);
        assert!(tells(&tracker, "taken over"), "{}", tracker.log());
        assert_eq!(site.programs(Pair::SERVER_INTERFACE), program, "the same one goes on");
    }
    sleep_at_random(300);
    assert_all(&load.finish(), 500);
    let metrics = tracker.metrics(&site.pair.server).expect("metrics");
    assert!(metrics.sum("tracker_requests_answered_total", &[("path", "xdp")]) > 500.0, "counters go on");
    assert_no_empty_table(&site, &tracker);
}

#[test]
fn kills_during_the_start_are_got_over() {
    let site = Site::new();
    for milliseconds in [20, 60, 120, 250, 400, 550, 700] {
        let path = site.path();
        let mut command = site.pair.server.command(binary().expect("a tracker"));
        let mut child =
            command.arg("run").args(site.options(&path)).stderr(std::process::Stdio::null()).spawn().expect("it");
        thread::sleep(Duration::from_millis(milliseconds));
        child.kill().expect("it runs");
        child.wait().expect("it ends");
    }
    let tracker = site.start(&[]);
    site.client();
    assert!(tracker.stop().expect("it ran").success());
    let (done, said) = site.detach();
    assert!(done && !site.path().exists(), "{said}");
}

#[test]
fn kills_during_an_upgrade_are_got_over() {
    let site = Site::new();
    site.start(&[]).kill().expect("it ran");
    let load = Load::start(&site.pair);
    let mut objects = Vec::new();
    for round in 0..rounds() {
        let object = another_object(100 + round);
        let path = site.path();
        let mut command = site.pair.server.command(binary().expect("a tracker"));
        command.arg("run").args(site.options(&path)).env(workspace::OBJECT_VARIABLE, &object);
        let mut child = command.stderr(std::process::Stdio::null()).spawn().expect("it");
        sleep_at_random(1500);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        objects.push(object);
    }
    let tracker = site.start(&[]);
    assert_all(&load.finish(), 100);
    assert!(tells(&tracker, "taken over"), "{}", tracker.log());
    let sets = || {
        let entries = fs::read_dir(site.path()).expect("pins").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("programs_")).count()
    };
    assert_eq!(sets(), 1, "nothing is left of the others");
    objects.iter().for_each(|object| fs::remove_file(object).expect("it is there"));
}

#[test]
fn stops_and_upgrades_leave_no_request_without_an_answer() {
    let site = Site::new();
    let mut tracker = site.start(&[]);
    let load = Load::start(&site.pair);
    let mut program = site.programs(Pair::SERVER_INTERFACE);
    for round in 0..rounds() {
        sleep_at_random(500);
        assert!(tracker.stop().expect("it ran").success());
        sleep_at_random(300);
        let object = another_object(round);
        tracker = site.start_with(&[], |command| {
            command.env(workspace::OBJECT_VARIABLE, &object);
        });
        fs::remove_file(object).expect("it is there");
        let now = site.programs(Pair::SERVER_INTERFACE);
        assert_ne!(now, program, "a new program is there");
        assert_eq!(now.len(), 1);
        let old = (bpf::Object::Program, program[0]);
        assert!(soon(|| !bpf::exists(old)), "the old one is gone");
        program = now;
        assert_no_empty_table(&site, &tracker);
    }
    sleep_at_random(300);
    assert_all(&load.finish(), 300);
    assert_no_empty_table(&site, &tracker);
}

/// Whether the tracker's log has this; a line may still be on its way.
fn tells(tracker: &Tracker, what: &str) -> bool {
    soon(|| tracker.log().contains(what))
}

/// Whether it becomes true within some seconds: the kernel frees what nobody has some time later.
fn soon(is: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

#[test]
fn detach_leaves_nothing() {
    let site = Site::new();
    for (options, detaches) in [(&[][..], true), (&["--detach-on-stop"], false)] {
        let tracker = site.start(options);
        let pinned = bpffs::pinned(&site.path()).expect("pins");
        assert!(pinned.len() > 20 && pinned.iter().all(|object| bpf::exists(*object)), "{pinned:?}");
        assert_eq!(
            fs::metadata(site.path()).map(|path| std::os::unix::fs::MetadataExt::mode(&path) & 0o777).ok(),
            Some(0o700)
        );
        if detaches {
            let (done, said) = site.detach();
            assert!(!done && said.contains(&format!("process {}", tracker.process())), "{said}");
        }
        assert!(tracker.stop().expect("it ran").success());
        if detaches {
            site.client();
            let (done, said) = site.detach();
            assert!(done && said.contains(&format!("off {}", Pair::SERVER_INTERFACE)), "{said}");
        }
        assert!(site.programs(Pair::SERVER_INTERFACE).is_empty(), "{options:?}");
        assert!(!site.path().exists(), "{options:?}");
        assert!(soon(|| !pinned.iter().any(|object| bpf::exists(*object))), "{options:?}");
        let (done, said) = site.detach();
        assert!(done && said.contains("nothing is pinned"), "{said}");
    }
}

#[test]
fn second_tracker_is_told_who_has_the_pins() {
    let site = Site::new();
    let tracker = site.start(&[]);
    let elsewhere = ["--udp", "0.0.0.0:7000", "--http", "0.0.0.0:7000"];
    let said = site.refused(&[&elsewhere[..], &["--xdp-mode", "native"]].concat());
    assert!(said.contains(&format!("process {} works with the pins", tracker.process())), "{said}");
    let said = site.refused(&elsewhere);
    assert!(said.contains("works with the pins"), "no sockets beside pinned XDP: {said}");
    site.client();
}

#[test]
fn what_cannot_be_taken_over_is_refused_with_the_way_out() {
    let site = Site::new();
    site.start(&[]).stop().expect("it ran");
    let identity = site.path().join("IDENTITY");
    let record =
        || -> [u8; 64] { bpf::first_element(&bpffs::open(&identity).expect("it is there").1).expect("64 bytes") };
    let write = |bytes: [u8; 64]| {
        bpf::set_first_element(&bpffs::open(&identity).expect("it is there").1, bytes).expect("64 bytes");
    };
    let good = record();
    let changed = |at: usize| {
        let mut bytes = good;
        bytes[at] ^= 0x40;
        bytes
    };
    // (record, options, what is said)
    let rows: [([u8; 64], &[&str], &[&str]); 3] = [
        (changed(8), &[], &["has layout", "tracker detach --pin-path"]),
        (changed(8), &["--xdp-mode", "native"], &["has layout", "tracker detach --pin-path"]),
        (changed(0), &[], &["not a tracker's"]),
    ];
    for (bytes, options, parts) in rows {
        write(bytes);
        let said = site.refused(options);
        for part in parts {
            assert!(said.contains(part), "{options:?}: {part} is not said: {said}");
        }
        site.client();
    }
    write(good);
    let tracker = site.start(&[]);
    assert!(tells(&tracker, "taken over"));
}

#[test]
fn directories_of_others_are_left_alone_and_half_made_ones_are_made_anew() {
    let site = Site::new();
    // Somebody else's, in which others work; and one that may be anybody's.
    fs::create_dir_all(site.path().join("other")).expect("a directory");
    let mode = || fs::metadata(site.path()).map(|path| path.permissions().mode() & 0o7777).ok();
    fs::set_permissions(site.path(), fs::Permissions::from_mode(0o1777)).expect("a mode");
    for said in [site.refused(&[]), site.detach().1] {
        assert!(said.contains("other is not the tracker's"), "{said}");
        assert_eq!(mode(), Some(0o1777));
    }
    fs::remove_dir(site.path().join("other")).expect("it is still there");
    let (done, said) = site.detach();
    assert!(done && said.contains("nothing is pinned"), "{said}");
    assert_eq!(mode(), Some(0o1777));
    // Without the record nothing is complete.
    site.start(&[]).kill().expect("it ran");
    fs::remove_file(site.path().join("IDENTITY")).expect("it is there");
    let before = site.programs(Pair::SERVER_INTERFACE);
    let tracker = site.start(&[]);
    assert!(tells(&tracker, "removed pins from"), "{}", tracker.log());
    assert_ne!(site.programs(Pair::SERVER_INTERFACE), before);
    site.client();
    tracker.kill().expect("it ran");
    // A set of programs that a killed upgrade has left, and a link that was cut.
    let left = site.path().join("programs_00");
    fs::create_dir(&left).expect("a directory");
    let tracker = site.start(&[]);
    assert!(!left.exists() && tells(&tracker, "taken over"), "{}", tracker.log());
    // A map is missing.
    tracker.kill().expect("it ran");
    fs::remove_file(site.path().join("PARTITIONS")).expect("it is there");
    let said = site.refused(&[]);
    assert!(said.contains("damaged") && said.contains("tracker detach"), "{said}");
    let (done, said) = site.detach();
    assert!(done, "{said}");
    site.start(&[]);
}

#[test]
fn interfaces_may_change_between_two_trackers() {
    let site = Site::new();
    site.pair.server.ip("link add extra0 type veth peer name extra1").expect("a pair");
    for end in ["extra0", "extra1"] {
        site.pair.server.ip(&format!("link set {end} up")).expect("up");
    }
    let extra = ["--interface", "extra0"];
    site.start(&extra).kill().expect("it ran");
    assert!(!site.programs("extra0").is_empty());
    let first = site.programs(Pair::SERVER_INTERFACE);

    let tracker = site.start(&[]);
    assert!(site.programs("extra0").is_empty(), "it is not wanted any more");
    assert_eq!(site.programs(Pair::SERVER_INTERFACE), first);
    tracker.kill().expect("it ran");

    let tracker = site.start(&extra);
    assert_eq!(site.programs("extra0"), first, "it is wanted again");
    tracker.kill().expect("it ran");

    // A start that fails takes nothing away.
    let other = site.pair.server.run(|| pass::attach("extra1")).expect("attached");
    let said = site.refused(&["--interface", "extra1"]);
    assert!(said.contains("extra1 already has"), "{said}");
    assert_eq!(site.programs(Pair::SERVER_INTERFACE), first);
    site.client();
    drop(other);

    site.pair.server.ip("link delete extra0").expect("deleted");
    let tracker = site.start(&extra);
    assert_eq!(site.programs(Pair::SERVER_INTERFACE), first);
    assert_eq!(
        fs::read_dir(site.path())
            .expect("pins")
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("link_"))
            .count(),
        1
    );
    site.client().announce(&Announce::new([1; 20], 1)).expect("XDP answers");
    drop(tracker);
}

#[test]
fn without_a_bpf_file_system_pins_asked_for_are_an_error_and_others_a_warning() {
    let site = Site::new();
    let path = std::env::temp_dir().join("no-bpf-file-system");
    let options = ["run", "--interface", Pair::SERVER_INTERFACE, "--pin-path", path.to_str().expect("UTF-8")];
    let (started, said) = site.run(&options);
    assert!(!started && said.contains("sudo mount -t bpf bpf"), "{said}");
    // The namespace's own /sys has none mounted.
    let tracker = Tracker::start_in(&site.pair.server, &["--pin-path", "off"], |command| {
        *command = site.pair.server.command(binary().expect("a tracker"));
        command.args(["run", "--interface", Pair::SERVER_INTERFACE]);
    })
    .expect("it runs");
    assert!(tells(&tracker, "nothing can be pinned") && tells(&tracker, "mount -t bpf"), "{}", tracker.log());
    assert!(!site.programs(Pair::SERVER_INTERFACE).is_empty());
    tracker.kill().expect("it ran");
    assert!(soon(|| site.programs(Pair::SERVER_INTERFACE).is_empty()), "it ends with the process");
}
