//! A socket served through io_uring: the replies to what has arrived are sent, and the next packets
//! received, in one system call, and the kernel is told once for all packets where they are to go.
//!
//! One receive request stays active (multishot) and takes a buffer from the common
//! [`ProvidedBuffers`] for each packet. A reply goes to the address that the kernel wrote there, so
//! a buffer goes back when its reply has been sent. Sends never wait, and are complete when the
//! system call returns. A send that fails is repeated by `sendto`, which waits for room.
//!
//! This is for sockets that are bound to one address. On a wildcard socket each packet carries its
//! destination; there, one system call per batch costs no more.

use super::{
    RECEIVE_TIMEOUT, REQUEST_BYTES,
    answer::answer,
    is_fatal,
    queue::Queue,
    replies::Replies,
    shorten::{Shortener, Unsent, is_too_long},
    socket_address,
};
use crate::{service::Shutdown, store::Handle};
use ::io_uring::{
    IoUring, Probe, cqueue, opcode, squeue,
    types::{BufRingEntry, CancelBuilder, Fixed, SubmitArgs, Timespec},
};
use anyhow::{Context as _, ensure};
use memmap2::{MmapMut, MmapRaw};
use std::{
    io, mem,
    net::UdpSocket,
    os::fd::AsRawFd as _,
    ptr::NonNull,
    slice,
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

/// Buffers for requests: those being answered, and those that arrive meanwhile. A power of two.
const BUFFERS: u16 = 256;

/// Bytes of a buffer: what the kernel says about a packet, its source address, and the packet. An
/// odd number of cache lines, so that the beginnings of all buffers do not compete for the same few
/// places of the cache.
const BUFFER_BYTES: usize = 64 * 33;
const _: () = assert!(BUFFER_BYTES >= ABOUT_BYTES + size_of::<libc::sockaddr_in6>() + REQUEST_BYTES);

/// `struct io_uring_recvmsg_out`, which buffers begin with.
const ABOUT_BYTES: usize = 16;

/// Room for the list of buffers, in whole pages.
const LIST_BYTES: usize = 4096;
const _: () = assert!(BUFFERS as usize * size_of::<BufRingEntry>() <= LIST_BYTES);

/// The only group of buffers, and the only registered file.
const GROUP: u16 = 0;
const SOCKET: Fixed = Fixed(0);

/// Marks the completions of the receive request; those of sends have the number of the reply.
const RECEIVE: u64 = u64::MAX;

/// How long the requests of a ring may take to end when they are cancelled.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(1);

/// The buffers, and the list by which they are given to the kernel.
struct ProvidedBuffers {
    list: NonNull<BufRingEntry>,
    buffers: NonNull<u8>,
    tail: u16,
    /// The memory of both. It is unmapped after the ring has released it, and no reference into it
    /// is kept.
    _memory: MmapRaw,
}

impl ProvidedBuffers {
    const BYTES: usize = LIST_BYTES + BUFFERS as usize * BUFFER_BYTES;

    fn new() -> io::Result<Self> {
        let memory = MmapRaw::from(MmapMut::map_anon(Self::BYTES)?);
        let start = NonNull::new(memory.as_mut_ptr()).ok_or_else(|| io::Error::other("memory at address 0"))?;
        // SAFETY: the mapping is longer than the list.
        let buffers = unsafe { start.add(LIST_BYTES) };
        let mut provided = Self { list: start.cast(), buffers, tail: 0, _memory: memory };
        provided.give_back(0..BUFFERS);
        Ok(provided)
    }

    /// Gives buffers to the kernel.
    fn give_back(&mut self, numbers: impl Iterator<Item = u16>) {
        for number in numbers {
            // SAFETY: the list has `BUFFERS` entries, zero or written here; the kernel reads none
            // from the tail on.
            let entry = unsafe { self.list.add(usize::from(self.tail % BUFFERS)).as_mut() };
            entry.set_addr(self.buffer(number).as_ptr().expose_provenance() as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(number);
            self.tail = self.tail.wrapping_add(1);
        }
        // SAFETY: the tail is a part of the first entry that nothing else is in, and aligned.
        let tail = unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.list.as_ptr()).cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// The beginning of a buffer.
    fn buffer(&self, number: u16) -> NonNull<u8> {
        // SAFETY: the mapping holds `BUFFERS` of them.
        unsafe { self.buffers.add(usize::from(number % BUFFERS) * BUFFER_BYTES) }
    }

    /// The source address of the packet in a buffer.
    fn name(&self, number: u16) -> *const libc::sockaddr {
        // SAFETY: a buffer is longer than that.
        unsafe { self.buffer(number).add(ABOUT_BYTES).as_ptr().cast() }
    }
}

/// The source address and the bytes of a packet, from what the kernel has written into a buffer:
/// what there is to say, `room` bytes of which the address takes some, and the packet.
pub(super) fn packet(written: &[u8], room: usize) -> Option<(&[u8], &[u8])> {
    let (about, rest) = written.split_at_checked(ABOUT_BYTES)?;
    let name_length = u32::from_ne_bytes(*about.first_chunk()?) as usize;
    let (name, datagram) = rest.split_at_checked(room)?;
    Some((&name[..name_length.min(room)], datagram))
}

/// A ring for one socket, and one thread: the one that makes it.
pub struct UringSocket<'a> {
    socket: &'a UdpSocket,
    ring: IoUring,
    buffers: ProvidedBuffers,
    /// Says how much room there is for a source address; the kernel reads it when the receive
    /// request begins.
    header: Box<libc::msghdr>,
    /// Requests that have arrived: number of the buffer, and how much of it was written.
    arrived: Vec<(u16, usize)>,
    /// Those that `replies` answers.
    answered: Vec<(u16, usize)>,
    replies: Replies,
    shortener: Shortener,
}

impl<'a> UringSocket<'a> {
    /// Makes a ring and begins to receive.
    ///
    /// # Errors
    /// When the system does not offer io_uring, or too little of it.
    pub fn new(socket: &'a UdpSocket) -> anyhow::Result<Self> {
        let mut builder = IoUring::builder();
        // Nothing interrupts the thread: the kernel receives when it asks.
        builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
        let ring: IoUring = builder.build(2 * u32::from(BUFFERS)).context("io_uring is not available")?;
        let submitter = ring.submitter();
        let mut probe = Probe::new();
        submitter.register_probe(&mut probe).context("cannot ask for the operations of io_uring")?;
        // Sends to an address came with Linux 6.2, and nothing says so; this operation came with
        // 6.7.
        ensure!(probe.is_supported(opcode::FutexWait::CODE), "io_uring is used from Linux 6.7 on");
        submitter.register_files(&[socket.as_raw_fd()]).context("cannot register the socket")?;
        let buffers = ProvidedBuffers::new().context("no memory for buffers")?;
        let list = buffers.list.as_ptr().expose_provenance() as u64;
        // SAFETY: the list has that many entries, and outlives the ring's requests; see `drop`.
        unsafe { submitter.register_buf_ring_with_flags(list, BUFFERS, GROUP, 0) }
            .context("cannot register buffers with io_uring")?;
        // SAFETY: plain data for which zeros are valid.
        let mut header: Box<libc::msghdr> = Box::new(unsafe { mem::zeroed() });
        let name = if socket.local_addr()?.is_ipv4() {
            size_of::<libc::sockaddr_in>()
        } else {
            size_of::<libc::sockaddr_in6>()
        };
        header.msg_namelen = name as libc::socklen_t;
        let (arrived, answered) = (Vec::new(), Vec::new());
        let (replies, shortener) = (Replies::default(), Shortener::default());
        let mut ring = Self { socket, ring, buffers, header, arrived, answered, replies, shortener };
        ring.receive();
        Ok(ring)
    }

    /// Answers until shutdown.
    ///
    /// # Errors
    /// When the socket or the ring cannot be used any more.
    pub fn serve(mut self, handle: &Handle, mut queue: Queue, shutdown: &Shutdown) -> io::Result<()> {
        let timeout = Timespec::from(RECEIVE_TIMEOUT);
        while !shutdown.has_begun() {
            let waited = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout));
            if let Err(error) = waited
                && !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR))
            {
                self.rest(error)?;
            }
            if !self.ring.submission().is_empty() {
                // Interrupted before the replies were sent: they are still needed.
                continue;
            }
            self.complete(handle)?;
            self.buffers.give_back(self.answered.drain(..).map(|(number, _)| number));
            mem::swap(&mut self.arrived, &mut self.answered);
            queue.received(self.socket, self.answered.len());
            self.answer(handle, queue.is_pressed());
        }
        Ok(())
    }

    /// Pauses after an error that may be temporary.
    fn rest(&self, error: io::Error) -> io::Result<()> {
        if is_fatal(&error) {
            return Err(error);
        }
        tracing::debug!("receiving UDP packets by io_uring: {error}");
        thread::sleep(Duration::from_millis(1));
        Ok(())
    }

    /// Collects the requests that have arrived, and repeats sends that have failed.
    fn complete(&mut self, handle: &Handle) -> io::Result<()> {
        let mut again = false;
        loop {
            let Some(entry) = self.ring.completion().next() else { break };
            if entry.user_data() != RECEIVE {
                let error = io::Error::from_raw_os_error(-entry.result());
                if let Err(error) = self.send_again(handle, entry.user_data(), error) {
                    // No route, a firewall, a full queue. UDP clients ask again.
                    tracing::debug!("a UDP reply could not be sent: {error}");
                }
                continue;
            }
            again |= !cqueue::more(entry.flags());
            if let (Some(number), Ok(length)) = (cqueue::buffer_select(entry.flags()), usize::try_from(entry.result()))
            {
                self.arrived.push((number, length.min(BUFFER_BYTES)));
            } else if entry.result() < 0 && entry.result() != -libc::ENOBUFS {
                self.rest(io::Error::from_raw_os_error(-entry.result()))?;
            }
        }
        if again {
            self.receive();
        }
        Ok(())
    }

    /// Makes the replies, and the sends for the next system call.
    fn answer(&mut self, handle: &Handle, pressed: bool) {
        self.replies.clear();
        let requests = self.answered.iter().enumerate().filter_map(|(index, &(number, length))| {
            // SAFETY: the kernel has written that much of the buffer, which is its own again only
            // when it is given back.
            let bytes = unsafe { slice::from_raw_parts(self.buffers.buffer(number).as_ptr(), length) };
            let (name, datagram) = packet(bytes, self.header.msg_namelen as usize)?;
            Some((index, datagram, socket_address(name)?))
        });
        answer(handle, requests, pressed, &mut self.replies);
        let mut submission = self.ring.submission();
        for (index, reply) in self.replies.iter() {
            let (number, _) = self.answered[index];
            let send = opcode::Send::new(SOCKET, reply.as_ptr(), reply.len() as u32)
                .dest_addr(self.buffers.name(number))
                .dest_addr_len(self.header.msg_namelen)
                .flags(libc::MSG_DONTWAIT)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(index as u64);
            // SAFETY: the reply and its buffer are left alone until the send is done with, in the
            // next system call.
            let pushed = unsafe { submission.push(&send) };
            // There is room for twice as many as there are buffers.
            debug_assert!(pushed.is_ok(), "a reply too many");
        }
    }

    /// Repeats a send that has failed: it waits for room now, and sends no more of the reply than
    /// fits the path.
    fn send_again(&mut self, handle: &Handle, index: u64, error: io::Error) -> io::Result<()> {
        let Some((index, reply)) = self.replies.iter().find(|&(of, _)| of as u64 == index) else { return Ok(()) };
        let (number, _) = self.answered[index];
        let (name, length) = (self.buffers.name(number), self.header.msg_namelen);
        let send = |part: &[u8]| {
            // SAFETY: the address is where it was when the send was made, and the kernel only reads
            // it and the reply.
            let sent =
                unsafe { libc::sendto(self.socket.as_raw_fd(), part.as_ptr().cast(), part.len(), 0, name, length) };
            if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        };
        let error = if is_too_long(&error) {
            error
        } else {
            match send(reply) {
                Err(error) if is_too_long(&error) => error,
                result => return result,
            }
        };
        // SAFETY: the buffer holds an address of that length, and nothing else uses it until it is
        // given back.
        let name = unsafe { slice::from_raw_parts(name.cast::<u8>(), length as usize) };
        let client = socket_address(name).ok_or(error)?;
        let local = self.socket.local_addr()?.ip();
        self.shortener.send(handle, Unsent { reply, client, local: Some(local) }, send)
    }

    /// Lets the kernel receive from now on.
    fn receive(&mut self) {
        let receive = opcode::RecvMsgMulti::new(SOCKET, &raw const *self.header, GROUP).build().user_data(RECEIVE);
        // SAFETY: the header lives as long as the ring.
        let pushed = unsafe { self.ring.submission().push(&receive) };
        debug_assert!(pushed.is_ok(), "the receive request has no room");
    }
}

impl UringSocket<'_> {
    /// Makes the kernel release the buffers and the socket. By itself the kernel closes a ring at
    /// some later time, maybe long after the end of this process, and the port would be taken until
    /// then.
    fn release(&mut self) -> io::Result<()> {
        // Nothing may begin after everything has been cancelled.
        self.ring.submit()?;
        match self.ring.submitter().register_sync_cancel(None, CancelBuilder::any()) {
            // The receive request may have ended by itself.
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            Err(_) | Ok(()) => {}
        }
        // Requests that are cancelled hold the socket until this thread has looked at what has
        // become of them.
        let begun = Instant::now();
        let timeout = Timespec::from(RELEASE_TIMEOUT);
        while begun.elapsed() < RELEASE_TIMEOUT {
            let ended = |entry: cqueue::Entry| entry.user_data() == RECEIVE && !cqueue::more(entry.flags());
            if self.ring.completion().any(ended) {
                break;
            }
            let waited = self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout));
            if let Err(error) = waited
                && !matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR))
            {
                return Err(error);
            }
        }
        self.ring.submitter().unregister_files()
    }
}

impl Drop for UringSocket<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.release() {
            tracing::debug!("cannot release the io_uring of a UDP socket: {error}");
        }
    }
}
