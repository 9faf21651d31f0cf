//! What is done in a guest, part by part, and the script that does it.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;

use super::package::Kernel;

/// Where a guest has the directory that its results come back in.
pub const SHARE: &str = "/run/share";

/// Modules for the network devices that the parts use.
const MODULES: [&str; 4] = ["veth", "virtio_net", "vmxnet3", "e1000e"];

/// A part of what is done in each guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Part {
    /// Load all programs: what the verifier says
    Verify,
    /// The decision table, through BPF_PROG_TEST_RUN
    #[value(alias = "rows")]
    Conformance,
    /// The daemon with native XDP on a veth pair: its start, announces and scrapes, its end
    Veth,
    /// Room in replies on veth pairs and on real drivers: virtio_net, vmxnet3, e1000e
    Drivers,
}

/// Tests of one binary.
pub struct Tests {
    /// The binary, which is a file of tests/tests.
    pub binary: &'static str,
    /// The tests' names. All have to be there: one that was renamed would otherwise be left out
    /// without a word.
    pub names: &'static [&'static str],
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Verify, Self::Conformance, Self::Veth, Self::Drivers];

    pub fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Conformance => "conformance",
            Self::Veth => "veth",
            Self::Drivers => "drivers",
        }
    }

    /// The tests that it runs. Each start of the daemon has all programs verified, which takes
    /// seconds in a guest; so these are the tests that depend on the kernel, and not those of what
    /// the programs decide, which the decision table shows.
    pub fn tests(self) -> Option<Tests> {
        let (binary, names): (_, &[&str]) = match self {
            Self::Verify => return None,
            Self::Conformance => (
                "conformance",
                // Loops that a verifier may see only half of run when the store is full.
                &[
                    "rows_hold_for_the_xdp_program",
                    "full_tracker_refuses_torrents_and_replaces_peers",
                    "fairness::attacks_by_who_holds_an_address_lock_nobody_out",
                    "card::both_programs_together_answer_as_the_drivers_does_alone",
                ],
            ),
            Self::Veth => ("veth", &["clients_and_other_programs_are_served_on_this_kernel"]),
            Self::Drivers => ("drivers", &["replies_have_the_peers_that_drivers_leave_room_for"]),
        };
        Some(Tests { binary, names })
    }

    /// How long it may take in a guest; several times what it does.
    pub fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Self::Verify => 120,
            Self::Conformance | Self::Veth | Self::Drivers => 240,
        })
    }

    /// The file that gets what it prints, in the share.
    pub fn log(self) -> String {
        format!("{}.log", self.name())
    }

    /// The file that gets its exit status and the seconds it took, in the share.
    pub fn status(self) -> String {
        format!("{}.status", self.name())
    }
}

/// The files that the parts use; a guest sees them where this machine has them.
pub struct Files {
    /// This program.
    pub xtask: PathBuf,
    /// The object under test.
    pub object: PathBuf,
    /// The daemon, where it is needed.
    pub daemon: Option<PathBuf>,
    /// Test binaries by the names of their files.
    pub tests: Vec<(String, PathBuf)>,
    /// The directory of the workspace.
    pub root: PathBuf,
}

impl Files {
    fn test(&self, name: &str) -> &Path {
        let found = self.tests.iter().find(|(known, _)| known == name);
        found.map(|(_, path)| path.as_path()).expect("the binaries of all parts were built")
    }
}

/// The script that a guest runs: for each part its output and its exit status come back in files.
pub fn script(kernel: &Kernel, parts: &[Part], files: &Files) -> String {
    let mut script = String::from(
        "# Written by `cargo xtask kernels`; run in a guest.\n\
         now() { read seconds rest < /proc/uptime; echo $seconds; }\n\
         part() {\n    name=$1 limit=$2; shift 2\n    echo \"part $name\"\n    began=$(now)\n    \
         timeout -k 5 \"$limit\" \"$@\" > \"/run/share/$name.log\" 2>&1 < /dev/null\n    status=$?\n    \
         echo \"$status $began $(now)\" > \"/run/share/$name.new\"\n    \
         mv \"/run/share/$name.new\" \"/run/share/$name.status\"\n}\n",
    );
    let mut line = |text: &str| writeln!(script, "{text}").expect("a String takes everything");
    line(&format!("cd {}", quoted(&files.root)));
    line("export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    // Modules are found where the kernel and modprobe look for them.
    line("mkdir -p /usr/lib/modules");
    line(&format!("ln -s {} /usr/lib/modules/{}", quoted(&kernel.modules()), kernel.release));
    line(&format!("modprobe -a {}", MODULES.join(" ")));
    line(&format!("export TRACKER_EBPF_OBJECT={}", quoted(&files.object)));
    if let Some(daemon) = &files.daemon {
        line(&format!("export TRACKER_DAEMON={}", quoted(daemon)));
    }
    // Several times what a machine with hardware support takes; and as many open files as a service
    // would have.
    line("export TRACKER_TESTS_PATIENCE=6 RUST_BACKTRACE=0");
    line("ulimit -n 65536");
    for &part in parts {
        let command = match part.tests() {
            None => format!("{} verify --report {SHARE}/verify.json --logs {SHARE}", quoted(&files.xtask)),
            Some(tests) => format!(
                "{} --exact --include-ignored --nocapture --test-threads=1 {}",
                quoted(files.test(tests.binary)),
                tests.names.join(" ")
            ),
        };
        line(&format!("part {} {} {command}", part.name(), part.limit().as_secs()));
    }
    script
}

/// A path as a shell reads it back.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_known_by_their_names_and_by_their_old_ones() {
        for part in Part::ALL {
            assert_eq!(Part::from_str(part.name(), false), Ok(part));
        }
        assert_eq!(Part::from_str("rows", false), Ok(Part::Conformance));
    }
}
