//! BEP 15 connect, and error replies.

use crate::{
    bep15::{
        connection_id::{self, Address},
        reply::Reply,
        wire::{ACTION_CONNECT, CONNECT_LEN, PROTOCOL_ID, RequestHeader},
    },
    outcome::{Event, Reason, RequestReason, StoreError},
    platform::Platform,
    scratch::Scratch,
};

/// Where the reply is built.
const AT: u32 = 128;

/// The reply to a connect request, with a connection id for its source address: two words in memory order.
///
/// # Errors
/// [`RequestReason::BadMagic`].
#[inline(always)]
pub fn connect<M: Platform>(
    memory: &M,
    request: &RequestHeader,
    source: Address,
) -> Result<[u64; CONNECT_LEN / 8], Reason> {
    if u64::from_be_bytes(request.connection_id) != PROTOCOL_ID {
        return Err(RequestReason::BadMagic.into());
    }
    let Some(settings) = memory.settings() else { return Err(StoreError::Internal.into()) };
    let transaction_id = u64::from(u32::from_le_bytes(request.transaction_id));
    Ok([u64::from(ACTION_CONNECT.to_be()) | transaction_id << 32, connection_id::issue(settings, source).to_be()])
}

/// [`connect`] for whoever sends from the scratch space.
///
/// # Errors
/// As above.
pub fn connect_reply<M: Platform>(
    memory: &M,
    scratch: &Scratch,
    request: &RequestHeader,
    source: Address,
    event: Event,
) -> Result<Reply, Reason> {
    scratch.put(AT as usize, connect(memory, request, source)?);
    Ok(Reply { start: AT, length: CONNECT_LEN as u32, peers: 0, event })
}

/// An error reply with the text that belongs to the reason; `None` for reasons that clients are not told of.
///
/// The longest one has 30 bytes, fewer than any request that can cause it ([`crate::bep15::datagram`]).
#[inline(always)]
pub fn error(scratch: &Scratch, reason: Reason, transaction_id: [u8; 4], event: Event) -> Option<Reply> {
    // Constant lengths for the verifier: a text is written in words and cut.
    let text = reason.message()?;
    let mut padded = [0_u8; TEXT_MAX];
    let mut i = 0;
    while i < TEXT_MAX {
        padded[i] = if i < text.len() { text.as_bytes()[i] } else { 0 };
        i += 1;
    }
    scratch.put(AT as usize, crate::bep15::wire::ACTION_ERROR.to_be_bytes());
    scratch.put(AT as usize + 4, transaction_id);
    scratch.put(AT as usize + 8, padded);
    Some(Reply { start: AT, length: 8 + text.len() as u32, peers: 0, event })
}

/// The longest error text.
pub const TEXT_MAX: usize = 24;
