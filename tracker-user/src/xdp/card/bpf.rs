//! Programs and maps for a network card, by `bpf(2)`: the loader that is used elsewhere knows
//! nothing of cards.

use crate::xdp::system_call::{
    BPF_MAP_CREATE, BPF_MAP_DELETE_ELEM, BPF_MAP_LOOKUP_ELEM, BPF_MAP_UPDATE_ELEM, BPF_OBJ_GET_INFO_BY_FD,
    BPF_PROG_LOAD, BPF_XDP, bpf,
};
use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

/// `BPF_PROG_TYPE_XDP`.
const PROGRAM_TYPE: u32 = 6;

/// Bytes for what a verifier says: the kernel's, and behind it that of the driver.
const LOG: usize = 64 << 10;

/// Of `BPF_MAP_CREATE`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct MapAttributes {
    /// `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// How many there are to be room for.
    pub entries: u32,
    flags: u32,
    inner: u32,
    node: u32,
    name: [u8; 16],
    interface: u32,
}

impl MapAttributes {
    /// A map on the card of this interface; 0 for one in the machine's memory.
    pub fn new(name: &str, [kind, key, value, entries]: [u32; 4], interface: u32) -> Self {
        Self { kind, key, value, entries, flags: 0, inner: 0, node: 0, name: short(name), interface }
    }

    /// Makes the map.
    ///
    /// # Errors
    /// What the kernel or the driver says: `ENOMEM` where the card has no room.
    pub fn create(mut self) -> io::Result<OwnedFd> {
        let file = bpf(BPF_MAP_CREATE, &mut self)?;
        // SAFETY: the kernel just made this descriptor, and nothing else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(file) })
    }
}

fn short(name: &str) -> [u8; 16] {
    let mut short = [0; 16];
    // The last byte stays zero.
    for (to, from) in short[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    short
}

#[repr(C)]
struct Element {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Element {
    fn new<K, V>(map: BorrowedFd<'_>, key: &K, value: *mut V) -> Self {
        Self {
            map: map.as_raw_fd().cast_unsigned(),
            padding: 0,
            key: (&raw const *key).expose_provenance() as u64,
            value: value.expose_provenance() as u64,
            flags: 0,
        }
    }
}

/// Writes a value. Key and value are as many bytes as the map has for them.
///
/// # Errors
/// What the kernel or the driver says: `E2BIG` where the map is full, `ENODEV` where the card is gone.
pub fn update<K, V>(map: BorrowedFd<'_>, key: &K, mut value: V) -> io::Result<()> {
    bpf(BPF_MAP_UPDATE_ELEM, &mut Element::new(map, key, &raw mut value)).map(drop)
}

/// Removes a key.
///
/// # Errors
/// As above; `ENOENT` where there is none.
pub fn delete<K>(map: BorrowedFd<'_>, key: &K) -> io::Result<()> {
    bpf(BPF_MAP_DELETE_ELEM, &mut Element::new(map, key, std::ptr::null_mut::<u8>())).map(drop)
}

/// Reads a value of so many bytes as the map has.
///
/// # Errors
/// As above.
pub fn look_up<K, V: Default>(map: BorrowedFd<'_>, key: &K) -> io::Result<V> {
    let mut value = V::default();
    bpf(BPF_MAP_LOOKUP_ELEM, &mut Element::new(map, key, &raw mut value))?;
    Ok(value)
}

#[repr(C)]
struct Load {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
}

/// Loads an XDP program of these instructions, 8 bytes each, into the card of this interface; 0 for
/// the driver's mode.
///
/// # Errors
/// What the kernel or the driver says, with the last lines of the verifier's log.
pub fn load<I>(name: &str, license: &CStr, instructions: &[I], interface: u32) -> io::Result<OwnedFd> {
    const { assert!(size_of::<I>() == 8) };
    let mut log = vec![0_u8; LOG];
    let mut attributes = Load {
        kind: PROGRAM_TYPE,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: short(name),
        interface,
        attach_type: BPF_XDP,
    };
    let error = match bpf(BPF_PROG_LOAD, &mut attributes) {
        // SAFETY: the kernel just made this descriptor, and nothing else owns it.
        Ok(file) => return Ok(unsafe { OwnedFd::from_raw_fd(file) }),
        Err(error) => error,
    };
    // Once more, to be told why.
    (attributes.log_level, attributes.log_size) = (1, LOG as u32);
    attributes.log = log.as_mut_ptr().expose_provenance() as u64;
    if let Ok(file) = bpf(BPF_PROG_LOAD, &mut attributes) {
        // SAFETY: as above.
        return Ok(unsafe { OwnedFd::from_raw_fd(file) });
    }
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.trim_end_matches('\0').lines().filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" / ");
    if last.is_empty() { Err(error) } else { Err(io::Error::new(error.kind(), format!("{error}; {last}"))) }
}

/// The beginning of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct Information {
    kind: u32,
    id: u32,
}

#[repr(C)]
struct GetInformation {
    file: u32,
    length: u32,
    information: u64,
}

/// The kernel's number of a program.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut information = Information::default();
    let mut attributes = GetInformation {
        file: program.as_raw_fd().cast_unsigned(),
        length: size_of::<Information>() as u32,
        information: (&raw mut information).expose_provenance() as u64,
    };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attributes)?;
    Ok(information.id)
}
