//! The packet: the one door to its bytes.
//!
//! All is read and written in place, each time with its bounds checked. Calls of helpers cost more
//! than all the instructions of a short reply together, so there is none where plain loads and
//! stores do. Nothing read in place may be used after the packet changed its length.

use crate::maps::PROGRAMS;
use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use tracker_common::{
    codegen::barrier_var,
    net::checksum::Words,
    outcome::{Reason, StoreError},
    programs::Program,
    scratch::{BLOCK, REPLY_BLOCKS, SCRATCH_BYTES, START_MASK, Scratch, Unaligned},
};

/// Longest piece `bpf_csum_diff` took before Linux 6.13.
const SUM_PIECE: usize = 512;

/// The packet being handled.
pub(crate) struct Packet(*mut xdp_md);

impl Packet {
    /// The packet of a context.
    #[inline(always)]
    pub(crate) fn new(context: *mut xdp_md) -> Self {
        Self(context)
    }

    /// Its context, for global functions, which have to be given that.
    #[inline(always)]
    pub(crate) fn context(&self) -> *mut xdp_md {
        self.0
    }

    /// Index of the interface it came in by.
    #[inline(always)]
    pub(crate) fn interface(&self) -> u32 {
        // SAFETY: the context is valid as long as the program runs.
        unsafe { (*self.0).ingress_ifindex }
    }

    /// Goes on in another program. Returns only if that is not possible, with the reason for it.
    #[inline(always)]
    pub(crate) fn tail_call(&self, program: Program) -> Reason {
        // SAFETY: the context is that of this run.
        unsafe {
            PROGRAMS.tail_call(&XdpContext::new(self.0), program as u32);
        }
        StoreError::Internal.into()
    }

    /// Where it begins and ends.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        // SAFETY: the context is valid as long as the program runs.
        unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) }
    }

    /// Its length. The program does not declare to know packets in several buffers, so it never
    /// sees one.
    #[inline(always)]
    pub(crate) fn length(&self) -> usize {
        let (start, end) = self.bounds();
        end - start
    }

    /// The bytes at `offset` as a `T`, which has to be made of byte arrays.
    #[inline(always)]
    pub(crate) fn at<T>(&self, offset: usize) -> Option<&T> {
        const { assert!(align_of::<T>() == 1) };
        let (start, end) = self.bounds();
        if start + offset + size_of::<T>() > end {
            return None;
        }
        // SAFETY: the bound was checked in the line above; T has alignment 1 and no invalid values.
        Some(unsafe { &*((start + offset) as *const T) })
    }

    /// The bytes at `offset` as a `T`, to be written.
    #[inline(always)]
    #[expect(clippy::mut_from_ref, reason = "the packet belongs to this run of the program; nobody keeps a reference")]
    pub(crate) fn at_mut<T>(&self, offset: usize) -> Option<&mut T> {
        const { assert!(align_of::<T>() == 1) };
        let (start, end) = self.bounds();
        // The barrier: the compiler would conclude from a bound checked for other bytes that these
        // are inside as well, which the verifier does not.
        let at = start + barrier_var(offset as u64) as usize;
        if at + size_of::<T>() > end {
            return None;
        }
        // SAFETY: the bound was checked in the line above; T has alignment 1 and no invalid values.
        Some(unsafe { &mut *(at as *mut T) })
    }

    /// Copies `length` bytes at `offset` of the packet to `at` in the scratch space, and zeros
    /// behind them.
    #[inline(always)]
    pub(crate) fn load(&self, offset: usize, scratch: &Scratch, at: usize, length: usize) -> Option<()> {
        // Verifiers before Linux 6.18 want to see both bounds of the very number that is handed
        // over: the upper one is checked, the lower one comes of adding. The barrier, because the
        // compiler would check another form of the number.
        let less = barrier_var(length.wrapping_sub(1) as u64) as usize;
        if less >= SCRATCH_BYTES - 8 - at {
            return None;
        }
        let length = less + 1;
        // SAFETY: the bound was checked in the line above.
        let result =
            unsafe { bpf_xdp_load_bytes(self.0, offset as u32, scratch.bytes().add(at).cast(), length as u32) };
        scratch.put(at + length, 0_u32);
        (result == 0).then_some(())
    }

    /// Writes `length` bytes from `from` in the scratch space to `offset` of the packet, and
    /// returns the sum of their 16-bit words ([`tracker_common::net::checksum`]).
    #[inline(always)]
    pub(crate) fn write(&self, offset: usize, scratch: &Scratch, from: usize, length: usize) -> Option<u64> {
        let from = from & START_MASK;
        // The barrier: the compiler knows that the headers are shorter than a block, and would not
        // add the two but `or` them, which has no bound for the verifier of Linux 6.1.
        let offset = barrier_var(offset as u64) as usize;
        let mut words = Words::default();
        for block in 0..REPLY_BLOCKS {
            if block >= length / BLOCK {
                break;
            }
            let to = self.at_mut::<[Unaligned; BLOCK / 8]>(offset + block * BLOCK)?;
            for (index, word) in to.iter_mut().enumerate() {
                words.add(copy_word(word, scratch, from + block * BLOCK + index * 8));
            }
        }
        // From here on by the length alone, not by the number of blocks: to the verifier all ways
        // lead to one.
        let mut done = length & (REPLY_BLOCKS * BLOCK);
        let rest = length & (BLOCK - 1);
        for index in 0..BLOCK / 8 - 1 {
            if index >= rest / 8 {
                break;
            }
            let word = self.at_mut::<Unaligned>(offset + done + index * 8)?;
            words.add(copy_word(word, scratch, from + done + index * 8));
        }
        let mut sum = words.sum();
        done += rest & (BLOCK - 8);
        if rest & 4 != 0 {
            let value: u32 = scratch.get(from + done)?;
            *self.at_mut(offset + done)? = value.to_ne_bytes();
            sum += u64::from(value);
            done += 4;
        }
        if rest & 2 != 0 {
            let value: u16 = scratch.get(from + done)?;
            *self.at_mut(offset + done)? = value.to_ne_bytes();
            sum += u64::from(value);
            done += 2;
        }
        if rest & 1 != 0 {
            let value: u8 = scratch.get(from + done)?;
            *self.at_mut(offset + done)? = value;
            sum += u64::from(u16::from_ne_bytes([value, 0]));
        }
        Some(sum)
    }

    /// Gives the packet `more` bytes where drivers leave the rest of a page, behind it. False if
    /// they do not.
    #[inline(always)]
    pub(crate) fn grow(&self, more: u32) -> bool {
        self.tail(more as i32)
    }

    /// Takes the last bytes off.
    #[inline(always)]
    pub(crate) fn shrink(&self, less: u32) -> bool {
        self.tail(-(less as i32))
    }

    #[inline(always)]
    pub(super) fn tail(&self, by: i32) -> bool {
        // SAFETY: the helper checks the room; no reference into the packet is held across it.
        unsafe { bpf_xdp_adjust_tail(self.0, by) == 0 }
    }

    #[inline(always)]
    pub(super) fn head(&self, by: u32) -> bool {
        // SAFETY: as above.
        unsafe { bpf_xdp_adjust_head(self.0, -(by as i32)) == 0 }
    }
}

/// Copies a word of the scratch space, and returns it.
#[inline(always)]
fn copy_word(to: &mut Unaligned, scratch: &Scratch, from: usize) -> u64 {
    let value = scratch.word(from);
    *to = Unaligned(value);
    value
}

/// Adds the 16-bit words of `length` bytes at `at` in the scratch space; up to 3 bytes behind them
/// must be zeros.
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
