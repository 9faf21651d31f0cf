//! What tasks need besides Rust, and how it gets here. Every task that may install something says
//! so here first: what is missing, what it is for, and what will be done about it.

use std::{fmt::Write as _, path::Path, process::Command};

use anyhow::{bail, ensure};
use clap::Args;

use crate::{command, debian};

/// Network namespaces.
pub const NAMESPACES: Package =
    Package { name: "iproute2", probe: Probe::Output("ip", &["netns"]), reason: "network namespaces and veth pairs" };

/// The server that a cluster of trackers talks by.
pub const NATS: Package =
    Package { name: "nats-server", probe: Probe::Program("nats-server"), reason: "a cluster of trackers" };

/// What a task may do about what is missing.
#[derive(Args, Clone, Copy, Debug)]
pub struct InstallOptions {
    /// Install nothing: where something is missing, say what, and end
    #[arg(long)]
    pub no_install: bool,
}

/// Something that a task needs and a Debian package holds.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    pub name: &'static str,
    /// How to tell whether it is there, from whatever source.
    pub probe: Probe,
    /// What for.
    pub reason: &'static str,
}

/// How to tell whether a program or module is there.
#[derive(Clone, Copy, Debug)]
pub enum Probe {
    /// A program of this name.
    Program(&'static str),
    /// One that can do this: BusyBox has a program of nearly every name.
    Output(&'static str, &'static [&'static str]),
    /// For the distribution's python, /usr/bin/python3; another python does not see Debian's
    /// modules.
    PythonModule(&'static str),
    /// For the C compiler, which looks below /usr/include.
    Header(&'static str),
}

/// Something else that a task needs: what is said of it when it is missing.
pub type Other<'a> = &'a dyn Fn() -> Option<Missing>;

/// Something that is missing.
#[derive(Clone, Debug)]
pub struct Missing {
    pub what: String,
    /// What for.
    pub reason: String,
    pub remedy: Remedy,
}

/// How something that is missing gets here.
#[derive(Clone, Debug)]
pub enum Remedy {
    /// By installing this Debian package.
    Package(&'static str),
    /// By this function, where packages can be installed; `otherwise` says what people can do.
    Installer { install: fn() -> anyhow::Result<()>, otherwise: String },
    /// The task itself downloads it into the target directory, for which it takes no privileges.
    Download,
}

/// Whether something can be installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Permission {
    Granted,
    /// The caller wants nothing to be installed.
    Withheld,
    /// It takes root, and Debian or a derivative.
    Impossible,
}

/// What comes of what is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// Nothing is missing.
    Ready,
    /// To be installed, after this has been said.
    Install(String),
    /// The task cannot go on; with what to do.
    Refuse(String),
}

/// Sees to it that `needed` and `others` are there: says what is missing of them and what for, and
/// installs it.
///
/// # Errors
/// When something is missing that cannot or may not be installed; says what to install. And when
/// installing fails.
pub fn provide(whose: &str, needed: &[Package], others: &[Other<'_>], options: InstallOptions) -> anyhow::Result<()> {
    let missing = missing(needed, others);
    match decide(whose, &missing, permission(options)) {
        Decision::Ready => return Ok(()),
        Decision::Refuse(why) => bail!(why),
        Decision::Install(announcement) => eprintln!("{announcement}"),
    }
    let packages = packages(&missing);
    if !packages.is_empty() {
        debian::update()?;
        debian::install(&packages)?;
    }
    for missing in &missing {
        if let Remedy::Installer { install, .. } = missing.remedy {
            install()?;
        }
    }
    let still_missing: Vec<_> = self::missing(needed, others)
        .into_iter()
        .filter(|missing| !matches!(missing.remedy, Remedy::Download))
        .map(|missing| missing.what)
        .collect();
    ensure!(
        still_missing.is_empty(),
        "{} installed, but what {whose} look for in them is not there",
        still_missing.join(", ")
    );
    Ok(())
}

fn permission(options: InstallOptions) -> Permission {
    if options.no_install {
        Permission::Withheld
    } else if debian::can_install() {
        Permission::Granted
    } else {
        Permission::Impossible
    }
}

fn missing(needed: &[Package], others: &[Other<'_>]) -> Vec<Missing> {
    needed.iter().filter_map(Package::missing).chain(others.iter().filter_map(|missing| missing())).collect()
}

/// The Debian packages by which something gets here.
fn packages(missing: &[Missing]) -> Vec<&'static str> {
    let package = |missing: &Missing| match missing.remedy {
        Remedy::Package(name) => Some(name),
        Remedy::Installer { .. } | Remedy::Download => None,
    };
    missing.iter().filter_map(package).collect()
}

/// What is said and done about what is missing.
fn decide(whose: &str, missing: &[Missing], permission: Permission) -> Decision {
    if missing.is_empty() {
        return Decision::Ready;
    }
    let mut text = format!("{whose} need what is missing here:\n");
    for Missing { what, reason, .. } in missing {
        let _infallible = writeln!(text, "  {what}: {reason}");
    }
    let only_downloads = missing.iter().all(|missing| matches!(missing.remedy, Remedy::Download));
    match permission {
        Permission::Granted => Decision::Install(text + "It is installed now."),
        Permission::Impossible if only_downloads => Decision::Install(text + "It is downloaded now."),
        Permission::Withheld | Permission::Impossible => {
            let packages = packages(missing);
            if !packages.is_empty() {
                let _infallible = writeln!(
                    text,
                    "Install these packages or their like, on Debian with\n  apt-get install {}",
                    packages.join(" ")
                );
            }
            for missing in missing {
                if let Remedy::Installer { otherwise, .. } = &missing.remedy {
                    text += otherwise;
                    text += "\n";
                }
            }
            text += match permission {
                Permission::Withheld => "Without --no-install this command does it itself, as root on Debian.",
                Permission::Granted | Permission::Impossible => "As root on Debian this command does it itself.",
            };
            Decision::Refuse(text)
        }
    }
}

impl Package {
    fn missing(&self) -> Option<Missing> {
        let Self { name, probe, reason } = *self;
        (!probe.succeeds()).then(|| Missing {
            what: name.to_owned(),
            reason: reason.to_owned(),
            remedy: Remedy::Package(name),
        })
    }
}

impl Probe {
    fn succeeds(self) -> bool {
        match self {
            Self::Program(name) => command::find(name, &[Path::new("/usr/sbin"), Path::new("/sbin")]).is_some(),
            Self::Output(name, arguments) => command::find(name, &[Path::new("/usr/sbin"), Path::new("/sbin")])
                .is_some_and(|path| command::output(Command::new(path).args(arguments)).is_ok()),
            Self::PythonModule(name) => {
                command::output(Command::new("/usr/bin/python3").args(["-c", &format!("import {name}")])).is_ok()
            }
            Self::Header(name) => Path::new("/usr/include").join(name).exists(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHHELD: InstallOptions = InstallOptions { no_install: true };

    fn package(name: &'static str) -> Missing {
        Missing { what: name.to_owned(), reason: "a test".to_owned(), remedy: Remedy::Package(name) }
    }

    fn toolchain() -> Missing {
        let remedy = Remedy::Installer { install: || Ok(()), otherwise: "With rustup: a nightly".to_owned() };
        Missing { what: "a toolchain".to_owned(), reason: "eBPF programs".to_owned(), remedy }
    }

    fn kernel() -> Missing {
        Missing { what: "a kernel".to_owned(), reason: "a guest".to_owned(), remedy: Remedy::Download }
    }

    #[test]
    fn what_is_missing_is_said_before_it_is_installed_or_refused() {
        use Permission::{Granted, Impossible, Withheld};
        const APT: &str = "apt-get install";
        const ITSELF: &str = "does it itself";
        // (missing, permission, installed, said, not said)
        type Row<'a> = (&'a [Missing], Permission, bool, &'a [&'a str], &'a [&'a str]);
        let (one, two) = ([package("one")], [package("one"), package("two")]);
        let (tools, all) = ([toolchain()], [package("one"), toolchain(), kernel()]);
        let rows: [Row<'_>; 9] = [
            (&one, Granted, true, &["the tests need", "  one: a test\n", "installed now"], &[APT, ITSELF]),
            (
                &all,
                Granted,
                true,
                &["one: a test", "a toolchain: eBPF programs", "a kernel: a guest"],
                &["rustup", APT],
            ),
            (&one, Withheld, false, &["  one: a test\n", "apt-get install one\n", "Without --no-install"], &["now"]),
            (&two, Withheld, false, &["apt-get install one two\n"], &["now"]),
            (&tools, Withheld, false, &["With rustup: a nightly", "Without --no-install"], &[APT]),
            (&all, Withheld, false, &["a kernel: a guest", "apt-get install one\n", "rustup"], &["now"]),
            (&two, Impossible, false, &["apt-get install one two\n", "As root on Debian"], &["--no-install", "now"]),
            (&all, Impossible, false, &["apt-get install one\n", "rustup", "As root"], &["--no-install"]),
            (&[kernel()], Impossible, true, &["a kernel: a guest", "downloaded now"], &[ITSELF]),
        ];
        for (missing, permission, installed, said, not_said) in rows {
            let (text, is_installed) = match decide("the tests", missing, permission) {
                Decision::Install(text) => (text, true),
                Decision::Refuse(text) => (text, false),
                Decision::Ready => panic!("{missing:?} is missing"),
            };
            assert_eq!(is_installed, installed, "{permission:?}: {text}");
            for part in said {
                assert!(text.contains(part), "{permission:?}: {part:?} is not said: {text}");
            }
            for part in not_said {
                assert!(!text.contains(part), "{permission:?}: {part:?} is said: {text}");
            }
        }
        for permission in [Granted, Withheld, Impossible] {
            assert_eq!(decide("the tests", &[], permission), Decision::Ready, "{permission:?}");
        }
        let downloads = decide("the tests", &[kernel()], Withheld);
        assert!(matches!(downloads, Decision::Refuse(_)), "--no-install downloads nothing either: {downloads:?}");
    }

    #[test]
    fn only_what_is_not_there_is_missing() {
        let need = |name, probe| Package { name, probe, reason: "a test" };
        let all = [
            need("coreutils", Probe::Program("true")),
            need("no-such-package", Probe::Program("no-such-program")),
            need("no-such-ability", Probe::Output("true", &["--help"])),
            need("no-such-module", Probe::PythonModule("no_such_module")),
            need("libc6-dev", Probe::Header("stdio.h")),
            need("no-such-header", Probe::Header("no_such_header.h")),
        ];
        let names: Vec<_> =
            missing(&all, &[&|| Some(kernel()), &|| None]).into_iter().map(|missing| missing.what).collect();
        assert_eq!(names, ["no-such-package", "no-such-module", "no-such-header", "a kernel"]);
        assert!(provide("the tests", &all, &[], WITHHELD).is_err());
        provide("the tests", &all[..1], &[], WITHHELD).unwrap();
    }
}
