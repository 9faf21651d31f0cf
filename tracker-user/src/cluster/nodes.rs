//! The other nodes: what they say of themselves, and what of their messages is missing.
//!
//! Each node says every few seconds that it is there: its number and name, its shards, how busy it is
//! and how many peers it has.

use super::{
    figures::NodeFigures,
    message::{Header, SHARDS},
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

const MAGIC: [u8; 4] = *b"TH\x01\0";

/// Bytes of a name at most.
pub const NAME_BYTES: usize = 64;

/// Nodes that are remembered at most: foreign messages must not fill memory.
const NODES: usize = 256;

/// A node that was silent for longer is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(2 * 3600);

/// A node that was silent for longer may have been told of what this one was not, and the reverse.
pub const SILENCE: Duration = Duration::from_secs(15);

/// The load of a node that has not taken over yet what others have. Whoever asks the least busy one asks
/// it last, and so do older trackers, which know nothing of that.
pub const CATCHING_UP: u32 = u32::MAX;

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Its number.
    pub node: u64,
    /// Its shards, a bit each.
    pub shards: u64,
    /// Peers that it has.
    pub peers: u64,
    /// Announces that it answers in a second, or [`CATCHING_UP`].
    pub load: u32,
    /// Its name.
    pub name: String,
}

impl Hello {
    /// Whether it lacks some of what others have.
    #[must_use]
    pub fn is_catching_up(&self) -> bool {
        self.load == CATCHING_UP
    }

    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let words = [self.node, self.shards, self.peers].map(u64::to_le_bytes).concat();
        [&MAGIC[..], &words, &self.load.to_le_bytes(), self.name.as_bytes()].concat()
    }

    /// From these bytes; `None` if they are none.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, name) = bytes.split_at_checked(32)?;
        let word = |at: usize| Some(u64::from_le_bytes(*head.get(at..)?.first_chunk()?));
        let printable = !name.is_empty() && name.len() <= NAME_BYTES && name.iter().all(u8::is_ascii_graphic);
        (head[..4] == MAGIC && printable).then_some(Self {
            node: word(4)?,
            shards: word(12)?,
            peers: word(20)?,
            load: u32::from_le_bytes(*head.get(28..)?.first_chunk()?),
            name: String::from_utf8_lossy(name).into_owned(),
        })
    }
}

/// A node that is known.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it said last.
    pub hello: Hello,
    /// When it was heard of last.
    pub heard: Instant,
    /// Whether what it has was taken over, as far as that was needed.
    pub is_known: bool,
    /// How long it had been silent when it came back.
    pub was_silent: Option<Duration>,
    next: [Option<u32>; SHARDS],
    gaps: u64,
    lag: u64,
}

/// All that are known.
#[derive(Debug, Default)]
pub struct Nodes(HashMap<u64, Node>);

impl Nodes {
    /// A node has said that it is there. True if it is a new one.
    pub fn hello(&mut self, hello: Hello, now: Instant) -> bool {
        self.0.retain(|_, node| now.duration_since(node.heard) < FORGOTTEN);
        let room = self.0.len() < NODES;
        match self.0.get_mut(&hello.node) {
            Some(node) => {
                let silent = now.duration_since(node.heard);
                if silent > SILENCE {
                    node.was_silent = Some(node.was_silent.unwrap_or_default().max(silent));
                }
                (node.hello, node.heard) = (hello, now);
                false
            }
            None if room => {
                let node = Node {
                    hello: hello.clone(),
                    heard: now,
                    is_known: false,
                    was_silent: None,
                    next: [None; SHARDS],
                    gaps: 0,
                    lag: 0,
                };
                self.0.insert(hello.node, node);
                true
            }
            None => false,
        }
    }

    /// A message of a node has come. Returns how many before it are missing.
    pub fn message(&mut self, header: &Header, milliseconds: u64) -> u64 {
        let Some(node) = self.0.get_mut(&header.node) else { return 0 };
        if header.time != 0 {
            node.lag = milliseconds.saturating_sub(header.time);
        }
        let Some(next) = node.next.get_mut(usize::from(header.shard)) else { return 0 };
        let missing = next.map_or(0, |next| header.sequence.wrapping_sub(next));
        *next = Some(header.sequence.wrapping_add(1));
        // What is behind is a message that was late, or a node that began anew.
        let missing = if missing < 1 << 31 { u64::from(missing) } else { 0 };
        if missing > 0 {
            node.gaps += missing;
            node.was_silent = Some(node.was_silent.unwrap_or_default().max(SILENCE));
        }
        missing
    }

    /// Nodes, whichever.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Node> {
        self.0.values_mut()
    }

    /// What a new node wanted of these shards was taken over from a node. `all` if it has everything by that:
    /// else what the others have is still wanted, and of this one what others had of its shards.
    pub fn taken_over(&mut self, from: u64, shards: u64, mine: u64, all: bool) {
        for node in self.0.values_mut() {
            let whole = node.hello.node == from && node.hello.shards & mine == shards;
            node.is_known |= all || whole;
        }
    }

    /// The least busy one that has some of these shards, and peers, and was heard of lately.
    #[must_use]
    pub fn least_busy(&self, shards: u64, now: Instant) -> Option<&Hello> {
        let able = |node: &&Node| {
            let is_there = now.duration_since(node.heard) <= SILENCE;
            is_there && node.hello.shards & shards != 0 && node.hello.peers > 0
        };
        self.0.values().filter(able).map(|node| &node.hello).min_by_key(|hello| (hello.load, hello.node))
    }

    /// For the operator.
    #[must_use]
    pub fn figures(&self, now: Instant) -> Vec<NodeFigures> {
        let mut nodes: Vec<_> = self.0.values().collect();
        // One that was started anew has another number and the same name.
        nodes.sort_by(|one, other| (&one.hello.name, other.heard).cmp(&(&other.hello.name, one.heard)));
        nodes.dedup_by(|later, first| later.hello.name == first.hello.name);
        let figures = |node: &Node| NodeFigures {
            name: node.hello.name.clone(),
            shards: node.hello.shards.count_ones(),
            silent_seconds: now.duration_since(node.heard).as_secs(),
            lag_milliseconds: node.lag,
            gaps: node.gaps,
            peers: node.hello.peers,
            announces_per_second: if node.hello.is_catching_up() { 0 } else { node.hello.load.into() },
        };
        nodes.into_iter().map(figures).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: u64, load: u32, shards: u64) -> Hello {
        Hello { node, shards, peers: 9, load, name: format!("node{node}") }
    }

    #[test]
    fn hellos_are_read_and_what_is_none_is_not() {
        let one = hello(7, 3, 5);
        let bytes = one.encode();
        assert_eq!(Hello::decode(&bytes), Some(one));
        let with = |at: usize, value: u8| {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            wrong
        };
        for (name, wrong) in [
            ("nothing", vec![]),
            ("no name", bytes[..32].to_vec()),
            ("cut off", bytes[..31].to_vec()),
            ("foreign", with(0, b'X')),
            ("a later version", with(2, 2)),
            ("a name that is no text", with(32, 7)),
            ("a long name", [&bytes[..], &[b'x'; NAME_BYTES]].concat()),
        ] {
            assert_eq!(Hello::decode(&wrong), None, "{name}");
        }
    }

    #[test]
    fn missing_messages_are_counted_by_node_and_shard() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        assert!(nodes.hello(hello(1, 0, 1), now) && !nodes.hello(hello(1, 0, 1), now));
        // (node, shard, number, missing)
        for (node, shard, sequence, missing) in [
            (1, 0, 41, 0),
            (1, 0, 42, 0),
            (1, 0, 45, 2),
            (1, 1, 9, 0),
            (1, 0, 44, 0),
            (1, 0, 45, 0),
            (1, 0, 0, 0),
            (1, 0, 1, 0),
            (2, 0, 7, 0),
            (2, 0, 99, 0),
        ] {
            let header = Header { node, sequence, shard, time: 1000 };
            assert_eq!(nodes.message(&header, 1007), missing, "{node} {shard} {sequence}");
        }
        let figures = nodes.figures(now);
        assert_eq!((figures[0].gaps, figures[0].lag_milliseconds, figures.len()), (2, 7, 1));
    }

    #[test]
    fn who_is_catching_up_is_asked_only_where_there_is_no_other() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        // (a node that says hello, its load, its shards; who is asked for shard 0 then, and may lack some)
        for (node, load, shards, expected, lacks) in [
            (1, CATCHING_UP, 1, 1, true),
            (2, CATCHING_UP, 1, 1, true),
            (3, CATCHING_UP - 1, 1, 3, false),
            (4, 0, 2, 3, false),
            (1, 7, 1, 1, false),
            (3, 6, 1, 3, false),
            (3, CATCHING_UP, 1, 1, false),
        ] {
            let bytes = hello(node, load, shards).encode();
            nodes.hello(Hello::decode(&bytes).expect("older trackers read it as well"), now);
            let asked = nodes.least_busy(1, now).expect("somebody");
            assert_eq!((asked.node, asked.is_catching_up()), (expected, lacks), "{node}");
        }
        assert!(nodes.figures(now).iter().all(|node| node.announces_per_second <= 7), "it is no load");
    }

    #[test]
    fn others_are_still_asked_if_one_did_not_have_everything() {
        // (shards taken over from node 1, own ones, whether that was all, nodes that are known then)
        for (shards, mine, all, known) in [
            (0b01, 0b11, true, vec![1, 2, 3]),
            (0b11, 0b11, false, vec![1]),
            (0b01, 0b11, false, vec![]),
            (0b01, 0b01, false, vec![1]),
        ] {
            let (mut nodes, now) = (Nodes::default(), Instant::now());
            for node in 1..=3 {
                nodes.hello(hello(node, CATCHING_UP, 0b111), now);
            }
            nodes.taken_over(1, shards, mine, all);
            let mut seen: Vec<_> = nodes.all_mut().filter(|node| node.is_known).map(|node| node.hello.node).collect();
            seen.sort_unstable();
            assert_eq!(seen, known, "{shards:b} of {mine:b}, {all}");
        }
    }

    #[test]
    fn the_least_busy_node_with_the_shards_is_asked() {
        let (mut nodes, now) = (Nodes::default(), Instant::now());
        for one in [hello(1, 50, 0b011), hello(2, 10, 0b001), hello(3, 5, 0b100), Hello { peers: 0, ..hello(4, 1, 7) }]
        {
            nodes.hello(one, now);
        }
        for (shards, expected) in [(0b001, Some(2)), (0b010, Some(1)), (0b111, Some(3)), (0b1000, None), (0, None)] {
            assert_eq!(nodes.least_busy(shards, now).map(|hello| hello.node), expected, "{shards:b}");
        }
        nodes.hello(Hello { name: "node1".into(), peers: 0, ..hello(9, 1, 7) }, now + Duration::from_secs(1));
        let names: Vec<_> = nodes.figures(now).into_iter().map(|node| (node.name, node.peers)).collect();
        let expected =
            [("node1", 0), ("node2", 9), ("node3", 9), ("node4", 0)].map(|(name, peers)| (name.to_owned(), peers));
        assert_eq!(names, expected, "one that was started anew is shown once");
        let later = now + SILENCE + Duration::from_secs(2);
        assert_eq!(nodes.least_busy(0b111, later), None, "nobody was heard of lately");
        nodes.hello(hello(1, 50, 0b011), later);
        assert_eq!(nodes.all_mut().filter_map(|node| node.was_silent).count(), 1);
    }
}
