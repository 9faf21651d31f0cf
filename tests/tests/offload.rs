//! The daemon with a network card that runs a program of its own, as `netdevsim` simulates one: it
//! takes programs and maps as the card's driver would, and refuses them where a switch says so, but
//! runs nothing. What the program does with packets is shown by `conformance`.
//!
//! Ignored, since no distribution's kernel has `netdevsim`: `cargo xtask offload` runs these in a
//! virtual machine with one that has.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tracker::xdp::ethtool::{ring, set_ring};
use tracker_tests::{bep15::Announce, bpf, client::UdpClient, namespace::Namespace, patience, tracker::Tracker};

const BUS: &str = "/sys/bus/netdevsim";
const SWITCHES: &str = "/sys/kernel/debug/netdevsim/netdevsim1";

/// A simulated card in a namespace of its own; gone on drop. There is one at a time.
struct Card {
    interface: String,
    namespace: Namespace,
    _turn: MutexGuard<'static, ()>,
}

impl Card {
    fn new() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let namespace = Namespace::new().expect("a namespace");
        namespace.ip("link set lo up").expect("loopback");
        // It comes to the namespace of whoever asks for it.
        namespace.run(|| fs::write(format!("{BUS}/new_device"), "1 1")).expect("netdevsim");
        let interface = || {
            let mut found = fs::read_dir(format!("{BUS}/devices/netdevsim1/net")).ok()?;
            found.next()?.ok()?.file_name().into_string().ok()
        };
        // sysfs shows the devices of the namespace that it was mounted in.
        let interface = namespace.run(interface).or_else(|| named(&namespace)).expect("an interface");
        namespace.ip(&format!("address add 10.9.0.1/24 dev {interface}")).expect("an address");
        namespace.ip(&format!("link set {interface} up")).expect("up");
        Self { interface, namespace, _turn: turn }
    }

    fn start(&self, mode: &str) -> Tracker {
        Tracker::start(&self.namespace, &["--interface", &self.interface, "--xdp-mode", mode]).expect("it runs")
    }

    /// What `ip` shows of the programs on it.
    fn programs(&self) -> String {
        let shown = self.namespace.ip(&format!("-details link show dev {}", self.interface)).expect("it is there");
        shown.lines().filter(|line| line.contains("xdp")).collect()
    }

    fn has(&self, offloaded: bool, driver: bool) -> bool {
        let programs = self.programs();
        programs.contains("xdpoffload") == offloaded
            && (programs.contains("prog/xdp") || programs.contains("xdpdrv") || programs.contains("xdpgeneric"))
                == driver
    }

    fn switch(name: &str, on: bool) {
        fs::write(Path::new(SWITCHES).join(name), if on { "Y" } else { "N" }).expect("a switch of netdevsim");
    }

    /// Programs that the driver knows, and whether each is said to run.
    fn bound() -> Vec<bool> {
        let Ok(programs) = fs::read_dir(format!("{SWITCHES}/bpf_bound_progs")) else { return Vec::new() };
        let loaded = |path: PathBuf| fs::read_to_string(path.join("loaded")).is_ok_and(|text| text.trim() == "Y");
        programs.filter_map(|entry| Some(loaded(entry.ok()?.path()))).collect()
    }

    fn remove() -> io::Result<()> {
        fs::write(format!("{BUS}/del_device"), "1")
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        let _ = Self::remove();
    }
}

/// The only interface beside loopback.
fn named(namespace: &Namespace) -> Option<String> {
    let shown = namespace.ip("-oneline link show").ok()?;
    shown.lines().filter_map(|line| line.split(": ").nth(1)).find(|name| *name != "lo").map(str::to_owned)
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < patience(Duration::from_secs(20)), "not {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Sockets answer, whatever the card does.
fn is_served(card: &Card) {
    let tracker = SocketAddr::from((Ipv4Addr::LOCALHOST, 6969));
    let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut client = UdpClient::connected(&card.namespace, source, tracker).expect("connected");
    client.announce(&Announce::new([7; 20], 7000)).expect("answered");
}

#[test]
#[ignore = "takes netdevsim"]
fn the_cards_program_is_attached_beside_the_drivers_and_taken_off_with_it() {
    for mode in ["offload", "auto"] {
        let card = Card::new();
        let tracker = card.start(mode);
        assert!(tracker.log().contains("the card answers connects"), "{}", tracker.log());
        assert!(card.has(true, true), "{}", card.programs());
        assert_eq!(Card::bound(), [true]);
        is_served(&card);
        assert!(tracker.stop().expect("it ends").success());
        eventually("taken off", || card.has(false, false));
        assert!(Card::bound().is_empty());
    }
}

#[test]
#[ignore = "takes netdevsim"]
fn without_being_asked_for_nothing_is_put_on_a_card() {
    let card = Card::new();
    let tracker = card.start("native");
    assert!(card.has(false, true), "{}", card.programs());
    assert!(Card::bound().is_empty());
    drop(tracker);
}

#[test]
#[ignore = "takes netdevsim"]
fn a_card_that_refuses_leaves_the_driver_to_answer() {
    // (switch, what is said of it, whether the driver's program is there)
    for (switch, words, native) in [
        ("bpf_bind_accept", "its program is refused", true),
        ("bpf_bind_verifier_accept", "Hello from netdevsim", true),
        ("ports/0/bpf_map_accept", "is refused", true),
        ("ports/0/bpf_xdpoffload_accept", "does not attach the card's program", true),
        ("ports/0/bpf_xdpdrv_accept", "the card answers connects", false),
    ] {
        let card = Card::new();
        Card::switch(switch, false);
        let tracker = card.start("offload");
        assert!(tracker.log().contains(words), "{switch}: {}", tracker.log());
        assert!(card.has(!native, true), "{switch}: {}", card.programs());
        assert_eq!(card.programs().contains("xdpgeneric"), !native, "{switch}: {}", card.programs());
        is_served(&card);
    }
}

#[test]
#[ignore = "takes netdevsim"]
fn what_the_card_counts_is_in_the_statistics_and_what_it_has_to_know_is_in_its_maps() {
    let card = Card::new();
    let tracker = card.start("offload");
    let counters = bpf::map_of_card("COUNTERS").expect("the card's counters");
    // netdevsim runs nothing, so somebody else counts.
    let counted: [u8; 32] =
        [3_u32, 5, 7, 0, 11, 0, 0, 0].map(u32::to_ne_bytes).as_flattened().try_into().expect("32 bytes");
    bpf::set_first_element(&counters, counted).expect("written");
    eventually("counted", || {
        let metrics = tracker.metrics(&card.namespace).expect("metrics");
        let connects = metrics.sum("tracker_requests_answered_total", &[("path", "xdp"), ("request", "connect")]);
        (connects - 8.0).abs() < 0.5
            && metrics.reason("xdp", "blocked") == 7
            && metrics.reason("xdp", "bad_magic") == 11
    });
    // What connects are answered with: answers, window, key.
    let window = bpf::map_of_card("WINDOW").expect("the card's window");
    let [answers, number, ..]: [u32; 4] = {
        let bytes: [u8; 16] = bpf::first_element(&window).expect("readable");
        [0, 4, 8, 12].map(|at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]))
    };
    assert!(answers == 1 && number > 28_000_000, "{answers}, window {number}");
}

#[test]
#[ignore = "takes netdevsim"]
fn a_card_that_goes_while_it_answers_leaves_everything_to_others() {
    let card = Card::new();
    let tracker = card.start("offload");
    assert!(card.has(true, true));
    Card::remove().expect("taken out");
    eventually("said", || tracker.log().contains("is gone"));
    is_served(&card);
    assert!(tracker.stop().expect("it ends").success());
}

#[test]
#[ignore = "takes netdevsim"]
fn a_daemon_that_is_killed_leaves_no_program_on_the_card() {
    let card = Card::new();
    let tracker = card.start("offload");
    assert!(card.has(true, true));
    tracker.kill().expect("it was there");
    eventually("taken off", || Card::bound().is_empty());
    assert!(!card.programs().contains("xdpoffload"), "{}", card.programs());
}

#[test]
#[ignore = "takes netdevsim"]
fn short_rings_are_made_longer_and_set_back() {
    let card = Card::new();
    let ring = || card.namespace.run(|| ring(&card.interface)).expect("netdevsim has rings");
    let set = |descriptors| card.namespace.run(|| set_ring(&card.interface, descriptors)).expect("set");
    // (before, with `--tune`)
    for (before, tuned) in [(256, 1024), (1024, 1024), (2048, 2048)] {
        set(before);
        let options = ["--interface", &card.interface, "--xdp-mode", "native", "--tune"];
        let tracker = Tracker::start(&card.namespace, &options).expect("it runs");
        assert_eq!(ring()[0], tuned, "{}", tracker.log());
        assert!(tracker.stop().expect("it ran").success());
        assert_eq!(ring()[0], before);
    }
}
