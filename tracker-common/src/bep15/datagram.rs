//! What a UDP payload is, by its length and action; and, for sockets, its answer.

use super::{
    announce,
    connect::{self, error},
    connection_id::IpKey,
    reply::Reply,
    scrape::{self, hashes},
    wire::{ACTION_ANNOUNCE, ACTION_CONNECT, ACTION_SCRAPE, ANNOUNCE_LEN, AnnounceRequest, HEADER_LEN, RequestHeader},
};
use crate::{
    admission::blocklist,
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

/// Answers a datagram that came from `source`, unless that is blocked. Its IPv4-mapped IPv6 addresses count as IPv4. The
/// reply is in the platform's scratch space. For the kernel side see `tracker-ebpf`, which does the
/// same with packets.
///
/// # Errors
/// Why there is no answer; counted already.
pub fn respond<P: Platform>(platform: &P, datagram: &[u8], source: SocketAddr) -> Result<Reply, Reason> {
    respond_or(platform, datagram, source, |_| true)
}

/// The same for a thread that does not get done with all requests: one with a wrong connection id
/// has no answer, since whoever floods us with forged addresses has none that is right.
///
/// # Errors
/// Why there is no answer; counted already.
pub fn respond_if_connected<P: Platform>(platform: &P, datagram: &[u8], source: SocketAddr) -> Result<Reply, Reason> {
    respond_or(platform, datagram, source, |reason| reason != RequestReason::ConnectionIdWrong.into())
}

/// `tells` says whether a sender is told of a reason.
#[inline(always)]
fn respond_or<P: Platform>(
    platform: &P,
    datagram: &[u8],
    source: SocketAddr,
    tells: fn(Reason) -> bool,
) -> Result<Reply, Reason> {
    let result = Context::new(platform).map_err(Reason::from).and_then(|cx| respond_in(&cx, datagram, source, tells));
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

/// The announce that a datagram is, if it is one.
fn announce_of(datagram: &[u8]) -> Option<&AnnounceRequest> {
    let bytes = datagram.first_chunk::<ANNOUNCE_LEN>()?;
    // SAFETY: an AnnounceRequest is 98 bytes of byte arrays, for which every value is valid, with
    // alignment 1.
    let request: &AnnounceRequest = unsafe { &*bytes.as_ptr().cast() };
    (request.header.action == ACTION_ANNOUNCE.to_be_bytes()).then_some(request)
}

fn respond_in<P: Platform>(
    cx: &Context<'_, P>,
    datagram: &[u8],
    source: SocketAddr,
    tells: fn(Reason) -> bool,
) -> Result<Reply, Reason> {
    blocklist::check(cx, source.ip().to_canonical().into())?;
    let Some(bytes) = datagram.first_chunk::<HEADER_LEN>() else { return Err(RequestReason::TooShort.into()) };
    let header = header_of(bytes);
    let ip = source.ip().to_canonical();
    answer(cx, &header, datagram, ip).or_else(|reason| {
        match error(cx.scratch, reason, header.transaction_id, IpKey::from(ip).version()) {
            // A sender that has not shown that it receives at its address gets no more than it
            // sent: a scrape without an info_hash is shorter than an error.
            Some(reply) if datagram.len() >= HEADER_LEN + 20 && tells(reason) => {
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
        Request::Connect => Ok(connect::answer(cx, header, source)?),
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
            for (i, info_hash) in datagram[HEADER_LEN..].as_chunks::<20>().0.iter().take(count as usize).enumerate() {
                cx.scratch.put(HASHES_AT + i * 20, *info_hash);
            }
            Ok(scrape::answer(cx, header, source, count)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bep15::{connection_id, wire::PROTOCOL_ID},
        host::{HostSizes, HostStore},
        outcome::{Counter, Event},
        settings::Settings,
    };
    use std::{vec, vec::Vec};

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

    const SIZES: HostSizes = HostSizes { index_buckets: 16, swarms: 100, partitions: 8, chunks_v4: 64, chunks_v6: 64 };

    fn source(peer: u8, v6: bool) -> SocketAddr {
        let ip: IpAddr =
            if v6 { [0x2001, 0xdb8, 0, 0, 0, 0, 0, peer.into()].into() } else { [198, 51, 100, peer].into() };
        (ip, 6881).into()
    }

    fn announce(settings: &Settings, source: SocketAddr, torrent: u8) -> [u8; ANNOUNCE_LEN] {
        let mut request = [0; ANNOUNCE_LEN];
        request[..8].copy_from_slice(&connection_id::issue(settings, source.ip().into()).to_be_bytes());
        request[8..12].copy_from_slice(&ACTION_ANNOUNCE.to_be_bytes());
        request[16..36].fill(torrent);
        request[71] = 1;
        request[92..96].fill(0xff);
        request[96..].copy_from_slice(&6881_u16.to_be_bytes());
        request
    }

    #[test]
    fn looking_ahead_changes_nothing_and_takes_everything() {
        let store = HostStore::new(&SIZES, 3);
        let platform = store.platform(1);
        let known = (1..=120_u8).map(|peer| (peer, source(peer, peer % 2 == 0)));
        for (peer, source) in known.clone() {
            // One torrent with partitions, and small ones.
            let torrent = if peer < 90 { 1 } else { peer };
            assert!(respond(&platform, &announce(store.settings(), source, torrent), source).is_ok(), "{peer}");
        }
        let counted = |event| platform.events(event);
        let before = [Event::Connect4, Event::Announce4, Event::Announce6, Event::TorrentCreated].map(counted);
        let known = known.map(|(peer, source)| (announce(store.settings(), source, 1 + peer % 130).to_vec(), source));
        let odd = [vec![], vec![0; 16], vec![0xff; 97], vec![0xff; 2048], vec![0; ANNOUNCE_LEN]]
            .map(|it| (it, source(9, true)));
        let all: Vec<_> = known.chain(odd).collect();
        for count in [0, 1, TOGETHER - 1, TOGETHER, TOGETHER + 1, all.len()] {
            for some in all.chunks(count.max(1)) {
                look_ahead(&platform, some.iter().take(count).map(|(datagram, source)| (&datagram[..], *source)));
            }
        }
        assert_eq!([Event::Connect4, Event::Announce4, Event::Announce6, Event::TorrentCreated].map(counted), before);
    }

    #[test]
    fn only_those_with_a_wrong_connection_id_are_not_told_where_answers_are_short() {
        let store = HostStore::new(&SIZES, 3);
        let platform = store.platform(1);
        let client = source(1, false);
        let right = announce(store.settings(), client, 1);
        let wrong = announce(store.settings(), source(2, false), 1);
        let mut no_port = right;
        no_port[96..].fill(0);
        let mut connect = [0; 16];
        connect[..8].copy_from_slice(&PROTOCOL_ID.to_be_bytes());
        let mut scrape = wrong;
        scrape[8..12].copy_from_slice(&ACTION_SCRAPE.to_be_bytes());
        for (name, request, answered, when_connected) in [
            ("connect", &connect[..], true, true),
            ("announce", &right, true, true),
            ("announce without a port", &no_port, true, true),
            ("announce with a wrong id", &wrong, true, false),
            ("scrape with a wrong id", &scrape, true, false),
            ("too short", &right[..97], false, false),
            ("shorter than an error", &wrong[..20], false, false),
        ] {
            assert_eq!(respond(&platform, request, client).is_ok(), answered, "{name}");
            assert_eq!(respond_if_connected(&platform, request, client).is_ok(), when_connected, "{name}");
        }
        let refused = platform.counted(Counter::Reason(RequestReason::ConnectionIdWrong.into()));
        assert_eq!(refused, 4, "counted whether told or not");
    }
}
