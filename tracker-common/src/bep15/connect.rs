//! BEP 15 connect, and error replies.

use super::{
    connection_id::{self, IpKey},
    reply::Reply,
    wire::{ACTION_CONNECT, ACTION_ERROR, CONNECT_LEN, PROTOCOL_ID, RequestHeader},
};
use crate::{
    limits::{self, table::Kind},
    outcome::{Event, IpVersion, Reason, RequestReason, StoreError},
    platform::{ColdPath, Context, Platform},
    scratch::Scratch,
};

/// Where the reply is built.
const AT: u32 = 128;

/// The reply to a connect request, with a connection id for its source address: two words in memory
/// order.
///
/// # Errors
/// [`RequestReason::BadMagic`], and those of [`limits::admit`].
#[inline(always)]
pub fn connect<P: Platform>(
    cx: &Context<'_, P>,
    request: &RequestHeader,
    source: IpKey,
) -> Result<[u64; CONNECT_LEN / 8], RequestReason> {
    if u64::from_be_bytes(request.connection_id) != PROTOCOL_ID {
        return Err(RequestReason::BadMagic);
    }
    limits::admit(cx, Kind::Connect, source)?;
    let transaction_id = u64::from(u32::from_le_bytes(request.transaction_id));
    Ok([u64::from(ACTION_CONNECT.to_be()) | transaction_id << 32, connection_id::issue(cx.settings, source).to_be()])
}

/// Whether a connection id was issued to `source`, here or by a network card.
#[inline(always)]
#[must_use]
pub fn is_connected<P: Platform>(cx: &Context<'_, P>, source: IpKey, id: [u8; 8]) -> bool {
    let id = u64::from_be_bytes(id);
    if connection_id::accept(cx.settings, source, id) {
        return true;
    }
    cx.settings.card.load() != 0 && cx.platform.run_cold(ColdPath::CardId(source, id)) == Ok(1)
}

/// [`connect`] for a caller that sends from the scratch space.
///
/// # Errors
/// As above.
pub fn answer<P: Platform>(
    cx: &Context<'_, P>,
    request: &RequestHeader,
    source: IpKey,
) -> Result<Reply, RequestReason> {
    cx.scratch.put(AT as usize, connect(cx, request, source)?);
    Ok(Reply { start: AT, length: CONNECT_LEN as u32, peers: 0, event: Event::connect(source.version()) })
}

/// An error reply with the text that belongs to the reason; `None` for reasons that clients are not
/// told of.
///
/// The longest one has 30 bytes, fewer than any request that can cause it ([`super::datagram`]).
#[inline(always)]
pub fn error(scratch: &Scratch, reason: Reason, transaction_id: [u8; 4], version: IpVersion) -> Option<Reply> {
    // Constant lengths for the verifier: a text is written in words and cut. Constant words,
    // because a text that is copied is copied byte by byte.
    let text = reason.message()?;
    let padded = match reason {
        Reason::Request(RequestReason::PortZero) => const { padded(RequestReason::PortZero.message()) },
        Reason::Store(StoreError::Denied | StoreError::NotAllowed) => const { padded(StoreError::Denied.message()) },
        Reason::Store(StoreError::AddressBusy) => const { padded(StoreError::AddressBusy.message()) },
        Reason::Store(_) => const { padded(StoreError::TorrentsFull.message()) },
        Reason::Frame(_) | Reason::Request(_) => const { padded(RequestReason::ConnectionIdWrong.message()) },
    };
    scratch.put(AT as usize, ACTION_ERROR.to_be_bytes());
    scratch.put(AT as usize + 4, transaction_id);
    scratch.put(AT as usize + 8, padded.map(u64::to_le));
    Some(Reply { start: AT, length: 8 + text.len() as u32, peers: 0, event: Event::error(version) })
}

/// The longest error text, in bytes.
pub const TEXT_MAX: usize = 24;

/// An error text in little-endian words, zeros behind it.
const fn padded(text: Option<&str>) -> [u64; TEXT_MAX / 8] {
    let Some(text) = text else { return [0; TEXT_MAX / 8] };
    let mut words = [0; TEXT_MAX / 8];
    let mut i = 0;
    while i < text.len() {
        words[i / 8] |= (text.as_bytes()[i] as u64) << (i % 8 * 8);
        i += 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{HostSizes, HostStore};

    const NOTHING: HostSizes = HostSizes { index_buckets: 1, swarms: 1, partitions: 0, chunks_v4: 0, chunks_v6: 0 };

    #[test]
    fn clients_are_told_the_text_of_each_reason_that_has_one() {
        let store = HostStore::new(&NOTHING, 1);
        let platform = store.platform(1);
        for reason in Reason::all() {
            let reply = error(platform.context().scratch, reason, *b"tran", IpVersion::V4);
            let told = reply.map(|reply| platform.bytes(reply.start, reply.length).expect("a reply"));
            let expected = reason.message().map(|text| [&[0, 0, 0, 3], &b"tran"[..], text.as_bytes()].concat());
            assert_eq!(told, expected, "{reason:?}");
        }
    }
}
