//! BEP 15 scrape.

use crate::{
    bep15::{
        connection_id::{self, Address},
        reply::Reply,
        wire::{ACTION_SCRAPE, HEADER_LEN, REPLY_HEADER_LEN, RequestHeader, SCRAPE_ENTRY_LEN, SCRAPE_MAX},
    },
    id::InfoHash,
    outcome::{Event, Reason, RequestReason, StoreError},
    platform::{Platform, Step},
    scratch::{HASHES_AT, SCRATCH_BYTES, Scratch},
    store::index::counts,
};

/// Where the reply is built.
const AT: u32 = 128;

const _: () = assert!(AT as usize + REPLY_HEADER_LEN + SCRAPE_MAX * SCRAPE_ENTRY_LEN <= HASHES_AT);

const _: () = assert!(HASHES_AT + SCRAPE_MAX * 20 + 8 <= SCRATCH_BYTES);

/// How many info_hashes a scrape request of `length` bytes carries, as far as they are answered. A trailing fragment is
/// ignored.
#[inline(always)]
#[must_use]
pub fn hashes(length: usize) -> u32 {
    let count = (length - HEADER_LEN) as u32 / 20;
    if count > SCRAPE_MAX as u32 { SCRAPE_MAX as u32 } else { count }
}

struct Entry;

impl<M: Platform> Step<M> for Entry {
    #[inline(always)]
    fn step(&mut self, memory: &M, turn: u32) -> bool {
        let Some(scratch) = memory.scratch() else { return false };
        let Some(info_hash) = scratch.get::<InfoHash>(HASHES_AT + (turn as usize & 127) * 20) else { return false };
        let counts = counts(memory, &info_hash);
        let at = AT as usize + REPLY_HEADER_LEN + (turn as usize & 127) * SCRAPE_ENTRY_LEN;
        scratch.put(at, counts.seeders.to_be_bytes());
        scratch.put(at + 4, counts.completed.to_be_bytes());
        scratch.put(at + 8, counts.leechers.to_be_bytes());
        true
    }
}

/// Answers a scrape of the `count` (at most [`SCRAPE_MAX`]) info_hashes at [`HASHES_AT`]. One of none gets a reply with nothing
/// behind its header, as from opentracker.
///
/// # Errors
/// [`RequestReason::ConnectionIdWrong`].
#[inline(always)]
pub fn scrape<M: Platform>(
    memory: &M,
    scratch: &Scratch,
    request: &RequestHeader,
    source: Address,
    count: u32,
    event: Event,
) -> Result<Reply, Reason> {
    let Some(settings) = memory.settings() else { return Err(StoreError::Internal.into()) };
    if !connection_id::accept(settings, source, u64::from_be_bytes(request.connection_id)) {
        return Err(RequestReason::ConnectionIdWrong.into());
    }
    scratch.put(AT as usize, ACTION_SCRAPE.to_be_bytes());
    scratch.put(AT as usize + 4, request.transaction_id);
    memory.repeat(count, &mut Entry);
    Ok(Reply { start: AT, length: (REPLY_HEADER_LEN as u32) + count * SCRAPE_ENTRY_LEN as u32, peers: 0, event })
}
