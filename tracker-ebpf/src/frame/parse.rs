//! From a frame to a request: every header is checked as the kernel would check it, so that nothing
//! is answered that the kernel would not have delivered.

use super::{
    destination::Destination,
    headers::{Headers, Network},
    packet::{Packet, sum},
};
use crate::kernel::Kernel;
use tracker_common::{
    admission::blocklist,
    bep15::{
        datagram::{Request, classify},
        wire::{ACTION_ANNOUNCE, ANNOUNCE_LEN, AnnounceRequest, HEADER_LEN, RequestHeader, SCRAPE_MAX},
    },
    net::{
        checksum,
        headers::{ETHER_VLAN, Ethernet, FrameHead, Ipv4, Ipv6, PROTOCOL_UDP, Udp, Vlan},
    },
    outcome::{FrameReason, Reason, RequestReason},
    platform::Context,
    scratch::{HASHES_AT, Scratch},
    store::{asking, family::V6, hash::TorrentKey},
};

/// Most bytes behind the fixed part of a request: what a scrape of [`SCRAPE_MAX`] has, or an
/// announce's BEP 41 options in a frame of ordinary size.
const REST_MAX: usize = SCRAPE_MAX * 20;

/// The EtherType of a frame's payload, and where that begins: behind at most one VLAN tag.
#[inline(always)]
pub(crate) fn ethernet(packet: &Packet) -> Result<([u8; 2], usize), FrameReason> {
    let Some(ethernet) = packet.at::<Ethernet>(0) else { return Err(FrameReason::HeaderTruncated) };
    let mut l2 = size_of::<Ethernet>();
    let mut ether_type = ethernet.ether_type;
    if ether_type == ETHER_VLAN {
        let Some(vlan) = packet.at::<Vlan>(size_of::<Ethernet>()) else { return Err(FrameReason::HeaderTruncated) };
        l2 += size_of::<Vlan>();
        ether_type = vlan.ether_type;
    }
    Ok((ether_type, l2))
}

/// Checks an IPv4 header at `l2`, and returns how many bytes follow it.
#[inline(always)]
pub(crate) fn ipv4(packet: &Packet, l2: usize) -> Result<usize, FrameReason> {
    let Some(ip) = packet.at::<Ipv4>(l2) else { return Err(FrameReason::HeaderTruncated) };
    if ip.protocol != PROTOCOL_UDP {
        return Err(FrameReason::NotUdp);
    }
    if ip.version_ihl != 0x45 {
        return Err(FrameReason::IpOptions);
    }
    // "More fragments" and the offset; "don't fragment" may be set or not.
    if u16::from_be_bytes(ip.fragment) & 0x3fff != 0 {
        return Err(FrameReason::Fragment);
    }
    let length = usize::from(u16::from_be_bytes(ip.total_length));
    // The frame may be longer: Ethernet pads.
    if l2 + length > packet.length() || length < size_of::<Ipv4>() + size_of::<Udp>() {
        return Err(FrameReason::LengthMismatch);
    }
    // 0.0.0.0/8, loopback, multicast and broadcast are no sources.
    if ip.source[0] == 0 || ip.source[0] == 127 || ip.source[0] >= 224 {
        return Err(FrameReason::SourceUnusable);
    }
    // SAFETY: an Ipv4 is 20 bytes with alignment 1.
    let bytes: &[u8; size_of::<Ipv4>()] = unsafe { &*(&raw const *ip).cast() };
    if checksum::fold(checksum::add(0, bytes)) != 0xffff {
        return Err(FrameReason::ChecksumWrong);
    }
    Ok(length - size_of::<Ipv4>())
}

/// Checks an IPv6 header at `l2`, and returns how many bytes follow it.
#[inline(always)]
pub(crate) fn ipv6(packet: &Packet, l2: usize) -> Result<usize, FrameReason> {
    let Some(ip) = packet.at::<Ipv6>(l2) else { return Err(FrameReason::HeaderTruncated) };
    // Extension headers are no UDP either.
    if ip.next_header != PROTOCOL_UDP {
        return Err(FrameReason::NotUdp);
    }
    if ip.version_flow[0] >> 4 != 6 {
        return Err(FrameReason::IpOptions);
    }
    let length = usize::from(u16::from_be_bytes(ip.payload_length));
    if l2 + size_of::<Ipv6>() + length > packet.length() || length < size_of::<Udp>() {
        return Err(FrameReason::LengthMismatch);
    }
    let source = V6::key(ip.source, 0);
    // Multicast, ::/96 with :: and ::1, and IPv4-mapped addresses are no sources.
    let mapped = source[0] == 0 && (source[1] as u32 == 0 || source[1] as u32 == 0xffff_0000);
    if ip.source[0] == 0xff || mapped {
        return Err(FrameReason::SourceUnusable);
    }
    Ok(length)
}

/// A request that came to the tracker whole.
pub(crate) struct Checked {
    pub(crate) request: Request,
    /// Bytes of UDP payload.
    pub(crate) payload: usize,
    /// MTU in bytes of the interface that it came in by.
    pub(crate) mtu: u32,
}

/// Checks what is behind the IP header: `length` bytes by that. What follows the fixed part of the
/// request is put at [`HASHES_AT`] in the scratch space.
#[inline(always)]
pub(crate) fn udp<N: Network>(
    cx: &Context<'_, Kernel>,
    packet: &Packet,
    l2: usize,
    length: usize,
) -> Result<Checked, Reason> {
    let Some(head) = packet.at::<FrameHead>(0) else { return Err(FrameReason::HeaderTruncated.into()) };
    let Some(headers) = packet.at::<Headers<N::Ip>>(l2) else { return Err(FrameReason::HeaderTruncated.into()) };
    let udp = &headers.udp;
    let [source, destination] = N::addresses(&headers.ip);
    let destined = Destination { address: destination, port: udp.destination, mac: head.destination() };
    let Some(mtu) = destined.mtu_if_ours::<N>(cx.settings, packet) else {
        return Err(FrameReason::NotForUs.into());
    };
    blocklist::check(cx, N::source(&headers.ip))?;
    if usize::from(u16::from_be_bytes(udp.length)) != length {
        return Err(FrameReason::LengthMismatch.into());
    }
    // Neither port 0, nor a group of Ethernet addresses, nor ourselves.
    if udp.source == [0, 0] || head.is_source_group() || source == destination {
        return Err(FrameReason::SourceUnusable.into());
    }
    let payload = length - size_of::<Udp>();
    if payload < HEADER_LEN {
        return Err(RequestReason::TooShort.into());
    }
    let at = l2 + N::HEADERS;
    let Some(header) = packet.at::<RequestHeader>(at) else { return Err(FrameReason::HeaderTruncated.into()) };
    let request = classify(header.action, payload)?;

    // The pseudo header (RFC 768, RFC 8200) and the UDP header; then the fixed part and the rest of
    // the payload.
    let mut total = u64::from(u16::from_ne_bytes([0, PROTOCOL_UDP]));
    for pair in [udp.length, udp.length, udp.source, udp.destination, udp.checksum] {
        total += u64::from(u16::from_ne_bytes(pair));
    }
    for word in [source, destination].as_flattened() {
        total = checksum::add_word(total, *word);
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
        let Some(()) = packet.load(at + fixed, cx.scratch, HASHES_AT, rest) else {
            return Err(FrameReason::HeaderTruncated.into());
        };
        total = sum(cx.scratch, HASHES_AT, rest, total);
    }
    // Without a checksum over IPv4: the sender did not want one. A wrong one may also be one that
    // is still to be computed (veth); the kernel knows.
    if (unsummed && N::IS_V6) || (!unsummed && checksum::fold(total) != 0xffff) {
        return Err(FrameReason::ChecksumWrong.into());
    }
    Ok(Checked { request, payload, mtu })
}

/// Has the processor look for the torrent of what is probably an announce, while everything is checked.
#[inline(always)]
pub(crate) fn ask_for<N: Network>(cx: &Context<'_, Kernel>, packet: &Packet, l2: usize) {
    let Ok(Carrying { request, .. }) = carrying::<N, AnnounceRequest>(packet, l2) else { return };
    if request.header.action == ACTION_ANNOUNCE.to_be_bytes() {
        let torrent = TorrentKey::new(cx.settings, &request.info_hash);
        cx.scratch.handover.hash.store(torrent.hash());
        cx.scratch.handover.guess.store(asking::look_ahead(cx, &torrent).number());
    }
}

/// Headers and the fixed part of what they carry: looked at as one, because the verifier does not
/// conclude from a bound that was checked for the one part that the other is inside as well.
#[repr(C)]
pub(crate) struct Carrying<N: Network, T> {
    pub(crate) headers: Headers<N::Ip>,
    pub(crate) request: T,
}

/// The headers at `l2` and the request behind them.
#[inline(always)]
pub(crate) fn carrying<N: Network, T>(packet: &Packet, l2: usize) -> Result<&Carrying<N, T>, FrameReason> {
    match packet.at::<Carrying<N, T>>(l2) {
        Some(parts) => Ok(parts),
        None => Err(FrameReason::HeaderTruncated),
    }
}

/// Where the network layer of a packet begins whose headers were checked by the program that has
/// handed it over.
#[inline(always)]
pub(crate) fn checked_l2(scratch: &Scratch) -> usize {
    // For the verifier, which no longer knows what was stored there: with or without a VLAN tag.
    size_of::<Ethernet>() + (scratch.handover.vlan_tag_len.load() as usize & size_of::<Vlan>())
}
