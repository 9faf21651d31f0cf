//! Reading a snapshot, whatever has become of it: every block that is whole is given, and every
//! damage is told with its place.

use super::{
    Totals,
    columns::Block,
    format::{BLOCK_BYTES, BlockHeader, HEADER_BYTES, Header, LAST_MARK, MARK, Unfit, totals_of},
};
use std::{
    fmt,
    io::{self, ErrorKind, Read, Seek, SeekFrom},
};
use zstd::bulk::Decompressor;

/// Bytes that are looked through at once for the next block behind a damaged one.
const WINDOW: usize = 64 << 10;

/// What is wrong with a snapshot, at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The block that should begin at this byte is none.
    Header {
        /// Bytes from the beginning of the file.
        at: u64,
    },
    /// A block whose contents do not have their checksum, or are none.
    Contents {
        /// Its number, counted from 0.
        block: u32,
        /// Bytes from the beginning of the file.
        at: u64,
    },
    /// Blocks are not there.
    Missing {
        /// The first one, counted from 0.
        first: u32,
        /// The first one behind that is there.
        next: u32,
    },
    /// The file ends too early.
    CutOff {
        /// Where.
        at: u64,
    },
    /// Something follows the end.
    Trailing {
        /// Where.
        at: u64,
    },
    /// The last block counts other torrents and peers than there are.
    Totals,
    /// The system could not read it.
    Unreadable {
        /// Where.
        at: u64,
        /// The system's number of the error.
        error: Option<i32>,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header { at } => write!(f, "no block begins at byte {at}"),
            Self::Contents { block, at } => write!(f, "block {block} at byte {at} is damaged"),
            Self::Missing { first, next } if first + 1 == *next => write!(f, "block {first} is missing"),
            Self::Missing { first, next } => write!(f, "blocks {first} to {} are missing", next - 1),
            Self::CutOff { at } => write!(f, "it is cut off at byte {at}"),
            Self::Trailing { at } => write!(f, "something follows its end at byte {at}"),
            Self::Totals => write!(f, "it holds another number of torrents or peers than it says"),
            Self::Unreadable { at, error } => {
                write!(f, "cannot be read at byte {at}")?;
                match error {
                    Some(error) => write!(f, ": {}", io::Error::from_raw_os_error(*error)),
                    None => Ok(()),
                }
            }
        }
    }
}

/// A block as it is in the file, with the right checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// Its header.
    pub header: BlockHeader,
    at: u64,
    bytes: Vec<u8>,
}

/// Unpacks blocks, one after the other.
pub struct Unpacker {
    decompressor: Decompressor<'static>,
    columns: Vec<u8>,
}

impl Unpacker {
    /// A new one.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn new() -> io::Result<Self> {
        Ok(Self { decompressor: Decompressor::new()?, columns: Vec::new() })
    }

    /// What a block holds.
    ///
    /// # Errors
    /// When it is not what a tracker writes, although its checksum is right.
    pub fn unpack(&mut self, packed: &Packed) -> Result<Block, Damage> {
        let Packed { header, at, bytes } = packed;
        self.columns.clear();
        // Not a byte more than the header allows, whatever the compressed bytes want.
        self.columns.reserve(header.unpacked as usize);
        let unpacked = self.decompressor.decompress_to_buffer(bytes, &mut self.columns);
        let right = unpacked.is_ok_and(|length| length == header.unpacked as usize);
        let block = right.then(|| Block::decode(header, &self.columns)).flatten();
        block.ok_or(Damage::Contents { block: header.number, at: *at })
    }
}

/// Reads a file block by block.
pub struct Reader<R> {
    from: R,
    header: Header,
    at: u64,
    /// The number that the next block is to have.
    number: u32,
    seen: Totals,
    state: Reading,
    sound: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Blocks,
    /// Behind the last block.
    Behind,
    Done,
}

/// Reads until `buffer` is full or the file ends; returns how many bytes there were.
fn read_up_to(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// When the file cannot be read; inside, what is wrong with it.
    pub fn new(mut from: R) -> io::Result<Result<Self, Unfit>> {
        let mut bytes = [0; HEADER_BYTES];
        let length = read_up_to(&mut from, &mut bytes)?;
        let header = Header::decode(&bytes[..length]);
        Ok(header.map(|header| Self {
            from,
            header,
            at: HEADER_BYTES as u64,
            number: 0,
            seen: Totals::default(),
            state: Reading::Blocks,
            sound: true,
        }))
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    fn damage(&mut self, damage: Damage) -> Option<Result<Packed, Damage>> {
        self.sound = false;
        Some(Err(damage))
    }

    fn unreadable(&mut self, error: &io::Error) -> Option<Result<Packed, Damage>> {
        self.state = Reading::Done;
        self.damage(Damage::Unreadable { at: self.at, error: error.raw_os_error() })
    }

    /// Goes to where a block's header might be.
    fn seek(&mut self, at: u64) -> io::Result<()> {
        self.at = at;
        self.from.seek(SeekFrom::Start(at)).map(drop)
    }

    /// Looks for the next block from `from` on; `None` if there is none.
    fn look_for_block(&mut self, from: u64) -> io::Result<Option<u64>> {
        let mut window = vec![0; WINDOW];
        let mut start = from;
        loop {
            self.seek(start)?;
            let length = read_up_to(&mut self.from, &mut window)?;
            if length < BLOCK_BYTES {
                return Ok(None);
            }
            let found = window[..length].windows(BLOCK_BYTES).position(|bytes| {
                let begins = bytes.starts_with(&MARK) || bytes.starts_with(&LAST_MARK);
                let header = || BlockHeader::decode(bytes.first_chunk()?, self.header.id);
                begins && header().is_some_and(|header| header.number >= self.number)
            });
            if let Some(found) = found {
                return Ok(Some(start + found as u64));
            }
            start += (length - (BLOCK_BYTES - 1)) as u64;
        }
    }

    /// Goes on at the next block behind a place where none begins.
    fn resume(&mut self, at: u64) -> Option<Result<Packed, Damage>> {
        match self.look_for_block(at + 1).and_then(|found| found.map(|found| self.seek(found)).transpose()) {
            Ok(Some(())) => {}
            Ok(None) => self.state = Reading::Done,
            Err(error) => return self.unreadable(&error),
        }
        self.damage(Damage::Header { at })
    }

    fn block(&mut self) -> Option<Result<Packed, Damage>> {
        let at = self.at;
        let mut bytes = [0; BLOCK_BYTES];
        match read_up_to(&mut self.from, &mut bytes) {
            Ok(BLOCK_BYTES) => {}
            Ok(length) => {
                self.state = Reading::Done;
                return self.damage(Damage::CutOff { at: at + length as u64 });
            }
            Err(error) => return self.unreadable(&error),
        }
        let header = BlockHeader::decode(&bytes, self.header.id);
        let Some(header) = header.filter(|header| header.number >= self.number) else { return self.resume(at) };
        if header.number > self.number {
            let missing = Damage::Missing { first: self.number, next: header.number };
            self.number = header.number;
            if let Err(error) = self.seek(at) {
                return self.unreadable(&error);
            }
            return self.damage(missing);
        }
        let mut bytes = vec![0; header.packed as usize];
        let length = match read_up_to(&mut self.from, &mut bytes) {
            Ok(length) => length,
            Err(error) => return self.unreadable(&error),
        };
        self.at = at + (BLOCK_BYTES + length) as u64;
        self.number = self.number.saturating_add(1);
        if length < bytes.len() {
            self.state = Reading::Done;
            return self.damage(Damage::CutOff { at: self.at });
        }
        if header.last {
            self.state = Reading::Behind;
        }
        if !header.is_followed_by(&bytes, self.header.id) {
            return self.damage(Damage::Contents { block: header.number, at });
        }
        if header.last {
            let right = totals_of(&bytes) == Some(self.seen);
            return if right || !self.sound { self.next() } else { self.damage(Damage::Totals) };
        }
        self.seen.torrents += u64::from(header.torrents);
        self.seen.peers_v4 += u64::from(header.peers_v4);
        self.seen.peers_v6 += u64::from(header.peers_v6);
        Some(Ok(Packed { header, at, bytes }))
    }
}

impl<R: Read + Seek> Iterator for Reader<R> {
    type Item = Result<Packed, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.state {
            Reading::Blocks => self.block(),
            Reading::Behind => {
                self.state = Reading::Done;
                match read_up_to(&mut self.from, &mut [0]) {
                    Ok(0) => None,
                    Ok(_) => self.damage(Damage::Trailing { at: self.at }),
                    Err(error) => self.unreadable(&error),
                }
            }
            Reading::Done => None,
        }
    }
}
