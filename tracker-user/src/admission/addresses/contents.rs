//! What the files with addresses said when they were read last. It stays in memory, so that a network
//! can be blocked or let in whatever has become of the files, and however long they take to read: a range
//! of IPv4 takes 8 bytes, one of IPv6 32.

use super::{
    ADDED, AddressFiles, Addresses, Changes, file,
    line::Range,
    points::{Span, points},
};
use anyhow::ensure;
use ipnet::IpNet;
use std::{collections::BTreeSet, path::PathBuf};
use tracker_common::outcome::BLOCK_LISTS;

/// The ranges of one list.
#[derive(Clone, Debug, Default)]
struct Ranges {
    v4: Vec<(u32, u32)>,
    v6: Vec<Span>,
}

impl Ranges {
    fn add(&mut self, ranges: impl IntoIterator<Item = Range>) {
        for range in ranges {
            match range {
                Range::V4(from, to) => self.v4.push((from, to)),
                Range::V6(from, to) => self.v6.push((from, to)),
            }
        }
    }

    fn of(ranges: impl IntoIterator<Item = Range>) -> Self {
        let mut list = Self::default();
        list.add(ranges);
        list.v4.shrink_to_fit();
        list.v6.shrink_to_fit();
        list
    }

    fn of_networks(networks: &BTreeSet<IpNet>) -> Self {
        Self::of(networks.iter().map(|network| match network {
            IpNet::V4(network) => Range::V4(network.network().to_bits(), network.broadcast().to_bits()),
            IpNet::V6(network) => Range::V6(network.network().to_bits(), network.broadcast().to_bits()),
        }))
    }

    fn spans_v4(&self) -> Vec<Span> {
        self.v4.iter().map(|(from, to)| ((*from).into(), (*to).into())).collect()
    }
}

/// What the files said.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    names: Vec<String>,
    /// How many entries they have, those that overlap counted each.
    entries: usize,
    blocked: Vec<Ranges>,
    let_in: Ranges,
}

impl Contents {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or has a line that is no address, and when they are too many.
    pub fn read(files: &AddressFiles) -> anyhow::Result<Self> {
        let mut block: Vec<&PathBuf> = Vec::new();
        for path in &files.block {
            // What is named twice is one list.
            if !block.contains(&path) {
                block.push(path);
            }
        }
        ensure!(block.len() <= BLOCK_LISTS, "{} files for block-addresses are more than {BLOCK_LISTS}", block.len());
        let names = block.iter().map(|path| path.display().to_string()).collect();
        let mut contents = Self { names, ..Self::default() };
        for path in block {
            let ranges = file::read(path)?;
            contents.entries += ranges.len();
            contents.blocked.push(Ranges::of(ranges));
        }
        for path in &files.allow {
            contents.let_in.add(file::read(path)?);
        }
        Ok(contents)
    }

    /// What they say together with what was changed meanwhile.
    ///
    /// # Errors
    /// When that makes one list too many.
    pub fn with(&self, changes: &Changes) -> anyhow::Result<Addresses> {
        let added = (!changes.blocked.is_empty()).then(|| Ranges::of_networks(&changes.blocked));
        let names: Vec<_> = self.names.iter().cloned().chain(added.is_some().then(|| ADDED.to_owned())).collect();
        ensure!(
            names.len() <= BLOCK_LISTS,
            "{BLOCK_LISTS} files for block-addresses leave no room for a list of networks {ADDED}"
        );
        let entries = self.entries + if added.is_some() { changes.blocked.len() } else { 0 };
        let let_in = Ranges::of_networks(&changes.let_in);
        let lists = || self.blocked.iter().chain(&added);
        let v4_let_in = [let_in.spans_v4(), self.let_in.spans_v4()].concat();
        let v4 = points(lists().map(Ranges::spans_v4).collect(), v4_let_in, u32::MAX.into());
        let v4 = v4.into_iter().map(|(address, list)| (address as u32, list)).collect();
        let v6_let_in = [let_in.v6, self.let_in.v6.clone()].concat();
        let v6 = points(lists().map(|list| list.v6.clone()).collect(), v6_let_in, u128::MAX);
        Ok(Addresses { names, entries, v4, v6 })
    }
}
