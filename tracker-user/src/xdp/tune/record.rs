//! What was changed, and the record of it that outlives the process: text in a small map that is pinned
//! beside the XDP program. So it is gone when the settings are gone, too, by a reboot.
//!
//! Each change is written down before it is made. Who is killed in between leaves a change on record
//! that was not made, and that is seen when it is to be undone.

use super::setting::Setting;
use crate::xdp::{bpf_link::pinned, netlink::Interface};
use anyhow::{Context as _, ensure};
use aya::maps::{Array, Map, MapData};
use std::{fmt::Write as _, path::Path};

/// The name of the map.
pub(in crate::xdp) const NAME: &str = "TUNED";

/// What the text begins with.
const FIRST_LINE: &str = "tuned 1";

/// Room for some hundreds of changes.
const BYTES: usize = 32 << 10;

/// A setting that was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Change {
    /// The interface's number.
    pub interface: u32,
    /// Its MAC address: other network namespaces have the same numbers.
    pub mac: [u8; 6],
    /// What was changed.
    pub setting: Setting,
    /// What it was.
    pub old: String,
    /// What it was set to.
    pub new: String,
}

impl Change {
    /// Whether it is of this interface.
    pub fn is_of(&self, interface: &Interface) -> bool {
        self.interface == interface.index && Some(self.mac) == interface.mac
    }

    /// Whether it is of the same setting as another change.
    pub fn is_like(&self, other: &Self) -> bool {
        (self.interface, self.mac, self.setting) == (other.interface, other.mac, other.setting)
    }
}

/// The changes as text.
fn write(changes: &[Change]) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for Change { interface, mac, setting, old, new } in changes {
        let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
        let _infallible = writeln!(text, "{interface}\t{mac}\t{}\t{old}\t{new}", setting.name());
    }
    text
}

/// The changes in a text. Lines that are not understood, of a newer version, are left out.
fn read(text: &str) -> Option<Vec<Change>> {
    let mut lines = text.lines();
    (lines.next()? == FIRST_LINE).then_some(())?;
    let change = |line: &str| {
        let mut fields = line.split('\t');
        let interface = fields.next()?.parse().ok()?;
        let mac: Option<Vec<u8>> = fields.next()?.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
        let (mac, setting) = (mac?.try_into().ok()?, Setting::named(fields.next()?)?);
        let (old, new) = (fields.next()?.to_owned(), fields.next()?.to_owned());
        Some(Change { interface, mac, setting, old, new })
    };
    Some(lines.filter_map(change).collect())
}

/// The map.
pub(super) struct Record(Array<MapData, [u8; BYTES]>);

impl Record {
    /// Makes one without changes, and pins it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        let mut record = Self(Array::create(1, 0).context("cannot make the map TUNED")?);
        record.store(&[])?;
        record.0.pin(path).with_context(|| format!("cannot pin the map TUNED as {}", path.display()))?;
        Self::open(path).map(|(record, _)| record)
    }

    /// The one that is pinned at `path`, with what is on record.
    ///
    /// # Errors
    /// When it is something else.
    pub fn open(path: &Path) -> anyhow::Result<(Self, Vec<Change>)> {
        let other = || format!("{} is not the map it should be", path.display());
        let map = pinned(path).with_context(|| format!("cannot open {}", path.display()))?;
        let map = Map::from_map_data(MapData::from_fd(map).with_context(other)?).with_context(other)?;
        ensure!(matches!(map, Map::Array(_)), other());
        let map = Array::<MapData, [u8; BYTES]>::try_from(map).with_context(other)?;
        let bytes = map.get(&0, 0).with_context(other)?;
        let text: Vec<u8> = bytes.into_iter().take_while(|byte| *byte != 0).collect();
        let changes = read(&String::from_utf8_lossy(&text)).with_context(other)?;
        Ok((Self(map), changes))
    }

    /// Puts these changes on record in the place of those before.
    ///
    /// # Errors
    /// When there are too many, or the kernel refuses.
    pub fn store(&mut self, changes: &[Change]) -> anyhow::Result<()> {
        let text = write(changes);
        let mut bytes = [0; BYTES];
        ensure!(text.len() < BYTES, "there is no room on record for another change");
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        self.0.set(0, bytes, 0).context("cannot write the record TUNED")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(setting: Setting, old: &str, new: &str) -> Change {
        Change { interface: 7, mac: [2, 0, 0, 0, 0xab, 1], setting, old: old.into(), new: new.into() }
    }

    #[test]
    fn record_is_read_as_it_was_written() {
        let changes = [
            change(Setting::Queues, "1", "8"),
            change(Setting::HashV4, "", "sdfn"),
            change(Setting::Interrupt(31), "0-3,8", "2"),
        ];
        assert_eq!(read(&write(&changes)).as_deref(), Some(&changes[..]));
        assert_eq!(read(&write(&[])), Some(Vec::new()));
        assert!(write(&changes).contains("7\t02:00:00:00:ab:01\tqueues\t1\t8\n"));
    }

    #[test]
    fn what_is_not_understood_is_left_out_and_other_texts_are_refused() {
        let good = "7\t02:00:00:00:ab:01\tqueues\t1\t8";
        for (line, count) in [
            (good, 1),
            ("7\t02:00:00:00:ab:01\tcolour\tred\tblue", 0),
            ("x\t02:00:00:00:ab:01\tqueues\t1\t8", 0),
            ("7\t02:00:00:00:ab\tqueues\t1\t8", 0),
            ("7\t02:00:00:00:ab:zz\tqueues\t1\t8", 0),
            ("7\t02:00:00:00:ab:01\tqueues\t1", 0),
            ("", 0),
        ] {
            let text = format!("{FIRST_LINE}\n{line}\n{good}\n");
            assert_eq!(read(&text).map(|changes| changes.len()), Some(count + 1), "{line:?}");
        }
        for text in ["", "tuned 2\n", "tuned\n", good] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }
}
