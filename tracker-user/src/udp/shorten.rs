//! Replies that are too long for the path to their client.
//!
//! No reply is sent in fragments: many networks lose them. The kernel refuses a reply that is
//! longer than the MTU of the interface, of the route or of the path as routers have reported it
//! (`EMSGSIZE`). Such a reply is cut to as many peers, or torrents of a scrape, as fit, and sent
//! again.

use crate::store::Handle;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};
use tracker_common::{
    bep15::wire::{ACTION_ANNOUNCE, ACTION_SCRAPE},
    outcome::{Counter, Event},
    platform::Platform as _,
};

/// Destinations whose MTU is remembered.
const DESTINATIONS: usize = 1024;

/// How long it is remembered.
const MEMORY: Duration = Duration::from_secs(60);

/// What every path carries, and before that, over IPv4, what nearly every path carries (RFC 791,
/// RFC 8200), in bytes.
const MINIMA_V4: [usize; 2] = [576, 68];
const MINIMUM_V6: usize = 1280;

/// Cuts replies and remembers, for one thread, how long they may be.
#[derive(Default)]
pub struct Shortener {
    known: HashMap<IpAddr, (usize, Instant)>,
}

/// A reply that the kernel has refused as too long.
#[derive(Clone, Copy)]
pub struct Unsent<'a> {
    /// The whole reply.
    pub reply: &'a [u8],
    /// The client that it is for.
    pub client: SocketAddr,
    /// The address that it leaves from, if that is known.
    pub local: Option<IpAddr>,
}

/// Whether the kernel refused a packet because it is too long.
pub fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

impl Shortener {
    /// Sends the beginning of a reply that was refused as too long: as much of it as fits the path
    /// to the client. `send` sends what it is given.
    ///
    /// # Errors
    /// Those of `send`; `EMSGSIZE` if nothing that makes sense is short enough.
    pub fn send(
        &mut self,
        handle: &Handle,
        unsent: Unsent<'_>,
        mut send: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let Unsent { reply, client, local } = unsent;
        let ipv4 = client.is_ipv4();
        let headers = if ipv4 { 20 + 8 } else { 40 + 8 };
        let remembered = self.remembered(client.ip());
        let minima = if ipv4 { &MINIMA_V4[..] } else { &[MINIMUM_V6] };
        let asked = std::iter::once_with(|| path_mtu(local, client).ok()).flatten();
        let mut length = reply.len();
        // Counted before it is sent: a client that has the reply finds it counted.
        handle.event(Event::RepliesShortened);
        for mtu in remembered.into_iter().chain(asked).chain(minima.iter().copied()) {
            let Some(shorter) = cut(reply, mtu.saturating_sub(headers), ipv4).filter(|shorter| *shorter < length)
            else {
                continue;
            };
            count_less(handle, reply, length - shorter, ipv4);
            length = shorter;
            match send(&reply[..length]) {
                Ok(()) => {
                    self.remember(client.ip(), mtu);
                    return Ok(());
                }
                Err(error) if is_too_long(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EMSGSIZE))
    }

    fn remembered(&self, client: IpAddr) -> Option<usize> {
        self.known.get(&client).filter(|(_, since)| since.elapsed() < MEMORY).map(|(mtu, _)| *mtu)
    }

    fn remember(&mut self, client: IpAddr, mtu: usize) {
        if self.known.get(&client).is_some_and(|(known, since)| *known == mtu && since.elapsed() < MEMORY) {
            return;
        }
        if self.known.len() >= DESTINATIONS {
            self.known.retain(|_, (_, since)| since.elapsed() < MEMORY);
        }
        if self.known.len() >= DESTINATIONS {
            self.known.clear();
        }
        self.known.insert(client, (mtu, Instant::now()));
    }
}

/// Bytes in front of the list of a reply, and of each of its elements.
fn layout(reply: &[u8], ipv4: bool) -> Option<(usize, usize)> {
    match u32::from_be_bytes(*reply.first_chunk()?) {
        ACTION_ANNOUNCE => Some((20, if ipv4 { 6 } else { 18 })),
        ACTION_SCRAPE => Some((8, 12)),
        _ => None,
    }
}

/// The length of the longest beginning of a reply that is one itself and has at most `room` bytes.
fn cut(reply: &[u8], room: usize, ipv4: bool) -> Option<usize> {
    let (head, element) = layout(reply, ipv4)?;
    let room = room.min(reply.len());
    Some(head + room.checked_sub(head)? / element * element)
}

/// Corrects the counters of a reply that is now shorter by `bytes`.
fn count_less(handle: &Handle, reply: &[u8], bytes: usize, ipv4: bool) {
    // Counters are added to modulo 2^64.
    let less = |counter, by: usize| handle.count(Counter::Event(counter), (by as u64).wrapping_neg());
    less(Event::ReplyBytes, bytes);
    if reply.starts_with(&ACTION_ANNOUNCE.to_be_bytes()) {
        less(Event::PeersReturned, bytes / if ipv4 { 6 } else { 18 });
    }
}

/// The path MTU from `local` to `client` in bytes, IP header included, as far as the kernel knows.
/// It is looked up for a new socket, which sends nothing.
fn path_mtu(local: Option<IpAddr>, client: SocketAddr) -> io::Result<usize> {
    let socket = Socket::new(Domain::for_address(client), Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(local) = local {
        // The route may depend on it. If it is link-local, the client's address has the interface.
        let scope = if let SocketAddr::V6(client) = client { client.scope_id() } else { 0 };
        let mut local = SocketAddr::new(local, 0);
        if let SocketAddr::V6(local) = &mut local {
            local.set_scope_id(scope);
        }
        socket.bind(&local.into())?;
    }
    socket.connect(&client.into())?;
    let mtu = if client.is_ipv4() { sockopt::ip_mtu(&socket)? } else { sockopt::ipv6_mtu(&socket)? };
    Ok(mtu as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        CounterSet, Store,
        sizes::{Capacity, Sizes},
    };
    use std::sync::Arc;

    fn announce_reply(peers: usize, ipv4: bool) -> Vec<u8> {
        let mut reply = vec![0, 0, 0, 1];
        reply.resize(20 + peers * if ipv4 { 6 } else { 18 }, 0xab);
        reply
    }

    fn scrape_reply(torrents: usize) -> Vec<u8> {
        let mut reply = vec![0, 0, 0, 2];
        reply.resize(8 + torrents * 12, 0xab);
        reply
    }

    #[test]
    fn replies_are_cut_to_whole_elements() {
        for (reply, room, ipv4, expected) in [
            (announce_reply(200, true), 1472, true, Some(1220)),
            (announce_reply(200, true), 972, true, Some(20 + 158 * 6)),
            (announce_reply(200, true), 20 + 5, true, Some(20)),
            (announce_reply(200, true), 19, true, None),
            (announce_reply(0, true), 1000, true, Some(20)),
            (announce_reply(74, false), 1232, false, Some(20 + 67 * 18)),
            (announce_reply(74, false), 20 + 17, false, Some(20)),
            (scrape_reply(74), 548, true, Some(8 + 45 * 12)),
            (scrape_reply(74), 548, false, Some(8 + 45 * 12)),
            (scrape_reply(74), 7, true, None),
            // Connect and error replies are what they are.
            (vec![0; 16], 10, true, None),
            (vec![0, 0, 0, 3, 0, 0, 0, 0, 65, 65], 9, true, None),
            (Vec::new(), 100, true, None),
        ] {
            assert_eq!(cut(&reply, room, ipv4), expected, "{} bytes into {room}", reply.len());
        }
    }

    /// What is sent where packets of more than `limit` bytes are refused, and how often that is
    /// tried.
    fn sent(shortener: &mut Shortener, handle: &Handle, reply: &[u8], limit: usize) -> (Option<usize>, u32) {
        let mut tries = 0;
        let mut length = None;
        let client = "127.0.0.1:1".parse().expect("an address");
        let result = shortener.send(handle, Unsent { reply, client, local: None }, |part| {
            tries += 1;
            if part.len() + 28 > limit {
                return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
            }
            length = Some(part.len());
            Ok(())
        });
        assert_eq!(result.is_ok(), length.is_some());
        (length, tries)
    }

    #[test]
    fn what_fits_every_way_is_tried_when_the_kernel_knows_no_better() {
        let sizes = Sizes::new(&Capacity { torrents: 1, peers_v4: 1, peers_v6: 1 }).expect("small");
        let store = Arc::new(Store::anonymous(&sizes).expect("small"));
        let handle = store.handle(CounterSet::Udp);
        let mut shortener = Shortener::default();
        let reply = announce_reply(200, true);
        // The loopback interface says 65536 bytes, which is no less than was refused.
        assert_eq!(sent(&mut shortener, &handle, &reply, 600), (Some(20 + 88 * 6), 1));
        assert_eq!(sent(&mut shortener, &handle, &reply, 570), (Some(20 + 3 * 6), 2));
        // Remembered.
        assert_eq!(sent(&mut shortener, &handle, &reply, 570), (Some(20 + 3 * 6), 1));
        let counted = store.counters()[0].1;
        let total = |event| counted[Counter::Event(event).index()].cast_signed();
        assert_eq!(total(Event::RepliesShortened), 3);
        assert_eq!(total(Event::PeersReturned), -(112 + 197 + 197));
        assert_eq!(total(Event::ReplyBytes), -6 * (112 + 197 + 197));
        // Nothing fits: the kernel is not asked for ever.
        assert_eq!(sent(&mut shortener, &handle, &reply, 40), (None, 1));
    }

    #[test]
    fn memory_of_destinations_is_bounded() {
        let mut shortener = Shortener::default();
        for number in 0..3 * DESTINATIONS as u32 {
            shortener.remember(IpAddr::V4(number.into()), 576);
            assert!(shortener.known.len() <= DESTINATIONS);
        }
        assert_eq!(shortener.remembered(IpAddr::V4((3 * DESTINATIONS as u32 - 1).into())), Some(576));
    }
}
