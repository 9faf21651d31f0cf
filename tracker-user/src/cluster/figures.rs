//! What is known of the cluster, for the operator.

use super::Plan;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

/// Why a change, or a message with some, went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// There was no room in the ring buffer, or in the daemon's queue.
    Lost,
    /// There was no connection.
    Disconnected,
    /// The message does not begin as one.
    Foreign,
    /// It has a version that is not known.
    Version,
    /// It is not whole, or not right.
    Malformed,
    /// It is about a shard that this node takes no part in.
    Shard,
    /// There were more than the budget allows.
    Budget,
    /// The address is none that a client can have, or is blocked.
    Address,
    /// The store has not taken it, because of a limit or a list.
    Refused,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Lost,
        Self::Disconnected,
        Self::Foreign,
        Self::Version,
        Self::Malformed,
        Self::Shard,
        Self::Budget,
        Self::Address,
        Self::Refused,
    ];

    /// The metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Disconnected => "disconnected",
            Self::Foreign => "foreign",
            Self::Version => "version",
            Self::Malformed => "malformed",
            Self::Shard => "shard",
            Self::Budget => "budget",
            Self::Address => "address",
            Self::Refused => "refused",
        }
    }
}

/// The state of affairs.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct ClusterFigures {
    /// What this node is called.
    pub node: String,
    /// Whether there is a connection to a NATS server.
    pub connected: bool,
    /// How often a connection was lost.
    pub disconnections: u64,
    /// Shards that this node takes part in, of 64.
    pub shards: u32,
    /// Changes sent.
    pub sent: u64,
    /// Messages that they were in.
    pub messages_sent: u64,
    /// Bytes of these messages.
    pub bytes_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Changes received and stored.
    pub stored: u64,
    /// Seconds of a processor that the changes of others have taken, up to what was dropped of them.
    pub taking_seconds: f64,
    /// Those that telling others has taken.
    pub telling_seconds: f64,
    /// Those that giving others what there is has taken.
    pub giving_seconds: f64,
    /// Messages that were not received, although later ones of the same node were.
    pub gaps: u64,
    /// Changes, and messages, that went nowhere, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Peers taken over from snapshots of other nodes.
    pub caught_up: u64,
    /// Whether a snapshot is being taken over now.
    pub catching_up: bool,
    /// Records received from opentrackers.
    pub livesync_received: u64,
    /// Records sent to opentrackers.
    pub livesync_sent: u64,
    /// The other nodes.
    pub nodes: Vec<NodeFigures>,
}

/// Another node.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
pub struct NodeFigures {
    /// Its name.
    pub name: String,
    /// Shards that it takes part in.
    pub shards: u32,
    /// Seconds since it was heard of last.
    pub silent_seconds: u64,
    /// Milliseconds that its last message was under way, if the clocks agree.
    pub lag_milliseconds: u64,
    /// Messages of it that are missing.
    pub gaps: u64,
    /// Peers that it has.
    pub peers: u64,
    /// Announces that it answers in a second.
    pub announces_per_second: u64,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Meters {
    pub(super) connected: AtomicBool,
    pub(super) catching_up: AtomicBool,
    pub(super) disconnections: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) messages_sent: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) messages_received: AtomicU64,
    pub(super) stored: AtomicU64,
    /// Nanoseconds of a processor.
    pub(super) taking: AtomicU64,
    pub(super) telling: AtomicU64,
    pub(super) giving: AtomicU64,
    pub(super) gaps: AtomicU64,
    pub(super) caught_up: AtomicU64,
    pub(super) livesync_received: AtomicU64,
    pub(super) livesync_sent: AtomicU64,
    dropped: [AtomicU64; Dropped::ALL.len()],
    pub(super) node: String,
    pub(super) shards: u64,
    nodes: Mutex<Vec<NodeFigures>>,
}

/// Adds to a counter.
pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Meters {
    /// Those of a node.
    #[must_use]
    pub fn of(plan: &Plan) -> Self {
        Self { node: plan.node.clone(), shards: plan.shards, ..Self::default() }
    }

    /// Counts what went nowhere.
    pub(super) fn refuse(&self, why: Dropped, count: u64) {
        add(&self.dropped[why as usize], count);
    }

    /// Sets what is known of the other nodes.
    pub(super) fn set_nodes(&self, nodes: Vec<NodeFigures>) {
        *self.nodes.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// How often something went nowhere.
    #[must_use]
    pub fn dropped(&self, why: Dropped) -> u64 {
        self.dropped[why as usize].load(Ordering::Relaxed)
    }

    /// The state of affairs.
    #[must_use]
    pub fn figures(&self, lost: u64) -> ClusterFigures {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let seconds = |counter: &AtomicU64| load(counter) as f64 / 1e9;
        let dropped = Dropped::ALL.into_iter().map(|why| {
            let count = self.dropped(why) + if why == Dropped::Lost { lost } else { 0 };
            (why.label().to_owned(), count)
        });
        ClusterFigures {
            node: self.node.clone(),
            connected: self.connected.load(Ordering::Relaxed),
            disconnections: load(&self.disconnections),
            shards: self.shards.count_ones(),
            sent: load(&self.sent),
            messages_sent: load(&self.messages_sent),
            bytes_sent: load(&self.bytes_sent),
            messages_received: load(&self.messages_received),
            stored: load(&self.stored),
            taking_seconds: seconds(&self.taking),
            telling_seconds: seconds(&self.telling),
            giving_seconds: seconds(&self.giving),
            gaps: load(&self.gaps),
            dropped: dropped.collect(),
            caught_up: load(&self.caught_up),
            catching_up: self.catching_up.load(Ordering::Relaxed),
            livesync_received: load(&self.livesync_received),
            livesync_sent: load(&self.livesync_sent),
            nodes: self.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
