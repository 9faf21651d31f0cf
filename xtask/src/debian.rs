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
