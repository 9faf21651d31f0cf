//! Options of sockets that no crate has a function for.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _},
};

/// Sets an option whose value is a number.
///
/// # Errors
/// When the system refuses it.
pub fn set(socket: impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option whose value is some numbers; those that the system does not write are zero.
///
/// # Errors
/// When the system refuses it.
pub fn get<const N: usize>(socket: impl AsFd, level: libc::c_int, option: libc::c_int) -> io::Result<[u32; N]> {
    let mut value = [0_u32; N];
    let mut length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: both pointers are to places of the sizes said, which outlive the call.
    let result = unsafe {
        libc::getsockopt(socket.as_fd().as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut length)
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}
