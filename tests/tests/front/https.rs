//! HTTPS: with `curl` and `openssl s_client`, certificates that change, and clients that keep the
//! tracker waiting.

use super::{
    ANNOUNCE, STRANGER,
    curl::{Curl, Running, at},
    namespace,
};
use socket2::{Domain, Socket, Type};
use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{namespace::Namespace, temporary::Directory, tracker::binary};

const HTTPS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6970);

/// Makes a certificate for `name` and puts it, and its key, in their places at once.
fn certify(directory: &Directory, name: &str) {
    let (key, certificate) = (at(directory, "new-key"), at(directory, "new-certificate"));
    let output = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", &format!("/CN={name}"), "-addext", &format!("subjectAltName=DNS:{name}")])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(key, at(directory, "key.pem")).expect("the same directory");
    fs::rename(certificate, at(directory, "certificate.pem")).expect("the same directory");
}

fn start(namespace: &Namespace, directory: &Directory, options: &[&str]) -> Running {
    let mut command = namespace.command(binary().expect("a tracker"));
    command.args(["run", "--pin-path", "off", "--udp", "off", "--http", "0.0.0.0:6969", "--https", "0.0.0.0:6970"]);
    command.args(["--tls-certificate", &at(directory, "certificate.pem"), "--tls-key", &at(directory, "key.pem")]);
    command.args(["--http-threads", "2"]).args(options);
    Running::start(namespace, command)
}

/// What `openssl s_client` says of a connection.
fn s_client(namespace: &Namespace, arguments: &[&str]) -> String {
    let mut command = namespace.command("openssl");
    command.args(["s_client", "-connect", "127.0.0.1:6970"]).args(arguments);
    let output = command.stdin(Stdio::null()).output().expect("openssl is installed");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn https_is_http_by_tls() {
    let (namespace, directory) = (namespace(), Directory::new("front-https"));
    certify(&directory, "one.example");
    let tracker = start(&namespace, &directory, &["--proxy-protocol-from", "127.0.0.3"]);
    let https = Curl::new(&namespace, "https://one.example:6970");
    let certificate = at(&directory, "certificate.pem");
    let known = ["--resolve", "one.example:6970:127.0.0.1", "--cacert", &certificate];
    let with = |more: &[&'static str]| [&known[..], more].concat();
    // (what is asked, how, the status; 0 for none)
    let rows = [
        (ANNOUNCE, with(&[]), 200),
        ("/scrape", with(&["--http1.1"]), 200),
        ("/scrape", with(&["--http1.0"]), 200),
        ("/scrape", with(&["--compressed"]), 200),
        ("/stats", with(&[]), 200),
        ("/health", with(&["--tlsv1.3"]), 200),
        ("/health", with(&["--tls-max", "1.2"]), 200),
        ("/health", with(&["--interface", STRANGER]), 200),
        ("/health", with(&["--interface", "127.0.0.3", "--haproxy-protocol"]), 200),
        ("/stats", with(&["--interface", STRANGER]), 403),
        ("/nothing", with(&[]), 404),
        ("/health", with(&["--interface", "127.0.0.3"]), 0),
        ("/health", with(&["--interface", "127.0.0.9", "--haproxy-protocol"]), 0),
        ("/health", with(&["--tls-max", "1.1", "--ciphers", "DEFAULT@SECLEVEL=0"]), 0),
        ("/health", known[..2].to_vec(), 0),
    ];
    for (path, arguments, status) in rows {
        let answer = https.get(path, &arguments);
        assert_eq!(answer.status, status, "{path} by {arguments:?}: {answer:?}\n{}", tracker.log());
    }
    // A body without an end, until curl has enough of it.
    let events = https.get("/events", &with(&["--no-buffer", "--max-time", "4"]));
    assert!(events.text().matches("event: figures\ndata: {").count() > 1, "{}", events.text());
    // Each protocol at its own port.
    let wrong = Curl::new(&namespace, "http://127.0.0.1:6970");
    assert_eq!(wrong.get("/health", &[]).status, 0);
    let wrong = Curl::new(&namespace, "https://127.0.0.1:6969");
    assert_eq!(wrong.get("/health", &["--insecure"]).status, 0);
    let said = s_client(&namespace, &["-alpn", "h2,http/1.1"]);
    assert!(said.contains("ALPN protocol: http/1.1"), "{said}");
    tracker.stop();
}

#[test]
fn certificates_are_read_again_and_wrong_ones_change_nothing() {
    let (namespace, directory) = (namespace(), Directory::new("front-certificates"));
    certify(&directory, "one.example");
    let tracker = start(&namespace, &directory, &[]);
    let wait_for = |what: &str, so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(40);
        while !so() {
            assert!(Instant::now() < deadline, "{what}: {}", tracker.log());
            thread::sleep(Duration::from_millis(50));
        }
    };
    let name = || s_client(&namespace, &[]);
    assert!(name().contains("one.example"));
    certify(&directory, "two.example");
    tracker.signal(libc::SIGHUP);
    wait_for("SIGHUP", &|| name().contains("two.example"));
    // Without being told.
    certify(&directory, "three.example");
    wait_for("by itself", &|| name().contains("three.example"));
    let (key, certificate) = (at(&directory, "key.pem"), at(&directory, "certificate.pem"));
    let good = fs::read(&certificate).expect("a file");
    for (text, reason) in [("", "has no certificate in it"), ("-----BEGIN CERTIFICATE-----\nx", "cannot use")] {
        let lines = tracker.log().matches("not changed").count();
        fs::write(&certificate, text).expect("writable");
        tracker.signal(libc::SIGHUP);
        wait_for(reason, &|| tracker.log().matches("not changed").count() > lines && tracker.log().contains(reason));
        assert!(name().contains("three.example"));
    }
    fs::write(&certificate, good).expect("writable");
    let output = Command::new("openssl").args(["genpkey", "-algorithm", "ed25519", "-out", &key]).output();
    assert!(output.expect("openssl is installed").status.success());
    tracker.signal(libc::SIGHUP);
    wait_for("another key", &|| tracker.log().contains("do not go together"));
    assert!(name().contains("three.example"));
    tracker.stop();
}

/// A connection to the port of HTTPS that sends some bytes.
fn begin(namespace: &Namespace, bytes: &[u8]) -> TcpStream {
    let mut stream = namespace.run(|| TcpStream::connect(HTTPS)).expect("it listens");
    stream.set_nonblocking(true).expect("a socket");
    let _ = stream.write(bytes);
    stream
}

/// Whether the tracker has ended a connection.
fn has_ended(stream: &mut TcpStream) -> bool {
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[test]
fn handshakes_that_do_not_end_keep_nobody_out() {
    let (namespace, directory) = (namespace(), Directory::new("front-handshakes"));
    certify(&directory, "one.example");
    let tracker = start(&namespace, &directory, &["--https-handshakes", "64", "--limit-handshakes", "0"]);
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", tracker.id())).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let curl = Curl::new(&namespace, "https://127.0.0.1:6970");
    let before = resident();
    // A ClientHello that says of itself to be longer than what comes.
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let rows: [(&str, &[u8]); 4] = [
        ("nothing", b""),
        ("the beginning of a ClientHello", hello),
        ("plain HTTP", b"GET /announce HTTP/1.1\r\n\r\n"),
        ("garbage", &[0xa5; 4000]),
    ];
    for (name, bytes) in rows {
        let mut connections = Vec::new();
        for number in 0..1000 {
            connections.push(begin(&namespace, bytes));
            if number % 250 == 249 {
                let answer = curl.get("/health", &["--insecure", "--interface", "127.0.0.5"]);
                assert_eq!(answer.status, 200, "{name}, {number}: {answer:?}");
                let answer = Curl::new(&namespace, "http://127.0.0.1:6969").get("/health", &[]);
                assert_eq!(answer.status, 200, "{name}, {number}: {answer:?}");
            }
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while !connections.iter_mut().all(has_ended) {
            assert!(Instant::now() < deadline, "{name}: they do not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
    // A byte at a time, for longer than there is time.
    let mut slow = begin(&namespace, b"");
    let deadline = Instant::now() + Duration::from_secs(60);
    for byte in hello.iter().cycle() {
        let _ = slow.write(&[*byte]);
        thread::sleep(Duration::from_millis(250));
        if has_ended(&mut slow) {
            break;
        }
        assert!(Instant::now() < deadline, "it may go on for ever");
    }
    for reason in ["handshake_evicted", "handshake_timeout", "handshake_failed"] {
        assert_ne!(aborted(&namespace, reason), 0, "{reason}");
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB more than before");
    tracker.stop();
}

/// The same as [`begin`] from an address of the loopback interface.
fn begin_from(namespace: &Namespace, source: Ipv4Addr, bytes: &[u8]) -> TcpStream {
    let stream = namespace.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from((source, 0)).into())?;
        socket.connect(&HTTPS.into())?;
        Ok::<_, std::io::Error>(TcpStream::from(socket))
    });
    let mut stream = stream.expect("it listens");
    stream.set_nonblocking(true).expect("a socket");
    let _ = stream.write(bytes);
    stream
}

/// What a tracker has closed connections for.
fn aborted(namespace: &Namespace, reason: &str) -> u64 {
    let metrics = Curl::new(namespace, "http://127.0.0.1:6969").get("/metrics", &[]).text();
    let line = format!("tracker_http_connections_aborted_total{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|text| text.strip_prefix(line.as_str())).expect(reason).parse().expect("a number")
}

/// Thousands of addresses, each of a network of its own: no count by client is of any use.
#[test]
fn handshakes_from_everywhere_keep_nobody_out() {
    let (namespace, directory) = (namespace(), Directory::new("front-everywhere"));
    certify(&directory, "one.example");
    let tracker = start(&namespace, &directory, &["--https-handshakes", "64"]);
    let curl = Curl::new(&namespace, "https://127.0.0.1:6970");
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    // What each sends at first, and what it then adds, a byte in each round.
    let rows: [(&str, &[u8], &[u8]); 4] = [
        ("nothing", b"", b""),
        ("the beginning of a ClientHello", hello, b""),
        ("a ClientHello byte by byte", b"", hello),
        ("garbage", &[0xa5; 4000], b""),
    ];
    for (name, first, then) in rows {
        let mut connections = Vec::new();
        for number in 0..1200_u16 {
            let [high, low] = number.to_be_bytes();
            connections.push(begin_from(&namespace, Ipv4Addr::new(127, 100 + high, low, 1), first));
            if number % 300 == 299 {
                for byte in then {
                    connections.iter_mut().for_each(|connection| {
                        let _ = connection.write(&[*byte]);
                    });
                }
                let answer = curl.get("/health", &["--insecure", "--interface", "127.0.0.5"]);
                assert_eq!(answer.status, 200, "{name}, {number}: {answer:?}");
            }
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while !connections.iter_mut().all(has_ended) {
            assert!(Instant::now() < deadline, "{name}: they do not end");
            thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(aborted(&namespace, "handshake_evicted") > 2000);
    assert_eq!(aborted(&namespace, "handshake_limited"), 0, "none of them has begun many");
    tracker.stop();
}

#[test]
fn a_client_begins_only_so_many_handshakes() {
    const MOST: u16 = 20;
    let (namespace, directory) = (namespace(), Directory::new("front-rate"));
    certify(&directory, "one.example");
    let limit = MOST.to_string();
    let limits = ["--limit-handshakes", &limit, "--unlimited", "127.0.8.0/24"];
    let options = [&limits[..], &["--proxy-from", "127.0.9.9", "--proxy-protocol-from", "127.0.0.3"]].concat();
    let tracker = start(&namespace, &directory, &options);
    let curl = Curl::new(&namespace, "https://127.0.0.1:6970");
    let asks = |source: &str, times: u16, more: &[&str]| {
        let arguments = [&["--insecure", "--interface", source][..], more].concat();
        (0..times).filter(|_| curl.get("/health", &arguments).status == 200).count() as u16
    };
    // One comes back every three seconds.
    let few = MOST..MOST + 10;
    // Those that come to nothing count as well.
    let garbage: Vec<_> =
        (0..MOST).map(|_| begin_from(&namespace, Ipv4Addr::new(127, 0, 7, 1), &[0xa5; 100])).collect();
    thread::sleep(Duration::from_millis(200));
    let left = asks("127.0.7.1", 2 * MOST, &[]);
    assert!(left < 10, "{left}");
    drop(garbage);
    for (source, expected) in [
        ("127.0.6.1", few.clone()),
        ("127.0.6.2", few.clone()),
        ("127.0.8.1", 2 * MOST..2 * MOST + 1),
        ("127.0.9.9", 2 * MOST..2 * MOST + 1),
    ] {
        let answered = asks(source, 2 * MOST, &[]);
        assert!(expected.contains(&answered), "{source}: {answered}");
    }
    // With the PROXY protocol it is who the proxy asks for, which is itself here.
    let answered = asks("127.0.0.3", 2 * MOST, &["--haproxy-protocol"]);
    assert!(few.contains(&answered), "{answered}");
    // A network has eight times as many.
    let network: u16 = (1..=16).map(|host| asks(&format!("127.0.5.{host}"), MOST - 4, &[])).sum();
    assert!((8 * MOST..8 * MOST + 40).contains(&network), "{network}");
    assert!(aborted(&namespace, "handshake_limited") > 50);
    // Plain HTTP is not concerned.
    let plain = Curl::new(&namespace, "http://127.0.0.1:6969").get("/health", &["--interface", "127.0.6.1"]);
    assert_eq!(plain.status, 200);
    tracker.stop();
}
