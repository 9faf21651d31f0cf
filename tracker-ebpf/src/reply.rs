//! From reply bytes to a frame: headers turned around in front of them, lengths, checksums.

use crate::{
    maps::Kernel,
    packet::{Packet, sum},
    request::Flow,
};
use tracker_common::{
    checksum,
    memory::Memory,
    outcome::{Counter, Event, Reason},
    reply::{Reply, START_MASK, Scratch},
    wire::{
        ANNOUNCE_REPLY_LEN, ETHER_IPV4, ETHER_IPV6, ETHER_VLAN, Ethernet, Ipv4, Ipv6, PEER_V4, PEER_V6, PROTOCOL_UDP,
        Udp, Vlan,
    },
};

/// Hops a reply may take.
const TTL: u8 = 64;

/// Writes the reply over the packet.
///
/// A function of its own, so that its stack frame and those of an announce's rare work do not add up.
///
/// # Errors
/// [`Reason::NoRoom`].
#[inline(never)]
pub(crate) fn send(packet: &Packet, scratch: &Scratch, flow: &Flow, reply: Reply) -> Result<(), Reason> {
    let ip = if flow.is_v6() { size_of::<Ipv6>() } else { size_of::<Ipv4>() };
    let headers = flow.l2 + ip + size_of::<Udp>();
    let mut length = reply.length as usize;
    let room = packet.resize(flow.length, headers + length) - headers;
    if room < length {
        // Only announce replies are longer than their requests: fewer peers, and the packet cut to fit them.
        let peer = if flow.is_v6() { PEER_V6 } else { PEER_V4 };
        if room < ANNOUNCE_REPLY_LEN {
            return Err(Reason::NoRoom);
        }
        length = ANNOUNCE_REPLY_LEN + (room - ANNOUNCE_REPLY_LEN) / peer * peer;
        if packet.resize(headers + room, headers + length) != headers + length {
            return Err(Reason::NoRoom);
        }
        Kernel.event(Event::RepliesShortened);
    }
    let payload = reply.start as usize & START_MASK;
    let udp_length = size_of::<Udp>() + length;
    let start = payload - headers;

    let mut at = start;
    // 8 bytes each, of which the last two are overwritten by what follows.
    scratch.put(at, flow.source_mac);
    scratch.put(at + 6, flow.destination_mac);
    at += 12;
    if flow.l2 > size_of::<Ethernet>() {
        scratch.put(at, ETHER_VLAN);
        scratch.put(at + 2, flow.tci as u16);
        at += size_of::<Vlan>();
    }
    scratch.put(at, if flow.is_v6() { ETHER_IPV6 } else { ETHER_IPV4 });
    at += 2;

    let lengths = (udp_length as u16).to_be_bytes();
    if flow.is_v6() {
        let header = Ipv6 {
            version_flow: [0x60, 0, 0, 0],
            payload_length: lengths,
            next_header: PROTOCOL_UDP,
            hop_limit: TTL,
            source: bytes(flow.destination),
            destination: bytes(flow.source),
        };
        scratch.put(at, header);
    } else {
        let mut header = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_length: ((size_of::<Ipv4>() + udp_length) as u16).to_be_bytes(),
            identification: [0, 0],
            // Don't fragment: path MTU discovery has nothing to tell a stateless sender, but fragments of unverifiable
            // origin are worse than a lost reply.
            fragment: [0x40, 0],
            ttl: TTL,
            protocol: PROTOCOL_UDP,
            checksum: [0, 0],
            source: (flow.destination[0] as u32).to_ne_bytes(),
            destination: (flow.source[0] as u32).to_ne_bytes(),
        };
        // SAFETY: an Ipv4 is 20 bytes with alignment 1.
        let header_bytes: &[u8; 20] = unsafe { &*(&raw const header).cast() };
        header.checksum = checksum::finish(checksum::add(0, header_bytes));
        scratch.put(at, header);
    }
    at += ip;

    let mut total = u64::from(u16::from_ne_bytes([0, PROTOCOL_UDP])) + u64::from(u16::from_ne_bytes(lengths)) * 2;
    for word in [flow.source, flow.destination].as_flattened() {
        total += (word & 0xffff_ffff) + (word >> 32);
    }
    total += flow.source_port + flow.destination_port;
    scratch.put(payload + length, 0_u32);
    total = sum(scratch, payload, length, total);
    scratch.put(
        at,
        Udp {
            source: (flow.destination_port as u16).to_ne_bytes(),
            destination: (flow.source_port as u16).to_ne_bytes(),
            length: lengths,
            checksum: checksum::finish_udp(total),
        },
    );

    Kernel.count(Counter::Event(Event::ReplyBytes), length as u64);
    match packet.store(scratch, start, headers + length) {
        Some(()) => Ok(()),
        None => Err(Reason::NoRoom),
    }
}

#[inline(always)]
fn bytes(words: [u64; 2]) -> [u8; 16] {
    (u128::from(words[0]) | u128::from(words[1]) << 64).to_le_bytes()
}
