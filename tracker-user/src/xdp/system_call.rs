//! The system call `bpf(2)`, for what the loader has no words for.

use std::io;

// Commands, `enum bpf_cmd` of `linux/bpf.h`.
pub(super) const BPF_MAP_CREATE: libc::c_int = 0;
pub(super) const BPF_MAP_LOOKUP_ELEM: libc::c_int = 1;
pub(super) const BPF_MAP_UPDATE_ELEM: libc::c_int = 2;
pub(super) const BPF_MAP_DELETE_ELEM: libc::c_int = 3;
pub(super) const BPF_PROG_LOAD: libc::c_int = 5;
pub(super) const BPF_OBJ_PIN: libc::c_int = 6;
pub(super) const BPF_OBJ_GET: libc::c_int = 7;
pub(super) const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
pub(super) const BPF_LINK_CREATE: libc::c_int = 28;
pub(super) const BPF_LINK_UPDATE: libc::c_int = 29;
pub(super) const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
pub(super) const BPF_LINK_DETACH: libc::c_int = 34;

/// Of `enum bpf_attach_type`.
pub(super) const BPF_XDP: u32 = 37;

/// Has the kernel do a command, which reads `attributes` and may write to them.
///
/// # Errors
/// What the kernel says.
pub(super) fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the pointer and the length are those of `attributes`, which outlives the call, as
    // does what it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, (&raw mut *attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}
