//! Numbers in the form that LLVM must not improve on, because of the kernel's verifier: arithmetic
//! without branches, and bounds that stay where they are written.

/// The number itself, without what the compiler knows about it (libbpf's `barrier_var`): where a
/// bound that the verifier has to see would otherwise be checked on another form of the number than
/// the one that is used.
#[inline(always)]
#[must_use]
pub fn barrier_var(number: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // SAFETY: one instruction on one register. An empty line would break the line information.
        unsafe {
            core::arch::asm!("{0} += 0", inout(reg) number, options(pure, nomem, nostack));
        }
        number
    }
    #[cfg(not(target_arch = "bpf"))]
    number
}

/// 1 if the number is not 0, else 0; without a branch, which would double the verifier's paths with
/// every slot of a chunk.
#[inline(always)]
#[must_use]
pub fn is_nonzero(number: u64) -> u64 {
    (number | negative(number)) >> 63
}

/// 1 if the two are equal, else 0; likewise.
#[inline(always)]
#[must_use]
pub fn is_equal(one: u64, other: u64) -> u64 {
    is_nonzero(one ^ other) ^ 1
}

/// Has the processor bring all cache lines of `place` nearer, without waiting for it. BPF has no
/// instruction for that: there a byte of each line is loaded, and the processor goes on as far as it
/// looks ahead. Elsewhere nothing is done.
#[inline(always)]
pub fn prefetch<T>(place: &T) {
    #[cfg(any(target_arch = "bpf", target_arch = "x86_64"))]
    for line in (0..size_of::<T>()).step_by(64) {
        let byte = (&raw const *place).cast::<i8>().wrapping_add(line);
        #[cfg(target_arch = "bpf")]
        // SAFETY: inside `place`, which is a valid reference.
        unsafe {
            byte.read_volatile();
        }
        #[cfg(target_arch = "x86_64")]
        // SAFETY: the instruction has no effect that a program could notice, whatever the address.
        unsafe {
            core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(byte);
        }
    }
    #[cfg(not(any(target_arch = "bpf", target_arch = "x86_64")))]
    let _ = place;
}

#[cfg(not(target_arch = "bpf"))]
#[inline(always)]
fn negative(number: u64) -> u64 {
    number.wrapping_neg()
}

/// In assembly, because LLVM knows what `x | -x` is for and would make it a comparison: BPF has no
/// conditional move.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn negative(number: u64) -> u64 {
    let mut number = number;
    // SAFETY: one instruction on one register.
    unsafe {
        core::arch::asm!("{0} = -{0}", inout(reg) number, options(pure, nomem, nostack));
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_without_branches_are_right_at_the_borders() {
        for (one, other) in
            [(0, 0), (0, 1), (1, 0), (u64::MAX, u64::MAX), (u64::MAX, 0), (1 << 63, 0), (1 << 63, 1 << 63)]
        {
            assert_eq!(is_equal(one, other), u64::from(one == other), "{one:#x} {other:#x}");
            assert_eq!(is_nonzero(one), u64::from(one != 0), "{one:#x}");
        }
    }

    #[test]
    fn numbers_stay_the_same_behind_the_barrier_and_come_back_when_negated_twice() {
        for number in [0, 1, 1 << 31, 1 << 63, u64::MAX - 1, u64::MAX] {
            assert_eq!(barrier_var(number), number);
            assert_eq!(negative(negative(number)), number);
            assert_eq!(negative(number).wrapping_add(number), 0);
        }
    }
}
