//! The door to packet bytes, and the length of a frame.

use aya_ebpf::{
    helpers::{bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len},
    programs::XdpContext,
};

/// Where the parts of a frame begin, by address family.
#[derive(Clone, Copy)]
pub struct Layout {
    pub udp: usize,
    pub payload: usize,
}

pub const ETHER_TYPE: usize = 12;
pub const IP: usize = 14;
pub const V4: Layout = Layout { udp: 34, payload: 42 };
pub const V6: Layout = Layout { udp: 54, payload: 62 };

/// The first `LENGTH` bytes of a frame, checked to be there.
#[derive(Clone, Copy)]
pub struct Bytes<const LENGTH: usize> {
    start: usize,
}

impl<const LENGTH: usize> Bytes<LENGTH> {
    #[inline(always)]
    pub fn of(ctx: &XdpContext) -> Option<Self> {
        let start = ctx.data();
        if start + LENGTH > ctx.data_end() {
            return None;
        }
        Some(Self { start })
    }

    #[inline(always)]
    pub fn get<T: Copy>(self, at: usize) -> T {
        debug_assert!(at + size_of::<T>() <= LENGTH);
        // SAFETY: every caller names a constant place within `LENGTH`, and the verifier refuses the
        // program otherwise.
        unsafe { ((self.start + at) as *const T).read_unaligned() }
    }

    #[inline(always)]
    pub fn put<T: Copy>(self, at: usize, value: T) {
        debug_assert!(at + size_of::<T>() <= LENGTH);
        // SAFETY: as in `get`.
        unsafe { ((self.start + at) as *mut T).write_unaligned(value) }
    }
}

/// Gives the frame `length` bytes: at the tail, or at the head where the tail has no room. What the
/// bytes are afterwards is unknown.
#[inline(always)]
pub fn set_length(ctx: &XdpContext, length: u32) -> Option<()> {
    // SAFETY: the context is the one this program was called with.
    let now = unsafe { bpf_xdp_get_buff_len(ctx.ctx) };
    let more = length as i32 - now as i32;
    // SAFETY: as above; the packet pointers are taken afresh afterwards.
    unsafe {
        if more != 0 && bpf_xdp_adjust_tail(ctx.ctx, more) != 0 && bpf_xdp_adjust_head(ctx.ctx, -more) != 0 {
            return None;
        }
    }
    Some(())
}
