//! Files in the state directory: written in one step, loaded, set aside.

use super::*;
use crate::{
    snapshot::{NAME, Plan, Saver, directory, load, load::Taken, path_in, save::Saved},
    store::sweep::Timeouts,
};
use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
    time::Duration,
};

const LOCK: &str = "swarms.lock";

fn plan(directory: &Directory, peers: bool) -> Plan {
    Plan { directory: directory.0.clone(), interval: Duration::from_secs(900), peers }
}

fn filled() -> (Arc<Store>, Known) {
    let store = store_of(SOME);
    let known = fill(&store, 1);
    (store, known)
}

fn save(saver: &Saver) -> Saved {
    saver.save(&mut || true).expect("writable").expect("nobody said no")
}

#[test]
fn a_snapshot_is_for_its_owner_alone_and_replaces_the_old_one() {
    let (store, known) = filled();
    let directory = Directory::new();
    let path = path_in(&directory.0);
    let saver = Saver::new(store, plan(&directory, true));
    for _ in 0..2 {
        let saved = save(&saver);
        let metadata = fs::metadata(&path).expect("a file");
        assert_eq!((metadata.mode() & 0o7777, metadata.len()), (0o600, saved.bytes));
        assert_eq!(
            saved.totals.peers_v4 + saved.totals.peers_v6,
            known.values().map(|(_, _, peers)| peers.len() as u64).sum::<u64>()
        );
        assert!(known_of(&fs::read(&path).expect("a file")) == known);
        assert_eq!(directory.names(), [LOCK, NAME]);
        // Whatever its mode was.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("our own");
    }
    let other = store_of(SOME);
    assert!(!load(&other, &plan(&directory, true), Timeouts::default()).save_at_once);
    assert_eq!(known_of(&snapshot_of(&other, HEADER)).len(), known.len());
    assert_eq!(directory.names(), [LOCK, NAME], "a good one stays");
    // Peers are not wanted any more.
    assert!(load(&store_of(SOME), &plan(&directory, false), Timeouts::default()).save_at_once);
    save(&Saver::new(store_of(SOME), plan(&Directory::new(), false)));
}

#[test]
fn a_snapshot_that_is_given_up_leaves_the_old_one_and_nothing_else() {
    let (store, _) = filled();
    let directory = Directory::new();
    let saver = Saver::new(store, plan(&directory, true));
    save(&saver);
    let before = fs::read(path_in(&directory.0)).expect("a file");
    for after in 0..4 {
        let mut asked = 0;
        let mut go_on = || {
            asked += 1;
            asked <= after
        };
        assert_eq!(saver.save(&mut go_on).expect("no error"), None);
        assert_eq!(directory.names(), [LOCK, NAME]);
        assert!(fs::read(path_in(&directory.0)).expect("a file") == before);
    }
}

#[test]
fn one_tracker_at_a_time_writes_into_a_directory() {
    let (store, _) = filled();
    let directory = Directory::new();
    let [one, other] = [(); 2].map(|()| Saver::new(store.clone(), plan(&directory, false)));
    save(&one);
    let error = other.save(&mut || true).expect_err("somebody else does");
    assert!(error.to_string().contains("another tracker"), "{error:#}");
    drop(one);
    save(&other);
}

#[test]
fn what_a_killed_tracker_left_half_written_goes() {
    let (store, _) = filled();
    let directory = Directory::new();
    let half = directory.0.join(format!("{NAME}.new"));
    fs::write(&half, "half").expect("writable");
    save(&Saver::new(store, plan(&directory, false)));
    assert_eq!(directory.names(), [LOCK, NAME]);
}

#[test]
fn a_directory_that_cannot_be_used_is_an_error_and_no_more() {
    let (store, _) = filled();
    let directory = Directory::new();
    for (name, path) in [("missing", "missing"), ("a file", "file")] {
        fs::write(directory.0.join("file"), "").expect("writable");
        let plan = Plan { directory: directory.0.join(path), interval: Duration::from_secs(1), peers: true };
        assert_eq!(load(&store, &plan, Timeouts::default()), Taken::default(), "{name}");
        let saver = Saver::new(store.clone(), plan);
        assert!(saver.save(&mut || true).is_err(), "{name}");
        saver.save_at_end();
    }
    // A directory in its place cannot be replaced.
    fs::create_dir_all(directory.0.join(NAME).join("x")).expect("writable");
    assert!(Saver::new(store, plan(&directory, true)).save(&mut || true).is_err());
    assert_eq!(directory.names(), ["file", LOCK, NAME]);
}

#[test]
fn a_file_that_cannot_be_loaded_whole_is_set_aside() {
    let (store, known) = filled();
    let sound = snapshot_of(&store, Header { taken_at: crate::snapshot::wall_clock(), ..HEADER });
    let write = |at: &Path, bytes: &[u8]| fs::write(at, bytes).expect("writable");
    // What is there, and how many torrents are loaded from it.
    type Row<'r> = (&'static str, &'r dyn Fn(&Path), bool);
    let rows: [Row<'_>; 9] = [
        ("empty", &|at| write(at, b""), false),
        ("text", &|at| write(at, b"hello"), false),
        ("cut off", &|at| write(at, &sound[..sound.len() - 1]), true),
        ("zeros at the end", &|at| write(at, &[&sound[..], &[0; 4096]].concat()), true),
        ("a directory", &|at| fs::create_dir(at).expect("writable"), false),
        ("a link to nowhere", &|at| symlink("nowhere", at).expect("writable"), false),
        (
            "a link to a good one",
            &|at| {
                write(&at.with_file_name("elsewhere"), &sound);
                symlink("elsewhere", at).expect("writable");
            },
            false,
        ),
        (
            "one that others may write",
            &|at| {
                write(at, &sound);
                fs::set_permissions(at, fs::Permissions::from_mode(0o620)).expect("our own");
            },
            false,
        ),
        ("a socket", &|at| drop(std::os::unix::net::UnixListener::bind(at).expect("writable")), false),
    ];
    for (name, make, some) in rows {
        let directory = Directory::new();
        make(&path_in(&directory.0));
        let other = store_of(SOME);
        assert!(!load(&other, &plan(&directory, true), Timeouts::default()).save_at_once, "{name}");
        let loaded = known_of(&snapshot_of(&other, HEADER)).len();
        assert_eq!(loaded, if some { known.len() } else { 0 }, "{name}");
        let mut names = directory.names();
        names.retain(|name| name != "elsewhere");
        assert!(names.len() == 1 && names[0].starts_with("swarms.snapshot.aside-"), "{name}: {names:?}");
        save(&Saver::new(other, plan(&directory, true)));
        assert!(directory.names().len() >= 3, "{name}: it stays beside the new one");
    }
}

#[test]
fn no_more_than_three_are_kept_aside() {
    let directory = Directory::new();
    fs::write(directory.0.join("swarms.snapshot.aside-old"), "not ours").expect("writable");
    for number in 0..6_u8 {
        fs::write(path_in(&directory.0), [number]).expect("writable");
        directory::set_aside(&directory.0).expect("writable");
    }
    let names = directory.names();
    let contents = |name: &String| fs::read(directory.0.join(name)).expect("a file");
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(names.iter().take(3).map(contents).collect::<Vec<_>>(), [[3], [4], [5]], "{names:?}");
}
