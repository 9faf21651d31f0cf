//! Which events are wanted: `info,http=debug,udp=off`. Parts of the tracker are named as in
//! `tracker-user/src`, and single lines by names of their own, such as `url`.

use std::{env, fmt, str::FromStr};
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{filter::Targets, layer::Layer, registry::Registry};

/// The variable that says so when no option does.
const VARIABLE: &str = "RUST_LOG";

/// What the parts of the tracker begin with.
const OWN: &str = "tracker::";

/// Parts that can be named alone.
const PARTS: [&str; 21] = [
    "admin",
    "admission",
    "api",
    "cluster",
    "command",
    "config",
    "confine",
    "control",
    "daemon",
    "doctor",
    "http",
    "listen",
    "logging",
    "service",
    "snapshot",
    "statistics",
    "store",
    "text",
    "trace",
    "udp",
    "xdp",
];

/// Lines that have names of their own.
const NAMES: [&str; 2] = ["completed", "url"];

/// Which events are wanted.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    targets: Targets,
    /// As it was asked for.
    text: String,
}

impl Default for Filter {
    fn default() -> Self {
        Self::new(Targets::new(), "info")
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Filter {
    fn new(targets: Targets, text: &str) -> Self {
        let level = targets.default_level().unwrap_or(LevelFilter::INFO);
        // The loader tells of every instruction it touches.
        let loader = level.min(LevelFilter::INFO);
        // The client of NATS tells of every try; the tracker says what is worth it.
        let bus = if level > LevelFilter::INFO { level } else { LevelFilter::OFF };
        let targets = targets.with_default(level).with_target("aya", loader).with_target("aya_obj", loader);
        let targets = targets.with_target("async_nats", bus);
        Self { targets, text: text.to_owned() }
    }

    /// What the environment says, and if that is not understood, why.
    #[must_use]
    pub fn of_environment() -> (Self, Option<String>) {
        let wanted = env::var(VARIABLE).unwrap_or_default();
        if wanted.is_empty() {
            return (Self::default(), None);
        }
        match wanted.parse::<Targets>() {
            Ok(targets) => (Self::new(targets, &wanted), None),
            Err(error) => {
                let error = format!(
                    "{VARIABLE} is {wanted:?}, which is not understood ({error}); it can be error, warn, info, debug or \
                     off. Going on with info"
                );
                (Self::default(), Some(error))
            }
        }
    }

    /// Whether an event becomes a line.
    #[must_use]
    pub fn wants(&self, metadata: &Metadata<'_>) -> bool {
        self.allows(metadata.target(), metadata.level())
    }

    fn allows(&self, target: &str, level: &Level) -> bool {
        self.targets.would_enable(target, level)
    }

    /// The highest level of all that is wanted.
    #[must_use]
    pub fn highest(&self) -> LevelFilter {
        // It knows it without a subscriber, but says it to one only.
        let targets: &dyn Layer<Registry> = &self.targets;
        targets.max_level_hint().unwrap_or(LevelFilter::TRACE)
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut targets = Targets::new();
        let level = |text: &str| {
            LevelFilter::from_str(text)
                .ok()
                .filter(|_| !text.is_empty() && text.parse::<u8>().is_err())
                .ok_or_else(|| format!("{text:?} is no level: it can be error, warn, info, debug, trace or off"))
        };
        for part in text.split(',').map(str::trim) {
            targets = match part.split_once('=') {
                None => targets.with_default(level(part)?),
                Some((name, wanted)) => {
                    let known = PARTS.contains(&name);
                    if !known && !NAMES.contains(&name) && !name.contains("::") {
                        return Err(format!(
                            "{name:?} is no part of the tracker: it can be {}",
                            [&PARTS[..], &NAMES[..]].concat().join(", ")
                        ));
                    }
                    let name = if known { format!("{OWN}{name}") } else { name.to_owned() };
                    targets.with_target(name, level(wanted)?)
                }
            };
        }
        Ok(Self::new(targets, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn levels_are_those_of_parts_or_of_all() {
        for (text, target, level, expected) in [
            ("info", "tracker::http::worker", Level::INFO, true),
            ("info", "tracker::http::worker", Level::DEBUG, false),
            ("info,http=debug", "tracker::http::worker", Level::DEBUG, true),
            ("info,http=debug", "tracker::udp", Level::DEBUG, false),
            ("http=debug", "tracker::udp", Level::INFO, true),
            ("warn, http = debug", "tracker::udp", Level::INFO, false),
            ("off", "tracker::udp", Level::ERROR, false),
            ("off,udp=error", "tracker::udp", Level::ERROR, true),
            ("info,url=off", "url", Level::INFO, false),
            ("info,tracker::http::worker=trace", "tracker::http::worker", Level::TRACE, true),
            ("info,cluster=debug", "tracker::cluster::run", Level::DEBUG, true),
            ("INFO", "tracker::udp", Level::INFO, true),
            ("trace", "aya_obj::relocation", Level::DEBUG, false),
            ("trace", "tracker::xdp", Level::TRACE, true),
        ] {
            let filter: Filter = text.replace(" = ", "=").parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(filter.allows(target, &level), expected, "{text}: {target} {level}");
        }
        for wrong in ["", "loud", "info,", "http=", "http=loud", "web=debug", "3", "http=debug=info"] {
            assert!(wrong.parse::<Filter>().is_err(), "{wrong:?}");
        }
        assert_eq!("warn,http=debug".parse::<Filter>().expect("a filter").highest(), LevelFilter::DEBUG);
        assert_eq!(Filter::default().highest(), LevelFilter::INFO);
    }

    #[test]
    fn parts_are_the_directories_of_the_sources() {
        let sources = concat!(env!("CARGO_MANIFEST_DIR"), "/src");
        let mut directories: Vec<_> = fs::read_dir(sources)
            .expect("sources")
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().expect("UTF-8"))
            .collect();
        directories.sort();
        assert_eq!(PARTS[..], directories);
    }
}
