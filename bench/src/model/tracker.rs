//! The tracker's program in the machine: maps of the sizes that the daemon would give them,
//! settings as the daemon would write them, and requests one after another.
//!
//! Sizes and settings come from the daemon's own library, and the names of the maps from the
//! object. So this knows nothing of how the store is laid out.

use std::net::SocketAddr;

use anyhow::{Context as _, bail, ensure};
use bench_ebpf::Client;
use tracker::{
    config::{limits::RequestLimits, live::Announces},
    store::{
        Store, clock,
        sizes::{Capacity, Sizes},
    },
    xdp::destinations::Destinations,
};
use tracker_common::{
    admission::blocklist::{FIRST_BASE, Point, words_for, write},
    limits::table::MOST_PER_MINUTE,
    programs::Program,
};

use super::{
    elf::Image,
    frames::{Frames, Reply},
    helpers::HEADROOM,
    machine::{Machine, Room},
    memory::Memory,
};
use crate::{
    connect,
    generator::CLIENTS,
    request::Request,
    testbed::{Family, TRACKER_PORT, Testbed},
};

/// What the program returns for a packet that goes back.
pub const XDP_TX: u32 = 3;
/// The second that the clock stands at, since 1970.
const SECOND: u32 = 1_700_000_000;
/// Number of the interface that requests come in by.
const INTERFACE: u32 = 7;

/// Ranges of eight addresses all over IPv4, but for 10.0.0.0/8 and up to 100.0.0.0, where clients are.
fn points(ranges: u32) -> Vec<Point<u32>> {
    const FROM: u32 = 100 << 24;
    let step = (u32::MAX - FROM) / ranges.max(1);
    let range = |number: u32| [(FROM + number * step, 1), (FROM + number * step + 8, 0)];
    let first = (ranges > 0).then_some((0, 0));
    first.into_iter().chain((0..ranges).flat_map(range)).collect()
}

pub struct Tracker {
    pub machine: Machine,
    pub image: Image,
    entry: usize,
    /// The daemon's view of the same maps.
    store: Store,
    second: u32,
}

impl Tracker {
    /// The program of an object, with an empty store for so many torrents and peers.
    pub fn new(object: &[u8], capacity: &Capacity, room: Room, blocked: u32) -> anyhow::Result<Self> {
        let mut image = Image::parse(object)?;
        let points = points(blocked);
        let block_words = u32::try_from(words_for(points.len(), 0))?;
        let sizes = Sizes { block_words, ..Sizes::new(capacity)? };
        for region in sizes.regions() {
            let map = image.maps.iter_mut().find(|map| map.name == region.name);
            let map = map.with_context(|| {
                format!("the object has no map {}: it was not built of the same sources as this benchmark", region.name)
            })?;
            ensure!(
                map.value_bytes as usize == region.element_bytes,
                "the elements of the object's map {} have {} bytes, and in the sources of this benchmark {}: build both of \
                 the same sources",
                map.name,
                map.value_bytes,
                region.element_bytes
            );
            map.entries = region.count;
        }
        let memory = Memory::new(&image.maps, INTERFACE)?;
        let store = Store::from_maps(&sizes, |name| {
            let map = memory.maps().iter().find(|map| map.definition.name == name);
            Ok(map.with_context(|| format!("the object has no map {name}"))?.file())
        })?;
        let mut machine = Machine::new(&image, memory, room);
        for program in Program::ALL {
            machine.programs.push(image.function(program.name())?);
        }
        let entry = image.function("tracker")?;
        let mut tracker = Self { machine, image, entry, store, second: SECOND };
        tracker.set_up();
        if !points.is_empty() {
            ensure!(
                write(|number| tracker.store.block_word(number), FIRST_BASE, &points, &[]),
                "the points have no room"
            );
            tracker.store.settings().blocked.store(FIRST_BASE);
        }
        Ok(tracker)
    }

    fn set_up(&mut self) {
        let settings = self.store.settings();
        // The same keys in every run, so that every run counts the same.
        let mut state = 0_u64;
        let mut random = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed ^ mixed >> 31
        };
        for key in &settings.hash_keys {
            key.store(random() | 1);
        }
        for key in &settings.connection_key {
            key.store(random());
        }
        // The clients have few addresses.
        Announces { max_peers_per_address: 0, creations_per_address: 0, ..Announces::default() }.apply(settings);
        let listeners = [Family::V4, Family::V6].map(|family| SocketAddr::new(family.tracker_address(), TRACKER_PORT));
        Destinations {
            interfaces: vec![(INTERFACE, Testbed::TRACKER_MAC, Testbed::MTU)],
            listeners: listeners.to_vec(),
            ..Destinations::default()
        }
        .store(settings);
        clock::set(settings, self.second);
    }

    /// Has requests be counted per source, with limits that none reaches.
    pub fn count_sources(&mut self) {
        let limits = RequestLimits { per_minute: [MOST_PER_MINUTE; 3], ..RequestLimits::default() };
        limits.apply(self.store.settings());
    }

    /// Has other trackers be told that a peer is still there, once in so many minutes; 0 for no others.
    pub fn tell_every(&mut self, minutes: u32) {
        self.store.settings().tell_every.store(minutes);
    }

    /// Lets minutes pass.
    pub fn pass(&mut self, minutes: u32) {
        self.second += 60 * minutes;
        clock::set(self.store.settings(), self.second);
    }

    /// Gives the program a packet, and returns what it makes of it.
    pub fn handle<const OBSERVE: bool>(&mut self, packet: &[u8]) -> anyhow::Result<u32> {
        self.machine.memory.set_packet(HEADROOM, packet);
        self.machine.run::<OBSERVE>(self.entry).context("the program did what it must not")
    }

    /// The packet as the program left it.
    pub fn reply(&self) -> &[u8] {
        self.machine.memory.packet()
    }

    /// Gives all clients connection ids.
    pub fn connect(&mut self, family: Family) -> anyhow::Result<Vec<Client>> {
        let mut clients = connect::unconnected(family, CLIENTS);
        let frames = Frames::new(&Request::Connect, family, 0, Vec::new())?;
        for (number, client) in (0..).zip(&mut clients) {
            let action = self.handle::<false>(&frames.connect(number, number))?;
            ensure!(action == XDP_TX, "a connect was not answered: the program returned {action}");
            let Reply::Other(payload) = frames.read(self.reply(), &Request::Connect, number)? else {
                bail!("a connect was refused")
            };
            ensure!(payload.len() == 16, "the reply to a connect has {} bytes", payload.len());
            client.connection_id = [8, 12].map(|at| u32::from_ne_bytes([0, 1, 2, 3].map(|byte| payload[at + byte])));
        }
        Ok(clients)
    }
}
