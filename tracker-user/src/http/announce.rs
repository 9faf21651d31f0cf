//! Answering an announce by HTTP (BEP 3, 7, 23, 24).
//!
//! Different from UDP, where an asker gets peers of his own address family, peers of both families are given to everybody: the
//! swarm is one. A peer's `peer id` is not kept, so the dictionaries of a reply that is not compact lack it, as if the
//! client had asked for that with `no_peer_id=1`.

use super::{
    bencode::{digits, integer, string},
    failure::Failure,
    query::{self, Announce},
};
use crate::memory::Handle;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tracker_common::{
    bep15::{
        announce::{self, interval, nearness},
        wire::{PEER_V4, PEER_V6},
    },
    outcome::{Counter, Event},
    platform::Platform,
    settings::Settings,
    store::{
        self,
        family::{Family, V4, V6, Wanted},
        layout::Counts,
        membership::{Announcement, PeerEvent},
    },
};

/// Space for compact peers, used again and again.
#[derive(Default)]
pub struct Space {
    v4: Vec<u8>,
    v6: Vec<u8>,
}

/// What of a reply depends on an address family.
trait Side: Family {
    /// Most peers in a reply, as configured.
    fn most(settings: &Settings) -> u32;
    /// A key that no peer has: port 0 is never stored.
    fn nobody() -> Self::Key;
    /// Where this family's peers are collected.
    fn space(space: &mut Space) -> &mut Vec<u8>;
}

impl Side for V4 {
    fn most(settings: &Settings) -> u32 {
        settings.want_max_v4.load()
    }

    fn nobody() -> Self::Key {
        V4::key([0; 4], 0)
    }

    fn space(space: &mut Space) -> &mut Vec<u8> {
        &mut space.v4
    }
}

impl Side for V6 {
    fn most(settings: &Settings) -> u32 {
        settings.want_max_v6.load()
    }

    fn nobody() -> Self::Key {
        V6::key([0; 16], 0)
    }

    fn space(space: &mut Space) -> &mut Vec<u8> {
        &mut space.v6
    }
}

/// Stores the announce of a client at `source` and appends its reply to `out`. `source` must not be an IPv4-mapped address.
///
/// # Errors
/// What is wrong with the query, or why the store does not take the peer. Nothing is appended then.
pub fn answer(
    memory: &Handle,
    source: IpAddr,
    query: &[u8],
    space: &mut Space,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    let announce = query::announce(query)?;
    space.v4.clear();
    space.v6.clear();
    let counts = match source {
        IpAddr::V4(ip) => store_and_sample::<V4, V6>(memory, &announce, V4::key(ip.octets(), announce.port), space)?,
        IpAddr::V6(ip) => store_and_sample::<V6, V4>(memory, &announce, V6::key(ip.octets(), announce.port), space)?,
    };
    let settings = memory.settings().ok_or(Failure::Internal)?;
    write(out, source, &announce, counts, interval(settings, memory.random()), min_interval(settings), space);
    let given = space.v4.len() / PEER_V4 + space.v6.len() / PEER_V6;
    memory.count(Counter::Event(Event::PeersReturned), given as u64);
    memory.event(if source.is_ipv4() { Event::Announce4 } else { Event::Announce6 });
    Ok(())
}

/// How soon a client may ask again of its own accord: after half the time at which it has to.
#[must_use]
pub fn min_interval(settings: &Settings) -> u32 {
    settings.interval.load() / 2
}

/// Stores the peer, which is of family `Own`, and collects others.
fn store_and_sample<Own: Side, Other: Side>(
    memory: &Handle,
    announce: &Announce,
    peer: Own::Key,
    space: &mut Space,
) -> Result<Counts, Failure> {
    let Announce { info_hash, seeder, event, want, .. } = announce;
    let announcement = Announcement { info_hash, peer, seeder: *seeder, event: *event };
    let swarm = store::upsert::update::<_, Own>(memory, &announcement).map_err(|reason| {
        memory.reason(reason);
        Failure::of_store(reason)
    })?;
    let Some(number) = swarm else { return Ok(Counts::default()) };
    let counts = memory.swarm(number).ok_or(Failure::Internal)?.counts();
    if *event == PeerEvent::Stopped {
        return Ok(counts);
    }
    let settings = memory.settings().ok_or(Failure::Internal)?;
    // A reply by TCP need not fit a packet, so the larger of the two limits holds for both families together.
    let most = V4::most(settings).max(V6::most(settings));
    let want = want.map_or(-1, |want| i32::try_from(want).unwrap_or(i32::MAX));
    let want = announce::wanted(settings, want, most, *seeder, &counts);
    let wanted = Wanted::new(!seeder, nearness::<Own>(settings, peer));
    collect::<Own>(memory, number, want, wanted, peer, space)?;
    collect::<Other>(memory, number, want, wanted, Other::nobody(), space)?;

    let own = Own::space(space).len() / Own::PEER_BYTES as usize;
    let other = Other::space(space).len() / Other::PEER_BYTES as usize;
    let (own, other) = share(want as usize, own, other);
    keep::<Own>(memory, own, space);
    keep::<Other>(memory, other, space);
    Ok(counts)
}

/// Collects up to `want` peers of one family.
fn collect<F: Side>(
    memory: &Handle,
    swarm: u32,
    want: u32,
    wanted: Wanted,
    own: F::Key,
    space: &mut Space,
) -> Result<(), Failure> {
    let settings = memory.settings().ok_or(Failure::Internal)?;
    let want = want.min(F::most(settings));
    let (Some(scratch), Some(record)) = (memory.scratch(), memory.swarm(swarm)) else { return Err(Failure::Internal) };
    let sample = store::sample::sample::<_, F>(memory, settings, scratch, swarm, record, want, wanted, own)
        .ok_or(Failure::Internal)?;
    if memory.copy_out(sample.start, sample.count * F::PEER_BYTES, F::space(space)) {
        Ok(())
    } else {
        Err(Failure::Internal)
    }
}

/// How many peers of the asker's family and of the other one to give, when so many are at hand: all if they are not more than
/// wanted; else the other family, which the asker perhaps cannot reach, gets a quarter, and what the own one leaves.
fn share(want: usize, own: usize, other: usize) -> (usize, usize) {
    let other = other.min((want / 4).max(want.saturating_sub(own)));
    (own.min(want - other), other)
}

/// Keeps `count` peers of one family, from a random place on, as the order in a sample is not random throughout.
fn keep<F: Side>(memory: &Handle, count: usize, space: &mut Space) {
    let bytes = F::PEER_BYTES as usize;
    let peers = F::space(space);
    let surplus = (peers.len() / bytes).saturating_sub(count);
    if surplus > 0 {
        let first = (u64::from(memory.random()) * (surplus as u64 + 1)) >> 32;
        peers.copy_within(first as usize * bytes.., 0);
        peers.truncate(count * bytes);
    }
}

/// Appends the reply.
fn write(
    out: &mut Vec<u8>,
    source: IpAddr,
    announce: &Announce,
    counts: Counts,
    interval: u32,
    min_interval: u32,
    space: &Space,
) {
    out.extend_from_slice(b"d8:complete");
    integer(out, counts.seeders.into());
    out.extend_from_slice(b"10:downloaded");
    integer(out, counts.completed.into());
    out.extend_from_slice(b"11:external ip");
    match source {
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
    if announce.compact {
        string(out, &space.v4);
        if source.is_ipv6() || !space.v6.is_empty() {
            out.extend_from_slice(b"6:peers6");
            string(out, &space.v6);
        }
    } else {
        out.push(b'l');
        for peer in space.v4.as_chunks::<PEER_V4>().0 {
            let [a, b, c, d, port @ ..] = *peer;
            dictionary(out, Ipv4Addr::new(a, b, c, d).into(), port);
        }
        for peer in space.v6.as_chunks::<PEER_V6>().0 {
            if let Some((ip, port)) = peer.split_first_chunk::<16>() {
                dictionary(out, Ipv6Addr::from(*ip).into(), [port[0], port[1]]);
            }
        }
        out.push(b'e');
    }
    out.push(b'e');
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
