//! The packet: the one door to its bytes. Everything stands at an offset that the compiler knows, as
//! cards want it.

use aya_ebpf::bindings::xdp_md;
use tracker_common::{
    bep15::wire::RequestHeader,
    net::headers::{Ethernet, Udp},
};

/// A frame without a VLAN tag that carries a request, up to where requests differ.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Frame<I> {
    pub(crate) ethernet: Ethernet,
    pub(crate) ip: I,
    pub(crate) udp: Udp,
    pub(crate) request: RequestHeader,
}

/// The first bytes of the packet as a `T`, which has to be made of byte arrays.
#[inline(always)]
pub(crate) fn at_front<'p, T>(context: *mut xdp_md) -> Option<&'p T> {
    const { assert!(align_of::<T>() == 1) };
    let (start, end) = bounds(context);
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: the bound was checked in the line above; T has alignment 1 and no invalid values. The
    // packet stays where it is as long as the program runs.
    Some(unsafe { &*(start as *const T) })
}

/// The same, to be written.
#[inline(always)]
pub(crate) fn at_front_mut<'p, T>(context: *mut xdp_md) -> Option<&'p mut T> {
    const { assert!(align_of::<T>() == 1) };
    let (start, end) = bounds(context);
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: as above; nobody keeps a reference to what is read.
    Some(unsafe { &mut *(start as *mut T) })
}

/// Its length.
#[inline(always)]
pub(crate) fn length(context: *mut xdp_md) -> u32 {
    let (start, end) = bounds(context);
    (end - start) as u32
}

#[inline(always)]
fn bounds(context: *mut xdp_md) -> (usize, usize) {
    // SAFETY: the context is valid as long as the program runs. Volatile: each look at the packet has
    // its own bound, which the verifier sees.
    unsafe {
        let context = &raw const *context;
        (
            (&raw const (*context).data).read_volatile() as usize,
            (&raw const (*context).data_end).read_volatile() as usize,
        )
    }
}
