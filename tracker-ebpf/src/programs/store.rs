//! Stores an announce that was verified, and that is more than the refresh of a known peer.

use crate::{
    frame::{headers::Network, packet::Packet, parse, served, write},
    kernel::Kernel,
};
use tracker_common::{
    bep15::{announce::Request, wire::AnnounceRequest},
    id::SwarmId,
    outcome::{Event, Reason, StoreError},
    platform::{Context, Platform as _},
    programs::Program,
    store::{hash::TorrentKey, tell, upsert::upsert},
};

#[inline(always)]
pub(super) fn run<N: Network>(packet: &Packet) -> Result<(), Reason> {
    let kernel = Kernel::new()?;
    let cx = &Context::new(&kernel)?;
    let handover = &cx.scratch.handover;
    let l2 = parse::checked_l2(cx.scratch);
    let parse::Carrying { headers, request: bytes } = parse::carrying::<N, AnnounceRequest>(packet, l2)?;
    let request = Request::new(bytes, N::peer(&headers.ip, bytes.port));
    handover.split.store(0);
    let torrent = TorrentKey::from_hash(cx.settings, &bytes.info_hash, cx.scratch.handover.hash.load());
    match upsert::<_, N>(cx, &torrent, &request.announce) {
        Ok(swarm) => {
            handover.swarm.store(swarm.map_or(0, SwarmId::stored));
            tell::others::<_, N>(cx, request.announce.info_hash, request.announce.peer);
            let split = handover.split.load() != 0;
            Err(packet.tail_call(if split { Program::split(N::VERSION) } else { Program::reply(N::VERSION) }))
        }
        // A thread that holds a lock will not let go of it soon, and nobody serves the sockets: an
        // answer from what the swarm was found to have, if anything, is the best there is.
        Err(StoreError::Contended) if !served::is_served(packet, l2) => {
            kernel.event(Event::Unstored);
            Err(packet.tail_call(Program::reply(N::VERSION)))
        }
        Err(error) => write::answer::<N>(cx, packet, l2, Err(error.into()), bytes.header.transaction_id),
    }
}
