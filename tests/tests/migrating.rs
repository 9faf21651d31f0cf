//! Coming from other trackers: what docs/migrating.md says is there, and that who starts opentracker
//! can start this tracker in the same way.

#[path = "process/daemon.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod daemon;

use daemon::{ANY, Daemon, Directory, Stderr};
use std::{
    fs,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::Announce,
    client::{UdpClient, http_get},
    namespace::Namespace,
    workspace,
};

/// Words in the tables' last columns that look like options and are none.
const WORDS: [&str; 2] = ["announce", "scrape"];

/// What may be an option: words in backquotes, in the last column of a table.
fn options_named(text: &str) -> Vec<String> {
    let ours = text.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|')?.rsplit('|').next());
    let words = ours.flat_map(|ours| ours.split('`').skip(1).step_by(2));
    let is_option = |word: &&str| {
        word.starts_with(|first: char| first.is_ascii_lowercase())
            && word.chars().all(|one| one.is_ascii_lowercase() || one.is_ascii_digit() || one == '-')
            && !WORDS.contains(word)
    };
    words.filter(is_option).map(str::to_owned).collect()
}

#[test]
fn every_option_that_is_named_exists() {
    let text = fs::read_to_string(workspace::root().join("docs/migrating.md")).expect("the document");
    let template = tracker::config::template::text();
    let named = options_named(&text);
    assert!(named.len() > 50, "{named:?}");
    for option in named {
        assert!(template.contains(&format!("\n#{option} = ")), "there is no option {option}");
    }
    assert_eq!(
        options_named("| `theirs` | `ours`, `/path`, `log-x` and `UPPER` |\n`elsewhere`\n| `a b` |\n"),
        ["ours", "log-x"]
    );
}

#[test]
fn who_starts_opentracker_with_a_file_starts_this_one() {
    let namespace = Namespace::new().expect("a namespace");
    let directory = Directory::new("bencher");
    let path = directory.0.join("config");
    let at: SocketAddr = "127.0.0.1:3000".parse().expect("an address");
    for workers in 0..3 {
        // As aquatic_bencher writes it.
        fs::write(&path, format!("listen.udp.workers {workers}\nlisten.udp {at}\n")).expect("a file");
        let mut daemon = Daemon::start(&namespace, Stderr::Read, &["-f", path.to_str().expect("UTF-8")]);
        daemon.wait_for_line("is running");
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut client = loop {
            match UdpClient::connected(&namespace, ANY, at) {
                Ok(client) => break client,
                Err(error) => assert!(Instant::now() < deadline, "{error:#}: {}", daemon.log()),
            }
        };
        client.announce(&Announce::new([1; 20], 1)).expect("an answer");
        assert!(http_get(Some(&namespace), at, "/stats").is_err(), "UDP alone was asked for");
        daemon.signal(libc::SIGTERM);
        assert!(daemon.wait().success());
    }
}
