//! A Debian 12 with systemd, in a container of systemd-nspawn: its own processes, users and files,
//! and the network of a namespace. What is changed in it is gone with it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use tracker_tests::{
    namespace::Namespace,
    supervised::{Ending, Printing, Supervised},
};

use crate::{
    command,
    needs::{NAMESPACES, Package, Probe},
    workspace,
};

pub const NEEDS: [Package; 3] = [
    Package { name: "debootstrap", probe: Probe::Program("debootstrap"), reason: "a Debian to install it on" },
    Package { name: "systemd-container", probe: Probe::Program("systemd-nspawn"), reason: "a container with systemd" },
    NAMESPACES,
];

/// The package that is tried out.
pub const NAME: &str = "tracker-xdp";

const RELEASE: &str = "bookworm";

/// Besides what is in every Debian: what the package depends on, and what a server has.
const INSIDE: &str = "adduser,ca-certificates,dbus,init-system-helpers,iproute2,man-db,systemd,systemd-sysv";

/// How long start and end may take.
const PATIENCE: Duration = Duration::from_secs(180);

/// One that runs.
pub struct Machine {
    nspawn: Option<Supervised>,
    /// The number of its first process.
    init: u32,
}

impl Machine {
    /// Boots one in `namespace`, with `packages` at the path `/packages`, and a BPF file system.
    ///
    /// # Errors
    /// When it cannot be made or does not get done with its start.
    pub fn boot(namespace: &Namespace, packages: &Path, bpf: &Path) -> anyhow::Result<Self> {
        let tree = tree()?;
        let mut command = Command::new("systemd-nspawn");
        // systemd is nothing to the host's, if that has one at all.
        command.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--volatile=overlay", "--console=pipe"]);
        command.arg(format!("--directory={}", tree.display()));
        command.arg(format!("--network-namespace-path=/run/netns/{}", namespace.name()));
        // What the tracker does on a machine of its own.
        command.arg("--capability=all").arg("--system-call-filter=bpf io_uring_setup io_uring_enter io_uring_register");
        command.arg("--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self");
        command.arg(format!("--bind-ro={}:/packages", packages.display()));
        command.arg(format!("--bind={}:/sys/fs/bpf", bpf.display()));
        command.env_remove("NOTIFY_SOCKET");
        let ending = Ending::after(Duration::from_secs(30));
        let mut nspawn = Supervised::start(command, Printing::Kept, ending)?;
        let parent = nspawn.id();
        let init = nspawn
            .wait_until_ready(PATIENCE, || {
                let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
                let init = children.split_whitespace().next().context("it has not been started yet")?.parse()?;
                let state = inside(init, &["systemctl", "is-system-running"]).output()?;
                let state = String::from_utf8_lossy(&state.stdout).trim().to_owned();
                // Something of no use in a container may have failed.
                ensure!(state == "running" || state == "degraded", "it is {state:?}");
                Ok(init)
            })
            .context("the container does not get done with its start")?;
        Ok(Self { nspawn: Some(nspawn), init })
    }

    /// Runs a command as root, and returns what it wrote to stdout.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn run(&self, line: &str) -> anyhow::Result<String> {
        let output = inside(self.init, &["/bin/sh", "-c", line]).output().context("cannot start nsenter")?;
        let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            bail!("`{line}` failed: {}: {}{}", output.status, told(&output.stdout), told(&output.stderr));
        }
        Ok(told(&output.stdout))
    }

    /// Whether a command succeeds.
    pub fn succeeds(&self, line: &str) -> bool {
        self.run(line).is_ok()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // So that nothing in it is killed while it writes.
        let _ = self.run("systemctl --no-block poweroff");
        if let Some(mut nspawn) = self.nspawn.take() {
            let _ = nspawn.wait(Duration::from_secs(30));
        }
    }
}

/// A command in the container whose first process is `init`.
fn inside(init: u32, arguments: &[&str]) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--all", "--target", &init.to_string(), "--"]).args(arguments);
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

/// The files of a fresh Debian; downloaded the first time, from where this machine's packages come.
fn tree() -> anyhow::Result<PathBuf> {
    let tree = workspace::target_dir().join("package").join(RELEASE);
    if tree.is_dir() {
        return Ok(tree);
    }
    let unfinished = tree.with_extension("unfinished");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)?;
    }
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={INSIDE}"), RELEASE]).arg(&unfinished);
    command::run(debootstrap.arg(mirror()))?;
    fs::rename(&unfinished, &tree)?;
    Ok(tree)
}

/// Where apt gets this machine's Debian.
fn mirror() -> String {
    let targets = Command::new("apt-get").args(["indextargets", "--format", "$(SITE) $(CODENAME)"]).output();
    let targets = targets.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let site = targets.lines().find_map(|line| line.strip_suffix(&format!(" {RELEASE}")));
    site.unwrap_or("http://deb.debian.org/debian").to_owned()
}
