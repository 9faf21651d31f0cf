//! Single entries of the lists of torrents and of addresses, and how many there are.

use super::{Control, Parts};
use crate::{
    admission::{
        Lists,
        addresses::{self, Addresses, Contents},
        entry,
    },
    store::Handle,
};
use anyhow::{Context as _, bail};
use ipnet::IpNet;
use std::net::IpAddr;
use tracker_common::{admission::List, id::InfoHash};

/// How many entries the lists had when their files were read last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Torrents that are allowed.
    pub allow: u64,
    /// Torrents that are denied.
    pub deny: u64,
    /// Blocked addresses and networks.
    pub addresses: u64,
}

/// What is kept of the lists when they have been read.
#[derive(Debug)]
pub struct Known {
    /// How many entries they had.
    pub counts: Counts,
    /// The files with addresses, if networks may be blocked while the tracker runs: with an admin API.
    pub addresses: Option<Contents>,
}

impl Counts {
    /// Of these lists.
    #[must_use]
    pub fn of(lists: &Lists, addresses: &Addresses) -> Self {
        let count = |list| lists.count(list).unwrap_or(0);
        Self { allow: count(List::Allow), deny: count(List::Deny), addresses: addresses.entries() as u64 }
    }
}

/// A list of torrents, for people.
#[derive(Clone, Debug)]
pub struct TorrentList {
    /// Whether it decides anything.
    pub in_force: bool,
    /// Its files.
    pub files: Vec<String>,
    /// How many torrents are on it.
    pub entries: u64,
    /// Those that were put on it while the tracker runs.
    pub added: Vec<InfoHash>,
    /// Those that were taken off.
    pub removed: Vec<InfoHash>,
}

/// The lists of addresses, for people.
#[derive(Clone, Debug)]
pub struct AddressLists {
    /// Files with blocked addresses, and the list of those that were added.
    pub names: Vec<String>,
    /// Their numbers, in the same order.
    pub numbers: Vec<u8>,
    /// Files with addresses that are let in.
    pub allow_files: Vec<String>,
    /// How many entries all of them have together.
    pub entries: u64,
    /// Networks that were blocked while the tracker runs.
    pub added: Vec<IpNet>,
    /// Networks that were let in.
    pub let_in: Vec<IpNet>,
}

fn names(paths: &[std::path::PathBuf]) -> Vec<String> {
    paths.iter().map(|path| path.display().to_string()).collect()
}

impl Control {
    /// A list of torrents.
    #[must_use]
    pub fn torrent_list(&self, list: List) -> TorrentList {
        let state = self.state();
        let (files, entries) = match list {
            List::Allow => (&state.live.lists.allow, state.known.counts.allow),
            List::Deny => (&state.live.lists.deny, state.known.counts.deny),
        };
        let changed = state.torrents.of(list);
        TorrentList {
            in_force: self.is_in_force(list),
            files: names(files),
            entries,
            added: changed.added.iter().copied().collect(),
            removed: changed.removed.iter().copied().collect(),
        }
    }

    /// Whether a torrent is on a list.
    #[must_use]
    pub fn is_listed(&self, list: List, info_hash: &InfoHash) -> bool {
        entry::is_listed(&self.store, list, info_hash)
    }

    /// Puts a torrent on a list, where it stays whatever its files say later. False if it was there
    /// already.
    ///
    /// # Errors
    /// When that cannot be done as things are.
    pub fn list_torrent(&self, list: List, info_hash: &InfoHash) -> anyhow::Result<bool> {
        let mut state = self.state();
        let new = entry::add(&state.remover, list, info_hash)?;
        state.torrents.add(list, *info_hash);
        if new {
            *state.known.counts.of_mut(list) += 1;
            tracing::info!("the admin API has put a torrent on the list of {}", name(list));
        }
        Ok(new)
    }

    /// Takes a torrent off a list. False if it was not there.
    #[must_use]
    pub fn unlist_torrent(&self, list: List, info_hash: &InfoHash) -> bool {
        let mut state = self.state();
        let was_there = entry::take_out(&state.remover, list, info_hash);
        if was_there {
            state.torrents.remove(list, *info_hash);
            let count = state.known.counts.of_mut(list);
            *count = count.saturating_sub(1);
            tracing::info!("the admin API has taken a torrent off the list of {}", name(list));
        }
        was_there
    }

    /// The lists of addresses.
    #[must_use]
    pub fn address_lists(&self) -> AddressLists {
        let state = self.state();
        let in_force = self.parts.handles.block_lists.load();
        AddressLists {
            names: in_force.iter().map(|list| list.name.clone()).collect(),
            numbers: in_force.iter().map(|list| list.number).collect(),
            allow_files: names(&state.live.addresses.allow),
            entries: state.known.counts.addresses,
            added: state.addresses.blocked.iter().copied().collect(),
            let_in: state.addresses.let_in.iter().copied().collect(),
        }
    }

    /// The list that blocks an address.
    #[must_use]
    pub fn blocked_by(&self, address: IpAddr) -> Option<String> {
        addresses::list_of(&self.state().remover, &self.parts.handles.block_lists, address)
    }

    /// Blocks a network, but for what of it is let in, or undoes that; one that a file blocks is let in
    /// instead. What the files said when they were read last still holds. False if that was so already.
    ///
    /// # Errors
    /// When that cannot be done as things are. Everything is as it was, then.
    pub fn block(&self, network: IpNet, blocked: bool) -> anyhow::Result<bool> {
        let network = network.trunc();
        let mut state = self.state();
        let mut changes = state.addresses.clone();
        if blocked {
            changes.let_in.remove(&network);
            changes.blocked.insert(network);
        } else if !changes.blocked.remove(&network) {
            changes.let_in.insert(network);
        }
        if changes.blocked == state.addresses.blocked && changes.let_in == state.addresses.let_in {
            return Ok(false);
        }
        let contents = state.known.addresses.as_ref().context("networks are blocked only with an admin API")?;
        let addresses = contents.with(&changes)?;
        if blocked && !addresses.block_any_of(&network) {
            bail!("all of {network} is let in: by files of --allow-addresses, or by networks that were let in");
        }
        addresses.check_room(&self.store)?;
        let entries = addresses.entries() as u64;
        self.put_in_force(addresses, &state.remover)?;
        state.known.counts.addresses = entries;
        state.addresses = changes;
        tracing::info!("the admin API has {} a network", if blocked { "blocked" } else { "let in" });
        Ok(true)
    }

    /// Has these lists of addresses hold, and removes the peers that they block.
    pub(super) fn put_in_force(&self, addresses: Addresses, remover: &Handle) -> anyhow::Result<()> {
        let Parts { handles, statistics, .. } = &self.parts;
        addresses.apply(remover, &handles.block_lists, &statistics.blocked(), true)
    }
}

impl Counts {
    fn of_mut(&mut self, list: List) -> &mut u64 {
        match list {
            List::Allow => &mut self.allow,
            List::Deny => &mut self.deny,
        }
    }
}

fn name(list: List) -> &'static str {
    match list {
        List::Allow => "those that are served",
        List::Deny => "those that are not served",
    }
}
