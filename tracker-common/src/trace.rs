//! What the XDP program tells of a single packet during a trace: a record in a ring buffer,
//! and how it is read.
//!
//! The program copies the beginning of the frame, as it came in; what is in it is found out by the
//! reader, who has time.

use crate::{
    bep15::wire::{ACTION_ANNOUNCE, ACTION_SCRAPE, ANNOUNCE_LEN, HEADER_LEN},
    id::InfoHash,
    net::headers::{ETHER_IPV4, ETHER_IPV6, ETHER_VLAN, Ethernet, Ipv4, Ipv6, PROTOCOL_UDP, Udp, Vlan},
    outcome::{Counter, Event, FrameReason, Reason},
};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most bytes of a frame in a record: an announce over IPv6 with a VLAN tag, without options.
pub const CAPTURE: usize =
    size_of::<Ethernet>() + size_of::<Vlan>() + size_of::<Ipv6>() + size_of::<Udp>() + ANNOUNCE_LEN;

/// Bytes of the ring buffer: a thousand records and more. A power of two and at least a page, as
/// the kernel wants it.
pub const RING_BYTES: u32 = 256 << 10;

/// One packet. Numbers are in the byte order of the machine.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Record {
    /// Nanoseconds of the kernel's CLOCK_MONOTONIC.
    pub time: [u8; 8],
    /// Number of the counter of what became of it ([`Counter::index`]); for a request answered with
    /// an error, that of the reason. Above its 16 bits the list that a blocked source is on.
    pub outcome: [u8; 4],
    /// What the program returned: `enum xdp_action` of linux/bpf.h.
    pub action: [u8; 4],
    /// Index of the interface it came in by.
    pub interface: [u8; 4],
    /// Bytes of `frame` that were written.
    pub captured: [u8; 4],
    /// The frame as it came in, from its Ethernet header on. What is behind `captured` bytes is
    /// left over from others.
    pub frame: [u8; CAPTURE],
}

const _: () = assert!(size_of::<Record>() == 24 + CAPTURE && align_of::<Record>() == 1);

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered as asked.
    Answered(Event),
    /// It was not; with [`Action::Send`] it was answered with an error.
    Refused(Reason),
}

impl Outcome {
    /// All that a packet may come to, in the order of their counters.
    pub fn all() -> impl Iterator<Item = Self> {
        const ANSWERS: [Event; 6] =
            [Event::Connect4, Event::Connect6, Event::Announce4, Event::Announce6, Event::Scrape4, Event::Scrape6];
        ANSWERS.into_iter().map(Self::Answered).chain(Reason::all().map(Self::Refused))
    }

    /// Its name, as metrics have it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answered(event) => event.label(),
            Self::Refused(reason) => reason.label(),
        }
    }

    /// Its bit in [`crate::settings::Settings::trace_wanted`].
    #[must_use]
    pub const fn bit(self) -> u64 {
        1 << self.index()
    }

    const fn index(self) -> usize {
        match self {
            Self::Answered(event) => Counter::Event(event).index(),
            Self::Refused(reason) => Counter::Reason(reason).index(),
        }
    }
}

const _: () = assert!(Event::ALL.len() + Reason::COUNT <= u64::BITS as usize);

/// What the program did with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `XDP_DROP`
    Drop,
    /// `XDP_PASS`: the kernel had a look, and the daemon's sockets.
    Pass,
    /// `XDP_TX`: it was answered.
    Send,
}

impl Action {
    /// Its name in the kernel, in short.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Pass => "pass",
            Self::Send => "tx",
        }
    }
}

/// A record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traced<'a> {
    /// Nanoseconds of the kernel's CLOCK_MONOTONIC.
    pub time: u64,
    /// What became of the packet.
    pub outcome: Outcome,
    /// Number of the list of blocked addresses that the source is on, from 1 on; 0 for none.
    pub list: u32,
    /// What was done with it.
    pub action: Action,
    /// Index of the interface it came in by.
    pub interface: u32,
    /// Source and destination; the ports are 0 where there are none. `None` if it is no IP packet.
    pub flow: Option<[SocketAddr; 2]>,
    /// What was asked; `None` if it is not a UDP packet to the tracker.
    pub request: Option<Asked<'a>>,
}

/// A UDP payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked<'a> {
    /// BEP 15 action; `None` if it is too short for one.
    pub action: Option<u32>,
    /// Its length in bytes, by the UDP header.
    pub length: usize,
    /// How many info_hashes it carries.
    pub hashes: usize,
    /// The first of these.
    pub info_hashes: &'a [InfoHash],
}

impl Record {
    /// Reads a record. `None` if it is not one of this version's.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Traced<'_>> {
        let (time, rest) = bytes.split_first_chunk::<8>()?;
        let (words, frame) = rest.split_first_chunk::<16>()?;
        let [outcome, action, interface, captured] =
            [0, 4, 8, 12].map(|at| u32::from_ne_bytes([words[at], words[at + 1], words[at + 2], words[at + 3]]));
        if frame.len() != CAPTURE {
            return None;
        }
        let frame = frame.get(..captured as usize)?;
        let (outcome, list) = (outcome & 0xffff, outcome >> 16);
        let outcome = Outcome::all().find(|known| known.index() == outcome as usize)?;
        // As in linux/bpf.h.
        let action = match action {
            1 => Action::Drop,
            2 => Action::Pass,
            3 => Action::Send,
            _ => return None,
        };
        let (flow, datagram) = match network(frame) {
            Some((flow, datagram)) => (Some(flow), datagram),
            None => (None, None),
        };
        // Others speak other protocols.
        let ours = outcome != Outcome::Refused(Reason::Frame(FrameReason::NotForUs));
        let request = datagram.filter(|_| ours).map(|(length, payload)| request(length, payload));
        Some(Traced { time: u64::from_ne_bytes(*time), outcome, list, action, interface, flow, request })
    }
}

/// A UDP payload's length, and as much of it as there is.
type Datagram<'a> = (usize, &'a [u8]);

/// Source and destination, and the payload if it is UDP.
fn network(frame: &[u8]) -> Option<([SocketAddr; 2], Option<Datagram<'_>>)> {
    let ether_type = |at: usize| -> Option<[u8; 2]> { frame.get(at..)?.first_chunk().copied() };
    let mut at = size_of::<Ethernet>();
    let mut kind = ether_type(at - 2)?;
    if kind == ETHER_VLAN {
        at += size_of::<Vlan>();
        kind = ether_type(at - 2)?;
    }
    let packet = frame.get(at..)?;
    let (addresses, transport): ([IpAddr; 2], _) = match kind {
        ETHER_IPV4 => {
            let header: &[u8; size_of::<Ipv4>()] = packet.first_chunk()?;
            let address = |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]).into();
            // Behind the options, and only in the first fragment.
            let first = u16::from_be_bytes([header[6], header[7]]) & 0x1fff == 0;
            let transport = packet.get(usize::from(header[0] & 0xf) * 4..);
            ([address(12), address(16)], transport.filter(|_| header[9] == PROTOCOL_UDP && first))
        }
        ETHER_IPV6 => {
            let (header, rest) = packet.split_first_chunk::<{ size_of::<Ipv6>() }>()?;
            let address = |at: usize| Some(Ipv6Addr::from(*header.get(at..)?.first_chunk::<16>()?).into());
            ([address(8)?, address(24)?], Some(rest).filter(|_| header[6] == PROTOCOL_UDP))
        }
        _ => return None,
    };
    let Some((udp, payload)) = transport.and_then(|bytes| bytes.split_first_chunk::<{ size_of::<Udp>() }>()) else {
        return Some((addresses.map(|address| SocketAddr::new(address, 0)), None));
    };
    let [source, destination, length, _] = [0, 2, 4, 6].map(|at| u16::from_be_bytes([udp[at], udp[at + 1]]));
    let flow = [SocketAddr::new(addresses[0], source), SocketAddr::new(addresses[1], destination)];
    let length = usize::from(length).checked_sub(size_of::<Udp>());
    Some((flow, length.map(|length| (length, payload))))
}

fn request(length: usize, payload: &[u8]) -> Asked<'_> {
    // Ethernet pads.
    let payload = payload.get(..length).unwrap_or(payload);
    let Some((header, rest)) = payload.split_first_chunk::<HEADER_LEN>() else {
        return Asked { action: None, length, hashes: 0, info_hashes: &[] };
    };
    let action = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
    let hashes = match action {
        ACTION_ANNOUNCE if length >= HEADER_LEN + 20 => 1,
        ACTION_SCRAPE => (length - HEADER_LEN) / 20,
        _ => 0,
    };
    let info_hashes = rest.as_chunks::<20>().0;
    Asked { action: Some(action), length, hashes, info_hashes: &info_hashes[..hashes.min(info_hashes.len())] }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: [u8; 20] = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 7, 198, 51, 100, 1];

    fn udp(payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len() + 8).expect("short");
        [&[0x1b, 0x58, 0x1b, 0x39][..], &length.to_be_bytes(), &[0, 0], payload].concat()
    }

    fn v4(changes: &[(usize, u8)], rest: &[u8]) -> Vec<u8> {
        let mut header = V4;
        for (at, value) in changes {
            header[*at] = *value;
        }
        [&[2; 12][..], &[8, 0], &header, rest].concat()
    }

    fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = [0; 40];
        header[0] = 0x60;
        header[6] = next;
        header[8..12].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        header[23] = 7;
        header[24..28].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        header[39] = 1;
        [&[2; 12][..], &[0x86, 0xdd], &header, rest].concat()
    }

    fn tagged(frame: &[u8]) -> Vec<u8> {
        [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat()
    }

    fn payload(action: u32, behind: &[u8]) -> Vec<u8> {
        [&[9; 8][..], &action.to_be_bytes(), &[7; 4], behind].concat()
    }

    fn record(outcome: Outcome, action: u32, frame: &[u8]) -> Vec<u8> {
        let mut captured = frame[..frame.len().min(CAPTURE)].to_vec();
        let length = u32::try_from(captured.len()).expect("short");
        // What others have left behind.
        captured.resize(CAPTURE, 0xee);
        let index = u32::try_from(outcome.index()).expect("few");
        let words = [index, action, 3, length].map(u32::to_ne_bytes);
        [&77_u64.to_ne_bytes()[..], words.as_flattened(), &captured].concat()
    }

    const HASH: [u8; 20] = [0x3c; 20];
    const OTHER: [u8; 20] = [0x4d; 20];

    #[test]
    fn requests_are_read_from_frames() {
        let announce = payload(1, &[&HASH[..], &[0; 62]].concat());
        let scrape = payload(2, &[HASH, OTHER].concat());
        let many = payload(2, &HASH.repeat(70));
        let (four, six) = ("192.0.2.7:7000", "[2001:db8::7]:7000");
        // (what it is, frame, source, action, length, info_hashes there, info_hashes seen at least)
        for (name, frame, source, action, length, hashes, seen) in [
            ("connect", v4(&[], &udp(&payload(0, &[]))), four, Some(0), 16, 0, 0),
            ("announce", v4(&[], &udp(&announce)), four, Some(1), 98, 1, 1),
            ("announce over IPv6", v6(17, &udp(&announce)), six, Some(1), 98, 1, 1),
            ("tagged", tagged(&v6(17, &udp(&announce))), six, Some(1), 98, 1, 1),
            ("options of BEP 41", v4(&[], &udp(&[&announce[..], &[2, 1, 47]].concat())), four, Some(1), 101, 1, 1),
            ("IP options", v4(&[(0, 0x46)], &[&[1; 4][..], &udp(&announce)].concat()), four, Some(1), 98, 1, 1),
            ("first fragment", v4(&[(6, 0x20)], &udp(&announce)), four, Some(1), 98, 1, 1),
            ("scrape", v4(&[], &udp(&scrape)), four, Some(2), 56, 2, 2),
            ("scrape of more than is captured", v4(&[], &udp(&many)), four, Some(2), 1416, 70, 5),
            ("scrape of nothing", v4(&[], &udp(&payload(2, &[]))), four, Some(2), 16, 0, 0),
            ("short announce", v4(&[], &udp(&announce[..97])), four, Some(1), 97, 1, 1),
            ("announce without an info_hash", v4(&[], &udp(&announce[..30])), four, Some(1), 30, 0, 0),
            ("unknown action", v4(&[], &udp(&payload(9, &HASH))), four, Some(9), 36, 0, 0),
            ("too short for an action", v4(&[], &udp(&[1; 15])), four, None, 15, 0, 0),
            ("padded", v4(&[], &[&udp(&[1; 3])[..], &[0; 30]].concat()), four, None, 3, 0, 0),
            ("empty", v4(&[], &udp(&[])), four, None, 0, 0, 0),
        ] {
            let bytes = record(Outcome::Answered(Event::Announce4), 3, &frame);
            let traced = Record::read(&bytes).expect(name);
            assert_eq!((traced.time, traced.interface, traced.action), (77, 3, Action::Send), "{name}");
            assert_eq!(traced.outcome.label(), "announce_ipv4");
            let [from, to] = traced.flow.expect(name);
            assert_eq!((from, to.port()), (source.parse().expect("an address"), 6969), "{name}");
            let asked = traced.request.expect(name);
            assert_eq!((asked.action, asked.length, asked.hashes), (action, length, hashes), "{name}");
            assert!(asked.info_hashes.len() >= seen && asked.info_hashes.len() <= hashes, "{name}");
            assert!(asked.info_hashes.iter().all(|hash| *hash == HASH || *hash == OTHER), "{name}");
        }
    }

    #[test]
    fn frames_without_a_request_have_what_is_there() {
        let wrong_length = [0x1b, 0x58, 0x1b, 0x39, 0, 7, 0, 0];
        for (name, frame, source) in [
            ("nothing", vec![0; 3], None),
            ("ARP", [&[2; 12][..], &[8, 6], &[0; 28]].concat(), None),
            ("half of an IPv4 header", v4(&[], &[])[..30].to_vec(), None),
            ("half of an IPv6 header", v6(17, &[])[..50].to_vec(), None),
            ("a tag and nothing behind it", tagged(&v4(&[], &[]))[..16].to_vec(), None),
            ("two tags", tagged(&tagged(&v4(&[], &udp(&[])))), None),
            ("TCP", v4(&[(9, 6)], &[1; 20]), Some("192.0.2.7:0")),
            ("TCP over IPv6", v6(6, &[1; 20]), Some("[2001:db8::7]:0")),
            ("a later fragment", v4(&[(7, 9)], &udp(&payload(1, &HASH))), Some("192.0.2.7:0")),
            ("half of a UDP header", v4(&[], &[1; 7]), Some("192.0.2.7:0")),
            ("IP options beyond the end", v4(&[(0, 0x4f)], &[1; 8]), Some("192.0.2.7:0")),
            ("a UDP length below 8", v4(&[], &wrong_length), Some("192.0.2.7:7000")),
        ] {
            let bytes = record(Outcome::Refused(Reason::Frame(FrameReason::NotUdp)), 2, &frame);
            let traced = Record::read(&bytes).expect(name);
            assert_eq!(traced.request, None, "{name}");
            assert_eq!(traced.flow.map(|[source, _]| source.to_string()).as_deref(), source, "{name}");
        }
        // Another protocol, to another port.
        let bytes =
            record(Outcome::Refused(Reason::Frame(FrameReason::NotForUs)), 2, &v4(&[], &udp(&payload(1, &HASH))));
        assert_eq!(Record::read(&bytes).expect("a record").request, None);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let frame = v4(&[], &udp(&payload(0, &[])));
        let whole = record(Outcome::Answered(Event::Connect4), 3, &frame);
        assert!(Record::read(&whole).is_some());
        let changed = |at: usize, value: u32| {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            bytes
        };
        for (name, bytes) in [
            ("nothing", Vec::new()),
            ("half", whole[..20].to_vec()),
            ("a byte less", whole[..whole.len() - 1].to_vec()),
            ("a byte more", [&whole[..], &[0]].concat()),
            ("an outcome that is no packet's", changed(8, Event::PeersReturned as u32)),
            ("an outcome that there is not", changed(8, 1000)),
            ("XDP_ABORTED", changed(12, 0)),
            ("XDP_REDIRECT", changed(12, 4)),
            ("more captured than there is room for", changed(20, CAPTURE as u32 + 1)),
        ] {
            assert_eq!(Record::read(&bytes), None, "{name}");
        }
    }

    #[test]
    fn every_outcome_has_a_bit_of_its_own() {
        let outcomes: Vec<_> = Outcome::all().collect();
        assert_eq!(outcomes.iter().fold(0, |bits, outcome| bits | outcome.bit()).count_ones() as usize, outcomes.len());
        assert_eq!(outcomes.len(), Reason::COUNT + 6);
    }
}
