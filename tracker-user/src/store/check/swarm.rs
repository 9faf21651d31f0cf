//! One swarm: whether its counts are those of its peers, and each of these is where it belongs.

use super::{Fault, Kind, Report, name, reach};
use std::fmt::Write as _;
use tracker_common::{
    id::SwarmId,
    outcome::IpVersion,
    platform::{Context, Platform, SwarmRef},
    store::{
        directory::is_partition_of,
        family::{Family, V4, V6},
        hash::TorrentKey,
        index,
        layout::{DirectoryHeader, Occupancy, PARTITIONS_MAX, SWARM_ALIVE, Swarm, unpack_counts},
        linear_hash::partition_of,
        list::{List, chunks_for},
        lock::Lock,
        slot::{LEECHER, OCCUPIED, Slot},
    },
};

/// How often a partition is looked at in one look at its swarm.
const PARTITION_LOOKS: u32 = 2000;

/// What was seen at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Settled {
    torrents: u64,
    seeders: u64,
    leechers: u64,
    peers: [u64; 2],
    hidden: u64,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

impl Settled {
    /// That this is wrong, and nothing else was seen.
    pub fn wrong(fault: Fault) -> Self {
        Self { faults: vec![fault], ..Self::default() }
    }

    /// Adds it up.
    pub fn add_to(self, report: &mut Report) {
        report.torrents += self.torrents;
        report.seeders += self.seeders;
        report.leechers += self.leechers;
        report.peers_v4 += self.peers[0];
        report.peers_v6 += self.peers[1];
        report.hidden += self.hidden;
        report.faults.extend(self.faults);
    }
}

/// The result of one look.
pub(super) enum Look {
    /// All of it was seen at one moment.
    Settled(Settled),
    /// Something changed meanwhile.
    Changing,
    /// A lock was held: whose.
    Held(String),
    /// The record is not in use any more.
    Gone,
    /// The record has been claimed, but is no torrent's.
    Unfinished,
}

/// The families with what the checker needs beyond [`Family`].
trait Peers: Family {
    const NAME: &str;

    /// Address and port.
    fn identity(key: Self::Key) -> [u64; 3];
    /// The port in network order.
    fn port(key: Self::Key) -> u64;
}

impl Peers for V4 {
    const NAME: &str = "IPv4";

    fn identity(key: u64) -> [u64; 3] {
        [key, 0, 0]
    }

    fn port(key: u64) -> u64 {
        key >> 32 & 0xffff
    }
}

impl Peers for V6 {
    const NAME: &str = "IPv6";

    fn identity(key: [u64; 3]) -> [u64; 3] {
        key
    }

    fn port(key: [u64; 3]) -> u64 {
        key[2] & 0xffff
    }
}

/// The tag of a place in its bucket; 0 if it is free.
fn tag_of<P: Platform>(cx: &Context<'_, P>, swarm: SwarmId) -> u64 {
    let (number, place) = swarm.place();
    let Some(bucket) = cx.platform.bucket(number) else { return 0 };
    bucket.header(number).tags[(place / 4) as usize].load() >> (place % 4 * 16) & 0xffff
}

/// Looks at a swarm once.
pub(super) fn look<P: Platform>(cx: &Context<'_, P>, swarm: SwarmRef<'_>) -> Look {
    let record = swarm.record;
    if tag_of(cx, swarm.id) == 0 {
        return Look::Gone;
    }
    let Some(free) = record.lock.free() else { return Look::Held(format!("{}: its lock is held", name(swarm.id))) };
    if record.active.load() & SWARM_ALIVE == 0 {
        return Look::Unfinished;
    }
    let state = || (record.counts.load(), header::<V4>(record), header::<V6>(record), tag_of(cx, swarm.id));
    let before = state();
    let mut seen = Seen { cx, swarm, settled: Settled::default() };
    let looked = seen.family::<V4>().and_then(|()| seen.family::<V6>());
    if let Err(held) = looked {
        return held;
    }
    let mut settled = seen.settled;
    let (counts, .., tag) = before;
    let (seeders, leechers) = unpack_counts(counts);
    if (u64::from(seeders), u64::from(leechers)) != (settled.seeders, settled.leechers) {
        let what = format!(
            "{}: counts {seeders} seeders and {leechers} leechers, and has {} and {}",
            name(swarm.id),
            settled.seeders,
            settled.leechers
        );
        settled.faults.push(Fault::new(Kind::CountsWrong, what));
    }
    in_index(cx, swarm, tag, &mut settled);
    if state() != before || !free.still_holds() || record.active.load() & SWARM_ALIVE == 0 {
        return Look::Changing;
    }
    settled.torrents = 1;
    Look::Settled(settled)
}

/// What says how many peers a family has; nothing while they are in the record's slots.
fn header<F: Family>(swarm: &Swarm) -> (Option<DirectoryHeader>, u32) {
    let header = F::directory(swarm);
    let leechers = if header.is_some() { Occupancy::from_header(F::header(swarm).load()).leechers } else { 0 };
    (header, leechers)
}

/// Whether the torrent is where it is looked for.
fn in_index<P: Platform>(cx: &Context<'_, P>, swarm: SwarmRef<'_>, tag: u64, settled: &mut Settled) {
    let key = TorrentKey::new(cx.settings, &swarm.record.info_hash());
    let name = || {
        let mut name = name(swarm.id) + " (";
        swarm.record.info_hash().iter().for_each(|byte| write!(name, "{byte:02x}").expect("a string"));
        name + ")"
    };
    if tag != key.tag() {
        let what = format!("{}: has the tag {tag:#06x} and not {:#06x}", name(), key.tag());
        settled.faults.push(Fault::new(Kind::TagWrong, what));
        return;
    }
    let found = index::find(cx, &key).map(|found| found.id);
    if found == Some(swarm.id) {
        return;
    }
    let (number, place) = swarm.id.place();
    let same_tag = (1..32).any(|other| other != place && tag_of(cx, SwarmId::at(number, other)) == tag);
    if same_tag {
        settled.hidden += 1;
        return;
    }
    let instead = match found {
        Some(other) => format!("a search finds {} instead", super::name(other)),
        None => "a search finds nothing".into(),
    };
    settled.faults.push(Fault::new(Kind::TorrentLost, format!("{}: {instead}", name())));
}

/// A swarm being looked at.
struct Seen<'s, 'm, P> {
    cx: &'s Context<'m, P>,
    swarm: SwarmRef<'s>,
    settled: Settled,
}

/// A list being looked at.
struct Listed<'l> {
    /// For people.
    place: &'l str,
    /// The scopes that it says its peers have.
    scopes: u32,
    /// Index of the partition, and how many there are.
    partition: Option<(u32, u32)>,
}

impl<P: Platform> Seen<'_, '_, P> {
    fn fault(&mut self, kind: Kind, what: String) {
        self.settled.faults.push(Fault::new(kind, what));
    }

    fn family<F: Peers>(&mut self) -> Result<(), Look> {
        let record = self.swarm.record;
        let version = usize::from(F::VERSION == IpVersion::V6);
        let before = self.settled.seeders + self.settled.leechers;
        let place = format!("{}, {}", name(self.swarm.id), F::NAME);
        let Some(header) = F::directory(record) else {
            self.slots::<F>(&place);
            self.settled.peers[version] = self.settled.seeders + self.settled.leechers - before;
            return Ok(());
        };
        if header.is_list() {
            self.list::<F, Swarm>(record, &Listed { place: &place, scopes: record.scopes(), partition: None });
        } else if header.partitions > PARTITIONS_MAX {
            self.fault(Kind::HeaderWrong, format!("{place}: has {} partitions", header.partitions));
        } else {
            for index in 0..header.partitions {
                self.partition::<F>(index, header.partitions, &place)?;
            }
        }
        let peers = self.settled.seeders + self.settled.leechers - before;
        if peers != u64::from(header.peers) {
            self.fault(Kind::HeaderWrong, format!("{place}: the header counts {} peers of {peers}", header.peers));
        }
        self.settled.peers[version] = peers;
        Ok(())
    }

    /// The peers in the slots of the record.
    fn slots<F: Peers>(&mut self, place: &str) {
        let record = self.swarm.record;
        let mut known = Vec::new();
        for number in 0..F::RECORD_SLOTS {
            let slot = F::record(record).slot(number);
            if slot.is_occupied() {
                self.peer::<F>(slot, &Listed { place, scopes: record.scopes(), partition: None }, &mut known);
            } else if F::WORDS == 1 && slot.flags() != 0 {
                self.fault(Kind::GapWrong, format!("{place}, slot {number}: a free slot is not empty"));
            }
        }
        self.twice(place, known);
    }

    /// A partition, at one moment. That it holds still for so long is waited for here, as a big
    /// swarm never does as a whole.
    fn partition<F: Peers>(&mut self, index: u32, count: u32, place: &str) -> Result<(), Look> {
        let place = format!("{place}, partition {index}");
        let Some(id) = reach::partition::<P, F>(self.cx.platform, self.swarm.record, index, count) else {
            self.fault(Kind::NumberWrong, format!("{place}: the directory leads nowhere"));
            return Ok(());
        };
        let Some(partition) = self.cx.platform.partition(id) else {
            self.fault(Kind::NumberWrong, format!("{place}: has the number {}, which there is not", id.number()));
            return Ok(());
        };
        let lock: &Lock = &partition.lock;
        let mut held = true;
        for look in 1..=PARTITION_LOOKS {
            let Some(free) = lock.free() else {
                self.cx.platform.pause(look);
                continue;
            };
            held = false;
            let before = self.settled.clone();
            let occupancy = List::<F>::occupancy(partition);
            if is_partition_of::<F>(partition, self.swarm.id, index) {
                let scopes = partition.scopes();
                self.list::<F, _>(partition, &Listed { place: &place, scopes, partition: Some((index, count)) });
            } else {
                self.fault(Kind::OwnerWrong, format!("{place}: partition {} is another one", id.number()));
            }
            if free.still_holds() && List::<F>::occupancy(partition) == occupancy {
                return Ok(());
            }
            self.settled = before;
            if F::partitions(self.swarm.record) != Some(count) {
                return Err(Look::Changing);
            }
        }
        Err(if held { Look::Held(format!("{place}: its lock is held")) } else { Look::Changing })
    }

    /// The peers of a list.
    fn list<F: Peers, L: List<F>>(&mut self, list: &L, listed: &Listed<'_>) {
        let Occupancy { peers, leechers } = list.occupancy();
        let place = listed.place;
        if leechers > peers || peers > L::CHUNKS * F::CHUNK_SLOTS {
            self.fault(Kind::HeaderWrong, format!("{place}: cannot have {peers} peers with {leechers} leechers"));
            return;
        }
        let mut known = Vec::with_capacity(peers as usize);
        for index in 0..chunks_for::<F>(peers) {
            let Some(slots) = list.chunk_id(index).and_then(|id| F::chunk(self.cx.platform, id)) else {
                self.fault(Kind::NumberWrong, format!("{place}: its chunk {index} has a number that there is not"));
                continue;
            };
            for slot in 0..F::CHUNK_SLOTS {
                let number = index * F::CHUNK_SLOTS + slot;
                let slot = slots.slot(slot as usize);
                let flags = slot.flags();
                if (flags & OCCUPIED != 0) != (number < peers) {
                    let what = format!("{place}, slot {number} of {peers}: {:#x}", flags >> 61);
                    self.fault(Kind::GapWrong, what);
                    continue;
                }
                if number >= peers {
                    continue;
                }
                if (flags & LEECHER != 0) != (number < leechers) {
                    let what = format!("{place}, slot {number} of {peers}, of which {leechers} are leechers");
                    self.fault(Kind::OrderWrong, what);
                }
                self.peer::<F>(slot, listed, &mut known);
            }
        }
        self.twice(place, known);
    }

    /// A peer.
    fn peer<F: Peers>(&mut self, slot: Slot<'_, F>, listed: &Listed<'_>, known: &mut Vec<[u64; 3]>) {
        let place = listed.place;
        let key = slot.key();
        if slot.flags() & LEECHER == 0 {
            self.settled.seeders += 1;
        } else {
            self.settled.leechers += 1;
        }
        if F::port(key) == 0 {
            self.fault(Kind::PeerWrong, format!("{place}: a peer has no port"));
        }
        let scope = F::scope(key);
        if scope & !listed.scopes != 0 {
            self.fault(Kind::ScopeWrong, format!("{place}: a peer of the scope {scope}, not of {}", listed.scopes));
        }
        if let Some((index, count)) = listed.partition
            && let right = partition_of(F::hash(self.cx.settings, key), count)
            && right != index
        {
            self.fault(Kind::PartitionWrong, format!("{place}: a peer belongs to partition {right} of {count}"));
        }
        known.push(F::identity(key));
    }

    /// Whether a peer is there twice. Only within a list: a peer's hash leads to one partition.
    fn twice(&mut self, place: &str, mut known: Vec<[u64; 3]>) {
        known.sort_unstable();
        if known.windows(2).any(|two| two[0] == two[1]) {
            self.fault(Kind::PeerTwice, format!("{place}: a peer is there twice"));
        }
    }
}
