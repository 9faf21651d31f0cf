//! What somebody does with the package who has a server: installs it, has clients announce, switches
//! XDP on, reloads, upgrades under load, removes, purges.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tracker_tests::{
    bep15::Announce,
    bpffs::BpfFs,
    client::{UdpClient, http_get},
    namespace::Pair,
};

use super::machine::{Machine, NAME};

const TRACKER: SocketAddr = SocketAddr::new(IpAddr::V4(Pair::SERVER_V4), 6969);

/// What the service may be exposed to, of 100, by `systemd-analyze security`.
const EXPOSURE: u32 = 22;

/// How long something may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where packages that are installed and removed leave traces of their own.
const TRACES: [&str; 10] = [
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/systemd",
    "/var/log",
    "/var/cache",
    "/run",
    "/tmp",
    "/proc",
    "/sys",
    "/dev",
];

/// Runs all of it with the package, and a second one of a later version.
///
/// # Errors
/// At the first thing that is not as it should be.
pub fn run([first, second]: [&Path; 2]) -> anyhow::Result<()> {
    let (pair, bpf) = (Pair::new()?, BpfFs::mount()?);
    step("a Debian 12 starts");
    let packages = first.parent().context("a package is in a directory")?;
    let machine = Machine::boot(&pair.server, packages, bpf.path().parent().context("pins are in a directory")?)?;
    let before = files(&machine)?;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let install = |package: &Path| {
        machine.run(&format!("apt-get install --yes --no-install-recommends /packages/{}", name(package)))
    };

    step("the package is installed, and answers");
    let begun = Instant::now();
    install(first)?;
    let client = || UdpClient::connected(&pair.client, SocketAddr::new(Pair::client_v4(0).into(), 0), TRACKER);
    let announced = soon(|| client()?.announce(&Announce::new([1; 20], 1000)))?;
    ensure!(announced.leechers + announced.seeders == 1, "one peer has announced: {announced:?}");
    let page = http_get(Some(&pair.client), TRACKER, "/stats")?;
    ensure!(page.status == 200, "/stats has status {}", page.status);
    eprintln!("    {:.1} s from the package to the first announce and the page", begun.elapsed().as_secs_f64());
    ensure!(machine.run("systemctl is-enabled tracker.service")?.trim() == "enabled", "it starts with the machine");
    ensure!(
        machine.run("stat -c %U /proc/$(systemctl show --property=MainPID --value tracker)")?.trim() == "tracker",
        "it runs as its own user"
    );
    checks(&machine)?;

    step("the watchdog, and a reload");
    machine.run("sed -i 's/^#interval = .*/interval = 1200/' /etc/tracker/tracker.toml && systemctl reload tracker")?;
    soon(|| {
        let interval = client()?.announce(&Announce::new([1; 20], 1000))?.interval;
        ensure!((1000..1500).contains(&interval), "the interval is {interval}");
        Ok(())
    })?;
    watchdog(&machine)?;

    step("XDP is switched on");
    let line = format!("interface = [\"{}\"]", Pair::SERVER_INTERFACE);
    machine.run(&format!("echo '{line}' >>/etc/tracker/tracker.toml && systemctl restart tracker"))?;
    soon(|| {
        client()?.announce(&Announce::new([1; 20], 1000))?;
        ensure!(by_xdp(&pair)? > 0, "XDP answers: {}", machine.run("journalctl --no-pager -u tracker | tail -n 30")?);
        Ok(())
    })?;
    ensure!(machine.succeeds("test -d /sys/fs/bpf/tracker && ls /sys/fs/bpf/tracker | grep -q ."), "it is pinned");

    step("an upgrade under load");
    upgrade(&machine, &pair, || install(second))?;

    step("a Unix socket, over a restart");
    unix_socket(&machine)?;

    step("systemd listens, and starts it");
    machine.run(
        "systemctl disable --now tracker.service && tracker detach && systemctl reset-failed && \
         systemctl enable --now tracker.socket",
    )?;
    ensure!(!machine.succeeds("systemctl is-active tracker.service"), "nobody has asked yet");
    soon(|| client()?.announce(&Announce::new([1; 20], 1000)).map(drop))?;
    ensure!(machine.succeeds("systemctl is-active tracker.service"), "somebody has asked");

    step("it is removed, and purged");
    machine.run(&format!("apt-get remove --yes {NAME}"))?;
    ensure!(!machine.succeeds("systemctl is-active tracker.service"), "it is stopped");
    let links = machine.run("ip -details link show")?;
    ensure!(!links.contains("xdp"), "XDP has ended: {links}");
    ensure!(machine.succeeds("test ! -e /sys/fs/bpf/tracker"), "nothing is pinned");
    ensure!(machine.succeeds("test -e /var/lib/tracker && test -e /etc/tracker/tracker.toml"), "what is his stays");
    install(second)?;
    soon(|| client()?.announce(&Announce::new([1; 20], 1000)).map(drop))?;
    ensure!(machine.succeeds("systemctl is-active tracker.service"), "it is there again, and runs");
    machine.run(&format!("apt-get purge --yes {NAME}"))?;
    let left: Vec<_> = files(&machine)?.difference(&before).cloned().collect();
    ensure!(left.is_empty(), "left behind: {}", left.join(" "));
    ensure!(
        !machine.succeeds("find /var/lib/systemd /etc/systemd -name '*tracker*' | grep ."),
        "systemd keeps nothing"
    );
    ensure!(!machine.succeeds("getent passwd tracker || getent group tracker"), "its user is gone");
    let failed = machine.run("systemctl list-units --all --plain --no-legend 'tracker*'")?;
    ensure!(failed.trim().is_empty(), "systemd knows of it: {failed}");
    eprintln!("the package does what it should");
    Ok(())
}

fn step(what: &str) {
    eprintln!("==> {what}");
}

/// What comes sooner or later.
fn soon<T>(mut wanted: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match wanted() {
            Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(100)),
            result => return result,
        }
    }
}

/// All files but those in which packages leave traces.
fn files(machine: &Machine) -> anyhow::Result<BTreeSet<String>> {
    let pruned = TRACES.map(|path| format!("-path {path} -prune")).join(" -o ");
    let found = machine.run(&format!("find / {pruned} -o -print"))?;
    // Lists of users and the like are written anew, with a copy of the old ones beside them.
    let is_copy = |path: &str| path.starts_with("/etc/") && path.ends_with('-') || path == "/etc/.pwd.lock";
    Ok(found.lines().filter(|path| !is_copy(path)).map(str::to_owned).collect())
}

/// How many requests XDP has answered.
fn by_xdp(pair: &Pair) -> anyhow::Result<u64> {
    let metrics = http_get(Some(&pair.client), TRACKER, "/metrics")?.text()?;
    let answered = |line: &&str| line.starts_with("tracker_requests_answered_total{") && line.contains("path=\"xdp\"");
    Ok(metrics.lines().filter(answered).filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
}

/// What systemd and others say of what was installed.
fn checks(machine: &Machine) -> anyhow::Result<()> {
    let said = machine.run("systemd-analyze verify tracker.service tracker.socket 2>&1")?;
    ensure!(said.trim().is_empty(), "systemd-analyze verify: {said}");
    let said = machine.run(&format!("systemd-analyze security --no-pager --threshold={EXPOSURE} tracker.service"))?;
    let overall = said.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
    eprintln!("    {}", overall.trim());
    for line in [
        "tracker check /etc/tracker/tracker.toml",
        "man --warnings tracker-run | grep -q -- --max-torrents",
        "man tracker | grep -q dns-record",
        "bash -n /usr/share/bash-completion/completions/tracker",
        "test $(stat -c %a-%U /var/lib/tracker) = 700-tracker",
        "grep -q ISC /usr/share/doc/tracker-xdp/copyright",
    ] {
        machine.run(line)?;
    }
    Ok(())
}

/// A proxy's way, which systemd's keeping of the sockets must not cut.
fn unix_socket(machine: &Machine) -> anyhow::Result<()> {
    let path = "/run/tracker/http.sock";
    machine.run(&format!("echo 'http = [\"0.0.0.0:6969\", \"unix:{path}\"]' >>/etc/tracker/tracker.toml"))?;
    for _ in 0..2 {
        machine.run("systemctl restart tracker.service")?;
        // Another user than the tracker's own, as a proxy is.
        machine.run(&format!("perl -MIO::Socket::UNIX -e '{ASK}' {path} | grep -q '^HTTP/1.1 200'"))?;
    }
    Ok(())
}

/// Debian's smallest installation has no curl.
const ASK: &str = r#"$< = $> = 65534; $s = IO::Socket::UNIX->new($ARGV[0]) or die $!; print $s "GET /stats HTTP/1.0\r\n\r\n"; print <$s>"#;

/// A tracker that is stopped gives no sign of life, and is started anew.
fn watchdog(machine: &Machine) -> anyhow::Result<()> {
    let pid =
        || machine.run("systemctl show --property=MainPID --value tracker.service").map(|it| it.trim().to_owned());
    let drop_in = "/run/systemd/system/tracker.service.d/watchdog.conf";
    machine.run(&format!(
        "mkdir -p $(dirname {drop_in}) && \
         printf '[Service]\\nWatchdogSec=3\\n' >{drop_in} && systemctl daemon-reload && systemctl restart tracker"
    ))?;
    let first = pid()?;
    // Twice the time: it is told that the tracker lives.
    thread::sleep(Duration::from_secs(7));
    ensure!(pid()? == first, "a tracker that lives is left alone");
    machine.run(&format!("kill -STOP {first}"))?;
    soon(|| {
        ensure!(pid()? != first && machine.succeeds("systemctl is-active tracker.service"), "it is started anew");
        Ok(())
    })?;
    machine
        .run(&format!("rm {drop_in} && systemctl daemon-reload && systemctl restart tracker && systemctl reset-failed"))
        .map(drop)
}

/// Announces and connections while the package is upgraded; all of them have to be answered.
fn upgrade(machine: &Machine, pair: &Pair, install: impl FnOnce() -> anyhow::Result<String>) -> anyhow::Result<()> {
    let version = || machine.run(&format!("dpkg-query --show --showformat='${{Version}}' {NAME}"));
    let pid = || machine.run("systemctl show --property=MainPID --value tracker.service");
    let before = (version()?, pid()?);
    let stop = Arc::new(AtomicBool::new(false));
    let load = [announce(pair, &stop)?, browse(pair, &stop)];
    thread::sleep(Duration::from_secs(1));
    let result = install();
    soon(|| {
        ensure!(pid()? != before.1, "another process runs");
        http_get(Some(&pair.client), TRACKER, "/health").map(drop)
    })?;
    thread::sleep(Duration::from_secs(1));
    stop.store(true, Ordering::Relaxed);
    for (what, load) in ["announces by UDP", "HTTP requests, each with a connection of its own"].iter().zip(load) {
        let (answered, slowest) = match load.join() {
            Ok(result) => result.with_context(|| format!("{what} while it was upgraded"))?,
            Err(_) => bail!("{what}: a panic"),
        };
        eprintln!("    {answered} {what}, all answered, the slowest after {} ms", slowest.as_millis());
    }
    result?;
    ensure!(version()? != before.0, "another version is there");
    // The store was pinned: who has announced to the old one is known to the new one.
    let other = SocketAddr::new(Pair::client_v4(1).into(), 0);
    let announced = UdpClient::connected(&pair.client, other, TRACKER)?.announce(&Announce::new([1; 20], 2000))?;
    ensure!(announced.leechers + announced.seeders == 2, "swarms stay: {announced:?}");
    Ok(())
}

type Load = JoinHandle<anyhow::Result<(u64, Duration)>>;

/// Asks again and again until it is stopped.
fn again(stop: &AtomicBool, mut ask: impl FnMut(u64) -> anyhow::Result<()>) -> anyhow::Result<(u64, Duration)> {
    let (mut answered, mut slowest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        ask(answered)?;
        slowest = slowest.max(begun.elapsed());
        answered += 1;
        thread::sleep(Duration::from_millis(1));
    }
    Ok((answered, slowest))
}

fn announce(pair: &Pair, stop: &Arc<AtomicBool>) -> anyhow::Result<Load> {
    let source = SocketAddr::new(Pair::client_v4(2).into(), 0);
    let mut client = UdpClient::connected(&pair.client, source, TRACKER)?;
    let stop = stop.clone();
    Ok(thread::spawn(move || {
        again(&stop, |number| {
            if number % 1000 == 999 {
                client.connect()?;
            }
            client.announce(&Announce::new([(number % 7) as u8 + 2; 20], 3000)).map(drop)
        })
    }))
}

fn browse(pair: &Pair, stop: &Arc<AtomicBool>) -> Load {
    let stop = stop.clone();
    // The thread lives in the clients' namespace from its start.
    pair.client.run(|| {
        thread::spawn(move || {
            again(&stop, |_| {
                let told = http_get(None, TRACKER, "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa")?;
                ensure!(told.status == 200, "HTTP status {}", told.status);
                Ok(())
            })
        })
    })
}
