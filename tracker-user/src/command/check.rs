//! `tracker check`: whether a configuration is right, and the lists that it names, without starting anything.

use super::{Command, CommandLine};
use crate::{
    admission::{Lists, addresses::Addresses},
    config::Configuration,
    http::tls::Certificates,
};
use anyhow::{Context as _, bail};
use clap::Args;
use std::{ffi::OsString, path::PathBuf};

/// Options of `tracker check`.
#[derive(Args, Clone, Debug, Default)]
pub struct CheckOptions {
    /// The file, as it would be given to `tracker run --config`
    #[arg(value_name = "FILE", required_unless_present = "command_line")]
    pub file: Option<PathBuf>,
    /// All that it would be started with, such as `run --config FILE --interface eth0`; the environment counts as well
    #[arg(
        long,
        value_name = "ARGUMENT",
        num_args = 1..,
        allow_hyphen_values = true,
        conflicts_with = "file"
    )]
    pub command_line: Option<Vec<OsString>>,
}

/// A sentence for people when it is right.
///
/// # Errors
/// What is wrong, with the line, or why it cannot be read.
pub fn check(options: &CheckOptions) -> anyhow::Result<String> {
    let (what, configuration) = match (&options.file, &options.command_line) {
        (Some(file), _) => (file.display().to_string(), Configuration::of_file(file)?),
        (None, arguments) => ("the command line".into(), read(arguments.iter().flatten().cloned())?),
    };
    let Configuration { startup, live } = configuration;
    if let Some(files) = startup.certificate {
        Certificates::read(files)?;
    }
    Lists::read(&live.lists)?;
    Addresses::read(&live.addresses)?.room()?;
    Ok(format!("{what} is right: room for {}\n", startup.capacity))
}

/// Reads what a tracker would be started with.
fn read(arguments: impl Iterator<Item = OsString>) -> anyhow::Result<Configuration> {
    let read = CommandLine::read([OsString::from("tracker")].into_iter().chain(arguments));
    let line = read.map_err(|error| anyhow::Error::msg(error.to_string().trim_end().to_owned()));
    let Command::Run(given) = line.context("the command line is wrong")?.command else {
        bail!("only `tracker run` has a configuration")
    };
    Configuration::read(given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn command_lines_are_checked_with_the_files_that_they_name() {
        let directory = std::env::temp_dir().join(format!("tracker-check-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("writable");
        for (name, text) in [
            ("o.conf", "listen.tcp_udp 127.0.0.1:7000\n"),
            ("peers.toml", "snapshot-peers = true\n"),
            ("mode.toml", "xdp-mode = \"generic\"\n"),
            ("wrong.toml", "no-option = 1\n"),
        ] {
            fs::write(directory.join(name), text).expect("writable");
        }
        for (line, wrong) in [
            ("run", None),
            ("run -f D/o.conf", None),
            ("-f D/o.conf -P 81", None),
            ("run -f D/o.conf --interface eth0", None),
            ("run --config D/mode.toml --interface eth0", None),
            ("run --config D/mode.toml", Some("interface")),
            ("run --config D/peers.toml --state-dir D", None),
            ("run --config D/peers.toml", Some("state-dir")),
            ("run --config D/wrong.toml", Some("no such option")),
            ("run --config D/o.conf", Some("TOML")),
            ("run --config D/missing.toml", Some("cannot read")),
            ("run --no-option", Some("the command line is wrong")),
            ("run --interface", Some("the command line is wrong")),
            ("run --deny-list D/missing", Some("missing")),
            ("version", Some("only `tracker run`")),
        ] {
            let words = line.split(' ').map(|word| word.replace('D', directory.to_str().expect("UTF-8")));
            let arguments = ["tracker", "check", "--command-line"].map(str::to_owned).into_iter().chain(words);
            let Command::Check(options) = CommandLine::read(arguments).expect(line).command else { panic!("{line}") };
            match (check(&options).map_err(|error| format!("{error:#}")), wrong) {
                (Ok(said), None) => assert!(said.contains("the command line is right"), "{line}: {said}"),
                (Err(error), Some(part)) => assert!(error.contains(part), "{line}: {error}"),
                (other, _) => panic!("{line}: {other:?}"),
            }
        }
        fs::remove_dir_all(&directory).expect("it is there");
    }
}
