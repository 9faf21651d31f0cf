//! The compiled XDP program in the kernel.
//!
//! | module | holds |
//! |---|---|
//! | [`system`] | whether this system and this process can use XDP at all |
//! | [`memory_limit`] | whether the control group has room for the maps |
//! | [`program`] | loading, attaching, detaching |
//! | [`refusal`] | what the kernel's refusals mean |
//! | [`bpf_link`] | taking other XDP programs off an interface (`--force`) |
//! | [`destinations`] | which addresses and interfaces the program answers for |

pub mod bpf_link;
pub mod destinations;
pub mod memory_limit;
pub mod program;
mod refusal;
pub mod system;

pub use program::{Attached, Attachment, KernelCounters, Program, find_interfaces};
pub use system::{OLDEST_KERNEL, check_system};
