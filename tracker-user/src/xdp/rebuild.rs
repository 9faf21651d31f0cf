//! A pinned store is taken over into new maps of other sizes, or of a newer layout, while XDP goes
//! on with the old one.
//!
//! 1. New maps and programs are made and pinned beside the old ones, which the record `IDENTITY`
//!    still names. What a daemon leaves that is killed here is removed by the next one.
//! 2. All is copied, and then what has changed meanwhile, until that is little.
//! 3. XDP is told to leave requests to the sockets for a moment ([`Settings::pause`]): they wait
//!    there. What has changed is copied once more, so the two stores are equal. If the daemon is
//!    killed here, XDP goes on with the old store by itself when [`PAUSE`] is over.
//! 4. The record names the new ones, and each interface gets the new program. A daemon that is killed
//!    in between leaves links to the next one, which finds them by the record as after any upgrade.
//! 5. What is old is removed when all packets are through.
//!
//! A program of an older layout cannot be told to pause. Then what has changed after the last copy is
//! added after the change ([`Copier::add_missing`]): no peer is lost, and who has left in the
//! moment between stays until it expires.

use super::{
    Kernel, Program,
    bpf_link::Link,
    memory_limit,
    object::Source,
    older,
    pins::{Directory, identity::Identity},
    program::{COUNTERS_MAP, Pinning},
    take_over::{open_map, remove_others, wait_for_packets_under_way},
};
use crate::{
    snapshot::{copy, copy::Copier, dated},
    store::{
        Store, clock,
        sizes::{BLOCKS_MAP, STORE_MAPS, Sizes},
    },
    text::{human_bytes, plural},
};
use anyhow::{Context as _, ensure};
use aya::maps::MapData;
use std::{
    cell::Cell,
    os::fd::AsFd as _,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tracing::{info, warn};
use tracker_common::{settings::Settings, store::layout::LAYOUT_VERSION};

/// How long a pause lasts if nobody makes it longer.
const PAUSE: Duration = Duration::from_millis(250);

/// How often it is made longer.
const RENEWAL: Duration = Duration::from_millis(20);

/// When a pass has taken no longer, the next one may be the last.
const SHORT: Duration = Duration::from_millis(100);

/// How many passes are waited for until one is short.
const PASSES: u32 = 5;

/// The store that is left behind.
pub(super) struct Old {
    store: Arc<Store>,
    /// Of another layout: where its settings are.
    settings: Option<older::Settings>,
}

impl Old {
    /// Opens the maps of a pinned store, of whatever size.
    pub(super) fn open(
        directory: &Directory,
        identity: &Identity,
        maps: &[(&'static str, MapData)],
    ) -> anyhow::Result<Self> {
        let damaged = || {
            let path = directory.path().display();
            format!(
                "the settings pinned in {path} are not those of the store beside them: it cannot be taken over. It goes on \
                 answering as far as it can. Give it up, with all swarms in it, by `tracker detach --pin-path {path}`"
            )
        };
        let map = |name: &str| {
            let found = maps.iter().find(|(of, _)| *of == name);
            Ok(found.with_context(|| format!("no map {name} is pinned"))?.1.fd().as_fd())
        };
        let elements = |name: &str| -> anyhow::Result<u32> {
            let found = maps.iter().find(|(of, _)| *of == name);
            let map = &found.with_context(|| format!("no map {name} is pinned"))?.1;
            Ok(map.info().with_context(|| format!("cannot ask for the size of {name}"))?.max_entries())
        };
        let mut sizes = Sizes {
            index_buckets: elements("INDEX")?,
            swarms: 0,
            partitions: elements("PARTITIONS")?,
            chunks_v4: elements("CHUNKS_V4")?,
            chunks_v6: elements("CHUNKS_V6")?,
            access_buckets: elements("ACCESS")?,
            // They are the program's; none is looked for in the old store.
            block_words: 1,
        };
        let settings = (identity.layout != LAYOUT_VERSION)
            .then(|| older::Settings::open(identity.layout, map("SETTINGS")?))
            .transpose()?;
        let store = if let Some(settings) = &settings {
            let read = settings.read();
            ensure!(older::belong(&read, &sizes), damaged());
            sizes.swarms = read.pool_limits[0].load();
            let store = Store::from_some_maps(&sizes, |name| {
                if name != "SETTINGS" && older::has_map(identity, name) { map(name).map(Some) } else { Ok(None) }
            })?;
            dated::copy(&read, store.settings());
            store
        } else {
            let shared = crate::store::SharedSettings::new(map("SETTINGS")?).context("cannot map SETTINGS")?;
            ensure!(older::belong(&shared, &sizes), damaged());
            sizes.swarms = shared.pool_limits[0].load();
            // As they are, since the old program looks there.
            sizes.block_words = shared.block_words.load();
            Store::from_some_maps(&sizes, |name| if name == BLOCKS_MAP { Ok(None) } else { map(name).map(Some) })?
        };
        Ok(Self { store: Arc::new(store), settings })
    }

    /// Has the settings show what the XDP program has made of them.
    fn refresh(&self) {
        if let Some(settings) = &self.settings {
            dated::copy(&settings.read(), self.store.settings());
        }
    }
}

/// What is pinned, and what it is to become.
pub(super) struct Plan<'a> {
    pub found: &'a Identity,
    pub links: Vec<Link>,
    pub object: &'a [u8],
    pub sizes: &'a Sizes,
}

/// Copies the store into new maps, and puts these and a program for them in the place of the old ones.
///
/// # Errors
/// When the kernel refuses something, or there is no memory for both. The old ones go on answering.
pub(super) fn rebuild(directory: Directory, old: &Old, plan: Plan<'_>) -> anyhow::Result<Kernel> {
    let Plan { found, links, object, sizes } = plan;
    let begin = Instant::now();
    let wanted = Identity::new(object, sizes.block_words).with_store(next_store(&directory, found)?);
    memory_limit::check(sizes).with_context(|| {
        format!(
            "there has to be room for the store that is pinned in {path} and for the one of {} that is to take its place; \
             start with --max-torrents, --max-peers and --max-peers-v6 as they were, or give it up, with all swarms in it, by \
             `tracker detach --pin-path {path}`",
            human_bytes(sizes.bytes()),
            path = directory.path().display()
        )
    })?;
    let mut pinned = Vec::new();
    if found.counters == wanted.counters {
        pinned.push((COUNTERS_MAP, directory.set(found).join(COUNTERS_MAP)));
    }
    let mut program = Program::load_from(Source { object, sizes, pinned: &pinned })?;
    let made = Made { directory: &directory, wanted: &wanted, complete: Cell::new(false) };
    directory.pin_beside(&mut program.ebpf, &wanted)?;
    let new = Arc::new(program.store(sizes)?);
    let filled = fill(old, &new)?;
    directory.use_set(&wanted)?;
    made.complete.set(true);
    for link in &links {
        link.update(program.loaded.entry()).context("cannot put the new XDP program in the place of the old one")?;
    }
    let gap = filled.since.elapsed();
    let copier = filled.complete(old);
    remove_others(&directory, &wanted)?;
    drop(made);
    tell(&copier, begin.elapsed(), gap);
    drop(copier);
    let counters = program.counters()?;
    let mut loaded = program.keep();
    let pinning = Pinning::new(directory);
    *pinning.links.lock().unwrap_or_else(PoisonError::into_inner) = links;
    loaded.pinning = Some(pinning);
    let store = Arc::try_unwrap(new).ok().context("the new store is still in use")?;
    Ok(Kernel { store, counters, loaded })
}

/// A number for the new store. What a daemon has left that was killed while it made one is removed.
fn next_store(directory: &Directory, found: &Identity) -> anyhow::Result<u32> {
    let number = found.store.checked_add(1).context("there were too many stores")?;
    let half_made = directory.stores_but(found)?;
    if !half_made.is_empty() {
        info!("removed a store that a tracker left behind which was ended while it made it");
    }
    directory.remove(&half_made)?;
    Ok(number)
}

/// What has been pinned, and goes again unless it comes into use.
struct Made<'d> {
    directory: &'d Directory,
    wanted: &'d Identity,
    complete: Cell<bool>,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        if !self.complete.get() {
            let pins = [self.directory.store(self.wanted), self.directory.set(self.wanted)];
            let pins: Vec<_> = pins.into_iter().filter(|path| path.exists()).collect();
            if let Err(error) = self.directory.remove(&pins) {
                warn!("what was pinned for a new store is still there: {error:#}");
            }
        }
    }
}

/// A new store that is what the old one was at some moment.
#[must_use = "what has come since that moment may be missing"]
struct Filled {
    copier: Copier,
    /// That moment. Nobody has changed the old store since then, if its program can pause.
    since: Instant,
}

impl Filled {
    /// Adds, after the new program has taken the place of the old one, what that one has stored since.
    fn complete(mut self, old: &Old) -> Copier {
        if old.settings.is_some() {
            wait_for_packets_under_way();
            old.refresh();
            self.copier.add_missing();
        }
        self.copier
    }
}

/// Makes the new store what the old one is.
fn fill(old: &Old, new: &Arc<Store>) -> anyhow::Result<Filled> {
    let begin = Instant::now();
    // What its daemon held when it was killed: nobody else would give it back.
    old.store.repair();
    take_settings(old, new);
    ensure!(copy::lists(&old.store, new), "there is no room for all listed torrents");
    let (from, to) = (old.store.sizes(), new.sizes());
    let tight = to.swarms < from.swarms
        || to.partitions < from.partitions
        || to.chunks_v4 < from.chunks_v4
        || to.chunks_v6 < from.chunks_v6;
    let mut copier = Copier::new(&old.store, new, tight);
    for _ in 0..PASSES {
        let pass = Instant::now();
        old.refresh();
        copier.pass();
        if pass.elapsed() <= SHORT {
            break;
        }
    }
    info!("copied into new maps in {:.1} s, while XDP went on", begin.elapsed().as_secs_f64());
    let since = Instant::now();
    if old.settings.is_none() {
        while !in_a_pause(old.store.settings(), || {
            copier.pass();
            if old.store.settings().pool_limits[0].load() <= old.store.pools().swarms.used.load() {
                // A full store removes torrents by itself.
                copier.remove_missing();
            }
        }) {}
    } else {
        old.refresh();
        copier.pass();
    }
    take_settings(old, new);
    Ok(Filled { copier, since })
}

/// Does `work` while XDP leaves requests to the sockets. False if it has gone on meanwhile: this process
/// was stopped for too long.
fn in_a_pause(settings: &Settings, work: impl FnOnce()) -> bool {
    let pause = || settings.pause(clock::monotonic(), PAUSE.as_nanos() as u64);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        pause();
        // By another thread: nobody knows how long the largest swarm takes.
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                thread::sleep(RENEWAL);
                pause();
            }
        });
        // Who knows nothing of it yet; and who has written when he looked at the time.
        wait_for_packets_under_way();
        let long_ago = settings.have_all_look();
        wait_for_packets_under_way();
        work();
        done.store(true, Ordering::Relaxed);
        !settings.has_gone_on(long_ago)
    })
}

/// Clock, keys, addresses and all else that the old program goes by.
fn take_settings(old: &Old, new: &Store) {
    let settings: &Settings = new.settings();
    dated::copy(old.store.settings(), settings);
    settings.paused_until.store(0);
    // Until the lists are read.
    settings.blocked.store(0);
    new.write_sizes();
}

fn tell(copier: &Copier, time: Duration, gap: Duration) {
    let [old, new] = copier.held();
    info!(
        "taken over from the tracker before into new maps: {}, {} in {:.1} s; requests had to wait for {:.0} ms",
        plural(new.torrents, "torrent", "torrents"),
        plural(new.peers, "peer", "peers"),
        time.as_secs_f64(),
        gap.as_secs_f64() * 1000.0
    );
    let (torrents, peers) = (old.torrents.saturating_sub(new.torrents), old.peers.saturating_sub(new.peers));
    if torrents + peers > 0 {
        warn!(
            "{} and {} of the tracker before found no room: raise --max-torrents, --max-peers or --max-peers-v6",
            plural(torrents, "torrent", "torrents"),
            plural(peers, "peer", "peers")
        );
    }
}

/// The maps of the pinned store of this record.
pub(super) fn open_maps(directory: &Directory, identity: &Identity) -> anyhow::Result<Vec<(&'static str, MapData)>> {
    let store = directory.store(identity);
    let open = |name: &'static str| Ok((name, open_map(&store.join(name))?));
    STORE_MAPS.into_iter().filter(|name| older::has_map(identity, name)).map(open).collect()
}

#[cfg(test)]
mod tests;
