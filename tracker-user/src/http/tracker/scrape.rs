//! Answering a scrape of named torrents by HTTP (BEP 48).

use super::{announce::min_interval, bencode::integer};
use crate::store::Handle;
use tracker_common::{
    id::InfoHash,
    store::{hash::TorrentKey, index::counts, layout::Counts},
};

/// Appends the reply about `hashes`, which are sorted and different. Torrents that are not stored
/// have zeros, as by UDP. The length of a request bounds how many there can be.
pub fn answer(memory: &Handle, hashes: &[InfoHash], out: &mut Vec<u8>) {
    let cx = &memory.context();
    out.extend_from_slice(BEGIN);
    for info_hash in hashes {
        entry(out, info_hash, counts(cx, &TorrentKey::new(cx.settings, info_hash)));
    }
    end(out, min_interval(cx.settings));
}

/// What a reply begins with.
pub const BEGIN: &[u8] = b"d5:filesd";

/// Appends one torrent. Inlined, because a full scrape does this for each of millions of torrents.
#[inline(always)]
pub fn entry(out: &mut Vec<u8>, info_hash: &InfoHash, counts: Counts) {
    out.extend_from_slice(b"20:");
    out.extend_from_slice(info_hash);
    out.extend_from_slice(b"d8:complete");
    integer(out, counts.seeders.into());
    out.extend_from_slice(b"10:downloaded");
    integer(out, counts.completed.into());
    out.extend_from_slice(b"10:incomplete");
    integer(out, counts.leechers.into());
    out.push(b'e');
}

/// Appends what a reply ends with; `interval` is the number of seconds to wait until the next
/// scrape.
pub fn end(out: &mut Vec<u8>, interval: u32) {
    out.extend_from_slice(b"e5:flagsd20:min_request_interval");
    integer(out, interval.into());
    out.extend_from_slice(b"ee");
}
