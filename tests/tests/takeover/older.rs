//! A store of an older layout is taken over into new maps, and what is none is refused.
//!
//! What an older tracker has left is made of what this one leaves: the settings as they were laid out
//! then, and without the maps that were not there yet. The records are those of today.

use super::{Site, sizes::announce, tells};
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};
use tracker_common::{settings::Settings, store::layout::LAYOUT_VERSION};
use tracker_tests::{
    bep15::{Announce, Event},
    bpf, bpffs,
    client::UdpClient,
    namespace::Pair,
    tracker::Tracker,
    workspace,
};

/// A layout as it was, and the maps that came later.
struct Layout {
    version: u32,
    without: &'static [&'static str],
}

const LAYOUTS: [Layout; 2] = [Layout { version: 1, without: &["LIMITS"] }, Layout { version: 2, without: &[] }];

/// Bytes of the tables of interfaces and addresses, which are at the end in each layout.
const TABLES: usize = 32 * (16 + 8 + 24);

/// Bytes of today's settings.
const NOW: usize = size_of::<Settings>();

/// Bytes of those of layout 1 and of layout 2: what stood in front of the tables, and these.
const FIRST: usize = 248 + TABLES;
const SECOND: usize = 824 + TABLES;

/// Where a map of the store in use is pinned.
fn store_map(site: &Site, name: &str) -> PathBuf {
    // A store that was made later has a directory of its own.
    let later = site.pinned_directories().into_iter().find(|name| name.starts_with("store_"));
    later.map_or_else(|| site.path(), |below| site.path().join(below)).join(name)
}

/// The record that says which layout it is.
fn change_record(site: &Site, change: impl FnOnce(&mut [u8; 64])) {
    let identity = bpffs::open(&site.path().join("IDENTITY")).expect("pinned").1;
    let mut record: [u8; 64] = bpf::first_element(&identity).expect("64 bytes");
    change(&mut record);
    bpf::set_first_element(&identity, record).expect("64 bytes");
}

fn set_layout(site: &Site, version: u32) {
    change_record(site, |record| record[8..12].copy_from_slice(&version.to_le_bytes()));
}

/// Pins other settings in the place of those that are there. The program goes on with these.
fn replace_settings<const BYTES: usize>(site: &Site, settings: [u8; BYTES]) {
    let path = store_map(site, "SETTINGS");
    let map = bpf::mappable_element(settings).expect("a map");
    fs::remove_file(&path).expect("it is there");
    bpffs::pin(&map, &path).expect("pinned");
}

fn settings(site: &Site) -> [u8; NOW] {
    bpf::first_element(&bpffs::open(&store_map(site, "SETTINGS")).expect("pinned").1).expect("settings")
}

/// The settings as they were laid out then.
fn older<const BYTES: usize>(now: &[u8; NOW]) -> [u8; BYTES] {
    let mut old = [0; BYTES];
    old[..BYTES - TABLES].copy_from_slice(&now[..BYTES - TABLES]);
    old[BYTES - TABLES..].copy_from_slice(&now[NOW - TABLES..]);
    old
}

/// Kills the tracker, and has what it leaves look like a store of that layout.
fn make_old(site: &Site, tracker: Tracker, layout: &Layout) {
    tracker.kill().expect("it ran");
    let now = settings(site);
    match layout.version {
        1 => replace_settings::<FIRST>(site, older(&now)),
        _ => replace_settings::<SECOND>(site, older(&now)),
    }
    for name in layout.without {
        fs::remove_file(store_map(site, name)).expect("it is there");
    }
    set_layout(site, layout.version);
}

/// Seeders, leechers and downloads of a torrent.
fn counts(site: &Site, info_hash: [u8; 20]) -> (u32, u32, u32) {
    let counts = site.client().scrape(&[info_hash]).expect("an answer")[0];
    (counts.seeders, counts.leechers, counts.completed)
}

/// An announce over IPv6 of the torrent that has all kinds of peers.
fn announce_v6(site: &Site) {
    let [own, tracker] = [(Pair::client_v6(1), 0), (Pair::SERVER_V6, 6969)].map(SocketAddr::from);
    let mut client = UdpClient::connected(&site.pair.client, own, tracker).expect("XDP answers");
    client.announce(&Announce::new([9; 20], 5)).expect("an answer");
}

/// Has many peers of one torrent, and all kinds of another one, with downloads.
fn fill(site: &Site) {
    assert_eq!(announce(site, 1000, 1400), 400);
    for (port, left, event) in [
        (1, 9, Event::Started),
        (2, 9, Event::Started),
        (3, 9, Event::Started),
        (2, 0, Event::Completed),
        (3, 0, Event::Completed),
        (3, 0, Event::Stopped),
        (4, 0, Event::Started),
    ] {
        let announce = Announce { left, event: event as u32, ..Announce::new([9; 20], port) };
        site.client().announce(&announce).expect("an answer");
    }
    announce_v6(site);
    assert_eq!(counts(site, [9; 20]), (2, 2, 2));
}

/// Takes over what [`fill`] has made, whose program goes on meanwhile.
fn take_over(site: &Site, name: &str) {
    assert_eq!(announce(site, 1400, 1500), 500, "{name}");
    let tracker = site.start(&[]);
    assert!(tells(&tracker, "into new maps: 2 torrents, 504 peers"), "{name}: {}", tracker.log());
    assert_eq!(counts(site, [9; 20]), (2, 2, 2), "{name}");
    assert_eq!(counts(site, [7; 20]), (500, 0, 0), "{name}");
    assert_eq!(announce(site, 1499, 1501), 501, "{name}");
    // Known peers are known, and what they did is known as well.
    let completed = Announce { left: 0, event: Event::Completed as u32, ..Announce::new([9; 20], 2) };
    assert_eq!(site.client().announce(&completed).expect("an answer").seeders, 2, "{name}");
    announce_v6(site);
    assert_eq!(counts(site, [9; 20]), (2, 2, 2), "{name}");
    // Who leaves may do so, whatever stood where it is kept by now whose a peer is.
    let stopped = Announce { event: Event::Stopped as u32, ..Announce::new([9; 20], 1) };
    site.client().announce(&stopped).expect("an answer");
    assert_eq!(counts(site, [9; 20]), (2, 1, 2), "{name}");
    site.assert_sound();
}

#[test]
fn a_store_of_an_older_layout_is_converted_while_it_answers() {
    for layout in &LAYOUTS {
        let site = Site::new();
        let tracker = site.start(&[]);
        fill(&site);
        make_old(&site, tracker, layout);
        take_over(&site, &format!("layout {}", layout.version));
    }
}

#[test]
#[ignore = "takes a tracker of an older layout, which TRACKER_TESTS_OLDER names"]
fn what_an_older_tracker_has_left_is_taken_over() {
    let program = std::env::var_os("TRACKER_TESTS_OLDER").expect("the path of an older tracker");
    let site = Site::new();
    let path = site.path();
    let path = path.to_str().expect("UTF-8");
    let options = ["--pin-path", path, "--interface", Pair::SERVER_INTERFACE, "--max-torrents", "1000"];
    let tracker = Tracker::start_in(&site.pair.server, &options, |command| {
        *command = site.pair.server.command(&program);
        command.arg("run").args(options).args(["--max-peers-per-address", "0"]).env_remove(workspace::OBJECT_VARIABLE);
    })
    .expect("it runs");
    fill(&site);
    tracker.kill().expect("it ran");
    change_record(&site, |record| eprintln!("it has left layout {}", record[8]));
    take_over(&site, "an older tracker");
}

#[test]
fn peers_that_come_while_an_older_store_is_converted_are_there() {
    // Peers come all the time, also between the last copy and the new program.
    const ROOM: [&str; 2] = ["--max-peers", "100000"];
    for layout in &LAYOUTS {
        let site = Site::new();
        make_old(&site, site.start(&ROOM), layout);
        let over = AtomicBool::new(false);
        let (tracker, last) = thread::scope(|scope| {
            let coming = scope.spawn(|| {
                let mut port = 2000;
                while !over.load(Ordering::Relaxed) && port < 60_000 {
                    announce(&site, port, port + 20);
                    port += 20;
                }
                port
            });
            let tracker = site.start(&ROOM);
            over.store(true, Ordering::Relaxed);
            (tracker, coming.join().expect("answered"))
        });
        assert!(tells(&tracker, "into new maps") && last > 2020, "{last}: {}", tracker.log());
        assert_eq!(announce(&site, 2000, 2001), u32::from(last - 2000), "all that were answered are there");
        site.assert_sound();
        tracker.kill().expect("it ran");
        let tracker = site.start(&ROOM);
        assert!(tells(&tracker, "taken over") && !tracker.log().contains("new maps"), "it is of the new layout now");
    }
}

#[test]
fn what_is_no_store_of_a_known_layout_is_refused_with_the_way_out() {
    type Damage = fn(&Site, &[u8; NOW]);
    // (what was done, what is said)
    let rows: [(&str, Damage, &str); 9] = [
        ("a newer layout", |site, _| set_layout(site, LAYOUT_VERSION + 1), "has layout"),
        ("layout 0", |site, _| set_layout(site, 0), "has layout 0"),
        ("today's settings as layout 1", |site, _| set_layout(site, 1), "has records of"),
        ("today's settings as layout 2", |site, _| set_layout(site, 2), "has records of"),
        (
            "settings of layout 1 as layout 2",
            |site, now| {
                replace_settings::<FIRST>(site, older(now));
                set_layout(site, 2);
            },
            "has records of 1784 bytes",
        ),
        (
            "settings of layout 2 as today's",
            |site, now| replace_settings::<SECOND>(site, older(now)),
            "has records of 2360 bytes",
        ),
        (
            "settings of layout 2 full of ones",
            |site, _| {
                replace_settings(site, [0xff; SECOND]);
                set_layout(site, 2);
            },
            "are not those of the store",
        ),
        (
            "settings of layout 1 of another store",
            |site, now| {
                let mut old: [u8; FIRST] = older(now);
                // How many buckets the index has.
                old[144] ^= 1;
                replace_settings(site, old);
                set_layout(site, 1);
            },
            "are not those of the store",
        ),
        (
            "layout 2 without a map",
            |site, now| {
                replace_settings::<SECOND>(site, older(now));
                set_layout(site, 2);
                fs::remove_file(store_map(site, "CHUNKS_V4")).expect("it is there");
            },
            "damaged",
        ),
    ];
    for (name, damage, said) in rows {
        let site = Site::new();
        let tracker = site.start(&[]);
        assert_eq!(announce(&site, 1000, 1010), 10);
        tracker.kill().expect("it ran");
        damage(&site, &settings(&site));
        let words = site.refused(&[]);
        assert!(words.contains(said) && words.contains("tracker detach --pin-path"), "{name}: {words}");
        // It goes on answering until it is given up.
        assert_eq!(announce(&site, 1009, 1011), 11, "{name}");
        let (done, words) = site.detach();
        assert!(done && !site.path().exists(), "{name}: {words}");
        let tracker = site.start(&[]);
        assert_eq!(announce(&site, 1000, 1001), 1, "{name}: {}", tracker.log());
    }
}
