//! Sockets that send and receive whole Ethernet frames, VLAN tags included: what a kernel without
//! VLAN interfaces, or a client that never sends such a frame, cannot do otherwise.

use crate::{
    namespace::Namespace,
    packet::{Datagram, Tag},
    patience,
};
use anyhow::{Context as _, Result, bail};
use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

/// How long an answer may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// A packet socket on one interface.
#[derive(Debug)]
pub struct RawSocket {
    socket: OwnedFd,
}

impl RawSocket {
    /// Opens one.
    ///
    /// # Errors
    /// When there is no such interface, or without root.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        namespace
            .run(|| Self::open_here(interface))
            .with_context(|| format!("cannot open a packet socket on {interface}"))
    }

    fn open_here(interface: &str) -> Result<Self> {
        let name = CString::new(interface)?;
        // SAFETY: a string that ends with zero and outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        check(index.try_into()?, |index| index > 0)?;
        let protocol = u16::try_from(libc::ETH_P_ALL)?.to_be();
        // SAFETY: takes no pointer.
        let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol.into()) };
        check(socket, |socket| socket >= 0)?;
        // SAFETY: the kernel has just opened it for us.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };

        // SAFETY: all zero bytes are a valid `sockaddr_ll`.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET.try_into()?;
        address.sll_protocol = protocol;
        address.sll_ifindex = index.try_into()?;
        let length = u32::try_from(size_of_val(&address))?;
        // SAFETY: the address is one of a packet socket and `length` bytes long.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }, |result| result == 0)?;

        let raw = Self { socket };
        raw.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        // A received tag is not in the frame but beside it.
        raw.set(libc::SOL_PACKET, libc::PACKET_AUXDATA, &1_i32)?;
        raw.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &libc::timeval { tv_sec: 0, tv_usec: 100_000 })?;
        Ok(raw)
    }

    fn set<T>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> Result<()> {
        let length = u32::try_from(size_of::<T>())?;
        // SAFETY: `value` is `length` bytes long and outlives the call.
        let result = unsafe {
            libc::setsockopt(self.socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length)
        };
        check(result, |result| result == 0)
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: `frame` is as long as said and outlives the call.
        let sent = unsafe { libc::send(self.socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        if usize::try_from(sent) != Ok(frame.len()) {
            bail!("cannot send a frame of {} bytes: {}", frame.len(), io::Error::last_os_error());
        }
        Ok(())
    }

    /// Receives the next UDP datagram for which `wanted` is true; other frames are skipped.
    ///
    /// # Errors
    /// When none comes for some seconds, or one that is broken.
    pub fn receive(&self, wanted: impl Fn(&Datagram) -> bool) -> Result<Datagram> {
        let deadline = Instant::now() + patience(PATIENCE);
        while Instant::now() < deadline {
            let Some(frame) = self.receive_frame()? else { continue };
            // Neighbour discovery and the like are not what anybody waits for, but broken UDP is.
            let datagram = match Datagram::parse(&frame) {
                Ok(datagram) => datagram,
                Err(_) if !is_udp(&frame) => continue,
                Err(error) => return Err(error.context(format!("received {frame:02x?}"))),
            };
            if wanted(&datagram) {
                return Ok(datagram);
            }
        }
        bail!("no answer for {} seconds", PATIENCE.as_secs())
    }

    fn receive_frame(&self) -> Result<Option<Vec<u8>>> {
        let mut frame = vec![0_u8; 65536];
        let mut control = [0_u64; 16];
        let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // SAFETY: all zero bytes are a valid `msghdr`.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control);
        // SAFETY: the message points to buffers of the lengths it says, which outlive the call.
        let received = unsafe { libc::recvmsg(self.socket.as_raw_fd(), &raw mut message, 0) };
        let Ok(length) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            let nothing_yet = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted);
            return if nothing_yet { Ok(None) } else { Err(error).context("cannot receive a frame") };
        };
        frame.truncate(length);
        if let Some(tag) = stripped_tag(&message) {
            // Back where it was on the wire: between the source MAC address and the EtherType.
            frame.splice(12..12, [tag.protocol.to_be_bytes(), tag.control.to_be_bytes()].concat());
        }
        Ok(Some(frame))
    }
}

/// The tag that the kernel took out of a received frame.
fn stripped_tag(message: &libc::msghdr) -> Option<Tag> {
    // SAFETY: the kernel has filled the message in, and its control buffer is alive.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    while !header.is_null() {
        // SAFETY: not null, so it points to a whole header inside the control buffer, which is
        // aligned for it.
        let found = unsafe { *header };
        if found.cmsg_level == libc::SOL_PACKET && found.cmsg_type == libc::PACKET_AUXDATA {
            // SAFETY: data of this type is a `tpacket_auxdata`.
            let data: libc::tpacket_auxdata =
                unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() };
            let valid = data.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
            return valid.then_some(Tag { protocol: data.tp_vlan_tpid, control: data.tp_vlan_tci });
        }
        // SAFETY: both belong together, as above.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

/// Whether a frame that could not be read is about UDP at all.
fn is_udp(frame: &[u8]) -> bool {
    let at = if frame.get(12..14) == Some(&[0x81, 0]) { 18 } else { 14 };
    match frame.get(at - 2..at) {
        Some([0x08, 0x00]) => frame.get(at + 9) == Some(&crate::packet::UDP),
        Some([0x86, 0xdd]) => frame.get(at + 6) == Some(&crate::packet::UDP),
        _ => false,
    }
}

fn check(result: libc::c_int, good: impl Fn(libc::c_int) -> bool) -> Result<()> {
    if good(result) { Ok(()) } else { Err(io::Error::last_os_error().into()) }
}
