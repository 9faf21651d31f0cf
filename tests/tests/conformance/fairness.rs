//! Attacks on a small tracker by whoever holds one address, and what others notice: through the XDP
//! program and the host build. `tracker-common/tests/fairness.rs` has more kinds of them.

use crate::backends::{Backend, Runner, host::Host, xdp::XdpProgram};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tracker::{
    config::{limits::RequestLimits, live::Announces},
    store::{
        CounterSet, Store,
        sizes::Sizes,
        sweep::{Sweep, Timeouts},
    },
};
use tracker_tests::bep15::{self, Announce, Counts, Reply};

/// A hundredth of what there is by default. So an attack needs a hundredth of the packets, and here
/// it is ten times as long as one that used to fill the store.
const SIZES: Sizes = Sizes {
    index_buckets: 88,
    swarms: 2500,
    partitions: 120,
    chunks_v4: 1050,
    chunks_v6: 350,
    access_buckets: 1,
    block_words: 1,
};

/// Announces of invented torrents, and of invented peers.
const INVENTED: u32 = 25_000;
const PEERS: u32 = 64_000;

/// The most info_hashes of one scrape.
const SCRAPED: usize = 70;

/// Fields of an announce.
const STARTED: u32 = 2;

fn attacker() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 9], 5000))
}

/// Each user has a network of his own.
fn user(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    SocketAddr::from(([11 + a, b, c, 7], 6881))
}

fn torrent(kind: u8, number: u32) -> [u8; 20] {
    let mut info_hash = [kind; 20];
    info_hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    info_hash
}

struct World<'b> {
    runner: Runner<'b>,
    users: u32,
    refused: u32,
}

impl<'b> World<'b> {
    fn new(backend: &'b mut dyn Backend) -> Self {
        let settings = backend.clock().expect("the settings");
        settings.keep_addresses_together();
        Announces::default().apply(settings);
        Self { runner: Runner::new(backend), users: 0, refused: 0 }
    }

    fn announce(&mut self, source: SocketAddr, torrent: [u8; 20], port: u16, num_want: i32) -> Reply {
        let connection_id = self.runner.connect(source).expect("connected");
        let announce = Announce { connection_id, num_want, event: STARTED, ..Announce::new(torrent, port) };
        self.runner.ask(source, announce.bytes()).expect("answered")
    }

    /// New users of a torrent.
    fn join(&mut self, torrent: [u8; 20], count: u32) {
        for _ in 0..count {
            self.users += 1;
            let reply = self.announce(user(self.users), torrent, 6881, 0);
            self.refused += u32::from(!matches!(reply, Reply::Announce { .. }));
        }
    }

    /// How many peers these torrents have.
    fn sizes(&mut self, torrents: &[[u8; 20]]) -> Vec<u32> {
        let source = user(0);
        let connection_id = self.runner.connect(source).expect("connected");
        let mut sizes = Vec::new();
        for torrents in torrents.chunks(SCRAPED) {
            let reply = self.runner.ask(source, bep15::scrape(connection_id, 7, torrents)).expect("answered");
            let Reply::Scrape { torrents: counts, .. } = reply else { panic!("{reply:?}") };
            sizes.extend(counts.into_iter().map(|Counts { seeders, leechers, .. }| seeders + leechers));
        }
        sizes
    }
}

/// Torrents are invented while honest ones begin.
fn torrents_are_invented(backend: &mut dyn Backend) {
    let mut world = World::new(backend);
    let size = |number: u32| [1, 1, 1, 2, 5][number as usize % 5];
    for number in 0..1000 {
        world.join(torrent(1, number), size(number));
    }
    assert_eq!(world.refused, 0);
    let mut begun = 0;
    for number in 1..=INVENTED {
        world.announce(attacker(), torrent(2, number), 7, 0);
        if number % 100 == 0 {
            begun += 1;
            world.join(torrent(3, begun), 1);
        }
    }
    assert!(world.refused * 100 <= begun, "{} of {begun} honest torrents were refused", world.refused);
    let there: Vec<_> = (0..1000).map(|number| torrent(1, number)).collect();
    assert_eq!(world.sizes(&there), (0..1000).map(size).collect::<Vec<_>>(), "honest peers are gone");
    let new: Vec<_> = (1..=begun).map(|number| torrent(3, number)).collect();
    assert_eq!(world.sizes(&new).iter().sum::<u32>(), begun - world.refused, "new honest peers are gone");
}

/// Peers are invented while honest swarms grow to the double.
fn peers_are_invented(backend: &mut dyn Backend) {
    let mut world = World::new(backend);
    let swarms: Vec<_> = (0..100).map(|number| (torrent(4, number), 4)).collect();
    let swarms: Vec<_> = swarms.into_iter().chain((0..10).map(|number| (torrent(5, number), 200))).collect();
    for (torrent, size) in &swarms {
        world.join(*torrent, *size);
    }
    for number in 0..PEERS {
        world.announce(attacker(), torrent(6, number / 6), number as u16 % 6 + 1, 0);
        for (torrent, size) in &swarms {
            if number % (PEERS / size) == 0 {
                world.join(*torrent, 1);
            }
        }
    }
    assert_eq!(world.refused, 0, "honest peers were refused");
    let torrents: Vec<_> = swarms.iter().map(|(torrent, _)| *torrent).collect();
    // `number % (PEERS / 200)` is 0 once for each of them.
    let expected: Vec<_> = swarms.iter().map(|(_, size)| size * 2).collect();
    assert_eq!(world.sizes(&torrents), expected, "honest peers are gone");
}

/// A thousand ports of one address announce in a swarm of a hundred.
fn one_address_announces_many_ports(backend: &mut dyn Backend) {
    let mut world = World::new(backend);
    world.join(torrent(7, 1), 100);
    for port in 1..=1000 {
        world.announce(attacker(), torrent(7, 1), port, 0);
    }
    let (mut told, mut his) = (0, 0);
    for number in 1..=100 {
        let Reply::Announce { peers, .. } = world.announce(user(number), torrent(7, 1), 6881, 50) else {
            panic!("a known peer is refused")
        };
        let of_him = peers.iter().filter(|peer| peer.ip() == IpAddr::from([203, 0, 113, 9])).count();
        assert!(of_him <= 8, "{of_him} of one address in one reply");
        (told, his) = (told + peers.len(), his + of_him);
    }
    assert_eq!(told, 5000);
    assert!(his * 10 <= told, "{his} of the {told} peers that others are told of");
    assert_eq!(world.sizes(&[torrent(7, 1)]), [108]);
}

/// Who is in a network without limits has as many ports in a swarm as he likes.
fn networks_without_limits_have_as_many_peers_as_they_like(backend: &mut dyn Backend) {
    let mut world = World::new(backend);
    for port in 1..=100 {
        world.announce(attacker(), torrent(9, 1), port, 0);
    }
    assert_eq!(world.sizes(&[torrent(9, 1)]), [8]);
    let unlimited = vec!["203.0.113.0/24".parse().expect("a network")];
    let limits = RequestLimits { unlimited, ..RequestLimits::default() };
    limits.apply(backend.clock().expect("the settings"));
    let mut world = World::new(backend);
    for port in 1..=100 {
        world.announce(attacker(), torrent(9, 1), port, 0);
    }
    assert_eq!(world.sizes(&[torrent(9, 1)]), [100]);
}

/// More IPv6 addresses than a /64 are one where the operator says so.
fn networks_of_ipv6_have_as_many_peers_as_an_address(backend: &mut dyn Backend) {
    // (bits, from this many /64s of one /56, as many peers are there)
    for (number, (prefix_v6, from, there)) in
        [(64, 100, 100), (56, 100, 8), (60, 100, 6 * 8 + 4), (48, 4, 4), (56, 9, 8)].into_iter().enumerate()
    {
        RequestLimits { prefix_v6, ..RequestLimits::default() }.apply(backend.clock().expect("the settings"));
        let mut world = World::new(backend);
        let torrent = torrent(10, number as u32);
        for subnet in 0..from {
            let source = SocketAddr::from(([0x2001, 0xdb8, 1, subnet, 0, 0, 0, 1], 5000));
            world.announce(source, torrent, 6881, 0);
        }
        assert_eq!(world.sizes(&[torrent]), [there], "/{prefix_v6}");
    }
    RequestLimits::default().apply(backend.clock().expect("the settings"));
}

/// Has all peers and torrents expire.
fn forget_all(store: &Arc<Store>) {
    let settings = store.settings();
    let timeouts = Timeouts::default();
    settings.second.store(settings.second.load() + 60 * (timeouts.peer + 1));
    settings.minute.store(settings.minute.load() + timeouts.peer + 1);
    let handle = store.handle(CounterSet::Expiry);
    // The first sweep removes the peers, and the next one the torrents that have none.
    for _ in 0..2 {
        let mut sweep = Sweep::default();
        while sweep.batch(&handle, &timeouts) {}
    }
    let pools = store.pools();
    assert_eq!([pools.swarms.used(), pools.chunks_v4.used()], [0; 2], "something is left");
}

/// One after the other in the same memory: to have the program verified once for each would take
/// minutes in a virtual machine.
fn attacks(backend: &mut dyn Backend, store: &Arc<Store>) {
    for attack in [
        torrents_are_invented,
        peers_are_invented,
        one_address_announces_many_ports,
        networks_without_limits_have_as_many_peers_as_they_like,
        networks_of_ipv6_have_as_many_peers_as_an_address,
    ] {
        attack(backend);
        forget_all(store);
    }
}

#[test]
fn attacks_by_who_holds_an_address_lock_nobody_out() {
    let mut host = Host::new(&SIZES);
    let store = Arc::clone(host.handle.store());
    attacks(&mut host, &store);
    let mut xdp = XdpProgram::load(&SIZES).expect("the XDP program is loaded");
    let store = Arc::clone(&xdp.store);
    attacks(&mut xdp, &store);
}
