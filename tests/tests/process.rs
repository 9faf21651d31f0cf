//! The daemon as a process: whatever its standard error and output are, whatever signals come, and
//! whatever lies where it keeps its key, it starts and goes on serving.

#[path = "process/daemon.rs"]
mod daemon;
#[path = "process/reload.rs"]
mod reload;
#[path = "process/snapshot.rs"]
mod snapshot;

use daemon::{Daemon, Directory, Stderr, fill, pipe, set_nonblocking};
use std::{
    fs::{self, File},
    io::Write as _,
    os::{
        fd::OwnedFd,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    },
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tracker_tests::{namespace::Namespace, tracker::binary};

/// What keeps the other end of a standard error as it is while the daemon runs.
type Kept = Option<OwnedFd>;

fn full_pipe(nonblocking: bool) -> (Stderr, Kept) {
    let (reader, writer) = pipe();
    fill(&writer);
    set_nonblocking(&writer, nonblocking);
    (Stderr::To(writer.into()), Some(reader))
}

fn open(path: &str, write: bool) -> (Stderr, Kept) {
    (Stderr::To(File::options().read(!write).write(write).open(path).expect(path).into()), None)
}

#[test]
fn standard_error_that_cannot_be_written_stops_nothing() {
    type Row = (&'static str, fn() -> (Stderr, Kept));
    let rows: [Row; 10] = [
        ("a pipe whose reader is gone", || (Stderr::To(pipe().1.into()), None)),
        ("closed", || (Stderr::Redirected("2>&-"), None)),
        ("closed, as the other two are", || (Stderr::Redirected("<&- >&- 2>&-"), None)),
        ("/dev/full", || open("/dev/full", true)),
        ("opened for reading", || open("/dev/null", false)),
        ("a full pipe that does not block", || full_pipe(true)),
        ("a full pipe that blocks", || full_pipe(false)),
        ("a terminal that was hung up", || (Stderr::To(daemon::terminal().into()), None)),
        ("a file that may not grow", || (Stderr::Limited, None)),
        ("a socket whose other end is closed", || {
            let (ours, _) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
            (Stderr::To(OwnedFd::from(ours).into()), None)
        }),
    ];
    let namespace = Namespace::new().expect("a namespace");
    for (name, stderr) in rows {
        let (stderr, _kept) = stderr();
        let mut daemon = Daemon::start(&namespace, stderr, &["run"]);
        daemon.wait_until_it_answers(name);
        // Each makes a line.
        for _ in 0..3 {
            daemon.signal(libc::SIGALRM);
            daemon.signal(libc::SIGUSR1);
        }
        daemon.wait_until_it_answers(name);
        daemon.signal(libc::SIGTERM);
        assert!(daemon.wait().success(), "{name}: SIGTERM ends it in order");
    }
}

#[test]
fn lines_of_a_full_pipe_come_whole_when_it_is_read_again() {
    let namespace = Namespace::new().expect("a namespace");
    for nonblocking in [false, true] {
        let (stderr, reader) = full_pipe(nonblocking);
        let mut daemon = Daemon::start(&namespace, stderr, &["run"]);
        daemon.wait_until_it_answers("a full pipe");
        daemon.read(reader.expect("there is one"));
        daemon.wait_for_line("is running");
        daemon.signal(libc::SIGALRM);
        daemon.wait_for_line("SIGALRM");
        daemon.signal(libc::SIGTERM);
        assert!(daemon.wait().success());
        let log = daemon.log();
        // What the pipe was filled with is in front of the first line.
        for line in log.trim_start_matches('.').lines() {
            assert!(line.contains("INFO") || line.contains("WARN"), "{line:?} is not a whole line in:\n{log}");
        }
    }
}

#[test]
fn lost_lines_are_counted_and_told_when_somebody_reads_again() {
    let namespace = Namespace::new().expect("a namespace");
    let directory = Directory::new("lost");
    let path = directory.0.join("fifo");
    daemon::fifo(&path);
    let open = || File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("the fifo");
    let reader = open();
    let writer = File::options().write(true).open(&path).expect("the fifo");
    let mut daemon = Daemon::start(&namespace, Stderr::To(writer.into()), &["run"]);
    daemon.wait_until_it_answers("somebody reads");
    drop(reader);
    daemon.signal(libc::SIGALRM);
    daemon.signal(libc::SIGUSR1);
    daemon.wait_until_it_answers("nobody reads");
    // The two lines are given up some time after they were to be written.
    std::thread::sleep(Duration::from_millis(300));
    let reader = open();
    set_nonblocking(&reader, false);
    daemon.read(reader.into());
    daemon.wait_for_line("2 log lines were lost");
    daemon.signal(libc::SIGUSR1);
    daemon.wait_for_line("SIGUSR1");
    assert!(daemon.log().contains("Broken pipe"), "the reason is told: {}", daemon.log());
}

#[test]
fn log_on_a_full_disk_goes_on_when_there_is_room_again() {
    let namespace = Namespace::new().expect("a namespace");
    let directory = Directory::new("full");
    let at = directory.0.to_str().expect("UTF-8");
    let script =
        format!("D={at}; mount -t tmpfs -o size=64k none $D; exec 2>$D/log; head -c 100000 /dev/zero >$D/full || true");
    let mut daemon = Daemon::start_after(&namespace, &script, Stderr::To(Stdio::null()), &["run"]);
    daemon.wait_until_it_answers("a full disk");
    daemon.signal(libc::SIGUSR1);
    daemon.wait_until_it_answers("a full disk");
    let log = daemon.path(&directory.0.join("log"));
    let read = || fs::read_to_string(&log).expect("the log");
    assert!(!read().contains("SIGUSR1"), "the disk is not full");
    fs::remove_file(daemon.path(&directory.0.join("full"))).expect("the file that filled it");
    let deadline = Instant::now() + Duration::from_secs(30);
    while !read().contains("SIGUSR2") {
        assert!(Instant::now() < deadline, "nothing is written: {}", read());
        daemon.signal(libc::SIGUSR2);
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = read();
    assert!(told.contains("log lines were lost here") && told.contains("No space left"), "{told}");
    daemon.signal(libc::SIGTERM);
    assert!(daemon.wait().success());
}

#[test]
fn output_that_nobody_takes_ends_quietly() {
    let directory = Directory::new("configuration");
    let wrong = directory.0.join("wrong.toml");
    fs::write(&wrong, "nonsense = 1\n").expect("a file");
    let wrong = wrong.to_str().expect("UTF-8");
    let commands: [&[&str]; 7] = [
        &["version"],
        &["sizes"],
        &["sizes", "--max-torrents", "0"],
        &["--help"],
        &["run", "--help"],
        &["--version"],
        &["run", "--config", wrong],
    ];
    type Row = (&'static str, fn() -> Stdio);
    let outputs: [Row; 4] = [
        ("a pipe whose reader is gone", || pipe().1.into()),
        ("/dev/full", || File::options().write(true).open("/dev/full").expect("a device").into()),
        ("opened for reading", || File::open("/dev/null").expect("a device").into()),
        ("a terminal that was hung up", || daemon::terminal().into()),
    ];
    let binary = binary().expect("a tracker");
    for command in commands {
        for (name, output) in outputs {
            let told = Command::new(&binary).args(command).stdout(output()).output().expect("a tracker");
            let error = String::from_utf8_lossy(&told.stderr).into_owned();
            assert!(!error.contains("panicked"), "{command:?}, stdout is {name}: {error}");
            assert!(matches!(told.status.code(), Some(0..=2)), "{command:?}, stdout is {name}: {:?}", told.status);
            if name.contains("pipe") && !command.contains(&"0") && !command.contains(&wrong) {
                assert_eq!((told.status.code(), error.as_str()), (Some(0), ""), "{command:?} into a closed pipe");
            }
            let told = Command::new(&binary).args(command).stdout(output()).stderr(output()).status();
            let status = told.expect("a tracker");
            assert!(matches!(status.code(), Some(0..=2)), "{command:?}, stdout and stderr are {name}: {status:?}");
        }
    }
}

/// What the tracker gives no meaning, and what would end a process that says nothing of it.
fn meaningless() -> Vec<(libc::c_int, &'static str)> {
    let mut signals = vec![
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGVTALRM, "SIGVTALRM"),
        (libc::SIGPROF, "SIGPROF"),
        (libc::SIGIO, "SIGIO"),
        (libc::SIGPWR, "SIGPWR"),
        (libc::SIGSTKFLT, "SIGSTKFLT"),
        (libc::SIGPIPE, ""),
        (libc::SIGXFSZ, ""),
    ];
    signals.extend([libc::SIGRTMIN(), libc::SIGRTMIN() + 3, libc::SIGRTMAX()].map(|signal| (signal, "SIGRT")));
    signals
}

#[test]
fn signals_without_a_meaning_are_ignored_with_a_line() {
    let namespace = Namespace::new().expect("a namespace");
    let mut daemon = Daemon::start(&namespace, Stderr::Read, &["run"]);
    daemon.wait_until_it_answers("before any signal");
    for (signal, name) in meaningless() {
        let before = daemon.log().len();
        daemon.signal(signal);
        daemon.wait_for_line_after(before, name);
        daemon.wait_until_it_answers(name);
    }
    daemon.signal(libc::SIGTERM);
    daemon.signal(libc::SIGTERM);
    daemon.signal(libc::SIGHUP);
    daemon.signal(libc::SIGINT);
    assert!(daemon.wait().success(), "{}", daemon.log());
}

#[test]
fn signals_are_taken_while_the_tracker_starts() {
    let namespace = Namespace::new().expect("a namespace");
    let directory = Directory::new("starting");
    let path = directory.0.join("tracker.toml");
    daemon::fifo(&path);
    let path = path.to_str().expect("UTF-8");
    // It waits for its configuration until somebody writes it.
    let start = || {
        let daemon = Daemon::start(&namespace, Stderr::Read, &["run", "--config", path]);
        daemon.wait_until_it_waits_for_signals();
        daemon
    };
    for (signal, name) in [(libc::SIGTERM, "SIGTERM"), (libc::SIGINT, "SIGINT")] {
        let mut daemon = start();
        daemon.signal(signal);
        assert!(daemon.wait().success(), "{name} while starting is no failure");
        assert!(daemon.log().contains(name), "{}", daemon.log());
    }
    let mut daemon = start();
    for (signal, name) in meaningless() {
        let before = daemon.log().len();
        daemon.signal(signal);
        daemon.wait_for_line_after(before, name);
    }
    // It comes too early to be answered, and is not forgotten.
    daemon.signal(libc::SIGHUP);
    File::options().write(true).open(path).expect("the fifo").write_all(b"max-torrents = \"10k\"\n").expect("read");
    daemon.wait_until_it_answers("after signals while it was starting");
    daemon.wait_for_line("is no file that could be read again");
    daemon.signal(libc::SIGINT);
    assert!(daemon.wait().success());
}

#[test]
fn another_tracker_asked_for_during_the_start_comes_after_it() {
    let namespace = Namespace::new().expect("a namespace");
    let directory = Directory::new("replaced-early");
    let path = directory.0.join("tracker.toml");
    daemon::fifo(&path);
    let mut daemon = Daemon::start(&namespace, Stderr::Read, &["run", "--config", path.to_str().expect("UTF-8")]);
    daemon.wait_until_it_waits_for_signals();
    daemon.signal(libc::SIGUSR2);
    daemon.wait_for_line("another tracker is to take the place of this one");
    // For this one, for the trial of the next one, and for the next one.
    for line in ["is running", "making way for", "is running"] {
        let before = daemon.log().len();
        File::options()
            .write(true)
            .open(&path)
            .expect("the fifo")
            .write_all(b"max-torrents = \"10k\"\n")
            .expect("read");
        daemon.wait_for_line_after(before, line);
    }
    daemon.wait_until_it_answers("after another tracker took its place");
    daemon.signal(libc::SIGTERM);
    assert!(daemon.wait().success());
}

const KEY: &str = "connection.key";
const GOOD: [u8; 16] = *b"\x8fQ\x02\xee\x91sK\xaa\x10\xfc6\x7f\xd2\x05\xb9D";

fn put(directory: &Path, bytes: &[u8], mode: u32) {
    let path = directory.join(KEY);
    fs::write(&path, bytes).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its own file");
}

#[test]
fn whatever_lies_where_the_key_is_kept_it_starts_and_keeps_a_good_one() {
    // What is there, what the log says of it, and whether it stays.
    type Row = (&'static str, fn(&Path), &'static str, bool);
    let rows: [Row; 15] = [
        ("nothing", |_| {}, "", false),
        ("a good key", |at| put(at, &GOOD, 0o600), "", true),
        ("a good key that only its owner can read", |at| put(at, &GOOD, 0o400), "", true),
        ("an empty file", |at| put(at, b"", 0o600), "empty", false),
        ("a short file", |at| put(at, &GOOD[..7], 0o600), "7 bytes", false),
        ("a long file", |at| put(at, &[GOOD, GOOD].concat(), 0o600), "16 bytes", false),
        ("zeros", |at| put(at, &[0; 16], 0o600), "guess", false),
        ("one byte again and again", |at| put(at, &[0xff; 16], 0o600), "guess", false),
        ("one half twice", |at| put(at, &[&GOOD[..8], &GOOD[..8]].concat(), 0o600), "guess", false),
        ("a key for everybody", |at| put(at, &GOOD, 0o644), "0644", false),
        ("a key for the group", |at| put(at, &GOOD, 0o640), "0640", false),
        ("a fifo", |at| daemon::fifo(&at.join(KEY)), "FIFO", false),
        (
            "a symbolic link",
            |at| {
                fs::write(at.join("elsewhere"), GOOD).expect("a file");
                std::os::unix::fs::symlink("elsewhere", at.join(KEY)).expect("a link");
            },
            "symbolic link",
            false,
        ),
        (
            "a link to nowhere",
            |at| std::os::unix::fs::symlink("nowhere", at.join(KEY)).expect("a link"),
            "symbolic link",
            false,
        ),
        (
            "a socket",
            |at| drop(std::os::unix::net::UnixListener::bind(at.join(KEY)).expect("a socket")),
            "socket",
            false,
        ),
    ];
    let namespace = Namespace::new().expect("a namespace");
    for (name, prepare, said, stays) in rows {
        let directory = Directory::new("key");
        prepare(&directory.0);
        // Left behind by a process that is gone, and by one that had the number which the daemon
        // gets in a container.
        fs::write(directory.0.join("connection.key.4194999"), "").expect("a file");
        let state = directory.0.to_str().expect("UTF-8");
        let mut daemon =
            Daemon::start(&namespace, Stderr::Read, &["run", "--state-dir", state, "--snapshot-interval", "off"]);
        daemon.wait_until_it_answers(name);
        daemon.signal(libc::SIGTERM);
        assert!(daemon.wait().success(), "{name}");
        let log = daemon.log();
        assert!(log.contains(said), "{name}: {said:?} is not in\n{log}");
        assert_eq!(log.contains("WARN"), !said.is_empty(), "{name}: a warning where one is due:\n{log}");
        let path = directory.0.join(KEY);
        let metadata = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(metadata.is_file() && metadata.mode() & 0o077 == 0, "{name}: {metadata:?}");
        let key = fs::read(&path).expect("a key");
        assert_eq!((key.len(), key == GOOD), (16, stays), "{name}");
        let mut left: Vec<_> = fs::read_dir(&directory.0).expect("it is there").flatten().collect();
        left.retain(|entry| entry.file_name() != KEY && entry.file_name() != "elsewhere");
        assert!(left.is_empty(), "{name}: left behind are {left:?}");
        assert!(!directory.0.join("nowhere").exists(), "{name}: the link was followed");
    }
}

#[test]
fn key_that_cannot_be_kept_is_made_in_memory_with_a_warning() {
    // What a shell does before it becomes the daemon, in a mount namespace of its own; $D is the
    // state directory.
    let rows = [
        ("a directory of that name", "mkdir -p $D/connection.key/x", "directory"),
        ("a full disk", "mount -t tmpfs -o size=4k none $D; head -c 4096 /dev/zero >$D/full", "No space left"),
        (
            "a full disk and an empty key",
            "mount -t tmpfs -o size=4k none $D; :>$D/connection.key; head -c 4096 /dev/zero >$D/full",
            "No space left",
        ),
        ("a directory that is read only", "mount -t tmpfs -o ro none $D", "Read-only"),
        ("a file in place of the directory", "rmdir $D; :>$D", "File exists"),
        (
            "a device of that name that is read only",
            "mount -t tmpfs none $D; mknod $D/connection.key c 1 5; mount -o remount,ro $D",
            "device",
        ),
    ];
    let namespace = Namespace::new().expect("a namespace");
    for (name, script, said) in rows {
        let directory = Directory::new("memory");
        let state = directory.0.to_str().expect("UTF-8");
        let mut daemon = Daemon::start_after(
            &namespace,
            &format!("D={state}; {script}"),
            Stderr::Read,
            &["run", "--state-dir", state, "--snapshot-interval", "off"],
        );
        daemon.wait_until_it_answers(name);
        daemon.signal(libc::SIGTERM);
        assert!(daemon.wait().success(), "{name}");
        let log = daemon.log();
        assert!(log.contains("WARN") && log.contains(said), "{name}: {said:?} is not warned of in\n{log}");
        assert!(log.contains("memory"), "{name}: {log}");
        let left = fs::read_dir(&directory.0).into_iter().flatten().flatten();
        let left: Vec<_> = left.filter(|entry| entry.file_name() != KEY).collect();
        assert!(left.is_empty(), "{name}: left behind are {left:?}");
        let _ = fs::remove_file(&directory.0);
    }
}

#[test]
fn missing_state_directory_is_made_and_two_trackers_share_its_key() {
    let directory = Directory::new("missing");
    let state = directory.0.join("a/b");
    let namespaces: Vec<_> = (0..4).map(|_| Namespace::new().expect("a namespace")).collect();
    let argument = state.to_str().expect("UTF-8");
    let mut daemons: Vec<_> = namespaces
        .iter()
        .map(|namespace| {
            Daemon::start(namespace, Stderr::Read, &["run", "--state-dir", argument, "--snapshot-interval", "off"])
        })
        .collect();
    for daemon in &mut daemons {
        daemon.wait_until_it_answers("one of several");
    }
    let key = fs::read(state.join(KEY)).expect("a key");
    let ids: Vec<u64> = daemons.iter().map(Daemon::connection_id).collect();
    // The clock gives the same second or the next one; the key gives the rest, and wrong ids are
    // refused.
    for daemon in &mut daemons {
        for id in &ids {
            assert!(daemon.accepts(*id), "all have the key {key:?}: {}", daemon.log());
        }
        daemon.signal(libc::SIGTERM);
        assert!(daemon.wait().success());
    }
    let left: Vec<_> = fs::read_dir(&state).expect("it is there").flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(fs::read(state.join(KEY)).expect("a key"), key, "nobody made another one");
}
