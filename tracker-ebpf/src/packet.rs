//! The packet: the one door to its bytes.
//!
//! Headers are read in place, each with its bounds checked; the reply is built in scratch space and written in one go. Nothing
//! read in place may be used after the packet changed its length.

use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes, bpf_xdp_store_bytes},
};
use aya_ebpf::{maps::ProgramArray, programs::XdpContext};
use tracker_common::reply::{SCRATCH_BYTES, Scratch};

/// Longest piece `bpf_csum_diff` took before Linux 6.13.
const SUM_PIECE: usize = 512;

/// What every driver leaves in front of a packet, as far as a reply relies on it. XDP_PACKET_HEADROOM is 256, some drivers
/// leave less, and the kernel needs 40 for itself.
const HEADROOM: usize = 192;

/// The packet being handled.
pub(crate) struct Packet(*mut xdp_md);

impl Packet {
    /// The packet of a context.
    #[inline(always)]
    pub(crate) fn new(context: *mut xdp_md) -> Self {
        Self(context)
    }

    /// Index of the interface it came in by.
    #[inline(always)]
    pub(crate) fn interface(&self) -> u32 {
        // SAFETY: the context is valid as long as the program runs.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// Goes on in another program. Returns only if there is none at `index`.
    #[inline(always)]
    pub(crate) fn continue_in(&self, programs: &ProgramArray, index: u32) {
        // SAFETY: the context is that of this run.
        unsafe {
            programs.tail_call(&XdpContext::new(self.0), index);
        }
    }

    /// Its length.
    #[inline(always)]
    pub(crate) fn length(&self) -> usize {
        // The difference of the two pointers would be 32-bit arithmetic on pointers to the verifier.
        // SAFETY: the helper takes the context.
        unsafe { aya_ebpf::helpers::bpf_xdp_get_buff_len(self.0) as usize }
    }

    /// The bytes at `offset` as a `T`, which has to be made of byte arrays.
    #[inline(always)]
    pub(crate) fn at<T>(&self, offset: usize) -> Option<&T> {
        const { assert!(align_of::<T>() == 1) };
        // SAFETY: the context is valid as long as the program runs.
        let (start, end) = unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) };
        if start + offset + size_of::<T>() > end {
            return None;
        }
        // SAFETY: the bound was checked in the line above; T has alignment 1 and no invalid values.
        Some(unsafe { &*((start + offset) as *const T) })
    }

    /// Copies `length` bytes at `offset` of the packet to `at` in the scratch space, and zeros behind them.
    #[inline(always)]
    pub(crate) fn load(&self, offset: usize, scratch: &Scratch, at: usize, length: usize) -> Option<()> {
        if length == 0 || length > SCRATCH_BYTES - 8 - at {
            return None;
        }
        // SAFETY: the bound was checked in the line above.
        let result =
            unsafe { bpf_xdp_load_bytes(self.0, offset as u32, scratch.bytes().add(at).cast(), length as u32) };
        scratch.put(at + length, 0_u32);
        (result == 0).then_some(())
    }

    /// Writes `length` bytes from `from` in the scratch space over the packet's beginning.
    #[inline(always)]
    pub(crate) fn store(&self, scratch: &Scratch, from: usize, length: usize) -> Option<()> {
        if from > 1024 || length == 0 || length > SCRATCH_BYTES - 1024 {
            return None;
        }
        // SAFETY: the bounds were checked in the line above.
        let result = unsafe { bpf_xdp_store_bytes(self.0, 0, scratch.bytes().add(from).cast(), length as u32) };
        (result == 0).then_some(())
    }

    /// Gives the packet the length `to`, or as much of it as there is room for, and returns the length it has.
    ///
    /// Drivers leave the rest of a page behind a packet. A veth pair leaves a packet that came from a socket only what is
    /// missing to the next multiple of 64, but room in front; so both ends are tried.
    #[inline(always)]
    pub(crate) fn resize(&self, from: usize, to: usize) -> usize {
        if to == from || self.tail(to as i32 - from as i32) {
            return to;
        }
        let missing = to - from;
        if missing <= HEADROOM && self.head(missing as i32) {
            return to;
        }
        if missing > HEADROOM && self.head(HEADROOM as i32) {
            if self.tail(missing as i32 - HEADROOM as i32) {
                return to;
            }
            return from + HEADROOM;
        }
        from
    }

    #[inline(always)]
    fn tail(&self, by: i32) -> bool {
        // SAFETY: the helper checks the room; no reference into the packet is held across it.
        unsafe { bpf_xdp_adjust_tail(self.0, by) == 0 }
    }

    #[inline(always)]
    fn head(&self, by: i32) -> bool {
        // SAFETY: as above.
        unsafe { bpf_xdp_adjust_head(self.0, -by) == 0 }
    }
}

/// Adds the 16-bit words of `length` bytes at `at` in the scratch space; up to 3 bytes behind them must be zeros.
#[inline(always)]
pub(crate) fn sum(scratch: &Scratch, at: usize, length: usize, mut sum: u64) -> u64 {
    let padded = (length + 3) & !3;
    let mut done = 0;
    while done < 3 * SUM_PIECE {
        if done >= padded || at > HEAD_MAX {
            break;
        }
        let left = padded - done;
        let piece = if left > SUM_PIECE { SUM_PIECE } else { left };
        if piece == 0 || piece > SUM_PIECE {
            break;
        }
        // SAFETY: `at` + 3 * SUM_PIECE is inside the space.
        sum += unsafe {
            let piece_sum =
                bpf_csum_diff(core::ptr::null_mut(), 0, scratch.bytes().add(at + done).cast(), piece as u32, 0);
            u64::from(piece_sum as u32)
        };
        done += SUM_PIECE;
    }
    sum
}

/// Largest offset that [`sum`] begins at.
const HEAD_MAX: usize = SCRATCH_BYTES - 3 * SUM_PIECE;
