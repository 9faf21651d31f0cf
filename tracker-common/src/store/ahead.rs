//! Looking ahead: bringing what announces and scrapes will need nearer to the processor, for
//! several at a time.
//!
//! A search goes from bucket to record to partition to peers, and each of these waits for memory
//! before it knows where the next one is. The searches of different requests do not wait for each
//! other, so whoever has several at hand takes the first step of all, then the second of all, and
//! answers them when everything is there. Nothing is decided here: what is found may be outdated,
//! or another torrent's with the same tag, and is looked for again by whoever answers.
//!
//! For sockets, which receive requests in batches; the XDP program is given one packet at a time.

use super::{
    asking, directory,
    family::Family,
    hash::TorrentKey,
    layout::{Partition, Swarm},
    linear_hash::partition_of,
    list,
};
use crate::{
    codegen::prefetch,
    id::InfoHash,
    platform::{Context, Platform},
};

/// A torrent that is looked for.
pub struct Search<'m> {
    torrent: TorrentKey,
    swarm: Option<&'m Swarm>,
    partition: Option<&'m Partition>,
}

impl<'m> Search<'m> {
    /// Begins: the torrent's bucket.
    #[inline(always)]
    #[must_use]
    pub fn new<P: Platform>(cx: &Context<'m, P>, info_hash: &InfoHash) -> Self {
        let torrent = TorrentKey::new(cx.settings, info_hash);
        asking::ask_for(cx, &torrent);
        Self { torrent, swarm: None, partition: None }
    }

    /// The bucket is there: the torrent's record.
    #[inline(always)]
    pub fn record<P: Platform>(&mut self, cx: &Context<'m, P>) {
        // Both lines of it have been asked for by then.
        self.swarm = cx.platform.swarm(asking::guess(cx.platform, &self.torrent));
    }

    /// The record is there: the partition that this peer is in, if there are partitions.
    #[inline(always)]
    pub fn partition<P: Platform, F: Family>(&mut self, cx: &Context<'m, P>, peer: F::Key) {
        let Some(swarm) = self.swarm else { return };
        let Some(partitions) = F::partitions(swarm) else { return };
        let index = partition_of(F::hash(cx.settings, peer), partitions);
        self.partition =
            directory::find::<P, F>(cx.platform, swarm, index, partitions).and_then(|id| cx.platform.partition(id));
        if let Some(partition) = self.partition {
            prefetch(partition);
        }
    }

    /// The partition is there: its peers, or those of the list that the record names.
    #[inline(always)]
    pub fn peers<P: Platform, F: Family>(&self, cx: &Context<'m, P>) {
        match (self.partition, self.swarm) {
            (Some(partition), _) => list::prefetch::<P, F, _>(cx.platform, partition),
            (None, Some(swarm)) if F::is_list(swarm) => list::prefetch::<P, F, _>(cx.platform, swarm),
            _ => {}
        }
    }
}
