//! A snapshot without a tracker: written out for people and other programs, or brought together
//! with the state of opentracker.

use super::{
    columns::{COMPLETED_MAX, Peers, Torrent},
    directory,
    format::Header,
    path_in,
    read::{Damage, Reader, Unpacker},
    statedump::{self, Line, Wrong},
    wall_clock,
    write::Writer,
};
use anyhow::{Context as _, bail};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
};
use tracker_common::{
    id::InfoHash,
    store::family::{V4, V6},
};

/// How a snapshot is written out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// opentracker's lines info_hash:minute:downloads
    Statedump,
    /// A JSON object per line, with the numbers of seeders and leechers if peers are in the snapshot
    Json,
}

/// A snapshot that is read from the beginning.
pub type Snapshot = Reader<BufReader<File>>;

/// Opens the snapshot in a state directory.
///
/// # Errors
/// When there is none, or it is not to be read.
pub fn open(directory: &Path) -> anyhow::Result<Snapshot> {
    open_if_there(directory)?.with_context(|| format!("there is no snapshot {}", path_in(directory).display()))
}

fn open_if_there(directory: &Path) -> anyhow::Result<Option<Snapshot>> {
    let path = path_in(directory);
    match directory::open(directory) {
        Ok(None) => Ok(None),
        Ok(Some(file)) => begin(file, &path).map(Some),
        Err(reason) => bail!("the snapshot {} {reason}", path.display()),
    }
}

/// Opens any file.
///
/// # Errors
/// When it is no snapshot that can be read.
pub fn open_file(path: &Path) -> anyhow::Result<Snapshot> {
    begin(File::open(path).with_context(|| format!("cannot open {}", path.display()))?, path)
}

fn begin(file: File, path: &Path) -> anyhow::Result<Snapshot> {
    let reader = Reader::new(BufReader::with_capacity(1 << 20, file));
    match reader.with_context(|| format!("cannot read {}", path.display()))? {
        Ok(reader) => Ok(reader),
        Err(unfit) => bail!("the snapshot {} {unfit}", path.display()),
    }
}

/// A torrent with the numbers of its peers, all of its records together.
#[derive(Default)]
struct Sum {
    torrent: Torrent,
    seeders: u64,
    leechers: u64,
}

/// Writes all torrents of a snapshot, and returns how many they are and what was damaged. Blocks
/// that are whole are written whatever others are.
///
/// # Errors
/// When it cannot be written.
pub fn export(snapshot: Snapshot, format: Format, to: &mut impl Write) -> io::Result<(u64, Vec<Damage>)> {
    let header = *snapshot.header();
    let mut unpacker = Unpacker::new()?;
    let (mut damages, mut count) = (Vec::new(), 0);
    let mut present: Option<Sum> = None;
    let mut finish = |sum: Option<Sum>, to: &mut _| {
        sum.map_or(Ok(()), |sum| {
            count += 1;
            write(&sum, &header, format, to)
        })
    };
    for block in snapshot {
        let block = match block.and_then(|packed| unpacker.unpack(&packed)) {
            Ok(block) => block,
            Err(damage) => {
                damages.push(damage);
                continue;
            }
        };
        for (torrent, [v4, v6]) in block.records() {
            let states_v4 = block.v4.of::<V4>(v4.0, v4.1).map(|(_, state)| state);
            let states_v6 = block.v6.of::<V6>(v6.0, v6.1).map(|(_, state)| state);
            let leechers = states_v4.chain(states_v6).filter(|state| state.leecher).count() as u64;
            // The records of one torrent stand in a row.
            if present.as_ref().is_none_or(|sum| sum.torrent.info_hash != torrent.info_hash) {
                finish(present.replace(Sum { torrent: *torrent, ..Sum::default() }), to)?;
            }
            if let Some(sum) = &mut present {
                sum.leechers += leechers;
                sum.seeders += (v4.1 + v6.1) as u64 - leechers;
            }
        }
    }
    finish(present, to)?;
    to.flush()?;
    Ok((count, damages))
}

fn write(sum: &Sum, header: &Header, format: Format, to: &mut impl Write) -> io::Result<()> {
    let line = Line::of(&sum.torrent, header.taken_at);
    match format {
        Format::Statedump => line.write(to),
        Format::Json => {
            to.write_all(b"{\"info_hash\":\"")?;
            for byte in line.info_hash {
                write!(to, "{byte:02x}")?;
            }
            write!(to, "\",\"completed\":{},\"last_announce\":{}", line.completed, line.minute * 60)?;
            if header.peers {
                write!(to, ",\"seeders\":{},\"leechers\":{}", sum.seeders, sum.leechers)?;
            }
            to.write_all(b"}\n")
        }
    }
}

/// What two counts of one torrent make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merge {
    /// The larger one: importing the same lines again changes nothing.
    Larger,
    /// Both together: two trackers have counted one after the other.
    Sum,
}

impl Merge {
    fn of(self, one: u32, other: u32) -> u32 {
        match self {
            Self::Larger => one.max(other),
            Self::Sum => one.saturating_add(other).min(COMPLETED_MAX),
        }
    }
}

/// What an import has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Torrents that were not in the snapshot.
    pub new: u64,
    /// Torrents that were.
    pub merged: u64,
    /// Lines that were left out, or that stood twice.
    pub wrong: u64,
}

/// Brings the torrents of opentracker's lines into the snapshot of a state directory, which is made
/// if there is none. `complain` is told of each line that is wrong; the others are imported.
///
/// How long a torrent has been idle is told by the newest line, which says when the lines were
/// written.
///
/// # Errors
/// When no line is right, a tracker has claimed the directory, or the snapshot is damaged or cannot
/// be read or written. It is as it was then.
pub fn import(
    lines: impl BufRead,
    directory: &Path,
    merge: Merge,
    mut complain: impl FnMut(u64, Wrong),
) -> anyhow::Result<Imported> {
    let claim = directory::claim(directory)?;
    let claim = claim.with_context(|| format!("a tracker is running with {}: stop it first", directory.display()))?;
    let mut imported = Imported::default();
    let mut torrents: HashMap<InfoHash, (Line, bool)> = HashMap::new();
    statedump::read(lines, wall_clock() / 60, |number, line| {
        let wrong = match line {
            Ok(line) => {
                let Some((known, _)) = torrents.get_mut(&line.info_hash) else {
                    torrents.insert(line.info_hash, (line, false));
                    return;
                };
                known.completed = known.completed.max(line.completed);
                known.minute = known.minute.max(line.minute);
                Wrong::Twice
            }
            Err(wrong) => wrong,
        };
        imported.wrong += 1;
        complain(number, wrong);
    })
    .context("cannot read the lines to import")?;
    let newest = torrents.values().map(|(line, _)| line.minute).max().context("there is no line to import")?;
    let idle = |line: &Line| u32::try_from(newest - line.minute).unwrap_or(u32::MAX);

    let old = open_if_there(directory)?;
    let header = Header {
        peers: old.as_ref().is_some_and(|old| old.header().peers),
        taken_at: old.as_ref().map_or_else(wall_clock, |old| old.header().taken_at),
        id: getrandom::u64().unwrap_or_default(),
    };
    let written = directory::replace(directory, &claim, |file| {
        let mut writer = Writer::new(BufWriter::with_capacity(64 << 10, file), &header)?;
        let mut unpacker = Unpacker::new()?;
        let (mut v4, mut v6) = (Peers::default(), Peers::default());
        for packed in old.into_iter().flatten() {
            let block = packed.and_then(|packed| unpacker.unpack(&packed));
            let block = block.map_err(|damage| io::Error::other(format!("the old one is damaged: {damage}")))?;
            for (torrent, [at_v4, at_v6]) in block.records() {
                let mut torrent = *torrent;
                if let Some((line, seen)) = torrents.get_mut(&torrent.info_hash) {
                    torrent.completed = merge.of(torrent.completed, line.completed);
                    torrent.idle = torrent.idle.min(idle(line));
                    imported.merged += u64::from(!*seen);
                    *seen = true;
                }
                v4.clear();
                v6.clear();
                v4.extend::<V4>(&block.v4, at_v4.0, at_v4.1);
                v6.extend::<V6>(&block.v6, at_v6.0, at_v6.1);
                writer.add(&torrent, &v4, &v6)?;
            }
        }
        let mut new: Vec<Line> = torrents.values().filter(|(_, seen)| !seen).map(|(line, _)| *line).collect();
        new.sort_unstable_by_key(|line| line.info_hash);
        let none = Peers::default();
        for line in &new {
            let torrent = Torrent { info_hash: line.info_hash, completed: line.completed, idle: idle(line) };
            writer.add(&torrent, &none, &none)?;
        }
        imported.new = new.len() as u64;
        let (mut file, _) = writer.finish()?;
        file.flush()?;
        Ok(Some(imported))
    });
    written?.context("nothing was written")
}
