//! Debian's opentracker, which serves only torrents of a whitelist.

use crate::{
    bep15::{Announce, InfoHash},
    client::http_announce,
    namespace::Pair,
    patience,
    supervised::{Ending, Printing, Supervised},
    temporary::Directory,
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, SocketAddr},
    process::Command,
    time::Duration,
};

/// Starts it on the tracker's side of a pair for these torrents, with more lines of configuration, and waits until
/// it serves the last of them. `name` is the test's own.
///
/// # Errors
/// When it is not installed, or does not answer.
pub fn start(
    (pair, port): (&Pair, u16),
    name: &str,
    torrents: &[InfoHash],
    more: &str,
) -> Result<(Supervised, Directory)> {
    let directory = Directory::new(name);
    let server = SocketAddr::new(IpAddr::V4(Pair::SERVER_V4), port);
    let mut whitelist = String::new();
    for torrent in torrents {
        torrent.iter().try_for_each(|byte| write!(whitelist, "{byte:02x}"))?;
        whitelist.push('\n');
    }
    fs::write(directory.path("whitelist.txt"), whitelist)?;
    let configuration = format!(
        "listen.tcp {server}\nlisten.udp {server}\naccess.whitelist whitelist.txt\ntracker.user nobody\ntracker.rootdir {}\n{more}",
        directory.0.display()
    );
    let file = directory.path("opentracker.conf");
    fs::write(&file, configuration)?;
    let mut command: Command = pair.server.command("opentracker");
    command.arg("-f").arg(&file);
    let mut child =
        Supervised::start(command, Printing::Kept, Ending::AT_ONCE).context("opentracker does not start")?;
    let last = *torrents.last().context("it serves no torrent")?;
    let ready = || {
        let one = Announce { left: 1, ..Announce::new(last, 1) };
        let announced = http_announce(&pair.client, server, &one)?;
        // It reads its whitelist in a thread of its own.
        ensure!(announced.leechers == 1, "{announced:?}");
        http_announce(&pair.client, server, &Announce { event: 3, ..one }).map(drop)
    };
    child.wait_until_ready(patience(Duration::from_secs(20)), ready).context("opentracker does not answer")?;
    Ok((child, directory))
}
