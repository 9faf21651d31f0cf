//! Wire formats: Ethernet, 802.1Q, IPv4, IPv6, UDP headers and the BEP 15 requests and replies.
//!
//! Every struct is made of byte arrays, so that it has alignment 1, no padding and can be laid over a packet; integers
//! are in network byte order in the arrays and in host order outside.

/// BEP 15 `protocol_id` of a connect request.
pub const PROTOCOL_ID: u64 = 0x0417_2710_1980;

/// BEP 15 action: connect.
pub const ACTION_CONNECT: u32 = 0;
/// BEP 15 action: announce.
pub const ACTION_ANNOUNCE: u32 = 1;
/// BEP 15 action: scrape.
pub const ACTION_SCRAPE: u32 = 2;
/// BEP 15 action: error.
pub const ACTION_ERROR: u32 = 3;

/// Most info_hashes answered in one scrape (BEP 15: "up to about 74").
pub const SCRAPE_MAX: usize = 74;

/// Bytes of an IPv4 peer in a compact reply (BEP 15, BEP 23).
pub const PEER_V4: usize = 6;
/// Bytes of an IPv6 peer in a compact reply (BEP 15, BEP 7).
pub const PEER_V6: usize = 18;

/// A 20-byte torrent identifier (BEP 3; for BEP 52 the truncated SHA-256).
pub type InfoHash = [u8; 20];

macro_rules! sized {
    ($($name:ident = $size:literal),*) => {
        $(const _: () = assert!(size_of::<$name>() == $size && align_of::<$name>() == 1);)*
    };
}

/// The 16 bytes every BEP 15 request begins with.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct RequestHeader {
    /// Connection id, or [`PROTOCOL_ID`] in a connect request.
    pub connection_id: [u8; 8],
    /// Action.
    pub action: [u8; 4],
    /// Chosen by the client, returned unchanged.
    pub transaction_id: [u8; 4],
}

/// The first 98 bytes of a BEP 15 announce; BEP 41 options may follow.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AnnounceRequest {
    /// Connection id, action 1, transaction id.
    pub header: RequestHeader,
    /// The torrent.
    pub info_hash: InfoHash,
    /// The client's random id; not used.
    pub peer_id: [u8; 20],
    /// Bytes downloaded; not used.
    pub downloaded: [u8; 8],
    /// Bytes left: 0 makes the peer a seeder.
    pub left: [u8; 8],
    /// Bytes uploaded; not used.
    pub uploaded: [u8; 8],
    /// 0 none, 1 completed, 2 started, 3 stopped.
    pub event: [u8; 4],
    /// The address the client believes it has; not trusted, not used.
    pub ip: [u8; 4],
    /// Random key of the client; not used.
    pub key: [u8; 4],
    /// Peers wanted, signed; -1 for the default.
    pub num_want: [u8; 4],
    /// The port the client listens on.
    pub port: [u8; 2],
}

sized!(RequestHeader = 16, AnnounceRequest = 98);

/// Length of a connect request and of its reply.
pub const CONNECT_LEN: usize = 16;
/// Length of the fixed part of an announce request.
pub const ANNOUNCE_LEN: usize = 98;
/// Length of an announce reply before its peers.
pub const ANNOUNCE_REPLY_LEN: usize = 20;
/// Length of a scrape request before its info_hashes, and of the header of every request.
pub const HEADER_LEN: usize = 16;
/// Length of a scrape or error reply before what it carries.
pub const REPLY_HEADER_LEN: usize = 8;
/// Bytes per info_hash in a scrape reply.
pub const SCRAPE_ENTRY_LEN: usize = 12;

/// An Ethernet header, without tags.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ethernet {
    /// Destination MAC address.
    pub destination: [u8; 6],
    /// Source MAC address.
    pub source: [u8; 6],
    /// What follows.
    pub ether_type: [u8; 2],
}

/// An 802.1Q tag, as it follows the source MAC's `ether_type`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Vlan {
    /// Priority and VLAN number.
    pub tci: [u8; 2],
    /// What follows.
    pub ether_type: [u8; 2],
}

/// An IPv4 header without options (RFC 791).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv4 {
    /// Version 4, header length 5.
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Length with this header.
    pub total_length: [u8; 2],
    /// Identification.
    pub identification: [u8; 2],
    /// Flags and fragment offset.
    pub fragment: [u8; 2],
    /// Time to live.
    pub ttl: u8,
    /// What follows.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: [u8; 2],
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

/// An IPv6 header (RFC 8200).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Ipv6 {
    /// Version 6, traffic class, flow label.
    pub version_flow: [u8; 4],
    /// Length after this header.
    pub payload_length: [u8; 2],
    /// What follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub source: [u8; 16],
    /// Destination address.
    pub destination: [u8; 16],
}

/// A UDP header (RFC 768).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Udp {
    /// Source port.
    pub source: [u8; 2],
    /// Destination port.
    pub destination: [u8; 2],
    /// Length with this header.
    pub length: [u8; 2],
    /// Checksum; 0 for none (IPv4 only).
    pub checksum: [u8; 2],
}

sized!(Ethernet = 14, Vlan = 4, Ipv4 = 20, Ipv6 = 40, Udp = 8);

/// `ether_type` of IPv4.
pub const ETHER_IPV4: [u8; 2] = [0x08, 0x00];
/// `ether_type` of IPv6.
pub const ETHER_IPV6: [u8; 2] = [0x86, 0xdd];
/// `ether_type` of an 802.1Q tag.
pub const ETHER_VLAN: [u8; 2] = [0x81, 0x00];
/// `ether_type` of an 802.1ad tag.
pub const ETHER_QINQ: [u8; 2] = [0x88, 0xa8];
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
