//! The bare reflector: every request that goes to the tracker's port comes back with the length of
//! a tracker's reply and nothing else done to it. No tracker that answers with as many bytes can be
//! faster on the same path.

use aya_ebpf::programs::XdpContext;
use bench_ebpf::{Load, fold};

use crate::{
    frame::{self, Bytes, ETHER_TYPE, IP, Layout, V4, V6},
    maps,
};

/// True: send it back. False: not a request.
#[inline(always)]
pub fn turn_around(ctx: &XdpContext) -> Option<bool> {
    let load = maps::load()?;
    if load.family == 4 { in_family::<58>(ctx, load, V4) } else { in_family::<78>(ctx, load, V6) }
}

#[inline(always)]
fn in_family<const LENGTH: usize>(ctx: &XdpContext, load: &Load, at: Layout) -> Option<bool> {
    let is_v4 = at.udp == V4.udp;
    let Some(frame) = Bytes::<LENGTH>::of(ctx) else { return Some(false) };
    let ether_type: u16 = frame.get(ETHER_TYPE);
    let destination_port: u16 = frame.get(at.udp + 2);
    if ether_type != if is_v4 { 0x0800u16 } else { 0x86dd }.to_be() || destination_port != load.tracker_port {
        return Some(false);
    }
    frame::set_length(ctx, at.payload as u32 + load.reflected_payload)?;

    let frame = Bytes::<LENGTH>::of(ctx)?;
    let (destination, source): ([u16; 3], [u16; 3]) = (frame.get(0), frame.get(6));
    frame.put(0, source);
    frame.put(6, destination);
    let udp_length = (load.reflected_payload + 8) as u16;
    if is_v4 {
        let (source, destination): (u32, u32) = (frame.get(IP + 12), frame.get(IP + 16));
        frame.put(IP + 12, destination);
        frame.put(IP + 16, source);
        // RFC 1624: the checksum follows the one word that changes.
        let (old_length, checksum): (u16, u16) = (frame.get(IP + 2), frame.get(IP + 10));
        let new_length = (udp_length + 20).to_be();
        frame.put(IP + 2, new_length);
        frame.put(IP + 10, !fold(u64::from(!checksum) + u64::from(!old_length) + u64::from(new_length)));
    } else {
        let (source, destination): ([u64; 2], [u64; 2]) = (frame.get(IP + 8), frame.get(IP + 24));
        frame.put(IP + 8, destination);
        frame.put(IP + 24, source);
        frame.put(IP + 4, udp_length.to_be());
    }
    let (source, destination): (u16, u16) = (frame.get(at.udp), frame.get(at.udp + 2));
    frame.put(at.udp, destination);
    frame.put(at.udp + 2, source);
    frame.put(at.udp + 4, udp_length.to_be());
    // No checksum: that would be work a bare reflector does not do.
    frame.put(at.udp + 6, 0u16);
    // Action and transaction id move to where a reply has them, so that the reply counts.
    let action_and_transaction: [u32; 2] = frame.get(at.payload + 8);
    frame.put(at.payload, action_and_transaction);
    Some(true)
}
