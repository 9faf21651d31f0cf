//! The full scrape: every torrent stored, in one reply that is made and sent slice by slice.
//!
//! The torrents come in the order of their info_hashes, as the keys of a bencoded dictionary must; the order is that of a
//! [`snapshot`](super::snapshot). Their counts are read when they are sent, a few hundred at a time, and between two slices the
//! thread does its other work. A torrent that has been removed since the snapshot is left out, one that has come since is not
//! in it, and a record that has passed to another torrent is not mistaken for the old one; so the order stays, and no key comes
//! twice.

use super::{
    announce::min_interval,
    failure::Failure,
    permits::Permit,
    request::Encoding,
    scrape,
    snapshot::{Entry, Progress, Share, torrent},
};
use crate::memory::Handle;
use bytes::{Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use std::{
    fmt::Write as _,
    io::{self, Write as _},
    time::Duration,
};
use tracker_common::{
    platform::Platform as _,
    store::{
        index::{counts, find_number},
        layout::Counts,
    },
};

/// Torrents per slice: a third of a millisecond with gzip, the slowest of the encodings.
const SLICE: usize = 256;

/// How often a record that is being changed is looked at again before its torrent is searched for.
const RETRIES: u32 = 64;

/// How long a client may take for a reply about so many torrents: as long as all of them need at `rate` a second, and `least` at
/// any rate.
#[must_use]
pub fn patience(torrents: u32, rate: u32, least: Duration) -> Duration {
    least.max(Duration::from_secs(torrents.into()) / rate.max(1))
}

/// A full scrape under way.
pub struct FullScrape {
    encoder: Encoder,
    torrents: Share,
    /// The next torrent to be sent, by its place in the snapshot.
    next: usize,
    chunks: bool,
    plain: Vec<u8>,
    /// Slices that are being sent; their memory is used again.
    sending: BytesMut,
    patience: Duration,
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
    /// Begins one of the torrents of a snapshot, which has to be sent within `patience`; the head of the response is written
    /// by the caller.
    ///
    /// # Errors
    /// [`Failure::Internal`] when there is no memory for the compression.
    pub fn new(
        encoding: Encoding,
        chunks: bool,
        torrents: Share,
        patience: Duration,
        permit: Permit,
    ) -> Result<Self, Failure> {
        let encoder = Encoder::new(encoding).map_err(|_| Failure::Internal)?;
        let (plain, sending) = (Vec::new(), BytesMut::new());
        Ok(Self { encoder, torrents, next: 0, chunks, plain, sending, patience, _permit: permit })
    }

    /// How long the client may take.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Waits until the order of the torrents is known. False if it will never be.
    pub async fn is_ready(&mut self) -> bool {
        let progress = self.torrents.wait_for(|progress| !matches!(progress, Progress::UnderWay)).await;
        progress.is_ok_and(|progress| matches!(*progress, Progress::Done(_)))
    }

    /// The next slice of the body, which is empty if the compression keeps everything back, and whether it is the last. To be
    /// called when it [is ready](Self::is_ready).
    ///
    /// # Errors
    /// When the compression fails; the response cannot be completed then.
    pub fn slice(&mut self, memory: &Handle) -> io::Result<(Bytes, bool)> {
        self.plain.clear();
        if self.next == 0 {
            self.plain.extend_from_slice(scrape::BEGIN);
        }
        let progress = self.torrents.borrow();
        let rest = progress.entries().get(self.next..).unwrap_or_default();
        let slice = &rest[..rest.len().min(SLICE)];
        for entry in slice {
            if let Some(counts) = read(memory, entry) {
                scrape::entry(&mut self.plain, &entry.info_hash, counts);
            }
        }
        self.next += slice.len();
        let last = slice.len() < SLICE;
        drop(progress);
        if last {
            scrape::end(&mut self.plain, min_interval(memory.store().settings()));
        }
        self.encoder.write(&self.plain)?;
        if last {
            self.encoder.finish()?;
        }
        let body = self.encoder.output();
        if self.chunks && !body.is_empty() {
            // Writing into memory cannot fail.
            let _ = write!(self.sending, "{:x}\r\n", body.len());
            self.sending.extend_from_slice(body);
            self.sending.extend_from_slice(b"\r\n");
        } else {
            self.sending.extend_from_slice(body);
        }
        body.clear();
        if self.chunks && last {
            self.sending.extend_from_slice(b"0\r\n\r\n");
        }
        Ok((self.sending.split().freeze(), last))
    }
}

/// The counts of a torrent; `None` if it is stored no more.
fn read(memory: &Handle, entry: &Entry) -> Option<Counts> {
    for _ in 0..RETRIES {
        let swarm = memory.swarm(entry.number)?;
        let Some(version) = swarm.lock.version() else {
            std::hint::spin_loop();
            continue;
        };
        if torrent(swarm) != Some(entry.info_hash) {
            break;
        }
        let counts = swarm.counts();
        if swarm.lock.unchanged_since(version) {
            return Some(counts);
        }
    }
    // It may have come again, in another record; or this one has changed all the time.
    find_number(memory, &entry.info_hash).map(|_| counts(memory, &entry.info_hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_torrents_have_more_time() {
        let second = Duration::from_secs(1);
        let rows = [(0, 15.0), (250_000, 15.0), (1_500_000, 15.0), (1_600_000, 16.0), (20_000_000, 200.0)];
        for (torrents, seconds) in rows {
            assert_eq!(patience(torrents, 100_000, 15 * second).as_secs_f64(), seconds, "{torrents} torrents");
        }
        assert_eq!(patience(7, 0, second), 7 * second, "no rate is no division by zero");
    }
}
