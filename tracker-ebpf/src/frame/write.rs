//! From reply bytes to a frame: headers turned around, lengths, checksums.

use super::{
    grow,
    headers::{Headers, Network},
    packet::Packet,
};
use crate::{
    kernel::Kernel,
    trace::{self, FrameStart},
};
use aya_ebpf::bindings::xdp_action::XDP_TX;
use core::marker::PhantomData;
use tracker_common::{
    bep15::{
        connect::error,
        reply::Reply,
        wire::{ANNOUNCE_REPLY_LEN, CONNECT_LEN},
    },
    net::{
        checksum,
        headers::{ETHER_IPV4, ETHER_IPV6, Ethernet, FrameHead, PROTOCOL_UDP, Udp},
    },
    outcome::{Counter, Event, FrameReason, Reason, StoreError},
    platform::{Context, Platform as _},
    scratch::Unaligned,
    settings::Settings,
};

/// Shortest Ethernet frame, without its checksum: shorter ones are padded anyway.
const FRAME_MIN: usize = 60;

/// Whose request to whom it was: read before the packet is given another length, which may also
/// happen in front.
struct Flow<N> {
    /// Where the network layer begins.
    l2: usize,
    /// Its MAC addresses exchanged; then the VLAN tag, if there is one, or what is there instead.
    head: FrameHead,
    source: [u64; 2],
    destination: [u64; 2],
    source_port: [u8; 2],
    destination_port: [u8; 2],
    family: PhantomData<N>,
}

/// A payload that has been written into the packet.
struct Payload {
    /// Bytes.
    length: usize,
    /// The sum of its 16-bit words.
    sum: u64,
}

impl<N: Network> Flow<N> {
    /// Reads the headers, of which the network layer begins at `l2`.
    #[inline(always)]
    fn read(packet: &Packet, l2: usize) -> Option<Self> {
        let head: &FrameHead = packet.at(0)?;
        let headers: &Headers<N::Ip> = packet.at(l2)?;
        let [source, destination] = N::addresses(&headers.ip);
        Some(Self {
            l2,
            head: head.turned(),
            source,
            destination,
            source_port: headers.udp.source,
            destination_port: headers.udp.destination,
            family: PhantomData,
        })
    }

    /// Writes the headers of the reply in front of the payload.
    #[inline(always)]
    fn write_headers(&self, packet: &Packet, payload: &Payload) -> Option<()> {
        let length = payload.length + size_of::<Udp>();
        *packet.at_mut(0)? = self.head;
        if self.l2 > size_of::<Ethernet>() {
            *packet.at_mut(size_of::<FrameHead>())? = if N::IS_V6 { ETHER_IPV6 } else { ETHER_IPV4 };
        }

        let ip = N::ip_header(self.destination, self.source, length);
        let mut sum = payload.sum;
        for word in [self.source, self.destination].as_flattened() {
            sum = checksum::add_word(sum, *word);
        }
        let lengths = (length as u16).to_be_bytes();
        // The pseudo header (RFC 768, RFC 8200) and the UDP header, in both of which the length
        // stands.
        for pair in [[0, PROTOCOL_UDP], lengths, lengths, self.source_port, self.destination_port] {
            sum += u64::from(u16::from_ne_bytes(pair));
        }
        let udp = Udp {
            source: self.destination_port,
            destination: self.source_port,
            length: lengths,
            checksum: checksum::finish_udp(sum),
        };
        *packet.at_mut(self.l2)? = Headers { ip, udp };
        Some(())
    }

    /// Writes the headers, and takes off what a frame of `frame` bytes has behind the payload.
    #[inline(always)]
    fn finish(&self, packet: &Packet, payload: &Payload, frame: usize) -> Result<(), Reason> {
        let Some(()) = self.write_headers(packet, payload) else { return Err(StoreError::Internal.into()) };
        let end = self.l2 + N::HEADERS + payload.length;
        if frame > end && frame > FRAME_MIN && !packet.shrink((frame - end) as u32) {
            return Err(FrameReason::NoRoom.into());
        }
        Ok(())
    }
}

/// Turns the packet into one that carries the reply, or the error text that belongs to the reason.
///
/// # Errors
/// [`FrameReason::NoRoom`], and the reason if clients are not told of it.
#[inline(always)]
pub(crate) fn answer<N: Network>(
    cx: &Context<'_, Kernel>,
    packet: &Packet,
    l2: usize,
    result: Result<Reply, Reason>,
    transaction_id: [u8; 4],
) -> Result<(), Reason> {
    let reply = match result {
        Ok(reply) => reply,
        Err(reason) => match error(cx.scratch, reason, transaction_id, N::VERSION) {
            Some(reply) => {
                cx.platform.reason(reason);
                cx.scratch.refused.store(Counter::Reason(reason).index() as u32);
                reply
            }
            None => return Err(reason),
        },
    };
    send::<N>(cx, packet, l2, reply)
}

/// Turns the packet into one that carries the reply.
///
/// # Errors
/// [`FrameReason::NoRoom`].
#[inline(always)]
pub(crate) fn send<N: Network>(
    cx: &Context<'_, Kernel>,
    packet: &Packet,
    l2: usize,
    mut reply: Reply,
) -> Result<(), Reason> {
    let Some(flow) = Flow::<N>::read(packet, l2) else { return Err(FrameReason::HeaderTruncated.into()) };
    let headers = l2 + N::HEADERS;
    let scratch = cx.scratch;
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
                let least = enough::<N>(cx.settings, most).saturating_sub(room as u32);
                let Some(grown) = grow::at_both_ends(packet, more, least) else {
                    return Err(FrameReason::NoRoom.into());
                };
                grown as usize
            };
        }
        // Here and below, not once behind both: every way on from there would be looked at twice by
        // the verifier.
        trace::packet(cx.settings, packet, Counter::Event(reply.event), XDP_TX, FrameStart::BehindGrowth);
        if length > room || length > most {
            let room = if room < most { room } else { most };
            reply.peers = ((room - ANNOUNCE_REPLY_LEN) / N::PEER) as u32;
            length = ANNOUNCE_REPLY_LEN + reply.peers as usize * N::PEER;
            cx.platform.event(Event::RepliesShortened);
        }
        reply.length = length as u32;
    } else {
        trace::packet(cx.settings, packet, Counter::Event(reply.event), XDP_TX, FrameStart::Packet);
    }
    // However the numbers came about, to the verifier there is one way on from here.
    reply.peers = scratch.as_unknown_scalar(reply.peers);
    reply.count(cx.platform);
    let (start, length) =
        (scratch.as_unknown_scalar(reply.start) as usize, scratch.as_unknown_scalar(reply.length) as usize);
    let room = scratch.as_unknown_scalar(room as u32) as usize;
    let Some(sum) = packet.write(headers, scratch, start, length) else { return Err(StoreError::Internal.into()) };
    flow.finish(packet, &Payload { length, sum }, headers + room)
}

/// A reply of `most` bytes need have only so many: those of the default number of peers. If there
/// are more peers and not even these fit, the sockets answer.
#[inline(always)]
fn enough<N: Network>(settings: &Settings, most: usize) -> u32 {
    let usual = ANNOUNCE_REPLY_LEN as u32 + settings.default_numwant.load() * N::PEER as u32;
    if (most as u32) < usual { most as u32 } else { usual }
}

/// Turns the packet into the reply to a connect request.
///
/// # Errors
/// [`FrameReason::NoRoom`] if the packet cannot be shortened.
#[inline(always)]
pub(crate) fn send_connect<N: Network>(
    cx: &Context<'_, Kernel>,
    packet: &Packet,
    l2: usize,
    reply: [u64; CONNECT_LEN / 8],
) -> Result<(), Reason> {
    let Some(flow) = Flow::<N>::read(packet, l2) else { return Err(FrameReason::HeaderTruncated.into()) };
    let event = Event::connect(N::VERSION);
    trace::packet(cx.settings, packet, Counter::Event(event), XDP_TX, FrameStart::Packet);
    let Some(payload) = packet.at_mut(l2 + N::HEADERS) else { return Err(StoreError::Internal.into()) };
    *payload = reply.map(Unaligned);
    let sum = reply.iter().fold(0, |sum, word| checksum::add_word(sum, *word));
    cx.platform.event(event);
    cx.platform.count(Counter::Event(Event::ReplyBytes), CONNECT_LEN as u64);
    flow.finish(packet, &Payload { length: CONNECT_LEN, sum }, packet.length())
}
