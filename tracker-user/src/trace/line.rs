//! One packet as a line: time of day (UTC, as in the log), interface, source > destination,
//! request, its bytes, outcome, action of the XDP program, info_hash. A field without a value is
//! `-`.

use crate::xdp::netlink;
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::HashMap,
    fmt::Write as _,
    time::{SystemTime, UNIX_EPOCH},
};
use tracker_common::{
    bep15::wire::{ACTION_ANNOUNCE, ACTION_CONNECT, ACTION_SCRAPE},
    settings::Settings,
    trace::{Asked, Traced},
};

const NANOSECONDS: u64 = 1_000_000_000;

/// From the kernel's clock to the time of day.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Nanoseconds since 1970 less those of CLOCK_MONOTONIC.
    offset: u64,
}

impl Clock {
    /// As both clocks are now.
    pub fn now() -> Self {
        let time = clock_gettime(ClockId::Monotonic);
        let monotonic = time.tv_sec as u64 * NANOSECONDS + time.tv_nsec as u64;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        Self { offset: wall.wrapping_sub(monotonic) }
    }

    /// Seconds since 1970 for a time of the kernel's clock, to the microsecond.
    pub fn seconds(self, monotonic: u64) -> f64 {
        (monotonic.wrapping_add(self.offset) / 1000) as f64 / 1e6
    }

    /// Nanoseconds since midnight, UTC, for a time of the kernel's clock.
    pub fn nanoseconds_of_day(self, monotonic: u64) -> u64 {
        monotonic.wrapping_add(self.offset) % (86_400 * NANOSECONDS)
    }
}

/// Names of interfaces.
#[derive(Default)]
pub struct Names(HashMap<u32, String>);

impl Names {
    /// The name of the interface with this index; a number where it is not one of this network
    /// namespace, which the tracker need not be in.
    pub fn of(&mut self, index: u32, settings: &Settings) -> String {
        self.0.entry(index).or_insert_with(|| name(index, settings).unwrap_or_else(|| format!("if{index}"))).clone()
    }
}

fn name(index: u32, settings: &Settings) -> Option<String> {
    let known = settings.interfaces.iter().find(|words| words[0].load() == u64::from(index))?;
    let [mac @ .., _, _] = known[1].load().to_le_bytes();
    let interface = netlink::find(index, None).ok()??;
    (interface.mac == Some(mac)).then_some(interface.name)
}

/// The line of a packet that came in by `interface`, `time` nanoseconds after midnight.
pub fn line(traced: &Traced<'_>, interface: &str, time: u64) -> String {
    let (seconds, milliseconds) = (time / NANOSECONDS, time % NANOSECONDS / 1_000_000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let mut line = format!("{hours:02}:{minutes:02}:{:02}.{milliseconds:03}Z {interface} ", seconds % 60);
    // Writing to a string does not fail.
    let _ = match traced.flow {
        Some([source, destination]) if source.port() == 0 && destination.port() == 0 => {
            write!(line, "{} > {}", source.ip(), destination.ip())
        }
        Some([source, destination]) => write!(line, "{source} > {destination}"),
        None => write!(line, "- > -"),
    };
    let _ = match traced.request {
        Some(Asked { action, length, .. }) => write!(line, " {} {length}", request(action)),
        None => write!(line, " - -"),
    };
    let _ = write!(line, " {}", traced.outcome.label());
    if traced.list != 0 {
        // At the start the lists are numbered as they are given.
        let _ = write!(line, ":{}", traced.list);
    }
    let _ = write!(line, " {} ", traced.action.label());
    match traced.request {
        Some(Asked { hashes, info_hashes: [first, ..], .. }) => {
            for byte in first {
                let _ = write!(line, "{byte:02x}");
            }
            if hashes > 1 {
                let _ = write!(line, "+{}", hashes - 1);
            }
        }
        _ => line.push('-'),
    }
    line.push('\n');
    line
}

pub(super) fn request(action: Option<u32>) -> String {
    match action {
        Some(ACTION_CONNECT) => "connect".into(),
        Some(ACTION_ANNOUNCE) => "announce".into(),
        Some(ACTION_SCRAPE) => "scrape".into(),
        Some(action) => format!("action-{action}"),
        None => "-".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_common::{
        outcome::{Event, FrameReason, RequestReason},
        trace::{Action, Outcome},
    };

    #[test]
    fn packets_become_lines() {
        let hash = [0x3c; 20];
        let two = [hash, [0x4d; 20]];
        let hex = "3c".repeat(20);
        let flow =
            |source: &str| Some([source, "198.51.100.1:6969"].map(|address| address.parse().expect("an address")));
        let six = ["[2001:db8::7]:7000", "[2001:db8::1]:6969"].map(|address| address.parse().expect("an address"));
        let asked = |action, length, hashes, info_hashes| Some(Asked { action, length, hashes, info_hashes });
        let announced = Outcome::Answered(Event::Announce4);
        let list = 0;
        let refused = Outcome::Refused;
        for (outcome, action, flow, request, expected) in [
            (
                announced,
                Action::Send,
                flow("192.0.2.7:7000"),
                asked(Some(1), 98, 1, &two[..1]),
                format!("192.0.2.7:7000 > 198.51.100.1:6969 announce 98 announce_ipv4 tx {hex}"),
            ),
            (
                refused(RequestReason::ConnectionIdWrong.into()),
                Action::Send,
                Some(six),
                asked(Some(2), 56, 74, &two),
                format!("[2001:db8::7]:7000 > [2001:db8::1]:6969 scrape 56 connection_id_wrong tx {hex}+73"),
            ),
            (
                refused(RequestReason::BadMagic.into()),
                Action::Drop,
                flow("192.0.2.7:7000"),
                asked(Some(0), 16, 0, &[]),
                "192.0.2.7:7000 > 198.51.100.1:6969 connect 16 bad_magic drop -".into(),
            ),
            (
                refused(RequestReason::TooShort.into()),
                Action::Drop,
                flow("192.0.2.7:7000"),
                asked(None, 3, 0, &[]),
                "192.0.2.7:7000 > 198.51.100.1:6969 - 3 too_short drop -".into(),
            ),
            (
                refused(RequestReason::UnknownAction.into()),
                Action::Drop,
                flow("192.0.2.7:7000"),
                asked(Some(9), 16, 0, &[]),
                "192.0.2.7:7000 > 198.51.100.1:6969 action-9 16 unknown_action drop -".into(),
            ),
            (
                refused(FrameReason::NotForUs.into()),
                Action::Pass,
                flow("192.0.2.7:53"),
                None,
                "192.0.2.7:53 > 198.51.100.1:6969 - - not_for_us pass -".into(),
            ),
            (refused(FrameReason::NotIp.into()), Action::Pass, None, None, "- > - - - not_ip pass -".into()),
            (
                refused(FrameReason::Fragment.into()),
                Action::Pass,
                Some(["192.0.2.7:0", "198.51.100.1:0"].map(|address| address.parse().expect("an address"))),
                None,
                "192.0.2.7 > 198.51.100.1 - - fragment pass -".into(),
            ),
        ] {
            let traced = Traced { time: 0, outcome, list, action, interface: 3, flow, request };
            let time = (3600 * 14 + 60 * 3 + 7) * NANOSECONDS + 412_999_999;
            assert_eq!(line(&traced, "eth0", time), format!("14:03:07.412Z eth0 {expected}\n"));
        }
    }

    #[test]
    fn time_of_day_is_that_of_the_kernels_clock() {
        let clock = Clock { offset: 86_400 * NANOSECONDS * 20_000 + 5 };
        assert_eq!(clock.nanoseconds_of_day(7), 12);
        assert_eq!(clock.nanoseconds_of_day(86_400 * NANOSECONDS), 5);
    }

    #[test]
    fn interfaces_of_elsewhere_have_numbers() {
        let settings = Settings::default();
        assert_eq!(Names::default().of(1, &settings), "if1");
        // An interface with this number is here, but it is another one.
        settings.interfaces[0][0].store(1);
        settings.interfaces[0][1].store(0x0505_0505_0505);
        assert_eq!(Names::default().of(1, &settings), "if1");
    }
}
