//! The networks with the most IPv4 peers, as opentracker's mode `s24s` ranks them: /28 and /24.
//!
//! A thread walks through the store as the snapshot does, and takes a fifth of a core at most. There is
//! one at a time; what it finds is good for as long as that keeps it to a twentieth of a core.

use crate::{
    http::{
        encoder::BodyEncoder,
        request::Request,
        site::{Ready, Stream},
    },
    snapshot::walk::Walk,
    store::{Store, sweep::processor_time},
};
use bytes::Bytes;
use std::{
    collections::HashMap,
    fmt::Write as _,
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How many of either size are shown.
const SHOWN: usize = 128;

/// Networks that are counted. Of the peers of further ones nobody is told: 64 MiB of memory is enough,
/// and who has many peers is met early.
const COUNTED: usize = 4 << 20;

/// Processor time after which the walk rests, and how many times as long.
const TURN: Duration = Duration::from_millis(1);
const REST: u32 = 4;

/// What was found stays good for so many times the processor time that it took.
const GOOD: u32 = 20;

/// How long a client waits at most, and has for taking the page.
const TIME_LIMIT: Duration = Duration::from_secs(600);

/// What was found.
pub struct Found {
    page: String,
    at: Instant,
    took: Duration,
}

/// A client's share of what is found, or is being looked for.
pub type Share = watch::Receiver<Option<Found>>;

/// The latest that was found; for all threads.
#[derive(Default)]
pub struct Networks(Mutex<Option<watch::Sender<Option<Found>>>>);

impl Networks {
    /// Begins to look, unless somebody else has.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn share(&self, store: &Arc<Store>) -> io::Result<Share> {
        let mut latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*latest {
            let good = sender.borrow().as_ref().is_none_or(|found| found.at.elapsed() <= found.took * GOOD);
            if good {
                return Ok(sender.subscribe());
            }
        }
        let (sender, share) = watch::channel(None);
        let (store, done) = (store.clone(), sender.clone());
        let look = move || {
            let begin = processor_time();
            let page = page(&count(&store));
            let took = processor_time().saturating_sub(begin);
            done.send_replace(Some(Found { page, at: Instant::now(), took }));
        };
        thread::Builder::new().name("networks".into()).spawn(look)?;
        *latest = Some(sender);
        Ok(share)
    }
}

/// Peers by /28, which is given as a number.
fn count(store: &Arc<Store>) -> HashMap<u32, u32> {
    let mut networks = HashMap::new();
    let mut since = processor_time();
    Walk::new(store, true).addresses(&mut |address| add(&mut networks, address, COUNTED), &mut || {
        let used = processor_time().saturating_sub(since);
        if used >= TURN {
            thread::sleep(used * REST);
            since = processor_time();
        }
    });
    networks
}

fn add(networks: &mut HashMap<u32, u32>, address: [u8; 4], most: usize) {
    let network = u32::from_be_bytes(address) >> 4;
    let full = networks.len() >= most;
    match networks.get_mut(&network) {
        Some(peers) => *peers = peers.saturating_add(1),
        None if full => {}
        None => {
            networks.insert(network, 1);
        }
    }
}

/// Both rankings.
fn page(networks: &HashMap<u32, u32>) -> String {
    let mut larger: HashMap<u32, u32> = HashMap::new();
    for (network, peers) in networks {
        let sum = larger.entry(network >> 4).or_default();
        *sum = sum.saturating_add(*peers);
    }
    let mut page = String::new();
    for (bits, networks) in [(28, networks), (24, &larger)] {
        // Writing into a string cannot fail.
        let _ = writeln!(page, "Networks, limit /{bits}:");
        for (peers, network) in ranked(networks) {
            let _ = writeln!(page, "{peers:08}: {}", Ipv4Addr::from_bits(network << (32 - bits)));
        }
        page.push('\n');
    }
    page
}

/// Those with most peers first, and of equals the one with the lowest address.
fn ranked(networks: &HashMap<u32, u32>) -> Vec<(u32, u32)> {
    let mut all: Vec<_> = networks.iter().map(|(network, peers)| (*peers, *network)).collect();
    let order = |one: &(u32, u32), other: &(u32, u32)| other.0.cmp(&one.0).then(one.1.cmp(&other.1));
    if all.len() > SHOWN {
        all.select_nth_unstable_by(SHOWN, order);
        all.truncate(SHOWN);
    }
    all.sort_unstable_by(order);
    all
}

/// The page, sent when it is there.
pub struct NetworksStream {
    share: Share,
    encoder: BodyEncoder,
}

impl NetworksStream {
    /// For the client that sent this request.
    ///
    /// # Errors
    /// When there is no memory for the compression.
    pub fn new(share: Share, request: &Request<'_>) -> io::Result<Self> {
        Ok(Self { share, encoder: BodyEncoder::new(request.encoding, request.chunks)? })
    }
}

impl Stream for NetworksStream {
    fn time_limit(&self) -> Duration {
        TIME_LIMIT
    }

    fn ready(&mut self) -> Ready<'_> {
        Box::pin(async { self.share.wait_for(Option::is_some).await.is_ok() })
    }

    fn next(&mut self) -> io::Result<(Bytes, bool)> {
        let found = self.share.borrow();
        let page = found.as_ref().map_or("", |found| &found.page);
        Ok((self.encoder.encode(page.as_bytes(), true)?, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_ranked_by_their_peers() {
        let mut networks = HashMap::new();
        for address in [[10, 0, 0, 1], [10, 0, 0, 15], [10, 0, 0, 16], [9, 1, 2, 255], [9, 1, 2, 254], [9, 1, 2, 253]] {
            add(&mut networks, address, 3);
        }
        add(&mut networks, [1, 1, 1, 1], 3);
        let expected = "Networks, limit /28:\n00000003: 9.1.2.240\n00000002: 10.0.0.0\n00000001: 10.0.0.16\n\n\
                        Networks, limit /24:\n00000003: 9.1.2.0\n00000003: 10.0.0.0\n\n";
        assert_eq!(page(&networks), expected, "the fourth network is one too many");
        assert_eq!(page(&HashMap::new()), "Networks, limit /28:\n\nNetworks, limit /24:\n\n");
        let many: HashMap<_, _> = (0..1000).map(|number| (number, number)).collect();
        let ranked = ranked(&many);
        assert_eq!(ranked.len(), SHOWN);
        assert!(ranked.iter().copied().eq((0..1000).rev().take(SHOWN).map(|number| (number, number))));
    }
}
