//! The requests and replies of BEP 15 as bytes.
//!
//! Every struct is made of byte arrays, so that it has alignment 1, no padding and can be laid over
//! a packet. Integers are in network byte order.

use crate::id::InfoHash;

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
    /// Random key of the client: whose peer it is ([`crate::store::owner`]).
    pub key: [u8; 4],
    /// Peers wanted, signed; -1 for the default.
    pub num_want: [u8; 4],
    /// The port the client listens on.
    pub port: [u8; 2],
}

const _: () = assert!(size_of::<RequestHeader>() == 16 && align_of::<RequestHeader>() == 1);
const _: () = assert!(size_of::<AnnounceRequest>() == 98 && align_of::<AnnounceRequest>() == 1);

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
