//! The full scrape: every torrent stored, in one reply that is made and sent slice by slice.
//!
//! The torrents come in the order of their info_hashes, as the keys of a bencoded dictionary must;
//! a [`snapshot`](super::snapshot) has that order. Counts are read when they are sent, a few
//! hundred at a time, and between two slices the thread does its other work. A torrent that has
//! been removed since the snapshot is left out, and one that has come since is not in it. A record
//! that has passed to another torrent is not mistaken for the old one. So the order stays, and no
//! key comes twice.

use super::{
    announce::min_interval,
    counters::{TrackerCounters, TrackerEvent},
    failure::Failure,
    listing::{Format, Listed, origin},
    snapshot::{Entry, Progress, Share, torrent},
};
use crate::{
    http::{
        encoder::BodyEncoder,
        permits::Permit,
        request::Encoding,
        site::{Ready, Stream},
    },
    listen::{Network, Networks},
    store::Handle,
};
use bytes::Bytes;
use std::{io, rc::Rc, sync::Arc, time::Duration};
use tracker_common::{
    outcome::{Counter, Event},
    platform::Platform as _,
    store::{
        hash::TorrentKey,
        index::{counts, find},
        layout::{SWARM_ALIVE, SWARM_SETTLED, Swarm},
    },
};

/// Torrents per slice: a third of a millisecond with gzip, the slowest of the encodings.
const SLICE: usize = 256;

/// How often a record that is being changed is looked at again before its torrent is searched for.
const RETRIES: u32 = 64;

/// What clients may take of full scrapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullScrapeLimits {
    /// Whether `/scrape` without an info_hash lists all torrents.
    pub enabled: bool,
    /// Who is sent this list.
    pub networks: Networks,
    /// How long a client waits from one to the next; not at all if it is zero.
    pub pause: Duration,
    /// How many clients are sent this list at a time.
    pub clients: usize,
    /// How long a client may take for it; if it is long, as long as it takes at
    /// [`FullScrapeLimits::rate`].
    pub timeout: Duration,
    /// Torrents per second that a client has to take of it.
    pub rate: u32,
}

impl Default for FullScrapeLimits {
    fn default() -> Self {
        let networks = Networks::new(&[Network::All]);
        let pause = Duration::ZERO;
        Self { enabled: true, networks, pause, clients: 2, timeout: Duration::from_secs(15), rate: 100_000 }
    }
}

/// How long a client may take for a reply about so many torrents: as long as all of them need at
/// `rate` a second, and `least` at any rate.
#[must_use]
pub fn time_limit(torrents: u32, rate: u32, least: Duration) -> Duration {
    least.max(Duration::from_secs(torrents.into()) / rate.max(1))
}

/// A full scrape under way.
pub struct FullScrape {
    encoder: BodyEncoder,
    format: Format,
    origin: u64,
    torrents: Share,
    /// The next torrent to be sent, by its place in the snapshot.
    next: usize,
    plain: Vec<u8>,
    permit: Permit,
}

impl FullScrape {
    /// Begins one of the torrents of a snapshot; the head of the response is written by the engine.
    ///
    /// # Errors
    /// [`Failure::Internal`] when there is no memory for the compression.
    pub fn new(
        encoding: Encoding,
        chunks: bool,
        format: Format,
        torrents: Share,
        permit: Permit,
    ) -> Result<Self, Failure> {
        let encoder = BodyEncoder::new(encoding, chunks).map_err(|_| Failure::Internal)?;
        Ok(Self { encoder, format, origin: 0, torrents, next: 0, plain: Vec::new(), permit })
    }

    /// Waits until the order of the torrents is known. False if it will never be.
    pub async fn is_ready(&mut self) -> bool {
        let progress = self.torrents.wait_for(|progress| !matches!(progress, Progress::UnderWay)).await;
        progress.is_ok_and(|progress| matches!(*progress, Progress::Done(_)))
    }

    /// The next slice of the body, which is empty if the compression keeps everything back, and
    /// whether it is the last. To be called when it [is ready](Self::is_ready).
    ///
    /// # Errors
    /// When the compression fails; the response cannot be completed then.
    pub fn slice(&mut self, memory: &Handle) -> io::Result<(Bytes, bool)> {
        self.plain.clear();
        if self.next == 0 {
            // Not before: who is refused, or finds no memory for the order, has had nothing.
            self.permit.used();
            self.format.begin(&mut self.plain);
            self.origin = origin(memory.store().settings());
        }
        let progress = self.torrents.borrow();
        let rest = progress.entries().get(self.next..).unwrap_or_default();
        let slice = &rest[..rest.len().min(SLICE)];
        for entry in slice {
            if let Some(listed) = read(memory, entry) {
                self.format.torrent(&mut self.plain, &entry.info_hash, listed, self.origin);
            }
        }
        self.next += slice.len();
        let last = slice.len() < SLICE;
        drop(progress);
        if last {
            self.format.end(&mut self.plain, min_interval(memory.store().settings()));
        }
        Ok((self.encoder.encode(&self.plain, last)?, last))
    }
}

/// A full scrape as the engine sends it.
pub struct ScrapeStream {
    scrape: FullScrape,
    time_limit: Duration,
    memory: Rc<Handle>,
    counters: Arc<TrackerCounters>,
}

impl ScrapeStream {
    /// A full scrape that has to be taken within `time_limit`.
    #[must_use]
    pub fn new(scrape: FullScrape, time_limit: Duration, memory: Rc<Handle>, counters: Arc<TrackerCounters>) -> Self {
        Self { scrape, time_limit, memory, counters }
    }
}

impl Stream for ScrapeStream {
    fn time_limit(&self) -> Duration {
        self.time_limit
    }

    fn ready(&mut self) -> Ready<'_> {
        Box::pin(self.scrape.is_ready())
    }

    fn next(&mut self) -> io::Result<(Bytes, bool)> {
        let (slice, last) = self.scrape.slice(&self.memory)?;
        self.counters.add(TrackerEvent::FullScrapeBytes, slice.len() as u64);
        self.memory.count(Counter::Event(Event::ReplyBytes), slice.len() as u64);
        Ok((slice, last))
    }

    fn timed_out(&mut self) {
        self.counters.count(TrackerEvent::FullScrapeTimeout);
    }
}

/// The minute in which a torrent was last seen in use.
fn minute(swarm: &Swarm) -> u32 {
    swarm.active.load() & !(SWARM_ALIVE | SWARM_SETTLED)
}

/// What is known of a torrent; `None` if it is no longer stored.
fn read(memory: &Handle, entry: &Entry) -> Option<Listed> {
    for _ in 0..RETRIES {
        let swarm = memory.swarm(entry.swarm)?;
        let Some(version) = swarm.lock.version() else {
            std::hint::spin_loop();
            continue;
        };
        if torrent(swarm) != Some(entry.info_hash) {
            break;
        }
        let listed = Listed { counts: swarm.counts(), minute: minute(swarm) };
        if version.still_holds() {
            return Some(listed);
        }
    }
    // It may have come again, in another record; or this one has changed all the time.
    let cx = &memory.context();
    let torrent = TorrentKey::new(cx.settings, &entry.info_hash);
    let found = find(cx, &torrent)?;
    Some(Listed { counts: counts(cx, &torrent), minute: minute(found.record) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_torrents_have_more_time() {
        let second = Duration::from_secs(1);
        let rows = [(0, 15.0), (250_000, 15.0), (1_500_000, 15.0), (1_600_000, 16.0), (20_000_000, 200.0)];
        for (torrents, seconds) in rows {
            assert_eq!(time_limit(torrents, 100_000, 15 * second).as_secs_f64(), seconds, "{torrents} torrents");
        }
        assert_eq!(time_limit(7, 0, second), 7 * second, "no rate is no division by zero");
    }
}
