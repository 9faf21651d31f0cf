//! What happens to a tracker over UDP, one thing after the other, and how that is written in bytes.
//!
//! Requests are those of the tests' own encoder ([`tracker_tests::bep15`]), with damage done to
//! some.

use crate::input::Input;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tracker_tests::bep15::{self, Announce, InfoHash};

/// Values of `left` that somebody may have taken for something else.
pub const LEFT: [u64; 8] = [0, 1, 1 << 33, u64::MAX, 1 << 63, i64::MAX as u64, 1 << 32, 1 << 56];
/// Numbers of events: those of BEP 15, others, and some in the wrong byte order.
pub const EVENTS: [u32; 8] = [0, 1, 2, 3, 4, u32::MAX, 1 << 24, 3 << 24];
/// Values of `num_want`: around the limits, and beyond all.
pub const WANTED: [i32; 16] = [-1, 0, 1, 2, 7, 49, 50, 51, 67, 68, 100, 199, 200, 201, i32::MAX, i32::MIN];
/// Ports. An address has three that count, as a tracker may bound what one address is.
pub const PORTS: [u16; 4] = [6881, 65535, 256, 0];

/// Torrents.
pub const TORRENTS: u8 = 8;
/// Clients of one kind.
pub const CLIENTS: u16 = 512;

/// Where a client is: its addresses are 0 to 3 for public, private, of a link, of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Client {
    /// IPv6 and not IPv4.
    pub ipv6: bool,
    /// An IPv4 client that is seen by an IPv6 socket.
    pub mapped: bool,
    /// How near it is.
    pub nearness: u8,
    /// Which of them.
    pub number: u16,
}

impl Client {
    fn read(input: &mut Input<'_>) -> Self {
        let word = input.word();
        Self {
            ipv6: word & 1 << 15 != 0,
            mapped: word & 1 << 14 != 0,
            // Most are public.
            nearness: if word >> 12 & 3 == 0 { (word >> 10 & 3) as u8 } else { 0 },
            number: word % CLIENTS,
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        let near = if self.nearness == 0 { 1 << 12 } else { u16::from(self.nearness) << 10 };
        let word = u16::from(self.ipv6) << 15 | u16::from(self.mapped) << 14 | near | (self.number % CLIENTS);
        out.extend(word.to_le_bytes());
    }

    /// Its address. Of IPv6 addresses pairs share a /64, and others the lower half.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        let [high, low] = self.number.to_be_bytes();
        if self.ipv6 {
            let (network, host) = (self.number / 2, 1 + self.number % 2);
            return match self.nearness {
                0 => Ipv6Addr::new(0x2001, 0xdb8, 7, network, 0, 0, 0, host),
                1 => Ipv6Addr::new(0xfd00, 0, 0, network, 0, 0, 0, host),
                2 => Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, network, host),
                _ => Ipv6Addr::LOCALHOST,
            }
            .into();
        }
        match self.nearness {
            0 => Ipv4Addr::new(198, 51, high, low),
            1 => [Ipv4Addr::new(10, 9, high, low), Ipv4Addr::new(192, 168, high, low)][usize::from(low & 1)],
            2 => Ipv4Addr::new(169, 254, high, low),
            _ => Ipv4Addr::new(127, 0, high, low),
        }
        .into()
    }

    /// Where its datagrams come from.
    #[must_use]
    pub fn source(self) -> SocketAddr {
        let ip = match self.ip() {
            IpAddr::V4(ip) if self.mapped => ip.to_ipv6_mapped().into(),
            ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
        };
        SocketAddr::new(ip, 40_000 + self.number)
    }
}

/// Which connection id a request carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Id {
    /// One that is valid.
    Right,
    /// One that was valid, with this bit changed.
    Changed(u8),
    /// One that belongs to another client.
    OfAnother(Client),
    /// The first that this client ever got.
    Oldest,
    /// None.
    Zero,
}

impl Id {
    fn read(input: &mut Input<'_>) -> Self {
        match input.byte() {
            byte @ 200..=247 => Self::Changed(byte % 64),
            248..=250 => Self::OfAnother(Client::read(input)),
            251..=254 => Self::Oldest,
            255 => Self::Zero,
            _ => Self::Right,
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        match self {
            Self::Right => out.push(0),
            // 192 is a multiple of 64, and 200 to 247 are the bits 8 to 55.
            Self::Changed(bit) => out.push(192 + bit.clamp(8, 55)),
            Self::OfAnother(client) => {
                out.push(248);
                client.write(out);
            }
            Self::Oldest => out.push(251),
            Self::Zero => out.push(255),
        }
    }
}

/// What is done to a request before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// Nothing.
    None,
    /// So many bytes are missing at its end.
    Cut(u8),
    /// These follow.
    Longer(Vec<u8>),
    /// So many zeros follow, times eight.
    Padded(u8),
    /// One byte is changed.
    Changed {
        /// Which.
        at: u8,
        /// By which bits.
        by: u8,
    },
}

impl Damage {
    fn read(input: &mut Input<'_>) -> Self {
        match input.byte() {
            200..=211 => Self::Cut(input.byte()),
            212..=227 => {
                let length = input.byte();
                Self::Longer(input.bytes(length.into()).to_vec())
            }
            228..=235 => Self::Padded(input.byte()),
            236..=255 => Self::Changed { at: input.byte(), by: input.byte() },
            _ => Self::None,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.push(0),
            Self::Cut(by) => out.extend([200, *by]),
            Self::Longer(bytes) => {
                let bytes = &bytes[..bytes.len().min(255)];
                out.extend([212, bytes.len() as u8]);
                out.extend(bytes);
            }
            Self::Padded(by) => out.extend([228, *by]),
            Self::Changed { at, by } => out.extend([236, *at, *by]),
        }
    }

    fn apply(&self, payload: &mut Vec<u8>) {
        match self {
            Self::None => {}
            Self::Cut(by) => payload.truncate(payload.len().saturating_sub(usize::from(*by))),
            Self::Longer(bytes) => payload.extend(bytes),
            Self::Padded(by) => payload.extend(vec![0; usize::from(*by) * 8]),
            Self::Changed { at, by } => {
                if let Some(byte) = payload.get_mut(usize::from(*at)) {
                    *byte ^= by;
                }
            }
        }
    }
}

/// What a peer says; the fields choose from the tables above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Torrent.
    pub torrent: u8,
    /// Of [`PORTS`].
    pub port: u8,
    /// Of [`LEFT`].
    pub left: u8,
    /// Of [`EVENTS`].
    pub event: u8,
    /// Of [`WANTED`].
    pub wanted: u8,
}

impl Peer {
    fn read(input: &mut Input<'_>) -> Self {
        Self {
            torrent: input.byte(),
            port: input.byte(),
            left: input.byte(),
            event: input.byte(),
            wanted: input.byte(),
        }
    }

    fn write(self, out: &mut Vec<u8>) {
        out.extend([self.torrent, self.port, self.left, self.event, self.wanted]);
    }

    fn request(self, connection_id: u64) -> Vec<u8> {
        let pick = |number: u8, length: usize| usize::from(number) % length;
        Announce {
            connection_id,
            transaction: 0xa000_0000 | u32::from(self.torrent),
            left: LEFT[pick(self.left, LEFT.len())],
            event: EVENTS[pick(self.event, EVENTS.len())],
            num_want: WANTED[pick(self.wanted, WANTED.len())],
            ..Announce::new(torrent(self.torrent), PORTS[pick(self.port, PORTS.len())])
        }
        .bytes()
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// BEP 15 connect.
    Connect,
    /// BEP 15 announce.
    Announce(Peer),
    /// BEP 15 scrape of so many torrents, from this one on.
    Scrape {
        /// The first.
        first: u8,
        /// How many.
        count: u8,
    },
    /// Anything.
    Raw(Vec<u8>),
}

/// One thing that happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A datagram arrives.
    Datagram {
        /// From whom.
        client: Client,
        /// With this id, unless it is a connect or anything.
        id: Id,
        /// What it was.
        request: Request,
        /// What has become of it.
        damage: Damage,
    },
    /// So many clients in a row say the same.
    Burst {
        /// The first of them.
        client: Client,
        /// How many.
        count: u8,
        /// What they say.
        peer: Peer,
    },
    /// So many seconds pass.
    Seconds(u16),
    /// So many minutes pass.
    Minutes(u8),
    /// The sweep goes through the whole store.
    Sweep,
}

impl Operation {
    pub(crate) fn read(input: &mut Input<'_>) -> Self {
        match input.byte() {
            0..=31 => Self::datagram(input, |_| Request::Connect),
            32..=143 => Self::datagram(input, |input| Request::Announce(Peer::read(input))),
            144..=183 => Self::datagram(input, |input| Request::Scrape { first: input.byte(), count: input.byte() }),
            184..=199 => Self::datagram(input, |input| {
                let length = input.byte();
                Request::Raw(input.bytes(length.into()).to_vec())
            }),
            200..=231 => Self::Burst { client: Client::read(input), count: input.byte(), peer: Peer::read(input) },
            232..=239 => Self::Seconds(input.word()),
            240..=247 => Self::Minutes(input.byte()),
            248..=255 => Self::Sweep,
        }
    }

    fn datagram<'a>(input: &mut Input<'a>, request: impl FnOnce(&mut Input<'a>) -> Request) -> Self {
        let (client, id) = (Client::read(input), Id::read(input));
        Self::Datagram { client, id, request: request(input), damage: Damage::read(input) }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Datagram { client, id, request, damage } => {
                out.push(match request {
                    Request::Connect => 0,
                    Request::Announce(_) => 32,
                    Request::Scrape { .. } => 144,
                    Request::Raw(_) => 184,
                });
                client.write(out);
                id.write(out);
                match request {
                    Request::Connect => {}
                    Request::Announce(peer) => peer.write(out),
                    Request::Scrape { first, count } => out.extend([*first, *count]),
                    Request::Raw(bytes) => {
                        let bytes = &bytes[..bytes.len().min(255)];
                        out.push(bytes.len() as u8);
                        out.extend(bytes);
                    }
                }
                damage.write(out);
            }
            Self::Burst { client, count, peer } => {
                out.push(200);
                client.write(out);
                out.push(*count);
                peer.write(out);
            }
            Self::Seconds(seconds) => {
                out.push(232);
                out.extend(seconds.to_le_bytes());
            }
            Self::Minutes(minutes) => out.extend([240, *minutes]),
            Self::Sweep => out.push(248),
        }
    }
}

/// Reads what happens, as far as there is anything.
#[must_use]
pub fn read(mut input: Input<'_>) -> Vec<Operation> {
    let mut operations = Vec::new();
    while !input.is_empty() {
        operations.push(Operation::read(&mut input));
    }
    operations
}

/// Writes what happens.
#[must_use]
pub fn write(operations: &[Operation]) -> Vec<u8> {
    let mut out = Vec::new();
    operations.iter().for_each(|operation| operation.write(&mut out));
    out
}

/// A torrent.
#[must_use]
pub fn torrent(number: u8) -> InfoHash {
    let mut info_hash = [0xa5; 20];
    info_hash[0] = (number % TORRENTS).wrapping_mul(0x9d);
    info_hash[19] = number % TORRENTS;
    info_hash
}

/// The bytes of a request that carries this connection id.
#[must_use]
pub fn payload(request: &Request, connection_id: u64, damage: &Damage) -> Vec<u8> {
    let mut payload = match request {
        Request::Connect => bep15::connect(0xc000_0001),
        Request::Announce(peer) => peer.request(connection_id),
        Request::Scrape { first, count } => {
            let torrents: Vec<_> = (0..*count).map(|number| torrent(first.wrapping_add(number))).collect();
            bep15::scrape(connection_id, 0x5c00_0001, &torrents)
        }
        Request::Raw(bytes) => bytes.clone(),
    };
    damage.apply(&mut payload);
    payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let client = |ipv6, nearness, number| Client { ipv6, mapped: !ipv6 && number % 2 == 1, nearness, number };
        let peer = Peer { torrent: 1, port: 2, left: 3, event: 4, wanted: 5 };
        let mut all = vec![Operation::Seconds(300), Operation::Minutes(45), Operation::Sweep];
        for (number, nearness) in (0..8).zip([0, 1, 2, 3].into_iter().cycle()) {
            all.push(Operation::Burst { client: client(number % 2 == 0, nearness, number), count: 9, peer });
        }
        let ids =
            [Id::Right, Id::Changed(8), Id::Changed(55), Id::OfAnother(client(true, 2, 500)), Id::Oldest, Id::Zero];
        let damages = [
            Damage::None,
            Damage::Cut(3),
            Damage::Longer(vec![2, 5, 1]),
            Damage::Padded(7),
            Damage::Changed { at: 1, by: 128 },
        ];
        let requests = [
            Request::Connect,
            Request::Announce(peer),
            Request::Scrape { first: 3, count: 74 },
            Request::Raw(vec![9; 255]),
        ];
        for id in ids {
            for damage in &damages {
                for request in &requests {
                    let (request, damage) = (request.clone(), damage.clone());
                    all.push(Operation::Datagram { client: client(false, 0, 511), id, request, damage });
                }
            }
        }
        assert_eq!(read(Input(&write(&all))), all);
    }
}
