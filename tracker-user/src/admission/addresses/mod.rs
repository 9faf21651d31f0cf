//! Which addresses the tracker has nothing to do with: lists from files, in a table that the XDP
//! program and all threads look into ([`tracker_common::admission::blocklist`]).
//!
//! A changed list is written beside the one in force, and put in its place in one step. Afterwards
//! the peers that it blocks are removed from all torrents.

mod contents;
mod file;
mod line;
mod numbers;
mod points;

pub use contents::Contents;
pub use numbers::{BlockList, Counted, InForce};

use super::SETTLED;
use crate::store::{CounterSet, Handle, Store};
use anyhow::{bail, ensure};
use ipnet::IpNet;
use numbers::numbered;
use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, sync::Arc, thread, time::Instant};
use tracing::info;
use tracker_common::{
    admission::blocklist::{MOST_POINTS, Point, find, other_base, words_for, write},
    bep15::connection_id::IpKey,
    id::SwarmId,
    store::sweep,
};

/// Room for so many points of either version of IP at least, if there are lists.
const LEAST_ROOM: usize = 1 << 14;

/// What the list of networks that were blocked while the tracker runs is called.
pub const ADDED: &str = "added while running";

/// Torrents from which on several threads look for peers to remove.
const MANY: u32 = 50_000;

/// Files with addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressFiles {
    /// Each is a list of addresses that are blocked.
    pub block: Vec<PathBuf>,
    /// Addresses that are not blocked, whatever those say.
    pub allow: Vec<PathBuf>,
}

/// Networks that were blocked or let in while the tracker runs.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Blocked, unless a file lets them in.
    pub blocked: BTreeSet<IpNet>,
    /// Let in, whatever the files say.
    pub let_in: BTreeSet<IpNet>,
}

/// What all lists say together.
#[derive(Debug, Default)]
pub struct Addresses {
    names: Vec<String>,
    /// How many entries they have.
    entries: usize,
    v4: Vec<Point<u32>>,
    v6: Vec<Point<u128>>,
}

impl Addresses {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or has a line that is no address, and when they are too many.
    pub fn read(files: &AddressFiles) -> anyhow::Result<Self> {
        Contents::read(files)?.with(&Changes::default())
    }

    /// Words of the table that there should be: room for half more, so that lists can grow, in steps,
    /// so that it is the same after a restart.
    ///
    /// # Errors
    /// When they are more than any table has room for.
    pub fn room(&self) -> anyhow::Result<Option<u32>> {
        if self.names.is_empty() {
            return Ok(None);
        }
        let most = self.v4.len().max(self.v6.len());
        ensure!(
            most <= MOST_POINTS,
            "{} blocked ranges are more than the {} that are possible",
            most / 2,
            MOST_POINTS / 2
        );
        let room = |points: usize| (points + points / 2).max(LEAST_ROOM).next_power_of_two().min(MOST_POINTS);
        Ok(Some(u32::try_from(words_for(room(self.v4.len()), room(self.v6.len())))?))
    }

    /// Whether any address of a network is blocked.
    #[must_use]
    pub fn block_any_of(&self, network: &IpNet) -> bool {
        match network {
            IpNet::V4(network) => is_any_listed(&self.v4, network.network().to_bits(), network.broadcast().to_bits()),
            IpNet::V6(network) => is_any_listed(&self.v6, network.network().to_bits(), network.broadcast().to_bits()),
        }
    }

    /// How many entries there are in all lists together.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Words of a table that entries can be added to while the tracker runs.
    #[must_use]
    pub fn least_room() -> u32 {
        words_for(LEAST_ROOM, LEAST_ROOM) as u32
    }

    /// Where they would be written.
    fn base(&self, store: &Store) -> Option<u32> {
        let settings = store.settings();
        other_base(settings.block_words.load(), settings.blocked.load(), self.v4.len(), self.v6.len())
    }

    /// Whether there is room for them.
    ///
    /// # Errors
    /// When there is none.
    pub fn check_room(&self, store: &Store) -> anyhow::Result<()> {
        if !self.names.is_empty() && self.base(store).is_none() {
            bail!(
                "{} entries of blocked addresses are more than there is room for: that takes a restart, which makes room",
                self.entries
            );
        }
        Ok(())
    }

    /// Puts them in force, and tells which lists that are; `counted` is what was counted by their numbers
    /// up to now. Peers that are already stored are looked at if `stored` says so.
    ///
    /// # Errors
    /// When there is no room for them. What was in force before is, then.
    pub fn apply(mut self, handle: &Handle, in_force: &InForce, counted: &Counted, stored: bool) -> anyhow::Result<()> {
        let begin = Instant::now();
        let store = handle.store();
        let settings = store.settings();
        if self.names.is_empty() {
            if settings.blocked.load() != 0 {
                settings.blocked.store(0);
                in_force.store(Arc::default());
                thread::sleep(SETTLED);
                info!("no addresses are blocked any more");
            }
            return Ok(());
        }
        self.check_room(store)?;
        let Some(base) = self.base(store) else { bail!("there is no room for blocked addresses") };
        let lists = numbered(std::mem::take(&mut self.names), &in_force.load(), counted);
        // In the points they have their places.
        let places = self.v4.iter_mut().map(|(_, list)| list).chain(self.v6.iter_mut().map(|(_, list)| list));
        for list in places {
            *list = list.checked_sub(1).and_then(|place| lists.get(usize::from(place))).map_or(0, |list| list.number);
        }
        ensure!(
            write(|number| store.block_word(number), base, &self.v4, &self.v6),
            "the table of blocked addresses is too small"
        );
        settings.blocked.store(base);
        let count = lists.len();
        in_force.store(Arc::new(lists));
        // Whoever looked into the table before may act on it, and must not find another one there.
        thread::sleep(SETTLED);
        let removed = if stored { remove_blocked(handle) } else { 0 };
        info!(
            "blocked addresses are in force: {} lists, {} entries; {removed} peers removed; {} ms",
            count,
            self.entries,
            begin.elapsed().as_millis()
        );
        Ok(())
    }
}

/// Whether an address is on a list, of those from one to another.
fn is_any_listed<A: Copy + Ord>(points: &[Point<A>], from: A, to: A) -> bool {
    // The last point that is not behind the first address is about it.
    let first = points.partition_point(|(address, _)| *address <= from).saturating_sub(1);
    points[first..].iter().take_while(|(address, _)| *address <= to).any(|(_, list)| *list != 0)
}

/// The list that an address is on, by its name; `None` if it is not blocked.
#[must_use]
pub fn list_of(handle: &Handle, in_force: &InForce, address: IpAddr) -> Option<String> {
    let key = match address {
        IpAddr::V4(address) => IpKey::V4(u32::from_le_bytes(address.octets())),
        IpAddr::V6(address) => {
            // The sixteen bytes as two little-endian numbers.
            let number = address.to_bits().swap_bytes();
            IpKey::V6([number as u64, (number >> 64) as u64])
        }
    };
    let number = find(&handle.context(), key);
    let in_force = in_force.load();
    let list = in_force.iter().find(|list| u32::from(list.number) == number);
    (number != 0).then(|| list.map_or_else(String::new, |list| list.name.clone()))
}

/// Removes all peers whose addresses are blocked. Returns how many.
fn remove_blocked(handle: &Handle) -> u64 {
    // Nobody is too old.
    let ages = sweep::Ages { peer_timeout: u32::MAX, idle: u32::MAX, idle_completed: u32::MAX };
    let sweep = |handle: &Handle, first, end| {
        sweep::sweep(&handle.context(), &sweep::Batch { first, end, ages }, |_, _| {}).expired
    };
    let store = handle.store();
    let threads = thread::available_parallelism().map_or(1, |count| count.get().min(8) as u32);
    if threads == 1 || store.pools().swarms.used() < MANY {
        return sweep(handle, 0, u32::MAX);
    }
    let part = SwarmId::at(store.sizes().index_buckets, 0).number() / threads;
    let of_thread = |number: u32| {
        let mine = store.handle(CounterSet::Expiry);
        let end = if number + 1 == threads { u32::MAX } else { (number + 1) * part };
        sweep(&mine, number * part, end)
    };
    thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|number| scope.spawn(move || of_thread(number))).collect();
        parts.into_iter().map(|part| part.join().unwrap_or(0)).sum()
    })
}

#[cfg(test)]
mod tests;
