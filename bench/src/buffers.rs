//! Socket buffers of the systems.
//!
//! The kernel charges a received packet to the socket's buffer with the memory it sits in. Frames
//! from the generator sit in a page each, where a network card's driver would have used a fraction
//! of that, so the default buffer would hold a few dozen requests only. Every system's UDP sockets
//! therefore get large buffers, whether the program asks for them or not; what a socket already has
//! is never made smaller.

use std::{
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::Context as _;

use crate::cores::Thread;

/// Bytes. The kernel doubles it.
const SIZE: libc::c_int = 8 << 20;

/// Enlarges the buffers of all UDP sockets of a process.
pub fn enlarge(process: Thread) -> anyhow::Result<()> {
    // SAFETY: a system call without pointers, which returns a new file descriptor.
    let handle = unsafe { owned(libc::syscall(libc::SYS_pidfd_open, process, 0)) }
        .with_context(|| format!("cannot open process {process} (pidfd_open, Linux 5.3)"))?;
    let directory = format!("/proc/{process}/fd");
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {directory}"))?.flatten() {
        let is_socket = fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
        let number = entry.file_name().to_str().and_then(|name| name.parse::<libc::c_int>().ok());
        let Some(number) = number.filter(|_| is_socket) else { continue };
        // SAFETY: as above.
        let socket = unsafe { owned(libc::syscall(libc::SYS_pidfd_getfd, handle.as_raw_fd(), number, 0)) };
        // It may have been closed meanwhile.
        let Ok(socket) = socket else { continue };
        if option(&socket, libc::SO_TYPE).is_ok_and(|kind| kind == libc::SOCK_DGRAM) {
            for (name, forced) in [(libc::SO_RCVBUF, libc::SO_RCVBUFFORCE), (libc::SO_SNDBUF, libc::SO_SNDBUFFORCE)] {
                if option(&socket, name).is_ok_and(|size| size < 2 * SIZE) {
                    set_option(&socket, forced, SIZE).context("cannot enlarge a socket's buffer")?;
                }
            }
        }
    }
    Ok(())
}

/// # Safety
/// `result` is that of a system call that returns a new file descriptor or -1.
unsafe fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    match libc::c_int::try_from(result) {
        // SAFETY: promised by the caller.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn option(socket: &OwnedFd, name: libc::c_int) -> io::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: value and length outlive the call, and the length is that of the value.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

fn set_option(socket: &OwnedFd, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the value outlives the call, and the length is its.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
