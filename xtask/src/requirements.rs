//! What tasks need besides Rust, and how to get it.

use std::{path::Path, process::Command};

use anyhow::{bail, ensure};

use crate::{command, debian};

/// Network namespaces.
pub const NAMESPACES: Requirement =
    Requirement { package: "iproute2", probe: Probe::Program("ip"), reason: "network namespaces and veth pairs" };

/// A program or module that a task needs.
pub struct Requirement {
    /// The Debian package.
    pub package: &'static str,
    /// How to tell whether it is there.
    pub probe: Probe,
    /// What for.
    pub reason: &'static str,
}

/// How to tell whether a requirement is met.
pub enum Probe {
    /// A program of this name.
    Program(&'static str),
    /// For the distribution's python, /usr/bin/python3; another python does not see Debian's modules.
    PythonModule(&'static str),
}

/// Installs what is missing of the requirements of `whose`; where it cannot, says what to install.
pub fn install(requirements: &[Requirement], whose: &str) -> anyhow::Result<()> {
    let missing = missing(requirements);
    if missing.is_empty() {
        return Ok(());
    }
    let list: String = missing.iter().map(|missing| format!("  {}: {}\n", missing.package, missing.reason)).collect();
    if !debian::can_install() {
        bail!("{whose} need what these Debian packages hold; install them or their like:\n{list}");
    }
    eprintln!("installing what {whose} need:\n{list}");
    debian::update()?;
    debian::install(&missing.iter().map(|missing| missing.package).collect::<Vec<_>>())?;
    let still_missing: Vec<_> = self::missing(requirements).iter().map(|missing| missing.package).collect();
    ensure!(
        still_missing.is_empty(),
        "{} installed, but what {whose} look for in them is not there",
        still_missing.join(", ")
    );
    Ok(())
}

fn missing(requirements: &[Requirement]) -> Vec<&Requirement> {
    requirements.iter().filter(|requirement| !requirement.probe.succeeds()).collect()
}

impl Probe {
    fn succeeds(&self) -> bool {
        match self {
            Self::Program(name) => command::find(name, &[Path::new("/usr/sbin"), Path::new("/sbin")]).is_some(),
            Self::PythonModule(name) => {
                command::output(Command::new("/usr/bin/python3").args(["-c", &format!("import {name}")])).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_where_nothing_may_be_installed() {
        debian::forbid_installing();
        let row = |package, probe| Requirement { package, probe, reason: "a test" };
        let all = [
            row("coreutils", Probe::Program("true")),
            row("no-such-package", Probe::Program("no-such-program")),
            row("no-such-module", Probe::PythonModule("no_such_module")),
        ];
        let error = install(&all, "the tests").unwrap_err().to_string();
        assert!(error.contains("  no-such-package: a test\n  no-such-module: a test\n"), "{error}");
        assert!(!error.contains("coreutils"), "{error}");
        install(&all[..1], "the tests").unwrap();
    }
}
