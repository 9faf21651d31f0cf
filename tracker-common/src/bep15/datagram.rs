//! What a UDP payload is, by its length and action; and, for sockets, its answer.

use super::{
    announce,
    connect::{self, error},
    connection_id::{self, IpKey},
    reply::Reply,
    scrape::{self, hashes},
    wire::{ACTION_ANNOUNCE, ACTION_CONNECT, ACTION_SCRAPE, ANNOUNCE_LEN, AnnounceRequest, HEADER_LEN, RequestHeader},
};
use crate::{
    id::InfoHash,
    outcome::{Reason, RequestReason},
    platform::{Context, Platform},
    scratch::HASHES_AT,
    store::{
        ahead::Search,
        family::{V4, V6},
    },
};
use core::net::{IpAddr, SocketAddr};

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
/// Whether a scrape carries an info_hash does not matter here: one without is answered as well, if
/// its connection id is right.
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

/// Answers a datagram that came from `source`, whose IPv4-mapped IPv6 addresses count as IPv4. The
/// reply is in the platform's scratch space. For the kernel side see `tracker-ebpf`, which does the
/// same with packets.
///
/// # Errors
/// Why there is no answer; counted already.
pub fn respond<P: Platform>(platform: &P, datagram: &[u8], source: SocketAddr) -> Result<Reply, Reason> {
    let result = Context::new(platform).map_err(Reason::from).and_then(|cx| respond_in(&cx, datagram, source));
    match result {
        Ok(reply) => reply.count(platform),
        Err(reason) => platform.reason(reason),
    }
    result
}

/// So many searches are done together: more would take one another's place in the nearest cache.
pub const TOGETHER: usize = 16;

/// Brings nearer what these datagrams will need of the store when [`respond`] is called with them;
/// of at most [`TOGETHER`], further ones are left alone.
pub fn look_ahead<'d, P: Platform>(platform: &P, datagrams: impl Iterator<Item = (&'d [u8], SocketAddr)>) {
    let Ok(cx) = Context::new(platform) else { return };
    let mut searches = [const { None }; TOGETHER];
    let announces = datagrams.filter_map(|(datagram, source)| Some((announce_of(datagram)?, source)));
    for (place, (request, source)) in searches.iter_mut().zip(announces) {
        let port = u16::from_be_bytes(request.port);
        *place = Some((Search::new(&cx, &request.info_hash), source.ip().to_canonical(), port));
    }
    for (search, ..) in searches.iter_mut().flatten() {
        search.record(&cx);
    }
    for (search, ip, port) in searches.iter_mut().flatten() {
        match ip {
            IpAddr::V4(ip) => search.partition::<P, V4>(&cx, V4::key(ip.octets(), *port)),
            IpAddr::V6(ip) => search.partition::<P, V6>(&cx, V6::key(ip.octets(), *port)),
        }
    }
    for (search, ip, _) in searches.iter().flatten() {
        match ip {
            IpAddr::V4(_) => search.peers::<P, V4>(&cx),
            IpAddr::V6(_) => search.peers::<P, V6>(&cx),
        }
    }
}

/// The same for the torrents of one scrape.
fn look_ahead_of_scrape<P: Platform>(cx: &Context<'_, P>, info_hashes: &[InfoHash]) {
    for together in info_hashes.chunks(TOGETHER) {
        let mut searches = [const { None }; TOGETHER];
        for (place, info_hash) in searches.iter_mut().zip(together) {
            *place = Some(Search::new(cx, info_hash));
        }
        searches.iter_mut().flatten().for_each(|search| search.record(cx));
    }
}

/// The announce that a datagram is, if it is one.
fn announce_of(datagram: &[u8]) -> Option<&AnnounceRequest> {
    let bytes = datagram.first_chunk::<ANNOUNCE_LEN>()?;
    // SAFETY: an AnnounceRequest is 98 bytes of byte arrays, for which every value is valid, with
    // alignment 1.
    let request: &AnnounceRequest = unsafe { &*bytes.as_ptr().cast() };
    (request.header.action == ACTION_ANNOUNCE.to_be_bytes()).then_some(request)
}

fn respond_in<P: Platform>(cx: &Context<'_, P>, datagram: &[u8], source: SocketAddr) -> Result<Reply, Reason> {
    let Some(bytes) = datagram.first_chunk::<HEADER_LEN>() else { return Err(RequestReason::TooShort.into()) };
    let header = header_of(bytes);
    let ip = source.ip().to_canonical();
    answer(cx, &header, datagram, ip).or_else(|reason| {
        match error(cx.scratch, reason, header.transaction_id, IpKey::from(ip).version()) {
            // A sender that has not shown that it receives at its address gets no more than it
            // sent: a scrape without an info_hash is shorter than an error.
            Some(reply) if datagram.len() >= HEADER_LEN + 20 => {
                cx.platform.reason(reason);
                Ok(reply)
            }
            Some(_) | None => Err(reason),
        }
    })
}

fn header_of(bytes: &[u8; HEADER_LEN]) -> RequestHeader {
    // SAFETY: a RequestHeader is 16 bytes of byte arrays, for which every value is valid.
    unsafe { core::mem::transmute_copy(bytes) }
}

fn answer<P: Platform>(
    cx: &Context<'_, P>,
    header: &RequestHeader,
    datagram: &[u8],
    ip: IpAddr,
) -> Result<Reply, Reason> {
    let source = IpKey::from(ip);
    match classify(header.action, datagram.len())? {
        Request::Connect => Ok(connect::answer(cx.settings, cx.scratch, header, source)?),
        Request::Announce => {
            let Some(request) = announce_of(datagram) else { return Err(RequestReason::TooShort.into()) };
            let port = u16::from_be_bytes(request.port);
            match ip {
                IpAddr::V4(ip) => announce::answer::<P, V4>(cx, request, source, V4::key(ip.octets(), port)),
                IpAddr::V6(ip) => announce::answer::<P, V6>(cx, request, source, V6::key(ip.octets(), port)),
            }
        }
        Request::Scrape => {
            let count = hashes(datagram.len());
            let info_hashes = &datagram[HEADER_LEN..].as_chunks::<20>().0[..count as usize];
            for (i, info_hash) in info_hashes.iter().enumerate() {
                cx.scratch.put(HASHES_AT + i * 20, *info_hash);
            }
            // Not for whoever has no connection id.
            if connection_id::accept(cx.settings, source, u64::from_be_bytes(header.connection_id)) {
                look_ahead_of_scrape(cx, info_hashes);
            }
            Ok(scrape::answer(cx, header, source, count)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_by_action_and_length() {
        let short = Err(RequestReason::TooShort);
        let unknown = Err(RequestReason::UnknownAction);
        for (action, length, expected) in [
            (0, 16, Ok(Request::Connect)),
            (0, 1000, Ok(Request::Connect)),
            (1, 97, short),
            (1, 98, Ok(Request::Announce)),
            (1, 1200, Ok(Request::Announce)),
            (2, 16, Ok(Request::Scrape)),
            (2, 36, Ok(Request::Scrape)),
            (3, 98, unknown),
            (u32::MAX, 98, unknown),
        ] {
            assert_eq!(classify(u32::to_be_bytes(action), length), expected, "{action}, {length} bytes");
        }
    }
}
