//! A store is taken over into new maps of other sizes.

use super::{Load, Site, another_object, assert_all, assert_no_empty_table, rounds, sleep_at_random, soon, tells};
use std::{fs, process::Stdio};
use tracker_tests::{
    bep15::{Announce, Event},
    bpf, bpffs,
    namespace::Pair,
    tracker::{Tracker, binary},
    workspace,
};

/// From the default to larger and smaller ones, all of which have room for the load.
const LIMITS: [&[&str]; 4] = [
    &["--max-peers", "60000"],
    &["--max-peers", "9000", "--max-peers-v6", "6000"],
    &[],
    &["--max-peers", "9000", "--max-peers-v6", "60000"],
];

impl Site {
    /// What is pinned in the directory, but for maps of the store: stores below it, sets of programs.
    pub(super) fn pinned_directories(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("pins").flatten();
        let directories = entries.filter(|entry| entry.path().is_dir());
        let mut names: Vec<_> = directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    pub(super) fn assert_sound(&self) {
        let (sound, said) = self.run(&["check-store", "--pin-path", self.path().to_str().expect("UTF-8")]);
        assert!(sound, "{said}");
    }
}

#[test]
fn other_limits_take_effect_under_load_and_nothing_is_lost() {
    let site = Site::new();
    let mut tracker = site.start(&[]);
    let load = Load::start(&site.pair);
    for round in 0..rounds() {
        sleep_at_random(700);
        let answered = |tracker: &Tracker| {
            let metrics = tracker.metrics(&site.pair.server).expect("metrics");
            metrics.sum("tracker_requests_answered_total", &[("path", "xdp")])
        };
        let counted = answered(&tracker);
        if round.is_multiple_of(2) {
            tracker.kill().expect("it ran");
        } else {
            tracker.stop().expect("it ran");
        }
        sleep_at_random(200);
        let before = bpffs::pinned(&site.path()).expect("pins");
        let program = site.programs(Pair::SERVER_INTERFACE);
        // What one has left half made that was killed is no obstacle.
        let half_made = site.path().join(format!("store_{}", round + 1));
        fs::create_dir(&half_made).expect("a directory");
        bpffs::pin(&bpf::mappable_element([0; 8]).expect("a map"), &half_made.join("INDEX")).expect("pinned");
        // Every other time with another object as well.
        let object = another_object(200 + round);
        tracker = site.start_with(LIMITS[round as usize % LIMITS.len()], |command| {
            if round.is_multiple_of(2) {
                command.env(workspace::OBJECT_VARIABLE, &object);
            }
        });
        fs::remove_file(object).expect("it is there");
        let counts = answered(&tracker);
        assert!(counts >= counted, "counters go on: {counts} after {counted}");
        assert!(tells(&tracker, "into new maps"), "{}", tracker.log());
        assert!(!tracker.log().contains("found no room"), "{}", tracker.log());
        let directories = site.pinned_directories();
        assert!(directories.len() == 2 && directories[1] == format!("store_{}", round + 1), "{directories:?}");
        assert!(!site.path().join("INDEX").exists(), "the first store is gone");
        let now = bpffs::pinned(&site.path()).expect("pins");
        // Only the record, the link and the counters stay, and the counters' map is pinned anew.
        assert!(soon(|| before.difference(&now).all(|old| !bpf::exists(*old))), "all that is old is gone");
        assert_ne!(site.programs(Pair::SERVER_INTERFACE), program);
        site.assert_sound();
    }
    sleep_at_random(300);
    assert_all(&load.finish(), 300);
    assert_no_empty_table(&site, &tracker);
    // With the same limits nothing is made anew.
    tracker.kill().expect("it ran");
    let directories = site.pinned_directories();
    let tracker = site.start(LIMITS[(rounds() as usize - 1) % LIMITS.len()]);
    assert!(tells(&tracker, "taken over") && !tracker.log().contains("new maps"), "{}", tracker.log());
    assert_eq!(site.pinned_directories()[1], directories[1]);
    drop(tracker);
    let (done, said) = site.detach();
    assert!(done && !site.path().exists(), "{said}");
}

#[test]
fn kills_while_limits_change_leave_the_old_store_or_the_new_one() {
    let site = Site::new();
    site.start(&[]).kill().expect("it ran");
    let load = Load::start(&site.pair);
    for round in 0..rounds() {
        let path = site.path();
        let mut command = site.pair.server.command(binary().expect("a tracker"));
        command.arg("run").args(site.options(&path)).args(LIMITS[round as usize % LIMITS.len()]);
        let mut child = command.stderr(Stdio::null()).spawn().expect("it");
        sleep_at_random(1500);
        child.kill().expect("it runs");
        child.wait().expect("it ends");
        assert!(site.programs(Pair::SERVER_INTERFACE).len() == 1, "somebody answers");
        site.assert_sound();
    }
    let tracker = site.start(LIMITS[0]);
    let sums = load.finish();
    // What waited in the sockets of one that was killed in the moment of the change is not answered:
    // the two threads wait for one answer each.
    let lost = sums.sent - sums.answered;
    assert!(lost <= u64::from(2 * rounds()) && sums.wrong.len() as u64 <= lost, "{sums:#?}");
    assert!(sums.sent > 300 && sums.wrong.iter().all(|wrong| wrong.contains("no answer from")), "{sums:#?}");
    eprintln!("{} requests, {lost} of them not answered; the slowest took {:?}", sums.sent, sums.slowest);
    assert!(tells(&tracker, "taken over"), "{}", tracker.log());
    assert!(site.pinned_directories().len() <= 2, "nothing is left of the others: {:?}", site.pinned_directories());
    site.assert_sound();
}

/// Seeders of a torrent that has so many new peers.
pub(super) fn announce(site: &Site, from: u16, to: u16) -> u32 {
    let mut client = site.client();
    let announce =
        |port| Announce { left: 0, event: Event::Started as u32, num_want: 1, ..Announce::new([7; 20], port) };
    let mut seeders = 0;
    for port in from..to {
        seeders = client.announce(&announce(port)).expect("an answer").seeders;
    }
    seeders
}

#[test]
fn what_smaller_limits_have_no_room_for_is_said() {
    let site = Site::new();
    let tracker = site.start(&[]);
    assert_eq!(announce(&site, 1000, 3000), 2000);
    tracker.kill().expect("it ran");
    let tracker = site.start(&["--max-peers", "500"]);
    assert!(tells(&tracker, "found no room"), "{}", tracker.log());
    let seeders = announce(&site, 2999, 3000);
    assert!((500..2000).contains(&seeders), "{seeders}");
    site.assert_sound();
    tracker.kill().expect("it ran");
    let tracker = site.start(&[]);
    assert!(tells(&tracker, "into new maps") && !tracker.log().contains("found no room"), "{}", tracker.log());
    assert_eq!(announce(&site, 4000, 4100), seeders + 100);
}
