//! The XDP program and threads of the daemon on one store at once, on all cores: each has peers of
//! its own in the same swarms, and when all are done the sums are exact and the store is sound.
//! What the program leaves to the sockets is done by a thread of the daemon, as there.
//!
//! `STRESS_SECONDS` says how long; ten seconds without it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tracker::{
    config::live::Announces,
    store::{
        CounterSet, Handle, Store, added_up,
        check::{Patience, check},
        sizes::Sizes,
    },
    xdp::{Program, destinations::Destinations},
};
use tracker_common::{
    bep15::datagram,
    outcome::{Counter, Event as Counted},
    store::{
        hash::TorrentKey,
        index,
        layout::{Counts, Swarm},
        sweep::{Ages, Batch, sweep},
    },
};
use tracker_tests::{
    bep15::{self, Announce, Event, InfoHash, Reply},
    bpf,
    decision_table::{CLIENT_MAC, TRACKER, TRACKER_MAC, TRACKER_PORT},
    namespace::{Namespace, require_root},
    packet::{Datagram, Frame},
};

/// Room for all, so that nobody gives way.
const SIZES: Sizes = Sizes {
    index_buckets: 8,
    swarms: 200,
    partitions: 400,
    chunks_v4: 4000,
    chunks_v6: 4000,
    access_buckets: 1,
    block_words: 1,
};

/// Threads of each kind.
const THREADS: u8 = 2;

/// Torrents, and peers that each thread has in each of them.
const TORRENTS: u32 = 6;
const PEERS: u32 = 300;

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;

fn torrent(number: u32) -> InfoHash {
    let mut info_hash = [0x77; 20];
    info_hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    info_hash
}

/// A peer as its thread remembers it.
#[derive(Clone, Copy)]
struct Known {
    seeder: bool,
    completed: bool,
}

/// A thread with its peers.
struct Worker {
    number: u8,
    /// The program, if it is one of those.
    program: Option<OwnedFd>,
    handle: Handle,
    ids: BTreeMap<IpAddr, u64>,
    known: BTreeMap<(u32, u32), Known>,
    completed: BTreeMap<u32, u32>,
    random: u64,
    /// Announces, and how many of them the program left to others.
    announces: u64,
    passed: u64,
}

impl Worker {
    fn below(&mut self, end: u32) -> u32 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        (((self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) * u64::from(end)) >> 32) as u32
    }

    /// The address of a peer: each fifth has IPv6.
    fn source(&self, peer: u32) -> SocketAddr {
        let host = 1 + (peer % 200) as u8;
        let ip: IpAddr = if peer.is_multiple_of(5) {
            Ipv6Addr::new(0x2001, 0xdb8, 1, self.number.into(), 0, 0, 0, host.into()).into()
        } else {
            Ipv4Addr::new(198, 51, 100 + self.number, host).into()
        };
        SocketAddr::new(ip, 40_000)
    }

    /// Sends a request, and returns the reply.
    fn ask(&mut self, source: SocketAddr, request: &[u8]) -> Reply {
        if let Some(program) = &self.program {
            let tracker = TRACKER.iter().find(|address| address.is_ipv4() == source.is_ipv4()).expect("both families");
            let mut frame = Frame::udp(CLIENT_MAC, TRACKER_MAC, source, SocketAddr::new(*tracker, TRACKER_PORT));
            frame.payload = request.to_vec();
            let (action, out) = bpf::test_run(program.as_fd(), &frame.bytes()).expect("a test run");
            if action == XDP_TX {
                let reply = Datagram::parse(&out).expect("a reply");
                return Reply::parse(&reply.payload, source.is_ipv4()).expect("a reply");
            }
            assert_eq!(action, XDP_PASS);
            self.passed += 1;
        }
        let reply = datagram::respond(&self.handle, request, source).expect("an answer");
        let mut bytes = Vec::new();
        assert!(self.handle.copy_out(reply.start, reply.length, &mut bytes));
        Reply::parse(&bytes, source.is_ipv4()).expect("a reply")
    }

    fn turn(&mut self) {
        let (number, peer) = (self.below(TORRENTS), self.below(PEERS));
        let source = self.source(peer);
        let connection_id = match self.ids.get(&source.ip()) {
            Some(id) => *id,
            None => {
                let Reply::Connect { connection_id, .. } = self.ask(source, &bep15::connect(1)) else {
                    panic!("a connect is answered")
                };
                self.ids.insert(source.ip(), connection_id);
                connection_id
            }
        };
        // Swarms grow and shrink.
        let grows = (self.announces / 4000).is_multiple_of(2);
        let stops = self.below(10) < if grows { 1 } else { 6 };
        let event = [Event::None, Event::None, Event::Started, Event::Completed][self.below(4) as usize];
        let event = if stops { Event::Stopped } else { event };
        let seeder = event == Event::Completed || self.below(4) == 0;
        let announce = Announce {
            connection_id,
            event: event as u32,
            left: u64::from(!seeder),
            ..Announce::new(torrent(number), 1000 + peer as u16)
        };
        let reply = self.ask(source, &announce.bytes());
        let Reply::Announce { peers, .. } = reply else { panic!("an announce was answered with {reply:?}") };
        for given in peers {
            let foreign = match given.ip() {
                IpAddr::V4(ip) => !matches!(ip.octets(), [198, 51, 100..110, 1..=200]),
                IpAddr::V6(ip) => ip.segments()[..3] != [0x2001, 0xdb8, 1] || ip.segments()[4..7] != [0; 3],
            };
            assert!(!foreign && (1000..1300).contains(&given.port()), "{given} is nobody");
        }
        self.announces += 1;
        let key = (number, peer);
        if stops {
            self.known.remove(&key);
            return;
        }
        let before = self.known.get(&key).copied();
        let counted = before.is_some_and(|known| known.completed);
        let completes = event == Event::Completed && !counted && before.is_none_or(|known| !known.seeder);
        *self.completed.entry(number).or_default() += u32::from(completes);
        self.known.insert(key, Known { seeder, completed: counted || completes });
    }
}

#[test]
fn xdp_program_and_threads_lose_no_peer_on_one_store() {
    let seconds = std::env::var("STRESS_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(10);
    require_root().expect("root");
    let mut program = Program::load(&SIZES).expect("the XDP program is loaded");
    let store: Arc<Store> = Arc::new(program.store(&SIZES).expect("its store"));
    let counters = program.counters().expect("its counters");
    let settings = store.settings();
    for (number, key) in settings.hash_keys.iter().chain(&settings.connection_key).enumerate() {
        key.store((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    }
    // One host stands for many users.
    Announces { max_peers_per_address: 0, creations_per_address: 0, ..Announces::default() }.apply(settings);
    settings.second.store(1_000_000);
    settings.minute.store(1_000_000 / 60);
    // The daemon lives and its socket is open: what the program cannot store it leaves to it.
    settings.heartbeat.store(1_000_000);
    let namespace = Namespace::new().expect("a namespace");
    let _socket = namespace.run(|| UdpSocket::bind((Ipv6Addr::UNSPECIFIED, TRACKER_PORT))).expect("nobody else has it");
    Destinations {
        interfaces: vec![(1, TRACKER_MAC, 1500)],
        listeners: TRACKER.iter().map(|address| SocketAddr::new(*address, TRACKER_PORT)).collect(),
        ..Destinations::default()
    }
    .store(store.settings());
    let program = program.keep();
    let ended = AtomicBool::new(false);
    let worker = |number: u8| Worker {
        number,
        program: (number < THREADS).then(|| program.entry().try_clone_to_owned().expect("a descriptor")),
        handle: store.handle(CounterSet::Udp),
        ids: BTreeMap::new(),
        known: BTreeMap::new(),
        completed: BTreeMap::new(),
        random: 0x1234_5678_9abc_def1 + u64::from(number),
        announces: 0,
        passed: 0,
    };
    let mut faults = Vec::new();
    let workers: Vec<Worker> = thread::scope(|scope| {
        let threads: Vec<_> = (0..2 * THREADS)
            .map(|number| {
                let mut worker = worker(number);
                let (ended, namespace) = (&ended, &namespace);
                scope.spawn(move || {
                    namespace.run(|| {
                        while !ended.load(Ordering::Relaxed) {
                            worker.turn();
                        }
                    });
                    worker
                })
            })
            .collect();
        scope.spawn(|| {
            let handle = store.handle(CounterSet::Expiry);
            let ages = Ages { peer_timeout: 45, idle: 0, idle_completed: 60 };
            while !ended.load(Ordering::Relaxed) {
                let report = sweep(&handle.context(), &Batch { first: 0, end: u32::MAX, ages }, |_: &Swarm, _| {});
                assert_eq!((report.expired, report.recounted), (0, 0));
                thread::sleep(Duration::from_millis(1));
            }
        });
        let begin = Instant::now();
        let handle = store.handle(CounterSet::Expiry);
        while begin.elapsed() < Duration::from_secs(seconds) && faults.is_empty() {
            thread::sleep(Duration::from_secs(1));
            faults = check(&handle.context(), Patience::BUSY).faults;
        }
        ended.store(true, Ordering::Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });

    assert_eq!(faults, [], "under load");
    let handle = store.handle(CounterSet::Udp);
    let report = check(&handle.context(), Patience::STILL);
    assert_eq!((report.faults, report.restless), (vec![], 0));
    let mut peers = 0;
    for number in 0..TORRENTS {
        let mut expected = Counts::default();
        for worker in &workers {
            for known in worker.known.range((number, 0)..(number + 1, 0)).map(|(_, known)| known) {
                *(if known.seeder { &mut expected.seeders } else { &mut expected.leechers }) += 1;
            }
            expected.completed += worker.completed.get(&number).copied().unwrap_or(0);
        }
        peers += u64::from(expected.seeders + expected.leechers);
        let key = TorrentKey::new(store.settings(), &torrent(number));
        assert_eq!(index::counts(&handle.context(), &key), expected, "torrent {number}");
    }
    assert_eq!(report.peers_v4 + report.peers_v6, peers);
    let in_kernel = added_up(&(counters)().expect("readable"));
    let sets = store.counters();
    let count = |event| {
        let index = Counter::Event(event).index();
        in_kernel[index] + sets.iter().map(|(_, sums)| sums[index]).sum::<u64>()
    };
    let added = count(Counted::Peer4Added) + count(Counted::Peer6Added);
    let removed = count(Counted::Peer4Removed) + count(Counted::Peer6Removed);
    assert_eq!(added - removed, peers, "{added} peers added, {removed} removed");
    let sum = |of: fn(&Worker) -> u64, xdp: bool| -> u64 {
        workers.iter().filter(|worker| worker.program.is_some() == xdp).map(of).sum()
    };
    println!(
        "{} announces to the program, of which it left {} to others; {} to threads; {peers} peers in the end, {} splits",
        sum(|worker| worker.announces, true),
        sum(|worker| worker.passed, true),
        sum(|worker| worker.announces, false),
        count(Counted::Split)
    );
}
