//! The processor's own counters (`perf_event_open`), where the machine has them: virtual machines
//! often have none.

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::FromRawFd as _,
};

/// An event that processors count.
struct Event {
    name: &'static str,
    kind: u32,
    config: u64,
}

/// `PERF_TYPE_HARDWARE` and `PERF_TYPE_HW_CACHE` of linux/perf_event.h.
const HARDWARE: u32 = 0;
const CACHE: u32 = 3;

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;

const EVENTS: [Event; 4] = [
    Event { name: "cycles", kind: HARDWARE, config: 0 },
    Event { name: "instructions", kind: HARDWARE, config: 1 },
    Event { name: "cache misses", kind: HARDWARE, config: 3 },
    // The data TLB (3), reads (0), misses (1).
    Event { name: "dTLB misses", kind: CACHE, config: 3 | 1 << 16 },
];

/// Names of the events, in the order of [`Counters::read`].
pub const NAMES: [&str; EVENTS.len()] = [EVENTS[0].name, EVENTS[1].name, EVENTS[2].name, EVENTS[3].name];

/// How often each event happened; `None` for what is not counted.
pub type Counts = [Option<u64>; EVENTS.len()];

/// The first published form of `struct perf_event_attr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint_type: u32,
    config1: u64,
}

/// Events of one core, whoever runs there.
pub struct Counters([Option<File>; EVENTS.len()]);

impl Counters {
    /// Begins to count on a core. If nothing can be counted, the error says why.
    pub fn open(core: usize) -> Result<Self, String> {
        let opened = EVENTS.each_ref().map(|event| open(event, core));
        let errors = opened.each_ref().map(|counter| counter.as_ref().err().and_then(io::Error::raw_os_error));
        let failed = opened.each_ref().map(Result::is_err);
        match verdict(failed.iter().zip(errors).map(|(failed, error)| failed.then(|| error.unwrap_or(0)))) {
            Some(reason) => Err(reason),
            None => Ok(Self(opened.map(Result::ok))),
        }
    }

    /// The counts so far.
    pub fn read(&self) -> Counts {
        self.0.each_ref().map(|counter| {
            let mut value = [0; 8];
            counter.as_ref()?.read_exact(&mut value).ok()?;
            Some(u64::from_ne_bytes(value))
        })
    }
}

/// What has been counted since.
pub fn since(now: Counts, before: Counts) -> Counts {
    std::array::from_fn(|event| now[event].zip(before[event]).map(|(now, before)| now - before))
}

/// The counts per answer, for people; nothing if nothing was counted.
pub fn text(counts: Counts, answers: u64) -> String {
    let each = NAMES
        .iter()
        .zip(counts)
        .filter_map(|(name, count)| Some(format!(", {:.*} {name}", 1, count? as f64 / answers.max(1) as f64)));
    each.collect()
}

/// Why nothing can be counted, by the error of each event; `None` if something can.
fn verdict(errors: impl Iterator<Item = Option<i32>>) -> Option<String> {
    let errors: Option<Vec<i32>> = errors.collect();
    let errors = errors?;
    let is_permission = |error: &i32| matches!(*error, libc::EACCES | libc::EPERM);
    let is_absence =
        |error: &i32| matches!(*error, libc::ENOENT | libc::ENODEV | libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL);
    Some(if let Some(error) = errors.iter().find(|error| is_permission(error)) {
        format!(
            "hardware counters are not permitted ({}): run as root, or set kernel.perf_event_paranoid to 0",
            io::Error::from_raw_os_error(*error)
        )
    } else if errors.iter().all(is_absence) {
        "this machine has no hardware counters; `bench model` counts lines and pages instead".to_owned()
    } else {
        let error = errors.iter().find(|error| !is_absence(error)).copied().unwrap_or(0);
        format!("hardware counters do not open: {}", io::Error::from_raw_os_error(error))
    })
}

fn open(event: &Event, core: usize) -> io::Result<File> {
    let attributes = Attributes {
        kind: event.kind,
        size: size_of::<Attributes>() as u32,
        config: event.config,
        ..Attributes::default()
    };
    let core = libc::c_int::try_from(core).map_err(io::Error::other)?;
    // SAFETY: the attributes are of the size that they say, and outlive the call. All processes
    // (-1), no group (-1).
    let result =
        unsafe { libc::syscall(libc::SYS_perf_event_open, &raw const attributes, -1, core, -1, CLOSE_ON_EXEC) };
    match libc::c_int::try_from(result) {
        // SAFETY: a new file descriptor.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { File::from_raw_fd(descriptor) }),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_why_nothing_is_counted() {
        const ABSENT: &str = "this machine has no hardware counters";
        // (errors of the four events, what is said)
        for (errors, said) in [
            ([None; 4], None),
            ([None, None, None, Some(libc::ENOENT)], None),
            ([Some(libc::ENOENT), Some(libc::ENOENT), None, Some(libc::ENOENT)], None),
            ([Some(libc::ENOENT); 4], Some(ABSENT)),
            ([Some(libc::EOPNOTSUPP); 4], Some(ABSENT)),
            ([Some(libc::ENODEV), Some(libc::ENOENT), Some(libc::ENOENT), Some(libc::ENOENT)], Some(ABSENT)),
            ([Some(libc::ENOSYS); 4], Some(ABSENT)),
            ([Some(libc::EACCES); 4], Some("perf_event_paranoid")),
            ([Some(libc::EPERM), Some(libc::ENOENT), Some(libc::ENOENT), Some(libc::ENOENT)], Some("not permitted")),
            ([Some(libc::EMFILE); 4], Some("do not open")),
        ] {
            let verdict = verdict(errors.into_iter());
            match said {
                Some(said) => {
                    assert!(verdict.as_ref().is_some_and(|text| text.contains(said)), "{errors:?}: {verdict:?}");
                }
                None => assert_eq!(verdict, None, "{errors:?}"),
            }
        }
    }

    #[test]
    fn only_what_is_counted_on_both_ends_is_a_difference() {
        let difference = since([Some(5), Some(7), None, Some(1)], [Some(2), None, Some(3), Some(1)]);
        assert_eq!(difference, [Some(3), None, None, Some(0)]);
        assert_eq!(text(difference, 2), ", 1.5 cycles, 0.0 dTLB misses");
        assert_eq!(text([None; 4], 2), "");
    }
}
