//! Answers a scrape, whose headers were checked and whose info_hashes are in the scratch space.

use crate::{
    frame::{headers::Network, packet::Packet, parse, write},
    kernel::Kernel,
};
use tracker_common::{
    bep15::{scrape, wire::RequestHeader},
    outcome::Reason,
    platform::Context,
    store::family::{V4, V6},
};

#[inline(always)]
pub(super) fn run(packet: &Packet) -> Result<(), Reason> {
    let kernel = Kernel::new()?;
    let cx = &Context::new(&kernel)?;
    let l2 = parse::checked_l2(cx.scratch);
    if cx.scratch.handover.is_v6.load() == 0 { answer::<V4>(cx, packet, l2) } else { answer::<V6>(cx, packet, l2) }
}

#[inline(always)]
fn answer<N: Network>(cx: &Context<'_, Kernel>, packet: &Packet, l2: usize) -> Result<(), Reason> {
    let parse::Carrying { headers, request } = parse::carrying::<N, RequestHeader>(packet, l2)?;
    let transaction_id = request.transaction_id;
    let count = cx.scratch.handover.info_hashes.load();
    let result = scrape::answer(cx, request, N::source(&headers.ip), count);
    if count == 0
        && let Err(reason) = result
    {
        // The error would be longer than the request, and the sender has not shown that it receives
        // at its address.
        return Err(reason.into());
    }
    write::answer::<N>(cx, packet, l2, result.map_err(Reason::from), transaction_id)
}
