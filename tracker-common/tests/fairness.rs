//! Nobody can lock others out: attacks that use up torrents and memory, and what others notice of
//! them.
//!
//! The store has a hundredth of the default sizes, so that an attack needs a hundredth of the
//! packets for the same: the default store was full after 250 000 announces of invented info_hashes,
//! and out of peer memory after 640 000 of peers. Each attack here is ten times as long as that.

use std::collections::{BTreeMap, BTreeSet};
use tracker_common::{
    host::{FIRST_MINUTE, HostPlatform, HostSizes, HostStore},
    id::{InfoHash, PartitionId},
    outcome::{Event, StoreError},
    platform::{Platform as _, SwarmRef},
    store::{
        family::{Family, V4, V6},
        filter::PeerFilter,
        hash::TorrentKey,
        index,
        layout::Counts,
        list::List,
        membership::{Announce, PeerEvent},
        owner::Owner,
        sample::{Wanted, sample},
        scope::EVERYTHING,
        sweep::{Ages, Batch, sweep},
        upsert,
    },
};

/// A hundredth of what there is by default.
const SIZES: HostSizes =
    HostSizes { index_buckets: 88, swarms: 2500, partitions: 120, chunks_v4: 1050, chunks_v6: 350 };

/// Most peers of an address in a swarm, as by default.
const PER_ADDRESS: u32 = 8;

/// Minutes that an attack goes on.
const MINUTES: u32 = 10;

/// Announces of invented info_hashes in all: ten times what fills the store.
const INVENTED: u32 = 10 * SIZES.swarms;

/// Announces of invented peers in all.
const PEERS: u32 = 10 * 6400;

/// Who attacks, by the number of his announce.
#[derive(Clone, Copy, Debug)]
enum Attacker {
    /// One IPv4 address.
    Address,
    /// 64 of them in a row.
    Addresses,
    /// One IPv6 /64, another address each time.
    Subnet,
    /// All /64s of a /48.
    Site,
}

/// An address and a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    V4(u64),
    V6([u64; 3]),
}

impl Attacker {
    fn peer(self, number: u32, port: u16) -> Peer {
        match self {
            Attacker::Address => Peer::V4(V4::key([203, 0, 113, 9], port)),
            Attacker::Addresses => Peer::V4(V4::key([203, 0, 113, 64 + (number % 64) as u8], port)),
            Attacker::Subnet => {
                Peer::V6(V6::key((0x2001_0db8_bad0_0001_u128 << 64 | u128::from(number)).to_be_bytes(), port))
            }
            Attacker::Site => {
                let subnet = u128::from(number % 65_536);
                Peer::V6(V6::key((0x2001_0db8_bad0_0000_u128 << 64 | subnet << 64 | 1).to_be_bytes(), port))
            }
        }
    }

    fn owns(self, peer: Peer) -> bool {
        match peer {
            Peer::V4(key) => key.to_le_bytes()[..3] == [203, 0, 113],
            Peer::V6(key) => key[0].to_le_bytes()[..6] == [0x20, 0x01, 0x0d, 0xb8, 0xba, 0xd0],
        }
    }

    fn is_v6(self) -> bool {
        matches!(self, Attacker::Subnet | Attacker::Site)
    }
}

/// How he announces.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Leecher,
    Seeder,
    /// `event=completed&left=0`
    Completed,
    /// Every announce is followed by one that takes it back.
    StartAndStop,
}

/// An honest user: another network each, and one port.
fn user(number: u32, v6: bool) -> Peer {
    let mixed = number.wrapping_mul(0x9e37_79b1);
    if v6 {
        Peer::V6(V6::key((0x2a00_u128 << 112 | u128::from(mixed) << 80 | 1).to_be_bytes(), 6881))
    } else {
        let network = number.to_be_bytes();
        Peer::V4(V4::key([9 + network[1], network[2], network[3], mixed as u8], 6881))
    }
}

fn torrent(kind: u8, number: u32) -> InfoHash {
    let mut info_hash = [kind; 20];
    info_hash[..4].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    info_hash
}

/// The peers of a family in a swarm, read from the records themselves.
fn members<F: Family>(platform: &HostPlatform<'_>, swarm: SwarmRef<'_>) -> Vec<F::Key> {
    fn of_list<F: Family>(platform: &HostPlatform<'_>, list: &impl List<F>, members: &mut Vec<F::Key>) {
        for number in 0..list.peers() {
            let chunk = list.chunk_id(number / F::CHUNK_SLOTS).and_then(|id| F::chunk(platform, id)).expect("a chunk");
            members.push(chunk.slot((number % F::CHUNK_SLOTS) as usize).key());
        }
    }
    let mut members = Vec::new();
    match F::directory(swarm.record) {
        None => {
            let slots = (0..F::RECORD_SLOTS).map(|number| F::record(swarm.record).slot(number));
            members.extend(slots.filter(|slot| slot.is_occupied()).map(|slot| slot.key()));
        }
        Some(header) if header.is_list() => of_list::<F>(platform, swarm.record, &mut members),
        Some(_) => {
            let all = (0..platform.store().pools().partitions.fresh.load()).map(PartitionId::new);
            for partition in all.filter_map(|id| platform.partition(id)) {
                if partition.owner.load() == swarm.id.stored() && partition.index.load() & V6::TAG == F::TAG {
                    of_list::<F>(platform, partition, &mut members);
                }
            }
        }
    }
    members
}

struct World<'s> {
    platform: HostPlatform<'s>,
    /// Honest peers, all of which go on announcing.
    honest: BTreeMap<InfoHash, BTreeSet<Peer>>,
    users: u32,
    v6: bool,
}

impl<'s> World<'s> {
    fn new(store: &'s HostStore, v6: bool) -> Self {
        let settings = store.settings();
        settings.keep_addresses_together();
        settings.max_peers_per_address.store(PER_ADDRESS);
        settings.creations_per_address.store(64);
        settings.interval.store(1800);
        settings.interval_jitter.store(180);
        Self { platform: store.platform(1), honest: BTreeMap::new(), users: 0, v6 }
    }

    fn announce(&self, info_hash: &InfoHash, peer: Peer, seeder: bool, event: PeerEvent) -> Result<(), StoreError> {
        let cx = &self.platform.context();
        match peer {
            Peer::V4(peer) => {
                upsert::announce::<_, V4>(cx, &Announce { info_hash, peer, seeder, event, owner: Owner::NONE })
                    .map(|_| ())
            }
            Peer::V6(peer) => {
                upsert::announce::<_, V6>(cx, &Announce { info_hash, peer, seeder, event, owner: Owner::NONE })
                    .map(|_| ())
            }
        }
    }

    /// New users of a torrent. How many were refused.
    fn join(&mut self, info_hash: InfoHash, count: u32) -> u32 {
        let mut refused = 0;
        for _ in 0..count {
            self.users += 1;
            let peer = user(self.users, self.v6);
            let seeder = self.users.is_multiple_of(3);
            match self.announce(&info_hash, peer, seeder, PeerEvent::Started) {
                Ok(()) => drop(self.honest.entry(info_hash).or_default().insert(peer)),
                Err(_) => refused += 1,
            }
        }
        refused
    }

    fn attack(&self, info_hash: &InfoHash, peer: Peer, manner: Manner) {
        let (seeder, event) = match manner {
            Manner::Leecher | Manner::StartAndStop => (false, PeerEvent::Started),
            Manner::Seeder => (true, PeerEvent::Started),
            Manner::Completed => (true, PeerEvent::Completed),
        };
        // What becomes of it is his affair.
        let _ = self.announce(info_hash, peer, seeder, event);
        if matches!(manner, Manner::StartAndStop) {
            let _ = self.announce(info_hash, peer, seeder, PeerEvent::Stopped);
        }
    }

    /// A minute passes. Honest peers announce every half hour, and the sweep goes round.
    fn minute(&self) {
        let minute = &self.platform.store().settings().minute;
        minute.store(minute.load() + 1);
        let mut number = 0_u32;
        for (info_hash, peers) in &self.honest {
            for peer in peers {
                number += 1;
                if (minute.load() + number).is_multiple_of(30) {
                    self.announce(info_hash, *peer, false, PeerEvent::None).expect("a known peer");
                }
            }
        }
        let ages = Ages { peer_timeout: 45, idle: 45, idle_completed: 24 * 60 };
        sweep(&self.platform.context(), &Batch { first: 0, end: u32::MAX, ages }, |_, _| {});
    }

    /// Whether a peer is in a swarm.
    fn stored(&self, info_hash: &InfoHash, peer: Peer) -> bool {
        self.peers(info_hash, matches!(peer, Peer::V6(_))).contains(&peer)
    }

    /// All peers of a family in a swarm.
    fn peers(&self, info_hash: &InfoHash, v6: bool) -> BTreeSet<Peer> {
        let cx = &self.platform.context();
        let Some(swarm) = index::find(cx, &TorrentKey::new(cx.settings, info_hash)) else { return BTreeSet::new() };
        if v6 {
            members::<V6>(&self.platform, swarm).into_iter().map(Peer::V6).collect()
        } else {
            members::<V4>(&self.platform, swarm).into_iter().map(Peer::V4).collect()
        }
    }

    /// Whom a peer is told of.
    fn given(&self, info_hash: &InfoHash, peer: Peer, count: u32) -> Option<Vec<Peer>> {
        let cx = &self.platform.context();
        let swarm = index::find(cx, &TorrentKey::new(cx.settings, info_hash))?;
        let filter = PeerFilter::new(true, EVERYTHING);
        let (start, bytes, size) = match peer {
            Peer::V4(exclude) => {
                let sample = sample::<_, V4>(cx, swarm, &Wanted { count, filter, exclude }).expect("no limit");
                (sample.start, sample.count * 6, 6)
            }
            Peer::V6(exclude) => {
                let sample = sample::<_, V6>(cx, swarm, &Wanted { count, filter, exclude }).expect("no limit");
                (sample.start, sample.count * 18, 18)
            }
        };
        let bytes = self.platform.bytes(start, bytes).expect("inside the space");
        let read = |bytes: &[u8]| {
            let (address, port) = bytes.split_at(size - 2);
            let port = u16::from_be_bytes([port[0], port[1]]);
            match address.len() {
                4 => Peer::V4(V4::key(address.try_into().expect("4"), port)),
                _ => Peer::V6(V6::key(address.try_into().expect("16"), port)),
            }
        };
        Some(bytes.chunks(size).map(read).collect())
    }

    /// All honest peers are where they were.
    fn check(&self, what: &str) {
        let all: usize = self.honest.values().map(BTreeSet::len).sum();
        let mut gone = Vec::new();
        for (info_hash, peers) in &self.honest {
            let there = self.peers(info_hash, self.v6);
            let lost = peers.difference(&there).count();
            if lost != 0 {
                gone.push((peers.len(), lost));
            }
        }
        assert!(gone.is_empty(), "{what}: of {all} honest peers are gone, as (swarm, peers): {gone:?}");
        self.check_counts();
    }

    /// The counts are those of the peers.
    fn check_counts(&self) {
        let ages = Ages { peer_timeout: 8000, idle: 8000, idle_completed: 8000 };
        let cx = &self.platform.context();
        let report = sweep(cx, &Batch { first: 0, end: u32::MAX, ages }, |_, _| {});
        assert_eq!(report.recounted, 0, "counts had drifted");
        assert_eq!(report.torrents, u64::from(self.platform.store().pools().swarms.used()), "torrents in use");
        let events = |added, removed| self.platform.events(added) - self.platform.events(removed);
        assert_eq!(report.peers_v4, events(Event::Peer4Added, Event::Peer4Removed), "IPv4 peers");
        assert_eq!(report.peers_v6, events(Event::Peer6Added, Event::Peer6Removed), "IPv6 peers");
    }

    fn counts(&self, info_hash: &InfoHash) -> Counts {
        let cx = self.platform.context();
        index::counts(&cx, &TorrentKey::new(cx.settings, info_hash))
    }
}

/// Who attacks, and how.
fn attacks() -> impl Iterator<Item = (Attacker, Manner)> {
    let attackers = [Attacker::Address, Attacker::Addresses, Attacker::Subnet, Attacker::Site];
    let manners = [Manner::Seeder, Manner::Completed, Manner::StartAndStop];
    let of_one = manners.map(|manner| (Attacker::Address, manner));
    attackers.map(|attacker| (attacker, Manner::Leecher)).into_iter().chain(of_one)
}

#[test]
fn invented_torrents_lock_no_honest_one_out() {
    for (attacker, manner) in attacks() {
        let store = HostStore::new(&SIZES, 3);
        let mut world = World::new(&store, attacker.is_v6());
        // Two fifths of the torrents are there: most with a peer or two.
        for number in 0..1000 {
            assert_eq!(world.join(torrent(1, number), [1, 1, 1, 2, 5][number as usize % 5]), 0);
        }
        let (mut invented, mut begun, mut refused) = (0, 0, 0);
        for _ in 0..MINUTES {
            for _ in 0..INVENTED / MINUTES {
                invented += 1;
                world.attack(&torrent(2, invented), attacker.peer(invented, 7), manner);
                // One of a hundred announces is an honest new torrent.
                if invented.is_multiple_of(100) {
                    begun += 1;
                    refused += world.join(torrent(3, begun), 1);
                }
            }
            world.minute();
        }
        let what = format!("{attacker:?} {manner:?}");
        assert!(refused * 100 <= begun, "{what}: {refused} of {begun} honest torrents refused");
        world.check(&what);
        let evicted = world.platform.events(Event::TorrentEvicted);
        println!("{what}: {begun} honest torrents, {refused} refused, {evicted} evicted");
    }
}

#[test]
fn invented_peers_take_no_memory_that_honest_swarms_need() {
    // In torrents of six ports each, and in such as have several chunks: by as many addresses as that takes.
    let few = attacks().map(|(attacker, manner)| (attacker, manner, 6));
    let many = [
        (Attacker::Addresses, Manner::Leecher, 33),
        (Attacker::Addresses, Manner::Seeder, 33),
        (Attacker::Addresses, Manner::Leecher, 100),
        (Attacker::Addresses, Manner::Completed, 200),
        (Attacker::Site, Manner::Leecher, 17),
        (Attacker::Site, Manner::Seeder, 100),
        (Attacker::Site, Manner::Leecher, 200),
    ];
    for (attacker, manner, ports) in few.chain(many) {
        let store = HostStore::new(&SIZES, 4);
        let mut world = World::new(&store, attacker.is_v6());
        // Swarms that grow to the double meanwhile. With IPv6 there is a third of the room.
        let (small, big) = if attacker.is_v6() { (40, 2) } else { (100, 10) };
        for number in 0..small {
            assert_eq!(world.join(torrent(4, number), 4), 0);
        }
        for number in 0..big {
            assert_eq!(world.join(torrent(5, number), 200), 0);
        }
        let (mut sent, mut refused) = (0, 0);
        for minute in 0..MINUTES {
            for _ in 0..PEERS / MINUTES {
                sent += 1;
                // One torrent after the other.
                let (invented, port) = (sent / ports, sent % ports);
                let peer = if ports == 6 {
                    attacker.peer(invented, (port + 1) as u16)
                } else {
                    attacker.peer(invented.wrapping_mul(977) + port, (port / 64 + 1) as u16)
                };
                world.attack(&torrent(6, invented), peer, manner);
            }
            for number in (0..small).filter(|number| number % MINUTES == minute) {
                refused += world.join(torrent(4, number), 4);
            }
            for number in 0..big {
                refused += world.join(torrent(5, number), 200 / MINUTES);
            }
            world.minute();
        }
        let what = format!("{attacker:?} {manner:?}, {ports} in a torrent");
        assert_eq!(refused, 0, "{what}: honest peers refused");
        world.check(&what);
        for (kind, count, size) in [(4, small, 8), (5, big, 400)] {
            for number in 0..count {
                let Counts { seeders, leechers, .. } = world.counts(&torrent(kind, number));
                assert_eq!(seeders + leechers, size, "{what}: honest swarm {number}");
            }
        }
        println!("{what}: {} evicted", world.platform.events(Event::Evicted));
    }
}

#[test]
fn ports_of_one_address_are_few_of_those_that_others_are_told_of() {
    for (attacker, ports, size) in [
        (Attacker::Address, 1000, 100),
        (Attacker::Address, 65_535, 100),
        (Attacker::Address, 65_535, 1000),
        (Attacker::Address, 65_535, 5000),
        (Attacker::Subnet, 65_535, 100),
        (Attacker::Subnet, 65_535, 1000),
        (Attacker::Site, 65_535, 100),
        (Attacker::Site, 65_535, 1000),
    ] {
        let store = HostStore::new(&SIZES, 5);
        if matches!(attacker, Attacker::Site) {
            store.settings().limit_mask_v6.store(0xffff_ffff_ffff_0000_u64.to_be());
        }
        let mut world = World::new(&store, attacker.is_v6());
        let info_hash = torrent(7, 1);
        for port in 1..=ports {
            world.attack(&info_hash, attacker.peer(port, port as u16), Manner::Leecher);
            if port % (ports / size) == 0 && world.users < size {
                assert_eq!(world.join(info_hash, 1), 0);
            }
        }
        let Counts { seeders, leechers, .. } = world.counts(&info_hash);
        let all = seeders + leechers;
        // Networks beyond a /64 are limited in each list of peers; those of a split swarm have 64 on
        // average.
        let is_spread = matches!(attacker, Attacker::Site) && size > 100;
        assert!(if is_spread { all <= size * 6 / 5 } else { all == size + PER_ADDRESS }, "{all} peers of {attacker:?}");
        let (mut told, mut his, mut most) = (0, 0, 0);
        for peer in world.honest[&info_hash].iter().take(500) {
            let given = world.given(&info_hash, *peer, 50).expect("stored");
            let of_him = given.iter().filter(|peer| attacker.owns(**peer)).count();
            (told, his, most) = (told + given.len(), his + of_him, most.max(of_him));
        }
        assert!(his * if is_spread { 7 } else { 10 } <= told, "{his} of {told} peers that others are told of");
        assert!(is_spread || most <= PER_ADDRESS as usize, "{most} of one address in one reply");
        world.check(&format!("{attacker:?} {ports}"));
        println!("{attacker:?}, {ports} ports, swarm of {size}: {:.1} %", his as f64 * 100.0 / told as f64);
    }
}

#[test]
fn peers_of_one_address_compete_with_each_other_only() {
    for limit in [0, 1, 2, 4, 5, 7, 8, 40] {
        for v6 in [false, true] {
            for others in [0, 3, 30, 300] {
                let store = HostStore::new(&SIZES, 6);
                let mut world = World::new(&store, v6);
                store.settings().max_peers_per_address.store(limit);
                let attacker = if v6 { Attacker::Subnet } else { Attacker::Address };
                let info_hash = torrent(8, 1);
                assert_eq!(world.join(info_hash, others), 0);
                let sent = 60;
                for port in 1..=sent {
                    store.settings().minute.store(FIRST_MINUTE + port);
                    world.attack(&info_hash, attacker.peer(port, port as u16), Manner::Leecher);
                }
                let stays = if limit == 0 { sent } else { limit.min(sent) };
                for port in 1..=sent {
                    // Those that came last are there.
                    let there = world.stored(&info_hash, attacker.peer(port, port as u16));
                    assert_eq!(there, port > sent - stays, "limit {limit}, port {port}, beside {others}, IPv6: {v6}");
                }
                assert_eq!(world.platform.events(Event::Crowded), u64::from(sent - stays));
                assert_eq!(world.platform.events(Event::Evicted), 0);
                world.check(&format!("limit {limit}, beside {others}, IPv6: {v6}"));
            }
        }
    }
}

/// A list that has become empty has no chunk that could be given back once more.
#[test]
fn torrents_of_all_shapes_give_their_memory_back_when_they_give_way() {
    for v6 in [false, true] {
        for (peers, stopping) in [(1, 0), (1, 1), (2, 1), (5, 5), (6, 0), (6, 6), (7, 3), (16, 0), (16, 16)] {
            let sizes = HostSizes { index_buckets: 1, swarms: 1, partitions: 0, chunks_v4: 100, chunks_v6: 100 };
            let store = HostStore::new(&sizes, 8);
            let world = World::new(&store, v6);
            store.settings().max_peers_per_address.store(0);
            store.settings().creations_per_address.store(0);
            let attacker = if v6 { Attacker::Subnet } else { Attacker::Address };
            let peer = |port: u32| attacker.peer(port, port as u16);
            for port in 1..=peers {
                world.announce(&torrent(1, 1), peer(port), false, PeerEvent::Started).expect("room");
            }
            for port in 1..=stopping {
                world.announce(&torrent(1, 1), peer(port), false, PeerEvent::Stopped).expect("known");
            }
            world.announce(&torrent(1, 2), user(1, v6), true, PeerEvent::Started).expect("the other gives way");
            let pools = store.pools();
            // What was given back twice is fewer than none.
            let used = [&pools.chunks_v4, &pools.chunks_v6]
                .map(|pool| i64::from(pool.fresh.load()) - i64::from(pool.free.load()));
            assert_eq!(used, [0, 0], "{stopping} of {peers} had stopped, IPv6: {v6}");
            assert_eq!(world.counts(&torrent(1, 1)), Counts::default());
            world.check_counts();
        }
    }
}

/// Without an attack a full tracker has to choose as well.
#[test]
fn a_full_tracker_gives_up_what_is_worth_least() {
    let store = HostStore::new(&SIZES, 7);
    let mut world = World::new(&store, false);
    // Torrents of one user, that have just begun; older ones without peers; swarms of several.
    for number in 0..500 {
        assert_eq!(world.join(torrent(1, number), 2), 0);
    }
    for number in 500..1500 {
        assert_eq!(world.join(torrent(1, number), 1), 0);
    }
    for number in 0..1000 {
        let peer = user(1_000_000 + number, false);
        world.announce(&torrent(9, number), peer, true, PeerEvent::Completed).expect("room");
        world.announce(&torrent(9, number), peer, true, PeerEvent::Stopped).expect("known");
    }
    // As long as some of those without peers are left, one of them goes.
    for number in 1500..2100 {
        assert_eq!(world.join(torrent(1, number), 1), 0);
    }
    world.check("torrents without peers go first");
    assert_eq!(world.platform.events(Event::TorrentEvicted), 600);
    // Then it is the lonely ones, never those of several.
    for number in 2100..6000 {
        assert_eq!(world.join(torrent(1, number), 1), 0, "torrent {number}");
    }
    for number in 0..500 {
        let Counts { seeders, leechers, .. } = world.counts(&torrent(1, number));
        assert_eq!(seeders + leechers, 2, "swarm {number}");
    }
    world.check_counts();
}
