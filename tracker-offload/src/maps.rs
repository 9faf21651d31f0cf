//! The maps: arrays and hash tables, which is all that cards have. Keys are looked up where they
//! stand on the stack, and values are read at offsets that are known beforehand. The daemon gives
//! them smaller sizes where a card has no room for these.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap},
};
use tracker_common::card::{Counters, Destination, Mac, Window};

/// What the tracker answers for.
#[map]
pub(crate) static DESTINATIONS: HashMap<Destination, Mac> = HashMap::with_max_entries(64, 0);

/// IPv4 addresses whose packets are dropped.
#[map]
pub(crate) static BLOCKED: HashMap<u32, u32> = HashMap::with_max_entries(16384, 0);

/// What connection ids are made of.
#[map]
pub(crate) static WINDOW: Array<Window> = Array::with_max_entries(1, 0);

/// One record, so that one look-up finds them all.
#[map]
pub(crate) static COUNTERS: Array<Counters> = Array::with_max_entries(1, 0);

/// Counts one more.
///
/// Cards have no atomic instruction but an addition without a result, at an offset that is known
/// beforehand. It is written in assembly, with the counter's place in it: the compiler would make one
/// addition of two, at one place or the other.
macro_rules! count {
    ($counter:ident) => {
        if let Some(counters) = $crate::maps::COUNTERS.get_ptr_mut(0) {
            // SAFETY: the place is inside the record that the pointer is to.
            unsafe {
                core::arch::asm!(
                    "lock *(u32 *)({counters} + {offset}) += {one}",
                    counters = in(reg) counters,
                    offset = const tracker_common::card::Counter::$counter as usize * 4,
                    one = in(wreg) 1_u32,
                    options(nostack),
                );
            }
        }
    };
}
pub(crate) use count;
