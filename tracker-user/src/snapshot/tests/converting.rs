//! Export and import.

use super::*;
use crate::snapshot::{
    Plan, Saver,
    convert::{self, Format, Imported, Merge},
    directory, path_in,
    statedump::Wrong,
    wall_clock,
};
use std::time::Duration;

fn hex(number: u32) -> String {
    info_hash(number).map(|byte| format!("{byte:02X}")).concat()
}

fn import(directory: &Directory, lines: &str, merge: Merge) -> (anyhow::Result<Imported>, Vec<(u64, Wrong)>) {
    let mut wrong = Vec::new();
    let result = convert::import(lines.as_bytes(), &directory.0, merge, |line, what| wrong.push((line, what)));
    (result, wrong)
}

fn known(directory: &Directory) -> Known {
    known_of(&fs::read(path_in(&directory.0)).expect("a snapshot"))
}

fn exported(directory: &Directory, format: Format) -> String {
    let mut text = Vec::new();
    let (_, damages) =
        convert::export(convert::open(&directory.0).expect("a snapshot"), format, &mut text).expect("memory");
    assert_eq!(damages, []);
    String::from_utf8(text).expect("text")
}

#[test]
fn what_is_imported_is_exported_again() {
    let directory = Directory::new();
    let minute = wall_clock() / 60;
    let lines = format!("{}:{}:5\r\n\n{}:{}:0\n{}:{minute}:7", hex(1), minute - 3, hex(2), minute - 100, hex(3));
    let (result, wrong) = import(&directory, &lines, Merge::Larger);
    assert_eq!((result.expect("good lines"), wrong), (Imported { new: 3, merged: 0, wrong: 0 }, vec![]));
    let text = exported(&directory, Format::Statedump);
    let mut seen: Vec<&str> = text.lines().collect();
    seen.sort_unstable();
    // The clock may have gone on by a minute.
    let fits = |more: u64| {
        let expected = [(1, minute - 3, 5), (2, minute - 100, 0), (3, minute, 7)];
        seen == expected.map(|(torrent, minute, completed)| format!("{}:{}:{completed}", hex(torrent), minute + more))
    };
    assert!(fits(0) || fits(1), "{text}");
    let again = Directory::new();
    import(&again, &text, Merge::Larger).0.expect("our own");
    assert_eq!(known(&again), known(&directory));
}

#[test]
fn lines_that_are_wrong_are_named_and_the_others_imported() {
    let directory = Directory::new();
    let [one, two] = [hex(1), hex(2)];
    let lines = format!("{one}:10:5\nnonsense\n{one}:11:3\n{two}:12:-1\n{two}:12:99999999999\n{two}:12:2\n:::\n");
    let (result, wrong) = import(&directory, &lines, Merge::Larger);
    assert_eq!(result.expect("some are right"), Imported { new: 2, merged: 0, wrong: 5 });
    let lines: Vec<_> = wrong.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [2, 3, 4, 5, 7]);
    assert_eq!(wrong[1].1, Wrong::Twice);
    assert!(wrong.iter().all(|(_, wrong)| !wrong.to_string().is_empty()));
    let known = known(&directory);
    assert_eq!((known[&info_hash(1)].0, known[&info_hash(1)].1), (5, 1), "the larger number, the later minute");
    assert_eq!((known[&info_hash(2)].0, known[&info_hash(2)].1), (2, 0));
}

#[test]
fn nothing_is_changed_when_no_line_is_right() {
    for lines in ["", "\n\n", "d5:filesde", "\0\0\0"] {
        let directory = Directory::new();
        let (result, _) = import(&directory, lines, Merge::Larger);
        assert!(result.is_err(), "{lines:?}");
        assert!(!path_in(&directory.0).exists(), "{lines:?}");
    }
}

#[test]
fn counts_are_merged_and_peers_stay() {
    // How they are merged, twice in a row, and what the count is then: it was 3.
    for (merge, times, expected) in
        [(Merge::Larger, 1, 10), (Merge::Larger, 2, 10), (Merge::Sum, 1, 13), (Merge::Sum, 2, 23)]
    {
        let store = store_of(SOME);
        let handle = store.handle(CounterSet::Udp);
        // So many that they have several records.
        for number in 0..10_000 {
            let event = if number < 3 { PeerEvent::Completed } else { PeerEvent::None };
            Peer { number, v6: false, minutes_ago: 4, seeder: true, event }.announce(&handle, 1);
        }
        Peer { number: 1, v6: true, minutes_ago: 0, seeder: true, event: PeerEvent::Completed }.announce(&handle, 2);
        let directory = Directory::new();
        let plan = Plan { directory: directory.0.clone(), interval: Duration::from_secs(1), peers: true };
        let saver = Saver::new(store, plan);
        saver.save(&mut || true).expect("writable");
        let lines = format!("{}:9:10\n{}:7:0\n{}:8:2\n", hex(1), hex(2), hex(3));
        assert!(import(&directory, &lines, merge).0.is_err(), "a tracker is running");
        drop(saver);
        let mut before = known(&directory);
        for _ in 0..times {
            let (result, _) = import(&directory, &lines, merge);
            assert_eq!(result.expect("good lines").wrong, 0);
        }
        before.get_mut(&info_hash(1)).expect("there").0 = expected;
        before.get_mut(&info_hash(1)).expect("there").1 = 0;
        before.insert(info_hash(3), (if merge == Merge::Sum { 2 * times } else { 2 }, 1, BTreeMap::new()));
        assert!(known(&directory) == before, "{merge:?} {times}");
        let text = exported(&directory, Format::Json);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        let of = |torrent: u32| {
            let hash = hex(torrent).to_lowercase();
            lines.iter().find(|line| line.starts_with(&format!("{{\"info_hash\":\"{hash}\",")))
        };
        let line = of(1).expect("a line");
        assert!(line.contains(&format!("\"completed\":{expected},")), "{line}");
        assert!(line.ends_with("\"seeders\":10000,\"leechers\":0}"), "{line}");
        assert!(of(3).expect("a line").ends_with("\"seeders\":0,\"leechers\":0}"));
    }
}

#[test]
fn a_damaged_snapshot_is_not_imported_into_and_exported_as_far_as_it_is_whole() {
    let directory = Directory::new();
    import(&directory, &format!("{}:1:1\n", hex(1)), Merge::Larger).0.expect("a good line");
    let path = path_in(&directory.0);
    let mut bytes = fs::read(&path).expect("a snapshot");
    bytes.pop();
    fs::write(&path, &bytes).expect("our own");
    let (result, _) = import(&directory, &format!("{}:1:1\n", hex(2)), Merge::Larger);
    let error = format!("{:#}", result.expect_err("damaged"));
    assert!(error.contains("damaged"), "{error}");
    assert!(fs::read(&path).expect("a snapshot") == bytes, "it is as it was");
    let mut text = Vec::new();
    let opened = convert::open(&directory.0).expect("a header");
    let (torrents, damages) = convert::export(opened, Format::Statedump, &mut text).expect("memory");
    assert_eq!((torrents, damages.len()), (1, 1));
    directory::set_aside(&directory.0).expect("writable");
    assert!(convert::open(&directory.0).is_err(), "there is none");
}
