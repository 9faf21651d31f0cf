//! A socket served in batches of packets with two system calls each (`recvmmsg`, `sendmmsg`).

use super::{REQUEST_BYTES, is_fatal, replies::Replies, source};
use crate::{memory::Handle, shutdown::Shutdown};
use std::{
    io::{self, ErrorKind},
    mem,
    net::{Ipv6Addr, UdpSocket},
    os::fd::AsRawFd as _,
    ptr, slice, thread,
    time::Duration,
};
use tracker_common::datagram::{Source, respond};

/// Packets per system call.
pub const BATCH: usize = 64;

/// Room for one control message with the local address of a packet.
const CONTROL_BYTES: usize = 64;

/// Answers until shutdown.
///
/// # Errors
/// When the socket cannot be used any more.
pub fn serve(socket: &UdpSocket, handle: &Handle, shutdown: &Shutdown) -> io::Result<()> {
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
