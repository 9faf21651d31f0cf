//! What a datagram costs without a network: the code that the XDP program is built from, compiled
//! for this machine, called as the daemon's UDP threads call it.
//! `cargo bench --package tracker-user`.
//!
//! The populations are those of `cargo xtask bench`. The askers come in an order that has nothing
//! to do with where they are stored, so large populations are not in the processor's caches.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::{cell::Cell, hint::black_box, net::SocketAddr, sync::Arc};
use tracker::{
    config::{limits::RequestLimits, live::Announces},
    store::{
        CounterSet, Handle, Store,
        sizes::{Capacity, Sizes},
    },
};
use tracker_common::{
    bep15::{
        connection_id::{self, IpKey},
        datagram::respond,
        wire::{ACTION_ANNOUNCE, ACTION_CONNECT, ACTION_SCRAPE, PROTOCOL_ID},
    },
    settings::Settings,
};

/// Peers wanted.
const WANT: i32 = 50;

/// Info_hashes in a scrape.
const HASHES: u32 = 74;

/// A store with its peers, and who asks next.
struct Population {
    handle: Handle,
    torrents: u32,
    peers: u32,
    turn: Cell<u32>,
}

impl Population {
    /// `peers` leechers, spread evenly over `torrents`.
    fn new(torrents: u32, peers: u32, huge_pages: bool) -> Self {
        let capacity =
            Capacity { torrents: u64::from(torrents.max(16)), peers_v4: u64::from(peers.max(1000)), peers_v6: 0 };
        let store = Arc::new(Store::anonymous(&Sizes::new(&capacity).expect("a possible size")).expect("memory"));
        if huge_pages {
            store.advise_huge_pages().expect("a kernel that has them");
        }
        configure(store.settings());
        let population = Self { handle: store.handle(CounterSet::Udp), torrents, peers, turn: Cell::new(0) };
        for peer in 0..peers {
            let request = population.announce(peer, 0);
            assert!(respond(&population.handle, &request, source(peer)).is_ok(), "peer {peer} was not stored");
        }
        population
    }

    /// Every peer once, in steps that are odd and far apart.
    fn next(&self) -> u32 {
        self.turn.set(self.turn.get().wrapping_add(0x9e37_79b1));
        ((u64::from(self.turn.get()) * u64::from(self.peers)) >> 32) as u32
    }

    fn connection_id(&self, peer: u32) -> [u8; 8] {
        connection_id::issue(self.handle.store().settings(), IpKey::V4(address(peer))).to_be_bytes()
    }

    fn announce(&self, peer: u32, want: i32) -> [u8; 98] {
        let mut request = [0; 98];
        request[..8].copy_from_slice(&self.connection_id(peer));
        request[8..12].copy_from_slice(&ACTION_ANNOUNCE.to_be_bytes());
        request[16..36].copy_from_slice(&info_hash(peer % self.torrents));
        request[64..72].copy_from_slice(&1_u64.to_be_bytes());
        request[92..96].copy_from_slice(&want.to_be_bytes());
        request[96..98].copy_from_slice(&6881_u16.to_be_bytes());
        request
    }

    fn scrape(&self, peer: u32) -> Vec<u8> {
        let mut request = self.connection_id(peer).to_vec();
        request.extend_from_slice(&ACTION_SCRAPE.to_be_bytes());
        request.extend_from_slice(&[0; 4]);
        for number in 0..HASHES {
            request.extend_from_slice(&info_hash(peer.wrapping_add(number * 0x9e37) % self.torrents));
        }
        request
    }
}

fn configure(settings: &Settings) {
    for (number, key) in settings.hash_keys.iter().chain(&settings.connection_key).enumerate() {
        key.store((number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    }
    RequestLimits::default().apply(settings);
    Announces { interval_jitter: 0, ..Announces::default() }.apply(settings);
    settings.second.store(1_000_000);
    settings.minute.store(1_000_000 / 60);
}

fn info_hash(torrent: u32) -> [u8; 20] {
    let mut info_hash = [0x5a; 20];
    info_hash[..4].copy_from_slice(&torrent.wrapping_mul(0x9e37_79b1).to_be_bytes());
    info_hash
}

/// A peer's address as a connection id has it.
fn address(peer: u32) -> u32 {
    u32::from_le_bytes((0x0a00_0000 + peer).to_be_bytes())
}

fn source(peer: u32) -> SocketAddr {
    SocketAddr::from(((0x0a00_0000 + peer).to_be_bytes(), 40_000))
}

fn datagrams(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("datagram");
    group.throughput(Throughput::Elements(1));
    let answer = |population: &Population, request: &[u8], peer: u32| {
        black_box(respond(&population.handle, black_box(request), source(peer))).expect("answered");
    };

    let mut connect = [0; 16];
    connect[..8].copy_from_slice(&PROTOCOL_ID.to_be_bytes());
    connect[8..12].copy_from_slice(&ACTION_CONNECT.to_be_bytes());
    let population = Population::new(1, 1000, false);
    group.bench_function("connect", |bencher| bencher.iter(|| answer(&population, &connect, 7)));

    for (name, torrents, peers, huge_pages) in [
        ("small", 100_000, 400_000, false),
        ("small-huge-pages", 100_000, 400_000, true),
        ("swarm-1k", 1, 1_000, false),
        ("swarm-64k", 1, 65_536, false),
        ("swarm-1m", 1, 1_000_000, false),
        ("swarm-1m-huge-pages", 1, 1_000_000, true),
    ] {
        let population = Population::new(torrents, peers, huge_pages);
        for want in [0, WANT] {
            group.bench_function(format!("announce/{name}/{want}"), |bencher| {
                bencher.iter_batched_ref(
                    || {
                        let peer = population.next();
                        (peer, population.announce(peer, want))
                    },
                    |(peer, request)| answer(&population, request, *peer),
                    BatchSize::SmallInput,
                );
            });
        }
        if torrents > 1 {
            group.bench_function(format!("scrape/{name}/{HASHES}"), |bencher| {
                bencher.iter_batched_ref(
                    || {
                        let peer = population.next();
                        (peer, population.scrape(peer))
                    },
                    |(peer, request)| answer(&population, request, *peer),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, datagrams);
criterion_main!(benches);
