//! Torrents that were being entered into the index, or taken out.

use super::{
    super::{
        hash::TorrentKey,
        index::{PROBES, pass_no_longer, release},
        journal::{Counted, IndexWork, Journal, Place},
        layout::SWARM_ALIVE,
    },
    held::Repair,
};
use crate::{id::SwarmId, platform::Platform};

impl<P: Platform> Repair<'_, '_, P> {
    /// Completes what was complete but for a note of it, and what others may have seen; undoes the
    /// rest.
    pub(super) fn finish_index(&mut self, journal: &Journal) {
        let work = &journal.index;
        let torrent = TorrentKey::new(self.cx.settings, &work.info_hash());
        let swarm = journal.locks().find_map(Place::swarm).and_then(|id| self.cx.swarm(id));
        match (work.stage.load(), swarm) {
            (IndexWork::CREATE, _) => self.undo_creation(work, &torrent),
            (IndexWork::REMOVE, Some(swarm)) => {
                let mut from = work.passed.load();
                if let Counted::Begun(probe) = work.passing.counted()
                    && probe == from
                    && self.passed(&torrent, probe).is_some_and(|passed| !work.passing.is_as_before(passed))
                {
                    from += 1;
                }
                pass_no_longer(self.cx.platform, &torrent, swarm.id, from);
                swarm.record.lock.begin_change();
                swarm.record.active.store(0);
                if self.has_tag(&torrent, swarm.id) {
                    release(self.cx.platform, &torrent, swarm.id);
                }
                self.count_out(work);
            }
            (IndexWork::UNLINKED, _) => self.count_out(work),
            _ => {}
        }
        work.end();
    }

    /// The number of torrents that have passed the bucket of this probe.
    fn passed(&self, torrent: &TorrentKey, probe: u32) -> Option<&crate::word::Word32> {
        let number = torrent.bucket(probe);
        Some(&self.cx.platform.bucket(number)?.header(number).passed)
    }

    /// Whether the torrent's tag stands at the place of a record.
    fn has_tag(&self, torrent: &TorrentKey, swarm: SwarmId) -> bool {
        let (number, place) = swarm.place();
        let bucket = self.cx.platform.bucket(number);
        bucket.is_some_and(|bucket| bucket.header(number).tagged(torrent.tag()) == place)
    }

    /// Counts a torrent out, unless that was done.
    fn count_out(&self, work: &IndexWork) {
        if let Some(pools) = self.cx.platform.pools()
            && matches!(work.swarms.counted(), Counted::Begun(_) if work.swarms.is_as_before(&pools.swarms.used))
                | (work.swarms.counted() == Counted::Nothing)
        {
            pools.swarms.used.add(u32::MAX);
        }
    }

    fn undo_creation(&mut self, work: &IndexWork, torrent: &TorrentKey) {
        for probe in 0..PROBES {
            let number = torrent.bucket(probe);
            let Some(bucket) = self.cx.platform.bucket(number) else { break };
            let header = bucket.header(number);
            let place = header.tagged(torrent.tag());
            if let Some(record) = bucket.swarm(number, place) {
                if torrent.matches(record) {
                    return;
                }
                if record.active.load() & SWARM_ALIVE == 0 {
                    release(self.cx.platform, torrent, SwarmId::at(number, place));
                    break;
                }
            }
            if probe >= work.passed.load() {
                break;
            }
        }
        self.undo_passing(work, torrent);
        let Some(pools) = self.cx.platform.pools() else { return };
        let used = &pools.swarms.used;
        if match work.swarms.counted() {
            Counted::Nothing => false,
            // If another torrent came or went meanwhile, one too few is counted: one more may come.
            Counted::Begun(_) => !work.swarms.is_as_before(used),
            Counted::Done => true,
            Counted::Undone(_) => work.swarms.is_as_before(used),
        } {
            used.add(u32::MAX);
        }
    }

    fn undo_passing(&mut self, work: &IndexWork, torrent: &TorrentKey) {
        let passing = work.passing.counted();
        // Before others of these change the same number: buckets may come again.
        let as_before = |probe| self.passed(torrent, probe).is_some_and(|passed| work.passing.is_as_before(passed));
        let (in_doubt, not_undone) = match passing {
            Counted::Begun(probe) => (probe >= work.passed.load() && !as_before(probe), None),
            Counted::Undone(probe) => (false, Some(probe).filter(|probe| as_before(*probe))),
            Counted::Nothing | Counted::Done => (false, None),
        };
        let counted = (work.undone.load()..work.passed.load()).filter(|probe| passing != Counted::Undone(*probe));
        for probe in counted.chain(not_undone) {
            if let Some(passed) = self.passed(torrent, probe) {
                passed.add(u32::MAX);
            }
        }
        // One too many costs a look, one too few a torrent.
        self.result.in_doubt += u32::from(in_doubt);
    }
}
