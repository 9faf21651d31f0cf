//! BEP 15 scrape.

use super::{
    connect::is_connected,
    connection_id::IpKey,
    reply::Reply,
    wire::{ACTION_SCRAPE, HEADER_LEN, REPLY_HEADER_LEN, RequestHeader, SCRAPE_ENTRY_LEN, SCRAPE_MAX},
};
use crate::{
    id::InfoHash,
    limits::{self, table::Kind},
    outcome::{Event, RequestReason},
    platform::{Context, Platform, Step},
    scratch::{HASHED, HASHES_AT, SCRATCH_BYTES, Scratch},
    store::{hash::TorrentKey, index},
};

/// Where the reply is built.
const AT: u32 = 128;

const _: () = assert!(AT as usize + REPLY_HEADER_LEN + SCRAPE_MAX * SCRAPE_ENTRY_LEN <= HASHES_AT);
const _: () = assert!(HASHES_AT + SCRAPE_MAX * 20 + 8 <= SCRATCH_BYTES);

/// How many info_hashes a scrape request of `length` bytes carries, as far as they are answered. A
/// trailing fragment is ignored.
#[inline(always)]
#[must_use]
pub fn hashes(length: usize) -> u32 {
    let count = (length - HEADER_LEN) as u32 / 20;
    if count > SCRAPE_MAX as u32 { SCRAPE_MAX as u32 } else { count }
}

const _: () = assert!(SCRAPE_MAX < 128 && 128_usize.is_multiple_of(HASHED));

/// Looks up [`HASHED`] torrents in one turn of the loop. Each takes a wait for memory, and so they
/// wait together.
struct Group {
    /// How many there are. All fields have 8 bytes, as those of all loop bodies.
    count: u64,
}

impl<P: Platform> Step<P> for Group {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let Ok(cx) = Context::new(platform) else { return false };
        // The mask changes nothing, but the verifier wants to see it.
        let first = (turn as usize * HASHED) & 127;
        let count = self.count as usize;
        for (number, hash) in (first..).zip(&cx.scratch.hashes) {
            if number >= count {
                break;
            }
            let Some(info_hash) = info_hash(cx.scratch, number) else { return false };
            let torrent = TorrentKey::new(cx.settings, &info_hash);
            index::prefetch(platform, &torrent);
            hash.store(torrent.hash());
        }
        for (number, hash) in (first..).zip(&cx.scratch.hashes) {
            if number >= count {
                break;
            }
            let Some(info_hash) = info_hash(cx.scratch, number) else { return false };
            let counts = index::counts(&cx, &TorrentKey::from_hash(cx.settings, &info_hash, hash.load()));
            let at = AT as usize + REPLY_HEADER_LEN + number * SCRAPE_ENTRY_LEN;
            cx.scratch.put(at, counts.seeders.to_be_bytes());
            cx.scratch.put(at + 4, counts.completed.to_be_bytes());
            cx.scratch.put(at + 8, counts.leechers.to_be_bytes());
        }
        true
    }
}

#[inline(always)]
fn info_hash(scratch: &Scratch, number: usize) -> Option<InfoHash> {
    scratch.get(HASHES_AT + number * 20)
}

/// Answers a scrape of the `count` (at most [`SCRAPE_MAX`]) info_hashes at [`HASHES_AT`]. One of
/// none gets a reply with nothing behind its header, as from opentracker.
///
/// # Errors
/// Those of [`limits::wrong_id`] and [`limits::admit`].
#[inline(always)]
pub fn answer<P: Platform>(
    cx: &Context<'_, P>,
    request: &RequestHeader,
    source: IpKey,
    count: u32,
) -> Result<Reply, RequestReason> {
    if !is_connected(cx, source, request.connection_id) {
        return Err(limits::wrong_id(cx));
    }
    limits::admit(cx, Kind::Scrape, source)?;
    cx.scratch.put(AT as usize, ACTION_SCRAPE.to_be_bytes());
    cx.scratch.put(AT as usize + 4, request.transaction_id);
    cx.platform.repeat(count.div_ceil(HASHED as u32), &mut Group { count: u64::from(count) });
    Ok(Reply {
        start: AT,
        length: REPLY_HEADER_LEN as u32 + count * SCRAPE_ENTRY_LEN as u32,
        peers: 0,
        event: Event::scrape(source.version()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn info_hashes_are_counted_without_fragments_and_up_to_the_limit() {
        // (bytes, info_hashes)
        for (length, expected) in [(16, 0), (35, 0), (36, 1), (55, 1), (56, 2), (16 + 74 * 20, 74), (16 + 75 * 20, 74)]
        {
            assert_eq!(hashes(length), expected, "{length}");
        }
    }
}
