//! Takes over a store and programs that another process has pinned: the daemon before this one, or
//! the same one before it was killed. They answer all the while.
//!
//! With the same object, and room for as many blocked addresses, everything stays as it is. Another object's programs are loaded with the maps
//! of the store, get a table of tail calls of their own, and take the place of the old ones at each
//! interface in one step. So a packet meets either the old programs or the new ones. Where sizes or
//! layout are others, the store is made anew ([`super::rebuild`]).

use super::{
    Kernel, KernelCounters, Loaded, Program,
    bpf_link::{Link, pinned},
    object::{Source, object},
    older,
    pins::{self, Directory, identity::Identity},
    program::{COUNTERS_MAP, OWN_MAPS, PROGRAM, Pinning, counters},
    rebuild::{Old, Plan, open_maps, rebuild},
};
use crate::{
    store::{
        Store,
        sizes::{BLOCKS_MAP, STORE_MAPS, Sizes},
    },
    text::plural,
};
use anyhow::{Context as _, bail};
use aya::{
    maps::{Map, MapData},
    programs::ProgramInfo,
};
use std::{io, os::fd::AsFd as _, path::Path, sync::PoisonError, thread, time::Duration};
use tracing::{info, warn};
use tracker_common::store::layout::LAYOUT_VERSION;

/// How long packets may be under way through the old programs, if the kernel does not say when they
/// are through: many times as long as any.
const PACKETS_UNDER_WAY: Duration = Duration::from_millis(200);

/// `MEMBARRIER_CMD_GLOBAL` of linux/membarrier.h.
const MEMBARRIER_GLOBAL: libc::c_long = 1;

/// Takes over what is pinned in `directory`.
///
/// # Errors
/// When the store is of a layout that is not known, and when the kernel refuses something. It goes on
/// answering as it did.
pub(super) fn take_over(directory: Directory, found: &Identity, sizes: &Sizes) -> anyhow::Result<Kernel> {
    let path = directory.path().display().to_string();
    check_layout(&path, found)?;
    let maps = open_maps(&directory, found).with_context(|| {
        format!("what is pinned in {path} is damaged; `tracker detach --pin-path {path}` removes it")
    })?;
    check_records(&path, &maps, found, sizes)?;
    let object = object()?;
    let wanted = Identity::new(&object, sizes.block_words).with_store(found.store);
    let links = open_links(&directory)?;
    if found.layout != wanted.layout || !has_sizes(&maps, sizes)? {
        let old = Old::open(&directory, found, &maps)?;
        return rebuild(directory, &old, Plan { found, links, object: &object, sizes });
    }

    let (mut loaded, counters) = if wanted == *found {
        let set = directory.set(found);
        (from_set(&set)?, counters_of(&set)?)
    } else {
        load_beside(&directory, (found, &wanted), &object, sizes)?
    };
    // Of the program before, or of one that a daemon wanted to put in its place before it was killed.
    for link in &links {
        if link.program().ok() != Some(loaded.id) {
            link.update(loaded.entry()).context("cannot put the new XDP program in the place of the old one")?;
        }
    }
    if wanted != *found {
        directory.use_set(&wanted)?;
    }
    remove_others(&directory, &wanted)?;

    // Empty, if it is of another size than before, until the lists are read.
    let blocks = open_map(&directory.set(&wanted).join(BLOCKS_MAP))?;
    let store = Store::from_maps(sizes, |name| {
        let map = maps.iter().find(|(of, _)| *of == name).map(|(_, map)| map);
        let map =
            map.or((name == BLOCKS_MAP).then_some(&blocks)).with_context(|| format!("no map {name} is pinned"))?;
        Ok(map.fd().as_fd())
    })?;
    let torrents = u64::from(store.pools().swarms.used());
    info!(
        "taken over from the tracker before: {}, {}; {}",
        plural(torrents, "torrent", "torrents"),
        plural(links.len() as u64, "interface", "interfaces"),
        if wanted == *found { "the XDP program stays" } else { "a new XDP program is in the place of the old one" }
    );
    for (_, map) in maps {
        loaded.maps.push(Map::from_map_data(map)?);
    }
    let pinning = Pinning::new(directory);
    *pinning.links.lock().unwrap_or_else(PoisonError::into_inner) = links;
    loaded.pinning = Some(pinning);
    Ok(Kernel { store, counters, loaded })
}

fn check_layout(path: &str, found: &Identity) -> anyhow::Result<()> {
    if older::is_readable(found) {
        return Ok(());
    }
    bail!(
        "the store pinned in {path} has layout {}, and this tracker ({}) works with layout {LAYOUT_VERSION}: it cannot be taken \
         over. It goes on answering as it is. Run the tracker that it is of; or give it up, with all swarms in it, by \
         `tracker detach --pin-path {path}`, and start this one anew",
        found.layout,
        env!("CARGO_PKG_VERSION")
    )
}

/// Makes sure that records are what this tracker takes them for. Settings of older layouts are not.
fn check_records(path: &str, maps: &[(&'static str, MapData)], found: &Identity, sizes: &Sizes) -> anyhow::Result<()> {
    for region in sizes.regions() {
        let Some((_, map)) = maps.iter().find(|(name, _)| *name == region.name) else { continue };
        let information = map.info().with_context(|| format!("cannot ask for the size of the map {}", region.name))?;
        let bytes = information.value_size() as usize;
        let is_right =
            if region.name == "SETTINGS" { older::has_settings(found, bytes) } else { bytes == region.element_bytes };
        if !is_right {
            bail!(
                "the map {} pinned in {path} has records of {bytes} bytes, which are not those of layout {}, although the record \
                 IDENTITY says that they are: it cannot be taken over. Give it up, with all swarms in it, by `tracker detach \
                 --pin-path {path}`",
                region.name,
                found.layout
            );
        }
    }
    Ok(())
}

/// Whether the maps have as many records as are asked for.
fn has_sizes(maps: &[(&'static str, MapData)], sizes: &Sizes) -> anyhow::Result<bool> {
    for region in sizes.regions() {
        let Some((_, map)) = maps.iter().find(|(name, _)| *name == region.name) else { continue };
        let information = map.info().with_context(|| format!("cannot ask for the size of the map {}", region.name))?;
        if information.max_entries() != region.count {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn open_map(path: &Path) -> anyhow::Result<MapData> {
    let map = pinned(path).with_context(|| format!("cannot open {}", path.display()))?;
    MapData::from_fd(map).with_context(|| format!("{} is not a map", path.display()))
}

/// The links that hold a program on an interface. Those whose interface is gone are removed.
fn open_links(directory: &Directory) -> anyhow::Result<Vec<Link>> {
    let mut links = Vec::new();
    for path in directory.links()? {
        let link = Link::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?;
        if link.interface().ok() == Some(0) {
            info!("the interface of {} is gone, or the link was cut", path.display());
            link.take_off();
        } else {
            links.push(link);
        }
    }
    Ok(links)
}

/// The program of a pinned set.
fn from_set(set: &Path) -> anyhow::Result<Loaded> {
    let path = set.join(PROGRAM);
    let cannot = || format!("cannot open the XDP program {}", path.display());
    let (entry, id) = (pinned(&path).with_context(cannot)?, ProgramInfo::from_pin(&path).with_context(cannot)?.id());
    let mut maps = Vec::new();
    for name in OWN_MAPS {
        maps.push(Map::from_map_data(open_map(&set.join(name))?)?);
    }
    Ok(Loaded::new(entry, id, maps))
}

/// A reader of what the XDP program counts that a tracker has pinned in a directory.
///
/// # Errors
/// When there is none, or it cannot be opened.
pub fn counters_in(directory: &Path) -> anyhow::Result<KernelCounters> {
    let cannot = || format!("there is no XDP program of a tracker pinned in {}", directory.display());
    counters_of(&pins::set_in(directory).with_context(cannot)?)
}

fn counters_of(set: &Path) -> anyhow::Result<KernelCounters> {
    counters(Map::from_map_data(open_map(&set.join(COUNTERS_MAP))?)?)
}

/// Loads programs from another object beside those of the set `old`, and pins them.
fn load_beside(
    directory: &Directory,
    (old, new): (&Identity, &Identity),
    object: &[u8],
    sizes: &Sizes,
) -> anyhow::Result<(Loaded, KernelCounters)> {
    let mut pinned: Vec<_> = STORE_MAPS.into_iter().map(|name| (name, directory.store(old).join(name))).collect();
    // Counters that count something else begin anew.
    if old.counters == new.counters {
        pinned.push((COUNTERS_MAP, directory.set(old).join(COUNTERS_MAP)));
    }
    let mut program = Program::load_from(Source { object, sizes, pinned: &pinned })?;
    directory.pin_set(&mut program.ebpf, new)?;
    let counters = program.counters()?;
    Ok((program.keep(), counters))
}

/// Removes sets of programs that no interface has any more, with their stores, when no packet is under
/// way through them.
pub(super) fn remove_others(directory: &Directory, used: &Identity) -> anyhow::Result<()> {
    let others = directory.others(used)?;
    if others.is_empty() {
        return Ok(());
    }
    // The kernel empties a table of tail calls when its pin goes.
    wait_for_packets_under_way();
    directory.remove(&others)
}

/// Waits until every packet that has met a program before is through.
pub(super) fn wait_for_packets_under_way() {
    // SAFETY: takes no pointers. It waits for what holds the lock (RCU) under which programs run, on
    // all processors.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_GLOBAL, 0, 0) };
    if result != 0 {
        warn!("the kernel does not say when packets are through: {}", io::Error::last_os_error());
        thread::sleep(PACKETS_UNDER_WAY);
    }
}
