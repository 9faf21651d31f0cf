//! Ethernet frames that carry UDP datagrams: a builder with a knob for every field that can be
//! wrong, and a parser of replies that checks every header, length and checksum.
//!
//! Written from the RFCs and not with `tracker_common`: a test must not share the mistakes of what
//! it tests.

use anyhow::{Context as _, Result, bail, ensure};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A MAC address.
pub type Mac = [u8; 6];

/// `EtherType` of IPv4.
pub const IPV4: u16 = 0x0800;
/// `EtherType` of ARP.
pub const ARP: u16 = 0x0806;
/// `EtherType` of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// `EtherType` of IPv6.
pub const IPV6: u16 = 0x86dd;
/// `EtherType` of an 802.1ad tag.
pub const QINQ: u16 = 0x88a8;

/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// IP protocol number of `ICMPv6`.
pub const ICMPV6: u8 = 58;

/// Shortest Ethernet frame without its check sequence; shorter ones are padded on the wire.
pub const ETHERNET_MIN: usize = 60;

/// What stands in a checksum field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// What belongs there.
    #[default]
    Right,
    /// One bit is wrong.
    Wrong,
    /// Zero: over IPv4, UDP without a checksum.
    Zero,
    /// The sum of the pseudo-header only, as a sender leaves it to a network card that computes the
    /// rest.
    Unfinished,
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// [`VLAN`] or [`QINQ`].
    pub protocol: u16,
    /// Priority and VLAN number.
    pub control: u16,
}

/// A frame to be built. [`Frame::udp`] gives a right one; every field can then be changed.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Destination MAC address.
    pub destination_mac: Mac,
    /// Source MAC address.
    pub source_mac: Mac,
    /// VLAN tags, outermost first.
    pub tags: Vec<Tag>,
    /// `EtherType` instead of the one that belongs to the addresses.
    pub ether_type: Option<u16>,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// IP version instead of the one that belongs to the addresses.
    pub version: Option<u8>,
    /// IPv4 header length in 32-bit words instead of the right one.
    pub header_words: Option<u8>,
    /// IPv4 options; a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// IPv4 flags and fragment offset.
    pub fragment: u16,
    /// TTL or hop limit.
    pub hops: u8,
    /// Number of an 8-byte IPv6 extension header to put before UDP.
    pub extension: Option<u8>,
    /// Added to the IPv4 total length or the IPv6 payload length.
    pub ip_length: i32,
    /// IPv4 header checksum.
    pub ip_checksum: Checksum,
    /// Added to the UDP length.
    pub udp_length: i32,
    /// UDP checksum.
    pub udp_checksum: Checksum,
    /// What UDP carries.
    pub payload: Vec<u8>,
    /// Bytes after the IP packet.
    pub padding: usize,
    /// Bytes cut off the end.
    pub cut: usize,
}

impl Frame {
    /// A right frame without VLAN tag.
    #[must_use]
    pub fn udp(source_mac: Mac, destination_mac: Mac, source: SocketAddr, destination: SocketAddr) -> Self {
        Self {
            destination_mac,
            source_mac,
            tags: Vec::new(),
            ether_type: None,
            source,
            destination,
            protocol: UDP,
            version: None,
            header_words: None,
            options: Vec::new(),
            fragment: 0,
            hops: 64,
            extension: None,
            ip_length: 0,
            ip_checksum: Checksum::Right,
            udp_length: 0,
            udp_checksum: Checksum::Right,
            payload: Vec::new(),
            padding: 0,
            cut: 0,
        }
    }

    /// The frame's bytes.
    ///
    /// # Panics
    /// When source and destination are not of the same family.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.destination_mac);
        frame.extend(self.source_mac);
        for tag in &self.tags {
            frame.extend(tag.protocol.to_be_bytes());
            frame.extend(tag.control.to_be_bytes());
        }
        let ether_type = if self.source.is_ipv4() { IPV4 } else { IPV6 };
        frame.extend(self.ether_type.unwrap_or(ether_type).to_be_bytes());

        let udp = self.udp_bytes();
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => self.put_ipv4(&mut frame, source, destination, udp.len()),
            (IpAddr::V6(source), IpAddr::V6(destination)) => self.put_ipv6(&mut frame, source, destination, udp.len()),
            (source, destination) => panic!("a frame from {source} to {destination} mixes address families"),
        }
        frame.extend(udp);
        frame.extend(std::iter::repeat_n(0, self.padding));
        frame.truncate(frame.len().saturating_sub(self.cut));
        frame
    }

    fn udp_bytes(&self) -> Vec<u8> {
        let length = 8 + self.payload.len();
        let mut udp = Vec::with_capacity(length);
        udp.extend(self.source.port().to_be_bytes());
        udp.extend(self.destination.port().to_be_bytes());
        udp.extend(changed(length, self.udp_length).to_be_bytes());
        udp.extend([0; 2]);
        udp.extend(&self.payload);
        let pseudo = pseudo_header(self.source.ip(), self.destination.ip(), length);
        let right = match internet_checksum(&[&pseudo, &udp]) {
            // RFC 768: an all-zero checksum is sent as all ones.
            0 => 0xffff,
            sum => sum,
        };
        let checksum = match self.udp_checksum {
            Checksum::Right => right,
            // Never zero, which would mean "none".
            Checksum::Wrong => {
                if right == 0x0100 {
                    0x0200
                } else {
                    right ^ 0x0100
                }
            }
            Checksum::Zero => 0,
            Checksum::Unfinished => !internet_checksum(&[&pseudo]),
        };
        udp[6..8].copy_from_slice(&checksum.to_be_bytes());
        udp
    }

    fn put_ipv4(&self, frame: &mut Vec<u8>, source: Ipv4Addr, destination: Ipv4Addr, carried: usize) {
        let header_length = 20 + self.options.len();
        let words = self.header_words.unwrap_or_else(|| u8::try_from(header_length / 4).expect("few IPv4 options"));
        let mut header = vec![self.version.unwrap_or(4) << 4 | words, 0];
        header.extend(changed(header_length + carried, self.ip_length).to_be_bytes());
        header.extend([0x12, 0x34]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([self.hops, self.protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.options);
        let right = internet_checksum(&[&header]);
        let checksum = match self.ip_checksum {
            Checksum::Right => right,
            Checksum::Wrong | Checksum::Unfinished => right ^ 0x0100,
            Checksum::Zero => 0,
        };
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        frame.extend(header);
    }

    fn put_ipv6(&self, frame: &mut Vec<u8>, source: Ipv6Addr, destination: Ipv6Addr, carried: usize) {
        let extension = if self.extension.is_some() { 8 } else { 0 };
        frame.extend([self.version.unwrap_or(6) << 4, 0, 0, 0]);
        frame.extend(changed(extension + carried, self.ip_length).to_be_bytes());
        frame.extend([self.extension.unwrap_or(self.protocol), self.hops]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        if self.extension.is_some() {
            // Next header, length 0 for 8 bytes; then, read as options, one PadN that fills the
            // rest.
            frame.extend([self.protocol, 0, 1, 4, 0, 0, 0, 0]);
        }
    }
}

/// An ARP request for an IPv4 address.
#[must_use]
pub fn arp_request(source_mac: Mac, source: Ipv4Addr, wanted: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(source_mac);
    frame.extend(ARP.to_be_bytes());
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(source_mac);
    frame.extend(source.octets());
    frame.extend([0; 6]);
    frame.extend(wanted.octets());
    frame.resize(ETHERNET_MIN, 0);
    frame
}

/// A UDP datagram and the headers it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Destination MAC address.
    pub destination_mac: Mac,
    /// Source MAC address.
    pub source_mac: Mac,
    /// VLAN tags, outermost first.
    pub tags: Vec<Tag>,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// What UDP carries.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// Takes a frame apart.
    ///
    /// # Errors
    /// Anything that a picky receiver could refuse: a wrong length or checksum anywhere, a missing
    /// UDP checksum, bytes after the packet beyond Ethernet's minimum, IPv4 options, fragments, a
    /// used-up TTL.
    pub fn parse(frame: &[u8]) -> Result<Self> {
        let mut rest = Reader(frame);
        let destination_mac = rest.take::<6>()?;
        let source_mac = rest.take::<6>()?;
        let mut tags = Vec::new();
        let ether_type = loop {
            match rest.u16()? {
                protocol @ (VLAN | QINQ) => tags.push(Tag { protocol, control: rest.u16()? }),
                ether_type => break ether_type,
            }
        };
        let packet = rest.0;
        let (source, destination, hops, length, udp_at): (IpAddr, IpAddr, u8, usize, usize) = match ether_type {
            IPV4 => {
                let header = rest.take::<20>().context("IPv4 header")?;
                ensure!(header[0] == 0x45, "IPv4 version and header length are {:#04x} instead of 0x45", header[0]);
                ensure!(internet_checksum(&[&header]) == 0, "wrong IPv4 header checksum");
                let fragment = u16::from_be_bytes([header[6], header[7]]);
                ensure!(fragment & 0xbfff == 0, "IPv4 flags and fragment offset are {fragment:#06x}");
                ensure!(header[9] == UDP, "IP protocol {} instead of UDP", header[9]);
                let source: [u8; 4] = header[12..16].try_into()?;
                let destination: [u8; 4] = header[16..20].try_into()?;
                let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
                (source.into(), destination.into(), header[8], length, 20)
            }
            IPV6 => {
                let header = rest.take::<40>().context("IPv6 header")?;
                ensure!(header[0] >> 4 == 6, "IP version {} in an IPv6 packet", header[0] >> 4);
                ensure!(header[6] == UDP, "IPv6 next header {} instead of UDP", header[6]);
                let source: [u8; 16] = header[8..24].try_into()?;
                let destination: [u8; 16] = header[24..40].try_into()?;
                let length = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
                (source.into(), destination.into(), header[7], length, 40)
            }
            other => bail!("EtherType {other:#06x} is neither IPv4 nor IPv6"),
        };
        ensure!(hops > 0, "TTL or hop limit 0");
        ensure!(length <= packet.len(), "the IP length is {length}, but the frame has only {} bytes", packet.len());
        ensure!(
            length == packet.len() || frame.len() <= ETHERNET_MIN,
            "{} bytes behind the end of the IP packet",
            packet.len() - length
        );
        ensure!(length >= udp_at + 8, "no room for a UDP header in an IP length of {length}");

        let udp = &packet[udp_at..length];
        let udp_length = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
        ensure!(udp_length == udp.len(), "UDP length {udp_length}, but IP carries {} bytes", udp.len());
        ensure!(udp[6..8] != [0, 0], "no UDP checksum");
        let pseudo = pseudo_header(source, destination, udp.len());
        ensure!(internet_checksum(&[&pseudo, udp]) == 0, "wrong UDP checksum");
        Ok(Self {
            destination_mac,
            source_mac,
            tags,
            source: SocketAddr::new(source, u16::from_be_bytes([udp[0], udp[1]])),
            destination: SocketAddr::new(destination, u16::from_be_bytes([udp[2], udp[3]])),
            payload: udp[8..].to_vec(),
        })
    }

    /// Checks that this goes back, with the same tags, to where `request` came from.
    ///
    /// # Errors
    /// When it does not.
    pub fn check_answers(&self, request: &Frame) -> Result<()> {
        ensure!(self.destination_mac == request.source_mac, "sent to MAC {:02x?}", self.destination_mac);
        ensure!(self.source_mac == request.destination_mac, "sent from MAC {:02x?}", self.source_mac);
        ensure!(self.tags == request.tags, "VLAN tags {:?} instead of {:?}", self.tags, request.tags);
        ensure!(self.destination == request.source, "sent to {} instead of {}", self.destination, request.source);
        ensure!(self.source == request.destination, "sent from {} instead of {}", self.source, request.destination);
        Ok(())
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>().with_context(|| {
            format!("the frame ends where {N} more bytes are needed, {} bytes before its end", self.0.len())
        })?;
        self.0 = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16> {
        Ok(u16::from_be_bytes(self.take()?))
    }
}

/// A 16-bit length, changed by a knob.
fn changed(length: usize, by: i32) -> u16 {
    let length = i32::try_from(length).expect("a frame's length") + by;
    u16::try_from(length).expect("a 16-bit length after the knob is turned")
}

fn pseudo_header(source: IpAddr, destination: IpAddr, udp_length: usize) -> Vec<u8> {
    let mut header = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => header.extend(address.octets()),
            IpAddr::V6(address) => header.extend(address.octets()),
        }
    }
    // RFC 768 has 16 bits for length and protocol each, RFC 8200 32; in the sum both are the same.
    header.extend(u32::try_from(udp_length).expect("a datagram's length").to_be_bytes());
    header.extend(u32::from(UDP).to_be_bytes());
    header
}

/// The Internet checksum (RFC 1071) of parts that all but the last have an even length; 0 over data
/// that holds its own right checksum.
fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Mac = [2, 0, 0, 0, 0, 1];
    const THEIRS: Mac = [2, 0, 0, 0, 0, 2];

    fn frame(source: &str, destination: &str) -> Frame {
        let mut frame =
            Frame::udp(THEIRS, OURS, source.parse().expect("address"), destination.parse().expect("address"));
        frame.payload = b"odd".to_vec();
        frame
    }

    fn both() -> [Frame; 2] {
        [frame("192.0.2.1:1000", "192.0.2.2:6969"), frame("[2001:db8::1]:1000", "[2001:db8::2]:6969")]
    }

    #[test]
    fn what_is_built_is_read_back() {
        for mut frame in both() {
            for tags in [vec![], vec![Tag { protocol: VLAN, control: 0x6005 }]] {
                frame.tags = tags;
                let read = Datagram::parse(&frame.bytes()).expect("a right frame");
                assert_eq!((read.source, read.destination), (frame.source, frame.destination));
                assert_eq!((&read.tags, &read.payload), (&frame.tags, &frame.payload));
            }
        }
    }

    #[test]
    fn header_checksum_is_that_of_a_well_known_example() {
        let header = [0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0, 0xc7];
        assert_eq!(internet_checksum(&[&header]), 0xb861);
    }

    /// A turn of one knob.
    type Knob = fn(&mut Frame);

    #[test]
    fn every_wrong_field_is_refused() {
        let knobs: [(&str, Knob); 9] = [
            ("UDP checksum", |frame| frame.udp_checksum = Checksum::Wrong),
            ("no UDP checksum", |frame| frame.udp_checksum = Checksum::Zero),
            ("unfinished UDP checksum", |frame| frame.udp_checksum = Checksum::Unfinished),
            ("UDP length", |frame| frame.udp_length = -1),
            ("IP length too long", |frame| frame.ip_length = 1),
            ("IP length too short", |frame| frame.ip_length = -1),
            ("TTL", |frame| frame.hops = 0),
            ("cut", |frame| frame.cut = 1),
            ("version", |frame| frame.version = Some(5)),
        ];
        for (name, knob) in knobs {
            for mut frame in both() {
                knob(&mut frame);
                Datagram::parse(&frame.bytes()).expect_err(name);
            }
        }
    }

    #[test]
    fn padding_is_accepted_up_to_the_shortest_frame_only() {
        let [mut frame, _] = both();
        frame.padding = ETHERNET_MIN - frame.bytes().len();
        Datagram::parse(&frame.bytes()).expect("padded to the minimum");
        frame.padding += 1;
        Datagram::parse(&frame.bytes()).expect_err("padded beyond it");
    }
}
