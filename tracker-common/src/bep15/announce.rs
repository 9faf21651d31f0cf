//! BEP 15 announce: from the 98 bytes of a request to the bytes of its reply.

use super::{
    connect::is_connected,
    connection_id::IpKey,
    reply::Reply,
    wire::{ACTION_ANNOUNCE, ANNOUNCE_REPLY_LEN, AnnounceRequest},
};
use crate::{
    limits::{self, table::Kind},
    outcome::{Event, Reason, RequestReason, StoreError},
    platform::{Context, Platform, SwarmRef},
    scratch::START_MASK,
    settings::Settings,
    store::{
        family::Family,
        filter::PeerFilter,
        layout::Counts,
        membership::{Announce, PeerEvent},
        owner::Owner,
        sample::{Sample, Wanted, sample},
        scope, upsert,
    },
};

/// How many peers to return: `num_want` as BEP 15 has it, negative for the default, cut to `max`.
/// For a seeder, which is told of leechers only, at most as many as there are: where there are few,
/// or none, it is not worth looking through all the seeders.
#[inline(always)]
#[must_use]
pub fn peers_wanted(settings: &Settings, num_want: i32, max: u32, seeder: bool, counts: &Counts) -> u32 {
    let want = if num_want < 0 { settings.default_numwant.load() } else { num_want as u32 };
    let want = if want > max { max } else { want };
    if seeder && want > counts.leechers { counts.leechers } else { want }
}

/// Which scopes of peers a requester sees ([`scope::visible`]); where the operator wants all peers
/// to be given to every requester, all.
#[inline(always)]
#[must_use]
pub fn visible_scopes<F: Family>(settings: &Settings, requester: F::Key) -> u32 {
    if settings.give_local_peers.load() == 0 { scope::visible(F::scope(requester)) } else { scope::EVERYTHING }
}

/// The interval to tell a client, in seconds: varied, so that clients that came at once do not come
/// back at once.
#[inline(always)]
#[must_use]
pub fn interval(settings: &Settings, random: u32) -> u32 {
    let jitter = settings.interval_jitter.load();
    let spread = (u64::from(random) * (u64::from(jitter) * 2 + 1)) >> 32;
    settings.interval.load().wrapping_sub(jitter).wrapping_add(spread as u32)
}

/// An announce request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a, K> {
    /// What it says.
    pub announce: Announce<'a, K>,
    num_want: i32,
    transaction_id: [u8; 4],
}

impl<'a, K: Copy> Request<'a, K> {
    /// What a request says; `peer` is its source address with the announced port.
    #[inline(always)]
    #[must_use]
    pub fn new(request: &'a AnnounceRequest, peer: K) -> Self {
        Self {
            announce: Announce {
                info_hash: &request.info_hash,
                peer,
                seeder: request.left == [0; 8],
                event: PeerEvent::from_number(u32::from_be_bytes(request.event)),
                owner: Owner::new(u32::from_be_bytes(request.key)),
            },
            num_want: i32::from_be_bytes(request.num_want),
            transaction_id: request.header.transaction_id,
        }
    }
}

/// Whether a request comes from the address it says, which is `source`, and may be stored.
///
/// # Errors
/// Those of [`limits::wrong_id`] and [`limits::admit`], [`RequestReason::PortZero`].
#[inline(always)]
pub fn verify<P: Platform>(cx: &Context<'_, P>, request: &AnnounceRequest, source: IpKey) -> Result<(), RequestReason> {
    if !is_connected(cx, source, request.header.connection_id) {
        cx.scratch.asking.suspect();
        return Err(limits::wrong_id(cx));
    }
    limits::admit(cx, Kind::Announce, source)?;
    if request.port == [0, 0] { Err(RequestReason::PortZero) } else { Ok(()) }
}

/// Answers an announce. `source` and `peer` are as in [`verify`] and [`Request`].
///
/// # Errors
/// Those of [`verify`] and of [`upsert::announce`].
pub fn answer<P: Platform, F: Family>(
    cx: &Context<'_, P>,
    request: &AnnounceRequest,
    source: IpKey,
    peer: F::Key,
) -> Result<Reply, Reason> {
    verify(cx, request, source)?;
    let request = Request::new(request, peer);
    let swarm = upsert::announce::<P, F>(cx, &request.announce)?;
    reply::<P, F>(cx, &request, swarm, sample::<P, F>).ok_or(StoreError::Internal.into())
}

/// The reply to an announce that has been stored, in this swarm if in any, with the peers that
/// `take_sample` gives. `None` where that does.
#[inline(always)]
pub fn reply<'m, P: Platform, F: Family>(
    cx: &Context<'m, P>,
    request: &Request<'_, F::Key>,
    swarm: Option<SwarmRef<'m>>,
    take_sample: impl FnOnce(&Context<'m, P>, SwarmRef<'m>, &Wanted<F::Key>) -> Option<Sample>,
) -> Option<Reply> {
    let mut counts = Counts::default();
    let mut peers = Sample::EMPTY;
    if let Some(swarm) = swarm {
        counts = swarm.record.counts();
        let Announce { peer, seeder, event, .. } = request.announce;
        if event != PeerEvent::Stopped {
            let max = cx.settings.max_numwant(F::VERSION);
            let wanted = Wanted {
                count: peers_wanted(cx.settings, request.num_want, max, seeder, &counts),
                filter: PeerFilter::new(!seeder, visible_scopes::<F>(cx.settings, peer)),
                exclude: peer,
            };
            peers = take_sample(cx, swarm, &wanted)?;
        }
    }
    let start = peers.start - ANNOUNCE_REPLY_LEN as u32;
    // Few peers are skipped: the mask changes nothing, but the verifier wants to see it.
    let at = start as usize & START_MASK;
    cx.scratch.put(at, ACTION_ANNOUNCE.to_be_bytes());
    cx.scratch.put(at + 4, request.transaction_id);
    cx.scratch.put(at + 8, interval(cx.settings, cx.random()).to_be_bytes());
    cx.scratch.put(at + 12, counts.leechers.to_be_bytes());
    cx.scratch.put(at + 16, counts.seeders.to_be_bytes());
    Some(Reply {
        start,
        length: ANNOUNCE_REPLY_LEN as u32 + peers.count * F::PEER_BYTES,
        peers: peers.count,
        event: Event::announce(F::VERSION),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_wanted_follow_the_default_the_limit_and_the_leechers_there_are() {
        let settings = Settings::default();
        settings.default_numwant.store(50);
        // (num_want, max, seeder, leechers, wanted)
        for (num_want, max, seeder, leechers, wanted) in [
            (-1, 200, false, 0, 50),
            (i32::MIN, 200, false, 9, 50),
            (-1, 20, false, 9, 20),
            (0, 200, false, 9, 0),
            (7, 200, false, 0, 7),
            (i32::MAX, 200, false, 9, 200),
            (-1, 200, true, 9, 9),
            (-1, 200, true, 0, 0),
            (3, 200, true, 9, 3),
        ] {
            let counts = Counts { leechers, ..Counts::default() };
            assert_eq!(peers_wanted(&settings, num_want, max, seeder, &counts), wanted, "{num_want} {max} {seeder}");
        }
    }

    #[test]
    fn intervals_vary_by_the_jitter_and_no_more() {
        let settings = Settings::default();
        settings.interval.store(1800);
        assert_eq!(interval(&settings, u32::MAX), 1800);
        settings.interval_jitter.store(60);
        assert_eq!(interval(&settings, 0), 1740);
        assert_eq!(interval(&settings, u32::MAX), 1860);
    }
}
