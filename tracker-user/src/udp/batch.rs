//! A socket served in batches of packets with two system calls each (`recvmmsg`, `sendmmsg`).

use super::{
    REQUEST_BYTES,
    answer::answer,
    is_fatal, packet_info,
    queue::Queue,
    replies::Replies,
    shorten::{Shortener, Unsent, is_too_long},
    socket_address,
};
use crate::{service::Shutdown, store::Handle};
use std::{
    io::{self, ErrorKind},
    mem,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    ptr, slice, thread,
    time::Duration,
};
use tracker_common::{outcome::FrameReason, platform::Platform as _};

/// Packets per system call.
pub const BATCH: usize = 64;

/// Room for one control message with the local address of a packet.
const CONTROL_BYTES: usize = 64;

/// Answers until shutdown.
///
/// # Errors
/// When the socket cannot be used any more.
pub fn serve(socket: &UdpSocket, handle: &Handle, mut queue: Queue, shutdown: &Shutdown) -> io::Result<()> {
    let mut batch = Batch::new();
    let mut replies = Replies::default();
    while !shutdown.has_begun() {
        let received = match batch.receive(socket) {
            Ok(received) => received,
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(error) => {
                tracing::debug!("receiving UDP packets: {error}");
                // Whatever it is (memory is short, the network is down), asking at once again would
                // not help.
                thread::sleep(Duration::from_millis(1));
                continue;
            }
        };
        replies.clear();
        queue.received(socket, received);
        let requests = (0..received).filter_map(|packet| {
            if !batch.accepted[packet] {
                handle.reason(FrameReason::NotForUs);
                return None;
            }
            Some((packet, batch.request(packet), batch.source(packet)?))
        });
        answer(handle, requests, queue.is_pressed(), &mut replies);
        batch.send(socket, &replies, handle);
    }
    Ok(())
}

/// Control message space; aligned as `cmsghdr` has to be.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// The memory that packets of one batch are received into, and sent from: address and control data
/// of a request are those of its reply.
struct Batch {
    requests: Box<[[u8; REQUEST_BYTES]; BATCH]>,
    lengths: [usize; BATCH],
    addresses: Box<[libc::sockaddr_storage; BATCH]>,
    address_lengths: [libc::socklen_t; BATCH],
    controls: Box<[Control; BATCH]>,
    control_lengths: [usize; BATCH],
    /// Whether a packet was sent to an address of this host alone.
    accepted: [bool; BATCH],
    shortener: Shortener,
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
            accepted: [false; BATCH],
            shortener: Shortener::default(),
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
        // SAFETY: every header points to memory of this batch, of the lengths given, that nothing
        // else uses meanwhile.
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
            let control = &mut self.controls[packet].0[..self.control_lengths[packet]];
            self.accepted[packet] = packet_info::accept(control);
        }
        Ok(received)
    }

    fn request(&self, packet: usize) -> &[u8] {
        &self.requests[packet][..self.lengths[packet]]
    }

    /// The source address of a packet, as the kernel wrote it.
    fn name(&self, packet: usize) -> &[u8] {
        let name = (&raw const self.addresses[packet]).cast();
        // SAFETY: an address is plain bytes, of which the kernel has written some, and the others
        // are zero.
        unsafe { slice::from_raw_parts(name, size_of::<libc::sockaddr_storage>()) }
    }

    fn source(&self, packet: usize) -> Option<SocketAddr> {
        socket_address(self.name(packet))
    }

    /// Sends the replies. One that cannot be sent is left out; the others still go.
    fn send(&mut self, socket: &UdpSocket, replies: &Replies, handle: &Handle) {
        // SAFETY: as in `receive`.
        let (mut vectors, mut headers): ([libc::iovec; BATCH], [libc::mmsghdr; BATCH]) = unsafe { mem::zeroed() };
        let mut packets = [0; BATCH];
        let mut count = 0;
        for (packet, reply) in replies.iter().take(BATCH) {
            vectors[count] = libc::iovec { iov_base: reply.as_ptr().cast_mut().cast(), iov_len: reply.len() };
            headers[count].msg_hdr = self.header(packet, &raw mut vectors[count]);
            packets[count] = packet;
            count += 1;
        }
        let mut begin = 0;
        while begin < count {
            let rest = &mut headers[begin..count];
            // SAFETY: every header points to memory of this batch or of `replies`, which the kernel
            // only reads.
            let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, 0) };
            if let Ok(sent) = usize::try_from(sent) {
                begin += sent.max(1);
                continue;
            }
            let mut error = io::Error::last_os_error();
            if error.kind() == ErrorKind::Interrupted {
                continue;
            }
            // The first one failed.
            if is_too_long(&error) {
                let reply = replies.get(begin).unwrap_or_default();
                match self.send_shortened(socket, packets[begin], reply, handle) {
                    Ok(()) => {
                        begin += 1;
                        continue;
                    }
                    Err(again) => error = again,
                }
            }
            // No route, a firewall, a full queue, an address that is gone. UDP clients ask again.
            tracing::debug!("a UDP reply could not be sent: {error}");
            begin += 1;
        }
    }

    /// What the kernel is to know of the reply to a packet. The reply is in `vector`.
    fn header(&mut self, packet: usize, vector: *mut libc::iovec) -> libc::msghdr {
        // SAFETY: plain data for which zeros are valid.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        header.msg_name = (&raw mut self.addresses[packet]).cast();
        header.msg_namelen = self.address_lengths[packet];
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut self.controls[packet]).cast();
        header.msg_controllen = self.control_lengths[packet] as _;
        header
    }

    /// Sends as much of the reply to a packet as fits the way.
    fn send_shortened(&mut self, socket: &UdpSocket, packet: usize, reply: &[u8], handle: &Handle) -> io::Result<()> {
        let client = socket_address(self.name(packet)).ok_or(ErrorKind::InvalidInput)?;
        let control = &self.controls[packet].0[..self.control_lengths[packet]];
        let local = packet_info::destination(control).or_else(|| Some(socket.local_addr().ok()?.ip()));
        let mut shortener = mem::take(&mut self.shortener);
        let result = shortener.send(handle, Unsent { reply, client, local }, |part| {
            let mut vector = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
            let header = self.header(packet, &raw mut vector);
            // SAFETY: the header points to memory of this batch and to `part`, which the kernel
            // only reads.
            let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, 0) };
            if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
        self.shortener = shortener;
        result
    }
}

/// Types for which all zero bytes are valid.
///
/// # Safety
/// All zero bytes must be a valid value.
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
