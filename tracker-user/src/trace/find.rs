//! The running tracker's XDP program, and its maps that tracing needs, found by their numbers.
//!
//! A table of tail calls must not be opened by its number. Linux empties it when its last holder closes
//! it, and counts it once too often, for good, if somebody opens and closes it just before that begins
//! (`prog_array_map_clear` takes a reference each time, and the work that is scheduled already gives back
//! one): table, programs and all their maps would stay until the next boot. What kind of map a number
//! is cannot be asked without opening it. But programs that end a request have no table, so a map that one
//! of them has is none; others are left alone.

use crate::{store::SharedSettings, text::plural, xdp::os_error};
use anyhow::{Context as _, anyhow, bail, ensure};
use aya::{
    maps::{Map, MapData, MapInfo, RingBuf},
    programs::loaded_programs,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    os::fd::AsFd as _,
    time::SystemTime,
};
use tracker_common::{programs::Program, settings::Settings};

/// `BPF_PROG_TYPE_XDP` of linux/bpf.h.
const XDP: u32 = 6;

/// The program that packets come to.
const ENTRY: &str = "tracker";

/// Programs that go on in no other one.
const LAST: [&str; 3] = [Program::ReplyV4.name(), Program::ReplyV6.name(), Program::Scrape.name()];

/// An XDP program and the numbers of its maps.
struct Found {
    id: u32,
    name: String,
    maps: BTreeSet<u32>,
    loaded: Option<SystemTime>,
}

/// All XDP programs.
///
/// # Errors
/// When this process may not look for them.
fn programs() -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for program in loaded_programs() {
        let program = match program {
            Ok(program) => program,
            // Gone since it was listed.
            Err(error) if os_error(&error) == Some(libc::ENOENT) => continue,
            Err(error) => return Err(explain(error.into(), "look for the tracker's XDP program")),
        };
        if program.program_type() as u32 != XDP {
            continue;
        }
        let maps = match program.map_ids() {
            Ok(ids) => ids.unwrap_or_default().into_iter().collect(),
            Err(error) if os_error(&error) == Some(libc::ENOENT) => continue,
            Err(error) => return Err(explain(error.into(), "ask for the maps of the tracker's XDP program")),
        };
        let name = String::from_utf8_lossy(program.name()).into_owned();
        found.push(Found { id: program.id(), name, maps, loaded: program.loaded_at() });
    }
    Ok(found)
}

/// Maps of `program` that are no tables of tail calls.
fn may_be_opened(program: &Found, all: &[Found]) -> BTreeSet<u32> {
    let last = all.iter().filter(|other| LAST.contains(&other.name.as_str()));
    let theirs: BTreeSet<u32> = last.flat_map(|other| &other.maps).copied().collect();
    program.maps.intersection(&theirs).copied().collect()
}

/// A tracker's XDP program.
pub struct RunningTracker {
    /// The kernel's number of it.
    pub program: u32,
    /// Its settings record.
    pub settings: SharedSettings,
    /// Where it writes packets to.
    pub ring: RingBuf<MapData>,
    loaded: Option<SystemTime>,
}

/// Finds the tracker whose program has the number `wanted`; without one, the only tracker that
/// runs.
///
/// # Errors
/// When there is none, or several to choose from, or this process may not look for them.
pub fn running_tracker(wanted: Option<u32>) -> anyhow::Result<RunningTracker> {
    let mut found = Vec::new();
    let mut other_version = None;
    let all = programs()?;
    for program in all.iter().filter(|program| program.name == ENTRY) {
        if wanted.is_some_and(|wanted| wanted != program.id) {
            continue;
        }
        match open(program, may_be_opened(program, &all)) {
            Ok(Some(one)) => found.push(one),
            Ok(None) => {}
            Err(error) if os_error(error.as_ref()) == Some(libc::ENOENT) => {}
            Err(error) => other_version = Some(error),
        }
    }
    match (found.pop(), wanted, other_version) {
        (Some(one), _, _) if found.is_empty() => Ok(one),
        (Some(one), _, _) => {
            found.push(one);
            let list: String = found.iter().map(describe).collect();
            bail!("{} trackers with XDP run here; choose one with --program NUMBER:{list}", found.len())
        }
        (None, _, Some(error)) => Err(error),
        (None, Some(wanted), None) => bail!(
            "there is no tracker's XDP program with the number {wanted} here; without --program the one that runs is taken"
        ),
        (None, None, None) => bail!(
            "no tracker with XDP runs here. Without it nothing can be traced or checked; `tracker run --interface \
             NAME` has XDP answer, and its log says whether it does"
        ),
    }
}

/// Opens these maps of a program. `None` if it is another program of the same name.
fn open(program: &Found, maps: BTreeSet<u32>) -> anyhow::Result<Option<RunningTracker>> {
    let (mut settings, mut trace) = (None, None);
    for id in maps {
        let map = MapInfo::from_id(id)
            .map_err(|error| explain(error.into(), "open the maps of the tracker's XDP program"))?;
        match map.name() {
            b"SETTINGS" => settings = Some(map),
            b"TRACE" => trace = Some(map),
            _ => {}
        }
    }
    let Some(settings) = settings else { return Ok(None) };
    let other = || {
        format!(
            "XDP program {} belongs to a tracker of another version than this {}: trace it with the binary that runs it",
            program.id,
            env!("CARGO_PKG_VERSION")
        )
    };
    let trace = trace.with_context(other)?;
    ensure!(settings.value_size() as usize == size_of::<Settings>(), other());
    let ring = MapData::from_id(trace.id()).map_err(|error| explain(error.into(), "open the tracker's ring buffer"))?;
    let ring =
        RingBuf::try_from(Map::RingBuf(ring)).context("cannot read the ring buffer of the tracker's XDP program")?;
    let file = settings.fd().map_err(|error| explain(error.into(), "open the tracker's settings"))?;
    let settings = SharedSettings::new(file.as_fd()).context("cannot map the tracker's settings into memory")?;
    Ok(Some(RunningTracker { program: program.id, settings, ring, loaded: program.loaded }))
}

/// The maps of the tracker whose program has this number, by name: those of all programs that use
/// the same settings, as each program has only the maps that it needs itself; without those that its entry
/// alone has.
///
/// # Errors
/// When they cannot be opened.
pub fn maps_of(program: u32) -> anyhow::Result<BTreeMap<String, MapInfo>> {
    let what = "open the maps of the tracker's XDP program";
    let all = programs()?;
    let entry = all.iter().find(|found| found.id == program);
    let entry = entry.with_context(|| format!("cannot {what}: XDP program {program} is gone"))?;
    let open = |id: &u32| {
        let map = MapInfo::from_id(*id).map_err(|error| explain(error.into(), what))?;
        Ok((String::from_utf8_lossy(map.name()).into_owned(), map))
    };
    let known = may_be_opened(entry, &all);
    let maps: Vec<(String, MapInfo)> = known.iter().map(open).collect::<anyhow::Result<_>>()?;
    let settings = maps.iter().find(|(name, _)| name == "SETTINGS").map(|(_, map)| map.id());
    let settings = settings.with_context(|| format!("cannot {what}: it has no settings"))?;
    let others = of_tracker(settings, &all);
    let others: Vec<_> = others.difference(&known).map(open).collect::<anyhow::Result<_>>()?;
    Ok(maps.into_iter().chain(others).collect())
}

/// The maps of all programs that have these settings, but for those that may be tables: the ones that an
/// entry has and no program that is the last one.
fn of_tracker(settings: u32, all: &[Found]) -> BTreeSet<u32> {
    let of_tracker = || all.iter().filter(|program| program.maps.contains(&settings));
    let entries = of_tracker().filter(|program| program.name == ENTRY);
    let doubtful: BTreeSet<u32> = entries
        .flat_map(|entry| entry.maps.difference(&may_be_opened(entry, all)).copied().collect::<Vec<_>>())
        .collect();
    of_tracker().flat_map(|program| program.maps.difference(&doubtful)).copied().collect()
}

/// One of several.
fn describe(found: &RunningTracker) -> String {
    let seconds = found.loaded.and_then(|loaded| loaded.elapsed().ok()).map(|age| age.as_secs());
    let age = seconds.map_or_else(String::new, |seconds| match seconds {
        0..120 => format!(", running for {}", plural(seconds, "second", "seconds")),
        120..7200 => format!(", running for {}", plural(seconds / 60, "minute", "minutes")),
        _ => format!(", running for {}", plural(seconds / 3600, "hour", "hours")),
    });
    let addresses = addresses(&found.settings);
    let addresses = if addresses.is_empty() { "no address".into() } else { addresses.join(", ") };
    format!("\n  {}{age}, answers for {addresses}", found.program)
}

/// The first addresses that a program answers for.
fn addresses(settings: &Settings) -> Vec<String> {
    const SHOWN: usize = 3;
    let v4 = settings.listeners_v4.iter().take(settings.listener_v4_count.load() as usize).map(|word| {
        let [a, b, c, d, port @ .., _, _] = word.load().to_le_bytes();
        SocketAddr::from(([a, b, c, d], u16::from_be_bytes(port)))
    });
    let v6 = settings.listeners_v6.iter().take(settings.listener_v6_count.load() as usize).map(|words| {
        let mut address = [0; 16];
        for (bytes, word) in address.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *bytes = word.load().to_le_bytes();
        }
        let [high, low, ..] = words[2].load().to_le_bytes();
        SocketAddr::from((address, u16::from_be_bytes([high, low])))
    });
    let all: Vec<_> = v4.chain(v6).map(|address| address.to_string()).collect();
    let more = all.len().saturating_sub(SHOWN);
    let more = (more > 0).then(|| format!("{more} more"));
    all.into_iter().take(SHOWN).chain(more).collect()
}

fn explain(error: anyhow::Error, what: &str) -> anyhow::Error {
    match os_error(error.as_ref()) {
        Some(libc::EPERM | libc::EACCES) => anyhow!(
            "cannot {what}: not permitted. It takes root, or CAP_SYS_ADMIN, of the host: nobody else may look for what others \
             have loaded"
        ),
        _ => error.context(format!("cannot {what}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_common::store::family::{V4, V6};

    #[test]
    fn trackers_are_told_apart_by_their_addresses() {
        let settings = Settings::default();
        assert_eq!(addresses(&settings), [""; 0]);
        settings.listeners_v4[0].store(V4::key([192, 0, 2, 1], 6969));
        settings.listener_v4_count.store(1);
        let six = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        for (word, value) in settings.listeners_v6[0].iter().zip(V6::key(six.octets(), 7000)) {
            word.store(value);
        }
        settings.listener_v6_count.store(1);
        assert_eq!(addresses(&settings), ["192.0.2.1:6969", "[2001:db8::1]:7000"]);
        settings.listener_v4_count.store(4);
        assert_eq!(addresses(&settings)[3], "2 more");
    }

    #[test]
    fn tables_of_tail_calls_are_not_opened() {
        let found = |id: u32, name: &str, maps: &[u32]| Found {
            id,
            name: name.into(),
            maps: maps.iter().copied().collect(),
            loaded: None,
        };
        // Settings 1 and store 2 to 4 of one tracker; tables 10 and 20, traces 11 and 21 of two sets of its
        // programs; and somebody else's.
        let all = [
            found(1, "tracker", &[1, 10, 11, 12]),
            found(2, "store_v4", &[1, 2, 3, 10, 11]),
            found(3, "reply_v4", &[1, 2, 4, 11]),
            found(4, "scrape", &[1, 2, 11]),
            found(5, "tracker", &[1, 20, 21]),
            found(6, "reply_v6", &[1, 2, 21]),
            found(7, "tracker", &[30, 31]),
            found(8, "other", &[30, 31, 32]),
        ];
        let opened = |number: usize| may_be_opened(&all[number], &all).into_iter().collect::<Vec<_>>();
        assert_eq!((opened(0), opened(4), opened(6)), (vec![1, 11], vec![1, 21], vec![]));
        assert_eq!(of_tracker(1, &all).into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 11, 21]);
    }

    #[test]
    fn missing_privileges_are_told() {
        for (code, expected) in [
            (libc::EPERM, "takes root, or CAP_SYS_ADMIN"),
            (libc::EACCES, "takes root, or CAP_SYS_ADMIN"),
            (libc::EMFILE, "cannot look: Too many open files"),
        ] {
            let error = explain(std::io::Error::from_raw_os_error(code).into(), "look");
            assert!(format!("{error:#}").contains(expected), "{error:#}");
        }
    }
}
