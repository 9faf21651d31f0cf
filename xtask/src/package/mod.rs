//! `cargo xtask package`: the Debian package `tracker-xdp`, and `--test`, which installs it on a
//! Debian 12 that is made for that, uses it, upgrades it under load, removes and purges it.
//!
//! | module | does |
//! |---|---|
//! | [`copyright`] | whose code is in the program |
//! | [`machine`] | a Debian with systemd in a container |
//! | [`trial`] | what is done with the package there |

mod copyright;
mod machine;
mod trial;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, ensure};
use clap::Args;
use machine::NAME;

use crate::{
    command, debian,
    needs::{self, InstallOptions, Package, Probe},
    tools::Tool,
    workspace,
};

const CARGO_DEB: Tool = Tool { name: "cargo-deb", version: "3.8.0", options: &[] };

const NEEDS: [Package; 2] = [
    Package { name: "dpkg-dev", probe: Probe::Program("dpkg-shlibdeps"), reason: "what the program is linked with" },
    Package { name: "lintian", probe: Probe::Program("lintian"), reason: "checking the package" },
];

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    install: InstallOptions,
    /// Install the package on a Debian 12 in a container, use it, upgrade it under load, remove and
    /// purge it (root; the first time a Debian of 250 MB is downloaded)
    #[arg(long)]
    test: bool,
    /// Cargo's profile; another one than `release` is for trying things out
    #[arg(long, default_value = "release")]
    profile: String,
}

pub fn run(options: &Options) -> anyhow::Result<()> {
    if options.test {
        ensure!(
            debian::is_root(),
            "a container takes root: `sudo --preserve-env=PATH,HOME cargo xtask package --test`"
        );
    }
    let needed: Vec<_> =
        NEEDS.into_iter().chain(if options.test { &machine::NEEDS[..] } else { &[] }.iter().copied()).collect();
    needs::provide("the package and its test", &needed, &[], options.install)?;
    let cargo_deb = CARGO_DEB.provide()?;
    command::run(command::cargo().args([
        "build",
        "--profile",
        &options.profile,
        "--package",
        "tracker",
        "--bin",
        "tracker",
    ]))?;
    let program = workspace::target_dir().join(&options.profile).join("tracker");
    // By that name in tracker-user/Cargo.toml.
    let directory = workspace::root().join("target/package");
    generate(&program, &directory)?;
    let build = |revision: &str| build(&cargo_deb, &options.profile, revision, &directory);
    let package = build("1")?;
    command::run(
        Command::new("lintian").args(["--fail-on", "error,warning", "--tag-display-limit", "0"]).arg(&package),
    )?;
    eprintln!("{}", workspace::display(&package));
    if options.test {
        trial::run([&package, &build("2")?])?;
    }
    Ok(())
}

/// Writes what the program itself can tell, and what stands in the package beside it.
fn generate(program: &Path, directory: &Path) -> anyhow::Result<()> {
    let say = |arguments: &[&str]| command::output(Command::new(program).args(arguments));
    let put = |name: &str, text: String| {
        let path = directory.join(name);
        let parent = path.parent().context("a file is in a directory")?;
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .with_context(|| format!("cannot write {}", path.display()))
    };
    let pages = directory.join("man");
    if pages.exists() {
        fs::remove_dir_all(&pages)?;
    }
    command::run(Command::new(program).arg("man").arg(&pages))?;
    for (shell, name) in [("bash", "tracker.bash"), ("zsh", "_tracker"), ("fish", "tracker.fish")] {
        put(&format!("completions/{name}"), say(&["completions", shell])?)?;
    }
    put("tracker.toml", say(&["config"])?)?;
    put("copyright", copyright::text()?)?;
    put("changelog", changelog(&say(&["version"])?))
}

/// Debian's form, which wants an entry for the version; what users notice is in `CHANGELOG.md`.
fn changelog(version: &str) -> String {
    let version = version.split_whitespace().last().unwrap_or_default();
    format!(
        "{NAME} ({version}-1) unstable; urgency=medium\n\n  * What has changed is in the project's CHANGELOG.md.\n\n \
         -- The tracker authors <tracker@localhost>  Thu, 01 Jan 2026 00:00:00 +0000\n"
    )
}

fn build(cargo_deb: &Path, profile: &str, revision: &str, directory: &Path) -> anyhow::Result<PathBuf> {
    let mut deb = Command::new(cargo_deb);
    // The profile's debug information is for those who build it; cargo-deb would leave it in.
    deb.args(["--package", "tracker", "--no-build", "--strip", "--profile", profile, "--deb-revision", revision]);
    deb.arg("--output").arg(directory.join("deb")).current_dir(workspace::root());
    let said = command::output(&mut deb)?;
    let path = said.lines().last().map(|line| PathBuf::from(line.trim()));
    path.filter(|path| path.is_file()).with_context(|| format!("cargo-deb does not say where the package is: {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changelog_has_an_entry_of_the_version() {
        assert!(changelog("tracker 1.2.3\n").starts_with("tracker-xdp (1.2.3-1) unstable; "));
    }

    /// Whoever adds a capability to what the tracker keeps has to give it to the service as well.
    #[test]
    fn units_and_scripts_name_what_is_there() {
        let contrib = workspace::root().join("contrib");
        let read = |path: &str| fs::read_to_string(contrib.join(path)).expect(path);
        let service = read("systemd/tracker.service");
        let capabilities = |option: &str| {
            let line = service.lines().find_map(|line| line.strip_prefix(option)).expect(option);
            line.split(' ').map(str::to_owned).collect::<Vec<_>>()
        };
        let ambient = capabilities("AmbientCapabilities=");
        assert_eq!(ambient, capabilities("CapabilityBoundingSet="));
        for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_DAC_READ_SEARCH"] {
            assert!(ambient.iter().any(|it| it == capability), "{capability}");
        }
        for line in ["Type=notify", "WatchdogSec=2min", "FileDescriptorStoreMax=1024", "StateDirectory=tracker"] {
            assert!(service.lines().any(|it| it == line), "{line}");
        }
        let socket = read("systemd/tracker.socket");
        for line in ["ListenDatagram=0.0.0.0:6969", "ListenDatagram=[::]:6969", "ListenStream=[::]:6969"] {
            assert!(socket.lines().any(|it| it == line), "{line}");
        }
        assert!(read("debian/prerm").contains("tracker detach"));
        assert!(!read("debian/postinst").contains("detach"), "an upgrade leaves XDP on");
        let manifest = fs::read_to_string(workspace::root().join("tracker-user/Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("name = \"{NAME}\"")));
    }
}
