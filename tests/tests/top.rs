//! `tracker top` in a real terminal: tmux has one.

use std::{
    net::Ipv4Addr,
    process::Command,
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::Announce,
    bpffs::BpfFs,
    client::UdpClient,
    command::output,
    namespace::{Namespace, Pair},
    temporary::Directory,
    tracker::{Tracker, binary},
};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal.
struct Terminal<'n> {
    namespace: &'n Namespace,
    directory: Directory,
}

impl<'n> Terminal<'n> {
    /// Of 80 columns and 24 lines, in which a command runs; "over" is printed when it has ended.
    fn run(namespace: &'n Namespace, name: &str, variables: &str, arguments: &str) -> Self {
        let terminal = Self { namespace, directory: Directory::new(&format!("top-{name}")) };
        let program = binary().expect("a tracker");
        let line = format!("{variables} {} top {arguments}; echo over $?; sleep 1000", program.display());
        output(terminal.tmux().args(["new-session", "-d", "-x", "80", "-y", "24", &line])).expect("a terminal");
        terminal
    }

    fn tmux(&self) -> Command {
        let mut command = self.namespace.command("tmux");
        command.env("TMUX_TMPDIR", &self.directory.0).env("TERM", "xterm-256color").env_remove("TMUX");
        command.args(["-f", "/dev/null"]);
        command
    }

    fn press(&self, key: &str) {
        output(self.tmux().args(["send-keys", key])).expect("a terminal");
    }

    /// What is on the screen, with its colours if these are wanted.
    fn screen(&self, coloured: bool) -> String {
        let mut command = self.tmux();
        command.args(["capture-pane", "-p"]).args(coloured.then_some("-e"));
        output(&mut command).expect("a terminal")
    }

    fn wait_for(&self, part: &str) -> String {
        let begun = Instant::now();
        loop {
            let screen = self.screen(false);
            if screen.contains(part) {
                return screen;
            }
            assert!(begun.elapsed() < PATIENCE, "{part:?} never came:\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = self.tmux().arg("kill-server").output();
    }
}

/// A line of what is stored, in 80 columns.
fn stored(name: &str, number: u32) -> String {
    format!("{name}{number:>width$}", width = 29 - name.len())
}

fn announce(namespace: &Namespace, from: Ipv4Addr, to: Ipv4Addr) {
    let mut client = UdpClient::connected(namespace, (from, 0).into(), (to, 6969).into()).expect("an id");
    for torrent in 1..=9_u8 {
        for port in 1..=u16::from(torrent % 4) + 1 {
            client.announce(&Announce::new([torrent; 20], port)).expect("an answer");
        }
    }
}

#[test]
fn a_running_tracker_is_watched_in_a_terminal_of_any_size() {
    let namespace = Namespace::new().expect("a namespace");
    let tracker = Tracker::start(&namespace, &[]).expect("it runs");
    announce(&namespace, Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST);
    let terminal = Terminal::run(&namespace, "running", "", "127.0.0.1:6969");
    let screen = terminal.wait_for("q end");
    for part in ["tracker 0.", "per second", "sockets", "answered per second", "memory", "1 reasons"] {
        assert!(screen.contains(part), "{part}:\n{screen}");
    }
    assert_eq!(screen.lines().count(), 24, "{screen}");
    assert!(terminal.screen(true).contains("\x1b["), "there are colours");
    terminal.wait_for(&stored("torrents", 9));
    terminal.press("2");
    terminal.wait_for("03030303");
    terminal.press("Tab");
    terminal.wait_for("XDP runs on none");
    output(terminal.tmux().args(["resize-window", "-x", "140", "-y", "50"])).expect("a terminal");
    terminal.wait_for("all torrents are served");
    output(terminal.tmux().args(["resize-window", "-x", "30", "-y", "8"])).expect("a terminal");
    terminal.wait_for("announces");
    output(terminal.tmux().args(["resize-window", "-x", "80", "-y", "24"])).expect("a terminal");
    terminal.wait_for("q end");
    assert!(tracker.stop().expect("it runs").success());
    terminal.wait_for("LOST: cannot ask http://127.0.0.1:6969/");
    let again = Tracker::start(&namespace, &[]).expect("it runs again");
    terminal.wait_for("up ");
    terminal.press("q");
    terminal.wait_for("over 0");
    drop(again);
}

#[test]
fn without_colours_there_is_none() {
    let namespace = Namespace::new().expect("a namespace");
    let tracker = Tracker::start(&namespace, &[]).expect("it runs");
    let terminal = Terminal::run(&namespace, "plain", "NO_COLOR=1", "http://127.0.0.1:6969/");
    terminal.wait_for("q end");
    let screen = terminal.screen(true);
    let colours = (30..=37).chain(90..=97).map(|code| format!("\x1b[{code}m")).find(|code| screen.contains(code));
    assert!(colours.is_none() && !screen.contains("[38;"), "{screen:?}");
    terminal.press("Escape");
    terminal.wait_for("over 0");
    drop(tracker);
    let once = namespace.command(binary().expect("a tracker")).args(["top", "--once"]).output().expect("it starts");
    assert!(!once.status.success());
    assert!(String::from_utf8_lossy(&once.stderr).contains("cannot ask http://127.0.0.1:6969/"), "{once:?}");
}

#[test]
fn what_a_dead_tracker_has_left_pinned_is_shown() {
    let (pair, pins) = (Pair::new().expect("two namespaces"), BpfFs::mount().expect("a BPF file system"));
    let path = pins.path();
    let path = path.to_str().expect("UTF-8");
    let options = ["--pin-path", path, "--interface", Pair::SERVER_INTERFACE, "--max-torrents", "1000"];
    let tracker = Tracker::start(&pair.server, &options).expect("it runs");
    announce(&pair.client, Pair::client_v4(0), Pair::SERVER_V4);
    tracker.kill().expect("it runs");
    let once = |path: &str| {
        let mut command = pair.server.command(binary().expect("a tracker"));
        command.args(["top", "--once", "--pin-path", path]).output().expect("it starts")
    };
    let shown = once(path);
    let text = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success(), "{shown:?}");
    let lines = [stored("torrents", 9), stored("IPv4 peers", 22)];
    for part in ["as the kernel has it", "pinned", &lines[0], &lines[1], "not answered"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let terminal = Terminal::run(&pair.server, "pinned", "", &format!("--pin-path {path}"));
    terminal.wait_for(&stored("torrents", 9));
    // XDP goes on answering, which is seen.
    announce(&pair.client, Pair::client_v4(1), Pair::SERVER_V4);
    terminal.wait_for(&stored("IPv4 peers", 44));
    terminal.press("q");
    terminal.wait_for("over 0");
    let none = once("/sys/fs/bpf/nothing-of-a-tracker");
    assert!(!none.status.success() && !none.stderr.is_empty(), "{none:?}");
}
