//! The memory that a program sees: one packet, a stack, the context, and the elements of maps.
//!
//! An address is a region's number in its upper bits and a place in the region below. Region 0 is
//! the packet, since the compiler takes `data` and `data_end` for numbers of 32 bits. Every access
//! is checked, so a program that leaves its memory is a fault with an address and not a crash.

use std::{
    fs::File,
    os::fd::{AsFd as _, BorrowedFd, FromRawFd as _},
};

use anyhow::Context as _;
use memmap2::{MmapOptions, MmapRaw};

const REGION_SHIFT: u32 = 40;
/// Region of the stack.
pub const STACK: u64 = 1 << REGION_SHIFT;
/// Region of the context.
pub const CONTEXT: u64 = 2 << REGION_SHIFT;
/// Region of the first map.
const FIRST_MAP: u64 = 3;
/// Region of what is no memory: pointers to maps, as helpers get them.
const POINTERS: u64 = 0xffff;

/// Where the page of the packet begins.
pub const PAGE: u64 = 0x1_0000;
/// Bytes of that page.
pub const PAGE_BYTES: usize = 4096;
/// Bytes of one function's stack.
pub const FRAME_BYTES: u64 = 512;
/// How deep functions may call each other.
const FRAMES: u64 = 16;

/// The pointer to a map, as helpers get it.
pub const fn map_pointer(map: usize) -> u64 {
    POINTERS << REGION_SHIFT | map as u64
}

/// The map that a helper was given the pointer to.
pub const fn map_of_pointer(pointer: u64) -> usize {
    (pointer & ((1 << REGION_SHIFT) - 1)) as usize
}

/// The address of a map's first element.
pub const fn value_address(map: usize) -> u64 {
    (FIRST_MAP + map as u64) << REGION_SHIFT
}

/// `BPF_MAP_TYPE_RINGBUF`: its entries are bytes.
pub const RING_BUFFER: u32 = 27;

/// What a program did that it must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An access outside of all memory: address and bytes.
    Access(u64, usize),
    /// An instruction that is not known, or none at all: pc.
    Instruction(usize),
    /// A helper that is not known.
    Helper(i64),
    /// Functions call each other too deeply, or the program does not end.
    Endless,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fault::Access(address, bytes) => write!(f, "{bytes} bytes at {address:#x} are outside of its memory"),
            Fault::Instruction(pc) => write!(f, "there is no known instruction at {pc}"),
            Fault::Helper(number) => {
                write!(f, "it calls helper {number}, which bench/src/model/helpers.rs does not have yet")
            }
            Fault::Endless => write!(f, "it does not end"),
        }
    }
}

impl std::error::Error for Fault {}

/// What kind of memory an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Byte of the packet's page.
    Packet(usize),
    /// Byte of the stack.
    Stack(usize),
    Context,
    /// Map, and byte of its elements.
    Map(usize, u64),
}

/// The kind of memory at an address that has been found to be valid.
#[inline(always)]
pub fn place(address: u64) -> Place {
    let offset = address & ((1 << REGION_SHIFT) - 1);
    match address >> REGION_SHIFT {
        0 => Place::Packet((offset - PAGE) as usize),
        1 => Place::Stack(offset as usize),
        2 => Place::Context,
        region => Place::Map((region - FIRST_MAP) as usize, offset),
    }
}

/// A map that the object declares, or a section of constants, which becomes one.
#[derive(Clone, Debug)]
pub struct MapDefinition {
    pub name: String,
    /// A `BPF_MAP_TYPE_`.
    pub kind: u32,
    pub value_bytes: u32,
    pub entries: u32,
    /// What the only element of a map of constants holds.
    pub contents: Option<Vec<u8>>,
}

/// A map's elements.
pub struct Elements {
    pub definition: MapDefinition,
    /// Bytes from one element to the next.
    pub element_bytes: u64,
    file: File,
    mapping: MmapRaw,
}

impl Elements {
    fn new(definition: &MapDefinition) -> anyhow::Result<Self> {
        // As the kernel does it.
        let element_bytes =
            if definition.kind == RING_BUFFER { 1 } else { u64::from(definition.value_bytes).next_multiple_of(8) };
        let bytes = (element_bytes * u64::from(definition.entries)).max(1).next_multiple_of(PAGE_BYTES as u64);
        // SAFETY: the name is a string with a NUL at its end.
        let file = unsafe { libc::memfd_create(c"map".as_ptr(), libc::MFD_CLOEXEC) };
        if file < 0 {
            return Err(std::io::Error::last_os_error()).context("cannot make a file in memory");
        }
        // SAFETY: the descriptor is a new one.
        let file = unsafe { File::from_raw_fd(file) };
        file.set_len(bytes)?;
        let mapping = MmapOptions::new().len(bytes as usize).map_raw(&file)?;
        let mut elements = Self { definition: definition.clone(), element_bytes, file, mapping };
        if let Some(contents) = &definition.contents {
            elements.bytes_mut()[..contents.len()].copy_from_slice(contents);
        }
        Ok(elements)
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is that long, and nobody else has it yet.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.as_mut_ptr(), self.mapping.len()) }
    }

    /// Its memory as a file, for the library to map as it maps a BPF map.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

pub struct Memory {
    page: Box<[u8; PAGE_BYTES]>,
    /// Where the packet begins and ends, as addresses.
    pub data: u64,
    pub data_end: u64,
    stack: Box<[u8; (FRAME_BYTES * FRAMES) as usize]>,
    /// Number of the interface that packets come in by.
    pub interface: u32,
    maps: Vec<Elements>,
    /// Where each region of maps begins in this process, and how long it is.
    regions: Vec<(*mut u8, u64)>,
}

impl Memory {
    pub fn new(definitions: &[MapDefinition], interface: u32) -> anyhow::Result<Self> {
        let maps: Vec<_> = definitions
            .iter()
            .map(|definition| {
                Elements::new(definition).with_context(|| format!("cannot have memory for the map {}", definition.name))
            })
            .collect::<anyhow::Result<_>>()?;
        let regions = maps
            .iter()
            .map(|map| (map.mapping.as_mut_ptr(), map.element_bytes * u64::from(map.definition.entries)))
            .collect();
        Ok(Self {
            page: Box::new([0; PAGE_BYTES]),
            data: PAGE,
            data_end: PAGE,
            stack: Box::new([0; (FRAME_BYTES * FRAMES) as usize]),
            interface,
            maps,
            regions,
        })
    }

    pub fn maps(&self) -> &[Elements] {
        &self.maps
    }

    /// The packet.
    pub fn packet(&self) -> &[u8] {
        &self.page[(self.data - PAGE) as usize..(self.data_end - PAGE) as usize]
    }

    /// Lays a packet into the page, `at` bytes behind its beginning.
    pub fn set_packet(&mut self, at: usize, packet: &[u8]) {
        self.page[at..at + packet.len()].copy_from_slice(packet);
        self.data = PAGE + at as u64;
        self.data_end = self.data + packet.len() as u64;
    }

    /// The stack pointer of a function called at this level.
    pub fn frame(level: u64) -> Result<u64, Fault> {
        if level < FRAMES { Ok(STACK + (level + 1) * FRAME_BYTES) } else { Err(Fault::Endless) }
    }

    /// The address of an element; 0 if there is none of that number.
    pub fn element(&self, map: usize, number: u32) -> Option<u64> {
        let elements = self.maps.get(map)?;
        let at = value_address(map) + u64::from(number) * elements.element_bytes;
        Some(if number < elements.definition.entries { at } else { 0 })
    }

    #[inline(always)]
    fn locate(&self, address: u64, bytes: usize) -> Result<*mut u8, Fault> {
        let region = address >> REGION_SHIFT;
        let offset = address & ((1 << REGION_SHIFT) - 1);
        let end = offset + bytes as u64;
        if region >= FIRST_MAP {
            if let Some((start, length)) = self.regions.get((region - FIRST_MAP) as usize)
                && end <= *length
            {
                // SAFETY: inside the mapping, as was checked in the line above.
                return Ok(unsafe { start.add(offset as usize) });
            }
        } else if region == 1 {
            if end <= FRAME_BYTES * FRAMES {
                // SAFETY: inside the stack, as was checked in the line above.
                return Ok(unsafe { self.stack.as_ptr().cast_mut().add(offset as usize) });
            }
        } else if region == 0 && offset >= self.data && end <= self.data_end {
            // SAFETY: the packet is inside its page.
            return Ok(unsafe { self.page.as_ptr().cast_mut().add((offset - PAGE) as usize) });
        }
        Err(Fault::Access(address, bytes))
    }

    /// A field of the context. The kernel makes pointers of `data` and `data_end`.
    fn context(&self, address: u64) -> Result<u64, Fault> {
        match address - CONTEXT {
            0 | 8 => Ok(self.data),
            4 => Ok(self.data_end),
            12 => Ok(self.interface.into()),
            16 | 20 => Ok(0),
            _ => Err(Fault::Access(address, 4)),
        }
    }

    /// Reads 1, 2, 4 or 8 bytes.
    #[inline(always)]
    pub fn load(&self, address: u64, bytes: usize) -> Result<u64, Fault> {
        if address >> REGION_SHIFT == CONTEXT >> REGION_SHIFT {
            return self.context(address);
        }
        let at = self.locate(address, bytes)?;
        // SAFETY: `locate` checked that there are so many bytes.
        Ok(unsafe {
            match bytes {
                1 => u64::from(at.read()),
                2 => u64::from(at.cast::<u16>().read_unaligned()),
                4 => u64::from(at.cast::<u32>().read_unaligned()),
                _ => at.cast::<u64>().read_unaligned(),
            }
        })
    }

    /// Writes 1, 2, 4 or 8 bytes.
    #[inline(always)]
    pub fn store(&mut self, address: u64, bytes: usize, value: u64) -> Result<(), Fault> {
        let at = self.locate(address, bytes)?;
        // SAFETY: `locate` checked that there are so many bytes.
        unsafe {
            match bytes {
                1 => at.write(value as u8),
                2 => at.cast::<u16>().write_unaligned(value as u16),
                4 => at.cast::<u32>().write_unaligned(value as u32),
                _ => at.cast::<u64>().write_unaligned(value),
            }
        }
        Ok(())
    }

    /// Reads any number of bytes.
    pub fn read(&self, address: u64, bytes: usize) -> Result<Vec<u8>, Fault> {
        let at = self.locate(address, bytes)?;
        // SAFETY: `locate` checked that there are so many bytes.
        Ok(unsafe { std::slice::from_raw_parts(at, bytes) }.to_vec())
    }

    /// Writes any number of bytes.
    pub fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), Fault> {
        let at = self.locate(address, bytes.len())?;
        // SAFETY: `locate` checked that there are so many bytes.
        unsafe { std::slice::from_raw_parts_mut(at, bytes.len()) }.copy_from_slice(bytes);
        Ok(())
    }
}
