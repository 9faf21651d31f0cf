//! The clock goes on by itself. While a daemon runs it sets the clock four times a second, and what
//! is found here is that nothing is to be done. When none does, the first packet after a pause of
//! any length finds that time has passed, and moves the clock on before it is looked at.
//!
//! `bpf_jiffies64` is no call: the verifier puts a load of the kernel's own word in its place. So
//! each request can look, and only a few each second, whatever the rate, ask for the time.

use crate::kernel::Kernel;
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use tracker_common::{outcome::StoreError, platform::Platform as _, settings::Settings};

/// Jiffies between two looks at the time: 64 ms to 640 ms, as kernels have 1000 to 100 jiffies a
/// second.
const INTERVAL: u32 = 64;

/// Moves the clock on if it is time to.
///
/// # Errors
/// [`StoreError::Contended`] while the daemon wants the store for itself: each request comes to look
/// at the time then, and costs others nothing.
#[inline(always)]
pub(crate) fn keep(settings: &Settings) -> Result<(), StoreError> {
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_jiffies64() } as u32;
    if now.wrapping_sub(settings.looked_at.load()) >= INTERVAL && clock_advance(now) != 0 {
        return Err(StoreError::Contended);
    }
    Ok(())
}

/// Moves the clock on, at this jiffy. Not 0 if the request is to be left to the sockets.
// SAFETY: the name is unique to this program; nobody but this program calls it.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn clock_advance(now: u32) -> u64 {
    let kernel = Kernel::without_counters();
    let Some(settings) = kernel.settings() else { return 0 };
    // SAFETY: the helper has no preconditions. Coarse: as of the last jiffy, by a load instead of a
    // look at the processor's clock.
    let monotonic = unsafe { bpf_ktime_get_coarse_ns() };
    if let Some(second) = settings.clock_at(monotonic) {
        settings.advance_clock(second);
    }
    if settings.is_paused(monotonic) {
        return 1;
    }
    settings.looked_at.store(now);
    0
}
