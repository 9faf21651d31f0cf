//! What is done with a packet. All that the program in the driver checks (`tracker-ebpf`,
//! `frame/parse.rs`) is checked here too, before anything is answered or dropped; whatever does not
//! look as usual is passed on, so that there is one place that decides about it.

use crate::{
    maps::{BLOCKED, DESTINATIONS, WINDOW, count},
    packet::{Frame, at_front, at_front_mut, length},
};
use aya_ebpf::bindings::xdp_md;
use tracker_common::{
    bep15::{
        card_id::compose,
        half_siphash::HalfSipHash,
        wire::{ACTION_ANNOUNCE, ACTION_CONNECT, ACTION_SCRAPE, ANNOUNCE_LEN, CONNECT_LEN, HEADER_LEN, PROTOCOL_ID},
    },
    card::{Destination, Window},
    net::{
        checksum,
        headers::{ETHER_IPV4, ETHER_IPV6, Ethernet, Ipv4, Ipv6, PROTOCOL_UDP, Udp},
    },
};

/// Shortest Ethernet frame, without its checksum: shorter ones are padded.
const FRAME_MIN: u32 = 60;

/// Hops a reply may take.
const TTL: u8 = 64;

/// What comes of a packet.
pub(crate) enum Verdict {
    /// The program in the driver has a look.
    Pass,
    /// Nobody has to see it.
    Drop,
    /// It has become the answer.
    Answer,
}

#[inline(always)]
pub(crate) fn run(context: *mut xdp_md) -> Verdict {
    let Some(ethernet) = at_front::<Ethernet>(context) else { return Verdict::Pass };
    match ethernet.ether_type {
        ETHER_IPV4 => ipv4(context),
        ETHER_IPV6 => ipv6(context),
        _ => Verdict::Pass,
    }
}

/// Little-endian numbers of bytes.
#[inline(always)]
fn words<const BYTES: usize, const WORDS: usize>(bytes: [u8; BYTES]) -> [u32; WORDS] {
    const { assert!(WORDS * 4 == BYTES) };
    let mut words = [0; WORDS];
    let mut i = 0;
    while i < WORDS {
        words[i] = u32::from_ne_bytes([bytes[4 * i], bytes[4 * i + 1], bytes[4 * i + 2], bytes[4 * i + 3]]);
        i += 1;
    }
    words
}

#[inline(always)]
fn ipv4(context: *mut xdp_md) -> Verdict {
    let Some(frame) = at_front::<Frame<Ipv4>>(context) else { return Verdict::Pass };
    let ip = frame.ip;
    let total = u32::from(u16::from_be_bytes(ip.total_length));
    if ip.protocol != PROTOCOL_UDP
        || ip.version_ihl != 0x45
        || u16::from_be_bytes(ip.fragment) & 0x3fff != 0
        || total < (size_of::<Ipv4>() + size_of::<Udp>()) as u32
        || size_of::<Ethernet>() as u32 + total > length(context)
        || ip.source[0] == 0
        || ip.source[0] == 127
        || ip.source[0] >= 224
        || ip.source == ip.destination
        || checksum::fold(sum_ipv4(&ip)) != 0xffff
    {
        return Verdict::Pass;
    }
    let [source] = words(ip.source);
    let [destination] = words(ip.destination);
    let address = [u64::from(destination), 0];
    if !is_for_us(
        &frame.ethernet,
        &frame.udp,
        Destination { address, port: Destination::port(frame.udp.destination, false) },
    ) {
        return Verdict::Pass;
    }
    // SAFETY: what is removed meanwhile may be another address's entry: one packet too many or too
    // few is dropped.
    if unsafe { BLOCKED.get(source) }.is_some() {
        count!(Blocked);
        return Verdict::Drop;
    }
    let payload = total - (size_of::<Ipv4>() + size_of::<Udp>()) as u32;
    match judge(frame, payload) {
        Judgement::Decided(verdict) => return verdict,
        Judgement::Connect => {}
    }
    if length(context) > FRAME_MIN {
        return Verdict::Pass;
    }
    let sum = u64::from(source) + u64::from(destination);
    if frame.udp.checksum != [0, 0] && checksum::fold(sum + sum_udp(frame)) != 0xffff {
        return Verdict::Pass;
    }
    let Some(window) = connect(frame) else { return Verdict::Drop };
    if window.answers == 0 {
        return Verdict::Pass;
    }
    let mut hash = HalfSipHash::new(window.key);
    hash.absorb(source);
    let id = compose(window.number, hash.finish(size_of::<Ipv4Address>() as u32));
    let mut reply = turned(frame, id, sum);
    reply.ip = Ipv4 {
        version_ihl: 0x45,
        tos: 0,
        total_length: (size_of::<Frame<Ipv4>>() as u16 - size_of::<Ethernet>() as u16).to_be_bytes(),
        identification: [0, 0],
        fragment: [0x40, 0],
        ttl: TTL,
        protocol: PROTOCOL_UDP,
        checksum: [0, 0],
        source: ip.destination,
        destination: ip.source,
    };
    reply.ip.checksum = checksum::finish(sum_ipv4(&reply.ip));
    let verdict = send(context, reply);
    if matches!(verdict, Verdict::Answer) {
        count!(ConnectsV4);
    }
    verdict
}

#[inline(always)]
fn ipv6(context: *mut xdp_md) -> Verdict {
    let Some(frame) = at_front::<Frame<Ipv6>>(context) else { return Verdict::Pass };
    let ip = frame.ip;
    let total = u32::from(u16::from_be_bytes(ip.payload_length));
    let source: [u32; 4] = words(ip.source);
    let destination: [u32; 4] = words(ip.destination);
    let join = |first: u32, second: u32| u64::from(first) | u64::from(second) << 32;
    let address = [join(destination[0], destination[1]), join(destination[2], destination[3])];
    // Multicast, ::/96 with :: and ::1, and IPv4-mapped addresses are no sources.
    let mapped = source[0] | source[1] == 0 && (source[2] == 0 || source[2] == 0xffff_0000);
    if ip.next_header != PROTOCOL_UDP
        || ip.version_flow[0] >> 4 != 6
        || total < size_of::<Udp>() as u32
        || (size_of::<Ethernet>() + size_of::<Ipv6>()) as u32 + total > length(context)
        || ip.source[0] == 0xff
        || mapped
        || source == destination
    {
        return Verdict::Pass;
    }
    if !is_for_us(
        &frame.ethernet,
        &frame.udp,
        Destination { address, port: Destination::port(frame.udp.destination, true) },
    ) {
        return Verdict::Pass;
    }
    match judge(frame, total - size_of::<Udp>() as u32) {
        Judgement::Decided(verdict) => return verdict,
        Judgement::Connect => {}
    }
    if length(context) > size_of::<Frame<Ipv6>>() as u32 {
        return Verdict::Pass;
    }
    let sum = checksum::add(checksum::add(0, &ip.source), &ip.destination);
    if frame.udp.checksum == [0, 0] || checksum::fold(sum + sum_udp(frame)) != 0xffff {
        return Verdict::Pass;
    }
    let Some(window) = connect(frame) else { return Verdict::Drop };
    if window.answers == 0 {
        return Verdict::Pass;
    }
    let mut hash = HalfSipHash::new(window.key);
    // Written out: cards have no loops.
    hash.absorb(source[0]);
    hash.absorb(source[1]);
    hash.absorb(source[2]);
    hash.absorb(source[3]);
    let id = compose(window.number, hash.finish(size_of::<Ipv6Address>() as u32));
    let mut reply = turned(frame, id, sum);
    reply.ip = Ipv6 {
        version_flow: [0x60, 0, 0, 0],
        payload_length: ((size_of::<Udp>() + CONNECT_LEN) as u16).to_be_bytes(),
        next_header: PROTOCOL_UDP,
        hop_limit: TTL,
        source: ip.destination,
        destination: ip.source,
    };
    let verdict = send(context, reply);
    if matches!(verdict, Verdict::Answer) {
        count!(ConnectsV6);
    }
    verdict
}

type Ipv4Address = [u8; 4];
type Ipv6Address = [u8; 16];

/// Whether the tracker answers for this destination, at this MAC address, and the source could be
/// answered.
#[inline(always)]
fn is_for_us(ethernet: &Ethernet, udp: &Udp, destination: Destination) -> bool {
    // SAFETY: what is removed meanwhile is removed by the daemon, which then answers for it by sockets.
    let Some(mac) = (unsafe { DESTINATIONS.get(destination) }) else { return false };
    let [a, b, c, d, e, f] = ethernet.destination;
    mac.first == u32::from_ne_bytes([a, b, c, d])
        && mac.last == u32::from(u16::from_ne_bytes([e, f]))
        // Neither a group of Ethernet addresses nor port 0.
        && ethernet.source[0] & 1 == 0
        && udp.source != [0, 0]
}

/// What is known of a request before its checksum is looked at.
enum Judgement {
    Decided(Verdict),
    /// A connect of the usual length.
    Connect,
}

/// `payload` bytes are said to follow by the IP header.
#[inline(always)]
fn judge<I>(frame: &Frame<I>, payload: u32) -> Judgement {
    if u32::from(u16::from_be_bytes(frame.udp.length)) != payload + size_of::<Udp>() as u32 {
        return Judgement::Decided(Verdict::Pass);
    }
    if payload < HEADER_LEN as u32 {
        count!(TooShort);
        return Judgement::Decided(Verdict::Drop);
    }
    match u32::from_be_bytes(frame.request.action) {
        ACTION_CONNECT if payload == CONNECT_LEN as u32 => Judgement::Connect,
        ACTION_ANNOUNCE if payload < ANNOUNCE_LEN as u32 => {
            count!(TooShort);
            Judgement::Decided(Verdict::Drop)
        }
        ACTION_CONNECT | ACTION_ANNOUNCE | ACTION_SCRAPE => Judgement::Decided(Verdict::Pass),
        _ => {
            count!(UnknownAction);
            Judgement::Decided(Verdict::Drop)
        }
    }
}

/// What a connect is answered with; `None` for what only looked like one.
#[inline(always)]
fn connect<I>(frame: &Frame<I>) -> Option<&Window> {
    if frame.request.connection_id != PROTOCOL_ID.to_be_bytes() {
        count!(BadMagic);
        return None;
    }
    WINDOW.get(0)
}

/// The frame on its way back with the reply to a connect, its IP header still the old one. `sum` is
/// that of the two addresses.
#[inline(always)]
fn turned<I: Copy>(frame: &Frame<I>, id: [u32; 2], sum: u64) -> Frame<I> {
    let mut reply = *frame;
    reply.ethernet.destination = frame.ethernet.source;
    reply.ethernet.source = frame.ethernet.destination;
    // A reply has the action and the transaction first, and then the id.
    let [first, second] = id.map(u32::to_be_bytes);
    let transaction = frame.request.transaction_id;
    let [a, b, c, d] = transaction;
    reply.request.connection_id = [0, 0, 0, ACTION_CONNECT as u8, a, b, c, d];
    reply.request.action = first;
    reply.request.transaction_id = second;
    reply.udp = Udp {
        source: frame.udp.destination,
        destination: frame.udp.source,
        length: ((size_of::<Udp>() + CONNECT_LEN) as u16).to_be_bytes(),
        checksum: [0, 0],
    };
    reply.udp.checksum = checksum::finish_udp(sum + sum_udp(&reply));
    reply
}

/// Puts the reply where the request was.
#[inline(always)]
fn send<I: Copy>(context: *mut xdp_md, reply: Frame<I>) -> Verdict {
    let Some(frame) = at_front_mut::<Frame<I>>(context) else { return Verdict::Pass };
    *frame = reply;
    Verdict::Answer
}

#[inline(always)]
fn sum_ipv4(ip: &Ipv4) -> u64 {
    // SAFETY: an Ipv4 is 20 bytes with alignment 1.
    checksum::add(0, unsafe { &*(&raw const *ip).cast::<[u8; size_of::<Ipv4>()]>() })
}

/// The sum of pseudo header without its addresses, UDP header and the 16 bytes behind that.
#[inline(always)]
fn sum_udp<I>(frame: &Frame<I>) -> u64 {
    let udp = &frame.udp;
    let mut sum = u64::from(u16::from_ne_bytes([0, PROTOCOL_UDP]));
    for pair in [udp.length, udp.length, udp.source, udp.destination, udp.checksum] {
        sum += u64::from(u16::from_ne_bytes(pair));
    }
    // SAFETY: a RequestHeader is 16 bytes with alignment 1.
    checksum::add(sum, unsafe { &*(&raw const frame.request).cast::<[u8; HEADER_LEN]>() })
}
