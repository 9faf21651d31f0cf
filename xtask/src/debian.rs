//! Installing Debian packages, where that is possible.

use std::{env, path::Path, process::Command};

use crate::command;

/// Whether packages can be installed here: Debian or a derivative, apt-get, and root.
pub fn can_install() -> bool {
    Path::new("/etc/debian_version").exists() && command::find("apt-get", &[]).is_some() && is_root()
}

pub fn is_root() -> bool {
    // SAFETY: geteuid takes nothing, touches no memory of ours and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Reads the package lists anew. Once before the first [`install`].
pub fn update() -> anyhow::Result<()> {
    command::run(apt_get().arg("update"))
}

/// Installs `packages`. Fails rather than removing a package that is already installed: `rustc-web`
/// conflicts with Debian's older `rustc`, and a build script must not choose between the two.
pub fn install(packages: &[impl AsRef<str>]) -> anyhow::Result<()> {
    let packages = packages.iter().map(AsRef::as_ref);
    command::run(apt_get().args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(packages))
}

/// What [`install`] would do, if it might remove packages as well.
#[derive(Debug, PartialEq, Eq)]
pub struct Plan {
    /// As `name=version`.
    pub installed: Vec<String>,
    /// By their names.
    pub removed: Vec<String>,
}

/// Asks apt what it would do for a package.
pub fn plan(package: &str) -> anyhow::Result<Plan> {
    let simulated = ["install", "--simulate", "--no-install-recommends", package];
    Ok(read_plan(&command::output(apt_get().args(simulated))?))
}

/// Reads apt's `Inst NAME [OLD VERSION] (VERSION …` and `Remv NAME [VERSION]`.
fn read_plan(printed: &str) -> Plan {
    let installed = |line: &str| {
        let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
        let version = rest.split_once('(')?.1.split(' ').next()?;
        Some(format!("{name}={version}"))
    };
    let removed = |line: &str| line.strip_prefix("Remv ")?.split(' ').next().map(str::to_owned);
    Plan {
        installed: printed.lines().filter_map(installed).collect(),
        removed: printed.lines().filter_map(removed).collect(),
    }
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.arg("--quiet");
    // A package's configuration dialogue would wait for ever where nobody answers.
    command.env("DEBIAN_FRONTEND", "noninteractive");
    if env::var_os("CI").is_some() {
        command.args(["-o", "Dpkg::Use-Pty=0"]);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_apt_would_do_is_read_from_its_simulation() {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let rows: [(&str, &[&str], &[&str]); 4] = [
            ("Reading package lists...\none is already the newest version (1.0-2).\n", &[], &[]),
            (
                "Inst one (1:7.2+b3 Debian:12/stable [amd64])\nConf one (1:7.2+b3 Debian:12/stable)\n",
                &["one=1:7.2+b3"],
                &[],
            ),
            ("Inst two [1.0] (1.1 Debian:12/stable [all]) []\n", &["two=1.1"], &[]),
            ("Remv old [2.0-1]\nInst new (3 Debian:12/stable [all])\n", &["new=3"], &["old"]),
        ];
        for (printed, installed, removed) in rows {
            let expected = Plan { installed: list(installed), removed: list(removed) };
            assert_eq!(read_plan(printed), expected, "{printed}");
        }
    }
}
