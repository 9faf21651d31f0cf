//! From reply bytes to a frame: headers turned around, lengths, checksums.

use crate::{
    maps::Held,
    network::{Flow, Network},
    packet::Packet,
    trace::{self, Place},
};
use aya_ebpf::bindings::xdp_action::XDP_TX;
use tracker_common::{
    bep15::{
        reply::Reply,
        wire::{ANNOUNCE_REPLY_LEN, CONNECT_LEN},
    },
    outcome::{Counter, Event, FrameReason, Reason, StoreError},
    platform::Platform,
    scratch::Unaligned,
    settings::Settings,
};

/// Shortest Ethernet frame, without its checksum: shorter ones are padded anyway.
const FRAME_MIN: usize = 60;

/// Turns the packet into one that carries the reply.
///
/// # Errors
/// [`FrameReason::NoRoom`].
#[inline(always)]
pub(crate) fn send<N: Network, const HURRIED: bool>(
    held: &Held<HURRIED>,
    packet: &Packet,
    l2: usize,
    mut reply: Reply,
) -> Result<(), Reason> {
    let Some(flow) = Flow::<N>::read(packet, l2) else { return Err(FrameReason::HeaderTruncated.into()) };
    let headers = l2 + N::HEADERS;
    let scratch = held.space();
    let mut room = packet.length() - headers;
    let mut length = reply.length as usize;
    // Only announce replies are longer than their requests.
    if length > room {
        let link = (scratch.handover.mtu.load() as usize).wrapping_sub(N::HEADERS);
        let most = if length > link { link } else { length };
        if most > room {
            let more = (most - room) as u32;
            room += if packet.grow(more) {
                more as usize
            } else {
                let least = enough::<N>(held.known(), most).saturating_sub(room as u32);
                let Some(grown) = packet.grow_at_both_ends(more, least) else { return Err(FrameReason::NoRoom.into()) };
                grown as usize
            };
        }
        // Here and below, not once behind both: every way on from there would be looked at twice by the verifier.
        trace::packet(held.known(), packet, Counter::Event(reply.event), XDP_TX, Place::Checked);
        if length > room || length > most {
            let room = if room < most { room } else { most };
            reply.peers = ((room - ANNOUNCE_REPLY_LEN) / N::PEER) as u32;
            length = ANNOUNCE_REPLY_LEN + reply.peers as usize * N::PEER;
            held.event(Event::RepliesShortened);
        }
        reply.length = length as u32;
    } else {
        trace::packet(held.known(), packet, Counter::Event(reply.event), XDP_TX, Place::Beginning);
    }
    reply.count(held);
    // However the numbers came about, to the verifier there is one way on from here.
    let (start, length) = (scratch.forget(reply.start) as usize, scratch.forget(reply.length) as usize);
    let room = scratch.forget(room as u32) as usize;
    let Some(sum) = packet.write(headers, scratch, start, length) else { return Err(StoreError::Internal.into()) };
    finish(packet, &flow, l2, length, sum, headers + room)
}

/// A reply of `most` bytes need have only so many: those of the default number of peers. If there are more peers and not even
/// these fit, the sockets answer.
#[inline(always)]
fn enough<N: Network>(settings: &Settings, most: usize) -> u32 {
    let usual = ANNOUNCE_REPLY_LEN as u32 + settings.want_default.load() * N::PEER as u32;
    if (most as u32) < usual { most as u32 } else { usual }
}

/// Turns the packet into the reply to a connect request.
///
/// # Errors
/// [`FrameReason::NoRoom`].
#[inline(always)]
pub(crate) fn send_connect<N: Network>(
    held: &Held<false>,
    packet: &Packet,
    l2: usize,
    reply: [u64; CONNECT_LEN / 8],
) -> Result<(), Reason> {
    let Some(flow) = Flow::<N>::read(packet, l2) else { return Err(FrameReason::HeaderTruncated.into()) };
    trace::packet(held.known(), packet, Counter::Event(Event::connect(N::VERSION)), XDP_TX, Place::Beginning);
    let Some(payload) = packet.at_mut(l2 + N::HEADERS) else { return Err(StoreError::Internal.into()) };
    *payload = reply.map(Unaligned);
    let sum = reply.iter().fold(0, |sum, word| sum + (word & 0xffff_ffff) + (word >> 32));
    held.event(Event::connect(N::VERSION));
    held.count(Counter::Event(Event::ReplyBytes), CONNECT_LEN as u64);
    finish(packet, &flow, l2, CONNECT_LEN, sum, packet.length())
}

/// Writes the headers in front of a payload with this length and sum of 16-bit words, and takes off what the frame has more.
#[inline(always)]
fn finish<N: Network>(
    packet: &Packet,
    flow: &Flow<N>,
    l2: usize,
    length: usize,
    sum: u64,
    frame: usize,
) -> Result<(), Reason> {
    let Some(()) = flow.write_reply(packet, l2, length, sum) else { return Err(StoreError::Internal.into()) };
    let end = l2 + N::HEADERS + length;
    if frame > end && frame > FRAME_MIN && !packet.shrink((frame - end) as u32) {
        return Err(FrameReason::NoRoom.into());
    }
    Ok(())
}
