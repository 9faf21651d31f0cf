//! From a frame to a request: every header is checked as the kernel would check it, so that nothing is answered that the
//! kernel would not have delivered.

use crate::{
    maps::Kernel,
    packet::{Packet, sum},
    programs, reply,
};
use tracker_common::{
    announce::announce,
    checksum,
    connect::{connect, error},
    datagram::{Request, classify},
    memory::Memory,
    outcome::{Event, Reason},
    reply::{FLOW_AT, Reply, SCRATCH_BYTES, Scratch},
    scrape::{HASHES_AT, hashes, scrape},
    settings::{LISTENERS, Settings},
    store::{V4, V6},
    wire::{
        ANNOUNCE_LEN, AnnounceRequest, ETHER_IPV4, ETHER_IPV6, ETHER_QINQ, ETHER_VLAN, Ethernet, HEADER_LEN, Ipv4,
        Ipv6, PROTOCOL_UDP, RequestHeader, SCRAPE_MAX, Udp, Vlan,
    },
};

/// Most bytes behind the fixed part of a request: what a scrape of [`SCRAPE_MAX`] has, or an announce's BEP 41 options in a
/// frame of ordinary size.
const REST_MAX: usize = SCRAPE_MAX * 20;

/// Who asked, and how the answer goes back: all that is kept of the headers.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Flow {
    /// Length of the frame as it came.
    pub(crate) length: usize,
    /// Length of Ethernet header and VLAN tag.
    pub(crate) l2: usize,
    /// The asker's MAC address, first byte lowest.
    pub(crate) source_mac: u64,
    /// The MAC address asked.
    pub(crate) destination_mac: u64,
    /// The VLAN tag, if `l2` says that there is one.
    pub(crate) tci: u64,
    /// The asker's address in memory order; IPv4 in the first word.
    pub(crate) source: [u64; 2],
    /// The address asked.
    pub(crate) destination: [u64; 2],
    /// The asker's port, network order in memory.
    pub(crate) source_port: u64,
    /// The port asked, likewise.
    pub(crate) destination_port: u64,
    /// Not 0 for IPv6. No bool: read back from the scratch space it could be anything to the verifier.
    v6: u64,
}

impl Flow {
    /// Whether it is IPv6.
    #[inline(always)]
    pub(crate) fn is_v6(&self) -> bool {
        self.v6 != 0
    }
}

/// Answers a frame; the packet is then ready to be sent back.
#[inline(always)]
pub(crate) fn answer(packet: &Packet) -> Result<(), Reason> {
    let Some(ethernet) = packet.at::<Ethernet>(0) else { return Err(Reason::HeaderTruncated) };
    let mut flow = Flow {
        length: packet.length(),
        l2: size_of::<Ethernet>(),
        source_mac: mac(ethernet.source),
        destination_mac: mac(ethernet.destination),
        tci: 0,
        source: [0; 2],
        destination: [0; 2],
        source_port: 0,
        destination_port: 0,
        v6: 0,
    };
    let mut ether_type = ethernet.ether_type;
    if ether_type == ETHER_VLAN {
        let Some(vlan) = packet.at::<Vlan>(size_of::<Ethernet>()) else { return Err(Reason::HeaderTruncated) };
        flow.l2 += size_of::<Vlan>();
        flow.tci = u64::from(u16::from_ne_bytes(vlan.tci));
        ether_type = vlan.ether_type;
    }
    match ether_type {
        ETHER_IPV4 => ipv4(packet, &mut flow),
        ETHER_IPV6 => ipv6(packet, &mut flow),
        ETHER_VLAN | ETHER_QINQ => Err(Reason::VlanStack),
        _ => Err(Reason::NotIp),
    }
}

/// A MAC address as a number, first byte lowest.
#[inline(always)]
fn mac(bytes: [u8; 6]) -> u64 {
    u64::from(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        | u64::from(u16::from_ne_bytes([bytes[4], bytes[5]])) << 32
}

#[inline(always)]
fn ipv4(packet: &Packet, flow: &mut Flow) -> Result<(), Reason> {
    let Some(ip) = packet.at::<Ipv4>(flow.l2) else { return Err(Reason::HeaderTruncated) };
    if ip.protocol != PROTOCOL_UDP {
        return Err(Reason::NotUdp);
    }
    if ip.version_ihl != 0x45 {
        return Err(Reason::IpOptions);
    }
    // "More fragments" and the offset; "don't fragment" may be set or not.
    if u16::from_be_bytes(ip.fragment) & 0x3fff != 0 {
        return Err(Reason::Fragment);
    }
    let length = usize::from(u16::from_be_bytes(ip.total_length));
    // The frame may be longer: Ethernet pads.
    if flow.l2 + length > flow.length || length < size_of::<Ipv4>() + size_of::<Udp>() {
        return Err(Reason::LengthMismatch);
    }
    flow.source = [u64::from(u32::from_ne_bytes(ip.source)), 0];
    flow.destination = [u64::from(u32::from_ne_bytes(ip.destination)), 0];
    // 0.0.0.0/8, loopback, multicast and broadcast are no sources.
    if ip.source[0] == 0 || ip.source[0] == 127 || ip.source[0] >= 224 {
        return Err(Reason::SourceUnusable);
    }
    let header = ip_bytes(ip);
    if checksum::fold(checksum::add(0, header)) != 0xffff {
        return Err(Reason::ChecksumWrong);
    }
    udp(packet, flow, size_of::<Ipv4>(), length - size_of::<Ipv4>())
}

#[inline(always)]
fn ip_bytes(ip: &Ipv4) -> &[u8; 20] {
    // SAFETY: an Ipv4 is 20 bytes with alignment 1.
    unsafe { &*(&raw const *ip).cast() }
}

#[inline(always)]
fn ipv6(packet: &Packet, flow: &mut Flow) -> Result<(), Reason> {
    let Some(ip) = packet.at::<Ipv6>(flow.l2) else { return Err(Reason::HeaderTruncated) };
    // Extension headers are no UDP either.
    if ip.next_header != PROTOCOL_UDP {
        return Err(Reason::NotUdp);
    }
    if ip.version_flow[0] >> 4 != 6 {
        return Err(Reason::IpOptions);
    }
    let length = usize::from(u16::from_be_bytes(ip.payload_length));
    if flow.l2 + size_of::<Ipv6>() + length > flow.length || length < size_of::<Udp>() {
        return Err(Reason::LengthMismatch);
    }
    let source = V6::key(ip.source, 0);
    let destination = V6::key(ip.destination, 0);
    flow.source = [source[0], source[1]];
    flow.destination = [destination[0], destination[1]];
    flow.v6 = 1;
    // Multicast, ::/96 with :: and ::1, and IPv4-mapped addresses are no sources.
    let mapped = source[0] == 0 && (source[1] as u32 == 0 || source[1] as u32 == 0xffff_0000);
    if ip.source[0] == 0xff || mapped {
        return Err(Reason::SourceUnusable);
    }
    udp(packet, flow, size_of::<Ipv6>(), length)
}

/// `length` is what the IP header says that there is.
#[inline(always)]
fn udp(packet: &Packet, flow: &mut Flow, ip: usize, length: usize) -> Result<(), Reason> {
    let Some(settings) = Kernel.settings() else { return Err(Reason::Internal) };
    let at = flow.l2 + ip;
    let Some(udp) = packet.at::<Udp>(at) else { return Err(Reason::HeaderTruncated) };
    flow.source_port = u64::from(u16::from_ne_bytes(udp.source));
    flow.destination_port = u64::from(u16::from_ne_bytes(udp.destination));
    if !for_us(settings, packet, flow) {
        return Err(Reason::NotForUs);
    }
    if usize::from(u16::from_be_bytes(udp.length)) != length {
        return Err(Reason::LengthMismatch);
    }
    // Neither port 0, nor a group of Ethernet addresses, nor ourselves.
    if flow.source_port == 0 || flow.source_mac & 1 != 0 || flow.source == flow.destination {
        return Err(Reason::SourceUnusable);
    }
    let Some(scratch) = Kernel.scratch() else { return Err(Reason::Internal) };
    let payload = length - size_of::<Udp>();
    if payload < HEADER_LEN {
        return Err(Reason::TooShort);
    }
    let at = at + size_of::<Udp>();
    let Some(header) = packet.at::<RequestHeader>(at) else { return Err(Reason::HeaderTruncated) };
    let request = classify(header.action, payload)?;

    // The pseudo header (RFC 768, RFC 8200) and the UDP header; then the fixed part and the rest of the payload.
    let mut total = u64::from(u16::from_ne_bytes([0, PROTOCOL_UDP])) + u64::from(u16::from_ne_bytes(udp.length));
    for word in [flow.source, flow.destination].as_flattened() {
        total += (word & 0xffff_ffff) + (word >> 32);
    }
    total = checksum::add(total, udp_bytes(udp));
    let fixed = match request {
        Request::Announce => {
            let Some(bytes) = packet.at::<[u8; ANNOUNCE_LEN]>(at) else { return Err(Reason::HeaderTruncated) };
            total = checksum::add(total, bytes);
            ANNOUNCE_LEN
        }
        Request::Connect | Request::Scrape => {
            let Some(bytes) = packet.at::<[u8; HEADER_LEN]>(at) else { return Err(Reason::HeaderTruncated) };
            total = checksum::add(total, bytes);
            HEADER_LEN
        }
    };
    let rest = payload - fixed;
    if rest > 0 {
        if rest > REST_MAX {
            return Err(Reason::TooLong);
        }
        let Some(()) = packet.load(at + fixed, scratch, HASHES_AT, rest) else { return Err(Reason::HeaderTruncated) };
        total = sum(scratch, HASHES_AT, rest, total);
    }
    // Without a checksum over IPv4: the sender did not want one. A wrong one may also be one that is still to be computed
    // (veth); the kernel knows.
    let unsummed = udp.checksum == [0, 0];
    if (unsummed && flow.is_v6()) || (!unsummed && checksum::fold(total) != 0xffff) {
        return Err(Reason::ChecksumWrong);
    }

    match request {
        Request::Connect => {
            let event = if flow.is_v6() { Event::Connect6 } else { Event::Connect4 };
            let header = *header;
            reply::send(packet, scratch, flow, connect(&Kernel, scratch, &header, flow.source, event)?)
        }
        Request::Announce => {
            scratch.put(FLOW_AT, Kept { flow: *flow, request: at as u64 });
            programs::announce(packet, flow.is_v6())
        }
        Request::Scrape => {
            scratch.put(FLOW_AT, Kept { flow: *flow, request: at as u64 });
            scratch.found.store(hashes(payload));
            programs::scrape_program(packet)
        }
    }
}

#[inline(always)]
fn udp_bytes(udp: &Udp) -> &[u8; 8] {
    // SAFETY: a Udp is 8 bytes with alignment 1.
    unsafe { &*(&raw const *udp).cast() }
}

/// Whether the frame is addressed to the interface's MAC address and to an address and port that we answer for.
#[inline(always)]
fn for_us(settings: &Settings, packet: &Packet, flow: &Flow) -> bool {
    let port = flow.destination_port;
    let mut found = false;
    if flow.is_v6() {
        let count = settings.listener_v6_count.load() as usize;
        for (i, listener) in settings.listeners_v6.iter().enumerate() {
            if i >= count || i >= LISTENERS {
                break;
            }
            let difference = (listener[0].load() ^ flow.destination[0])
                | (listener[1].load() ^ flow.destination[1])
                | (listener[2].load() ^ port);
            if difference == 0 {
                found = true;
                break;
            }
        }
    } else {
        let count = settings.listener_v4_count.load() as usize;
        let key = flow.destination[0] | port << 32;
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
        return false;
    }
    let interface = u64::from(packet.interface());
    let count = settings.interface_count.load() as usize;
    for (i, known) in settings.interfaces.iter().enumerate() {
        if i >= count || i >= LISTENERS {
            break;
        }
        if known[0].load() == interface && known[1].load() == flow.destination_mac {
            return true;
        }
    }
    false
}

/// What the programs called for announces and scrapes need of what was found out already.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    flow: Flow,
    /// Where the request begins in the packet.
    request: u64,
}

const _: () = assert!(FLOW_AT.is_multiple_of(8) && FLOW_AT + size_of::<Kept>() <= SCRATCH_BYTES);

/// An announce over IPv4, whose headers were checked.
#[inline(always)]
pub(crate) fn announce_v4(packet: &Packet) -> Result<(), Reason> {
    with_flow(packet, |scratch, flow, at| {
        let Some(request) = packet.at::<AnnounceRequest>(at) else { return Err((Reason::HeaderTruncated, [0; 4])) };
        let peer = flow.source[0] | u64::from(u16::from_ne_bytes(request.port)) << 32;
        announce::<_, V4>(&Kernel, scratch, request, flow.source, peer)
            .map_err(|reason| (reason, request.header.transaction_id))
    })
}

/// An announce over IPv6, whose headers were checked.
#[inline(always)]
pub(crate) fn announce_v6(packet: &Packet) -> Result<(), Reason> {
    with_flow(packet, |scratch, flow, at| {
        let Some(request) = packet.at::<AnnounceRequest>(at) else { return Err((Reason::HeaderTruncated, [0; 4])) };
        let peer = [flow.source[0], flow.source[1], u64::from(u16::from_ne_bytes(request.port))];
        announce::<_, V6>(&Kernel, scratch, request, flow.source, peer)
            .map_err(|reason| (reason, request.header.transaction_id))
    })
}

/// A scrape, whose headers were checked and whose info_hashes are in the scratch space, their number in `found`.
#[inline(always)]
pub(crate) fn scrape_any(packet: &Packet) -> Result<(), Reason> {
    with_flow(packet, |scratch, flow, at| {
        let Some(header) = packet.at::<RequestHeader>(at) else { return Err((Reason::HeaderTruncated, [0; 4])) };
        let header = *header;
        let event = if flow.is_v6() { Event::Scrape6 } else { Event::Scrape4 };
        scrape(&Kernel, scratch, &header, flow.source, scratch.found.load(), event)
            .map_err(|reason| (reason, header.transaction_id))
    })
}

/// Finds the flow again, and sends the reply or the error text that belongs to the reason (and the transaction id).
#[inline(always)]
fn with_flow(
    packet: &Packet,
    answer: impl FnOnce(&Scratch, &Flow, usize) -> Result<Reply, (Reason, [u8; 4])>,
) -> Result<(), Reason> {
    let Some(scratch) = Kernel.scratch() else { return Err(Reason::Internal) };
    // SAFETY: FLOW_AT + size_of::<Kept>() is inside the scratch space, FLOW_AT is a multiple of 8, and `tracker` put a Kept there
    // before it called this program.
    let kept = unsafe { &*scratch.bytes().add(FLOW_AT).cast::<Kept>() };
    scratch.split_later.store(0);
    // For the verifier, which no longer knows that: two kinds of IP header, with or without a VLAN tag.
    let at = kept.request as usize & 0x7f;
    let reply = match answer(scratch, &kept.flow, at) {
        Ok(reply) => reply,
        Err((reason, transaction_id)) => {
            let event = if kept.flow.is_v6() { Event::Error6 } else { Event::Error4 };
            match error(&Kernel, scratch, reason, transaction_id, event) {
                Some(reply) => {
                    Kernel.reason(reason);
                    reply
                }
                None => return Err(reason),
            }
        }
    };
    reply::send(packet, scratch, &kept.flow, reply)
}
