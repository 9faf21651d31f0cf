//! Takes XDP programs that others attached off an interface, for `--force`. The kernel replaces none that is held by a BPF link,
//! so the link itself has to be cut.

use crate::netlink::{self, Interface};
use anyhow::Context as _;
use aya::programs::{links::LinkType, loaded_links};
use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

// Commands of bpf(2), `enum bpf_cmd` of `linux/bpf.h`.
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_GET_FD_BY_ID: libc::c_int = 30;
const BPF_LINK_DETACH: libc::c_int = 34;

/// Takes all XDP programs off `interface`.
///
/// # Errors
/// When the kernel refuses.
pub fn detach_all(interface: &Interface) -> anyhow::Result<()> {
    // Links that vanish meanwhile, or that cannot be looked at, show in what is left.
    let links: Vec<_> = loaded_links()
        .flatten()
        .filter(|link| matches!(link.link_type(), Ok(LinkType::Xdp)))
        .filter_map(|link| open(link.id()).ok())
        .filter(|link| interface_of(link).is_ok_and(|index| index == interface.index))
        .collect();
    for link in links {
        detach(&link).with_context(|| format!("cannot cut the BPF link of the XDP program on {}", interface.name))?;
    }
    let left = netlink::interfaces()?.into_iter().find(|other| other.index == interface.index);
    for program in left.map(|interface| interface.xdp).unwrap_or_default() {
        netlink::detach_xdp(interface.index, program.mode).with_context(|| {
            format!("cannot take the {} XDP program {} off {}", program.mode.label(), program.program, interface.name)
        })?;
    }
    Ok(())
}

/// What a command of bpf(2) takes; the kernel takes what is missing at the end for zeros.
#[repr(C)]
struct One {
    value: u32,
}

#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    information: u64,
}

/// The beginning of `struct bpf_link_info`, as it is for a link of type XDP.
#[repr(C)]
#[derive(Default)]
struct LinkInformation {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    interface: u32,
    more: [u32; 11],
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_int> {
    // SAFETY: the pointer and the length are those of `attributes`, which outlives the call, as does what it points to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, (&raw mut *attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as libc::c_int) }
}

fn open(id: u32) -> io::Result<OwnedFd> {
    let file = bpf(BPF_LINK_GET_FD_BY_ID, &mut One { value: id })?;
    // SAFETY: the kernel just made this descriptor, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

fn interface_of(link: &OwnedFd) -> io::Result<u32> {
    let mut information = LinkInformation::default();
    let mut attributes = GetInfo {
        fd: link.as_raw_fd() as u32,
        length: size_of::<LinkInformation>() as u32,
        information: (&raw mut information).addr() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(information.interface)
}

fn detach(link: &OwnedFd) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut One { value: link.as_raw_fd() as u32 }).map(drop)
}
