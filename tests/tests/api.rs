//! The admin API and `tracker ctl`, with the real daemon: every answer that its description names is
//! brought about and checked against its schema, and what is changed is seen by clients.

#[path = "api/exchange.rs"]
mod exchange;
#[path = "api/seen.rs"]
mod seen;

use exchange::{Api, By};
use seen::{Seen, ask_all};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
    thread,
};
use tracker::api::{DESCRIPTION, route::ROUTES};
use tracker_tests::{
    bep15::{Announce, InfoHash, Reply},
    client::{Response, UdpClient, http_announce},
    namespace::Pair,
    soon,
    temporary::Directory,
    tracker::{Tracker, binary},
};

const HTTP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6969);
const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9697);
const TLS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9698);
const TOKEN: &str = "0123456789abcdef-a-token";
const HASH: InfoHash = [0xaa; 20];
const HEX: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A tracker with an admin API, and what it keeps.
struct Running {
    tracker: Tracker,
    directory: Directory,
    pair: Pair,
}

impl Running {
    fn start(name: &str, options: &[&str]) -> Self {
        let directory = Directory::new(name);
        let pair = Pair::new().expect("root");
        let place = |name: &str| directory.path(name).to_str().expect("UTF-8").to_owned();
        fs::write(directory.path("token"), format!("{TOKEN}\n")).expect("writable");
        fs::write(directory.path("tracker.toml"), "limit-scrapes = 77\n").expect("writable");
        let (socket, address, token) = (format!("unix:{}", place("api")), API.to_string(), place("token"));
        let file = place("tracker.toml");
        let mut all = vec!["--config", &file, "--api", &socket, "--api", &address, "--api-token-file", &token];
        all.extend(["--udp", "127.0.0.1:6969", "--http", "127.0.0.1:6969", "--interval-jitter", "0"]);
        all.extend(options);
        let tracker = Tracker::start(&pair.server, &all).expect("it starts");
        Self { tracker, directory, pair }
    }

    fn api(&self) -> Api<'_> {
        Api { namespace: &self.pair.server, socket: self.directory.path("api"), address: API }
    }

    fn ctl(&self, line: &str) -> (i32, String, String) {
        let mut command = self.pair.server.command(binary().expect("built"));
        command.arg("ctl").args(line.split_whitespace());
        command.env("TRACKER_CTL", format!("unix:{}", self.directory.path("api").display()));
        let output = command.output().expect("it runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (output.status.code().expect("it ends"), text(output.stdout), text(output.stderr))
    }

    fn announce(&self, port: u16) -> anyhow::Result<i64> {
        Ok(http_announce(&self.pair.server, HTTP, &Announce::new(HASH, port))?.interval)
    }
}

/// An answer with a packet in it, and that to another trace meanwhile.
fn traced(running: &Running, udp: SocketAddr) -> [Response; 2] {
    let api = running.api();
    let source = SocketAddr::new(Pair::client_v4(0).into(), 0);
    let mut client = UdpClient::connected(&running.pair.client, source, udp).expect("a connection id");
    let path = format!("/api/v1/trace?seconds=30&count=1&address={}&info_hash={HEX}", source.ip());
    let [response, refused] = thread::scope(|scope| {
        let tracing = scope.spawn(|| {
            loop {
                let response = api.ask(By::Unix, "GET", &path, None);
                // The other one may have come first.
                if response.status != 409 {
                    return response;
                }
            }
        });
        let mut refused = None;
        soon("another one is refused", || {
            let answer = api.ask(By::Unix, "GET", "/api/v1/trace?seconds=0", None);
            refused = (answer.status == 409).then_some(answer);
            refused.is_some()
        });
        while !tracing.is_finished() {
            for info_hash in [[0xbb; 20], HASH] {
                client.announce(&Announce::new(info_hash, 7)).expect("answered");
            }
        }
        [tracing.join().expect("no panic"), refused.expect("refused")]
    });
    let body: Value = serde_json::from_slice(&response.body).expect("JSON");
    let packet = &body["packets"][0];
    let (from, to) = (packet["source"].as_str().expect("text"), packet["destination"].as_str().expect("text"));
    assert!(from.starts_with(&format!("{}:", source.ip())) && to == udp.to_string(), "{body}");
    assert_eq!(
        (&packet["interface"], &packet["request"], &packet["outcome"], &packet["action"]),
        (&json!(Pair::SERVER_INTERFACE), &json!("announce"), &json!("announce_ipv4"), &json!("tx"))
    );
    assert_eq!((&packet["info_hashes"], &packet["hashes"], &packet["list"]), (&json!([HEX]), &json!(1), &Value::Null));
    [response, refused]
}

/// Fills the lists of addresses as far as they go. Returns a network that is half of a blocked one: to let
/// it in takes room.
fn fill_block_list(running: &Running, file: &Path) -> String {
    let fits = |entries: u32| {
        let lines: String = (0..entries).map(|n| format!("10.{}.{}.0/25\n", n >> 8, n & 0xff)).collect();
        fs::write(file, lines).expect("writable");
        running.api().ask(By::Unix, "POST", "/api/v1/reload", None).status == 200
    };
    let (mut most, mut too_many) = (0, 65_536);
    while too_many - most > 1 {
        let middle = u32::midpoint(most, too_many);
        if fits(middle) { most = middle } else { too_many = middle }
    }
    assert!(most > 1000 && fits(most), "{most}");
    "10.0.0.64/27".into()
}

/// An example of a path of the description.
fn example(form: &str) -> String {
    let values =
        [("{list}", "deny"), ("{info_hash}", HEX), ("{address}", "192.0.2.0"), ("{prefix}", "24"), ("{port}", "7")];
    values.iter().fold(form.to_owned(), |path, (name, value)| path.replace(name, value))
}

#[test]
fn the_description_is_of_the_server() {
    let description: Value = serde_json::from_str(DESCRIPTION).expect("JSON");
    let mut described = BTreeSet::new();
    for (path, item) in description["paths"].as_object().expect("paths") {
        for method in item.as_object().expect("methods").keys().filter(|key| *key != "parameters") {
            described.insert((method.to_uppercase(), path.clone()));
        }
    }
    let served: BTreeSet<_> = ROUTES.iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    assert_eq!(described, served);

    let state = Directory::new("api-state");
    let (state_dir, let_in, blocked) = (state.path("state"), state.path("let-in"), state.path("blocked"));
    fs::create_dir(&state_dir).expect("a directory");
    fs::write(&let_in, "203.0.113.0/24\n").expect("writable");
    fs::write(&blocked, "").expect("writable");
    let [state_dir_name, let_in_name, blocked_name] =
        [&state_dir, &let_in, &blocked].map(|path| path.to_str().expect("UTF-8"));
    let options = ["--api-peers", "--allow-addresses", let_in_name, "--state-dir", state_dir_name];
    let udp = SocketAddr::new(Pair::SERVER_V4.into(), 6969);
    let udp_name = udp.to_string();
    let with_xdp = ["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", "native", "--udp", &udp_name];
    let options = [&options[..], &["--block-addresses", blocked_name], &with_xdp].concat();
    let running = Running::start("api-described-open", &options);
    // Without peers, snapshots, and an address that it is to listen on.
    let other = Running::start("api-described-closed", &["--http", "198.51.100.77:6969"]);
    let (api, closed) = (running.api(), other.api());
    let mut seen = Seen { description: &description, exercised: BTreeSet::new(), answers: Vec::new() };

    // What is the same everywhere: no body where none is taken, no strangers, no other methods.
    for route in &ROUTES {
        let (method, path) = (route.method.as_str(), example(route.path));
        seen.check(method, &path, &api.ask(By::Unix, method, &path, Some("x")));
        let stranger = api.ask(By::Nobody, method, &path, None);
        let wrong = api.ask(By::Token("0123456789abcdef-another"), method, &path, None);
        if route.kind == tracker::statistics::api::ApiEvent::Open {
            assert_eq!((stranger.status, wrong.status), (200, 200), "{method} {path}");
        } else {
            assert_eq!((stranger.status, wrong.status), (401, 401), "{method} {path}");
            assert!(stranger.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
            seen.check(method, &path, &stranger);
        }
        for unknown in ["TRACE", "OPTIONS", "FOO"] {
            let refused = api.ask(By::Token(TOKEN), unknown, &path, None);
            assert_eq!(refused.status, 405, "{unknown} {path}");
            assert!(refused.header("allow").expect("names others").contains(method), "{unknown} {path}");
        }
    }
    let path = |tail: &str| format!("/api/v1/{tail}");
    let torrent = path(&format!("torrents/{HEX}"));
    let (peers, peer) = (format!("{torrent}/peers"), format!("{torrent}/peers/127.0.0.1/7001"));
    let (deny, allow) = (path(&format!("lists/deny/{HEX}")), path(&format!("lists/allow/{HEX}")));
    for port in 7001..7004 {
        running.announce(port).expect("answered");
    }
    let long = format!("{{\"log\": \"{}\"}}", "x".repeat(70_000));
    #[rustfmt::skip]
    ask_all(&mut seen, &api, &[
        ("GET", "/health", None, 200), ("GET", "/ready", None, 200), ("GET", "/openapi.json", None, 200),
        ("GET", &path("status"), None, 200), ("GET", &path("status?x=1"), None, 400),
        ("GET", &path("limits"), None, 200), ("PATCH", &path("limits"), Some("{\"limit-errors\": 9}"), 200),
        ("PATCH", &path("limits"), Some("{\"interval\": 1}"), 422), ("PATCH", &path("limits"), Some("{\"udp\": \"off\"}"), 422),
        ("PATCH", &path("limits"), Some("[]"), 400), ("PATCH", &path("limits"), Some(&long), 413),
        ("GET", &torrent, None, 200), ("GET", &peers, None, 200), ("GET", &format!("{peers}?family=ipv6&limit=3&offset=1"), None, 200),
        ("GET", &format!("{peers}?family=ipx"), None, 400), ("GET", &format!("{peers}?limit=10001"), None, 400),
        ("DELETE", &peer, None, 204), ("DELETE", &peer, None, 404), ("DELETE", &format!("{torrent}/peers/x/7"), None, 400),
        ("DELETE", &format!("{torrent}/peers/127.0.0.1/65536"), None, 400),
        ("GET", &path("torrents"), None, 200), ("GET", &path("torrents?limit=101"), None, 400),
        ("GET", &path("torrents?cursor=0"), None, 200), ("GET", &path("torrents?cursor=0&limit=0"), None, 200),
        ("GET", &path("torrents?cursor=4294967295&limit=1000"), None, 200), ("GET", &path("torrents?cursor="), None, 400),
        ("GET", &path("torrents?cursor=4294967296"), None, 400), ("GET", &path("torrents?cursor=0&limit=1001"), None, 400),
        ("GET", &path("trace?seconds=0"), None, 200), ("GET", &path("trace?count=0"), None, 200), ("GET", &path("trace?seconds=61"), None, 400),
        ("GET", &path("trace?address=198.18.0.2:1"), None, 400), ("GET", &path("trace?info_hash=aa"), None, 400),
        ("GET", &path("trace?reason=no_such"), None, 400), ("GET", &path("trace?source=198.18.0.2"), None, 400),
        ("DELETE", &torrent, None, 204), ("DELETE", &torrent, None, 404), ("GET", &torrent, None, 404), ("GET", &peers, None, 404),
        ("GET", &path("torrents/aa"), None, 400),
        ("GET", &path("lists"), None, 200), ("GET", &deny, None, 404), ("PUT", &deny, None, 201), ("PUT", &deny, None, 200),
        ("GET", &deny, None, 200), ("GET", &path("lists"), None, 200), ("DELETE", &deny, None, 204), ("DELETE", &deny, None, 404),
        ("PUT", &allow, None, 409), ("PUT", &path(&format!("lists/grey/{HEX}")), None, 404), ("PUT", &path("lists/deny/aa"), None, 400),
        ("GET", &path("blocks"), None, 200), ("PUT", &path("blocks/192.0.2.0/24"), None, 200),
        ("GET", &path("blocks/192.0.2.77"), None, 200), ("GET", &path("blocks/192.0.3.77"), None, 200), ("GET", &path("blocks/x"), None, 400),
        ("PUT", &path("blocks/2001:db8::/32"), None, 200), ("GET", &path("blocks"), None, 200),
        ("PUT", &path("blocks/203.0.113.0/24"), None, 409), ("PUT", &path("blocks/0.0.0.0/0"), None, 422),
        ("PUT", &path("blocks/192.0.2.0/33"), None, 400), ("DELETE", &path("blocks/192.0.2.0/24"), None, 200),
        ("DELETE", &path("blocks/::/0"), None, 422), ("PUT", &path("blocks/::ffff:0.0.0.0/96"), None, 422),
        ("POST", &path("reload"), None, 200), ("POST", &path("snapshot"), None, 200),
    ]);
    let odd = api.ask_with(By::Unix, ("PATCH", "/api/v1/limits"), Some(("text/plain", "{}")));
    assert_eq!((odd.status, odd.header("accept").is_some()), (415, true));
    seen.check("PATCH", "/api/v1/limits", &odd);
    for response in traced(&running, udp) {
        seen.check("GET", "/api/v1/trace", &response);
    }
    let full = fill_block_list(&running, &blocked);
    ask_all(&mut seen, &api, &[("DELETE", &path(&format!("blocks/{full}")), None, 409)]);
    // What is broken.
    fs::rename(&state_dir, state.path("away")).expect("it is there");
    fs::write(running.directory.path("tracker.toml"), "limit-scrapes = 77\nintervall = 3\n").expect("writable");
    fs::write(&let_in, "what?\n").expect("writable");
    ask_all(
        &mut seen,
        &api,
        &[
            ("POST", "/api/v1/snapshot", None, 500),
            ("POST", "/api/v1/reload", None, 422),
            // Their files need not be read for it.
            ("DELETE", "/api/v1/blocks/192.0.4.0/24", None, 200),
        ],
    );
    ask_all(
        &mut seen,
        &closed,
        &[
            ("GET", "/ready", None, 503),
            ("GET", &peers, None, 403),
            ("DELETE", &peer, None, 403),
            ("POST", "/api/v1/snapshot", None, 409),
            ("GET", &path("trace"), None, 403),
        ],
    );
    seen.validate();
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, item) in description["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("methods").iter().filter(|(key, _)| *key != "parameters") {
            for status in operation["responses"].as_object().expect("responses").keys() {
                if !seen.exercised.contains(&(path.clone(), method.clone(), status.clone())) {
                    missing.entry(format!("{method} {path}")).or_default().push(status.clone());
                }
            }
        }
    }
    assert!(missing.is_empty(), "described and not seen: {missing:#?}");
    // All of it was counted.
    let refused = api.get("/api/v1/status")["refused"].clone();
    for code in ["malformed", "token_missing", "token_wrong", "method", "not_there", "not_found", "conflict", "invalid"]
    {
        assert!(refused[code].as_u64().expect("a number") > 0, "{code}: {refused}");
    }
    let metrics = running.tracker.metrics(&running.pair.server).expect("metrics");
    let counted = metrics.sum("tracker_http_failures_total", &[("reason", "api_token_missing")]);
    assert_eq!(Some(counted as u64), refused["token_missing"].as_u64());
}

#[test]
fn what_it_changes_clients_feel_until_the_tracker_ends() {
    let running = Running::start("api-felt", &["--interval", "1000"]);
    let api = running.api();
    let patch = |body: &str| api.ask(By::Token(TOKEN), "PATCH", "/api/v1/limits", Some(body)).status;
    assert_eq!(running.announce(1).expect("answered"), 1000);
    assert_eq!(patch("{\"interval\": \"15m\"}"), 200);
    assert_eq!(running.announce(1).expect("answered"), 900);
    // By UDP, too; and refused torrents by both.
    let source = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let mut client = UdpClient::connected(&running.pair.server, source, HTTP).expect("a connection id");
    let announce = Announce::new(HASH, 2);
    assert_eq!(client.announce(&announce).expect("answered").interval, 900);
    let deny = format!("/api/v1/lists/deny/{HEX}");
    assert_eq!(api.ask(By::Unix, "PUT", &deny, None).status, 201);
    let refused = Announce { connection_id: client.connection_id(), ..announce.clone() };
    for _ in 0..2 {
        assert!(
            matches!(client.exchange(&refused.bytes()), Ok(Reply::Error { message, .. }) if message == "Torrent is not allowed")
        );
        assert!(running.announce(1).expect_err("denied").to_string().contains("not allowed"));
        assert_eq!(api.ask(By::Unix, "GET", &format!("/api/v1/torrents/{HEX}"), None).status, 404);
        // A reload takes nothing of it back.
        let before = running.tracker.log().len();
        running.tracker.signal(libc::SIGHUP).expect("it runs");
        soon("it reloads", || running.tracker.log()[before..].contains("the configuration is in force"));
    }
    assert_eq!(api.ask(By::Unix, "DELETE", &deny, None).status, 204);
    assert_eq!(running.announce(1).expect("allowed"), 900);
    assert_eq!(patch("{\"interval\": null}"), 200);
    assert_eq!(running.announce(1).expect("answered"), 1000);
    assert_eq!(api.get("/api/v1/limits")["limits"]["limit-scrapes"], json!({"value": 77, "changed": false}));
    // Blocked: no answer by UDP.
    assert_eq!(api.ask(By::Unix, "PUT", "/api/v1/blocks/::ffff:127.0.0.1/128", None).status, 200);
    assert_eq!(api.get("/api/v1/blocks/::ffff:127.0.0.1")["blocked"], json!(true));
    client.send(&refused.bytes()).expect("sent");
    assert!(running.announce(1).is_err());
    assert_eq!(api.get(&format!("/api/v1/torrents/{HEX}"))["ipv4"], json!({"seeders": 0, "leechers": 0}));
    assert_eq!(api.ask(By::Unix, "DELETE", "/api/v1/blocks/127.0.0.1/32", None).status, 200);
    assert_eq!(running.announce(1).expect("answered"), 1000);
    // Another token.
    assert_eq!(patch("{}"), 200);
    fs::write(running.directory.path("token"), "another-token-of-16-bytes\n").expect("writable");
    let reloaded = api.ask(By::Unix, "POST", "/api/v1/reload", None);
    assert_eq!(
        serde_json::from_slice::<Value>(&reloaded.body).expect("JSON"),
        json!({"changed": ["api-token-file"], "restart": []})
    );
    assert_eq!(patch("{}"), 401);
    assert_eq!(api.ask(By::Token("another-token-of-16-bytes"), "PATCH", "/api/v1/limits", Some("{}")).status, 200);
    // What takes a restart is said.
    fs::write(running.directory.path("tracker.toml"), "max-torrents = 5000\n").expect("writable");
    let reloaded = api.ask(By::Unix, "POST", "/api/v1/reload", None);
    let body: Value = serde_json::from_slice(&reloaded.body).expect("JSON");
    assert_eq!(body, json!({"changed": ["limit-scrapes"], "restart": ["max-torrents"]}));
    // No word of torrents or addresses.
    assert!(!running.tracker.log().contains(HEX) && !running.tracker.log().contains("127.0.0.1/32"));
}

#[test]
fn whoever_asks_for_too_much_hinders_nobody() {
    let running = Running::start("api-greedy", &[]);
    let api = running.api();
    let mode = fs::metadata(&api.socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let malformed: [&[u8]; 6] = [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"GET /health HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"PATCH /api/v1/limits HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n{}",
        b"PATCH /api/v1/limits HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\n\r\n",
    ];
    for bytes in malformed {
        let answer = api.raw(true, bytes);
        let ok = answer.is_empty() || answer.starts_with(b"HTTP/1.1 4");
        assert!(ok, "{:?}: {}", String::from_utf8_lossy(bytes), String::from_utf8_lossy(&answer));
    }
    let huge = [&b"GET /health HTTP/1.1\r\nX: "[..], &[b'x'; 100_000], b"\r\n\r\n"].concat();
    assert!(!api.raw(true, &huge).starts_with(b"HTTP/1.1 2"));
    // One that sends nothing keeps its place for some seconds; others find theirs, up to a number.
    let idle: Vec<_> = (0..40).map(|_| UnixStream::connect(&api.socket).expect("it listens")).collect();
    let refused = api.raw(true, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(refused.is_empty(), "{}", String::from_utf8_lossy(&refused));
    drop(idle);
    soon("it answers again", || api.raw(true, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").starts_with(b"HTTP/1.1 200"));
    let refused = api.get("/api/v1/status")["refused"].clone();
    assert!(refused["busy"].as_u64() > Some(0) && refused["malformed"].as_u64() > Some(0), "{refused}");
    assert!(running.announce(1).is_ok());
}

#[test]
fn ctl_says_what_it_has_done_and_what_not() {
    let files = Directory::new("api-ctl-tls");
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| files.path(name));
    let [certificate, key] = [&certificate, &key].map(|path| path.to_str().expect("UTF-8"));
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tracker"]);
    // One that says that it is an authority (the default) is none of a server.
    openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1"]);
    openssl.args(["-keyout", key, "-out", certificate]);
    assert!(openssl.output().expect("openssl is installed").status.success());
    let tls = TLS.to_string();
    let options = ["--api-peers", "--api-tls", &tls, "--tls-certificate", certificate, "--tls-key", key];
    let running = Running::start("api-ctl", &options);
    running.announce(7001).expect("answered");
    let rows: [(&str, i32, &str); 18] = [
        ("health", 0, "status: alive\n"),
        ("ready", 0, "ready: yes\nreasons: none\n"),
        ("limits interval=20m", 0, "changed: interval, peer-timeout\n"),
        ("limits interval=x", 1, "interval"),
        ("limits x=1", 1, "x cannot be changed"),
        ("peers HASH --json", 0, "\"port\":7001"),
        ("torrents --all --limit 1", 0, HEX),
        ("torrents --cursor 4294967295", 0, "next: -"),
        ("torrents --cursor x", 1, "cursor"),
        ("trace", 1, "there is no XDP here"),
        ("remove-peer HASH 127.0.0.1:7001", 0, "done\n"),
        ("remove-peer HASH 127.0.0.1:7001", 1, "the peer is not stored"),
        ("add deny HASH", 0, "listed: yes"),
        ("add allow HASH --json", 1, "\"code\":\"conflict\""),
        ("blocks 192.0.2.1", 0, "blocked: no"),
        ("snapshot", 1, "--state-dir"),
        ("reload", 0, "restart: none"),
        ("openapi", 0, "openapi: 3.1.0"),
    ];
    for (line, status, said) in rows {
        let (code, out, error) = running.ctl(&line.replace("HASH", HEX));
        assert_eq!(code, status, "{line}: {out}{error}");
        assert!(format!("{out}{error}").contains(said), "{line}: {out}{error}");
        assert!(status == 0 || line.contains("--json") || out.is_empty(), "{line}: {out}");
    }
    let token = running.directory.path("token");
    let by_token = format!("status --at {API} --token-file {}", token.display());
    assert_eq!(running.ctl(&by_token).0, 0);
    let tls = format!("https://{TLS} --ca-file {certificate}");
    assert_eq!(running.ctl(&format!("status --at {tls} --token-file {}", token.display())).0, 0);
    for (line, status, said) in [
        (format!("status --at {tls}"), 1, "A token is needed"),
        (format!("health --at https://{TLS}"), 2, "no TLS: invalid peer certificate"),
        (format!("health --at https://localhost:9698 --ca-file {certificate}"), 2, "not valid for name"),
        (format!("health --at https://{TLS} --ca-file {}", token.display()), 2, "has no certificate in it"),
        (format!("health --at https://{TLS} --ca-file /nonexistent"), 2, "/nonexistent"),
        (format!("health --at https://{API} --ca-file {certificate}"), 2, "no TLS"),
        (format!("health --at http://{TLS}"), 2, "no admin API"),
        (format!("status --at {API}"), 1, "A token is needed"),
        ("status --at 127.0.0.1:9".into(), 2, "cannot connect"),
        ("status --at unix:/nonexistent".into(), 2, "cannot connect to unix:/nonexistent"),
        ("status --at 127.0.0.1:6969".into(), 2, "no admin API"),
        ("status --at nowhere".into(), 2, "ADDRESS:PORT"),
        ("status --token-file /nonexistent".into(), 2, "/nonexistent"),
        ("nonsense".into(), 2, "unrecognized"),
    ] {
        let (code, out, error) = running.ctl(&line);
        assert_eq!((code, out.as_str()), (status, ""), "{line}: {error}");
        assert!(error.contains(said), "{line}: {error}");
    }
}
