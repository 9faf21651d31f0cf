//! Loads the snapshot into a new store, before that answers anybody: several threads unpack and
//! store what one reads. No file stops the start. One that is damaged gives what whole blocks it
//! has and is set aside, as is one that cannot be read at all.

use super::{
    Plan, directory,
    format::Header,
    read::{Damage, Packed, Reader, Unpacker},
    restore::{Report, Restorer, Rules},
    wall_clock,
};
use crate::{
    store::{Store, sweep::Timeouts},
    text::plural,
};
use std::{
    fmt,
    io::{BufReader, Read, Seek},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::Instant,
};
use tracing::{info, warn};

/// More threads would wait for the one that reads.
const THREADS: usize = 8;

/// Blocks that wait for a thread.
const QUEUE: usize = 4;

/// Kinds of damage that are named; of more the number is said.
const NAMED: usize = 5;

/// What came out of a file.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What became of its contents.
    pub report: Report,
    /// Its header.
    pub header: Option<Header>,
    /// What is wrong with it, in the order of the file.
    pub damages: Vec<Damage>,
}

/// What the start has to know of a snapshot that it has loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// IPv4 and IPv6 peers that it has added to the store.
    pub peers: [u64; 2],
    /// The file is to be written anew at once: it holds peers, which are not wanted any more.
    pub save_at_once: bool,
}

/// Loads the snapshot that the plan names, if there is one, and tells what it did. The store's keys,
/// clock and lists are set, and nobody uses it yet.
pub fn load(store: &Arc<Store>, plan: &Plan, timeouts: Timeouts) -> Taken {
    let begin = Instant::now();
    let path = plan.path();
    let opened = directory::open(&plan.directory).and_then(|file| {
        let read = |file| Reader::new(BufReader::with_capacity(1 << 20, file));
        match file.map(read) {
            None => Ok(None),
            Some(Ok(Ok(reader))) => Ok(Some(reader)),
            Some(Ok(Err(unfit))) => Err(unfit.to_string()),
            Some(Err(error)) => Err(format!("cannot be read: {error}")),
        }
    });
    let reader = match opened {
        Ok(Some(reader)) => reader,
        Ok(None) => return Taken::default(),
        Err(unfit) => {
            let aside = set_aside(plan);
            warn!("the snapshot {} {unfit}; nothing is loaded from it, and {aside}", path.display());
            return Taken::default();
        }
    };
    let header = *reader.header();
    let Loaded { report, damages, .. } = load_from(reader, store, timeouts, plan.peers);
    let age = wall_clock().saturating_sub(header.taken_at);
    info!(
        "loaded {} and {} in {:.1} s from the snapshot {}, which is {} old{}",
        plural(report.torrents, "torrent", "torrents"),
        plural(report.peers, "peer", "peers"),
        begin.elapsed().as_secs_f64(),
        path.display(),
        Age(age),
        Expired(&report)
    );
    if report.torrents_refused + report.peers_refused > 0 {
        warn!(
            "{} and {} of the snapshot found no room: raise --max-torrents, --max-peers or --max-peers-v6",
            plural(report.torrents_refused, "torrent", "torrents"),
            plural(report.peers_refused, "peer", "peers")
        );
    }
    if !damages.is_empty() {
        let aside = set_aside(plan);
        warn!(
            "the snapshot {} is damaged ({}); its other blocks were used, and {aside}",
            path.display(),
            Damages(&damages)
        );
    }
    Taken { peers: report.added, save_at_once: header.peers && !plan.peers }
}

/// Loads all that can be read into a store.
pub fn load_from<R: Read + Seek>(
    reader: Reader<R>,
    store: &Arc<Store>,
    timeouts: Timeouts,
    with_peers: bool,
) -> Loaded {
    let header = *reader.header();
    // By the wall clock's minutes, as the store's clock shows them.
    let elapsed = (wall_clock() / 60).saturating_sub(header.taken_at / 60);
    let rules = Rules { timeouts, elapsed: u32::try_from(elapsed).unwrap_or(u32::MAX / 2), with_peers };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let (sender, receiver) = sync_channel::<Packed>(QUEUE);
    let receiver = Mutex::new(receiver);
    let mut loaded = Loaded { header: Some(header), ..Loaded::default() };
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| restore(&receiver, Restorer::new(store, rules)))).collect();
        for block in reader {
            match block {
                Ok(packed) => {
                    // They end only when the sender does.
                    let _ = sender.send(packed);
                }
                Err(damage) => loaded.damages.push(damage),
            }
        }
        drop(sender);
        for worker in workers {
            let (report, damages) = worker.join().unwrap_or_default();
            loaded.report.add(&report);
            loaded.damages.extend(damages);
        }
    });
    loaded
}

/// One thread's work.
fn restore(blocks: &Mutex<Receiver<Packed>>, mut restorer: Restorer) -> (Report, Vec<Damage>) {
    let mut damages = Vec::new();
    let mut unpacker = Unpacker::new().map_err(|error| warn!("no memory to unpack a snapshot: {error}")).ok();
    loop {
        let packed = blocks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(packed) = packed else { return (restorer.report(), damages) };
        match unpacker.as_mut().map(|unpacker| unpacker.unpack(&packed)) {
            Some(Ok(block)) => restorer.block(&block),
            Some(Err(damage)) => damages.push(damage),
            None => {}
        }
    }
}

/// Sets the file aside, and says where it is now. Whether anybody reads that or not.
fn set_aside(plan: &Plan) -> String {
    match directory::set_aside(&plan.directory) {
        Ok(path) => format!("the file is {} now", path.display()),
        Err(error) => format!("the file cannot be set aside: {error:#}"),
    }
}

struct Damages<'d>(&'d [Damage]);

impl fmt::Display for Damages<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, damage) in self.0.iter().take(NAMED).enumerate() {
            write!(f, "{}{damage}", if number == 0 { "" } else { ", " })?;
        }
        match self.0.len().saturating_sub(NAMED) {
            0 => Ok(()),
            more => write!(f, ", and at {}", plural(more as u64, "more place", "more places")),
        }
    }
}

struct Age(u64);

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, one, many) = match self.0 {
            ..120 => (self.0, "second", "seconds"),
            120..7200 => (self.0 / 60, "minute", "minutes"),
            7200..172_800 => (self.0 / 3600, "hour", "hours"),
            _ => (self.0 / 86_400, "day", "days"),
        };
        f.write_str(&plural(number, one, many))
    }
}

struct Expired<'r>(&'r Report);

impl fmt::Display for Expired<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { torrents_expired, peers_expired, .. } = *self.0;
        if torrents_expired + peers_expired == 0 {
            return Ok(());
        }
        let torrents = plural(torrents_expired, "torrent", "torrents");
        write!(f, "; {torrents} and {} had expired or are refused by a list", plural(peers_expired, "peer", "peers"))
    }
}
