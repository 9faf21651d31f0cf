//! The entry: a frame's headers are checked; a connect is answered, announces and scrapes go on in
//! other programs.

use crate::{
    clock,
    frame::{headers::Network, packet::Packet, parse, write},
    kernel::Kernel,
};
use tracker_common::{
    bep15::{connect::connect, datagram::Request, scrape::hashes, wire::RequestHeader},
    net::headers::{ETHER_IPV4, ETHER_IPV6, ETHER_QINQ, ETHER_VLAN, Ethernet},
    outcome::{FrameReason, Reason},
    platform::Context,
    programs::Program,
    store::family::{V4, V6},
};

#[inline(always)]
pub(super) fn run(packet: &Packet) -> Result<(), Reason> {
    let (ether_type, l2) = parse::ethernet(packet)?;
    match ether_type {
        ETHER_IPV4 => request::<V4>(packet, l2, parse::ipv4(packet, l2)?),
        ETHER_IPV6 => request::<V6>(packet, l2, parse::ipv6(packet, l2)?),
        ETHER_VLAN | ETHER_QINQ => Err(FrameReason::VlanStack.into()),
        _ => Err(FrameReason::NotIp.into()),
    }
}

/// `length` bytes follow the IP header.
#[inline(always)]
fn request<N: Network>(packet: &Packet, l2: usize, length: usize) -> Result<(), Reason> {
    let kernel = Kernel::new()?;
    let cx = &Context::new(&kernel)?;
    parse::ask_for::<N>(cx, packet, l2);
    let checked = parse::udp::<N>(cx, packet, l2, length)?;
    clock::keep(cx.settings)?;
    let handover = &cx.scratch.handover;
    match checked.request {
        Request::Connect => {
            let carrying = parse::carrying::<N, RequestHeader>(packet, l2)?;
            let reply = connect(cx, &carrying.request, N::source(&carrying.headers.ip))?;
            write::send_connect::<N>(cx, packet, l2, reply)
        }
        Request::Announce => {
            handover.vlan_tag_len.store((l2 - size_of::<Ethernet>()) as u32);
            handover.front_growth.store(0);
            handover.mtu.store(checked.mtu);
            Err(packet.tail_call(Program::announce(N::VERSION)))
        }
        Request::Scrape => {
            handover.vlan_tag_len.store((l2 - size_of::<Ethernet>()) as u32);
            handover.front_growth.store(0);
            handover.info_hashes.store(hashes(checked.payload));
            handover.is_v6.store(u32::from(N::IS_V6));
            Err(packet.tail_call(Program::Scrape))
        }
    }
}
