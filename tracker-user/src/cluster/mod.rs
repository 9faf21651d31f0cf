//! Several trackers with one set of swarms: what is announced to one of them, all of them give.
//!
//! Changes of peers go by NATS, a message bus, which does what a wide area takes: servers that find
//! each other, encryption, accounts. Nothing is promised to arrive. A peer is told of again and again
//! for as long as it announces, so whatever was lost is right again after a while; what a node has
//! missed as a whole it takes over from another one.
//!
//! Without a configuration of it, none of this runs, and the XDP program tells nobody of anything.
//!
//! | module | does |
//! |---|---|
//! | [`message`] | the bytes of messages with changes |
//! | [`outgoing`] | changes into messages, by shard |
//! | `ring` | what the XDP program tells |
//! | [`elsewhere`] | what other nodes tell into the store |
//! | `known` | what the store knows of one peer |
//! | [`intake`] | what of it is not taken |
//! | [`budget`] | how much of it, and of a processor's time |
//! | [`nodes`] | the other nodes, and what of theirs is missing |
//! | [`piece`] | a live store in pieces, for nodes that are new or were away |
//! | [`link`], [`credentials`] | the connection to NATS, and who this node is there |
//! | [`run`] | all of that, in one thread |
//! | `catch_up` | what was missed: asked for, and given |
//! | [`livesync`], `multicast` | opentracker's packets, and their group |
//! | [`figures`] | what is counted |

pub mod budget;
mod catch_up;
pub mod credentials;
pub mod elsewhere;
pub mod figures;
pub mod intake;
mod known;
pub mod link;
pub mod livesync;
pub mod message;
mod multicast;
pub mod nodes;
pub mod outgoing;
pub mod piece;
mod ring;
pub mod run;

pub use figures::{ClusterFigures, Dropped, Meters, NodeFigures};
pub use ring::Ring;
pub use run::Cluster;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddrV4},
    path::PathBuf,
};

/// What a node takes part in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// NATS servers, as URLs; nothing for livesync alone.
    pub servers: Vec<String>,
    /// What this node is called.
    pub node: String,
    /// Shards that it takes part in, a bit each.
    pub shards: u64,
    /// A file with user and password, a token, a key, or a JWT and a key.
    pub credentials: Option<PathBuf>,
    /// Certificates of who signs the servers'.
    pub authority: Option<PathBuf>,
    /// This node's certificate and key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Minutes after which others are told again that a peer is there.
    pub tell_every: u32,
    /// Changes that are taken in a second at most.
    pub budget: u32,
    /// Percent of a processor's time that they take at most.
    pub share: u32,
    /// opentracker's livesync.
    pub livesync: Option<LivesyncPlan>,
}

/// opentracker's livesync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivesyncPlan {
    /// The multicast group.
    pub group: SocketAddrV4,
    /// The address of the interface that it is on.
    pub interface: Ipv4Addr,
    /// Whose packets are taken.
    pub from: Vec<IpAddr>,
}

impl Plan {
    /// Ports of the servers.
    #[must_use]
    pub fn ports(&self) -> Vec<u16> {
        self.servers.iter().filter_map(|server| link::host_and_port(server)).map(|(_, port)| port).collect()
    }

    /// Files that are read when a connection is made.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let pair = self.certificate.iter().flat_map(|(certificate, key)| [certificate.clone(), key.clone()]);
        self.credentials.iter().chain(&self.authority).cloned().chain(pair).collect()
    }
}
