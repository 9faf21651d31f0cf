//! The system call `bpf(2)`, as far as tests need it without a loader.

use anyhow::{Context as _, Result};
use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

/// `BPF_PROG_LOAD`
pub(crate) const PROG_LOAD: libc::c_int = 5;
/// `BPF_LINK_CREATE`
pub(crate) const LINK_CREATE: libc::c_int = 28;
/// `BPF_PROG_TEST_RUN`
const PROG_TEST_RUN: libc::c_int = 10;

/// `BPF_MAP_LOOKUP_ELEM`
const MAP_LOOKUP: libc::c_int = 1;
/// `BPF_MAP_UPDATE_ELEM`
const MAP_UPDATE: libc::c_int = 2;
/// `BPF_OBJ_PIN`
const OBJ_PIN: libc::c_int = 6;
/// `BPF_OBJ_GET`
const OBJ_GET: libc::c_int = 7;
/// `BPF_OBJ_GET_INFO_BY_FD`
const INFO: libc::c_int = 15;

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

/// What there is in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A map.
    Map,
    /// A program.
    Program,
    /// A link.
    Link,
}

/// What is pinned at `path`.
///
/// # Errors
/// When nothing is.
pub fn object(path: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are those of the command; the path outlives the call.
    unsafe { open(OBJ_GET, [path.as_ptr().expose_provenance() as u64, 0]) }
}

/// The kernel's number of an object.
///
/// # Errors
/// When the kernel does not say.
pub fn number(file: &OwnedFd, object: Object) -> Result<u32> {
    let mut information = [0_u32; 16];
    let length = size_of_val(&information) as u64;
    let mut attributes = [file.as_raw_fd() as u64 | length << 32, information.as_mut_ptr().expose_provenance() as u64];
    // SAFETY: the attributes are those of the command; `information`, of which the length is given,
    // outlives it.
    check(unsafe { call(INFO, &mut attributes) }).with_context(|| format!("cannot ask for a {object:?}"))?;
    Ok(information[1])
}

/// Whether the kernel still has an object of this number.
///
/// The number is asked for and the object not opened: Linux counts a table of tail calls once too
/// often, for good, if somebody opens and closes it by its number while it is about to empty it
/// (`prog_array_map_clear` takes a reference for each time it is wanted, and the work that was
/// scheduled already gives back one).
#[must_use]
pub fn exists((object, number): (Object, u32)) -> bool {
    // `BPF_MAP_GET_NEXT_ID`, `BPF_PROG_GET_NEXT_ID`, `BPF_LINK_GET_NEXT_ID`
    let command = match object {
        Object::Map => 12,
        Object::Program => 11,
        Object::Link => 31,
    };
    // The number to begin behind, the one that was found, flags.
    let mut attributes = [number.wrapping_sub(1), 0, 0];
    // SAFETY: the attributes are those of the command and hold no pointer.
    check(unsafe { call(command, &mut attributes) }).is_ok() && attributes[1] == number
}

/// Reads the first element of an array of elements of `N` bytes.
///
/// # Errors
/// When the file is no such map.
pub fn first_element<const N: usize>(map: &OwnedFd) -> Result<[u8; N]> {
    let (key, mut value) = (0_u32, [0; N]);
    let mut attributes = element(map, &key, &mut value);
    // SAFETY: the attributes are those of the command; key and value outlive it. That a value is of
    // `N` bytes is promised by the caller's choice of the map.
    check(unsafe { call(MAP_LOOKUP, &mut attributes) }).context("cannot read an element")?;
    Ok(value)
}

/// Writes it.
///
/// # Errors
/// As for [`first_element`].
pub fn set_first_element<const N: usize>(map: &OwnedFd, mut value: [u8; N]) -> Result<()> {
    let key = 0_u32;
    let mut attributes = element(map, &key, &mut value);
    // SAFETY: as for `first_element`.
    check(unsafe { call(MAP_UPDATE, &mut attributes) }).context("cannot write an element")?;
    Ok(())
}

/// Makes an array with this one element, which can be mapped into memory.
///
/// # Errors
/// When the kernel refuses it.
pub fn mappable_element<const N: usize>(value: [u8; N]) -> Result<OwnedFd> {
    // `BPF_MAP_CREATE`: `BPF_MAP_TYPE_ARRAY`, sizes of key and value, one element, `BPF_F_MMAPABLE`
    let attributes = [2, 4, u32::try_from(N)?, 1, 1 << 10];
    // SAFETY: the attributes are those of the command and hold no pointer.
    let map = unsafe { open(0, attributes) }.context("cannot make a map")?;
    set_first_element(&map, value)?;
    Ok(map)
}

/// The map of that name which is on a network card, of whatever process.
///
/// # Errors
/// When there is none.
pub fn map_of_card(name: &str) -> Result<OwnedFd> {
    // `struct bpf_map_info`: six numbers, the name, the number of the interface.
    const NAME: usize = 6;
    const INTERFACE: usize = 10;
    let mut number = 0;
    loop {
        let mut next = [number, 0, 0];
        // SAFETY: the attributes are those of `BPF_MAP_GET_NEXT_ID` and hold no pointer.
        check(unsafe { call(12, &mut next) }).with_context(|| format!("no card has a map {name}"))?;
        number = next[1];
        // SAFETY: as above, of `BPF_MAP_GET_FD_BY_ID`.
        let Ok(map) = (unsafe { open(14, [number, 0, 0]) }) else { continue };
        let mut information = [0_u32; 20];
        let length = size_of_val(&information) as u64;
        let mut attributes =
            [map.as_raw_fd() as u64 | length << 32, information.as_mut_ptr().expose_provenance() as u64];
        // SAFETY: as in `number`.
        check(unsafe { call(INFO, &mut attributes) }).context("cannot ask for a map")?;
        let words = information[NAME..INTERFACE].iter().flat_map(|word| word.to_ne_bytes());
        let called: Vec<u8> = words.take_while(|byte| *byte != 0).collect();
        if information[INTERFACE] != 0 && called == name.as_bytes() {
            return Ok(map);
        }
    }
}

/// Pins an object at `path`.
///
/// # Errors
/// When the kernel refuses it.
pub(crate) fn pin(file: &OwnedFd, path: &CStr) -> Result<()> {
    let mut attributes = [path.as_ptr().expose_provenance() as u64, file.as_raw_fd() as u64];
    // SAFETY: the attributes are those of the command; the path outlives the call.
    check(unsafe { call(OBJ_PIN, &mut attributes) }).context("cannot pin an object")?;
    Ok(())
}

/// Map, key, value and no flags, as `BPF_MAP_LOOKUP_ELEM` and `BPF_MAP_UPDATE_ELEM` take them.
fn element<const N: usize>(map: &OwnedFd, key: &u32, value: &mut [u8; N]) -> [u64; 4] {
    let value = value.as_mut_ptr().expose_provenance() as u64;
    [map.as_raw_fd() as u64, std::ptr::from_ref(key).expose_provenance() as u64, value, 0]
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
