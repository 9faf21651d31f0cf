//! The full scrape: every torrent stored, in one reply that is made and sent slice by slice.
//!
//! The records are read where they lie, a few hundred at a time, and between two slices the thread does its other work; so a
//! full scrape of millions of torrents neither takes memory nor stalls anybody. For the same reason the torrents come in
//! the order of their records: sorting the keys, as BEP 3 has it, would take them all at once.

use super::{announce::min_interval, failure::Failure, request::Encoding, scrape};
use crate::memory::Handle;
use flate2::{Compression, write::GzEncoder};
use std::{
    io::{self, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tracker_common::{
    memory::Memory as _,
    store::{Counts, SWARM_ALIVE, Swarm},
    wire::InfoHash,
};

/// Records per slice: a third of a millisecond with gzip, the slowest of the encodings.
const SLICE: u32 = 256;

/// How often a record that is being changed is looked at again.
const RETRIES: u32 = 64;

/// Leave to make a full scrape; given back when it is dropped.
pub struct Permit(Arc<AtomicUsize>);

impl Permit {
    /// One of `most` at a time; `None` when all are taken.
    #[must_use]
    pub fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let room = |count: usize| (count < most).then(|| count + 1);
        taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok().map(|_| Self(taken.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A full scrape under way.
pub struct FullScrape {
    encoder: Encoder,
    /// The next record to be read; `None` before the first slice.
    next: Option<u32>,
    chunks: bool,
    plain: Vec<u8>,
    _permit: Permit,
}

/// What the reply goes through.
enum Encoder {
    Identity(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
}

impl Encoder {
    fn new(encoding: Encoding) -> io::Result<Self> {
        // The fastest levels: info_hashes do not compress, and what lies between them does at any level.
        Ok(match encoding {
            Encoding::Identity => Encoder::Identity(Vec::new()),
            Encoding::Gzip => Encoder::Gzip(GzEncoder::new(Vec::new(), Compression::fast())),
            Encoding::Zstd => Encoder::Zstd(zstd::stream::write::Encoder::new(Vec::new(), 1)?),
        })
    }

    fn write(&mut self, plain: &[u8]) -> io::Result<()> {
        match self {
            Encoder::Identity(out) => out.write_all(plain),
            Encoder::Gzip(encoder) => encoder.write_all(plain),
            Encoder::Zstd(encoder) => encoder.write_all(plain),
        }
    }

    /// Ends the stream; what comes out is still to be taken.
    fn finish(&mut self) -> io::Result<()> {
        match self {
            Encoder::Identity(_) => Ok(()),
            Encoder::Gzip(encoder) => encoder.try_finish(),
            Encoder::Zstd(encoder) => encoder.do_finish(),
        }
    }

    /// What has come out so far.
    fn output(&mut self) -> &mut Vec<u8> {
        match self {
            Encoder::Identity(out) => out,
            Encoder::Gzip(encoder) => encoder.get_mut(),
            Encoder::Zstd(encoder) => encoder.get_mut(),
        }
    }
}

impl FullScrape {
    /// Begins one; the head of the response is written by the caller.
    ///
    /// # Errors
    /// [`Failure::Internal`] when there is no memory for the compression.
    pub fn new(encoding: Encoding, chunks: bool, permit: Permit) -> Result<Self, Failure> {
        let encoder = Encoder::new(encoding).map_err(|_| Failure::Internal)?;
        Ok(Self { encoder, next: None, chunks, plain: Vec::new(), _permit: permit })
    }

    /// Appends the next slice of the body to `out`; nothing, if the compression keeps everything back. True after the last one.
    ///
    /// # Errors
    /// When the compression fails; the response cannot be completed then.
    pub fn slice(&mut self, memory: &Handle, out: &mut Vec<u8>) -> io::Result<bool> {
        self.plain.clear();
        if self.next.is_none() {
            self.plain.extend_from_slice(scrape::BEGIN);
        }
        let begin = self.next.unwrap_or(0);
        let end = memory.store().pools().swarms.fresh().min(begin.saturating_add(SLICE));
        for number in begin..end {
            if let Some((info_hash, counts)) = memory.swarm(number).and_then(read) {
                scrape::entry(&mut self.plain, &info_hash, counts);
            }
        }
        self.next = Some(end);
        let last = end < begin.saturating_add(SLICE);
        if last {
            scrape::end(&mut self.plain, min_interval(memory.store().settings()));
        }
        self.encoder.write(&self.plain)?;
        if last {
            self.encoder.finish()?;
        }
        let body = self.encoder.output();
        if self.chunks {
            if !body.is_empty() {
                write!(out, "{:x}\r\n", body.len())?;
                out.append(body);
                out.extend_from_slice(b"\r\n");
            }
            if last {
                out.extend_from_slice(b"0\r\n\r\n");
            }
        } else {
            out.append(body);
        }
        Ok(last)
    }
}

/// A torrent and its counts; `None` if the record is free.
fn read(swarm: &Swarm) -> Option<(InfoHash, Counts)> {
    for _ in 0..RETRIES {
        let Some(version) = swarm.lock.version() else {
            std::hint::spin_loop();
            continue;
        };
        let alive = swarm.active.load() & SWARM_ALIVE != 0;
        let mut info_hash = [0; 20];
        for (bytes, word) in info_hash.as_chunks_mut::<4>().0.iter_mut().zip(&swarm.info_hash) {
            *bytes = word.load().to_le_bytes();
        }
        let counts = swarm.counts();
        if swarm.lock.unchanged_since(version) {
            return alive.then_some((info_hash, counts));
        }
    }
    None
}
