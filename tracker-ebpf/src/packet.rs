//! The packet: the one door to its bytes.
//!
//! All is read and written in place, each time with its bounds checked. Calls of helpers cost more than all the instructions
//! of a short reply together, so there is none where plain loads and stores do. Nothing read in place may be used after the
//! packet changed its length.

use crate::maps::{Kernel, PROGRAMS};
use aya_ebpf::{
    bindings::xdp_md,
    helpers::{bpf_csum_diff, bpf_xdp_adjust_head, bpf_xdp_adjust_tail, bpf_xdp_load_bytes},
    programs::XdpContext,
};
use tracker_common::{
    outcome::{Reason, StoreError},
    platform::Platform as _,
    programs::Program,
    scratch::{BLOCK, REPLY_BLOCKS, SCRATCH_BYTES, START_MASK, Scratch, Unaligned},
    word::opaque,
};

/// Longest piece `bpf_csum_diff` took before Linux 6.13.
const SUM_PIECE: usize = 512;

/// What nearly every driver leaves in front of a packet: XDP_PACKET_HEADROOM is 256, and the kernel needs 40 for itself.
const HEADROOM: u32 = 192;

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

    /// Its length. The program does not declare to know packets in several buffers, so it never sees one.
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
        // Opaque: the compiler would conclude from a bound checked for other bytes that these are inside as well, which the
        // verifier does not.
        let at = start + opaque(offset as u64) as usize;
        if at + size_of::<T>() > end {
            return None;
        }
        // SAFETY: the bound was checked in the line above; T has alignment 1 and no invalid values.
        Some(unsafe { &mut *(at as *mut T) })
    }

    /// Copies `length` bytes at `offset` of the packet to `at` in the scratch space, and zeros behind them.
    #[inline(always)]
    pub(crate) fn load(&self, offset: usize, scratch: &Scratch, at: usize, length: usize) -> Option<()> {
        // Verifiers before Linux 6.18 want to see both bounds of the very number that is handed over: the upper one is checked,
        // the lower one comes of adding. Opaque, because the compiler would check another form of the number.
        let less = opaque(length.wrapping_sub(1) as u64) as usize;
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

    /// Writes `length` bytes from `from` in the scratch space to `offset` of the packet, and returns the sum of their 16-bit words
    /// ([`tracker_common::checksum`]).
    #[inline(always)]
    pub(crate) fn write(&self, offset: usize, scratch: &Scratch, from: usize, length: usize) -> Option<u64> {
        let from = from & START_MASK;
        // Opaque: the compiler knows that the headers are shorter than a block, and would not add the two but `or` them, which
        // has no bound for the verifier of Linux 6.1.
        let offset = opaque(offset as u64) as usize;
        let mut sum = 0;
        for block in 0..REPLY_BLOCKS {
            if block >= length / BLOCK {
                break;
            }
            let to = self.at_mut::<[Unaligned; BLOCK / 8]>(offset + block * BLOCK)?;
            for (index, word) in to.iter_mut().enumerate() {
                sum = self.copy_word(word, scratch, from + block * BLOCK + index * 8, sum);
            }
        }
        // From here on by the length alone, not by the number of blocks: to the verifier all ways lead to one.
        let mut done = length & (REPLY_BLOCKS * BLOCK);
        let rest = length & (BLOCK - 1);
        for index in 0..BLOCK / 8 - 1 {
            if index >= rest / 8 {
                break;
            }
            let word = self.at_mut::<Unaligned>(offset + done + index * 8)?;
            sum = self.copy_word(word, scratch, from + done + index * 8, sum);
        }
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

    /// Copies a word of the scratch space and adds it to a sum.
    #[inline(always)]
    fn copy_word(&self, to: &mut Unaligned, scratch: &Scratch, from: usize, sum: u64) -> u64 {
        let value = scratch.word(from);
        *to = Unaligned(value);
        sum + (value & 0xffff_ffff) + (value >> 32)
    }

    /// Gives the packet `more` bytes where drivers leave the rest of a page, behind it. False if they do not.
    #[inline(always)]
    pub(crate) fn grow(&self, more: u32) -> bool {
        self.tail(more as i32)
    }

    /// Gives the packet up to `more` bytes where [`Packet::grow`] fails, and returns how many. `None`, and it is as it was, if
    /// there is not room for `least`.
    #[inline(always)]
    pub(crate) fn grow_at_both_ends(&self, more: u32, least: u32) -> Option<u32> {
        let grown = rare_grow(self.0, more, least);
        if grown < least { None } else { Some(grown) }
    }

    /// Takes the last bytes off.
    #[inline(always)]
    pub(crate) fn shrink(&self, less: u32) -> bool {
        self.tail(-(less as i32))
    }

    #[inline(always)]
    fn tail(&self, by: i32) -> bool {
        // SAFETY: the helper checks the room; no reference into the packet is held across it.
        unsafe { bpf_xdp_adjust_tail(self.0, by) == 0 }
    }

    #[inline(always)]
    fn head(&self, by: u32) -> bool {
        // SAFETY: as above.
        unsafe { bpf_xdp_adjust_head(self.0, -(by as i32)) == 0 }
    }
}

/// [`Packet::grow_at_both_ends`]; less than `least` for `None`. A global function, which the verifier looks at once
/// ([`crate::rare`]).
///
/// A veth pair leaves a packet that came from a socket only what is missing to the next multiple of 64 bytes behind it, but room in
/// front. How much there is at either end nobody tells, so it is found out by halves.
// SAFETY: the name is unique to this program; nobody but this program calls it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn rare_grow(context: *mut xdp_md, more: u32, least: u32) -> u32 {
    let packet = Packet(context);
    let Some(scratch) = Kernel.scratch() else { return 0 };
    // In memory, so that the verifier does not follow every sum of steps that fitted.
    let left = &scratch.growth_left;
    left.store(more);
    if more > HEADROOM && packet.head(HEADROOM) {
        left.store(more - HEADROOM);
    }
    let mut step = FRONT_STEP;
    while step >= FRONT_STEP / 16 {
        if left.load() >= step && packet.head(step) {
            left.store(left.load() - step);
        }
        step /= 2;
    }
    let behind = left.load();
    scratch.handover.front_growth.store(more.wrapping_sub(behind));
    if behind > 0 && packet.tail(behind as i32) {
        return more;
    }
    let mut step = TAIL_STEP;
    while step > 0 {
        if left.load() >= step && packet.tail(step as i32) {
            left.store(left.load() - step);
        }
        step /= 2;
    }
    let grown = more.wrapping_sub(left.load());
    if grown < least {
        // What was there is still where it was, between the two ends.
        packet.tail(left.load().wrapping_sub(behind) as i32);
        packet.head(behind.wrapping_sub(more));
    }
    grown
}

/// By how much at most a packet grows at once in front, and then by its halves, down to a 16th.
const FRONT_STEP: u32 = 128;

/// The same behind, down to a byte.
const TAIL_STEP: u32 = 512;

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
