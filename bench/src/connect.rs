//! Real BEP 15 connects: every source address gets its connection id from the tracker by a request
//! and a reply through sockets.

use std::{
    io,
    mem::{self, MaybeUninit},
    net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    ptr,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bench_ebpf::Client;
use tracker_tests::interrupt;

use crate::{
    request::Request,
    testbed::{Family, TRACKER_PORT, Testbed},
};

/// How many connects are on their way at a time.
const WINDOW: usize = 64;
/// A connect is repeated when no answer came for this long.
const PATIENCE: Duration = Duration::from_millis(50);

/// Gets connection ids for the first `count` clients, within `limit`.
pub fn connect(testbed: &Testbed, family: Family, count: u32, limit: Duration) -> anyhow::Result<Vec<Client>> {
    let socket = testbed.client.enter(|| socket(family))?;
    let tracker = SocketAddr::new(family.tracker_address(), TRACKER_PORT);
    let mut clients: Vec<Option<Client>> = vec![None; count as usize];
    let mut missing: Vec<u32> = (0..count).collect();
    let start = Instant::now();
    let mut buffer = [0; 256];
    while !missing.is_empty() {
        interrupt::check()?;
        ensure!(
            start.elapsed() < limit,
            "the tracker at {tracker} answered only {} of {count} connects within {limit:?}",
            count as usize - missing.len()
        );
        let window: Vec<u32> = missing.iter().copied().take(WINDOW).collect();
        for &number in &window {
            let mut request = Request::Connect.payload();
            request[12..16].copy_from_slice(&number.to_be_bytes());
            send_from(&socket, family.client_address(number), tracker, &request)
                .with_context(|| format!("cannot send a connect from {}", family.client_address(number)))?;
        }
        let deadline = Instant::now() + PATIENCE;
        let mut open = window.len();
        while open > 0 && Instant::now() < deadline {
            let Some((length, from)) = receive(&socket, &mut buffer)? else { continue };
            if from != tracker || length != 16 || buffer[..4] != [0; 4] {
                continue;
            }
            let number = u32::from_be_bytes([buffer[4], buffer[5], buffer[6], buffer[7]]);
            let Some(client) = clients.get_mut(number as usize) else { continue };
            if client.is_none() {
                *client = Some(Client {
                    connection_id: [word(&buffer[8..]), word(&buffer[12..])],
                    address: address_words(family.client_address(number)),
                });
                open -= 1;
            }
        }
        missing.retain(|&number| clients[number as usize].is_none());
    }
    Ok(clients.into_iter().flatten().collect())
}

/// Clients that have not connected, for a reflector, which does not look.
pub fn unconnected(family: Family, count: u32) -> Vec<Client> {
    (0..count)
        .map(|number| Client { connection_id: [0; 2], address: address_words(family.client_address(number)) })
        .collect()
}

fn word(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn address_words(address: IpAddr) -> [u32; 4] {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes = address.octets(),
    }
    [word(&bytes), word(&bytes[4..]), word(&bytes[8..]), word(&bytes[12..])]
}

/// A socket that may send from addresses that are only routed to this host.
fn socket(family: Family) -> anyhow::Result<UdpSocket> {
    let any: IpAddr = match family {
        Family::V4 => IpAddr::from([0; 4]),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).context("cannot open a UDP socket for the connects")?;
    let option = match family {
        Family::V4 => (libc::IPPROTO_IP, libc::IP_FREEBIND),
        Family::V6 => (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND),
    };
    let on: libc::c_int = 1;
    // SAFETY: the option's value outlives the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            option.0,
            option.1,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("cannot set IP_FREEBIND");
    }
    socket.set_read_timeout(Some(Duration::from_millis(5)))?;
    Ok(socket)
}

fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> anyhow::Result<Option<(usize, SocketAddr)>> {
    match socket.recv_from(buffer) {
        Ok(received) => Ok(Some(received)),
        Err(error) if is_passing(&error) => Ok(None),
        Err(error) => Err(error).context("cannot receive the answer to a connect"),
    }
}

/// Nothing there yet, a signal, or a port at which nobody listens yet.
pub fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionRefused)
}

/// Sends a datagram with `source` as its source address.
fn send_from(socket: &UdpSocket, source: IpAddr, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
    // SAFETY: all zero bytes is a valid message header and a valid socket address of either family.
    let (mut message, mut address): (libc::msghdr, libc::sockaddr_in6) = unsafe { (mem::zeroed(), mem::zeroed()) };
    let mut control = MaybeUninit::<[u64; 8]>::zeroed();
    let mut part = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_name = (&raw mut address).cast();
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: the control buffer is larger than the one header written, and aligned for it; an IPv4
    // socket address is smaller than the IPv6 one whose place it takes. The message points to
    // values of this function only.
    let sent = unsafe {
        match (source, to) {
            (IpAddr::V4(source), SocketAddr::V4(to)) => {
                let name: *mut libc::sockaddr_in = (&raw mut address).cast();
                (*name).sin_family = libc::AF_INET as libc::sa_family_t;
                (*name).sin_port = to.port().to_be();
                (*name).sin_addr.s_addr = u32::from_ne_bytes(to.ip().octets());
                message.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                put_control(&mut message, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
            }
            (IpAddr::V6(source), SocketAddr::V6(to)) => {
                let name = &raw mut address;
                (*name).sin6_family = libc::AF_INET6 as libc::sa_family_t;
                (*name).sin6_port = to.port().to_be();
                (*name).sin6_addr.s6_addr = to.ip().octets();
                message.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
                let info =
                    libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: source.octets() }, ipi6_ifindex: 0 };
                put_control(&mut message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
            }
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const message, 0)
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes the one control header of a message.
///
/// # Safety
/// `message.msg_control` points to memory aligned for a header, with room for it and `value`.
unsafe fn put_control<T>(message: &mut libc::msghdr, level: libc::c_int, kind: libc::c_int, value: T) {
    let length = size_of::<T>() as libc::c_uint;
    // SAFETY: promised by the caller.
    unsafe {
        message.msg_controllen = libc::CMSG_SPACE(length) as _;
        let header = libc::CMSG_FIRSTHDR(ptr::from_ref(message));
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = libc::CMSG_LEN(length) as _;
        libc::CMSG_DATA(header).cast::<T>().write_unaligned(value);
    }
}
