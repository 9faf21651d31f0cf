//! From reply bytes to a frame: headers turned around, lengths, checksums.

use crate::{
    maps::Held,
    network::{Flow, Network},
    packet::Packet,
};
use tracker_common::{
    memory::Memory,
    outcome::{Counter, Event, Reason},
    reply::{Reply, Unaligned},
    wire::{ANNOUNCE_REPLY_LEN, CONNECT_LEN},
};

/// Shortest Ethernet frame, without its checksum: shorter ones are padded anyway.
const FRAME_MIN: usize = 60;

/// Turns the packet into one that carries the reply.
///
/// # Errors
/// [`Reason::NoRoom`].
#[inline(always)]
pub(crate) fn send<N: Network, const HURRIED: bool>(
    held: &Held<HURRIED>,
    packet: &Packet,
    l2: usize,
    reply: Reply,
) -> Result<(), Reason> {
    let Some(flow) = Flow::<N>::read(packet, l2) else { return Err(Reason::HeaderTruncated) };
    let headers = l2 + N::HEADERS;
    let mut room = packet.length() - headers;
    let mut length = reply.length as usize;
    if length > room {
        room += packet.grow((length - room) as u32) as usize;
        if length > room {
            // Only announce replies are longer than their requests: fewer peers.
            length = ANNOUNCE_REPLY_LEN + (room - ANNOUNCE_REPLY_LEN) / N::PEER * N::PEER;
            held.event(Event::RepliesShortened);
        }
    }
    let Some(sum) = packet.write(headers, held.space(), reply.start as usize, length) else {
        return Err(Reason::NoRoom);
    };
    finish(held, packet, &flow, l2, length, sum, headers + room)
}

/// Turns the packet into the reply to a connect request.
///
/// # Errors
/// [`Reason::NoRoom`].
#[inline(always)]
pub(crate) fn send_connect<N: Network>(
    held: &Held<false>,
    packet: &Packet,
    l2: usize,
    reply: [u64; CONNECT_LEN / 8],
) -> Result<(), Reason> {
    let Some(flow) = Flow::<N>::read(packet, l2) else { return Err(Reason::HeaderTruncated) };
    let Some(payload) = packet.at_mut(l2 + N::HEADERS) else { return Err(Reason::NoRoom) };
    *payload = reply.map(Unaligned);
    let sum = reply.iter().fold(0, |sum, word| sum + (word & 0xffff_ffff) + (word >> 32));
    finish(held, packet, &flow, l2, CONNECT_LEN, sum, packet.length())
}

/// Writes the headers in front of a payload with this length and sum of 16-bit words, and takes off what the frame has more.
#[inline(always)]
fn finish<N: Network, const HURRIED: bool>(
    held: &Held<HURRIED>,
    packet: &Packet,
    flow: &Flow<N>,
    l2: usize,
    length: usize,
    sum: u64,
    frame: usize,
) -> Result<(), Reason> {
    let Some(()) = flow.write_reply(packet, l2, length, sum) else { return Err(Reason::NoRoom) };
    held.count(Counter::Event(Event::ReplyBytes), length as u64);
    let end = l2 + N::HEADERS + length;
    if frame > end && frame > FRAME_MIN && !packet.shrink((frame - end) as u32) {
        return Err(Reason::NoRoom);
    }
    Ok(())
}
