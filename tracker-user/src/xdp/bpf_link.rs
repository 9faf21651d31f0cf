//! BPF links: what holds an XDP program on an interface.
//!
//! The kernel never lets a link take the place of a program that is there already, and takes the
//! program off the interface when nothing holds the link any more: neither a process nor a pin
//! ([`super::pins`]). A program that another process holds by a link cannot be replaced either, so
//! `--force` cuts that link.

use super::{
    netlink::{self, AttachedMode, Interface},
    system_call::{
        BPF_LINK_CREATE, BPF_LINK_DETACH, BPF_LINK_GET_FD_BY_ID, BPF_LINK_UPDATE, BPF_OBJ_GET, BPF_OBJ_GET_INFO_BY_FD,
        BPF_OBJ_PIN, BPF_XDP, bpf,
    },
};
use anyhow::Context as _;
use aya::programs::{links::LinkType, loaded_links};
use std::{
    ffi::CString,
    fs, io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

/// A program on an interface; drop takes it off, unless it is to stay ([`Link::leave`]).
#[derive(Debug)]
pub struct Link {
    file: OwnedFd,
    /// What holds it when this process is gone.
    pin: Option<PathBuf>,
    left: bool,
}

impl Link {
    /// Attaches `program` to the interface of this number.
    ///
    /// # Errors
    /// What the kernel says: `EBUSY` and `EEXIST` if another program is there.
    pub fn create(program: BorrowedFd<'_>, interface: u32, mode: AttachedMode) -> io::Result<Self> {
        let mut attributes =
            Create { program: program.as_raw_fd() as u32, interface, attach_type: BPF_XDP, flags: mode.flag() };
        let file = bpf(BPF_LINK_CREATE, &mut attributes)?;
        // SAFETY: the kernel just made this descriptor, and nothing else owns it.
        Ok(Self { file: unsafe { OwnedFd::from_raw_fd(file) }, pin: None, left: false })
    }

    /// The link that is pinned at `path`. It stays when this is dropped, until [`Link::own`] is
    /// called.
    ///
    /// # Errors
    /// When there is none, or something else.
    pub fn from_pin(path: &Path) -> io::Result<Self> {
        let file = pinned(path)?;
        // Of a map or a program the kernel tells other things, which are no link's.
        let target = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        if target.as_os_str() != "anon_inode:bpf_link" && target.as_os_str() != "anon_inode:bpf-link" {
            return Err(io::Error::other("it is no BPF link"));
        }
        Ok(Self { file, pin: Some(path.to_owned()), left: true })
    }

    /// Pins it at `path`, so that it holds when this process is gone.
    ///
    /// # Errors
    /// When the kernel refuses: something is there, or `path` is not on a BPF file system.
    pub fn pin(&mut self, path: &Path) -> io::Result<()> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let file = self.file.as_raw_fd() as u32;
        bpf(BPF_OBJ_PIN, &mut Object { path: name.as_ptr().expose_provenance() as u64, file, flags: 0 })?;
        self.pin = Some(path.to_owned());
        Ok(())
    }

    /// Puts another program in the place of the present one, in one step: each packet meets one of
    /// the two.
    ///
    /// # Errors
    /// When the interface is gone, or the kernel refuses.
    pub fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let (link, program) = (self.file.as_raw_fd() as u32, program.as_raw_fd() as u32);
        bpf(BPF_LINK_UPDATE, &mut Update { link, program, flags: 0, old_program: 0 }).map(drop)
    }

    /// The number of the interface that the program is on; 0 if the interface is gone or the link
    /// was cut. An interface that was moved to another network namespace has its number there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn interface(&self) -> io::Result<u32> {
        information(&self.file).map(|information| information.interface)
    }

    /// The kernel's number of the program.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn program(&self) -> io::Result<u32> {
        information(&self.file).map(|information| information.program)
    }

    /// Has its program stay on the interface when this is dropped, if it is pinned.
    pub fn leave(&mut self) {
        self.left = self.pin.is_some();
    }

    /// Has drop take the program off again.
    pub fn own(&mut self) {
        self.left = false;
    }

    /// Takes the program off, and removes the pin.
    pub fn take_off(mut self) {
        self.own();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if self.left {
            return;
        }
        // Closing the file detaches the program as well, but maybe later, and another program may
        // be attached next. An error means that the link holds nothing any more.
        let _ = detach(&self.file);
        if let Some(pin) = &self.pin {
            // What cannot be removed is found by the next daemon, as a link that holds nothing.
            let _ = fs::remove_file(pin);
        }
    }
}

/// What is pinned at `path`.
///
/// # Errors
/// When nothing is, or it may not be opened.
pub fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let file = bpf(BPF_OBJ_GET, &mut Object { path: name.as_ptr().expose_provenance() as u64, file: 0, flags: 0 })?;
    // SAFETY: the kernel just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

/// Takes all XDP programs off `interface`.
///
/// # Errors
/// When the kernel refuses.
pub fn detach_all(interface: &Interface) -> anyhow::Result<()> {
    // A link that vanishes meanwhile needs no cut. One that cannot be read leaves its program,
    // which is found below.
    let links: Vec<_> = loaded_links()
        .flatten()
        .filter(|link| matches!(link.link_type(), Ok(LinkType::Xdp)))
        .filter_map(|link| open(link.id()).ok())
        // Interfaces of other network namespaces have the same numbers.
        .filter(|link| {
            let on = |link: &LinkInformation| interface.xdp.iter().any(|attached| attached.program == link.program);
            information(link).is_ok_and(|link| link.interface == interface.index && on(&link))
        })
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

/// Attributes of a command of bpf(2). The kernel takes missing ones at the end for zeros.
#[repr(C)]
struct One {
    value: u32,
}

#[repr(C)]
struct Create {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// Of `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
struct Object {
    path: u64,
    file: u32,
    flags: u32,
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

fn open(id: u32) -> io::Result<OwnedFd> {
    let file = bpf(BPF_LINK_GET_FD_BY_ID, &mut One { value: id })?;
    // SAFETY: the kernel just made this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(file) })
}

fn information(link: &OwnedFd) -> io::Result<LinkInformation> {
    let mut information = LinkInformation::default();
    let mut attributes = GetInfo {
        fd: link.as_raw_fd() as u32,
        length: size_of::<LinkInformation>() as u32,
        information: (&raw mut information).addr() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(information)
}

fn detach(link: &OwnedFd) -> io::Result<()> {
    bpf(BPF_LINK_DETACH, &mut One { value: link.as_raw_fd() as u32 }).map(drop)
}
