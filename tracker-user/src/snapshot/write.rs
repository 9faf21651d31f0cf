//! Writing a snapshot: blocks into a file under a temporary name, which then takes the place of the
//! old one in one step. Whatever goes wrong before, the old file stays.

use super::{
    Totals,
    columns::{Block, Peers, RECORD_PEERS, Torrent, USUAL_COLUMNS},
    format::{BlockHeader, Header, payload_checksum},
};
use std::io::{self, Write};
use tracker_common::store::family::{V4, V6};
use zstd::bulk::Compressor;

/// zstd's fastest usual level: addresses and info_hashes are random, there is little to find.
const LEVEL: i32 = 1;

/// Writes blocks.
pub struct Writer<W> {
    to: W,
    id: u64,
    number: u32,
    totals: Totals,
    block: Block,
    columns: Vec<u8>,
    packed: Vec<u8>,
    compressor: Compressor<'static>,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// When it cannot be written, or there is no memory for the compression.
    pub fn new(mut to: W, header: &Header) -> io::Result<Self> {
        to.write_all(&header.encode())?;
        Ok(Self {
            to,
            id: header.id,
            number: 0,
            totals: Totals::default(),
            block: Block::default(),
            columns: Vec::new(),
            packed: Vec::new(),
            compressor: Compressor::new(LEVEL)?,
        })
    }

    /// Adds a torrent with its peers, or with some of them.
    ///
    /// # Errors
    /// When a block cannot be written.
    pub fn add(&mut self, torrent: &Torrent, v4: &Peers, v6: &Peers) -> io::Result<()> {
        let (mut at_v4, mut at_v6) = (0, 0);
        loop {
            let count_v4 = (v4.len() - at_v4).min(RECORD_PEERS);
            let count_v6 = (v6.len() - at_v6).min(RECORD_PEERS);
            self.block.torrents.push((*torrent, [count_v4 as u16, count_v6 as u16]));
            self.block.v4.extend::<V4>(v4, at_v4, count_v4);
            self.block.v6.extend::<V6>(v6, at_v6, count_v6);
            (at_v4, at_v6) = (at_v4 + count_v4, at_v6 + count_v6);
            if self.block.columns() >= USUAL_COLUMNS {
                self.flush()?;
            }
            if at_v4 == v4.len() && at_v6 == v6.len() {
                return Ok(());
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.block.torrents.is_empty() {
            return Ok(());
        }
        self.columns.clear();
        self.block.encode(&mut self.columns);
        self.packed.clear();
        self.packed.reserve(zstd::zstd_safe::compress_bound(self.columns.len()));
        self.compressor.compress_to_buffer(&self.columns, &mut self.packed)?;
        let header = BlockHeader {
            last: false,
            number: self.number,
            torrents: self.block.torrents.len() as u32,
            peers_v4: self.block.v4.len() as u32,
            peers_v6: self.block.v6.len() as u32,
            unpacked: self.columns.len() as u32,
            packed: self.packed.len() as u32,
            checksum: payload_checksum(self.id, &self.packed),
        };
        self.to.write_all(&header.encode(self.id))?;
        self.to.write_all(&self.packed)?;
        self.number += 1;
        self.totals.torrents += u64::from(header.torrents);
        self.totals.peers_v4 += u64::from(header.peers_v4);
        self.totals.peers_v6 += u64::from(header.peers_v6);
        self.block.clear();
        Ok(())
    }

    /// Writes what is left, and the end. Returns what was written to, and how much there is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(mut self) -> io::Result<(W, Totals)> {
        self.flush()?;
        let (header, totals) = BlockHeader::last(self.number, &self.totals, self.id);
        self.to.write_all(&header.encode(self.id))?;
        self.to.write_all(&totals)?;
        self.to.flush()?;
        Ok((self.to, self.totals))
    }
}
