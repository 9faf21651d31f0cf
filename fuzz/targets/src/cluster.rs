//! What other trackers send: NATS messages with changes, pieces of their stores, questions, what they say
//! of themselves, and opentracker's livesync packets. What is refused leaves the store as it was, what is
//! taken stays within what was told, and what is written is read as the same.

use crate::input::Input;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};
use tracker::{
    cluster::{
        Dropped, Meters,
        budget::Budget,
        intake::Intake,
        livesync::{self, Packet},
        message::{self, Batch, Header, MESSAGE_BYTES, SHARDS, shard_of},
        nodes::Hello,
        piece::{self, Ask},
    },
    snapshot::columns::{Block, Compact, Peers, State, Torrent},
    store::{
        CounterSet, Store,
        check::{Patience, check},
        clock, keys,
        sizes::{Capacity, Sizes},
    },
};
use tracker_common::{
    change::{Change, Kind},
    id::InfoHash,
    store::family::{V4, V6},
};

/// Torrents that the store has room for: more than a message has.
const TORRENTS: u64 = 60;

/// Changes that are taken: more than there can be.
const BUDGET: u32 = 1_000_000;

/// Who takes part as opentracker.
const OWN: [u8; 4] = *b"self";

/// Older peers are nowhere.
const ANY_AGE: u16 = 8191;

/// A peer of a torrent, as it stands in messages.
type Known = BTreeSet<(InfoHash, Vec<u8>)>;

/// The first byte says what the rest is: a message, changes to be written, a piece, the columns of one,
/// packets of opentracker, a question, or what a node says of itself.
///
/// # Panics
/// When something is taken that is none, written otherwise than it is read, or the store does not hang
/// together.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.byte() % 7 {
        0 => message(input.0),
        1 => written(&mut input),
        2 => piece(input.0),
        3 => columns(&mut input),
        4 => packet(input.0),
        5 => question(input.0),
        _ => hello(input.0),
    }
}

/// A node with some peers.
struct Node {
    store: Arc<Store>,
    meters: Arc<Meters>,
    intake: Intake,
}

impl Node {
    fn new() -> Self {
        let sizes = Sizes::new(&Capacity { torrents: TORRENTS, peers_v4: 400, peers_v6: 200 }).expect("small");
        let store = Arc::new(Store::anonymous(&sizes).expect("small"));
        keys::set(&store, None).expect("random numbers");
        clock::set(store.settings(), 1_700_000_000);
        store.settings().interval.store(1800);
        let meters = Arc::new(Meters::default());
        let mut node = Self { intake: Intake::new(&store, &meters, u64::MAX, Budget::new(BUDGET, 100)), store, meters };
        for number in 0..3 {
            node.intake.changes(&[change(number, 4, Kind::Leecher), change(number, 6, Kind::Seeder)], Instant::now());
        }
        assert_eq!(node.known().len(), 6, "what a node begins with");
        node
    }

    /// The peers that it has, as others are given them; with that the pieces are whole.
    fn known(&self) -> Known {
        let (mut ask, mut known) = (Ask { from: 0, shards: u64::MAX, age: ANY_AGE }, Known::new());
        loop {
            let bytes = piece::piece(&self.store, &ask);
            let (block, next) = piece::decode(&bytes).expect("what is written is read");
            known.extend(peers(&block).into_keys());
            let Some(next) = next else { return known };
            assert!(is_behind(next, ask.from), "{next:x} is not behind {:x}", ask.from);
            ask.from = next;
        }
    }

    fn dropped(&self) -> u64 {
        Dropped::ALL.map(|why| self.meters.dropped(why)).iter().sum()
    }

    fn assert_sound(&self) {
        let report = check(&self.store.handle(CounterSet::Expiry).context(), Patience::STILL);
        assert_eq!(report.faults, []);
        assert!(report.torrents <= TORRENTS, "{} torrents", report.torrents);
        assert_eq!(self.store.changes.take(), [], "what came from others is told to nobody");
    }

    /// After changes that were taken: all of them were stored or counted, and the store knows whoever was
    /// told of last as being there, unless one was refused, and nobody else.
    fn assert_taken(&self, before: &Known, changes: &[Change], stored: u64) {
        assert_eq!(stored + self.dropped(), changes.len() as u64, "each is stored or counted");
        let known = self.known();
        let (mut may, mut must) = (before.clone(), before.clone());
        for change in changes {
            let peer = (change.info_hash, compact(change));
            if change.kind == Kind::Left as u8 {
                must.remove(&peer);
            } else {
                may.insert(peer.clone());
                must.insert(peer);
            }
        }
        assert!(known.is_subset(&may), "whom nobody told of: {:?}", known.difference(&may));
        if self.dropped() == 0 && must.len() < 8 {
            // Fewer than one address may have.
            assert!(known.is_superset(&must), "missing: {:?}", must.difference(&known));
        }
        self.assert_sound();
    }
}

/// Whether a place in the store comes after another one.
fn is_behind(next: u64, place: u64) -> bool {
    (next as u32, next >> 32) > (place as u32, place >> 32)
}

/// The peers of a block.
fn peers(block: &Block) -> BTreeMap<(InfoHash, Vec<u8>), State> {
    fn add<F: Compact>(info_hash: InfoHash, of: &Peers, into: &mut BTreeMap<(InfoHash, Vec<u8>), State>) {
        for (key, state) in of.of::<F>(0, of.len()) {
            let mut bytes = Vec::new();
            F::append(key, &mut bytes);
            into.insert((info_hash, bytes), state);
        }
    }
    let mut peers = BTreeMap::new();
    for (torrent, v4, v6) in piece::torrents(block) {
        add::<V4>(torrent.info_hash, &v4, &mut peers);
        add::<V6>(torrent.info_hash, &v6, &mut peers);
    }
    peers
}

fn compact(change: &Change) -> Vec<u8> {
    let mut bytes = Vec::new();
    match change.version {
        6 => V6::append(change.peer, &mut bytes),
        _ => V4::append(change.peer[0], &mut bytes),
    }
    bytes
}

fn change(number: u8, version: u8, kind: Kind) -> Change {
    let peer = match version {
        6 => V6::key([0x20, 1, 0xd, 0xb8, 0, 0, 0, number, 0, 0, 0, 0, 0, 0, 0, 9], 6881),
        _ => [V4::key([198, 51, 100, number], 6881), 0, 0],
    };
    Change { peer, info_hash: [number; 20], kind: kind as u8, owner: 0, version, unused: 0 }
}

fn message(bytes: &[u8]) {
    let mut node = Node::new();
    let before = node.known();
    let read = message::parse(bytes);
    let taken = node.intake.message(bytes, Instant::now());
    let Ok((header, changes)) = read else {
        assert_eq!((taken, node.dropped()), (None, 1), "what is refused is counted once");
        assert!(node.known() == before, "what is refused leaves the store as it was");
        return node.assert_sound();
    };
    assert_eq!(taken, Some(header));
    assert!(!changes.is_empty() && usize::from(header.shard) < SHARDS && bytes.len() <= 2 * MESSAGE_BYTES);
    let in_shard = changes.iter().all(|change| shard_of(&change.info_hash) == usize::from(header.shard));
    assert!(in_shard, "{header:?}");
    assert_written_as_read(&header, &changes);
    node.assert_taken(&before, &changes, node.meters.figures(0).stored - 6);
}

/// What the writer makes of changes is read by kind and version of IP, and the last that is read of a peer is
/// what was written last.
fn assert_written_as_read(header: &Header, changes: &[Change]) {
    /// The last change of each peer: its kind and owner.
    fn last<'c>(changes: impl IntoIterator<Item = &'c Change>) -> BTreeMap<(InfoHash, Vec<u8>), (u8, u8)> {
        changes.into_iter().map(|change| ((change.info_hash, compact(change)), (change.kind, change.owner))).collect()
    }
    let (mut batch, mut written) = (Batch::default(), Vec::new());
    for (number, change) in changes.iter().enumerate() {
        written.push(*change);
        if batch.add(change) || number + 1 == changes.len() {
            let (bytes, count) = batch.take(header);
            let (read, some) = message::parse(&bytes).expect("what is written is read");
            assert!(count == some.len() && bytes.len() <= MESSAGE_BYTES, "{count} in {}", bytes.len());
            assert_eq!(read, *header);
            assert!(some.len() <= written.len() && some.is_sorted_by_key(|change| (change.version, change.kind)));
            let (before, after) = (last(&written), last(&some));
            assert!(before.keys().eq(after.keys()), "{before:?} and {after:?}");
            for (before, after) in before.values().zip(after.values()) {
                let counts = *before == (Kind::Seeder as u8, after.1) && after.0 == Kind::Completed as u8;
                assert!(before == after || counts, "{before:?} is read as {after:?}");
            }
            written.clear();
        }
    }
}

/// Changes as the rest says, which are written as a tracker and as an opentracker would.
fn written(input: &mut Input<'_>) {
    let header = Header { node: 7, sequence: input.word().into(), shard: input.byte() & 63, time: 9 };
    let mut changes = Vec::new();
    while !input.is_empty() && changes.len() < 300 {
        let what = input.byte();
        let version = if what & 4 == 0 { 4 } else { 6 };
        let mut info_hash = [input.byte(); 20];
        info_hash[0] = header.shard << 2 | what >> 6;
        let kind = Kind::ALL[usize::from(what & 3)];
        let mut change = Change { info_hash, owner: what >> 3 & 7, ..change(input.byte(), version, kind) };
        let port = u64::from(input.word().max(1));
        match version {
            6 => change.peer[2] = port,
            _ => change.peer[0] = u64::from(change.peer[0] as u32) | port << 32,
        }
        changes.push(change);
    }
    if !changes.is_empty() {
        assert_written_as_read(&header, &changes);
    }
    assert_packets(&changes);
}

/// The same of opentracker's packets, which know no owners.
fn assert_packets(changes: &[Change]) {
    for version in [4, 6] {
        let of_version: Vec<_> = changes.iter().filter(|change| change.version == version).collect();
        let (mut packet, mut read) = (Packet::new(*b"them", version), Vec::new());
        let mut packets: Vec<_> = of_version.iter().filter_map(|change| packet.add(change)).collect();
        packets.extend(packet.take());
        for bytes in packets {
            assert!(bytes.len() <= livesync::PACKET_BYTES, "{}", bytes.len());
            read.extend(livesync::parse(OWN, &bytes).expect("what is written is read"));
        }
        let expected: Vec<_> = of_version.iter().map(|change| Change { owner: 0, ..**change }).collect();
        assert_eq!(read, expected);
    }
}

fn piece(bytes: &[u8]) {
    let mut node = Node::new();
    let before = node.known();
    match piece::decode(bytes) {
        Some((block, _)) => take(&mut node, &before, &block),
        None => assert!(node.known() == before, "what is refused leaves the store as it was"),
    }
}

/// Takes a piece over: whom it does not tell of stays as it was.
fn take(node: &mut Node, before: &Known, block: &Block) {
    let told = peers(block);
    node.intake.begin_snapshot();
    let gone = told.keys().next().cloned();
    if let Some((info_hash, peer)) = &gone {
        let version = if peer.len() == 18 { 6 } else { 4 };
        let key = if version == 6 { V6::key_of(peer) } else { V4::key_of(peer).map(|key| [key, 0, 0]) };
        let left = Change {
            peer: key.expect("it was read"),
            info_hash: *info_hash,
            kind: Kind::Left as u8,
            owner: 0,
            version,
            unused: 0,
        };
        node.intake.changes(&[left], Instant::now());
    }
    node.intake.piece(block);
    node.intake.end_snapshot();
    let known = node.known();
    assert!(gone.is_none_or(|gone| !known.contains(&gone)), "who has left comes back");
    let allowed: Known = told.into_keys().chain(before.iter().cloned()).collect();
    assert!(known.is_subset(&allowed), "whom nobody told of: {:?}", known.difference(&allowed));
    node.assert_sound();
}

/// A piece: columns behind a head that fits.
fn piece_of(counts: [u32; 3], columns: &[u8]) -> Vec<u8> {
    let packed = zstd::bulk::compress(columns, 1).expect("memory");
    let mut bytes = [&b"TP\x01\0"[..], &[255; 8]].concat();
    for count in counts.into_iter().chain([columns.len() as u32]) {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes.extend_from_slice(&packed);
    bytes
}

/// The columns of a block.
fn columns(input: &mut Input<'_>) {
    let counts = [(); 3].map(|()| u32::from(input.byte()));
    let bytes = piece_of(counts, input.0);
    if let Some((block, next)) = piece::decode(&bytes) {
        let mut again = Vec::new();
        block.encode(&mut again);
        assert!(next.is_none() && again == input.0, "a piece is written as it is read");
    }
    piece(&bytes);
}

fn packet(bytes: &[u8]) {
    let mut node = Node::new();
    let before = node.known();
    let Ok(changes) = livesync::parse(OWN, bytes) else { return };
    assert!(bytes[..4] != OWN && changes.len() <= bytes.len() / 28);
    let stored = node.intake.changes(&changes, Instant::now());
    node.assert_taken(&before, &changes, stored);
    assert_packets(&changes);
}

/// Whatever is asked for, there is an answer, and following the answers comes to an end.
fn question(bytes: &[u8]) {
    let Some(mut ask) = Ask::decode(bytes) else { return };
    assert_eq!(ask.encode(), bytes, "a question is written as it is read");
    let node = Node::new();
    let known = node.known();
    for _ in 0..100 {
        let (block, next) = piece::decode(&piece::piece(&node.store, &ask)).expect("what is written is read");
        let given: Known = peers(&block).into_keys().collect();
        assert!(given.is_subset(&known), "{given:?}");
        assert!(given.iter().all(|(info_hash, _)| ask.shards >> shard_of(info_hash) & 1 != 0), "other shards");
        let Some(next) = next else { return };
        assert!(is_behind(next, ask.from), "{next:x} is not behind {:x}", ask.from);
        ask.from = next;
    }
    panic!("it goes on and on");
}

fn hello(bytes: &[u8]) {
    if let Some(hello) = Hello::decode(bytes) {
        assert_eq!(hello.encode(), bytes, "it is written as it is read");
        assert!(hello.name.bytes().all(|byte| byte.is_ascii_graphic()), "{hello:?}");
    }
}

/// Inputs to begin with.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, bytes: &[u8]| [&[kind][..], bytes].concat();
    let header = Header { node: 0x1122, sequence: 7, shard: 1, time: 1_700_000_000_000 };
    let all = || [4, 6].into_iter().flat_map(|version| Kind::ALL.map(|kind| (version, kind)));
    let mut batch = Batch::default();
    let mut packets = [Packet::new(*b"them", 4), Packet::new(*b"them", 6)];
    for (number, (version, kind)) in (4..8).cycle().zip(all()) {
        batch.add(&Change { owner: number, ..change(number, version, kind) });
        packets[usize::from(version == 6)].add(&change(number, version, kind));
    }
    let (newest, _) = batch.take(&header);
    let mut batch = Batch::default();
    batch.add(&change(5, 4, Kind::Seeder));
    // Without time and owners.
    let (one, _) = batch.take(&header);
    let oldest = [b"TC\x01\0", &one[4..18], &one[26..one.len() - 1]].concat();
    let state = |age| State { age, leecher: age % 2 == 0, completed: age > 5 };
    let mut block = Block::default();
    for number in 0..9_u8 {
        block.v4.push::<V4>(V4::key([192, 0, 2, number], 6881), state(number.into()));
        block.v6.push::<V6>(V6::key([number | 0x20; 16], 6881), state(number.into()));
    }
    let torrent = |number: u8| Torrent { info_hash: [number; 20], completed: number.into(), idle: 3 };
    block.torrents = vec![(torrent(1), [9, 4]), (torrent(9), [0, 5])];
    let mut columns = vec![2, 9, 9];
    block.encode(&mut columns);
    let ask = Ask { from: 1, shards: 0b111, age: 480 };
    let named = Hello { node: 7, shards: u64::MAX, peers: 9, load: 3, name: "node7".into() };
    // The rest of a change: its torrent, its address, two bytes of its port.
    let raw: Vec<_> = (0..60_u8).flat_map(|number| [number.wrapping_mul(37), number, number / 3, 0x1a, 0xe1]).collect();
    vec![
        with(0, &newest),
        with(0, &oldest),
        with(1, &[&[7, 0, 9][..], &raw].concat()),
        with(2, &piece_of([2, 9, 9], &columns[3..])),
        with(3, &columns),
        with(4, &packets[0].take().expect("four")),
        with(4, &packets[1].take().expect("four")),
        with(5, &ask.encode()),
        with(6, &named.encode()),
    ]
}
