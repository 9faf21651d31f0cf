//! The system call `bpf(2)`, as far as tests need it without a loader.

use anyhow::{Context as _, Result};
use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

/// `BPF_PROG_LOAD`
pub(crate) const PROG_LOAD: libc::c_int = 5;
/// `BPF_LINK_CREATE`
pub(crate) const LINK_CREATE: libc::c_int = 28;
/// `BPF_PROG_TEST_RUN`
const PROG_TEST_RUN: libc::c_int = 10;

/// Room for the longest frame that a program makes.
const FRAME_MAX: usize = 4096;

/// The members of `union bpf_attr` for `BPF_PROG_TEST_RUN` that are used here.
#[repr(C)]
struct TestRun {
    prog_fd: RawFd,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

/// Runs an XDP program on a frame, once and without a network: what it returns, and what the frame
/// has become.
///
/// # Errors
/// When the kernel refuses it: without root, or if the frame is shorter than an Ethernet header.
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8]) -> Result<(u32, Vec<u8>)> {
    let mut out = vec![0; FRAME_MAX];
    let mut attributes = TestRun {
        prog_fd: program.as_raw_fd(),
        retval: 0,
        data_size_in: u32::try_from(frame.len())?,
        data_size_out: u32::try_from(out.len())?,
        data_in: frame.as_ptr().expose_provenance() as u64,
        data_out: out.as_mut_ptr().expose_provenance() as u64,
        repeat: 1,
        duration: 0,
    };
    // SAFETY: the attributes are those of the command; they point to the frame, which is read, and
    // to `out`, of which no more is written than its length, and both outlive the call.
    check(unsafe { call(PROG_TEST_RUN, &mut attributes) }).context("BPF_PROG_TEST_RUN")?;
    out.truncate(attributes.data_size_out as usize);
    Ok((attributes.retval, out))
}

/// The system call, for commands that return a file descriptor.
///
/// # Safety
/// `attributes` must be a beginning of the command's part of `union bpf_attr`, and what it points
/// to be alive.
pub(crate) unsafe fn open<T>(command: libc::c_int, mut attributes: T) -> io::Result<OwnedFd> {
    // SAFETY: promised by the caller.
    let descriptor = check(unsafe { call(command, &mut attributes) })?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// The system call itself.
///
/// # Safety
/// As for [`open`]; what the kernel is to write to must be of the length that the attributes give.
unsafe fn call<T>(command: libc::c_int, attributes: &mut T) -> libc::c_long {
    // SAFETY: promised by the caller; the kernel takes what lies beyond the attributes' size as
    // zero, and writes only to them and to where they point.
    unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) }
}

fn check(result: libc::c_long) -> io::Result<RawFd> {
    match RawFd::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}
