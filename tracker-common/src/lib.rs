//! What decides anything about the protocol or the store: wire formats, connection ids, and the swarm store's layout and
//! algorithms. Knows neither BPF nor sockets; compiled into the XDP program, into the daemon and into tests.
//!
//! # Layout
//!
//! | module | holds |
//! |---|---|
//! | [`wire`] | headers and BEP 15 packets as byte arrays |
//! | [`checksum`] | Internet checksums |
//! | [`siphash`], [`connection_id`] | stateless connection ids |
//! | [`outcome`] | every event and every reason, with label, sentence and counter |
//! | [`settings`] | the record by which the daemon steers the XDP program |
//! | [`word`] | the door to shared memory |
//! | [`memory`] | what the two worlds have to provide: map elements, a random number, loops, counters |
//! | [`store`] | the swarm store |
//! | [`announce`], [`scrape`], [`connect`] | the three requests: from parsed request to reply bytes |
//! | [`datagram`] | which request a payload is; answers for sockets |
//! | [`programs`] | which XDP program goes on in which |
//! | [`reply`] | the scratch space in which replies are built |
//! | [`trace`] | what the XDP program tells of a single packet, when somebody asks |

#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics, asm_experimental_arch))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "BPF has no compare-and-swap in core::sync::atomic")
)]

pub mod announce;
pub mod checksum;
pub mod connect;
pub mod connection_id;
pub mod datagram;
pub mod memory;
pub mod outcome;
pub mod programs;
pub mod reply;
pub mod scrape;
pub mod settings;
pub mod siphash;
pub mod store;
pub mod trace;
pub mod wire;
pub mod word;
