//! Planned restarts: the listening sockets are handed from one process to the next, so no HTTP
//! connection is refused, and what has arrived is answered.

#[path = "takeover/load.rs"]
mod load;

use load::Load;
use std::{
    collections::BTreeSet,
    fs, io,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::AsRawFd as _,
        unix::{fs::PermissionsExt as _, net::UnixDatagram, process::CommandExt as _},
    },
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15,
    bpffs::BpfFs,
    client::http_get,
    namespace::{Namespace, Pair},
    soon,
    tracker::{Tracker, binary},
};

const TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Pair::SERVER_V4), 6969);

/// One test at a time: see `veth.rs`.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A thread that asks by HTTP, with a connection for each request, and notes how long each took.
struct Browser {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Result<Duration, String>>>,
}

impl Browser {
    fn start(pair: &Pair) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        // The thread lives in the clients' namespace from its start.
        let thread = pair.client.run(|| {
            let stop = stop.clone();
            thread::spawn(move || {
                let mut asked = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    let told = http_get(None, TRACKER, "/scrape?info_hash=aaaaaaaaaaaaaaaaaaaa");
                    asked.push(match told {
                        Ok(told) if told.status == 200 => Ok(begin.elapsed()),
                        Ok(told) => Err(format!("status {}", told.status)),
                        Err(error) => Err(format!("{error:#}")),
                    });
                    thread::sleep(Duration::from_millis(1));
                }
                asked
            })
        });
        Self { stop, thread }
    }

    /// All times, in order of length.
    fn finish(self) -> Vec<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        let asked = self.thread.join().expect("it does not panic");
        let wrong: Vec<_> = asked.iter().filter_map(|asked| asked.as_ref().err()).collect();
        assert!(wrong.is_empty(), "{} of {} went wrong: {:?}", wrong.len(), asked.len(), &wrong[..wrong.len().min(5)]);
        let mut times: Vec<_> = asked.into_iter().flatten().collect();
        times.sort();
        times
    }
}

#[test]
fn planned_restarts_refuse_no_connection_and_leave_no_request_without_an_answer() {
    let _turn = turn();
    let pair = Pair::new().expect("two namespaces");
    let pins = BpfFs::mount().expect("a BPF file system");
    let path = pins.path();
    let pins = ["--pin-path", path.to_str().expect("UTF-8"), "--interface", Pair::SERVER_INTERFACE];
    let options = [&pins[..], &["--max-peers-per-address", "0", "--max-creations-per-address", "0"]].concat();
    // `--detach-on-stop` is for stops, and this is none.
    let tracker = Tracker::start(&pair.server, &[&options[..], &["--detach-on-stop"]].concat()).expect("it runs");
    let (load, browser) = (Load::start(&pair), Browser::start(&pair));
    for round in 1..=3 {
        thread::sleep(Duration::from_millis(400));
        tracker.signal_until(libc::SIGUSR2, "is running").expect("it runs again");
        soon("it says so", || tracker.log().matches("taken over from the tracker before").count() >= round);
    }
    thread::sleep(Duration::from_millis(200));
    let times = browser.finish();
    let sums = load.finish();
    assert!(sums.wrong.is_empty() && sums.sent == sums.answered, "{sums:#?}");
    assert_eq!(tracker.log().matches("goes on with").count(), 4 * 3, "each socket each time: {}", tracker.log());
    eprintln!(
        "{} requests by HTTP during 3 restarts: median {:?}, 99 % {:?}, longest {:?}; {} by UDP, longest {:?}",
        times.len(),
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1],
        sums.sent,
        sums.slowest
    );
    assert!(tracker.stop().expect("it ran").success());
    assert!(!path.exists(), "that was a stop");
}

#[test]
fn what_is_no_tracker_does_not_take_the_place_of_one() {
    let _turn = turn();
    let namespace = Namespace::new().expect("a namespace");
    let directory = std::env::temp_dir().join(format!("tracker-handover-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("writable");
    let copy = directory.join("tracker");
    fs::copy(binary().expect("a tracker"), &copy).expect("a copy");
    let tracker = Tracker::start_in(&namespace, &[], |command| {
        *command = namespace.command(&copy);
        command.arg("run");
    })
    .expect("it runs");
    let replace = |with: &Path| {
        let new = directory.join("new");
        fs::copy(with, &new).expect("a copy");
        fs::rename(&new, &copy).expect("the same directory");
    };
    for other in ["/bin/false", "/bin/true"] {
        replace(Path::new(other));
        tracker.signal_until(libc::SIGUSR2, "this tracker goes on").expect("it goes on");
        http_get(Some(&namespace), SocketAddr::from((Ipv4Addr::LOCALHOST, 6969)), "/stats").expect("it goes on");
    }
    replace(&binary().expect("a tracker"));
    tracker.signal_until(libc::SIGUSR2, "is running").expect("it runs again");
    // What comes while one takes the other's place is not lost, as the end of this test would be.
    tracker.signal(libc::SIGUSR2).expect("it runs");
    http_get(Some(&namespace), SocketAddr::from((Ipv4Addr::LOCALHOST, 6969)), "/stats").expect("it refuses nobody");
    assert!(tracker.stop().expect("it ran").success());
    fs::remove_dir_all(&directory).expect("it is there");
}

#[test]
fn sockets_of_systemd_are_taken_over_and_given_to_it() {
    let _turn = turn();
    let namespace = Namespace::new().expect("a namespace");
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 6969));
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 6969));
    let (tcp, udp, other) = namespace.run(|| {
        let other = TcpListener::bind("127.0.0.1:7001").expect("a port");
        (TcpListener::bind(any).expect("a port"), UdpSocket::bind(any).expect("a port"), other)
    });
    let path = std::env::temp_dir().join(format!("tracker-notify-{}", std::process::id()));
    let notified = UnixDatagram::bind(&path).expect("a socket");
    notified.set_nonblocking(true).expect("a socket");
    // As systemd's is: the tracker becomes another user.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("it is there");

    // Both come before the tracker does.
    let mut early = namespace.run(|| TcpStream::connect(here)).expect("it listens");
    write!(early, "GET /stats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let client = namespace.run(|| UdpSocket::bind("127.0.0.1:0")).expect("a port");
    client.connect(here).expect("loopback");
    client.send(&bep15::connect(7)).expect("sent");

    let files = [tcp.as_raw_fd(), udp.as_raw_fd(), other.as_raw_fd()];
    let tracker = Tracker::start_in(&namespace, &[], |command| {
        // Only the process itself knows its number.
        *command = namespace.command("/bin/sh");
        let script =
            format!("LISTEN_PID=$$ exec {} run --http-threads 3 --user nobody", binary().expect("a tracker").display());
        command.args(["-c", &script]).env("LISTEN_FDS", "3").env("NOTIFY_SOCKET", &path);
        command.env("WATCHDOG_USEC", "100000");
        pass_on(command, files);
    })
    .expect("it runs");
    drop((tcp, udp, other));
    let mut told = String::new();
    early.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    early.read_to_string(&mut told).expect("an answer");
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    client.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    assert_eq!(client.recv(&mut [0; 100]).expect("an answer"), 16);
    soon("the third is told of", || tracker.log().contains("HTTP 127.0.0.1:7001 is not listened on any more"));

    // For each of three threads, and of the families that were bound by the tracker itself.
    for _ in 0..6 {
        http_get(Some(&namespace), here, "/stats").expect("each thread answers");
    }
    let messages = told_until(&notified, "READY=1\n");
    for message in [
        "FDSTORE=1\nFDNAME=http-0.0.0.0_6969\n",
        "FDSTORE=1\nFDNAME=udp-0.0.0.0_6969\n",
        "FDSTOREREMOVE=1\nFDNAME=http-127.0.0.1_7001\n",
    ] {
        assert!(messages.contains(message), "{message:?} is not among {messages:?}");
    }
    // Again and again, for as long as it runs.
    for _ in 0..2 {
        told_until(&notified, "WATCHDOG=1\n");
    }
    for (signal, messages) in [(libc::SIGHUP, &["RELOADING=1\n", "READY=1\n"][..]), (libc::SIGTERM, &["STOPPING=1\n"])]
    {
        // SAFETY: takes no pointer.
        unsafe { libc::kill(tracker.process().cast_signed(), signal) };
        for message in messages {
            told_until(&notified, message);
        }
    }
    fs::remove_file(path).expect("it is there");
}

#[test]
fn the_next_one_checks_what_it_will_be_started_with() {
    let _turn = turn();
    let namespace = Namespace::new().expect("a namespace");
    let directory = std::env::temp_dir().join(format!("tracker-handover-check-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("writable");
    let (config, copy) = (directory.join("configuration"), directory.join("tracker"));
    let (config_path, state) = (config.to_str().expect("UTF-8"), directory.to_str().expect("UTF-8"));
    // It does not know the option by which all of it is checked.
    let older = format!(
        "#!/bin/sh\n[ \"$1 $2\" = 'check --command-line' ] && exit 2\nexec {} \"$@\"\n",
        binary().expect("a tracker").display()
    );
    let (going, staying) = ("is running", "this tracker goes on");
    // (the file, how it is given, what it is by then, whether an older one comes, what is said)
    for (text, options, now, is_older, said) in [
        ("listen.tcp_udp 0.0.0.0:6969\n", &["-f"][..], None, false, going),
        ("listen.tcp_udp 0.0.0.0:6969\n", &["-f"], Some("listen.sctp 0.0.0.0\n"), false, staying),
        ("listen.tcp_udp 0.0.0.0:6969\n", &["-f"], None, true, going),
        ("snapshot-peers = true\n", &["--state-dir", state, "--config"], None, false, going),
        ("snapshot-peers = true\n", &["--state-dir", state, "--config"], None, true, going),
        ("interval = 600\n", &["--config"], Some("interval = 700\n"), false, going),
        ("interval = 600\n", &["--config"], Some("interval = 1\n"), false, staying),
        ("interval = 600\n", &["--config"], None, true, going),
    ] {
        fs::write(&config, text).expect("writable");
        let _ = fs::remove_file(&copy);
        fs::copy(binary().expect("a tracker"), &copy).expect("a copy");
        let tracker = Tracker::start_in(&namespace, &[], |command| {
            *command = namespace.command(&copy);
            // A shell is not among what may be executed.
            command.args(["run", "--landlock=off", "--seccomp=off"]).args(options).arg(config_path);
        })
        .expect("it runs");
        fs::write(&config, now.unwrap_or(text)).expect("writable");
        if is_older {
            fs::write(directory.join("older"), &older).expect("writable");
            fs::set_permissions(directory.join("older"), fs::Permissions::from_mode(0o755)).expect("a mode");
            fs::rename(directory.join("older"), &copy).expect("the same directory");
        }
        tracker.signal_until(libc::SIGUSR2, said).unwrap_or_else(|error| {
            panic!("{text} {options:?} {now:?} {is_older}: {error:#}: {}", tracker.log());
        });
        assert!(tracker.stop().expect("it ran").success(), "{text} {options:?}");
    }
    fs::remove_dir_all(&directory).expect("it is there");
}

/// What systemd is told until there is this among it, which begins a message.
fn told_until(notified: &UnixDatagram, message: &str) -> BTreeSet<String> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut messages = BTreeSet::new();
    let mut bytes = [0; 1000];
    while !messages.iter().any(|told: &String| told.starts_with(message)) {
        assert!(Instant::now() < deadline, "{message:?} is not among {messages:?}");
        match notified.recv(&mut bytes) {
            Ok(length) => drop(messages.insert(String::from_utf8_lossy(&bytes[..length]).into_owned())),
            Err(_) => thread::sleep(Duration::from_millis(10)),
        }
    }
    messages
}

/// Has the command find the files under the numbers from 3 on.
fn pass_on(command: &mut Command, files: [i32; 3]) {
    // SAFETY: plain system calls, which may be made between fork and exec. The first pass moves all
    // files above those numbers.
    unsafe {
        command.pre_exec(move || {
            let mut moved = [0; 3];
            for (moved, file) in moved.iter_mut().zip(files) {
                *moved = libc::fcntl(file, libc::F_DUPFD_CLOEXEC, 100);
            }
            for (number, file) in (3..).zip(moved) {
                if libc::dup2(file, number) < 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            Ok(())
        });
    }
}
