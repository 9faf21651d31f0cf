//! Honest clients: each asks again and again, in its own way, and counts.

use crate::socket::connect_from;
use std::{
    fmt,
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};
use tracker_tests::{bep15::Announce, client::UdpClient, namespace::Pair, patience};

pub const PORT: u16 = 6969;

/// What is not answered by then is lost. A client of UDP would ask again after 15 s.
const LIMIT: Duration = Duration::from_secs(3);

/// How an honest client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    UdpV4,
    UdpV6,
    /// A connection for each announce.
    Http,
    /// The same, with a request that comes in two pieces, as over a slow line.
    HttpSlow,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::UdpV4, Self::UdpV6, Self::Http, Self::HttpSlow];
    pub const UDP: [Self; 2] = [Self::UdpV4, Self::UdpV6];
}

/// When a request was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Before,
    During,
    After,
}

const PHASES: usize = 3;

/// What honest clients have counted: requests sent and answered, by phase and kind.
#[derive(Default)]
pub struct Tally {
    phase: AtomicUsize,
    counts: Mutex<[[(u64, u64); Kind::ALL.len()]; PHASES]>,
    /// Why one was not answered.
    complaint: Mutex<String>,
}

impl Tally {
    pub fn begin(&self, phase: Phase) {
        self.phase.store(phase as usize, Ordering::SeqCst);
    }

    /// Requests sent and answered.
    pub fn of(&self, phase: Phase, kind: Kind) -> (u64, u64) {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)[phase as usize][kind as usize]
    }

    /// Why one was not answered.
    pub fn complaint(&self) -> String {
        self.complaint.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts one exchange; false when there is no more to come.
    fn exchange(&self, kind: Kind, ask: impl FnOnce() -> anyhow::Result<()>) -> bool {
        let phase = self.phase.load(Ordering::SeqCst);
        if phase >= PHASES {
            return false;
        }
        let result = ask();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let (sent, answered) = &mut counts[phase][kind as usize];
        *sent += 1;
        match result {
            Ok(()) => *answered += 1,
            Err(error) => {
                *self.complaint.lock().unwrap_or_else(PoisonError::into_inner) = format!("{kind:?}: {error:#}");
            }
        }
        true
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        for (number, kind) in Kind::ALL.iter().enumerate() {
            write!(to, "{}{kind:?}", if number == 0 { "" } else { ", " })?;
            for phase in &*counts {
                let (sent, answered) = phase[number];
                write!(to, " {answered}/{sent}")?;
            }
        }
        Ok(())
    }
}

/// Ends the honest clients when it is dropped.
pub struct Begun<'a>(pub &'a Tally);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.phase.store(PHASES, Ordering::SeqCst);
    }
}

pub fn server(ipv4: bool) -> SocketAddr {
    let address: IpAddr = if ipv4 { Pair::SERVER_V4.into() } else { Pair::SERVER_V6.into() };
    SocketAddr::new(address, PORT)
}

pub fn client(number: u8, ipv4: bool) -> IpAddr {
    if ipv4 { Pair::client_v4(number).into() } else { Pair::client_v6(number).into() }
}

/// Asks until the end.
pub fn ask(kind: Kind, pair: &Pair, tally: &Tally) {
    pair.client.run(|| match kind {
        Kind::UdpV4 => udp(kind, pair, true, tally),
        Kind::UdpV6 => udp(kind, pair, false, tally),
        Kind::Http => while tally.exchange(kind, || http(9, None)) && pause(20) {},
        Kind::HttpSlow => while tally.exchange(kind, || http(8, Some(Duration::from_millis(30)))) && pause(40) {},
    });
}

fn pause(milliseconds: u64) -> bool {
    thread::sleep(Duration::from_millis(milliseconds));
    true
}

/// How many announces an honest client makes with one connection id: for less than two minutes.
const ANNOUNCES: u32 = 500;

fn udp(kind: Kind, pair: &Pair, ipv4: bool, tally: &Tally) {
    let source = SocketAddr::new(client(9, ipv4), 0);
    let announce = Announce { num_want: 20, ..Announce::new([0x77; 20], 6881) };
    let mut asked = 0;
    let mut connected: Option<UdpClient> = None;
    let mut exchange = || {
        // Whatever went wrong, a new socket is not troubled by late replies.
        let mut client = match connected.take() {
            Some(client) if asked % ANNOUNCES != 0 => client,
            _ => {
                let client = UdpClient::new(&pair.client, source, server(ipv4))?;
                client.socket().set_read_timeout(Some(patience(LIMIT)))?;
                client
            }
        };
        asked += 1;
        if client.connection_id() == 0 {
            client.connect()?;
        }
        client.announce(&announce)?;
        connected = Some(client);
        Ok(())
    };
    while tally.exchange(kind, &mut exchange) && pause(5) {}
}

/// Announces by HTTP; with a pause within the request, if there is to be one.
pub fn http(number: u8, pause: Option<Duration>) -> anyhow::Result<()> {
    let limit = patience(2 * LIMIT);
    let mut stream = connect_from(number)?;
    stream.set_read_timeout(Some(limit))?;
    let request = announce(number);
    match pause {
        None => stream.write_all(&request)?,
        Some(pause) => {
            let (first, second) = request.split_at(request.len() / 2);
            stream.write_all(first)?;
            thread::sleep(pause);
            stream.write_all(second)?;
        }
    }
    is_announce_reply(stream)
}

/// An announce, after which the connection ends.
pub fn announce(number: u8) -> Vec<u8> {
    format!(
        "GET /announce?info_hash={}&peer_id=-TT0001-abcdefghijkl&port=6881&left=1&compact=1 HTTP/1.1\r\n\
         Host: tracker\r\nConnection: close\r\n\r\n",
        char::from(b'a' + number).to_string().repeat(20)
    )
    .into_bytes()
}

/// Reads a reply to an announce to its end.
pub fn is_announce_reply(mut stream: impl io::Read) -> anyhow::Result<()> {
    let mut reply = Vec::new();
    let ended = stream.by_ref().take(1 << 16).read_to_end(&mut reply);
    let text = String::from_utf8_lossy(&reply);
    let whole = text.starts_with("HTTP/1.1 200 ") && text.contains("8:intervali") && reply.ends_with(b"e");
    anyhow::ensure!(whole, "{text:?} ({ended:?})");
    Ok(())
}
