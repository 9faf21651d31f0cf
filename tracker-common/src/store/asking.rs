//! Asking for records: having the processor bring nearer what a request will need, before that, and without
//! waiting for it ([`Word::ask_for`](crate::word::Word::ask_for)).

use super::{
    hash::TorrentKey,
    index::place,
    layout::{Bucket, NUMBER_BITS, Partition, Swarm},
};
use crate::{
    id::SwarmId,
    platform::{Context, Platform},
};

impl Swarm {
    /// Asks for both lines of the record.
    #[inline(always)]
    fn ask_for(&self) {
        self.lock.ask_for();
        // Of a peer's generation, or of a partition's or chunk's number.
        self.v6[5].ask_for(NUMBER_BITS as usize / 8);
    }
}

impl Partition {
    /// Asks for the partition's record.
    #[inline(always)]
    pub(super) fn ask_for(&self) {
        self.lock.ask_for();
    }
}

/// Whether the processor is to bring the torrent nearer.
#[inline(always)]
fn may_ask_for<P: Platform>(cx: &Context<'_, P>, torrent: &TorrentKey) -> bool {
    !P::ASKING_TAKES || cx.scratch.asking.may_ask_for(torrent.hash())
}

/// Whether it was to, in the kernel: then the same goes for what the torrent's record leads to.
#[inline(always)]
pub(super) fn was_asked_for<P: Platform>(cx: &Context<'_, P>) -> bool {
    P::ASKING_TAKES && cx.scratch.asking.asked()
}

/// Asks for the record at a place of a bucket.
#[inline(always)]
fn ask_at(bucket: &Bucket, number: u32, place: u32) {
    if let Some(record) = bucket.swarm(number, place) {
        record.ask_for();
    }
}

/// Has the processor bring nearer what a search for the torrent looks at first, without waiting for it.
#[inline(always)]
pub fn ask_for<P: Platform>(cx: &Context<'_, P>, torrent: &TorrentKey) {
    let number = torrent.bucket(0);
    if may_ask_for(cx, torrent)
        && let Some(bucket) = cx.platform.bucket(number)
    {
        bucket.header(number).ask_for_tags();
        ask_at(bucket, number, torrent.likely_place());
    }
}

/// Looks for the torrent's tag in its home bucket, and has the processor bring the record nearer that
/// it stands for, without waiting for that: who has other things to do first finds it there
/// ([`super::index::find_at`]).
#[inline(always)]
pub fn look_ahead<P: Platform>(cx: &Context<'_, P>, torrent: &TorrentKey) -> SwarmId {
    let number = torrent.bucket(0);
    let Some(bucket) = cx.platform.bucket(number) else { return SwarmId::at(number, 0) };
    let ask = may_ask_for(cx, torrent);
    // Where it probably is, while its tag is not there yet; and where that says.
    if ask {
        ask_at(bucket, number, torrent.likely_place());
    }
    let place = place(torrent, bucket.header(number));
    if ask {
        ask_at(bucket, number, place);
    }
    SwarmId::at(number, place)
}

/// The same for who looks several torrents up and has asked for all of them ([`ask_for`]): only a record
/// that is not where it was likely to be is asked for now.
#[inline(always)]
pub fn guess<P: Platform>(platform: &P, torrent: &TorrentKey) -> SwarmId {
    let number = torrent.bucket(0);
    let Some(bucket) = platform.bucket(number) else { return SwarmId::at(number, 0) };
    let place = place(torrent, bucket.header(number));
    if place != torrent.likely_place() {
        ask_at(bucket, number, place);
    }
    SwarmId::at(number, place)
}
