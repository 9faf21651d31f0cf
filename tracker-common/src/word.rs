//! Words of shared memory: the one door to loads, stores and atomic operations.
//!
//! The store is read and written at the same time by XDP programs on every core and by the daemon's
//! threads, through the same physical memory. Every access therefore goes through [`Word`] or
//! [`Word32`], which never tear and never let the compiler invent or drop an access.
//!
//! The BPF target has no compare-and-swap in `core::sync::atomic`, so there the intrinsics are
//! used. A *relaxed* fetch-and-add whose result is used compiles to an instruction without fetch on
//! that target; all operations here that return something are therefore `AcqRel`.

#[cfg(not(target_arch = "bpf"))]
use crate::codegen;
use core::cell::UnsafeCell;
#[cfg(not(any(target_arch = "bpf", interleaved)))]
use core::sync::atomic;
// The same names, for a model checker (interleavings/).
#[cfg(interleaved)]
use seam as atomic;

macro_rules! word {
    ($(#[$doc:meta])* $name:ident, $int:ty, $atomic:ident) => {
        $(#[$doc])*
        #[repr(transparent)]
        #[derive(Default)]
        pub struct $name(UnsafeCell<$int>);

        // SAFETY: every access below is an atomic or a volatile access of one naturally aligned
        // machine word.
        unsafe impl Sync for $name {}
        // SAFETY: as above; the word owns nothing that is bound to a thread.
        unsafe impl Send for $name {}

        impl $name {
            /// A word holding `value`.
            #[must_use]
            pub const fn new(value: $int) -> Self {
                Self(UnsafeCell::new(value))
            }

            /// Reads the word; never torn.
            #[inline(always)]
            #[must_use]
            pub fn load(&self) -> $int {
                #[cfg(target_arch = "bpf")]
                // SAFETY: `self` is a valid reference, hence aligned and readable.
                return unsafe { core::ptr::read_volatile(self.0.get()) };
                #[cfg(not(target_arch = "bpf"))]
                return self.atomic().load(atomic::Ordering::Acquire);
            }

            /// Writes the word; earlier writes are visible to a reader of the new value.
            #[inline(always)]
            pub fn store(&self, value: $int) {
                #[cfg(test)]
                death::perhaps();
                #[cfg(target_arch = "bpf")]
                // SAFETY: `self` is a valid reference to memory that is written by this type alone.
                unsafe {
                    core::ptr::write_volatile(self.0.get(), value)
                };
                #[cfg(not(target_arch = "bpf"))]
                self.atomic().store(value, atomic::Ordering::Release);
            }

            /// Adds `value` (wrapping) without asking for the result: the cheap form.
            #[inline(always)]
            pub fn add(&self, value: $int) {
                #[cfg(test)]
                death::perhaps();
                #[cfg(target_arch = "bpf")]
                // SAFETY: as in `store`; the result is unused, as the instruction without fetch
                // needs.
                unsafe {
                    core::intrinsics::atomic_xadd::<$int, $int, { core::intrinsics::AtomicOrdering::Relaxed }>(
                        self.0.get(),
                        value,
                    );
                }
                #[cfg(not(target_arch = "bpf"))]
                self.atomic().fetch_add(value, atomic::Ordering::AcqRel);
            }

            /// Adds `value` (wrapping) and returns what was there before.
            #[inline(always)]
            pub fn fetch_add(&self, value: $int) -> $int {
                #[cfg(test)]
                death::perhaps();
                #[cfg(target_arch = "bpf")]
                // SAFETY: as in `store`.
                return unsafe {
                    core::intrinsics::atomic_xadd::<$int, $int, { core::intrinsics::AtomicOrdering::AcqRel }>(
                        self.0.get(),
                        value,
                    )
                };
                #[cfg(not(target_arch = "bpf"))]
                return self.atomic().fetch_add(value, atomic::Ordering::AcqRel);
            }

            /// Puts `new` in place of `old`; false, and nothing is changed, if something else was
            /// there.
            #[inline(always)]
            pub fn replace(&self, old: $int, new: $int) -> bool {
                #[cfg(test)]
                death::perhaps();
                #[cfg(target_arch = "bpf")]
                // SAFETY: as in `store`.
                return unsafe {
                    core::intrinsics::atomic_cxchg::<
                        $int,
                        { core::intrinsics::AtomicOrdering::AcqRel },
                        { core::intrinsics::AtomicOrdering::Acquire },
                    >(self.0.get(), old, new)
                    .1
                };
                #[cfg(not(target_arch = "bpf"))]
                return self
                    .atomic()
                    .compare_exchange(
                        old,
                        new,
                        atomic::Ordering::AcqRel,
                        atomic::Ordering::Acquire,
                    )
                    .is_ok();
            }

            /// Has the processor bring the word's cache line nearer without waiting for it. This byte of the
            /// word, of which the lowest is number 0, is 0 at all times.
            ///
            /// BPF has no instruction that does so. A load holds up what comes some hundred
            /// instructions later until the line is there; a store does not, it waits in a queue of
            /// its own. So the 0 is written once more, which changes nothing, whatever others do to the word at the
            /// same time. But the line then is this core's alone: this is for lines that no other core is
            /// likely to have ([`crate::scratch::asking`]).
            #[inline(always)]
            pub fn ask_for(&self, byte: usize) {
                debug_assert!(self.load() >> (byte * 8) & 0xff == 0);
                #[cfg(target_arch = "bpf")]
                // SAFETY: a byte of the word; the caller says that nobody ever writes another value there.
                unsafe {
                    core::ptr::write_volatile(self.0.get().cast::<u8>().add(byte % size_of::<$int>()), 0)
                };
                #[cfg(not(target_arch = "bpf"))]
                codegen::prefetch(self);
            }

            #[cfg(not(target_arch = "bpf"))]
            #[inline(always)]
            fn atomic(&self) -> &atomic::$atomic {
                // SAFETY: same size and alignment, and all accesses are atomic.
                unsafe { atomic::$atomic::from_ptr(self.0.get()) }
            }
        }
    };
}

word!(
    /// A 64-bit word of shared memory.
    Word,
    u64,
    AtomicU64
);
word!(
    /// A 32-bit word of shared memory.
    Word32,
    u32,
    AtomicU32
);

impl Word {
    /// Bits 16 to 47 alone, which a comparison takes fewer instructions for than for all of them.
    #[inline(always)]
    #[must_use]
    pub fn load_middle(&self) -> u32 {
        #[cfg(target_arch = "bpf")]
        // SAFETY: bytes 2 to 5 of the word; a load within an aligned word is never torn on x86-64,
        // and `Middle` has alignment 1.
        return unsafe { core::ptr::read_volatile(self.0.get().cast::<u8>().add(2).cast::<Middle>()).0 };
        #[cfg(not(target_arch = "bpf"))]
        return (self.load() >> 16) as u32;
    }
}

/// Half a word, at any address.
#[cfg(target_arch = "bpf")]
#[repr(C, packed)]
struct Middle(u32);

/// Keeps loads after a successful [`Word::replace`] from being done before its write: what two
/// sides need that each write a word and then look at the other's. On x86-64 the instruction itself
/// is such a barrier, also in BPF.
#[inline(always)]
pub fn replaced() {
    #[cfg(any(interleaved, not(any(target_arch = "bpf", target_arch = "x86_64"))))]
    atomic::fence(atomic::Ordering::SeqCst);
}

/// Keeps the loads before it from moving behind the loads after it: what a reader needs between
/// reading data and asking whether the data had changed meanwhile.
///
/// In BPF all loads are volatile and stay in order as far as the compiler goes; x86-64 does not
/// reorder loads either. That is why the XDP program is supported on x86-64 only so far.
#[inline(always)]
pub fn loads_done() {
    #[cfg(not(target_arch = "bpf"))]
    atomic::fence(atomic::Ordering::Acquire);
}

/// Threads of tests that die: as a killed process does, between two writes and without a word.
#[cfg(test)]
pub(crate) mod death {
    extern crate std;

    use core::cell::Cell;
    use std::{
        boxed::Box,
        panic::{self, AssertUnwindSafe},
        thread_local,
    };

    thread_local! {
        static WRITES_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
    }

    /// What a thread dies of.
    struct Death;

    /// Before each write.
    pub(super) fn perhaps() {
        WRITES_LEFT.with(|left| {
            if left.get() == 0 {
                left.set(u64::MAX);
                // No message, and nothing is tidied up: nothing in this crate does so when dropped.
                panic::resume_unwind(Box::new(Death));
            }
            if left.get() != u64::MAX {
                left.set(left.get() - 1);
            }
        });
    }

    /// Does something up to the write before the one with this number; `None` if it died.
    pub(crate) fn after<T>(writes: u64, what: impl FnOnce() -> T) -> Option<T> {
        WRITES_LEFT.with(|left| left.set(writes));
        let result = panic::catch_unwind(AssertUnwindSafe(what));
        WRITES_LEFT.with(|left| left.set(u64::MAX));
        match result {
            Ok(value) => Some(value),
            Err(cause) if cause.is::<Death>() => None,
            Err(cause) => panic::resume_unwind(cause),
        }
    }
}
