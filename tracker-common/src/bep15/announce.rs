//! BEP 15 announce: from the 98 bytes of a request to the bytes of its reply.

use crate::{
    bep15::{
        connection_id::{self, Address},
        reply::Reply,
        wire::{ACTION_ANNOUNCE, ANNOUNCE_REPLY_LEN, AnnounceRequest},
    },
    outcome::{Event, Reason, RequestReason, StoreError},
    platform::Platform,
    scratch::{PEERS_AT, START_MASK, Scratch},
    settings::Settings,
    store::{
        family::{Family, Wanted},
        layout::{Counts, Swarm},
        membership::{Announcement, PeerEvent},
        sample::{Sample, sample},
        scope as reach,
        upsert::update,
    },
};

/// How many peers to give: `num_want` as BEP 15 has it, negative for the default, cut to `max`; for a seeder, who is told of leechers
/// only, at most as many as there are: where there are few, or none, it is not worth looking through all the seeders.
#[inline(always)]
#[must_use]
pub fn wanted(settings: &Settings, num_want: i32, max: u32, seeder: bool, counts: &Counts) -> u32 {
    let want = if num_want < 0 { settings.want_default.load() } else { num_want as u32 };
    let want = if want > max { max } else { want };
    if seeder && want > counts.leechers { counts.leechers } else { want }
}

/// How near an asker is ([`reach`]); where the operator wants all peers to be given to everybody, as near as can be.
#[inline(always)]
#[must_use]
pub fn nearness<F: Family>(settings: &Settings, asker: F::Key) -> u32 {
    if settings.give_near_peers.load() == 0 { reach::nearness(F::near(asker)) } else { reach::NEAREST }
}

/// The interval to tell a client, in seconds: varied, so that clients that came at once do not come back at once.
#[inline(always)]
#[must_use]
pub fn interval(settings: &Settings, random: u32) -> u32 {
    let jitter = settings.interval_jitter.load();
    let spread = (u64::from(random) * (u64::from(jitter) * 2 + 1)) >> 32;
    settings.interval.load().wrapping_sub(jitter).wrapping_add(spread as u32)
}

/// An announce.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a, K> {
    /// What it says.
    pub announcement: Announcement<'a, K>,
    num_want: i32,
    transaction_id: [u8; 4],
}

impl<'a, K: Copy> Asked<'a, K> {
    /// What a request says; `peer` is its source address with the announced port.
    #[inline(always)]
    #[must_use]
    pub fn new(request: &'a AnnounceRequest, peer: K) -> Self {
        Self {
            announcement: Announcement {
                info_hash: &request.info_hash,
                peer,
                seeder: request.left == [0; 8],
                event: PeerEvent::from_number(u32::from_be_bytes(request.event)),
            },
            num_want: i32::from_be_bytes(request.num_want),
            transaction_id: request.header.transaction_id,
        }
    }

    /// Whether it comes from the address it says, which is `source`, and may be stored.
    ///
    /// # Errors
    /// [`RequestReason::ConnectionIdWrong`], [`RequestReason::PortZero`].
    #[inline(always)]
    pub fn verify(&self, settings: &Settings, request: &AnnounceRequest, source: Address) -> Result<(), RequestReason> {
        if !connection_id::accept(settings, source, u64::from_be_bytes(request.header.connection_id)) {
            return Err(RequestReason::ConnectionIdWrong);
        }
        if request.port == [0, 0] { Err(RequestReason::PortZero) } else { Ok(()) }
    }
}

/// Answers an announce. `source` and `peer` are as in [`Asked`].
///
/// # Errors
/// Those of [`Asked::verify`] and of [`update()`].
pub fn announce<M: Platform, F: Family>(
    memory: &M,
    scratch: &Scratch,
    request: &AnnounceRequest,
    source: Address,
    peer: F::Key,
) -> Result<Reply, Reason> {
    let Some(settings) = memory.settings() else { return Err(StoreError::Internal.into()) };
    let asked = Asked::new(request, peer);
    asked.verify(settings, request, source)?;
    let swarm = update::<M, F>(memory, &asked.announcement)?;
    let swarm = swarm.and_then(|number| Some((number, memory.swarm(number)?)));
    reply::<M, F>(memory, settings, scratch, &asked, swarm).ok_or(StoreError::Internal.into())
}

/// The reply to an announce that has been stored, in this swarm if in any. `None` as from [`sample()`].
#[inline(always)]
pub fn reply<M: Platform, F: Family>(
    memory: &M,
    settings: &Settings,
    scratch: &Scratch,
    asked: &Asked<'_, F::Key>,
    swarm: Option<(u32, &Swarm)>,
) -> Option<Reply> {
    let mut counts = Counts::default();
    let mut found = Sample { start: PEERS_AT as u32, count: 0 };
    if let Some((number, swarm)) = swarm {
        counts = swarm.counts();
        let Announcement { peer, seeder, event, .. } = asked.announcement;
        if event != PeerEvent::Stopped {
            let want = wanted(settings, asked.num_want, settings.want_max(F::VERSION), seeder, &counts);
            let wanted = Wanted::new(!seeder, nearness::<F>(settings, peer));
            found = sample::<M, F>(memory, settings, scratch, number, swarm, want, wanted, peer)?;
        }
    }
    let start = found.start - ANNOUNCE_REPLY_LEN as u32;
    // Few peers are skipped: the mask changes nothing, but the verifier wants to see it.
    let at = start as usize & START_MASK;
    scratch.put(at, ACTION_ANNOUNCE.to_be_bytes());
    scratch.put(at + 4, asked.transaction_id);
    scratch.put(at + 8, interval(settings, memory.random()).to_be_bytes());
    scratch.put(at + 12, counts.leechers.to_be_bytes());
    scratch.put(at + 16, counts.seeders.to_be_bytes());
    Some(Reply {
        start,
        length: ANNOUNCE_REPLY_LEN as u32 + found.count * F::PEER_BYTES,
        peers: found.count,
        event: Event::announce(F::VERSION),
    })
}
