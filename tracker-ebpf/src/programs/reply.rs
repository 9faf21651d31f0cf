//! Replies to an announce that has been stored, with peers of as many partitions as it takes.

use crate::{
    frame::{headers::Network, packet::Packet, parse, write},
    kernel::Kernel,
};
use tracker_common::{
    bep15::{
        announce::{Request, reply},
        wire::AnnounceRequest,
    },
    id::SwarmId,
    outcome::{FrameReason, Reason},
    platform::Context,
    store::sample::sample,
};

#[inline(always)]
pub(super) fn run<N: Network>(packet: &Packet) -> Result<(), Reason> {
    let kernel = Kernel::new()?;
    let cx = &Context::new(&kernel)?;
    let l2 = parse::checked_l2(cx.scratch);
    let parse::Carrying { headers, request: bytes } = parse::carrying::<N, AnnounceRequest>(packet, l2)?;
    let request = Request::new(bytes, N::peer(&headers.ip, bytes.port));
    let swarm = cx.swarm(SwarmId::new(cx.scratch.handover.swarm.load().wrapping_sub(1)));
    let Some(reply) = reply::<_, N>(cx, &request, swarm, sample::<_, N>) else {
        return Err(FrameReason::NoRoom.into());
    };
    write::send::<N>(cx, packet, l2, reply)
}
