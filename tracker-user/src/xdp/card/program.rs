//! `tracker-offload` on a card, or for tests in the machine's own memory, with its maps.

use super::bpf::{self, MapAttributes};
use anyhow::{Context as _, ensure};
use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};
use tracker_common::card::{BLOCKED, COUNTERS, Counters, DESTINATIONS, Destination, Mac, WINDOW, Window};

/// The object; committed, and written by `cargo xtask build-ebpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf/offload.bpf.o"));

/// The name of the program that the kernel shows.
const NAME: &str = "tracker_offload";

/// How many counters are kept.
pub const COUNTED: usize = 6;

/// What a card is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What the tracker answers for on that interface.
    pub destinations: Vec<(Destination, Mac)>,
    /// IPv4 addresses that are dropped, in memory order.
    pub blocked: Vec<u32>,
    /// What connection ids are made of.
    pub window: Window,
}

/// The program, ready to be attached.
#[derive(Debug)]
pub struct Program {
    file: OwnedFd,
    /// The kernel's number of it.
    pub id: u32,
    maps: HashMap<String, OwnedFd>,
    told: Told,
    /// What has no room.
    left_out: usize,
    last: Counters,
}

impl Program {
    /// Loads it into the card of the interface with this number, or with 0 into the machine's memory.
    ///
    /// # Errors
    /// When the driver or the kernel refuses it.
    pub fn load(interface: u32) -> anyhow::Result<Self> {
        let mut object = aya_obj::Object::parse(OBJECT).context("the program for cards cannot be read")?;
        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let described: Vec<_> = object.maps.drain().collect();
        let mut maps = HashMap::new();
        for (name, map) in &described {
            maps.insert(name.clone(), create(name, map, interface)?);
        }
        let numbered = described.iter().map(|(name, map)| (name.as_str(), maps[name].as_raw_fd(), map));
        object.relocate_maps(numbered, &sections).context("the maps of the program for cards")?;
        object.relocate_calls(&sections).context("the functions of the program for cards")?;
        let program = object.programs.values().next().context("there is no program for cards")?;
        let function = object.functions.get(&program.function_key()).context("the program for cards is empty")?;
        let file =
            bpf::load(NAME, &program.license, &function.instructions, interface).context("its program is refused")?;
        for name in [DESTINATIONS, BLOCKED, WINDOW, COUNTERS] {
            ensure!(maps.contains_key(name), "the program for cards has no map {name}");
        }
        let id = bpf::id(file.as_fd()).context("cannot ask for the program's number")?;
        Ok(Self { file, id, maps, told: Told::default(), left_out: 0, last: Counters::default() })
    }

    /// The program itself.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Addresses that the card has no room for: their packets are left to the driver.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Tells the card what is new.
    ///
    /// # Errors
    /// When the card is gone, or does not take it.
    pub fn tell(&mut self, told: &Told) -> io::Result<()> {
        if self.told == *told {
            return Ok(());
        }
        if self.told.window != told.window {
            bpf::update(self.map(WINDOW), &0_u32, told.window)?;
        }
        let mut left_out = 0;
        let now: Vec<_> = told.destinations.iter().map(|(key, value)| (key, *value)).collect();
        let before: Vec<_> = self.told.destinations.iter().map(|(key, value)| (key, *value)).collect();
        left_out += exchange(self.map(DESTINATIONS), &before, &now)?;
        let now: Vec<_> = told.blocked.iter().map(|key| (key, 1_u32)).collect();
        let before: Vec<_> = self.told.blocked.iter().map(|key| (key, 1_u32)).collect();
        left_out += exchange(self.map(BLOCKED), &before, &now)?;
        self.left_out = left_out;
        self.told = told.clone();
        Ok(())
    }

    /// What it has counted since it was last asked.
    ///
    /// # Errors
    /// When the card is gone.
    pub fn counted(&mut self) -> io::Result<[u32; COUNTED]> {
        let now: Counters = bpf::look_up(self.map(COUNTERS), &0_u32)?;
        let mut since = [0; COUNTED];
        for (place, since) in since.iter_mut().enumerate() {
            *since = now[place].wrapping_sub(self.last[place]);
        }
        self.last = now;
        Ok(since)
    }

    fn map(&self, name: &str) -> BorrowedFd<'_> {
        self.maps[name].as_fd()
    }
}

/// Makes a map. A card does not say how much room it has: so half as much is asked for, and half of
/// that, until it agrees.
fn create(name: &str, map: &aya_obj::Map, interface: u32) -> anyhow::Result<OwnedFd> {
    let mut entries = map.max_entries();
    loop {
        let sizes = [map.map_type(), map.key_size(), map.value_size(), entries];
        match MapAttributes::new(name, sizes, interface).create() {
            Ok(file) => {
                if entries < map.max_entries() {
                    tracing::info!("the card has room for {entries} entries of {name}");
                }
                return Ok(file);
            }
            Err(error) if entries > 1 && matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::E2BIG)) => {
                entries /= 2;
            }
            Err(error) => return Err(error).with_context(|| format!("its map {name} is refused")),
        }
    }
}

/// Brings a map from what it was to what it is to be. Returns how many have no room.
fn exchange<K: Eq + Hash, V: Copy>(map: BorrowedFd<'_>, before: &[(&K, V)], now: &[(&K, V)]) -> io::Result<usize> {
    let (old, new): (HashSet<&K>, HashSet<&K>) =
        (before.iter().map(|(key, _)| *key).collect(), now.iter().map(|(key, _)| *key).collect());
    for key in old.difference(&new) {
        match bpf::delete(map, *key) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    let mut left_out = 0;
    for (key, value) in now {
        match bpf::update(map, *key, *value) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC)) => left_out += 1,
            result => result?,
        }
    }
    Ok(left_out)
}
