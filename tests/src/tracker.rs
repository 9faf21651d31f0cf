//! The daemon as a child process in a network namespace.

use crate::{
    client,
    namespace::Namespace,
    patience,
    supervised::{Ending, Printing, Supervised},
};
use anyhow::{Context as _, Result, ensure};
use std::{
    collections::BTreeMap,
    env,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Names the daemon's binary, when the caller has built it already.
const BINARY_VARIABLE: &str = "TRACKER_DAEMON";

/// Where it answers HTTP.
const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6969);

/// How long start and stop may take; far more than they do.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon; stopped on drop. Has to be dropped before its namespace.
#[derive(Debug)]
pub struct Tracker(Supervised);

impl Tracker {
    /// Starts `tracker run` with the options given, and waits until it answers HTTP on its default
    /// port. Unless an option says where, it pins nothing.
    ///
    /// # Errors
    /// When it ends or does not answer within half a minute; with what it printed.
    pub fn start(namespace: &Namespace, options: &[&str]) -> Result<Self> {
        Self::start_in(namespace, options, |_| ())
    }

    /// The same with a command that `prepare` has changed.
    ///
    /// # Errors
    /// As for [`Tracker::start`].
    pub fn start_in(namespace: &Namespace, options: &[&str], prepare: impl FnOnce(&mut Command)) -> Result<Self> {
        let mut command = namespace.command(binary()?);
        command.arg("run").args(options);
        if !options.contains(&"--pin-path") {
            command.args(["--pin-path", "off"]);
        }
        prepare(&mut command);
        let mut child = Supervised::start(command, Printing::Kept, Ending::after(patience(PATIENCE)))?;
        child
            .wait_until_ready(patience(PATIENCE), || {
                let response = client::http_get(Some(namespace), HTTP, "/stats")?;
                ensure!(response.status == 200, "/stats has status {}", response.status);
                Ok(())
            })
            .context("the tracker does not answer")?;
        Ok(Self(child))
    }

    /// What it has printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.0.output()
    }

    /// The id of its process.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.0.id()
    }

    /// Reads `/metrics`.
    ///
    /// # Errors
    /// When it is not there or not in Prometheus' text format.
    pub fn metrics(&self, namespace: &Namespace) -> Result<Metrics> {
        Metrics::parse(&client::http_get(Some(namespace), HTTP, "/metrics")?.text()?)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone already; with what it printed.
    pub fn signal(&self, signal: libc::c_int) -> Result<()> {
        self.0.signal(signal)
    }

    /// Sends it a signal, and waits until it has logged a line with these words since then.
    ///
    /// # Errors
    /// When it is gone already, or does not say it within half a minute; with what it printed.
    pub fn signal_until(&self, signal: libc::c_int, said: &str) -> Result<()> {
        let before = self.log().len();
        self.signal(signal)?;
        let deadline = Instant::now() + patience(PATIENCE);
        while !self.log()[before..].contains(said) {
            ensure!(Instant::now() < deadline, "{said:?} is not said:\n{}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Kills it.
    ///
    /// # Errors
    /// When it is gone already; with what it printed.
    pub fn kill(mut self) -> Result<String> {
        self.0.signal(libc::SIGKILL).context("the tracker is to be killed")?;
        self.0.wait(patience(PATIENCE))?;
        Ok(self.log())
    }

    /// Sends it SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When it does not end, or is gone already; with what it printed.
    pub fn stop(self) -> Result<ExitStatus> {
        self.0.stop().context("the tracker is to stop")
    }
}

/// Samples of `/metrics`: name with labels, as printed, to value.
#[derive(Clone, Debug)]
pub struct Metrics(pub BTreeMap<String, f64>);

impl Metrics {
    /// Reads them from Prometheus' text format.
    ///
    /// # Errors
    /// When a line is no sample, or a sample is there twice.
    pub fn parse(text: &str) -> Result<Self> {
        let mut samples = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
            let (name, value) = line.rsplit_once(' ').with_context(|| format!("{line:?} is not a sample"))?;
            let value = value.parse().with_context(|| format!("{line:?} does not end with a number"))?;
            ensure!(samples.insert(name.to_owned(), value).is_none(), "{name} is there twice");
        }
        Ok(Self(samples))
    }

    /// Packets and requests with this reason on a path, whether they were passed on or refused.
    #[must_use]
    pub fn reason(&self, path: &str, reason: &str) -> u64 {
        let labels = [("path", path), ("reason", reason)];
        let metrics = ["tracker_requests_rejected_total", "tracker_packets_passed_total"];
        metrics.map(|name| self.sum(name, &labels)).iter().sum::<f64>() as u64
    }

    /// The sum of a metric over all samples that have these labels; 0 if there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let fits = |sample: &str| {
            let (of, labels) = sample.split_once('{').unwrap_or((sample, ""));
            of == name && wanted.iter().all(|wanted| labels.contains(wanted.as_str()))
        };
        self.0.iter().filter(|(sample, _)| fits(sample)).map(|(_, value)| value).sum()
    }
}

/// The daemon's binary; built first unless the caller says where it is.
///
/// # Errors
/// When it cannot be built.
pub fn binary() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    BUILT.get_or_init(|| find_binary().map_err(|error| format!("{error:#}"))).clone().map_err(anyhow::Error::msg)
}

fn find_binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os(BINARY_VARIABLE) {
        let path = PathBuf::from(path);
        ensure!(path.is_file(), "{BINARY_VARIABLE} says {}, which is not there", path.display());
        return Ok(path);
    }
    // `cargo test` builds a package's binaries for that package's own tests only. The target
    // directory is the one that this test was built in: <target>/<profile>/deps/<test>.
    let test = env::current_exe().context("the test does not know where it is")?;
    let target = test.ancestors().nth(3).context("the test is not in a target directory")?;
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--release", "--package", "tracker", "--bin", "tracker"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("cannot start cargo to build the tracker")?;
    ensure!(output.status.success(), "the tracker does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(target.join("release/tracker"))
}
