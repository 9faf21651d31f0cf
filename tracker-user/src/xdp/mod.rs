//! The compiled XDP program in the kernel.
//!
//! | module | holds |
//! |---|---|
//! | [`system`] | whether this system and this process can use XDP at all |
//! | [`memory_limit`] | whether the control group has room for the maps |
//! | `load` | the program and the store in its maps, or why there is none |
//! | [`program`] | making the maps, loading the program |
//! | [`watch`] | the thread that follows interfaces and addresses |
//! | `interfaces` | the interfaces that were named, and the program on each of them |
//! | `attach`, `other_end`, `refusal` | attaching to one interface: choosing the mode, and what refusals mean |
//! | `mode` | where the program may run |
//! | [`status`] | how it runs on the interfaces, for people |
//! | [`card`] | network cards that run a program of their own |
//! | `back_off` | when to try again |
//! | [`pins`] | what holds the program, its maps and its links when no process does |
//! | `take_over` | a store and programs that are pinned already |
//! | `rebuild`, `older` | the same into maps of other sizes, or from an older layout |
//! | [`bpf_link`] | what holds a program on an interface; taking others off (`--force`) |
//! | `system_call` | `bpf(2)` |
//! | [`destinations`] | which addresses and interfaces the program answers for |
//! | [`offload`] | what the network card does before the program sees a packet |
//! | [`ethtool`] | single settings of a network card, read and set |
//! | [`tune`] | which of them are changed for the tracker, and undone (`--tune`) |
//! | [`object`] | the compiled program |
//! | [`netlink`] | what the kernel says of interfaces, addresses and attached XDP programs |
//! | [`generic`] | netlink where the libraries do not know what is asked |
//! | `notifications` | waiting for the kernel to say that something has changed |

mod attach;
mod back_off;
pub mod bpf_link;
pub mod card;
pub mod destinations;
pub mod ethtool;
pub mod generic;
mod interfaces;
mod load;
pub mod memory_limit;
mod mode;
pub mod netlink;
mod notifications;
pub mod object;
pub mod offload;
mod older;
pub(crate) mod other_end;
pub mod pins;
pub mod program;
mod rebuild;
mod refusal;
pub mod status;
pub mod system;
mod system_call;
mod take_over;
pub mod tune;
pub mod watch;

pub use load::{Kernel, Wish, load};
pub use mode::XdpMode;
pub use program::{KernelCounters, Loaded, Program};
pub use system::check_system;
pub(crate) use system::os_error;
pub use take_over::counters_in;
pub use watch::Watch;
