//! Waits for the kernel to say that interfaces or addresses have changed.
//!
//! The messages are not read: after any of them, everything is asked for anew. So their order does
//! not matter, nor does a lost message, because the kernel reports the loss (`ENOBUFS`).

use anyhow::Context as _;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    time::Duration,
};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// A subscription to changes of interfaces and addresses in the network namespace that it was made
/// in.
pub(super) struct Notifications(Socket);

/// What ended the waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// The other end of the pipe was closed.
    Stop,
    /// Something may have changed.
    Change,
    /// The time is over.
    Time,
}

impl Notifications {
    /// Subscribes.
    pub fn subscribe() -> anyhow::Result<Self> {
        let subscribe = || -> io::Result<_> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, GROUPS))?;
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        subscribe().map(Self).context("cannot subscribe to changes of interfaces and addresses (netlink)")
    }

    /// Waits for a change, for the end of `stop`, or until the time is over.
    pub fn wait(&self, stop: &io::PipeReader, limit: Duration) -> Woken {
        // SAFETY: the socket is open as long as `self`.
        let socket = unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) };
        let mut files = [PollFd::new(stop, PollFlags::IN), PollFd::from_borrowed_fd(socket, PollFlags::IN)];
        let limit = Timespec::try_from(limit).ok();
        match poll(&mut files, limit.as_ref()) {
            Ok(1..) if !files[0].revents().is_empty() => Woken::Stop,
            Ok(1..) => {
                self.drain();
                Woken::Change
            }
            // Or interrupted by a signal: the caller looks at the clock.
            Ok(0) | Err(_) => Woken::Time,
        }
    }

    /// Takes what has arrived.
    fn drain(&self) {
        let mut buffer = [0; 8192];
        loop {
            match self.0.recv(&mut buffer.as_mut_slice(), 0) {
                // What does not fit is cut off, and not needed.
                Ok(_) => (),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    tracing::debug!("interfaces change faster than their changes are read; nothing is lost by that");
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    tracing::warn!("cannot read the changes of interfaces and addresses (netlink): {error}");
                    return;
                }
            }
        }
    }
}
