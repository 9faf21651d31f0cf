//! The running tracker's XDP program, and its maps that tracing needs.

use crate::{store::SharedSettings, text::plural, xdp::os_error};
use anyhow::{Context as _, anyhow, bail, ensure};
use aya::{
    maps::{Map, MapData, MapInfo, RingBuf},
    programs::{ProgramError, ProgramInfo, loaded_programs},
};
use std::{collections::BTreeMap, net::SocketAddr, os::fd::AsFd as _, time::SystemTime};
use tracker_common::settings::Settings;

/// `BPF_PROG_TYPE_XDP` of linux/bpf.h.
const XDP: u32 = 6;

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
    for program in loaded_programs() {
        let program = match program {
            Ok(program) => program,
            // Gone since it was listed.
            Err(error) if os_error(&error) == Some(libc::ENOENT) => continue,
            Err(error) => return Err(explain(error.into(), "look for the tracker's XDP program")),
        };
        if program.name() != b"tracker" || program.program_type() as u32 != XDP {
            continue;
        }
        if wanted.is_some_and(|wanted| wanted != program.id()) {
            continue;
        }
        match open(&program) {
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

/// Opens the maps of a program. `None` if it is another program of the same name.
fn open(program: &ProgramInfo) -> anyhow::Result<Option<RunningTracker>> {
    let ids =
        program.map_ids().map_err(|error| explain(error.into(), "ask for the maps of the tracker's XDP program"))?;
    let (mut settings, mut trace) = (None, None);
    for id in ids.unwrap_or_default() {
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
            program.id(),
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
    Ok(Some(RunningTracker { program: program.id(), settings, ring, loaded: program.loaded_at() }))
}

/// The maps of the tracker whose program has this number, by name: those of all programs that use
/// the same settings, as each program has only the maps that it needs itself.
///
/// # Errors
/// When they cannot be opened.
pub fn maps_of(program: u32) -> anyhow::Result<BTreeMap<String, MapInfo>> {
    let what = "open the maps of the tracker's XDP program";
    let mut programs = Vec::new();
    let mut settings = None;
    for found in loaded_programs() {
        // It may be gone since it was listed.
        let Ok((found, maps)) = found.and_then(|found| Ok((found.id(), maps_by_id(&found)?))) else { continue };
        if found == program {
            settings = maps.iter().find(|(_, map)| map.name() == b"SETTINGS").map(|(id, _)| *id);
        }
        programs.push(maps);
    }
    let settings = settings.with_context(|| format!("cannot {what}: XDP program {program} is gone"))?;
    let of_tracker = programs.into_iter().filter(|maps| maps.contains_key(&settings)).flatten();
    Ok(of_tracker.map(|(_, map)| (String::from_utf8_lossy(map.name()).into_owned(), map)).collect())
}

/// The maps that a program uses.
fn maps_by_id(program: &ProgramInfo) -> Result<BTreeMap<u32, MapInfo>, ProgramError> {
    // Of other programs' maps there may be some that are gone, or not ours to open.
    let ids = program.map_ids()?.unwrap_or_default();
    Ok(ids.into_iter().filter_map(|id| Some((id, MapInfo::from_id(id).ok()?))).collect())
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
