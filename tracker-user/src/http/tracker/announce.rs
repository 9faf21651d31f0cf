//! Answering an announce by HTTP (BEP 3, 7, 23, 24).
//!
//! By UDP a peer is told of peers of its own address family; by HTTP every peer is told of both
//! families, as the swarm is one. A peer's `peer id` is not kept, so the dictionaries of a reply
//! that is not compact lack it, as if the client had asked for that with `no_peer_id=1`.

use super::{
    bencode::{digits, integer, string},
    failure::Failure,
    query::{self, Announce},
};
use crate::store::Handle;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tracker_common::{
    bep15::{
        announce::{interval, peers_wanted, visible_scopes},
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
    /// Where this family's peers are collected.
    fn of(peers: &mut CompactPeers) -> &mut Vec<u8>;
}

impl ReplyFamily for V4 {
    fn nobody() -> Self::Key {
        V4::key([0; 4], 0)
    }

    fn of(peers: &mut CompactPeers) -> &mut Vec<u8> {
        &mut peers.v4
    }
}

impl ReplyFamily for V6 {
    fn nobody() -> Self::Key {
        V6::key([0; 16], 0)
    }

    fn of(peers: &mut CompactPeers) -> &mut Vec<u8> {
        &mut peers.v6
    }
}

/// Stores the announce of a client at `source` and appends its reply to `out`. `source` must not be
/// an IPv4-mapped address.
///
/// # Errors
/// What is wrong with the query, or why the store does not take the peer. Nothing is appended then.
pub fn answer(
    memory: &Handle,
    source: IpAddr,
    query: &[u8],
    peers: &mut CompactPeers,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let announce = query::announce(query)?;
    peers.v4.clear();
    peers.v6.clear();
    let counts = match source {
        IpAddr::V4(ip) => store_and_sample::<V4, V6>(memory, &announce, V4::key(ip.octets(), announce.port), peers)?,
        IpAddr::V6(ip) => store_and_sample::<V6, V4>(memory, &announce, V6::key(ip.octets(), announce.port), peers)?,
    };
    let cx = memory.context();
    let settings = cx.settings;
    let reply = Reply {
        counts,
        external_ip: source,
        interval: interval(settings, cx.random()),
        min_interval: min_interval(settings),
        compact: announce.compact,
    };
    reply.write(peers, out);
    let returned = peers.v4.len() / PEER_V4 + peers.v6.len() / PEER_V6;
    memory.count(Counter::Event(Event::PeersReturned), returned as u64);
    memory.event(if source.is_ipv4() { Event::Announce4 } else { Event::Announce6 });
    Ok(())
}

/// How soon a client may announce again of its own accord: after half the time at which it has to.
#[must_use]
pub fn min_interval(settings: &Settings) -> u32 {
    settings.interval.load() / 2
}

/// Stores the peer, which is of family `Own`, and collects others.
fn store_and_sample<Own: ReplyFamily, Other: ReplyFamily>(
    memory: &Handle,
    announce: &Announce,
    peer: Own::Key,
    peers: &mut CompactPeers,
) -> Result<Counts, Failure> {
    let Announce { info_hash, seeder, event, num_want, .. } = announce;
    let cx = &memory.context();
    let announced = membership::Announce { info_hash, peer, seeder: *seeder, event: *event };
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
    sampling.collect::<Other>(Other::nobody(), peers)?;

    let own = Own::of(peers).len() / Own::PEER_BYTES as usize;
    let other = Other::of(peers).len() / Other::PEER_BYTES as usize;
    let (own, other) = share(want as usize, own, other);
    truncate::<Own>(memory, own, peers);
    truncate::<Other>(memory, other, peers);
    Ok(counts)
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
