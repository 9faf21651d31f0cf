//! UDP exchanges with the host build of the store, with a model beside it: events, fields and
//! options of all kinds, wrong ids, time, sweeps, full memory.

use crate::{
    history::{self, Client, Damage, Id, Operation, Peer, Request},
    input::Input,
    model::{START, Tracker, World, configure},
};
use std::net::SocketAddr;
use tracker_common::{
    bep15::datagram::respond,
    host::{HostPlatform, HostSizes, HostStore},
    outcome::Event,
};

/// Enough for everything, and two that are not.
const SIZES: [HostSizes; 3] = [
    HostSizes { index_buckets: 64, swarms: 1000, partitions: 2048, chunks_v4: 4096, chunks_v6: 4096 },
    HostSizes { index_buckets: 16, swarms: 3, partitions: 2, chunks_v4: 5, chunks_v6: 4 },
    HostSizes { index_buckets: 16, swarms: 4, partitions: 6, chunks_v4: 24, chunks_v6: 20 },
];

struct Host<'s>(HostPlatform<'s>);

impl<'s> Tracker for Host<'s> {
    type Platform = HostPlatform<'s>;

    fn platform(&self) -> &Self::Platform {
        &self.0
    }

    fn counted(&mut self, event: Event) -> u64 {
        self.0.events(event)
    }

    fn exchange(&mut self, source: SocketAddr, payload: &[u8]) -> Option<Vec<u8>> {
        let reply = respond(&self.0, payload, source).ok()?;
        Some(self.0.bytes(reply.start, reply.length).expect("inside the scratch space"))
    }
}

/// Two bytes for the sizes and for chance, then what happens.
///
/// # Panics
/// When something is not as the model says.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (sizes, seed) = (usize::from(input.byte()) % SIZES.len(), input.byte());
    run_on(sizes, seed.into(), &history::read(input));
}

/// Lets the same happen to a host build, with room for everything or not.
///
/// # Panics
/// When something is not as the model says.
pub fn compare(operations: &[Operation], tight: bool) {
    run_on(if tight { 2 } else { 0 }, 1, operations);
}

fn run_on(sizes: usize, seed: u64, operations: &[Operation]) {
    let store = HostStore::new(&SIZES[sizes], seed);
    configure(store.settings());
    let mut world = World::new(Host(store.platform(seed)), START, sizes != 0);
    world.run(operations);
    world.end();
}

/// Inputs to begin with.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    histories().iter().enumerate().map(|(number, history)| with_sizes(number as u8, history)).collect()
}

fn with_sizes(sizes: u8, history: &[Operation]) -> Vec<u8> {
    [&[sizes, 7][..], &history::write(history)].concat()
}

/// What happens at trackers every day, and what should not.
#[must_use]
pub fn histories() -> Vec<Vec<Operation>> {
    let client = |ipv6, number| Client { ipv6, mapped: false, nearness: 0, number };
    let datagram = |client, request| Operation::Datagram { client, id: Id::Right, request, damage: Damage::None };
    let peer = Peer { torrent: 1, port: 0, left: 2, event: 2, wanted: 0 };
    let scrape = Request::Scrape { first: 0, count: 8 };
    let mut everyday = Vec::new();
    for ipv6 in [false, true] {
        everyday.push(datagram(client(ipv6, 1), Request::Connect));
        for (number, (left, event)) in [(2, 2), (0, 0), (0, 1), (2, 0), (0, 3), (2, 4)].into_iter().enumerate() {
            everyday.push(datagram(client(ipv6, number as u16), Request::Announce(Peer { left, event, ..peer })));
        }
        everyday.push(datagram(client(ipv6, 1), Request::Announce(Peer { left: 0, event: 1, ..peer })));
        everyday.push(datagram(client(ipv6, 1), Request::Announce(Peer { event: 3, ..peer })));
        everyday.push(datagram(client(ipv6, 2), scrape.clone()));
    }
    let mut grown = Vec::new();
    for ipv6 in [false, true] {
        for first in [0, 200, 400] {
            grown.push(Operation::Burst { client: client(ipv6, first), count: 200, peer });
            let seeders = Peer { left: 0, port: 1, event: 1, wanted: 13, ..peer };
            grown.push(Operation::Burst { client: client(ipv6, first), count: 90, peer: seeders });
        }
        grown.push(datagram(client(ipv6, 3), scrape.clone()));
        grown.push(Operation::Minutes(30));
        grown.push(Operation::Burst { client: client(ipv6, 0), count: 50, peer });
        grown.push(Operation::Minutes(16));
        grown.push(Operation::Sweep);
        grown.push(Operation::Burst { client: client(ipv6, 0), count: 255, peer: Peer { event: 3, ..peer } });
        grown.push(Operation::Sweep);
    }
    let full: Vec<_> = (0..8)
        .map(|torrent| Operation::Burst {
            client: client(torrent % 2 == 1, u16::from(torrent) * 30),
            count: 120,
            peer: Peer { torrent, ..peer },
        })
        .collect();
    let mut odd = Vec::new();
    for (number, id) in
        [Id::Changed(8), Id::Changed(55), Id::OfAnother(client(false, 9)), Id::Oldest, Id::Zero].into_iter().enumerate()
    {
        for request in [Request::Announce(peer), scrape.clone(), Request::Scrape { first: 0, count: 0 }] {
            let client = Client { mapped: number % 2 == 0, nearness: number as u8 % 4, ..client(number == 3, 5) };
            odd.push(Operation::Datagram { client, id, request, damage: Damage::None });
        }
        odd.push(Operation::Seconds(61));
    }
    // BEP 41: an announce with URL data, and what is not quite that.
    for damage in [
        Damage::Longer(b"\x02\x0c/dir?a=b&c=d\x00".to_vec()),
        Damage::Longer(b"\x01\x01\x02\xff".to_vec()),
        Damage::Cut(1),
        Damage::Cut(83),
        Damage::Padded(180),
        Damage::Changed { at: 11, by: 3 },
    ] {
        let request = Request::Announce(Peer { wanted: 15, ..peer });
        odd.push(Operation::Datagram { client: client(false, 4), id: Id::Right, request, damage });
    }
    odd.push(datagram(client(false, 4), Request::Scrape { first: 0, count: 80 }));
    odd.push(datagram(client(false, 4), Request::Announce(Peer { port: 3, ..peer })));
    odd.push(datagram(client(false, 4), Request::Raw(vec![0; 15])));
    odd.push(datagram(client(true, 4), Request::Raw(vec![0xff; 98])));
    vec![everyday, full.clone(), grown.clone(), odd, grown, full]
}
