//! What differs between IPv4 and IPv6 in a packet: where things stand, and how the headers of a
//! reply look.

use tracker_common::{
    bep15::connection_id::IpKey,
    net::{
        checksum,
        headers::{Ipv4, Ipv6, PROTOCOL_UDP, Udp},
    },
    outcome::IpVersion,
    store::family::{Family, V4, V6},
};

/// Hops a reply may take.
const TTL: u8 = 64;

/// IP and UDP header.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Headers<I> {
    pub(crate) ip: I,
    pub(crate) udp: Udp,
}

/// An address family on the wire.
pub(crate) trait Network: Family {
    /// The IP header, alignment 1.
    type Ip: Copy;
    /// Bytes of IP and UDP header.
    const HEADERS: usize = size_of::<Headers<Self::Ip>>();
    /// Bytes of a peer in a reply.
    const PEER: usize = Self::PEER_BYTES as usize;
    /// Whether it is IPv6.
    const IS_V6: bool = matches!(Self::VERSION, IpVersion::V6);

    /// Source and destination address, in memory order; IPv4 in the first word.
    fn addresses(ip: &Self::Ip) -> [[u64; 2]; 2];
    /// The source address, for connection ids.
    fn source(ip: &Self::Ip) -> IpKey;
    /// The key of the peer at that address with this port, network order in memory.
    fn peer(ip: &Self::Ip, port: [u8; 2]) -> Self::Key;
    /// A header from `source` to `destination` for `length` bytes behind it.
    fn ip_header(source: [u64; 2], destination: [u64; 2], length: usize) -> Self::Ip;
}

impl Network for V4 {
    type Ip = Ipv4;

    #[inline(always)]
    fn addresses(ip: &Ipv4) -> [[u64; 2]; 2] {
        [ip.source, ip.destination].map(|address| [u64::from(u32::from_ne_bytes(address)), 0])
    }

    #[inline(always)]
    fn source(ip: &Ipv4) -> IpKey {
        IpKey::V4(u32::from_ne_bytes(ip.source))
    }

    #[inline(always)]
    fn peer(ip: &Ipv4, port: [u8; 2]) -> u64 {
        u64::from(u32::from_ne_bytes(ip.source)) | u64::from(u16::from_ne_bytes(port)) << 32
    }

    #[inline(always)]
    fn ip_header(source: [u64; 2], destination: [u64; 2], length: usize) -> Ipv4 {
        let mut ip = Ipv4 {
            version_ihl: 0x45,
            tos: 0,
            total_length: ((size_of::<Ipv4>() + length) as u16).to_be_bytes(),
            identification: [0, 0],
            // Don't fragment: path MTU discovery has nothing to tell a stateless sender, but
            // fragments of unverifiable origin are worse than a lost reply.
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
        ip
    }
}

impl Network for V6 {
    type Ip = Ipv6;

    #[inline(always)]
    fn addresses(ip: &Ipv6) -> [[u64; 2]; 2] {
        [ip.source, ip.destination].map(|address| {
            let [first, second, _] = V6::key(address, 0);
            [first, second]
        })
    }

    #[inline(always)]
    fn source(ip: &Ipv6) -> IpKey {
        let [first, second, _] = V6::key(ip.source, 0);
        IpKey::V6([first, second])
    }

    #[inline(always)]
    fn peer(ip: &Ipv6, port: [u8; 2]) -> [u64; 3] {
        V6::key(ip.source, u16::from_be_bytes(port))
    }

    #[inline(always)]
    fn ip_header(source: [u64; 2], destination: [u64; 2], length: usize) -> Ipv6 {
        let bytes = |words: [u64; 2]| (u128::from(words[0]) | u128::from(words[1]) << 64).to_le_bytes();
        Ipv6 {
            version_flow: [0x60, 0, 0, 0],
            payload_length: (length as u16).to_be_bytes(),
            next_header: PROTOCOL_UDP,
            hop_limit: TTL,
            source: bytes(source),
            destination: bytes(destination),
        }
    }
}
