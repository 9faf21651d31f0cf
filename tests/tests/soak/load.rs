//! The load: clients of both families that connect, announce, stop and scrape, by UDP and HTTP,
//! with right and wrong connection ids, and others that send junk and forged frames. Each counts
//! what it has sent and what came back.

use fastrand::Rng;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::AddAssign,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::{self, Announce, Event, InfoHash, Reply},
    client::{UdpClient, http_announce, http_scrape},
    namespace::Pair,
    packet::{Checksum, Frame},
    raw::RawSocket,
};

pub const PORT: u16 = 6969;

/// Torrents that are announced: more than there may be.
const TORRENTS: u32 = 2600;

/// Torrents of a scrape that one frame of an interface's usual MTU carries over IPv6.
const WHOLE: u32 = 71;

/// What clients ask by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// UDP alone, and in frames, not in fragments: what goes on without a daemon.
    Udp,
    /// HTTP as well.
    Both,
}

/// What one or all of the clients have done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// Requests that have to be answered: connect, announce, scrape. By UDP.
    pub asked: [u64; 3],
    /// Replies to these that are as asked.
    pub answered: [u64; 3],
    /// Replies that are errors.
    pub errors: u64,
    /// Requests that nobody has answered.
    pub lost: u64,
    /// Announces with a wrong connection id; these are errors too.
    pub wrong_ids: u64,
    /// Announces from addresses that are not the sender's.
    pub forged: u64,
    /// Datagrams that no answer is given to.
    pub junk: u64,
    /// Frames with a wrong checksum.
    pub wrong_checksums: u64,
    /// Announces and scrapes by HTTP, and those of them that failed.
    pub http: [u64; 2],
    /// HTTP requests that were answered with a failure.
    pub http_failed: u64,
    /// The longest that an answer by UDP took.
    pub longest: Duration,
}

impl AddAssign for Sent {
    fn add_assign(&mut self, other: Self) {
        for kind in 0..3 {
            self.asked[kind] += other.asked[kind];
            self.answered[kind] += other.answered[kind];
        }
        for kind in 0..2 {
            self.http[kind] += other.http[kind];
        }
        self.errors += other.errors;
        self.lost += other.lost;
        self.wrong_ids += other.wrong_ids;
        self.forged += other.forged;
        self.junk += other.junk;
        self.wrong_checksums += other.wrong_checksums;
        self.http_failed += other.http_failed;
        self.longest = self.longest.max(other.longest);
    }
}

impl Sent {
    /// All UDP packets sent.
    pub fn packets(&self) -> u64 {
        self.asked.iter().sum::<u64>() + self.wrong_ids + self.forged + self.junk + self.wrong_checksums
    }
}

/// Ends the load when it is dropped, also by a panic of whoever waits for that.
pub struct End<'a>(pub &'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn server(ipv4: bool) -> SocketAddr {
    let address: IpAddr = if ipv4 { Pair::SERVER_V4.into() } else { Pair::SERVER_V6.into() };
    SocketAddr::new(address, PORT)
}

/// A torrent; half of the time one of a few, as swarms go.
fn torrent(random: &mut Rng) -> InfoHash {
    let few = random.u32(..2) == 0;
    let number = random.u32(..if few { 6 } else { TORRENTS });
    let mut info_hash = [0x3d; 20];
    info_hash[8..12].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
    info_hash
}

fn announce(random: &mut Rng) -> Announce {
    let event =
        [Event::None, Event::None, Event::None, Event::Started, Event::Completed, Event::Stopped, Event::Stopped]
            [random.u32(..7) as usize];
    let left = if event == Event::Completed { 0 } else { u64::from(random.u32(..3)) };
    let port = 1024 + random.u32(..900) as u16;
    let num_want = [-1, 0, 1, 50, 200][random.u32(..5) as usize];
    Announce { left, event: event as u32, num_want, ..Announce::new(torrent(random), port) }
}

/// One that waits for each answer.
struct Client<'p> {
    pair: &'p Pair,
    udp: UdpClient,
    ipv4: bool,
    over: Over,
    random: Rng,
    sent: Sent,
}

impl<'p> Client<'p> {
    fn new(pair: &'p Pair, number: u8, seed: u64) -> Self {
        let ipv4 = number.is_multiple_of(2);
        let address: IpAddr = if ipv4 { Pair::client_v4(number).into() } else { Pair::client_v6(number).into() };
        let udp = UdpClient::new(&pair.client, SocketAddr::new(address, 0), server(ipv4)).expect("a socket");
        Self { pair, udp, ipv4, over: Over::Both, random: Rng::with_seed(seed), sent: Sent::default() }
    }

    /// Sends a request and counts what comes back. `kind` is that of [`Sent::asked`].
    fn ask(&mut self, kind: Option<usize>, request: &[u8]) -> Option<Reply> {
        let begin = Instant::now();
        match kind {
            Some(kind) => self.sent.asked[kind] += 1,
            None => self.sent.wrong_ids += 1,
        }
        let reply = self.udp.exchange(request);
        self.sent.longest = self.sent.longest.max(begin.elapsed());
        match reply {
            Ok(Reply::Error { .. }) => self.sent.errors += 1,
            Ok(Reply::Connect { .. }) => self.sent.answered[0] += 1,
            Ok(Reply::Announce { .. }) => self.sent.answered[1] += 1,
            Ok(Reply::Scrape { .. }) => self.sent.answered[2] += 1,
            Err(_) => self.sent.lost += 1,
        }
        reply.ok()
    }

    fn turn(&mut self, id: &mut u64) {
        let transaction = self.random.u32(..u32::MAX);
        match self.random.u32(..100) {
            0..5 => {
                if let Some(Reply::Connect { connection_id, .. }) = self.ask(Some(0), &bep15::connect(transaction)) {
                    *id = connection_id;
                }
            }
            5..80 => {
                let announce = Announce { connection_id: *id, transaction, ..announce(&mut self.random) };
                self.ask(Some(1), &announce.bytes());
            }
            80..90 => {
                // A longer one comes in fragments, which only sockets put together.
                let most = if self.over == Over::Udp { WHOLE } else { 74 };
                let count = 1 + self.random.u32(..most);
                let torrents: Vec<_> = (0..count).map(|_| torrent(&mut self.random)).collect();
                self.ask(Some(2), &bep15::scrape(*id, transaction, &torrents));
            }
            90..93 => {
                let announce = Announce { connection_id: *id ^ 1, transaction, ..announce(&mut self.random) };
                self.ask(None, &announce.bytes());
            }
            93..96 => {
                let junk: Vec<u8> = match self.random.u32(..3) {
                    0 => vec![0x55; 1 + self.random.u32(..15) as usize],
                    1 => bep15::header(!bep15::MAGIC, bep15::CONNECT, transaction),
                    _ => bep15::header(*id, 4 + self.random.u32(..1000), transaction),
                };
                self.udp.send(&junk).expect("sent");
                self.sent.junk += 1;
            }
            _ if self.over == Over::Both => self.http(),
            _ => {}
        }
    }

    fn http(&mut self) {
        let server = server(self.ipv4);
        let result = if self.random.u32(..4) > 0 {
            self.sent.http[0] += 1;
            http_announce(&self.pair.client, server, &announce(&mut self.random)).map(drop)
        } else {
            self.sent.http[1] += 1;
            http_scrape(&self.pair.client, server, &[torrent(&mut self.random)]).map(drop)
        };
        if let Err(error) = result {
            let told = format!("{error:#}");
            assert!(told.contains("the tracker says"), "HTTP: {told}");
            self.sent.http_failed += 1;
        }
    }
}

/// Sends what no socket would.
fn forge(pair: &Pair, until: &AtomicBool, seed: u64) -> Sent {
    let raw = RawSocket::open(&pair.client, Pair::CLIENT_INTERFACE).expect("a packet socket");
    let mut random = Rng::with_seed(seed);
    let mut sent = Sent::default();
    while !until.load(Ordering::Relaxed) {
        // 198.18.0.0/24 has no other hosts.
        let source = SocketAddr::from((Ipv4Addr::new(198, 18, 0, 100 + random.u32(..100) as u8), 7000));
        let mut frame = Frame::udp(Pair::CLIENT_MAC, Pair::SERVER_MAC, source, server(true));
        frame.payload = Announce { connection_id: u64::from(random.u32(..u32::MAX)), ..announce(&mut random) }.bytes();
        if random.u32(..2) == 0 {
            frame.udp_checksum = Checksum::Wrong;
            sent.wrong_checksums += 1;
        } else {
            sent.forged += 1;
        }
        raw.send(&frame.bytes()).expect("sent");
        thread::sleep(Duration::from_millis(2));
    }
    sent
}

/// Loads the tracker until told to end.
pub fn load(pair: &Pair, clients: u8, over: Over, until: &AtomicBool, seed: u64) -> Sent {
    thread::scope(|scope| {
        let workers: Vec<_> = (0..clients)
            .map(|number| {
                scope.spawn(move || {
                    let mut client = Client::new(pair, number, seed ^ u64::from(number + 1) << 32);
                    client.over = over;
                    let mut id = 0;
                    while id == 0 && !until.load(Ordering::Relaxed) {
                        if let Some(Reply::Connect { connection_id, .. }) = client.ask(Some(0), &bep15::connect(1)) {
                            id = connection_id;
                        }
                    }
                    let mut renewed = Instant::now();
                    while !until.load(Ordering::Relaxed) {
                        // An id is good for two minutes.
                        if renewed.elapsed() > Duration::from_secs(60) {
                            renewed = Instant::now();
                            if let Some(Reply::Connect { connection_id, .. }) = client.ask(Some(0), &bep15::connect(2))
                            {
                                id = connection_id;
                            }
                        }
                        client.turn(&mut id);
                    }
                    client.sent
                })
            })
            .collect();
        let mut all = forge(pair, until, seed);
        for worker in workers {
            all += worker.join().expect("no panic");
        }
        all
    })
}
