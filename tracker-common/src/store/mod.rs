//! The swarm store: one memory, used without system calls by XDP programs on all cores and by the
//! daemon's threads.
//!
//! * The **index** is a hash table of pages ([`layout::Bucket`]): 31 swarm records, and a tag for
//!   each.
//! * A **swarm record** ([`layout::Swarm`], 128 bytes) holds the info_hash, the counts and the
//!   first five IPv4 and two IPv6 peers.
//! * A family that has more is a **[list]** without gaps, in up to 8 chunks that the record names.
//! * A family that outgrows that lives in **partitions** ([`layout::Partition`]), each a list in 1
//!   to [`layout::PARTITION_CHUNKS`] chunks. Swarms get more partitions by linear hashing, one at a
//!   time, so that the work per announce is bounded whatever the size of the swarm.
//! * An **IPv4 peer** is one 64-bit word, an **IPv6 peer** three ([`family`]).
//!
//! Writers hold the [`lock`] of the record or partition they change; readers hold nothing.
//! `docs/architecture.md` has the rules and why they hold.

pub mod admit;
pub mod ahead;
pub mod allocator;
pub mod asking;
mod bucket;
pub mod cold;
pub mod crowd;
pub mod directory;
pub mod evict_chunk;
pub mod evict_torrent;
pub mod family;
pub mod filter;
pub mod hash;
pub mod index;
pub mod journal;
pub mod layout;
pub mod linear_hash;
pub mod list;
pub mod lock;
pub mod membership;
pub mod owner;
pub mod partition;
pub mod record;
pub mod refresh;
#[cfg(not(target_arch = "bpf"))]
pub mod repair;
pub mod resize;
pub mod room;
pub mod sample;
pub mod scope;
pub mod slot;
pub mod sweep;
pub mod tell;
#[cfg(test)]
mod tests;
pub mod upsert;
mod v4;
mod v6;
