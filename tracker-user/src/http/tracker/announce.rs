//! Answering an announce by HTTP (BEP 3, 7, 23, 24).
//!
//! By UDP a peer is told of peers of its own address family; by HTTP every peer is told of both
//! families, as the swarm is one. A peer's `peer id` is not kept, so the dictionaries of a reply
//! that is not compact lack it, as if the client had asked for that with `no_peer_id=1`.

use super::{
    bencode::{digits, integer, string},
    failure::Failure,
    query::{self, Announce, Named},
};
use crate::{http::proxy::Visitor, store::Handle};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tracker_common::{
    admission::blocklist,
    bep15::{
        announce::{interval, peers_wanted, visible_scopes},
        connection_id::IpKey,
        wire::{PEER_V4, PEER_V6},
    },
    outcome::{Counter, Event},
    platform::{Platform as _, SwarmRef},
    settings::Settings,
    store::{
        family::{Family, V4, V6},
        filter::PeerFilter,
        layout::Counts,
        membership::{self, PeerEvent},
        owner::Owner,
        sample::{Wanted, sample},
        upsert,
    },
};

/// Compact peers for a reply; the memory is used again and again.
#[derive(Default)]
pub struct CompactPeers {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

/// What of a reply depends on an address family.
trait ReplyFamily: Family {
    /// A key that no peer has: port 0 is never stored.
    fn nobody() -> Self::Key;
    /// The key of a peer of this family; that of nobody for one of the other.
    fn of_peer(address: SocketAddr) -> Self::Key;
    /// Where this family's peers are collected.
    fn of(peers: &mut CompactPeers) -> &mut Vec<u8>;
}

impl ReplyFamily for V4 {
    fn nobody() -> Self::Key {
        V4::key([0; 4], 0)
    }

    fn of_peer(address: SocketAddr) -> Self::Key {
        match address {
            SocketAddr::V4(address) => V4::key(address.ip().octets(), address.port()),
            SocketAddr::V6(_) => Self::nobody(),
        }
    }

    fn of(peers: &mut CompactPeers) -> &mut Vec<u8> {
        &mut peers.v4
    }
}

impl ReplyFamily for V6 {
    fn nobody() -> Self::Key {
        V6::key([0; 16], 0)
    }

    fn of_peer(address: SocketAddr) -> Self::Key {
        match address {
            SocketAddr::V6(address) => V6::key(address.ip().octets(), address.port()),
            SocketAddr::V4(_) => Self::nobody(),
        }
    }

    fn of(peers: &mut CompactPeers) -> &mut Vec<u8> {
        &mut peers.v6
    }
}

/// Where a peer is reached: at the address that it announces from, or that it names if it may; and
/// at one of the other family, if it names that as well (BEP 7).
fn endpoints(visitor: &Visitor, named: &Named, port: u16) -> Result<(SocketAddr, Option<SocketAddr>), Failure> {
    let Named { ip, ipv4, ipv6 } = *named;
    let first = ip.or(visitor.source.address()).map(|ip| SocketAddr::new(ip, port));
    match first {
        Some(first) if first.is_ipv4() => Ok((ipv4.unwrap_or(first), ipv6)),
        Some(first) => Ok((ipv6.unwrap_or(first), ipv4)),
        None => match (ipv4, ipv6) {
            (Some(own), other) | (None, other @ Some(own)) => Ok((own, other.filter(|other| *other != own))),
            (None, None) => Err(Failure::AddressUnknown),
        },
    }
}

/// Stores the announce of a client and appends its reply to `out`. Returns how many peers it wants, the
/// default if it does not say.
///
/// # Errors
/// What is wrong with the query, or why the store does not take the peer. Nothing is appended then.
pub fn answer(
    memory: &Handle,
    visitor: &Visitor,
    query: &[u8],
    peers: &mut CompactPeers,
    out: &mut Vec<u8>,
) -> Result<u32, Failure> {
    let announce = query::announce(query)?;
    peers.v4.clear();
    peers.v6.clear();
    let named = if visitor.names_addresses { query::named(query, announce.port)? } else { Named::default() };
    let (own, other) = endpoints(visitor, &named, announce.port)?;
    let counts = match own {
        SocketAddr::V4(_) => store_and_sample::<V4, V6>(memory, &announce, (own, other), peers)?,
        SocketAddr::V6(_) => store_and_sample::<V6, V4>(memory, &announce, (own, other), peers)?,
    };
    let cx = memory.context();
    let settings = cx.settings;
    let reply = Reply {
        counts,
        external_ip: own.ip(),
        interval: interval(settings, cx.random()),
        min_interval: min_interval(settings),
        compact: announce.compact,
    };
    reply.write(peers, out);
    let returned = peers.v4.len() / PEER_V4 + peers.v6.len() / PEER_V6;
    memory.count(Counter::Event(Event::PeersReturned), returned as u64);
    memory.count(Counter::Replied(returned as u32), 1);
    memory.event(if own.is_ipv4() { Event::Announce4 } else { Event::Announce6 });
    Ok(announce.num_want.unwrap_or_else(|| settings.default_numwant.load()))
}

/// How soon a client may announce again of its own accord: after half the time at which it has to.
#[must_use]
pub fn min_interval(settings: &Settings) -> u32 {
    settings.interval.load() / 2
}

/// Stores the peer, which is of family `Own` and may have an address of the other one besides, and
/// collects others.
fn store_and_sample<Own: ReplyFamily, Other: ReplyFamily>(
    memory: &Handle,
    announce: &Announce,
    (own, other): (SocketAddr, Option<SocketAddr>),
    peers: &mut CompactPeers,
) -> Result<Counts, Failure> {
    let Announce { info_hash, seeder, event, num_want, key, .. } = announce;
    let cx = &memory.context();
    let owner = Owner::new(*key);
    let peer = Own::of_peer(own);
    // It need not be the address that the request came from.
    blocked(memory, Own::ip(peer))?;
    if let Some(other) = other {
        let peer = Other::of_peer(other);
        blocked(memory, Other::ip(peer))?;
        // It is the same user, who has finished one download.
        let event = if *event == PeerEvent::Completed { PeerEvent::None } else { *event };
        let announced = membership::Announce { info_hash, peer, seeder: *seeder, event, owner };
        if let Err(error) = upsert::announce::<_, Other>(cx, &announced) {
            memory.reason(error);
        }
    }
    let announced = membership::Announce { info_hash, peer, seeder: *seeder, event: *event, owner };
    let swarm = upsert::announce::<_, Own>(cx, &announced).map_err(|error| {
        memory.reason(error);
        Failure::of_store(error)
    })?;
    let Some(swarm) = swarm else { return Ok(Counts::default()) };
    let counts = swarm.record.counts();
    if *event == PeerEvent::Stopped {
        return Ok(counts);
    }
    let settings = cx.settings;
    // A reply by TCP need not fit a packet, so the larger of the two limits holds for both families
    // together.
    let max = settings.max_numwant(Own::VERSION).max(settings.max_numwant(Other::VERSION));
    let num_want = num_want.map_or(-1, |want| i32::try_from(want).unwrap_or(i32::MAX));
    let want = peers_wanted(settings, num_want, max, *seeder, &counts);
    let filter = PeerFilter::new(!seeder, visible_scopes::<Own>(settings, peer));
    let sampling = Sampling { memory, swarm, want, filter };
    sampling.collect::<Own>(peer, peers)?;
    sampling.collect::<Other>(other.map_or_else(Other::nobody, Other::of_peer), peers)?;

    let own = Own::of(peers).len() / Own::PEER_BYTES as usize;
    let other = Other::of(peers).len() / Other::PEER_BYTES as usize;
    let (own, other) = share(want as usize, own, other);
    truncate::<Own>(memory, own, peers);
    truncate::<Other>(memory, other, peers);
    Ok(counts)
}

/// Refuses an address that is on a list of those blocked, and counts that.
pub fn blocked(memory: &Handle, address: IpKey) -> Result<(), Failure> {
    blocklist::check(&memory.context(), address).map_err(|reason| {
        memory.reason(reason);
        Failure::AddressBlocked
    })
}

/// A search for peers of one swarm.
struct Sampling<'a> {
    memory: &'a Handle,
    swarm: SwarmRef<'a>,
    /// How many peers the requester wants.
    want: u32,
    /// Which it can use.
    filter: PeerFilter,
}

impl Sampling<'_> {
    /// Collects peers of one family, without `exclude`.
    fn collect<F: ReplyFamily>(&self, exclude: F::Key, peers: &mut CompactPeers) -> Result<(), Failure> {
        let Self { memory, swarm, want, filter } = *self;
        let cx = &memory.context();
        let wanted = Wanted { count: want.min(cx.settings.max_numwant(F::VERSION)), filter, exclude };
        let sample = sample::<_, F>(cx, swarm, &wanted).ok_or(Failure::Internal)?;
        let copied = memory.copy_out(sample.start, sample.count * F::PEER_BYTES, F::of(peers));
        copied.then_some(()).ok_or(Failure::Internal)
    }
}

/// How many peers of the requester's own family and of the other one to give, when so many are at
/// hand: all if they are not more than wanted. Else the other family, which the requester perhaps
/// cannot reach, gets a quarter, and what its own one leaves.
fn share(want: usize, own: usize, other: usize) -> (usize, usize) {
    let other = other.min((want / 4).max(want.saturating_sub(own)));
    (own.min(want - other), other)
}

/// Leaves `count` peers of one family, from a random place on, as the order in a sample is not
/// random throughout.
fn truncate<F: ReplyFamily>(memory: &Handle, count: usize, peers: &mut CompactPeers) {
    let bytes = F::PEER_BYTES as usize;
    let peers = F::of(peers);
    let surplus = (peers.len() / bytes).saturating_sub(count);
    if surplus > 0 {
        let first = (u64::from(memory.context().random()) * (surplus as u64 + 1)) >> 32;
        peers.copy_within(first as usize * bytes.., 0);
        peers.truncate(count * bytes);
    }
}

/// What a reply says besides the peers.
struct Reply {
    counts: Counts,
    external_ip: IpAddr,
    interval: u32,
    min_interval: u32,
    compact: bool,
}

impl Reply {
    /// Appends the reply. The keys are in the order of their bytes.
    fn write(&self, peers: &CompactPeers, out: &mut Vec<u8>) {
        let Self { counts, external_ip, interval, min_interval, compact } = *self;
        out.extend_from_slice(b"d8:complete");
        integer(out, counts.seeders.into());
        out.extend_from_slice(b"10:downloaded");
        integer(out, counts.completed.into());
        out.extend_from_slice(b"11:external ip");
        match external_ip {
            IpAddr::V4(ip) => string(out, &ip.octets()),
            IpAddr::V6(ip) => string(out, &ip.octets()),
        }
        out.extend_from_slice(b"10:incomplete");
        integer(out, counts.leechers.into());
        out.extend_from_slice(b"8:interval");
        integer(out, interval.into());
        out.extend_from_slice(b"12:min interval");
        integer(out, min_interval.into());
        out.extend_from_slice(b"5:peers");
        if compact {
            string(out, &peers.v4);
            if external_ip.is_ipv6() || !peers.v6.is_empty() {
                out.extend_from_slice(b"6:peers6");
                string(out, &peers.v6);
            }
        } else {
            out.push(b'l');
            for peer in peers.v4.as_chunks::<PEER_V4>().0 {
                let [a, b, c, d, port @ ..] = *peer;
                dictionary(out, Ipv4Addr::new(a, b, c, d).into(), port);
            }
            for peer in peers.v6.as_chunks::<PEER_V6>().0 {
                if let Some((ip, port)) = peer.split_first_chunk::<16>() {
                    dictionary(out, Ipv6Addr::from(*ip).into(), [port[0], port[1]]);
                }
            }
            out.push(b'e');
        }
        out.push(b'e');
    }
}

/// Appends a peer that is not compact.
fn dictionary(out: &mut Vec<u8>, ip: IpAddr, port: [u8; 2]) {
    out.extend_from_slice(b"d2:ip");
    let text = ip.to_string();
    string(out, text.as_bytes());
    out.extend_from_slice(b"4:porti");
    digits(out, u16::from_be_bytes(port).into());
    out.extend_from_slice(b"ee");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        listen::Source,
        store::{
            CounterSet, fixture,
            sizes::{Capacity, Sizes},
        },
    };
    use tracker_common::{
        admission::blocklist::{FIRST_BASE, words_for, write},
        outcome::RequestReason,
    };

    #[test]
    fn a_blocked_peer_is_not_stored_wherever_its_announce_comes_from() {
        let block_words = u32::try_from(words_for(8, 8)).expect("few");
        let sizes = Sizes::new(&Capacity { torrents: 10, peers_v4: 100, peers_v6: 100 }).expect("small");
        let store = fixture::store_of(&Sizes { block_words, ..sizes });
        let (v4, v6) = ([(0, 0), (0x0a00_0007, 1), (0x0a00_0008, 0)], [(0, 0), (7, 2), (8, 0)]);
        assert!(write(|number| store.block_word(number), FIRST_BASE, &v4, &v6));
        store.settings().blocked.store(FIRST_BASE);
        let memory = store.handle(CounterSet::Http);
        let query = format!("info_hash={}&port=6881&left=1", "a".repeat(20));
        let announce = |peer: IpAddr| {
            let (mut peers, mut out) = (CompactPeers::default(), Vec::new());
            let visitor = Visitor::plain(Source::of(peer));
            let result = answer(&memory, &visitor, query.as_bytes(), &mut peers, &mut out);
            (result, out.is_empty(), peers.v4.len() + peers.v6.len())
        };
        let refused = (Err(Failure::AddressBlocked), true, 0);
        for peer in [IpAddr::from([10, 0, 0, 7]), Ipv6Addr::from_bits(7).into()] {
            assert_eq!(announce(peer), refused, "{peer}");
        }
        assert_eq!(store.pools().swarms.used(), 0);
        for peer in [IpAddr::from([10, 0, 0, 6]), [10, 0, 0, 8].into(), Ipv6Addr::from_bits(8).into()] {
            assert_eq!(announce(peer).0, Ok(0), "{peer}");
        }
        let counters = store.counters();
        let (_, counted) = counters.iter().find(|(set, _)| *set == CounterSet::Http).expect("all are there");
        let of = |counter: Counter| counted[counter.index()];
        let reason = Counter::Reason(RequestReason::Blocked.into());
        assert_eq!([of(reason), of(Counter::Blocked(1)), of(Counter::Blocked(2))], [2, 1, 1]);
    }
}
