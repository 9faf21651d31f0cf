//! A host that gives little: few descriptors, little memory, no processor for a while, and a wall
//! clock that cannot be relied on.

use crate::{
    honest::{Kind, announce, client, server},
    packets::bytes,
    site::{Expected, Site, UNIMPRESSED, scaled},
    socket::{connect_meanly, pipelined, raise_file_limit},
};
use fastrand::Rng;
use std::{
    fs,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};
use tracker_tests::{bep15::Announce, client::UdpClient, control_group::ControlGroup};

/// Lets the command have so many descriptors and no more.
fn limit_files(command: &mut Command, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: between fork and exec only a system call is made, on memory that the child has a copy
    // of.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
}

fn connections(site: &Site, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = connect_meanly(&site.pair.client).expect("the kernel accepts");
        let _ = stream.write(bytes);
        stream
    };
    (0..count).map(open).collect()
}

#[test]
fn without_descriptors_the_longest_idle_connections_make_room() {
    let site = Site::with(&["--xdp-mode", "native"], |command| limit_files(command, 128));
    let half = &announce(4)[..40];
    let all = announce(4);
    let kept = String::from_utf8_lossy(&all).replace("Connection: close\r\n", "").into_bytes();
    // Who needs a descriptor for longer than a moment may have to give it away.
    let expected = Expected { during: &[Kind::UdpV4, Kind::UdpV6, Kind::Http], ..UNIMPRESSED };
    for number in 0..scaled(1, 3) {
        site.attack(&format!("descriptors {number}"), expected, || {
            let mut held = Vec::new();
            for _ in 0..scaled(2, 20) {
                for bytes in [&b""[..], half, &kept] {
                    held.extend(connections(&site, 100, bytes));
                    thread::sleep(Duration::from_millis(100));
                }
            }
            // Interfaces are followed with descriptors, too.
            for what in ["add", "delete"] {
                site.pair.server.ip(&format!("address {what} 10.9.9.9/32 dev lo")).expect("ip");
                thread::sleep(Duration::from_millis(150));
            }
        });
    }
}

#[test]
fn little_memory_is_enough_for_thousands_of_connections() {
    let group = ControlGroup::new(96 << 20).expect("a control group");
    let site = Site::with(&["--xdp-mode", "native", "--http-threads", "2"], |command| group.join(command));
    let bytes = pipelined();
    raise_file_limit();
    site.attack("memory of a control group", UNIMPRESSED, || {
        let held = connections(&site, 4000, &bytes);
        thread::sleep(Duration::from_millis(scaled(500, 5000)));
        drop(held);
    });
    println!("memory of a control group: {:?} bytes at most", group.peak());
}

#[test]
fn stopped_daemon_leaves_udp_to_the_program_and_comes_back() {
    let site = Site::new();
    let process = libc::pid_t::try_from(site.tracker.process()).expect("a number");
    let signal = |signal| {
        // SAFETY: takes no pointer; the child has not been waited for, so the number is still its
        // own.
        assert_eq!(unsafe { libc::kill(process, signal) }, 0);
    };
    let expected = Expected { during: &Kind::UDP, ..UNIMPRESSED };
    site.attack("SIGSTOP", expected, || {
        signal(libc::SIGSTOP);
        thread::sleep(Duration::from_secs(scaled(3, 20)));
        signal(libc::SIGCONT);
    });
}

/// Debian's library that tells a program another time.
fn faketime() -> Option<PathBuf> {
    let directory = |name: &str| format!("/usr/lib/{name}/faketime/libfaketime.so.1");
    let candidates = [directory("x86_64-linux-gnu"), "/usr/lib/faketime/libfaketime.so.1".into()];
    candidates.into_iter().map(PathBuf::from).find(|path| path.exists())
}

/// A file that holds what the daemon takes for the time; removed on drop.
struct WallClock(PathBuf);

impl WallClock {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("tracker-test-clock-{}", std::process::id()));
        let clock = Self(path);
        clock.set("+0");
        clock
    }

    fn set(&self, time: &str) {
        // At once: the library reads it at any moment.
        let next = self.0.with_extension("next");
        fs::write(&next, time).expect("a file");
        fs::rename(&next, &self.0).expect("the same directory");
    }

    fn prepare(&self, library: &Path, command: &mut Command) {
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &self.0);
        command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
    }
}

impl Drop for WallClock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn wall_clock_that_jumps_expires_nobody() {
    let library = faketime().expect("libfaketime: `cargo xtask test` installs it");
    let clock = WallClock::new();
    let site = Site::with(&["--xdp-mode", "native"], |command| clock.prepare(&library, command));
    let source = SocketAddr::new(client(6, true), 0);
    let mut one = UdpClient::connected(&site.pair.client, source, server(true)).expect("an id");
    let torrent = bytes(&mut Rng::with_seed(9));
    one.announce(&Announce::new(torrent, 6999)).expect("an answer");
    // Years and days, to the future and to the past; before 1970, and when 32 bits have run out.
    let all = ["+30d", "@1971-01-01 00:00:00", "+0", "-30d", "+20y", "@2038-01-19 03:14:00", "-1d"];
    for jump in &all[..scaled(3, all.len())] {
        site.attack(&format!("wall clock {jump}"), UNIMPRESSED, || {
            clock.set(jump);
            thread::sleep(Duration::from_millis(scaled(300, 2000)));
            // The id is still good, and the peer still there.
            let counts = one.scrape(&[torrent]).expect("an answer");
            assert_eq!((counts[0].leechers, counts[0].seeders), (1, 0), "{jump}");
        });
    }
    assert!(site.tracker.stop().expect("it runs").success());
}

#[test]
fn wrong_wall_clock_at_the_start_is_no_obstacle() {
    let library = faketime().expect("libfaketime: `cargo xtask test` installs it");
    let all = ["@1970-01-02 00:00:00", "@2037-12-31 23:59:00", "@2100-01-01 00:00:00"];
    for begun in &all[..scaled(1, all.len())] {
        let clock = WallClock::new();
        clock.set(begun);
        let site = Site::with(&["--xdp-mode", "native"], |command| clock.prepare(&library, command));
        site.attack(&format!("started {begun}"), UNIMPRESSED, || {
            clock.set("+0");
            thread::sleep(Duration::from_millis(scaled(300, 2000)));
        });
    }
}
