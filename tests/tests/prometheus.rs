//! What comes with the tracker for Prometheus and Grafana, tried with Debian's Prometheus: it scrapes a
//! running tracker, every expression of the dashboard finds something there, and every alert can be
//! computed. What alerts fire at is in rows of `contrib/prometheus/alerts_test.yml`.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tracker_tests::{
    bep15::Announce,
    client::{UdpClient, http_announce, http_get, http_scrape},
    namespace::Pair,
    patience,
    supervised::{Ending, Printing, Supervised},
    temporary::Directory,
    tracker::Tracker,
    workspace,
};

const TRACKER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 6969);
const PROMETHEUS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
const TORRENT: [u8; 20] = [0x7e; 20];

fn contrib(name: &str) -> PathBuf {
    workspace::root().join("contrib").join(name)
}

/// Everything under `expr` in the dashboard's panels, with the title of the panel.
fn expressions(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut all = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((title.to_owned(), target["expr"].as_str().expect("an expression").to_owned()));
        }
    }
    all
}

/// As Grafana would ask.
fn filled_in(expression: &str) -> String {
    expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$job", ".*")
}

/// The names of metrics in an expression.
fn names(expression: &str) -> impl Iterator<Item = &str> {
    expression
        .split(|character: char| !character.is_ascii_alphanumeric() && character != '_')
        .filter(|word| word.starts_with("tracker_") || word.starts_with("process_"))
}

struct Site {
    pair: Pair,
    tracker: Tracker,
    _prometheus: Supervised,
    _directory: Directory,
}

impl Site {
    /// A tracker with XDP, and a Prometheus that asks it once a second.
    fn new() -> Self {
        let directory = Directory::new("prometheus");
        fs::write(directory.path("blocked"), "203.0.113.0/24\n").expect("writable");
        let pair = Pair::new().expect("two namespaces");
        let blocked = directory.path("blocked").display().to_string();
        let options = ["--interface", Pair::SERVER_INTERFACE, "--xdp-mode", "native", "--max-torrents", "1000"];
        let limits = ["--block-addresses", &blocked, "--limit-announces", "100000"];
        let tracker = Tracker::start(&pair.server, &[&options[..], &limits].concat()).expect("the tracker runs");
        let configuration = fs::read_to_string(contrib("prometheus/prometheus.yml")).expect("a configuration");
        let quick = configuration.replace("_interval: 15s", "_interval: 1s");
        assert_eq!(quick.matches("_interval: 1s").count(), 2, "{quick}");
        fs::write(directory.path("prometheus.yml"), quick).expect("writable");
        fs::copy(contrib("prometheus/alerts.yml"), directory.path("alerts.yml")).expect("rules");
        let mut command = pair.server.command("prometheus");
        command.arg(format!("--config.file={}", directory.path("prometheus.yml").display()));
        command.arg(format!("--storage.tsdb.path={}", directory.path("data").display()));
        command.args(["--web.listen-address=127.0.0.1:9090", "--log.level=warn"]);
        let mut prometheus = Supervised::start(command, Printing::Kept, Ending::AT_ONCE).expect("it starts");
        prometheus
            .wait_until_ready(patience(Duration::from_secs(60)), || {
                let response = http_get(Some(&pair.server), PROMETHEUS, "/-/ready")?;
                ensure!(response.status == 200, "status {}", response.status);
                Ok(())
            })
            .expect("Prometheus is ready");
        Self { pair, tracker, _prometheus: prometheus, _directory: directory }
    }

    /// What the interface for programs says.
    fn api(&self, path: &str) -> Result<Value> {
        let response = http_get(Some(&self.pair.server), PROMETHEUS, path)?;
        let value: Value = serde_json::from_slice(&response.body).context("no JSON")?;
        ensure!(value["status"] == "success", "{path}: {value}");
        Ok(value["data"].clone())
    }

    /// The series that an expression finds.
    fn query(&self, expression: &str) -> Result<Vec<Value>> {
        let mut path = "/api/v1/query?query=".to_owned();
        for byte in expression.bytes() {
            path += &format!("%{byte:02x}");
        }
        Ok(self.api(&path)?["result"].as_array().context("no vector")?.clone())
    }

    /// A second of everything that is counted.
    fn traffic(&self, turn: u16) {
        let Pair { client, server, .. } = &self.pair;
        let server_address = SocketAddr::new(Pair::SERVER_V4.into(), 6969);
        let source = SocketAddr::new(Pair::client_v4(0).into(), 0);
        let mut udp = UdpClient::connected(client, source, server_address).expect("a connection id");
        for port in 0..5 {
            let port = 1000 + turn * 5 + port;
            udp.announce(&Announce { left: u64::from(port % 2), ..Announce::new(TORRENT, port) }).expect("answered");
        }
        udp.scrape(&[TORRENT]).expect("answered");
        udp.announce(&Announce::new(TORRENT, 0)).expect_err("port 0 is refused");
        http_announce(client, server_address, &Announce::new(TORRENT, 900)).expect("answered");
        http_scrape(client, server_address, &[TORRENT]).expect("answered");
        http_get(Some(client), server_address, "/announce?port=1").expect("refused, and answered");
        // ICMP and ARP go past XDP.
        let _ = client.command("ip").args(["neighbour", "flush", "dev", Pair::CLIENT_INTERFACE]).status();
        http_get(Some(server), TRACKER, "/stats").expect("answered");
    }
}

#[test]
fn prometheus_finds_all_that_dashboard_and_alerts_ask_for() {
    let site = Site::new();
    // Two sweeps have to be seen, as rates are between samples.
    let begun = Instant::now();
    let complete = "rate(tracker_store_walk_duration_seconds_count[1m]) > 0 and on () count_over_time(up[1m]) > 4";
    for turn in 0.. {
        site.traffic(turn);
        if site.query(complete).is_ok_and(|series| !series.is_empty()) {
            break;
        }
        assert!(begun.elapsed() < patience(Duration::from_secs(120)), "nothing is scraped: {}", site.tracker.log());
        thread::sleep(Duration::from_secs(1));
    }
    let text = fs::read_to_string(contrib("grafana/tracker.json")).expect("a dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let expressions = expressions(&dashboard);
    assert!(expressions.len() > 40, "{} expressions", expressions.len());
    let mut asked = BTreeSet::new();
    let mut wrong = Vec::new();
    for (title, expression) in &expressions {
        let expression = filled_in(expression);
        asked.extend(names(&expression).map(str::to_owned));
        match site.query(&expression) {
            Ok(series) if series.is_empty() => wrong.push(format!("{title}: nothing is found by {expression}")),
            Ok(_) => {}
            Err(error) => wrong.push(format!("{title}: {error:#}")),
        }
    }
    for list in dashboard["annotations"]["list"].as_array().expect("annotations") {
        site.query(&filled_in(list["expr"].as_str().expect("an expression"))).expect("an annotation");
    }
    let groups = site.api("/api/v1/rules").expect("rules");
    let rules: Vec<_> = groups["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .flat_map(|group| group["rules"].as_array().expect("rules").clone())
        .collect();
    assert!(rules.len() > 10, "{groups}");
    for rule in &rules {
        asked.extend(names(rule["query"].as_str().expect("an expression")).map(str::to_owned));
        let (name, health) = (&rule["name"], &rule["health"]);
        if health != "ok" {
            wrong.push(format!("{name} is {health}: {}", rule["lastError"]));
        }
        if rule["state"] != "inactive" {
            wrong.push(format!("{name} is {} of a tracker that is well", rule["state"]));
        }
    }
    for name in asked {
        if site.query(&format!("count({name})")).expect("a query").is_empty() {
            wrong.push(format!("there is no {name}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.join("\n"), site.tracker.log());
    site.query("tracker_torrents{").expect_err("what is wrong is told");
    assert!(site.query("no_such_metric").expect("a query").is_empty());
    metrics_are_clean(&site);
}

/// `promtool`'s own opinion of the page.
fn metrics_are_clean(site: &Site) {
    let metrics = http_get(Some(&site.pair.server), TRACKER, "/metrics").expect("answered").body;
    assert_eq!(promtool(&["check", "metrics"], &metrics), (true, String::new()));
    let (clean, _) = promtool(&["check", "metrics"], b"# HELP x y\n# TYPE x counter\nx 1\n");
    assert!(!clean, "a counter without _total is found");
}

fn promtool(arguments: &[&str], input: &[u8]) -> (bool, String) {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("promtool, of Debian's package prometheus");
    child.stdin.take().expect("piped").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

#[test]
fn rules_fire_at_what_their_rows_say() {
    let file = |name: &str| contrib(&format!("prometheus/{name}")).display().to_string();
    for arguments in [
        ["check", "config", &file("prometheus.yml")],
        ["check", "rules", &file("alerts.yml")],
        ["test", "rules", &file("alerts_test.yml")],
    ] {
        let (right, printed) = promtool(&arguments, b"");
        assert!(right, "{arguments:?}: {printed}");
    }
    let (rules, rows) = (fs::read_to_string(file("alerts.yml")), fs::read_to_string(file("alerts_test.yml")));
    let (rules, rows) = (rules.expect("rules"), rows.expect("rows"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    let tests: Vec<_> = rows.split("\n  - name: ").skip(1).collect();
    for alert in alerts {
        let of = |fires: bool| {
            let fits = |test: &&&str| {
                test.contains(&format!("alertname: {alert}\n")) && test.contains("exp_alerts: []") != fires
            };
            tests.iter().filter(fits).count()
        };
        assert!(of(true) > 0 && of(false) > 0, "{alert} has no row that fires or none that does not");
    }
}

#[test]
fn the_dashboard_is_whole() {
    let text = fs::read_to_string(contrib("grafana/tracker.json")).expect("a dashboard");
    let dashboard: Value = serde_json::from_str(&text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let place = |panel: &Value, key: &str| panel["gridPos"][key].as_u64().expect("a place");
    let mut ids = BTreeSet::new();
    for (number, panel) in panels.iter().enumerate() {
        let title = &panel["title"];
        assert!(ids.insert(panel["id"].as_u64()), "{title} has the number of another");
        assert!(place(panel, "x") + place(panel, "w") <= 24, "{title} is too wide");
        for other in &panels[..number] {
            let apart = |at: &str, length: &str| {
                place(panel, at) >= place(other, at) + place(other, length)
                    || place(other, at) >= place(panel, at) + place(panel, length)
            };
            assert!(apart("x", "w") || apart("y", "h"), "{title} lies on {}", other["title"]);
        }
    }
    let rows: Vec<_> = panels.iter().filter(|panel| panel["type"] == "row").map(|row| row["title"].as_str()).collect();
    let expected = ["Now", "Requests", "Refusals", "Swarms", "Memory", "Interfaces and cores", "Process and energy"];
    assert_eq!(rows, expected.map(Some));
}
