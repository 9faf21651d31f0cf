//! Changes of a daemon that has a store and nothing else.

use super::*;
use crate::{
    command::{Command, CommandLine},
    config::Configuration,
    statistics::LatestStatus,
    store::{
        CounterSet, fixture,
        sizes::{Capacity, Sizes},
    },
};
use addresses::Addresses;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
};
use tracker_common::{
    admission::blocklist,
    bep15::connection_id::IpKey,
    store::{
        family::V4,
        membership::{Announce, PeerEvent},
        owner::Owner,
        upsert,
    },
};
use tracker_tests::temporary::Directory;

const TORRENT: InfoHash = [0xaa; 20];

/// A daemon with this configuration file; `{}` in it is the directory of the files.
struct Daemon {
    directory: Directory,
    control: Arc<Control>,
    client: Handle,
}

impl Daemon {
    fn start(name: &str, files: &[(&str, &str)]) -> Self {
        let directory = Directory::new(&format!("control-{name}"));
        write(&directory, files);
        let file = directory.path("tracker.toml").display().to_string();
        let line = CommandLine::read(["tracker", "run", "--config", &file]).expect("right");
        let Command::Run(given) = line.command else { panic!("not run") };
        let (options, Configuration { startup, live }) =
            Configuration::read_over(given.clone(), &Overrides::new()).expect("right");
        let sizes = Sizes::new(&Capacity { torrents: 1000, peers_v4: 20_000, peers_v6: 20_000 });
        let sizes = sizes.and_then(|sizes| sizes.with_listed(100)).expect("small");
        let store = fixture::store_of(&Sizes { block_words: Addresses::least_room(), ..sizes });
        let (handles, client) = (Handles::default(), store.handle(CounterSet::Udp));
        let remover = store.handle(CounterSet::Expiry);
        live.apply(store.settings(), &handles);
        let lists = Lists::read(&live.lists).expect("right");
        lists.apply(&remover, false).expect("room");
        let contents = Contents::read(&live.addresses).expect("right");
        let addresses = contents.with(&addresses::Changes::default()).expect("few");
        let mut statistics = Statistics::new(store, Arc::default(), None, LatestStatus::default());
        statistics.block_lists = handles.block_lists.clone();
        let known = lists::Known { counts: lists::Counts::of(&lists, &addresses), addresses: Some(contents) };
        addresses.apply(&remover, &handles.block_lists, &statistics.blocked(), false).expect("room");
        let parts = Parts {
            startup,
            handles,
            certificates: None,
            saver: None,
            xdp: None,
            statistics: Arc::new(statistics),
            missing: Missing::new(),
        };
        let control = Control::new(Reload::new(given), parts, (options, live), remover, known);
        Self { directory, control, client }
    }

    fn write(&self, files: &[(&str, &str)]) {
        write(&self.directory, files);
    }

    fn announce(&self, address: Ipv4Addr) {
        let peer = V4::key(address.octets(), 7000);
        let (event, owner) = (PeerEvent::None, Owner::NONE);
        let announce = Announce { info_hash: &TORRENT, peer, seeder: false, event, owner };
        upsert::announce::<_, V4>(&self.client.context(), &announce).expect("room");
    }

    /// The last parts of the addresses of its peers.
    fn peers(&self) -> BTreeSet<u8> {
        let (_, peers) = self.control.torrent(&TORRENT).expect("stored");
        let last = |peer: Peer| match peer.address.ip() {
            std::net::IpAddr::V4(address) => address.octets()[3],
            std::net::IpAddr::V6(_) => 0,
        };
        peers.into_iter().map(last).collect()
    }

    /// What was counted for each list, by its name without the directory.
    fn counted(&self) -> BTreeMap<String, u64> {
        let snapshot = self.control.parts.statistics.snapshot();
        let directory = self.directory.path("").display().to_string();
        let count = |list| snapshot.paths.iter().map(|path| path.blocked(list)).sum();
        snapshot.block_lists.iter().map(|list| (list.name.replace(&directory, ""), count(list))).collect()
    }
}

fn write(directory: &Directory, files: &[(&str, &str)]) {
    for (name, text) in files {
        let place = directory.path("").display().to_string();
        fs::write(directory.path(name), text.replace("{}", place.trim_end_matches('/'))).expect("writable");
    }
}

#[test]
fn a_network_is_blocked_but_for_what_is_let_in() {
    let let_in = "192.0.2.0/30\n203.0.113.0/25\n203.0.113.128/25\n";
    let all = [1, 77, 200];
    type Row = (&'static str, &'static [&'static str], &'static str, Option<&'static [u8]>);
    // (what is let in before, what is blocked, the peers that are left; `None` if it is refused)
    let rows: [Row; 7] = [
        ("a part is let in by a file", &[], "192.0.2.0/24", Some(&[1])),
        ("a part was let in", &["192.0.2.64/26"], "192.0.2.0/24", Some(&[1, 77])),
        ("the first half was let in", &["192.0.2.0/25"], "192.0.2.0/24", Some(&[1, 77])),
        ("all of it was let in, which is undone", &["192.0.2.128/25"], "192.0.2.128/25", Some(&[1, 77])),
        ("all of it is let in by a file", &[], "192.0.2.0/31", None),
        ("all of it is let in by two networks of a file", &[], "203.0.113.0/24", None),
        ("all of it was let in by a larger network", &["192.0.0.0/16"], "192.0.2.0/24", None),
    ];
    for (number, (name, before, network, left)) in rows.into_iter().enumerate() {
        let files = [("tracker.toml", "allow-addresses = [\"{}/in\"]\n"), ("in", let_in)];
        let daemon = Daemon::start(&format!("block-{number}"), &files);
        all.iter().for_each(|last| daemon.announce([192, 0, 2, *last].into()));
        let change = |network: &str, blocked| daemon.control.block(network.parse().expect("a network"), blocked);
        for network in before {
            change(network, false).expect("let in");
        }
        let result = change(network, true);
        assert_eq!(result.as_ref().ok(), left.is_some().then_some(&true), "{name}: {result:?}");
        assert_eq!(daemon.peers(), left.unwrap_or(&all).iter().copied().collect(), "{name}");
        assert!(result.is_ok() || format!("{result:?}").contains("all of"), "{name}: {result:?}");
    }
}

#[test]
fn limits_are_changed_without_reading_a_file_again() {
    let daemon = Daemon::start(
        "limits",
        &[
            ("tracker.toml", "limit-errors = 70\nadmin-token-file = \"{}/token\"\napi-token-file = \"{}/token\"\n"),
            ("token", "0123456789abcdef\n"),
        ],
    );
    let before = daemon.control.state().live.clone();
    daemon.write(&[
        ("tracker.toml", "limit-errors = 80\ninterval = 900\nadmin-from = [\"all\"]\nproxy-from = [\"all\"]\n"),
        ("token", "no more"),
    ]);
    for (changes, expected) in [
        (r#"{"limit-scrapes": 7}"#, &["limit-scrapes"][..]),
        ("{}", &[]),
        (r#"{"limit-scrapes": null, "limit-errors": 9}"#, &["limit-scrapes", "limit-errors"]),
        (r#"{"limit-errors": null}"#, &["limit-errors"]),
    ] {
        let Value::Object(changes) = serde_json::from_str(changes).expect("JSON") else { panic!("no object") };
        let changed = daemon.control.change_limits(&changes).expect("right");
        assert_eq!(changed, expected, "{changes:?}");
    }
    assert_eq!(daemon.control.state().live, before, "as it was");
    assert_eq!(**daemon.control.parts.handles.access.load(), before.access);
}

#[test]
fn a_torrent_stays_on_a_list_whose_file_loses_it() {
    let hex = "aa".repeat(20);
    for (list, option) in [(List::Deny, "deny-list"), (List::Allow, "allow-list")] {
        let configuration = format!("{option} = [\"{{}}/list\"]\n");
        let daemon = Daemon::start(option, &[("tracker.toml", &configuration), ("list", &hex)]);
        let put = daemon.control.list_torrent(list, &TORRENT);
        assert!(matches!(put, Ok(false)), "it is there: {put:?}");
        for (text, what) in [(&*hex, "still in it"), ("", "gone from it"), (&hex, "in it again")] {
            daemon.write(&[("list", text)]);
            daemon.control.reload().expect("right");
            assert!(daemon.control.is_listed(list, &TORRENT), "{option}: {what}");
            assert_eq!(daemon.control.torrent_list(list).entries, 1, "{option}: {what}");
        }
        assert!(daemon.control.unlist_torrent(list, &TORRENT));
        daemon.control.reload().expect("right");
        assert!(!daemon.control.is_listed(list, &TORRENT), "{option}: taken off");
    }
}

#[test]
fn lists_of_addresses_keep_their_counts_whatever_comes_and_goes_beside_them() {
    let daemon =
        Daemon::start("counts", &[("tracker.toml", ""), ("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.0.3")]);
    let ask = |list: u8, times: u32| {
        for _ in 0..times {
            let address = IpKey::V4(u32::from_le_bytes([10, 0, 0, list]));
            let _ = blocklist::check(&daemon.client.context(), address);
        }
    };
    // (files, what is counted for each before one of 10.0.0.1, two of .2 and three of .3 come)
    type Row<'a> = (&'a [&'a str], &'a [(&'a str, u64)]);
    let rows: [Row<'_>; 7] = [
        (&["a", "b"], &[("a", 0), ("b", 0)]),
        (&["c", "a", "b"], &[("a", 1), ("b", 2), ("c", 0)]),
        (&["b", "a", "b"], &[("a", 2), ("b", 4)]),
        (&["b"], &[("b", 6)]),
        (&["c", "b"], &[("b", 8), ("c", 0)]),
        (&[], &[]),
        (&["b", "a"], &[("a", 0), ("b", 0)]),
    ];
    for (files, expected) in rows {
        let named: Vec<_> = files.iter().map(|file| format!("\"{{}}/{file}\"")).collect();
        let line = format!("block-addresses = [{}]\n", named.join(", "));
        daemon.write(&[("tracker.toml", if files.is_empty() { "" } else { &line })]);
        daemon.control.reload().expect("right");
        let expected: BTreeMap<_, _> = expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(daemon.counted(), expected, "{files:?}");
        for list in 1..4 {
            ask(list, list.into());
        }
    }
}
