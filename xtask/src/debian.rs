//! Installing Debian packages, where that is possible.

use std::{
    env, fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    process::Command,
};

use anyhow::Context as _;

use crate::command;

/// By this the scripts of packages ask whether they may start something (deb-systemd-invoke(1), invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

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
///
/// Servers among them are neither started nor started with the machine: only their programs are wanted, and
/// opentracker's service would listen where this tracker does.
pub fn install(packages: &[impl AsRef<str>]) -> anyhow::Result<()> {
    let names = packages.iter().map(AsRef::as_ref);
    {
        let _quiet = NothingStarts::begin(Path::new(POLICY))?;
        command::run(
            apt_get().args(["install", "--yes", "--no-install-recommends", "--no-remove"]).args(names.clone()),
        )?;
    }
    let listed = command::output(Command::new("dpkg-query").arg("--listfiles").args(names))?;
    let services = services(&listed);
    if !services.is_empty() && command::find("systemctl", &[]).is_some() {
        eprintln!("not started, and not with the machine either: {}", services.join(", "));
        if let Err(error) = command::run(Command::new("systemctl").args(["--quiet", "disable"]).args(services)) {
            eprintln!("they start with the machine: {error:#}");
        }
    }
    Ok(())
}

/// The services among the files of packages. Not templates, which nobody enables.
fn services(files: &str) -> Vec<&str> {
    fn unit(line: &str) -> Option<&str> {
        let (directory, name) = line.rsplit_once('/')?;
        directory.ends_with("lib/systemd/system").then_some(name)
    }
    let is_service = |name: &&str| name.ends_with(".service") && !name.contains('@');
    files.lines().filter_map(unit).filter(is_service).collect()
}

/// As long as it lives, no package starts anything.
struct NothingStarts<'a> {
    /// The file that says so, if it is ours: somebody else's may say more.
    policy: Option<&'a Path>,
}

impl<'a> NothingStarts<'a> {
    fn begin(path: &'a Path) -> anyhow::Result<Self> {
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(path) {
            Ok(mut file) => {
                let policy = Self { policy: Some(path) };
                // 101: not allowed.
                file.write_all(b"#!/bin/sh\nexit 101\n").with_context(|| format!("cannot write {}", path.display()))?;
                Ok(policy)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self { policy: None }),
            Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
        }
    }
}

impl Drop for NothingStarts<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.policy
            && let Err(error) = fs::remove_file(path)
        {
            eprintln!("{} is to be removed: {error}", path.display());
        }
    }
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

    #[test]
    fn services_are_found_among_files_and_nothing_else_is() {
        for (line, service) in [
            ("/lib/systemd/system/opentracker.service", Some("opentracker.service")),
            ("/usr/lib/systemd/system/nats-server.service", Some("nats-server.service")),
            ("/lib/systemd/system/opentracker@.service", None),
            ("/usr/lib/systemd/user/one.service", None),
            ("/lib/systemd/system/one.socket", None),
            ("/lib/systemd/system", None),
            ("/usr/share/doc/one.service", None),
            ("package diverts others to: one", None),
            ("", None),
        ] {
            assert_eq!(services(line), Vec::from_iter(service), "{line}");
        }
    }

    #[test]
    fn nothing_starts_until_it_is_over_and_somebody_elses_policy_stays() {
        let path = env::temp_dir().join(format!("policy-{}", std::process::id()));
        let policy = NothingStarts::begin(&path).unwrap();
        assert_eq!(Command::new(&path).status().unwrap().code(), Some(101));
        drop(NothingStarts::begin(&path).unwrap());
        assert!(path.exists(), "it is not that one's");
        drop(policy);
        assert!(!path.exists());
        assert!(NothingStarts::begin(&path.join("no/directory")).is_err());
    }
}
