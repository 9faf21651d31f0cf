//! What the XDP program tells: the ring buffer that it writes to.

use crate::xdp::Loaded;
use anyhow::Context as _;
use aya::maps::{Map, MapData, RingBuf};
use tracker_common::change::Change;

/// The ring buffer.
pub struct Ring(RingBuf<MapData>);

impl Ring {
    /// That of a program.
    ///
    /// # Errors
    /// When it has none.
    pub fn of(loaded: &Loaded) -> anyhow::Result<Self> {
        let map = loaded.changes().context("the XDP program has no map CHANGES")?;
        let map = MapData::from_fd(map).context("cannot open the map CHANGES")?;
        Ok(Self(RingBuf::try_from(Map::RingBuf(map)).context("cannot read the map CHANGES")?))
    }

    /// Takes what has been told, `most` of them.
    pub fn take(&mut self, into: &mut Vec<Change>, most: usize) {
        for _ in 0..most {
            let Some(item) = self.0.next() else { break };
            into.extend(Change::read(&item));
        }
    }
}
