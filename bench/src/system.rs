//! The systems under test, and how each is started: on one core, with one worker, giving as many
//! peers as the others.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum;
use tracker_tests::{
    command,
    supervised::{Ending, Printing, Supervised},
    workspace,
};

use crate::{
    aquatic, buffers,
    cores::{self, Footprint, Thread, Urgency},
    guarded,
    lists::{hexadecimal, write_lines},
    object::Object,
    plan::{BenchPlan, Programs},
    scenario::{Kind, Scenario},
    testbed::{Family, TRACKER_PORT, Testbed},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// Turns requests into replies of the same size without any thought: the ceiling
    Reflector,
    /// This tracker, XDP in the driver
    Native,
    /// The same with 500 000 ranges of blocked addresses, 1 000 000 torrents denied, and limits that
    /// count each source and that none reaches; only where it is asked for
    Guarded,
    /// This tracker, XDP in the network stack
    Generic,
    /// This tracker without XDP: its sockets
    Sockets,
    /// opentracker
    Opentracker,
    /// aquatic_udp with readiness polling (mio), or aquatic_http
    Aquatic,
    /// aquatic_udp with io_uring
    AquaticUring,
}

impl System {
    /// Those that are measured where none are named.
    pub const USUAL: &'static [Self] = &[
        Self::Reflector,
        Self::Native,
        Self::Generic,
        Self::Sockets,
        Self::Opentracker,
        Self::Aquatic,
        Self::AquaticUring,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Reflector => "reflector",
            Self::Native => "tracker, native XDP",
            Self::Guarded => "tracker, native XDP, lists and limits",
            Self::Generic => "tracker, generic XDP",
            Self::Sockets => "tracker, sockets",
            Self::Opentracker => "opentracker",
            Self::Aquatic => "aquatic",
            Self::AquaticUring => "aquatic, io_uring",
        }
    }

    /// Whether it is another tracker.
    pub fn is_other(self) -> bool {
        matches!(self, Self::Opentracker | Self::Aquatic | Self::AquaticUring)
    }

    /// How it is called on the command line.
    pub fn identifier(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether it can take part in a scenario.
    pub fn supports(self, scenario: &Scenario) -> bool {
        match scenario.load {
            Kind::Udp(_) => true,
            // XDP has no part in HTTP, and aquatic_http knows no io_uring.
            Kind::Http { .. } => matches!(self, Self::Sockets | Self::Opentracker | Self::Aquatic),
        }
    }

    /// Whether its replies carry checksums; a socket's are left to the network card, which is not
    /// there.
    pub fn computes_checksums(self) -> bool {
        matches!(self, Self::Native | Self::Guarded)
    }

    /// Whether the program is there, and how to get it if not.
    pub fn find(self, programs: &Programs, scenario: Option<&Scenario>) -> Result<Option<PathBuf>, String> {
        let http = scenario.is_some_and(|scenario| matches!(scenario.load, Kind::Http { .. }));
        let (name, chosen, remedy) = match self {
            Self::Reflector => return Ok(None),
            Self::Native | Self::Guarded | Self::Generic | Self::Sockets => {
                let path = workspace::target_dir().join("release/tracker");
                ("tracker", Some(path), "cargo build --release".to_owned())
            }
            Self::Opentracker => {
                ("opentracker", programs.opentracker.clone(), "apt-get install opentracker".to_owned())
            }
            Self::Aquatic | Self::AquaticUring => {
                let (name, features) =
                    if http { ("aquatic_http", "") } else { ("aquatic_udp", " --features io-uring") };
                let root = workspace::target_dir().join("bench/aquatic");
                let remedy = format!(
                    "RUSTFLAGS='-C target-cpu=native' cargo install --root {} {name}{features}",
                    workspace::display(&root)
                );
                (name, Some(root.join("bin").join(name)).filter(|path| path.is_file()), remedy)
            }
        };
        match chosen.or_else(|| command::find(name, &[])) {
            Some(path) if path.is_file() => Ok(Some(path)),
            _ => Err(format!("{} is not here; to install it: {remedy}", self.name())),
        }
    }
}

/// The fewest torrents, and peers of each family, that this tracker is given room for.
pub const LEAST_TORRENTS: u32 = 1_000;
pub const LEAST_PEERS: u32 = 10_000;

/// How a system is made to end. When the benchmark is killed its systems go with it.
const ENDING: Ending = Ending { orphaned: libc::SIGKILL, grace: Duration::from_secs(2) };

/// A system that has been started in the tracker's namespace of a testbed.
pub struct RunningSystem {
    /// The reflector has none.
    child: Option<Supervised>,
    /// Files for this system alone.
    directory: PathBuf,
    _reflector: Option<Object>,
}

impl RunningSystem {
    /// `directory` is a new one, for logs and configuration.
    pub fn start(
        system: System,
        scenario: &Scenario,
        testbed: &Testbed,
        plan: &BenchPlan,
        directory: &Path,
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot create {}", workspace::display(directory)))?;
        let path = system.find(&plan.programs, Some(scenario)).map_err(anyhow::Error::msg)?;
        let mut running = Self { child: None, directory: directory.to_owned(), _reflector: None };
        let Some(path) = path else {
            return Ok(running);
        };
        let mut command = testbed.tracker.command(&path);
        match system {
            System::Reflector => {}
            System::Native => tracker_arguments(&mut command, "native", scenario, testbed, plan),
            System::Guarded => {
                tracker_arguments(&mut command, "native", scenario, testbed, plan);
                guarded::arguments(&mut command, directory)?;
            }
            System::Generic => tracker_arguments(&mut command, "generic", scenario, testbed, plan),
            System::Sockets => tracker_arguments(&mut command, "off", scenario, testbed, plan),
            System::Opentracker => opentracker_arguments(&mut command, scenario, &plan.programs, directory)?,
            System::Aquatic | System::AquaticUring => {
                let configuration = match scenario.load {
                    Kind::Http { .. } => aquatic::http_configuration(),
                    Kind::Udp(_) => aquatic::udp_configuration(
                        scenario.family,
                        system == System::AquaticUring,
                        aquatic::offers_io_uring(&path)?,
                    )?,
                };
                let file = directory.join("aquatic.toml");
                write(&file, &configuration)?;
                command.arg("-c").arg(file);
            }
        }
        running.child = Some(spawn(command, plan.cores.tracker, directory.join("log.txt"))?);
        Ok(running)
    }

    /// Attaches the bare reflector. Its replies have `payload` bytes.
    pub fn reflect(&mut self, testbed: &Testbed, load: &bench_ebpf::Load, payload: u32) -> anyhow::Result<()> {
        let mut object = Object::load(1, 1)?;
        object.maps.set_load(&bench_ebpf::Load { reflected_payload: payload, ..*load })?;
        testbed.tracker.enter(|| object.programs.attach("reflect", &testbed.tracker_interface))?;
        self._reflector = Some(object);
        Ok(())
    }

    pub fn process(&self) -> Option<Thread> {
        self.child.as_ref().map(|child| child.id().cast_signed())
    }

    /// An error, with the end of its log, when the program has ended by itself.
    pub fn ensure_alive(&mut self) -> anyhow::Result<()> {
        self.child.as_mut().map_or(Ok(()), Supervised::ensure_running)
    }

    /// Waits until `answers` succeeds, for `limit` at most.
    pub fn wait_until_ready(
        &mut self,
        limit: Duration,
        answers: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.child.as_mut().map_or(Ok(()), |child| child.wait_until_ready(limit, answers))
    }

    /// How many peers it says that it has. opentracker's format, which this tracker speaks too;
    /// aquatic does not.
    pub fn stored_peers(&self, testbed: &Testbed) -> Option<u64> {
        let text = testbed.get("/stats?mode=peer").ok()?;
        text.lines().next()?.trim().parse().ok()
    }

    pub fn footprint(&self) -> Footprint {
        self.process().map_or_else(Footprint::default, Footprint::of)
    }

    /// While others are measured its housekeeping does not disturb them.
    pub fn set_urgency(&self, urgency: Urgency) -> anyhow::Result<()> {
        self.process().map_or(Ok(()), |process| cores::set_urgency(process, urgency))
    }

    /// Gives its UDP sockets large buffers; see the module `buffers`.
    pub fn enlarge_buffers(&self) -> anyhow::Result<()> {
        self.process().map_or(Ok(()), buffers::enlarge)
    }
}

impl Drop for RunningSystem {
    fn drop(&mut self) {
        // With idle priority it might not get the time to end.
        let _gone_already = self.set_urgency(Urgency::Measured);
        // Lists take tens of megabytes.
        for list in ["whitelist.txt", guarded::TORRENTS, guarded::ADDRESSES] {
            let _kept = fs::remove_file(self.directory.join(list));
        }
    }
}

fn spawn(mut command: Command, core: usize, log: PathBuf) -> anyhow::Result<Supervised> {
    // SAFETY: between fork and exec only system calls are made.
    unsafe {
        command.pre_exec(move || {
            cores::pin(0, core)?;
            cores::set_nice(0, cores::FAVOURED)
        });
    }
    Supervised::start(command, Printing::File(log), ENDING)
}

fn tracker_arguments(command: &mut Command, mode: &str, scenario: &Scenario, testbed: &Testbed, plan: &BenchPlan) {
    let (v4, v6) = (Family::V4.tracker_address(), Family::V6.tracker_address());
    command.args(["run", "--pin-path", "off", "--xdp-mode", mode]);
    if mode != "off" {
        command.args(["--interface", &testbed.tracker_interface]);
    }
    command
        .args(["--udp", &format!("{v4}:{TRACKER_PORT}"), "--udp", &format!("[{v6}]:{TRACKER_PORT}")])
        .args(["--http", &format!("{v4}:{TRACKER_PORT}")])
        .args(["--udp-threads", "1", "--http-threads", "1"])
        // Exactly what the scenario needs, as the memory is part of the comparison.
        .args(["--max-torrents", &(scenario.torrents.max(LEAST_TORRENTS) + plan.spare.0).to_string()]);
    let peers = scenario.peers + plan.spare.1;
    let (v4, v6) = match scenario.family {
        Family::V4 => (peers, 0),
        Family::V6 => (0, peers),
    };
    command.args(["--max-peers", &v4.max(LEAST_PEERS).to_string(), "--max-peers-v6", &v6.max(LEAST_PEERS).to_string()]);
    // The generator has few addresses.
    command.args(["--max-peers-per-address", "0", "--max-creations-per-address", "0"]);
    command.args(&plan.tracker_options);
}

fn opentracker_arguments(
    command: &mut Command,
    scenario: &Scenario,
    programs: &Programs,
    directory: &Path,
) -> anyhow::Result<()> {
    let address = match scenario.family {
        Family::V4 => format!("{}:{TRACKER_PORT}", scenario.family.tracker_address()),
        Family::V6 => format!("[{}]:{TRACKER_PORT}", scenario.family.tracker_address()),
    };
    // It insists on giving up root, and on a root directory. Its statistics are for those named
    // only.
    let mut configuration = format!(
        "listen.udp.workers {}\nlisten.tcp {address}\nlisten.udp {address}\naccess.stats {}\ntracker.user nobody\n\
         tracker.rootdir {}\n",
        programs.opentracker_workers,
        Family::V4.tracker_address(),
        directory.display()
    );
    if !programs.opentracker_is_open {
        configuration += "access.whitelist whitelist.txt\n";
        write_whitelist(&directory.join("whitelist.txt"), scenario.torrents)?;
    }
    let file = directory.join("opentracker.conf");
    write(&file, &configuration)?;
    command.arg("-f").arg(file);
    Ok(())
}

/// The distribution's opentracker serves only torrents that it is told of.
fn write_whitelist(path: &Path, torrents: u32) -> anyhow::Result<()> {
    write_lines(path, (0..torrents).map(hexadecimal))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", workspace::display(path)))
}
