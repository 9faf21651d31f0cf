//! XDP while nobody attends to it: a daemon that is stopped, with a thread of a killed one's lock still
//! held in its store. The clock goes on, what cannot be stored is answered, and once what the dead
//! thread has left behind is repaired, it is stored again.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    os::fd::{AsFd as _, FromRawFd as _, OwnedFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};
use tracker::store::{CounterSet, Store, sizes::Sizes};
use tracker_common::{
    platform::Platform as _,
    settings::Settings,
    store::{hash::TorrentKey, index, journal::Place},
};
use tracker_tests::{
    bep15::{Announce, InfoHash, Reply},
    bpffs::BpfFs,
    client::{Announced, UdpClient},
    interrupt,
    namespace::Pair,
    patience,
    tracker::Tracker,
};

const PORT: u16 = 6969;
const LOCKED: InfoHash = [0x3c; 20];
const OTHER: InfoHash = [0x4d; 20];
const TORRENTS: u32 = 1000;
/// How long the daemon may be silent before the program notices; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// An array map that a process holds open, by the size of its elements and by whether it has one of
/// them or may have more; with how many it has.
fn map(process: u32, element_bytes: usize, single: bool) -> (OwnedFd, u32) {
    let number = |text: &str, name: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        value.trim().parse().ok()
    };
    for entry in fs::read_dir(format!("/proc/{process}/fdinfo")).expect("a process") {
        let entry = entry.expect("an open file");
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let entries = number(&text, "max_entries").unwrap_or(0) as u32;
        if number(&text, "map_type") != Some(2)
            || number(&text, "value_size") != Some(element_bytes as u64)
            || (entries == 1) != single
        {
            continue;
        }
        let theirs: RawFd = entry.file_name().to_string_lossy().parse().expect("a number");
        // SAFETY: system calls without pointers.
        let ours = unsafe {
            let process = libc::syscall(libc::SYS_pidfd_open, process, 0);
            assert!(process >= 0, "pidfd_open");
            let process = OwnedFd::from_raw_fd(process as RawFd);
            libc::syscall(libc::SYS_pidfd_getfd, std::os::fd::AsRawFd::as_raw_fd(&process), theirs, 0)
        };
        assert!(ours >= 0, "pidfd_getfd");
        // SAFETY: the kernel has just opened it for us.
        return (unsafe { OwnedFd::from_raw_fd(ours as RawFd) }, entries);
    }
    panic!("process {process} holds no map of {element_bytes} bytes per element");
}

/// The store that a daemon has in its maps, as another daemon sees it.
fn store(process: u32) -> Arc<Store> {
    let any = Sizes {
        index_buckets: 1,
        swarms: TORRENTS,
        partitions: 1,
        chunks_v4: 1,
        chunks_v6: 1,
        access_buckets: 1,
        block_words: 1,
    };
    // Without lists the table of listed torrents has one bucket.
    let is_single = |name: &str| ["SETTINGS", "POOLS", "ACCESS", "BLOCKS"].contains(&name);
    let maps: Vec<_> = any
        .regions()
        .iter()
        .map(|region| (region.name, map(process, region.element_bytes, is_single(region.name))))
        .collect();
    let count = |name: &str| maps.iter().find(|(of, _)| *of == name).map_or(0, |(_, (_, count))| *count);
    let sizes = Sizes {
        index_buckets: count("INDEX"),
        swarms: TORRENTS,
        partitions: count("PARTITIONS"),
        chunks_v4: count("CHUNKS_V4"),
        chunks_v6: count("CHUNKS_V6"),
        access_buckets: count("ACCESS"),
        block_words: count("BLOCKS"),
    };
    let open = |name: &str| {
        let map = maps.iter().find(|(of, _)| *of == name).map(|(_, (map, _))| map.as_fd());
        map.ok_or_else(|| anyhow::anyhow!("no map {name}"))
    };
    Arc::new(Store::from_maps(&sizes, open).expect("maps can be mapped"))
}

/// A process that stands still as long as this lives.
struct Stopped(libc::pid_t);

impl Stopped {
    fn new(process: u32) -> Self {
        let process = process as libc::pid_t;
        // SAFETY: no pointers; the process is a child of this one that has not been waited for.
        assert_eq!(unsafe { libc::kill(process, libc::SIGSTOP) }, 0);
        Self(process)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::kill(self.0, libc::SIGCONT) };
    }
}

fn announce(client: &mut UdpClient, info_hash: InfoHash, port: u16) -> Announced {
    client.announce(&Announce::new(info_hash, port)).expect("an answer")
}

/// Connects until the program has noticed that nobody sets the clock but itself.
fn wait_until_noticed(client: &mut UdpClient, settings: &Settings) {
    let begin = Instant::now();
    while !settings.is_unattended() {
        assert!(begin.elapsed() < patience(PATIENCE), "the clock does not go on");
        interrupt::sleep(Duration::from_millis(50)).expect("no interruption");
        client.connect().expect("a connection id");
    }
}

#[test]
fn what_a_dead_thread_holds_is_answered_for_and_stored_again_after_the_repair() {
    let pair = Pair::new().expect("two namespaces");
    let options = ["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", "native", "--max-torrents", "1000"];
    let tracker = Tracker::start(&pair.server, &options).expect("the tracker runs");
    let server = SocketAddr::new(Pair::SERVER_V4.into(), PORT);
    let client = |number| {
        UdpClient::connected(&pair.client, SocketAddr::new(Pair::client_v4(number).into(), 0), server).expect("an id")
    };
    let [mut known, mut other, mut new] = [1, 2, 3].map(client);
    announce(&mut known, LOCKED, 1001);
    announce(&mut other, LOCKED, 1002);

    let store = store(tracker.process());
    let settings = store.settings();
    let stopped = Stopped::new(tracker.process());
    let second = settings.second.load();
    // A thread dies with a lock in its hands.
    let dead = store.handle(CounterSet::Udp);
    let swarm = index::find(&dead.context(), &TorrentKey::new(settings, &LOCKED)).expect("the torrent").id;
    dead.acquire(&dead.swarm(swarm).expect("its record").lock, Place::Swarm(swarm)).expect("it waits");
    std::mem::forget(dead);

    wait_until_noticed(&mut other, settings);
    assert!(settings.second.load() > second, "the clock goes on");
    new.connect().expect("a connection id");
    let answer = announce(&mut new, LOCKED, 1003);
    assert_eq!((answer.leechers, answer.seeders, answer.peers.len()), (2, 0, 2), "answered, not stored");
    assert_eq!(announce(&mut known, LOCKED, 1001).peers.len(), 1, "nor is a known one");
    assert_eq!(known.scrape(&[LOCKED]).expect("an answer")[0].leechers, 2);
    assert_eq!(announce(&mut new, OTHER, 1003).leechers, 1, "what nobody holds is stored");

    let repaired = store.repair();
    assert_eq!((repaired.locks, repaired.swarms, repaired.in_doubt), (1, 1, 0), "{repaired:?}");
    assert_eq!(announce(&mut new, LOCKED, 1003).leechers, 3, "stored again");
    drop(stopped);
    let begin = Instant::now();
    while settings.is_unattended() {
        assert!(begin.elapsed() < patience(PATIENCE), "the daemon goes on");
        interrupt::sleep(Duration::from_millis(50)).expect("no interruption");
    }
    let metrics = tracker.metrics(&pair.server).expect("metrics");
    assert_eq!(metrics.sum("tracker_announces_unstored_total", &[("path", "xdp")]), 2.0);
    assert_eq!(announce(&mut known, LOCKED, 1001).leechers, 3);
}

/// A frame from a socket leaves the program too little room for the peers that are usual. Sockets answer
/// such announces, unless nobody is there to read them.
#[test]
fn announces_are_answered_with_what_fits_while_nobody_would_answer_whole() {
    const PEERS: u16 = 120;
    const USUAL: usize = 50;
    let pair = Pair::new().expect("two namespaces");
    let options = ["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", "native", "--max-torrents", "1000"];
    let options = [&options[..], &["--max-peers-per-address", "0"]].concat();
    let tracker = Tracker::start(&pair.server, &options).expect("the tracker runs");
    // As many IPv4 peers have room.
    let (source, server) = (Pair::client_v6(1).into(), Pair::SERVER_V6.into());
    let mut client =
        UdpClient::connected(&pair.client, SocketAddr::new(source, 0), SocketAddr::new(server, PORT)).expect("an id");
    for port in 1..=PEERS {
        client.announce(&Announce { num_want: 0, ..Announce::new(OTHER, port) }).expect("an answer");
    }
    assert_eq!(announce(&mut client, OTHER, 1).peers.len(), USUAL, "whole, by the sockets");
    let counts = || {
        let metrics = tracker.metrics(&pair.server).expect("metrics");
        let no_room = metrics.sum("tracker_packets_passed_total", &[("path", "xdp"), ("reason", "no_room")]);
        (no_room, metrics.sum("tracker_replies_shortened_total", &[]))
    };
    assert_eq!(counts(), (1.0, 0.0));

    let store = store(tracker.process());
    let stopped = Stopped::new(tracker.process());
    wait_until_noticed(&mut client, store.settings());
    for port in 1..=3 {
        let answer = announce(&mut client, OTHER, port);
        let others: BTreeSet<_> = answer.peers.iter().map(SocketAddr::port).collect();
        assert!((10..USUAL).contains(&others.len()), "{} peers", others.len());
        assert!(others.len() == answer.peers.len() && !others.contains(&port), "{:?}", answer.peers);
        assert_eq!((answer.leechers, answer.seeders), (PEERS.into(), 0));
    }
    drop(stopped);
    let begin = Instant::now();
    while store.settings().is_unattended() {
        assert!(begin.elapsed() < patience(PATIENCE), "the daemon goes on");
        interrupt::sleep(Duration::from_millis(50)).expect("no interruption");
    }
    assert_eq!(counts(), (1.0, 3.0));
    assert_eq!(announce(&mut client, OTHER, 1).peers.len(), USUAL, "whole again");
}

/// Its sockets are closed at once, which the program sees, long before it can tell by the clock.
#[test]
fn what_a_killed_daemon_would_have_been_left_is_answered_at_once() {
    const PEERS: u16 = 120;
    let pair = Pair::new().expect("two namespaces");
    let pins = BpfFs::mount().expect("a BPF file system");
    let path = pins.path();
    let options = ["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", "native", "--max-torrents", "1000"];
    let pinned = ["--max-peers-per-address", "0", "--pin-path", path.to_str().expect("UTF-8")];
    let tracker = Tracker::start(&pair.server, &[&options[..], &pinned].concat()).expect("the tracker runs");
    let (source, server) = (Pair::client_v6(1).into(), Pair::SERVER_V6.into());
    let mut client =
        UdpClient::connected(&pair.client, SocketAddr::new(source, 0), SocketAddr::new(server, PORT)).expect("an id");
    for port in 1..=PEERS {
        client.announce(&Announce { num_want: 0, ..Announce::new(OTHER, port) }).expect("an answer");
    }
    announce(&mut client, LOCKED, 1001);

    let store = store(tracker.process());
    let settings = store.settings();
    let thread = store.handle(CounterSet::Udp);
    let swarm = index::find(&thread.context(), &TorrentKey::new(settings, &LOCKED)).expect("the torrent").id;
    let lock = &thread.swarm(swarm).expect("its record").lock;
    let hold = || thread.acquire(lock, Place::Swarm(swarm)).expect("free");
    // As if the daemon had died just now, however long this takes.
    let keep_alive = || settings.heartbeat.store(settings.second.load());

    // Sockets wait for who holds the lock.
    hold();
    let id = client.connection_id();
    client.send(&Announce { connection_id: id, ..Announce::new(LOCKED, 2001) }.bytes()).expect("sent");
    interrupt::sleep(Duration::from_millis(100)).expect("no interruption");
    thread.release(lock);
    let Reply::Announce { leechers, .. } = client.receive().expect("an answer") else { panic!("another reply") };
    assert_eq!(leechers, 2, "stored when the lock is free");
    assert_eq!(announce(&mut client, OTHER, 1).peers.len(), 50, "whole, by the sockets");

    tracker.signal(libc::SIGKILL).expect("it runs");
    drop(tracker);
    hold();
    keep_alive();
    assert_eq!(announce(&mut client, LOCKED, 2002).leechers, 2, "answered, not stored");
    keep_alive();
    assert!((1..50).contains(&announce(&mut client, OTHER, 1).peers.len()), "answered with what fits");
    thread.release(lock);
    keep_alive();
    assert_eq!(announce(&mut client, LOCKED, 2002).leechers, 3, "stored");
}
