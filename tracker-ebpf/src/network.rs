//! What differs between IPv4 and IPv6 in a packet: where things stand, and how the headers of a reply look.

use crate::packet::Packet;
use tracker_common::{
    bep15::connection_id::Address,
    net::{
        checksum,
        headers::{ETHER_IPV4, ETHER_IPV6, Ethernet, Ipv4, Ipv6, PROTOCOL_UDP, Udp},
    },
    outcome::IpVersion,
    store::family::{Family, V4, V6},
};

/// Hops a reply may take.
const TTL: u8 = 64;

/// An address family on the wire.
pub(crate) trait Network: Family {
    /// Bytes of IP and UDP header.
    const HEADERS: usize;
    /// Bytes of a peer in a reply.
    const PEER: usize = Self::PEER_BYTES as usize;
    /// Whether it is IPv6.
    const IS_V6: bool = matches!(Self::VERSION, IpVersion::V6);
    /// IP and UDP header, alignment 1.
    type Headers: Copy;

    /// Source and destination address, in memory order; IPv4 in the first word.
    fn addresses(headers: &Self::Headers) -> [[u64; 2]; 2];
    /// The source address, for connection ids.
    fn source(headers: &Self::Headers) -> Address;
    /// The key of the peer at that address with this port, network order in memory.
    fn peer(headers: &Self::Headers, port: [u8; 2]) -> Self::Key;
    /// The UDP header.
    fn udp(headers: &Self::Headers) -> &Udp;
    /// Headers from `source` to `destination` for `length` bytes after the IP header. The UDP header is zeros.
    fn headers(source: [u64; 2], destination: [u64; 2], length: usize) -> Self::Headers;
    /// Its UDP header, to be filled in.
    fn udp_mut(headers: &mut Self::Headers) -> &mut Udp;
}

/// IPv4 and UDP header.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Headers4 {
    ip: Ipv4,
    udp: Udp,
}

/// IPv6 and UDP header.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Headers6 {
    ip: Ipv6,
    udp: Udp,
}

const NO_UDP: Udp = Udp { source: [0; 2], destination: [0; 2], length: [0; 2], checksum: [0; 2] };

impl Network for V4 {
    const HEADERS: usize = size_of::<Headers4>();
    type Headers = Headers4;

    #[inline(always)]
    fn addresses(headers: &Headers4) -> [[u64; 2]; 2] {
        [headers.ip.source, headers.ip.destination].map(|address| [u64::from(u32::from_ne_bytes(address)), 0])
    }

    #[inline(always)]
    fn source(headers: &Headers4) -> Address {
        Address::V4(u32::from_ne_bytes(headers.ip.source))
    }

    #[inline(always)]
    fn peer(headers: &Headers4, port: [u8; 2]) -> u64 {
        u64::from(u32::from_ne_bytes(headers.ip.source)) | u64::from(u16::from_ne_bytes(port)) << 32
    }

    #[inline(always)]
    fn udp(headers: &Headers4) -> &Udp {
        &headers.udp
    }

    #[inline(always)]
    fn headers(source: [u64; 2], destination: [u64; 2], length: usize) -> Headers4 {
        let mut ip = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_length: ((size_of::<Ipv4>() + length) as u16).to_be_bytes(),
            identification: [0, 0],
            // Don't fragment: path MTU discovery has nothing to tell a stateless sender, but fragments of unverifiable
            // origin are worse than a lost reply.
            fragment: [0x40, 0],
            ttl: TTL,
            protocol: PROTOCOL_UDP,
            checksum: [0, 0],
            source: (source[0] as u32).to_ne_bytes(),
            destination: (destination[0] as u32).to_ne_bytes(),
        };
        // The words that are always the same are summed by the compiler.
        let mut sum = source[0] + destination[0];
        for pair in [[0x45, 0], ip.total_length, ip.fragment, [TTL, PROTOCOL_UDP]] {
            sum += u64::from(u16::from_ne_bytes(pair));
        }
        ip.checksum = checksum::finish(sum);
        Headers4 { ip, udp: NO_UDP }
    }

    #[inline(always)]
    fn udp_mut(headers: &mut Headers4) -> &mut Udp {
        &mut headers.udp
    }
}

impl Network for V6 {
    const HEADERS: usize = size_of::<Headers6>();
    type Headers = Headers6;

    #[inline(always)]
    fn addresses(headers: &Headers6) -> [[u64; 2]; 2] {
        [headers.ip.source, headers.ip.destination].map(|address| {
            let [first, second, _] = V6::key(address, 0);
            [first, second]
        })
    }

    #[inline(always)]
    fn source(headers: &Headers6) -> Address {
        let [first, second, _] = V6::key(headers.ip.source, 0);
        Address::V6([first, second])
    }

    #[inline(always)]
    fn peer(headers: &Headers6, port: [u8; 2]) -> [u64; 3] {
        V6::key(headers.ip.source, u16::from_be_bytes(port))
    }

    #[inline(always)]
    fn udp(headers: &Headers6) -> &Udp {
        &headers.udp
    }

    #[inline(always)]
    fn headers(source: [u64; 2], destination: [u64; 2], length: usize) -> Headers6 {
        let bytes = |words: [u64; 2]| (u128::from(words[0]) | u128::from(words[1]) << 64).to_le_bytes();
        let ip = Ipv6 {
            version_flow: [0x60, 0, 0, 0],
            payload_length: (length as u16).to_be_bytes(),
            next_header: PROTOCOL_UDP,
            hop_limit: TTL,
            source: bytes(source),
            destination: bytes(destination),
        };
        Headers6 { ip, udp: NO_UDP }
    }

    #[inline(always)]
    fn udp_mut(headers: &mut Headers6) -> &mut Udp {
        &mut headers.udp
    }
}

/// Source and destination of an Ethernet header.
#[repr(C)]
#[derive(Clone, Copy)]
struct Macs {
    first: ([u8; 4], [u8; 2]),
    second: ([u8; 4], [u8; 2]),
}

/// Who asked whom: read before the packet is given another length, which may also happen in front.
pub(crate) struct Flow<N> {
    asked: ([u8; 4], [u8; 2]),
    asker: ([u8; 4], [u8; 2]),
    /// The VLAN tag, if there is one.
    tag: [u8; 4],
    source: [u64; 2],
    destination: [u64; 2],
    source_port: [u8; 2],
    destination_port: [u8; 2],
    family: core::marker::PhantomData<N>,
}

impl<N: Network> Flow<N> {
    /// Reads the headers, of which the network layer begins at `l2`.
    #[inline(always)]
    pub(crate) fn read(packet: &Packet, l2: usize) -> Option<Self> {
        let macs: &Macs = packet.at(0)?;
        let tag: &[u8; 4] = packet.at(size_of::<Macs>())?;
        let headers: &N::Headers = packet.at(l2)?;
        let [source, destination] = N::addresses(headers);
        let udp = N::udp(headers);
        Some(Self {
            asked: macs.first,
            asker: macs.second,
            tag: *tag,
            source,
            destination,
            source_port: udp.source,
            destination_port: udp.destination,
            family: core::marker::PhantomData,
        })
    }

    /// Writes the headers of a reply with `length` bytes of payload, whose 16-bit words add up to `sum`.
    #[inline(always)]
    pub(crate) fn write_reply(&self, packet: &Packet, l2: usize, length: usize, mut sum: u64) -> Option<()> {
        let length = length + size_of::<Udp>();
        *packet.at_mut(0)? = Macs { first: self.asker, second: self.asked };
        if l2 > size_of::<Ethernet>() {
            *packet.at_mut(size_of::<Macs>())? = self.tag;
        }
        *packet.at_mut(l2 - 2)? = if N::IS_V6 { ETHER_IPV6 } else { ETHER_IPV4 };

        let mut headers = N::headers(self.destination, self.source, length);
        for word in [self.source, self.destination].as_flattened() {
            sum += (word & 0xffff_ffff) + (word >> 32);
        }
        let lengths = (length as u16).to_be_bytes();
        // The pseudo header (RFC 768, RFC 8200) and the UDP header, in both of which the length stands.
        for pair in [[0, PROTOCOL_UDP], lengths, lengths, self.source_port, self.destination_port] {
            sum += u64::from(u16::from_ne_bytes(pair));
        }
        *N::udp_mut(&mut headers) = Udp {
            source: self.destination_port,
            destination: self.source_port,
            length: lengths,
            checksum: checksum::finish_udp(sum),
        };
        *packet.at_mut(l2)? = headers;
        Some(())
    }
}
