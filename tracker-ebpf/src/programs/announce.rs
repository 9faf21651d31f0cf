//! An announce whose headers were checked. A known peer that is still there is refreshed and
//! answered, if one partition has enough peers for the reply. Otherwise the packet goes on: to be
//! stored, or to be replied to with more work.

use crate::{
    frame::{headers::Network, packet::Packet, parse, write},
    kernel::Kernel,
};
use tracker_common::{
    bep15::{
        announce::{Request, reply, verify},
        wire::AnnounceRequest,
    },
    id::SwarmId,
    outcome::Reason,
    platform::Context,
    programs::Program,
    store::{
        hash::TorrentKey,
        index,
        refresh::refresh,
        sample::{self, from_one_partition},
    },
};

#[inline(always)]
pub(super) fn run<N: Network>(packet: &Packet) -> Result<(), Reason> {
    let kernel = Kernel::new()?;
    let cx = &Context::new(&kernel)?;
    let l2 = parse::checked_l2(cx.scratch);
    let parse::Carrying { headers, request: bytes } = parse::carrying::<N, AnnounceRequest>(packet, l2)?;
    let request = Request::new(bytes, N::peer(&headers.ip, bytes.port));
    let torrent = TorrentKey::from_hash(cx.settings, &bytes.info_hash, cx.scratch.handover.hash.load());
    let result = match verify(cx, bytes, N::source(&headers.ip)) {
        Ok(()) => {
            let store = Program::store(N::VERSION);
            let Some(swarm) = index::find_at(cx, &torrent, SwarmId::new(cx.scratch.handover.guess.load())) else {
                cx.scratch.handover.swarm.store(0);
                return Err(packet.tail_call(store));
            };
            let directory = N::directory(swarm.record);
            sample::look_ahead::<_, N>(cx, swarm, directory);
            let Some(()) = refresh::<_, N>(cx, swarm, directory, &torrent, &request.announce) else {
                // If it cannot be stored either, peers of it are given all the same.
                cx.scratch.handover.swarm.store(swarm.id.stored());
                return Err(packet.tail_call(store));
            };
            let Some(reply) = reply::<_, N>(cx, &request, Some(swarm), from_one_partition::<_, N>) else {
                cx.scratch.handover.swarm.store(swarm.id.stored());
                return Err(packet.tail_call(Program::reply(N::VERSION)));
            };
            Ok(reply)
        }
        Err(reason) => Err(reason.into()),
    };
    write::answer::<N>(cx, packet, l2, result, bytes.header.transaction_id)
}
