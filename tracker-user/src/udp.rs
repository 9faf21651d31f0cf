//! The daemon's UDP sockets: they answer what the XDP program passes on or cannot see, with the same code
//! ([`tracker_common::datagram`]), and everything when there is no XDP program.
//!
//! Every listening address has one socket and one thread per core (`SO_REUSEPORT`: the kernel spreads the clients over them).
//! A thread receives, answers and sends in batches, and shares nothing with others but the store: through io_uring where the
//! system offers it and the socket has one address (module `ring`), else in batches of [`BATCH`] packets with two system calls
//! each. Replies leave from the address that was asked, also on a wildcard socket (`IP_PKTINFO`).

mod ring;

use crate::{
    listen,
    memory::{Handle, Path, Store},
    shutdown::Shutdown,
};
use anyhow::Context as _;
use ring::Ring;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    io::{self, ErrorKind},
    mem,
    net::{Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    ptr, slice,
    sync::Arc,
    thread,
    time::Duration,
};
use tracker_common::datagram::{Source, respond};

/// Packets per system call.
pub const BATCH: usize = 64;

/// Room for a request. The longest that is read to its end, a scrape of 74 torrents, has 1496 bytes; what follows is not
/// looked at.
const REQUEST_BYTES: usize = 2048;

/// Room for one control message with the local address of a packet.
const CONTROL_BYTES: usize = 64;

/// What a burst may pile up while a thread is not running. The kernel grants what `net.core.rmem_max` allows, unless the
/// process may do as it likes.
const RECEIVE_BUFFER: usize = 8 << 20;

/// How long a thread waits for packets, and so for the end.
const PATIENCE: Duration = Duration::from_millis(300);

/// A UDP listening address with its sockets.
pub struct Listener {
    /// The address and port.
    pub address: SocketAddr,
    sockets: Vec<UdpSocket>,
}

/// Binds `address` with `threads` sockets.
///
/// # Errors
/// When the address is in use, not of this host, or not allowed.
pub fn bind(address: SocketAddr, threads: usize) -> anyhow::Result<Listener> {
    // With SO_REUSEPORT a second tracker of the same user would bind without an error and take half of the packets; a socket
    // without it finds out. Where the system is to choose the port, this also chooses one for all sockets.
    let probe = socket(address, false).map_err(|error| listen::explain(error, "UDP", address))?;
    let address = probe.local_addr()?;
    drop(probe);
    let threads = threads.max(1);
    let sockets = (0..threads)
        // A socket that is alone need not be chosen among others for every packet.
        .map(|_| socket(address, threads > 1))
        .collect::<io::Result<_>>()
        .map_err(|error| listen::explain(error, "UDP", address))?;
    Ok(Listener { address, sockets })
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Each family has sockets of its own; an IPv4 client never shows up as ::ffff:a.b.c.d.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(shared)?;
    if address.ip().is_unspecified() {
        // Otherwise only one address can have been asked, and no packet need say which.
        let (level, option) = match address {
            SocketAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_PKTINFO),
            SocketAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO),
        };
        set(&socket, level, option, 1)?;
    }
    if address.is_ipv6() {
        // A flow label is computed anew for every packet (SipHash); the XDP program's replies have none either.
        set(&socket, libc::IPPROTO_IPV6, libc::IPV6_AUTOFLOWLABEL, 0)?;
    } else {
        // "Don't fragment", as in the XDP program's replies; the longest has 1248 bytes. A packet that nobody may fragment needs
        // no identification number, and drawing one is among the dearest things that the kernel does for a small packet.
        set(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)?;
    }
    // Without the right to exceed the system's limit, ask for as much as it allows.
    if set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER as libc::c_int).is_err() {
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    }
    socket.set_read_timeout(Some(PATIENCE))?;
    // A send waits for room in the interface's queue, but not for ever.
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

fn set(socket: &Socket, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Listener {
    /// Answers on all sockets until shutdown, each in a thread of its own.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn serve(self, store: &Arc<Store>, shutdown: &Shutdown) -> anyhow::Result<Vec<thread::JoinHandle<()>>> {
        let address = self.address;
        let start = |(number, socket): (usize, UdpSocket)| {
            let handle = store.handle(Path::Udp);
            let shutdown = shutdown.clone();
            // The kernel shows 15 bytes of a thread's name.
            let name = format!("udp{}-{number}", if address.is_ipv4() { 4 } else { 6 });
            let run = move || {
                let by_ring = if address.ip().is_unspecified() { None } else { ring(&socket) };
                let result = match by_ring {
                    Some(ring) => ring.serve(&handle, &shutdown),
                    None => serve(&socket, &handle, &shutdown),
                };
                if let Err(error) = result {
                    tracing::error!("UDP socket {address} failed and is closed: {error}");
                }
            };
            thread::Builder::new().name(name).spawn(run)
        };
        self.sockets
            .into_iter()
            .enumerate()
            .map(start)
            .collect::<io::Result<_>>()
            .with_context(|| format!("cannot start the threads of UDP {address}"))
    }
}

/// An io_uring for a socket of one address, if the system allows it; containers often do not.
fn ring(socket: &UdpSocket) -> Option<Ring<'_>> {
    Ring::new(socket)
        .inspect_err(|error| tracing::info!("UDP by recvmmsg and sendmmsg, which is a little slower: {error:#}"))
        .ok()
}

fn serve(socket: &UdpSocket, handle: &Handle, shutdown: &Shutdown) -> io::Result<()> {
    let mut batch = Batch::new();
    let mut replies = Replies::default();
    while !shutdown.has_begun() {
        let received = match batch.receive(socket) {
            Ok(received) => received,
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::debug!("receiving UDP packets: {error}");
                // Whatever it is (memory is short, the network is down), asking at once again would not help.
                thread::sleep(Duration::from_millis(1));
                continue;
            }
        };
        replies.clear();
        for packet in 0..received {
            let Some(source) = batch.source(packet) else { continue };
            if let Ok(reply) = respond(handle, batch.request(packet), source) {
                replies.add(handle, packet, reply.start, reply.length);
            }
        }
        batch.send(socket, &replies);
    }
    Ok(())
}

/// Reads a socket address as the kernel writes it. Port and address are in network byte order.
fn source(name: &[u8]) -> Option<Source> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(*name.get(mem::offset_of!(libc::sockaddr_in, sin_port)..)?.first_chunk()?);
    match libc::c_int::from(family) {
        libc::AF_INET => {
            let address = name.get(mem::offset_of!(libc::sockaddr_in, sin_addr)..)?;
            Some(Source::V4(*address.first_chunk()?, port))
        }
        libc::AF_INET6 => {
            let address = name.get(mem::offset_of!(libc::sockaddr_in6, sin6_addr)..)?;
            Some(Source::V6(*address.first_chunk()?, port))
        }
        _ => None,
    }
}

/// Errors that no later call can do without.
fn is_fatal(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK | libc::EFAULT | libc::EINVAL))
}

/// Replies to a batch, one after the other in one piece of memory.
#[derive(Default)]
struct Replies {
    bytes: Vec<u8>,
    /// Number of the packet answered, and where its reply begins; it ends where the next one begins.
    starts: Vec<(usize, usize)>,
}

impl Replies {
    fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
    }

    fn add(&mut self, handle: &Handle, packet: usize, start: u32, length: u32) {
        let begin = self.bytes.len();
        if handle.copy_out(start, length, &mut self.bytes) {
            self.starts.push((packet, begin));
        }
    }

    /// (packet, reply) in the order they were added.
    fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let ends = self.starts.iter().skip(1).map(|(_, begin)| *begin).chain([self.bytes.len()]);
        self.starts.iter().zip(ends).map(|(&(packet, begin), end)| (packet, &self.bytes[begin..end]))
    }
}

/// Control message space; aligned as `cmsghdr` has to be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// The memory that packets of one batch are received into, and sent from: address and control data of a request are those of
/// its reply.
struct Batch {
    requests: Box<[[u8; REQUEST_BYTES]; BATCH]>,
    lengths: [usize; BATCH],
    addresses: Box<[libc::sockaddr_storage; BATCH]>,
    address_lengths: [libc::socklen_t; BATCH],
    controls: Box<[Control; BATCH]>,
    control_lengths: [usize; BATCH],
}

impl Batch {
    fn new() -> Self {
        Self {
            requests: boxed_zeros(),
            lengths: [0; BATCH],
            addresses: boxed_zeros(),
            address_lengths: [0; BATCH],
            controls: boxed_zeros(),
            control_lengths: [0; BATCH],
        }
    }

    /// Waits for a packet and takes along what is there then. Returns how many.
    fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        // SAFETY: `iovec` and `mmsghdr` are plain data for which zeros are valid.
        let (mut vectors, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { mem::zeroed() };
        for packet in 0..BATCH {
            vectors[packet] =
                libc::iovec { iov_base: self.requests[packet].as_mut_ptr().cast(), iov_len: REQUEST_BYTES };
            let header = &mut headers[packet].msg_hdr;
            header.msg_name = (&raw mut self.addresses[packet]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[packet];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[packet]).cast();
            header.msg_controllen = CONTROL_BYTES as _;
        }
        // SAFETY: every header points to memory of this batch, of the lengths given, that nothing else uses meanwhile.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        if received < 0 {
            return Err(io::Error::last_os_error());
        }
        let received = (received as usize).min(BATCH);
        for (packet, header) in headers[..received].iter().enumerate() {
            self.lengths[packet] = (header.msg_len as usize).min(REQUEST_BYTES);
            self.address_lengths[packet] = header.msg_hdr.msg_namelen;
            #[expect(clippy::unnecessary_cast, reason = "its type depends on the C library")]
            let control_length = header.msg_hdr.msg_controllen as usize;
            self.control_lengths[packet] = control_length.min(CONTROL_BYTES);
            self.route_freely(packet);
        }
        Ok(received)
    }

    fn request(&self, packet: usize) -> &[u8] {
        &self.requests[packet][..self.lengths[packet]]
    }

    fn source(&self, packet: usize) -> Option<Source> {
        let name = (&raw const self.addresses[packet]).cast();
        // SAFETY: an address is plain bytes, of which the kernel has written some, and the others are zero.
        source(unsafe { slice::from_raw_parts(name, size_of::<libc::sockaddr_storage>()) })
    }

    /// Makes the control message of a packet, which says by which address and interface it came, fit to be sent with the
    /// reply: from that address, but by whatever interface the routes say.
    fn route_freely(&mut self, packet: usize) {
        // The kernel wrote one message, as asked for when the socket was made. Its header is as long as `CMSG_LEN(0)`.
        // SAFETY: no memory is touched.
        let data = unsafe { libc::CMSG_LEN(0) } as usize;
        let control = &mut self.controls[packet].0[..self.control_lengths[packet]];
        let Some(header) = control.get(..size_of::<libc::cmsghdr>()) else {
            self.control_lengths[packet] = 0;
            return;
        };
        // SAFETY: there are that many bytes, as just checked, and all values of them are valid.
        let header = unsafe { header.as_ptr().cast::<libc::cmsghdr>().read_unaligned() };
        let index = match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => data + mem::offset_of!(libc::in_pktinfo, ipi_ifindex),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let address = data + mem::offset_of!(libc::in6_pktinfo, ipi6_addr);
                let local: Option<[u8; 16]> = control.get(address..address + 16).and_then(|b| b.try_into().ok());
                if local.is_some_and(|local| Ipv6Addr::from(local).is_unicast_link_local()) {
                    // Such an address means nothing without its interface.
                    return;
                }
                data + mem::offset_of!(libc::in6_pktinfo, ipi6_ifindex)
            }
            _ => return,
        };
        if let Some(index) = control.get_mut(index..index + 4) {
            index.fill(0);
        }
    }

    /// Sends the replies. One that cannot be sent is left out; the others still go.
    fn send(&mut self, socket: &UdpSocket, replies: &Replies) {
        // SAFETY: as in `receive`.
        let (mut vectors, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { mem::zeroed() };
        let mut count = 0;
        for (packet, reply) in replies.iter().take(BATCH) {
            vectors[count] = libc::iovec { iov_base: reply.as_ptr().cast_mut().cast(), iov_len: reply.len() };
            let header = &mut headers[count].msg_hdr;
            header.msg_name = (&raw mut self.addresses[packet]).cast();
            header.msg_namelen = self.address_lengths[packet];
            header.msg_iov = &raw mut vectors[count];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut self.controls[packet]).cast();
            header.msg_controllen = self.control_lengths[packet] as _;
            count += 1;
        }
        let mut rest = &mut headers[..count];
        while !rest.is_empty() {
            // SAFETY: every header points to memory of this batch or of `replies`, which the kernel only reads.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, 0) };
            let done = if let Ok(sent) = usize::try_from(sent) {
                sent
            } else {
                let error = io::Error::last_os_error();
                if error.kind() == ErrorKind::Interrupted {
                    continue;
                }
                // The first one failed: no route, a firewall, a full queue, an address that is gone. UDP clients ask again.
                tracing::debug!("a UDP reply could not be sent: {error}");
                1
            };
            rest = rest.get_mut(done.max(1)..).unwrap_or_default();
        }
    }
}

/// Types for which all zero bytes are valid.
///
/// # Safety
/// As said.
unsafe trait Zeroable {}

// SAFETY: bytes.
unsafe impl Zeroable for [[u8; REQUEST_BYTES]; BATCH] {}
// SAFETY: an address of family 0 and bytes.
unsafe impl Zeroable for [libc::sockaddr_storage; BATCH] {}
// SAFETY: bytes.
unsafe impl Zeroable for [Control; BATCH] {}

fn boxed_zeros<T: Zeroable>() -> Box<T> {
    // SAFETY: zeros are valid for this type.
    unsafe { Box::<T>::new_zeroed().assume_init() }
}

/// How large the receive buffers of `listener` have become, in bytes.
#[must_use]
pub fn receive_buffer(listener: &Listener) -> Option<usize> {
    let socket = listener.sockets.first()?;
    // The kernel says twice what it was asked for: bookkeeping included.
    SockRef::from(socket).recv_buffer_size().ok().map(|size| size / 2)
}

/// The buffer size that was asked for.
#[must_use]
pub const fn receive_buffer_wanted() -> usize {
    RECEIVE_BUFFER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock, keys, listen,
        sizes::{Limits, Sizes},
    };

    /// Sockets on a port of the system's choosing, answering until dropped.
    struct Served {
        address: SocketAddr,
        shutdown: Shutdown,
        threads: Vec<thread::JoinHandle<()>>,
    }

    impl Served {
        /// `None` if the host lacks the address family.
        fn new(address: &str) -> Option<Self> {
            let sizes = Sizes::new(&Limits { torrents: 100, peers_v4: 100, peers_v6: 100 }).expect("small");
            let store = Arc::new(Store::anonymous(&sizes).expect("small"));
            keys::set(&store, None).expect("random numbers");
            clock::set(store.settings(), 60_000_000);
            let listener = match bind(address.parse().expect("an address"), 2) {
                Err(error) if listen::is_family_missing(&error) => return None,
                listener => listener.expect("any port"),
            };
            let shutdown = Shutdown::default();
            let address = listener.address;
            let threads = listener.serve(&store, &shutdown).expect("two threads");
            Some(Self { address, shutdown, threads })
        }

        /// A client that hears nothing but what comes from `address`.
        fn client(&self, address: &str) -> UdpSocket {
            let local = if self.address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
            let socket = UdpSocket::bind(local).expect("any port");
            socket.connect(format!("{address}:{}", self.address.port())).expect("loopback");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("more than zero");
            socket
        }
    }

    impl Drop for Served {
        fn drop(&mut self) {
            self.shutdown.begin();
            for thread in self.threads.drain(..) {
                thread.join().expect("no panic");
            }
        }
    }

    fn connect_request(transaction: u32) -> [u8; 16] {
        let mut request = [0; 16];
        request[..8].copy_from_slice(&0x0417_2710_1980_u64.to_be_bytes());
        request[12..].copy_from_slice(&transaction.to_be_bytes());
        request
    }

    #[test]
    fn reply_leaves_from_the_address_that_was_asked() {
        for (listen, asked) in [("0.0.0.0:0", "127.0.0.2"), ("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "[::1]")] {
            let Some(served) = Served::new(listen) else { continue };
            let client = served.client(asked);
            client.send(&connect_request(7)).expect("loopback");
            let mut reply = [0; 100];
            let length = client.recv(&mut reply).expect(listen);
            assert_eq!((length, &reply[..8]), (16, &[0, 0, 0, 0, 0, 0, 0, 7][..]), "{listen}");
        }
    }

    #[test]
    fn every_packet_of_a_burst_is_answered_and_rubbish_is_not() {
        // Sockets of one address are served through io_uring, where there is one, the others by system calls.
        for (listen, asked) in [("127.0.0.1:0", "127.0.0.1"), ("0.0.0.0:0", "127.0.0.1"), ("[::1]:0", "[::1]")] {
            let Some(served) = Served::new(listen) else { continue };
            let client = served.client(asked);
            // Several times what is received at once, but not more than the client's socket holds.
            for _ in 0..6 {
                let burst = BATCH as u32 * 2;
                for transaction in 0..burst {
                    client.send(&connect_request(transaction)).expect("loopback");
                    client.send(b"rubbish").expect("loopback");
                }
                let mut answered: Vec<u32> = (0..burst)
                    .map(|_| {
                        let mut reply = [0; 16];
                        assert_eq!(client.recv(&mut reply).expect("an answer"), 16, "{listen}");
                        u32::from_be_bytes(reply[4..8].try_into().expect("4 bytes"))
                    })
                    .collect();
                answered.sort_unstable();
                assert!(answered.into_iter().eq(0..burst), "{listen}");
            }
        }
    }

    #[test]
    fn socket_addresses_are_read() {
        let mut v4 = [0, 0, 0x1a, 0xe1, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 0, 0];
        v4[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        let mut v6 = [0; 28];
        v6[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
        v6[2..4].copy_from_slice(&[0x1a, 0xe1]);
        v6[8..24].copy_from_slice(&Ipv6Addr::LOCALHOST.octets());
        let rows = [
            (&v4[..], Some(Source::V4([192, 0, 2, 7], 6881))),
            (&v4[..8], Some(Source::V4([192, 0, 2, 7], 6881))),
            (&v4[..7], None),
            (&v6[..], Some(Source::V6(Ipv6Addr::LOCALHOST.octets(), 6881))),
            (&v6[..23], None),
            (&[0; 28], None),
            (&[], None),
        ];
        for (name, expected) in rows {
            assert_eq!(source(name), expected, "{name:?}");
        }
    }

    #[test]
    fn replies_are_kept_apart() {
        let replies = Replies { bytes: b"onethree".to_vec(), starts: vec![(1, 0), (5, 3), (6, 8)] };
        let all: Vec<_> = replies.iter().collect();
        assert_eq!(all, [(1, &b"one"[..]), (5, b"three"), (6, b"")]);
    }
}
