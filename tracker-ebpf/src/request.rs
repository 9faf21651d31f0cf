//! From a frame to a request: every header is checked as the kernel would check it, so that nothing is answered that the
//! kernel would not have delivered.

use crate::{
    maps::Held,
    network::Network,
    packet::{Packet, sum},
    rare, reply,
};
use tracker_common::{
    bep15::{
        announce::{self, Asked},
        connect::{connect, error},
        datagram::{Request, classify},
        reply::Reply,
        scrape::{hashes, scrape},
        wire::{ANNOUNCE_LEN, AnnounceRequest, HEADER_LEN, RequestHeader, SCRAPE_MAX},
    },
    net::{
        checksum,
        headers::{ETHER_IPV4, ETHER_IPV6, ETHER_QINQ, ETHER_VLAN, Ethernet, Ipv4, Ipv6, PROTOCOL_UDP, Udp, Vlan},
    },
    outcome::{Counter, Event, FrameReason, Reason, RequestReason, StoreError},
    platform::Platform,
    programs::Program,
    scratch::{HASHES_AT, Scratch},
    settings::{LISTENERS, Settings},
    store::{
        family::{V4, V6},
        index::Place,
        refresh::refresh,
        upsert::store,
    },
};

/// Most bytes behind the fixed part of a request: what a scrape of [`SCRAPE_MAX`] has, or an announce's BEP 41 options in a
/// frame of ordinary size.
const REST_MAX: usize = SCRAPE_MAX * 20;

/// Answers a frame; the packet is then ready to be sent back.
#[inline(always)]
pub(crate) fn answer(packet: &Packet) -> Result<(), Reason> {
    let Some(ethernet) = packet.at::<Ethernet>(0) else { return Err(FrameReason::HeaderTruncated.into()) };
    let mut l2 = size_of::<Ethernet>();
    let mut ether_type = ethernet.ether_type;
    if ether_type == ETHER_VLAN {
        let Some(vlan) = packet.at::<Vlan>(size_of::<Ethernet>()) else {
            return Err(FrameReason::HeaderTruncated.into());
        };
        l2 += size_of::<Vlan>();
        ether_type = vlan.ether_type;
    }
    match ether_type {
        ETHER_IPV4 => ipv4(packet, l2),
        ETHER_IPV6 => ipv6(packet, l2),
        ETHER_VLAN | ETHER_QINQ => Err(FrameReason::VlanStack.into()),
        _ => Err(FrameReason::NotIp.into()),
    }
}

#[inline(always)]
fn ipv4(packet: &Packet, l2: usize) -> Result<(), Reason> {
    let Some(ip) = packet.at::<Ipv4>(l2) else { return Err(FrameReason::HeaderTruncated.into()) };
    if ip.protocol != PROTOCOL_UDP {
        return Err(FrameReason::NotUdp.into());
    }
    if ip.version_ihl != 0x45 {
        return Err(FrameReason::IpOptions.into());
    }
    // "More fragments" and the offset; "don't fragment" may be set or not.
    if u16::from_be_bytes(ip.fragment) & 0x3fff != 0 {
        return Err(FrameReason::Fragment.into());
    }
    let length = usize::from(u16::from_be_bytes(ip.total_length));
    // The frame may be longer: Ethernet pads.
    if l2 + length > packet.length() || length < size_of::<Ipv4>() + size_of::<Udp>() {
        return Err(FrameReason::LengthMismatch.into());
    }
    // 0.0.0.0/8, loopback, multicast and broadcast are no sources.
    if ip.source[0] == 0 || ip.source[0] == 127 || ip.source[0] >= 224 {
        return Err(FrameReason::SourceUnusable.into());
    }
    // SAFETY: an Ipv4 is 20 bytes with alignment 1.
    let bytes: &[u8; size_of::<Ipv4>()] = unsafe { &*(&raw const *ip).cast() };
    if checksum::fold(checksum::add(0, bytes)) != 0xffff {
        return Err(FrameReason::ChecksumWrong.into());
    }
    udp::<V4>(packet, l2, length - size_of::<Ipv4>())
}

#[inline(always)]
fn ipv6(packet: &Packet, l2: usize) -> Result<(), Reason> {
    let Some(ip) = packet.at::<Ipv6>(l2) else { return Err(FrameReason::HeaderTruncated.into()) };
    // Extension headers are no UDP either.
    if ip.next_header != PROTOCOL_UDP {
        return Err(FrameReason::NotUdp.into());
    }
    if ip.version_flow[0] >> 4 != 6 {
        return Err(FrameReason::IpOptions.into());
    }
    let length = usize::from(u16::from_be_bytes(ip.payload_length));
    if l2 + size_of::<Ipv6>() + length > packet.length() || length < size_of::<Udp>() {
        return Err(FrameReason::LengthMismatch.into());
    }
    let source = V6::key(ip.source, 0);
    // Multicast, ::/96 with :: and ::1, and IPv4-mapped addresses are no sources.
    let mapped = source[0] == 0 && (source[1] as u32 == 0 || source[1] as u32 == 0xffff_0000);
    if ip.source[0] == 0xff || mapped {
        return Err(FrameReason::SourceUnusable.into());
    }
    udp::<V6>(packet, l2, length)
}

/// `length` is what the IP header says that there is.
#[inline(always)]
fn udp<N: Network>(packet: &Packet, l2: usize, length: usize) -> Result<(), Reason> {
    let held = &Held::<false>::new()?;
    let scratch = held.space();
    let Some(ethernet) = packet.at::<Ethernet>(0) else { return Err(FrameReason::HeaderTruncated.into()) };
    let Some(headers) = packet.at::<N::Headers>(l2) else { return Err(FrameReason::HeaderTruncated.into()) };
    let udp = N::udp(headers);
    let [source, destination] = N::addresses(headers);
    let port = u64::from(u16::from_ne_bytes(udp.destination));
    let Some(mtu) = for_us::<N>(held.known(), packet, destination, port, mac(&ethernet.destination)) else {
        return Err(FrameReason::NotForUs.into());
    };
    if usize::from(u16::from_be_bytes(udp.length)) != length {
        return Err(FrameReason::LengthMismatch.into());
    }
    // Neither port 0, nor a group of Ethernet addresses, nor ourselves.
    if udp.source == [0, 0] || ethernet.source[0] & 1 != 0 || source == destination {
        return Err(FrameReason::SourceUnusable.into());
    }
    let payload = length - size_of::<Udp>();
    if payload < HEADER_LEN {
        return Err(RequestReason::TooShort.into());
    }
    let at = l2 + N::HEADERS;
    let Some(header) = packet.at::<RequestHeader>(at) else { return Err(FrameReason::HeaderTruncated.into()) };
    let request = classify(header.action, payload)?;

    // The pseudo header (RFC 768, RFC 8200) and the UDP header; then the fixed part and the rest of the payload.
    let mut total = u64::from(u16::from_ne_bytes([0, PROTOCOL_UDP]));
    for pair in [udp.length, udp.length, udp.source, udp.destination, udp.checksum] {
        total += u64::from(u16::from_ne_bytes(pair));
    }
    for word in [source, destination].as_flattened() {
        total += (word & 0xffff_ffff) + (word >> 32);
    }
    let fixed = match request {
        Request::Announce => {
            let Some(bytes) = packet.at::<[u8; ANNOUNCE_LEN]>(at) else {
                return Err(FrameReason::HeaderTruncated.into());
            };
            total = checksum::add(total, bytes);
            ANNOUNCE_LEN
        }
        Request::Connect | Request::Scrape => {
            let Some(bytes) = packet.at::<[u8; HEADER_LEN]>(at) else {
                return Err(FrameReason::HeaderTruncated.into());
            };
            total = checksum::add(total, bytes);
            HEADER_LEN
        }
    };
    let unsummed = udp.checksum == [0, 0];
    let rest = payload - fixed;
    if rest > 0 {
        if rest > REST_MAX {
            return Err(FrameReason::TooLong.into());
        }
        let Some(()) = packet.load(at + fixed, scratch, HASHES_AT, rest) else {
            return Err(FrameReason::HeaderTruncated.into());
        };
        total = sum(scratch, HASHES_AT, rest, total);
    }
    // Without a checksum over IPv4: the sender did not want one. A wrong one may also be one that is still to be computed
    // (veth); the kernel knows.
    if (unsummed && N::IS_V6) || (!unsummed && checksum::fold(total) != 0xffff) {
        return Err(FrameReason::ChecksumWrong.into());
    }

    match request {
        Request::Connect => {
            let (headers, header) = parts::<N, RequestHeader>(packet, l2)?;
            let reply = connect(held, header, N::source(headers))?;
            reply::send_connect::<N>(held, packet, l2, reply)
        }
        Request::Announce => {
            let handover = &scratch.handover;
            handover.vlan_tag_len.store((l2 - size_of::<Ethernet>()) as u32);
            handover.front_growth.store(0);
            handover.mtu.store(mtu);
            Err(packet.tail_call(Program::announce(N::VERSION)))
        }
        Request::Scrape => {
            let handover = &scratch.handover;
            handover.vlan_tag_len.store((l2 - size_of::<Ethernet>()) as u32);
            handover.front_growth.store(0);
            handover.info_hashes.store(hashes(payload));
            handover.is_v6.store(u32::from(N::IS_V6));
            Err(packet.tail_call(Program::Scrape))
        }
    }
}

/// A MAC address as a number, first byte lowest.
#[inline(always)]
fn mac(bytes: &[u8; 6]) -> u64 {
    u64::from(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        | u64::from(u16::from_ne_bytes([bytes[4], bytes[5]])) << 32
}

/// The interface's MTU in bytes, if the frame is addressed to the interface's MAC address and to an address and port that we
/// answer for.
#[inline(always)]
fn for_us<N: Network>(settings: &Settings, packet: &Packet, destination: [u64; 2], port: u64, mac: u64) -> Option<u32> {
    let mut found = false;
    if N::IS_V6 {
        let count = settings.listener_v6_count.load() as usize;
        for (i, listener) in settings.listeners_v6.iter().enumerate() {
            if i >= count || i >= LISTENERS {
                break;
            }
            let difference = (listener[0].load() ^ destination[0])
                | (listener[1].load() ^ destination[1])
                | (listener[2].load() ^ port);
            if difference == 0 {
                found = true;
                break;
            }
        }
    } else {
        let count = settings.listener_v4_count.load() as usize;
        let key = destination[0] | port << 32;
        for (i, listener) in settings.listeners_v4.iter().enumerate() {
            if i >= count || i >= LISTENERS {
                break;
            }
            if listener.load() == key {
                found = true;
                break;
            }
        }
    }
    if !found {
        return None;
    }
    let interface = u64::from(packet.interface());
    let count = settings.interface_count.load() as usize;
    for (i, known) in settings.interfaces.iter().enumerate() {
        if i >= count || i >= LISTENERS {
            break;
        }
        let address = known[1].load();
        if known[0].load() == interface && (address ^ mac) << 16 == 0 {
            return Some((address >> 48) as u32);
        }
    }
    None
}

/// Where the network layer of a packet begins whose headers `tracker` has checked.
#[inline(always)]
fn network_layer(scratch: &Scratch) -> usize {
    // For the verifier, which no longer knows what was stored there: with or without a VLAN tag.
    size_of::<Ethernet>() + (scratch.handover.vlan_tag_len.load() as usize & size_of::<Vlan>())
}

/// An announce whose headers were checked. A known peer's that is still there is answered, if one partition has enough peers for the
/// reply; else it goes on in the program that stores, or in the one that replies to what has been stored.
#[inline(always)]
pub(crate) fn announce<N: Network>(packet: &Packet) -> Result<(), Reason> {
    let held = &Held::<true>::new()?;
    let (scratch, settings) = (held.space(), held.known());
    let l2 = network_layer(scratch);
    let (headers, request) = parts::<N, AnnounceRequest>(packet, l2)?;
    let asked = Asked::new(request, N::peer(headers, request.port));
    let torrent = Place::new(settings, &request.info_hash);
    let result = match asked.verify(settings, request, N::source(headers)) {
        Ok(()) => {
            let Some((number, swarm)) = refresh::<_, N>(held, &torrent, &asked.announcement) else {
                return Err(packet.tail_call(Program::store(N::VERSION)));
            };
            let Some(reply) = announce::reply::<_, N>(held, settings, scratch, &asked, Some((number, swarm))) else {
                scratch.handover.swarm.store(number + 1);
                return Err(packet.tail_call(Program::reply(N::VERSION)));
            };
            Ok(reply)
        }
        Err(reason) => Err(reason.into()),
    };
    answer_with::<N, true>(held, packet, l2, result, request.header.transaction_id)
}

/// Replies to an announce that has been stored.
#[inline(always)]
pub(crate) fn reply_stored<N: Network>(packet: &Packet) -> Result<(), Reason> {
    let held = &Held::<false>::new()?;
    let (scratch, settings) = (held.space(), held.known());
    let l2 = network_layer(scratch);
    let (headers, request) = parts::<N, AnnounceRequest>(packet, l2)?;
    let asked = Asked::new(request, N::peer(headers, request.port));
    let number = scratch.handover.swarm.load().wrapping_sub(1);
    let swarm = held.swarm(number).map(|swarm| (number, swarm));
    let Some(reply) = announce::reply::<_, N>(held, settings, scratch, &asked, swarm) else {
        return Err(FrameReason::NoRoom.into());
    };
    reply::send::<N, false>(held, packet, l2, reply)
}

/// An announce that `announce` has found to be all right, and that is more than a known peer's.
#[inline(always)]
pub(crate) fn store_announce<N: Network>(packet: &Packet) -> Result<(), Reason> {
    let held = &Held::<false>::new()?;
    let scratch = held.space();
    let l2 = network_layer(scratch);
    let (headers, request) = parts::<N, AnnounceRequest>(packet, l2)?;
    let asked = Asked::new(request, N::peer(headers, request.port));
    scratch.handover.split.store(0);
    let torrent = Place::new(held.known(), &request.info_hash);
    match store::<_, N>(held, &torrent, &asked.announcement) {
        Ok(number) => {
            scratch.handover.swarm.store(number.map_or(0, |number| number + 1));
            let split = scratch.handover.split.load() != 0;
            Err(packet.tail_call(if split { Program::split(N::VERSION) } else { Program::reply(N::VERSION) }))
        }
        Err(error) => answer_with::<N, false>(held, packet, l2, Err(error.into()), request.header.transaction_id),
    }
}

/// Gives the swarm that `store_announce` has left for this one more partition, and goes on with the reply.
#[inline(always)]
pub(crate) fn split<N: Network>(packet: &Packet) -> Result<(), Reason> {
    rare::split_now(N::TAG);
    Err(packet.tail_call(Program::reply(N::VERSION)))
}

/// Headers and the fixed part of what they carry: looked at as one, because the verifier does not conclude from a bound that was
/// checked for the one part that the other is inside as well.
#[repr(C)]
struct Carrying<N: Network, T> {
    headers: N::Headers,
    request: T,
}

/// The headers and the request behind them.
#[inline(always)]
fn parts<N: Network, T>(packet: &Packet, l2: usize) -> Result<(&N::Headers, &T), Reason> {
    match packet.at::<Carrying<N, T>>(l2) {
        Some(parts) => Ok((&parts.headers, &parts.request)),
        None => Err(FrameReason::HeaderTruncated.into()),
    }
}

/// A scrape, whose headers were checked and whose info_hashes are in the scratch space, their number in the handover.
#[inline(always)]
pub(crate) fn scrape_any(packet: &Packet) -> Result<(), Reason> {
    let held = &Held::<false>::new()?;
    let scratch = held.space();
    let l2 = network_layer(scratch);
    if scratch.handover.is_v6.load() == 0 {
        scrape_in::<V4>(held, packet, l2)
    } else {
        scrape_in::<V6>(held, packet, l2)
    }
}

#[inline(always)]
fn scrape_in<N: Network>(held: &Held<false>, packet: &Packet, l2: usize) -> Result<(), Reason> {
    let (headers, header) = parts::<N, RequestHeader>(packet, l2)?;
    let transaction_id = header.transaction_id;
    let scratch = held.space();
    let count = scratch.handover.info_hashes.load();
    let result = scrape(held, scratch, header, N::source(headers), count, Event::scrape(N::VERSION));
    if count == 0
        && let Err(reason) = result
    {
        // The error would be longer than the request, and who asks has not shown that he receives at his address.
        return Err(reason);
    }
    answer_with::<N, false>(held, packet, l2, result, transaction_id)
}

/// Sends the reply, or the error text that belongs to the reason.
#[inline(always)]
fn answer_with<N: Network, const HURRIED: bool>(
    held: &Held<HURRIED>,
    packet: &Packet,
    l2: usize,
    result: Result<Reply, Reason>,
    transaction_id: [u8; 4],
) -> Result<(), Reason> {
    let reply = match result {
        Ok(reply) => reply,
        Err(reason) => match error(held.space(), reason, transaction_id, Event::error(N::VERSION)) {
            Some(reply) => {
                held.reason(reason);
                held.space().refused.store(Counter::Reason(reason).index() as u32);
                reply
            }
            None => return Err(reason),
        },
    };
    reply::send::<N, HURRIED>(held, packet, l2, reply)
}
