//! An XDP program that passes every packet on.
//!
//! A veth end takes what the XDP program at the other end transmits only while it runs one itself.
//! Two instructions need no object file, so they are handed to the kernel as they are.

use crate::bpf::{self, LINK_CREATE, PROG_LOAD};
use anyhow::{Context as _, Result, bail};
use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd as _, OwnedFd, RawFd},
};

/// `r0 = 2 (XDP_PASS); exit`, as `struct bpf_insn` of linux/bpf.h.
const PROGRAM: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

const PROG_TYPE_XDP: u32 = 6;
const ATTACH_TYPE_XDP: u32 = 37;
/// `XDP_FLAGS_DRV_MODE`: generic XDP would not do.
const NATIVE: u32 = 1 << 2;

/// The program on an interface; drop takes it off.
#[derive(Debug)]
pub struct Attached {
    _link: OwnedFd,
}

/// The members of `union bpf_attr` for `BPF_PROG_LOAD` that are used here.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
}

/// The members of `union bpf_attr` for `BPF_LINK_CREATE` that are used here.
#[repr(C)]
struct LinkCreate {
    prog_fd: RawFd,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// Attaches it to an interface of the calling thread's network namespace, in native mode.
///
/// # Errors
/// When there is no such interface, or the kernel refuses: without root, or if another XDP program
/// is there.
pub fn attach(interface: &str) -> Result<Attached> {
    let name = CString::new(interface).context("the name of the interface")?;
    // SAFETY: a string that ends with zero and outlives the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        bail!("there is no interface {interface}: {}", io::Error::last_os_error());
    }
    let load = ProgLoad {
        prog_type: PROG_TYPE_XDP,
        insn_cnt: PROGRAM.len().try_into().expect("two instructions"),
        insns: PROGRAM.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
    };
    // SAFETY: the attributes are those of the command; what they point to is static.
    let program = unsafe { bpf::open(PROG_LOAD, load) }.context("cannot load an XDP program")?;
    let create =
        LinkCreate { prog_fd: program.as_raw_fd(), target_ifindex: index, attach_type: ATTACH_TYPE_XDP, flags: NATIVE };
    // SAFETY: the attributes are those of the command and hold no pointer.
    let link = unsafe { bpf::open(LINK_CREATE, create) }
        .with_context(|| format!("cannot attach an XDP program to {interface} in native mode"))?;
    Ok(Attached { _link: link })
}
