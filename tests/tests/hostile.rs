//! A hostile network and a hostile host: while somebody does his worst, honest clients are served,
//! and afterwards the daemon is what it was: the same threads, no descriptor more, idle, its memory
//! within what is documented, its log short.
//!
//! What is asserted are counts: of the requests that honest clients sent before, during and after
//! an attack, 99 of 100 are answered. Floods have a rate that a small machine stands.
//!
//! Short by default. `cargo xtask hostile` runs the same for longer and with more of everything,
//! and prints what it has counted.
//!
//! | attack | where |
//! |---|---|
//! | floods of connects and of announces with invented ids, from invented addresses | `packets.rs` |
//! | beginnings of TCP connections from invented addresses | `packets.rs` |
//! | invented torrents and ports from addresses that hold valid ids | `packets.rs` |
//! | truncated, padded and giant frames, IP options, fragments, checksums, VLAN stacks, `EtherType`s | `packets.rs` in floods; one by one in the rows of `tests/src/decision_table/frames.rs` |
//! | requests in fragments, jumbo frames, changes of the MTU, links that go down and up | `links.rs` |
//! | interfaces deleted and made again, programs of others, links that somebody cuts | `tests/tests/interfaces.rs` |
//! | hundreds of interfaces that come and go, thousands of addresses | `links.rs` |
//! | slow requests, readers that do not read, pipelining, half-closed connections, resets | `connections.rs`; what each may cost in `tests/tests/http.rs` |
//! | few descriptors, little memory, SIGSTOP, a wall clock that jumps | `host.rs` |
//! | standard streams that are closed or full, signals, full and read-only disks | `tests/tests/process.rs` |

#[path = "hostile/connections.rs"]
mod connections;
#[path = "hostile/honest.rs"]
mod honest;
#[path = "hostile/host.rs"]
mod host;
#[path = "hostile/links.rs"]
mod links;
#[path = "hostile/packets.rs"]
mod packets;
#[path = "hostile/site.rs"]
mod site;
#[path = "hostile/socket.rs"]
mod socket;
#[path = "hostile/vitals.rs"]
mod vitals;
