//! BEP 15 scrape.

use super::{
    connect::is_connected,
    connection_id::IpKey,
    reply::Reply,
    wire::{ACTION_SCRAPE, HEADER_LEN, REPLY_HEADER_LEN, RequestHeader, SCRAPE_ENTRY_LEN, SCRAPE_MAX},
};
use crate::{
    id::{InfoHash, SwarmId},
    limits::{self, table::Kind},
    outcome::{Event, RequestReason},
    platform::{Context, Platform, Step},
    scratch::{ASKED_FOR, HASHES_AT, SCRATCH_BYTES, Scratch},
    store::{asking, hash::TorrentKey, index},
    word::Word,
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

const _: () = assert!(SCRAPE_MAX < 128 && 128_usize.is_multiple_of(ASKED_FOR));

/// Looks up [`ASKED_FOR`] torrents in one turn of the loop. Each takes a wait for memory or two, and so
/// they wait together: the records of all are asked for, and then their counts are read.
struct Group {
    /// How many there are. All fields have 8 bytes, as those of all loop bodies.
    count: u64,
}

impl Group {
    /// Does something for each torrent of a turn: with its number, and the word that is kept for it
    /// meanwhile. False if that ended it.
    #[inline(always)]
    fn each(&self, scratch: &Scratch, turn: u32, mut work: impl FnMut(usize, &InfoHash, &Word)) -> bool {
        // The mask changes nothing, but the verifier wants to see it.
        let first = (turn as usize * ASKED_FOR) & 127;
        for (number, word) in (first..).zip(&scratch.guesses) {
            if number >= self.count as usize {
                break;
            }
            let Some(info_hash) = scratch.get(HASHES_AT + number * 20) else { return false };
            work(number, &info_hash, word);
        }
        true
    }
}

impl<P: Platform> Step<P> for Group {
    #[inline(always)]
    fn step(&mut self, platform: &P, turn: u32) -> bool {
        let Ok(cx) = Context::new(platform) else { return false };
        self.each(cx.scratch, turn, |_, info_hash, word| {
            let torrent = TorrentKey::new(cx.settings, info_hash);
            asking::ask_for(&cx, &torrent);
            word.store(torrent.hash());
        }) && self.each(cx.scratch, turn, |_, info_hash, word| {
            let torrent = TorrentKey::from_hash(cx.settings, info_hash, word.load());
            word.store(u64::from(asking::guess(platform, &torrent).number()));
        }) && self.each(cx.scratch, turn, |number, info_hash, word| {
            let torrent = TorrentKey::from_hash(cx.settings, info_hash, 0);
            let guess = SwarmId::new(word.load() as u32);
            let counts = index::counts_at(&cx, &torrent, guess, HASHES_AT + number * 20);
            let at = AT as usize + REPLY_HEADER_LEN + number * SCRAPE_ENTRY_LEN;
            cx.scratch.put(at, counts.seeders.to_be_bytes());
            cx.scratch.put(at + 4, counts.completed.to_be_bytes());
            cx.scratch.put(at + 8, counts.leechers.to_be_bytes());
        })
    }
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
    cx.platform.repeat(count.div_ceil(ASKED_FOR as u32), &mut Group { count: u64::from(count) });
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
