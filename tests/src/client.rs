//! Small UDP and HTTP clients on blocking sockets. They never send anything twice: what gets lost
//! is an error.

use crate::{
    bencode::Value,
    bep15::{self, Announce, Counts, InfoHash, Reply, compact_peers},
    namespace::Namespace,
    patience,
};
use anyhow::{Context as _, Result, bail, ensure};
use std::{
    fmt::Write as _,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

/// How long an answer may take before it counts as lost.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// A UDP socket that talks to one tracker.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
    tracker: SocketAddr,
    connection_id: u64,
    transaction: u32,
}

impl UdpClient {
    /// A client with the source address given (port 0 for any), not yet connected in the sense of
    /// BEP 15.
    ///
    /// # Errors
    /// When the address is not one of the namespace's.
    pub fn new(namespace: &Namespace, source: SocketAddr, tracker: SocketAddr) -> Result<Self> {
        let socket = namespace
            .run(|| UdpSocket::bind(source))
            .with_context(|| format!("cannot bind a UDP socket to {source}"))?;
        Self::with_socket(socket, tracker)
    }

    /// A client with a socket that is there already.
    ///
    /// # Errors
    /// When the tracker cannot be reached from it.
    pub fn with_socket(socket: UdpSocket, tracker: SocketAddr) -> Result<Self> {
        // Replies from any other address are thus not received at all.
        socket.connect(tracker).with_context(|| format!("no way to {tracker}"))?;
        socket.set_read_timeout(Some(patience(PATIENCE)))?;
        Ok(Self { socket, tracker, connection_id: 0, transaction: 0x5eed_0000 })
    }

    /// As [`UdpClient::new`], and with a connection id.
    ///
    /// # Errors
    /// When the tracker does not answer.
    pub fn connected(namespace: &Namespace, source: SocketAddr, tracker: SocketAddr) -> Result<Self> {
        let mut client = Self::new(namespace, source, tracker)?;
        client.connect()?;
        Ok(client)
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// The id that the last connect brought.
    #[must_use]
    pub fn connection_id(&self) -> u64 {
        self.connection_id
    }

    /// Asks for a connection id and keeps it.
    ///
    /// # Errors
    /// When the answer is none or another one.
    pub fn connect(&mut self) -> Result<u64> {
        let transaction = self.next_transaction();
        let reply = self.ask(&bep15::connect(transaction), transaction)?;
        let Reply::Connect { connection_id, .. } = reply else { bail!("connect was answered with {reply:?}") };
        self.connection_id = connection_id;
        Ok(connection_id)
    }

    /// Announces, with the connection id and a transaction id of this client.
    ///
    /// # Errors
    /// When the answer is none, an error or another one.
    pub fn announce(&mut self, announce: &Announce) -> Result<Announced> {
        let transaction = self.next_transaction();
        let announce = Announce { connection_id: self.connection_id, transaction, ..announce.clone() };
        let reply = self.ask(&announce.bytes(), transaction)?;
        let Reply::Announce { interval, leechers, seeders, peers, .. } = reply else {
            bail!("an announce was answered with {reply:?}")
        };
        Ok(Announced { interval: interval.into(), leechers, seeders, peers })
    }

    /// Asks for the counts of torrents.
    ///
    /// # Errors
    /// When the answer is none, an error or another one.
    pub fn scrape(&mut self, torrents: &[InfoHash]) -> Result<Vec<Counts>> {
        let transaction = self.next_transaction();
        let reply = self.ask(&bep15::scrape(self.connection_id, transaction, torrents), transaction)?;
        let Reply::Scrape { torrents, .. } = reply else { bail!("a scrape was answered with {reply:?}") };
        Ok(torrents)
    }

    /// Sends any datagram and reads what comes back.
    ///
    /// # Errors
    /// When nothing does within [`PATIENCE`], or something that is not a reply.
    pub fn exchange(&self, request: &[u8]) -> Result<Reply> {
        self.send(request)?;
        self.receive()
    }

    /// Sends any datagram.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn send(&self, request: &[u8]) -> Result<()> {
        self.socket.send(request).with_context(|| format!("cannot send to {}", self.tracker))?;
        Ok(())
    }

    /// Reads the next reply.
    ///
    /// # Errors
    /// When none comes within [`PATIENCE`], or something that is not a reply.
    pub fn receive(&self) -> Result<Reply> {
        let mut reply = [0; 65536];
        let length = loop {
            match self.socket.recv(&mut reply) {
                // With a time limit the kernel does not go on by itself after a process was stopped
                // or frozen.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.with_context(|| format!("no answer from {}", self.tracker))?,
            }
        };
        Reply::parse(&reply[..length], self.tracker.is_ipv4())
    }

    fn ask(&self, request: &[u8], transaction: u32) -> Result<Reply> {
        let reply = self.exchange(request)?;
        ensure!(reply.transaction() == transaction, "{reply:?} does not belong to transaction {transaction}");
        Ok(reply)
    }

    fn next_transaction(&mut self) -> u32 {
        self.transaction = self.transaction.wrapping_add(1);
        self.transaction
    }
}

/// What an announce brought, by UDP or HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Seconds until the next one.
    pub interval: i64,
    /// Peers that do not have everything.
    pub leechers: u32,
    /// Peers that have everything.
    pub seeders: u32,
    /// In the order of the reply; of both families with HTTP.
    pub peers: Vec<SocketAddr>,
}

/// The answer to an HTTP request.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header lines as sent, without the status line.
    pub headers: Vec<String>,
    /// The body, its chunks put together.
    pub body: Vec<u8>,
}

impl Response {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let entry = |line: &'_ String| -> Option<bool> { Some(line.split_once(':')?.0.eq_ignore_ascii_case(name)) };
        let line = self.headers.iter().find(|line| entry(line) == Some(true))?;
        Some(line.split_once(':')?.1.trim())
    }

    /// The body as text.
    ///
    /// # Errors
    /// When the status is not 200 or the body not UTF-8.
    pub fn text(self) -> Result<String> {
        ensure!(self.status == 200, "HTTP status {}: {}", self.status, String::from_utf8_lossy(&self.body));
        Ok(String::from_utf8(self.body)?)
    }

    /// Reads all that came until the connection ended.
    ///
    /// # Errors
    /// When that is no HTTP.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let at = bytes.windows(4).position(|end| end == b"\r\n\r\n").context("an HTTP header without an end")?;
        let (header, body) = (str::from_utf8(&bytes[..at])?, &bytes[at + 4..]);
        let mut headers: Vec<String> = header.split("\r\n").map(str::to_owned).collect();
        let status_line = headers.remove(0);
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.with_context(|| format!("{status_line:?} is not a status line"))?;
        let mut response = Self { status, headers, body: body.to_vec() };
        if response.header("transfer-encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked")) {
            response.body = join_chunks(body)?;
        } else if let Some(length) = response.header("content-length") {
            let length: usize = length.parse()?;
            ensure!(body.len() == length, "Content-Length {length}, but {} bytes came", body.len());
        }
        Ok(response)
    }
}

fn join_chunks(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|end| end == b"\r\n").context("a chunk without a length")?;
        let length = usize::from_str_radix(str::from_utf8(&rest[..line])?, 16)?;
        rest = &rest[line + 2..];
        if length == 0 {
            return Ok(body);
        }
        let (chunk, after) = rest.split_at_checked(length).context("the connection ended in the middle of a chunk")?;
        body.extend(chunk);
        rest = after.strip_prefix(b"\r\n").context("a chunk longer than it says")?;
    }
}

/// Fetches a path over a connection of its own, from a namespace or from that of this process.
///
/// # Errors
/// When the server does not answer within [`PATIENCE`], or not with HTTP.
pub fn http_get(namespace: Option<&Namespace>, server: SocketAddr, path: &str) -> Result<Response> {
    let connect = || TcpStream::connect_timeout(&server, patience(PATIENCE));
    let stream = namespace.map_or_else(connect, |namespace| namespace.run(connect));
    let mut stream = stream.with_context(|| format!("cannot connect to http://{server}"))?;
    stream.set_read_timeout(Some(patience(PATIENCE)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).with_context(|| format!("no whole answer to http://{server}{path}"))?;
    Response::parse(&bytes).with_context(|| format!("the answer to http://{server}{path}"))
}

/// Announces by HTTP. The event is left out when it is [`bep15::Event::None`]'s number, `numwant`
/// when it is -1.
///
/// # Errors
/// When the answer is none, a failure or not as BEPs 3, 7 and 23 have it.
pub fn http_announce(namespace: &Namespace, server: SocketAddr, announce: &Announce) -> Result<Announced> {
    let mut path = format!(
        "/announce?info_hash={}&peer_id={}&port={}&uploaded=512&downloaded=4096&left={}&compact=1&key={:08X}",
        escaped(&announce.info_hash),
        escaped(&announce.peer_id),
        announce.port,
        announce.left,
        u32::from_be_bytes(announce.key),
    );
    match announce.event {
        0 => {}
        1 => path.push_str("&event=completed"),
        2 => path.push_str("&event=started"),
        3 => path.push_str("&event=stopped"),
        other => bail!("no HTTP event has the number {other}"),
    }
    if announce.num_want >= 0 {
        write!(path, "&numwant={}", announce.num_want)?;
    }
    let response = http_get(Some(namespace), server, &path)?;
    ensure!(response.status == 200, "HTTP status {}", response.status);
    let reply = Value::parse(&response.body)?;
    if let Ok(reason) = reply.bytes("failure reason") {
        bail!("the tracker says: {}", String::from_utf8_lossy(reason));
    }
    let mut peers = compact_peers(reply.bytes("peers")?, true)?;
    if reply.get("peers6").is_some() {
        peers.extend(compact_peers(reply.bytes("peers6")?, false)?);
    }
    Ok(Announced {
        interval: reply.integer("interval")?,
        leechers: reply.integer("incomplete")?.try_into()?,
        seeders: reply.integer("complete")?.try_into()?,
        peers,
    })
}

/// Asks for the counts of torrents by HTTP.
///
/// # Errors
/// When the answer is none, a failure or not as BEP 48 has it.
pub fn http_scrape(namespace: &Namespace, server: SocketAddr, torrents: &[InfoHash]) -> Result<Vec<Counts>> {
    let query: Vec<String> = torrents.iter().map(|torrent| format!("info_hash={}", escaped(torrent))).collect();
    let response = http_get(Some(namespace), server, &format!("/scrape?{}", query.join("&")))?;
    ensure!(response.status == 200, "HTTP status {}", response.status);
    let reply = Value::parse(&response.body)?;
    let Some(Value::Dictionary(files)) = reply.get("files") else { bail!("a scrape without files: {reply:?}") };
    ensure!(files.len() <= torrents.len(), "{} torrents instead of at most {}", files.len(), torrents.len());
    let counts = |torrent: &InfoHash| match files.get(torrent.as_slice()) {
        None => Ok(Counts::default()),
        Some(file) => Ok(Counts {
            seeders: file.integer("complete")?.try_into()?,
            completed: file.integer("downloaded")?.try_into()?,
            leechers: file.integer("incomplete")?.try_into()?,
        }),
    };
    torrents.iter().map(counts).collect()
}

/// Bytes as they stand in a URL.
fn escaped(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() {
            text.push(char::from(*byte));
        } else {
            write!(text, "%{byte:02X}").expect("writing to a string");
        }
        text
    })
}
