//! What decides anything about the protocol or the store: wire formats, connection ids, and the
//! swarm store's layout and algorithms. Knows neither BPF nor sockets; compiled into the XDP
//! program, into the daemon and into tests.
//!
//! # Layout
//!
//! From the ground up; a module uses those above it in this table and none below.
//!
//! | module | holds |
//! |---|---|
//! | [`word`] | the door to shared memory |
//! | [`codegen`] | numbers as LLVM and the verifier need them |
//! | [`mod@labelled`] | tables of variants with a label and a sentence |
//! | [`outcome`] | every event and every reason, with label, sentence and counter |
//! | [`id`] | what torrents and records are called |
//! | [`programs`] | which XDP programs there are |
//! | [`settings`] | the record by which the daemon steers the XDP program |
//! | [`scratch`] | the working space of a request |
//! | [`net`] | headers and checksums below BEP 15 |
//! | [`store::layout`], [`store::lock`] | the store's records |
//! | [`platform`] | what the kernel and the daemon each have to provide |
//! | [`admission`] | which torrents may be stored |
//! | [`limits`] | how often one source may ask |
//! | [`change`] | what other trackers are told of a peer |
//! | [`store`] | the swarm store's algorithms |
//! | [`bep15`] | connect, announce, scrape: from request to reply |
//! | [`card`] | what a network card is told that runs a program of its own |
//! | [`trace`] | what the XDP program tells of a single packet during a trace |
//! | `host` | the store in ordinary memory, for tests; not on the eBPF machine |

#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(core_intrinsics, asm_experimental_arch))]
#![cfg_attr(
    target_arch = "bpf",
    expect(internal_features, reason = "BPF has no compare-and-swap in core::sync::atomic")
)]

pub mod admission;
pub mod bep15;
pub mod card;
pub mod change;
pub mod codegen;
#[cfg(not(target_arch = "bpf"))]
pub mod host;
pub mod id;
#[macro_use]
pub mod labelled;
pub mod limits;
pub mod net;
pub mod outcome;
pub mod platform;
pub mod programs;
pub mod scratch;
pub mod settings;
pub mod store;
pub mod trace;
pub mod word;
