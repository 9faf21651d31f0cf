//! What a UDP payload is, by its length and action; and, for sockets, its answer.

use crate::{
    bep15::{
        announce::announce,
        connect::{connect_reply, error},
        connection_id::Address,
        reply::Reply,
        scrape::{hashes, scrape},
        wire::{
            ACTION_ANNOUNCE, ACTION_CONNECT, ACTION_SCRAPE, ANNOUNCE_LEN, AnnounceRequest, HEADER_LEN, RequestHeader,
        },
    },
    outcome::{Event, IpVersion, Reason, RequestReason, StoreError},
    platform::Platform,
    scratch::{HASHES_AT, Scratch},
    store::family::{V4, V6},
};

/// The requests of BEP 15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Connect.
    Connect,
    /// Announce.
    Announce,
    /// Scrape.
    Scrape,
}

/// Says what request a payload of at least [`HEADER_LEN`] bytes is.
///
/// Whether a scrape carries an info_hash does not matter here: one without is answered as well, if its connection id is right.
///
/// # Errors
/// [`RequestReason::UnknownAction`], [`RequestReason::TooShort`].
#[inline(always)]
pub fn classify(action: [u8; 4], length: usize) -> Result<Request, RequestReason> {
    match u32::from_be_bytes(action) {
        ACTION_CONNECT => Ok(Request::Connect),
        ACTION_ANNOUNCE if length >= ANNOUNCE_LEN => Ok(Request::Announce),
        ACTION_ANNOUNCE => Err(RequestReason::TooShort),
        ACTION_SCRAPE => Ok(Request::Scrape),
        _ => Err(RequestReason::UnknownAction),
    }
}

/// Where a datagram came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// IPv4 address, UDP port.
    V4([u8; 4], u16),
    /// IPv6 address, UDP port. Must not be an IPv4-mapped one.
    V6([u8; 16], u16),
}

impl Source {
    /// From a socket address; IPv4-mapped IPv6 addresses become IPv4.
    #[must_use]
    pub fn new(address: core::net::SocketAddr) -> Self {
        match address.ip().to_canonical() {
            core::net::IpAddr::V4(ip) => Source::V4(ip.octets(), address.port()),
            core::net::IpAddr::V6(ip) => Source::V6(ip.octets(), address.port()),
        }
    }

    fn address(self) -> Address {
        match self {
            Source::V4(address, _) => Address::V4(u32::from_le_bytes(address)),
            Source::V6(address, _) => {
                let [first, second, _] = V6::key(address, 0);
                Address::V6([first, second])
            }
        }
    }

    fn version(self) -> IpVersion {
        match self {
            Source::V4(..) => IpVersion::V4,
            Source::V6(..) => IpVersion::V6,
        }
    }
}

/// Answers a datagram. The reply is in the handle's [`Scratch`]. For the kernel side see `tracker-ebpf`, which does the same
/// with packets.
///
/// # Errors
/// Why there is no answer; counted already.
pub fn respond<M: Platform>(memory: &M, datagram: &[u8], source: Source) -> Result<Reply, Reason> {
    let Some(scratch) = memory.scratch() else { return Err(StoreError::Internal.into()) };
    let result = match datagram.first_chunk::<HEADER_LEN>() {
        Some(header) => {
            let header = header_of(header);
            answer(memory, scratch, &header, datagram, source).or_else(|reason| {
                let event = Event::error(source.version());
                match error(scratch, reason, header.transaction_id, event) {
                    // Nobody who has not shown that he receives at his address is sent more than he sent: a scrape without an
                    // info_hash is shorter than an error.
                    Some(reply) if datagram.len() >= HEADER_LEN + 20 => {
                        memory.reason(reason);
                        Ok(reply)
                    }
                    Some(_) | None => Err(reason),
                }
            })
        }
        None => Err(RequestReason::TooShort.into()),
    };
    match result {
        Ok(reply) => reply.count(memory),
        Err(reason) => memory.reason(reason),
    }
    result
}

fn header_of(bytes: &[u8; HEADER_LEN]) -> RequestHeader {
    // SAFETY: a RequestHeader is 16 bytes of byte arrays, for which every value is valid.
    unsafe { core::mem::transmute_copy(bytes) }
}

fn answer<M: Platform>(
    memory: &M,
    scratch: &Scratch,
    header: &RequestHeader,
    datagram: &[u8],
    source: Source,
) -> Result<Reply, Reason> {
    match classify(header.action, datagram.len())? {
        Request::Connect => connect_reply(memory, scratch, header, source.address(), Event::connect(source.version())),
        Request::Announce => {
            let Some(bytes) = datagram.first_chunk::<ANNOUNCE_LEN>() else {
                return Err(RequestReason::TooShort.into());
            };
            // SAFETY: an AnnounceRequest is 98 bytes of byte arrays, for which every value is valid, with alignment 1.
            let request: &AnnounceRequest = unsafe { &*bytes.as_ptr().cast() };
            let port = u16::from_be_bytes(request.port);
            match source {
                Source::V4(address, _) => {
                    announce::<M, V4>(memory, scratch, request, source.address(), V4::key(address, port))
                }
                Source::V6(address, _) => {
                    announce::<M, V6>(memory, scratch, request, source.address(), V6::key(address, port))
                }
            }
        }
        Request::Scrape => {
            let count = hashes(datagram.len());
            for (i, info_hash) in datagram[HEADER_LEN..].as_chunks::<20>().0.iter().take(count as usize).enumerate() {
                scratch.put(HASHES_AT + i * 20, *info_hash);
            }
            let event = Event::scrape(source.version());
            scrape(memory, scratch, header, source.address(), count, event)
        }
    }
}
