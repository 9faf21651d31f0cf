//! Whether anybody would answer what is passed on.
//!
//! The kernel closes a killed daemon's sockets at once, but that its clock stands still shows only
//! after seconds ([`tracker_common::settings::Settings::is_unattended`]). So before a request is
//! passed on that could be answered somehow, the socket is looked for that would get it.

use super::{
    headers::{Headers, Network},
    packet::Packet,
};
use crate::kernel::Kernel;
use aya_ebpf::{
    bindings::{bpf_sock_tuple, xdp_md},
    helpers::{bpf_sk_lookup_udp, bpf_sk_release},
};
use tracker_common::{
    platform::Platform as _,
    store::family::{V4, V6},
};

/// What both of struct `bpf_sock_tuple`'s forms begin with is the addresses, and the ports follow.
#[repr(C)]
struct Tuple<const BYTES: usize> {
    addresses: [[u8; BYTES]; 2],
    ports: [[u8; 2]; 2],
}

/// The network namespace that the packet is in: BPF_F_CURRENT_NETNS.
const CURRENT_NAMESPACE: u64 = u64::MAX;

/// Whether a socket is open for a packet whose IP header begins at `l2`, and a daemon alive behind
/// it.
#[inline(always)]
pub(crate) fn is_served(packet: &Packet, l2: usize) -> bool {
    cold_served(packet.context(), l2 as u32) != 0
}

/// [`is_served`]. A global function, which the verifier looks at once ([`crate::cold`]).
// SAFETY: the name is unique to this program; nobody but this program calls it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cold_served(context: *mut xdp_md, l2: u32) -> u32 {
    let packet = Packet::new(context);
    let kernel = Kernel::without_counters();
    if kernel.settings().is_none_or(|settings| settings.is_unattended()) {
        return 0;
    }
    // A bound that the verifier sees; what grew in front is less.
    let l2 = l2 as usize & 0x1ff;
    // What an IPv6 packet has at least as much of.
    let Some(Headers { ip, udp }) = packet.at::<Headers<<V4 as Network>::Ip>>(l2) else { return 0 };
    let found = if ip.version_ihl >> 4 == 4 {
        is_open(&packet, &Tuple { addresses: [ip.source, ip.destination], ports: [udp.source, udp.destination] })
    } else {
        let Some(Headers { ip, udp }) = packet.at::<Headers<<V6 as Network>::Ip>>(l2) else { return 0 };
        is_open(&packet, &Tuple { addresses: [ip.source, ip.destination], ports: [udp.source, udp.destination] })
    };
    u32::from(found)
}

/// Whether there is a socket of UDP for it.
#[inline(always)]
fn is_open<const BYTES: usize>(packet: &Packet, tuple: &Tuple<BYTES>) -> bool {
    let at: *const bpf_sock_tuple = (&raw const *tuple).cast();
    // SAFETY: the context is that of this run, and the tuple is as long as is said and only read.
    let socket = unsafe {
        bpf_sk_lookup_udp(
            packet.context().cast(),
            at.cast_mut(),
            size_of::<Tuple<BYTES>>() as u32,
            CURRENT_NAMESPACE,
            0,
        )
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: it was found in the line above, and is not used behind this.
    unsafe { bpf_sk_release(socket.cast()) };
    true
}
