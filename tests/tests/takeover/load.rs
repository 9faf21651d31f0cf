//! Clients that go on announcing, and know what the tracker has to know of them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::{Announce, Counts, Event, InfoHash},
    client::UdpClient,
    namespace::Pair,
};

/// Torrents of each thread.
const TORRENTS: u32 = 40;

/// Peers that a torrent has at most.
const PEERS: u16 = 30;

/// Ids are good for two minutes; many requests before that, some clients ask for new ones.
const RECONNECT: u32 = 500;

/// Between two requests.
const PAUSE: Duration = Duration::from_micros(500);

/// Announces, scrapes and connects over both families, until it is dropped or asked for its sums.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Client>>,
}

/// A thread's client and what it knows.
struct Client {
    client: UdpClient,
    number: u8,
    is_v4: bool,
    /// Of each torrent, and which of its peers are seeders; the others are leechers or not there.
    torrents: Vec<(Counts, [Option<bool>; PEERS as usize])>,
    sums: Sums,
}

/// What the clients have seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    /// Requests that were sent.
    pub sent: u64,
    /// Those that were answered, and rightly.
    pub answered: u64,
    /// What went wrong, the first few.
    pub wrong: Vec<String>,
    /// The longest wait for an answer.
    pub slowest: Duration,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.wrong.extend(other.wrong.iter().cloned());
        self.slowest = self.slowest.max(other.slowest);
    }
}

impl Load {
    /// Starts two threads of clients. They share a processor: programs that wait for each other's
    /// locks on two of them are not what is tested.
    pub(crate) fn start(pair: &Pair) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |(number, is_v4)| {
            let mut client = Client::new(pair, number, is_v4);
            let stop = stop.clone();
            thread::spawn(move || {
                stay_on_first_processor();
                let mut turn = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.turn(turn);
                    turn += 1;
                    thread::sleep(PAUSE);
                }
                client
            })
        };
        Self { threads: [(0, true), (1, false)].map(start).into(), stop }
    }

    /// Ends it, and asks the tracker for the counts of all torrents, which have to be those that the
    /// clients know of.
    pub(crate) fn finish(mut self) -> Sums {
        self.stop.store(true, Ordering::Relaxed);
        let mut sums = Sums::default();
        for thread in self.threads.drain(..) {
            let mut client = thread.join().expect("clients do not panic");
            client.compare();
            sums.add(&client.sums);
        }
        sums
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Client {
    fn new(pair: &Pair, number: u8, is_v4: bool) -> Self {
        let (source, tracker): (IpAddr, IpAddr) = if is_v4 {
            (Pair::client_v4(number).into(), Pair::SERVER_V4.into())
        } else {
            (Pair::client_v6(number).into(), Pair::SERVER_V6.into())
        };
        let client = UdpClient::connected(&pair.client, SocketAddr::new(source, 0), SocketAddr::new(tracker, 6969))
            .expect("a tracker that answers");
        let torrents = vec![(Counts::default(), [None; PEERS as usize]); TORRENTS as usize];
        Self { client, number, is_v4, torrents, sums: Sums::default() }
    }

    fn turn(&mut self, turn: u32) {
        let torrent = turn.wrapping_mul(7) % TORRENTS;
        if turn % RECONNECT == RECONNECT - 1 {
            self.ask(|client| client.connect().map(drop));
        } else if turn.is_multiple_of(10) {
            self.scrape(torrent);
        } else {
            self.announce(torrent, (turn.wrapping_mul(0x9e37_79b9) >> 16) as u16 % PEERS, turn);
        }
    }

    fn announce(&mut self, torrent: u32, peer: u16, turn: u32) {
        let before = self.torrents[torrent as usize].1[usize::from(peer)];
        // What it does next, by what it is: it comes as a leecher, completes, refreshes, goes.
        let (event, left) = match (before, turn % 4) {
            (None, _) => (Event::Started, 1),
            (Some(false), 0) => (Event::Completed, 0),
            (Some(false), _) => (Event::None, 1),
            (Some(true), 0) => (Event::Stopped, 0),
            (Some(true), _) => (Event::None, 0),
        };
        let request = Announce {
            event: event as u32,
            left,
            // What XDP has room for behind a packet of a veth pair: more is left to the sockets.
            num_want: 10,
            ..Announce::new(info_hash(self.number, torrent), 10_000 + peer)
        };
        let mut told = Counts::default();
        let done = self.ask(|client| {
            let announced = client.announce(&request)?;
            told = Counts { seeders: announced.seeders, leechers: announced.leechers, completed: 0 };
            Ok(())
        });
        if !done {
            return;
        }
        let (counts, peers) = &mut self.torrents[torrent as usize];
        let after = match event {
            Event::Stopped => None,
            Event::None | Event::Completed | Event::Started => Some(left == 0),
        };
        for (kind, by) in [(before, u32::MAX), (after, 1)] {
            match kind {
                Some(true) => counts.seeders = counts.seeders.wrapping_add(by),
                Some(false) => counts.leechers = counts.leechers.wrapping_add(by),
                None => {}
            }
        }
        counts.completed += u32::from(event == Event::Completed);
        peers[usize::from(peer)] = after;
        let known = Counts { completed: 0, ..*counts };
        if told != known {
            self.wrong(format!("torrent {torrent}: {event:?} was told {told:?} instead of {known:?}"));
        }
    }

    fn scrape(&mut self, torrent: u32) {
        let hash = info_hash(self.number, torrent);
        let mut told = Counts::default();
        let done = self.ask(|client| {
            told = client.scrape(&[hash])?.first().copied().unwrap_or_default();
            Ok(())
        });
        let known = self.torrents[torrent as usize].0;
        if done && told != known {
            self.wrong(format!("torrent {torrent}: a scrape was told {told:?} instead of {known:?}"));
        }
    }

    fn compare(&mut self) {
        (0..TORRENTS).for_each(|torrent| self.scrape(torrent));
    }

    /// Sends one request. False if no right answer came.
    fn ask(&mut self, request: impl FnOnce(&mut UdpClient) -> anyhow::Result<()>) -> bool {
        self.sums.sent += 1;
        let begin = Instant::now();
        match request(&mut self.client) {
            Ok(()) => {
                self.sums.answered += 1;
                self.sums.slowest = self.sums.slowest.max(begin.elapsed());
                true
            }
            Err(error) => {
                let family = if self.is_v4 { "IPv4" } else { "IPv6" };
                self.wrong(format!("{family}: {error:#}"));
                false
            }
        }
    }

    fn wrong(&mut self, what: String) {
        if self.sums.wrong.len() < 5 {
            self.sums.wrong.push(what);
        }
    }
}

fn info_hash(client: u8, torrent: u32) -> InfoHash {
    let mut info_hash = [0x5a; 20];
    info_hash[0] = client;
    info_hash[8..12].copy_from_slice(&torrent.wrapping_mul(0x9e37_79b9).to_be_bytes());
    info_hash
}

fn stay_on_first_processor() {
    // SAFETY: all zero bytes are a valid set, which outlives the calls. An error changes nothing.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}
