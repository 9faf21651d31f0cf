//! Who may take part is up to a NATS server: users, tokens, keys, signed files, and TLS. Who has the wrong
//! ones is refused, reads why in his log, and goes on trying.

use super::{
    farm::{Farm, eventually, start_nats},
    torrent,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use std::{fs, process::Command};
use tracker_tests::{
    bep15::Event,
    namespace::Namespace,
    supervised::Supervised,
    temporary::Directory,
    tracker::{Metrics, Tracker},
};

const PORT: u16 = 4222;

fn at(directory: &Directory, name: &str) -> String {
    directory.path(name).display().to_string()
}

fn openssl(arguments: &str, more: &[&str]) {
    let output = Command::new("openssl").args(arguments.split_whitespace()).args(more).output();
    let output = output.expect("openssl is installed");
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

const KEY: &str = "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj";

/// Somebody who signs certificates: `NAME.pem`, `NAME.key`.
fn authority(directory: &Directory, name: &str) {
    let (certificate, key) = (at(directory, &format!("{name}.pem")), at(directory, &format!("{name}.key")));
    let subject = format!("/CN={name}");
    let more = ["-addext", "keyUsage=critical,keyCertSign", "-keyout", &key, "-out", &certificate];
    openssl(KEY, &[&[subject.as_str(), "-x509", "-days", "2"][..], &more].concat());
}

/// A certificate for these names, signed by somebody: `NAME.pem`, `NAME.key`.
fn certify(directory: &Directory, name: &str, names: &str, by: &str) {
    let [certificate, key, request, authority, authority_key] =
        [(name, "pem"), (name, "key"), (name, "csr"), (by, "pem"), (by, "key")]
            .map(|(name, kind)| at(directory, &format!("{name}.{kind}")));
    let (subject, names) = (format!("/CN={name}"), format!("subjectAltName={names}"));
    openssl(KEY, &[&subject, "-addext", &names, "-keyout", &key, "-out", &request]);
    openssl(
        "x509 -req -days 2 -CAcreateserial -copy_extensions copy",
        &["-in", &request, "-CA", &authority, "-CAkey", &authority_key, "-out", &certificate],
    );
}

/// What NATS' tools write: claims, signed.
fn signed(claims: &Value, by: &KeyPair) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&json!({"typ": "JWT", "alg": "ed25519-nkey"})), part(claims));
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(by.sign(text.as_bytes()).expect("a key with its secret")))
}

fn claims(of: &KeyPair, by: &KeyPair, nats: Value) -> Value {
    json!({"jti": "1", "iat": 1_700_000_000, "iss": by.public_key(), "sub": of.public_key(), "name": "x", "nats": nats})
}

/// An operator with an account: what the server is configured by, and the account.
fn operator() -> (String, KeyPair) {
    let (operator, account) = (KeyPair::new_operator(), KeyPair::new_account());
    let own = signed(&claims(&operator, &operator, json!({"type": "operator", "version": 2})), &operator);
    let limits = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
                        "conn": -1, "leaf": -1});
    let nats = json!({"type": "account", "version": 2, "limits": limits});
    let accounts = signed(&claims(&account, &operator, nats), &operator);
    let id = account.public_key();
    (format!("operator: {own}\nresolver: MEMORY\nresolver_preload: {{ {id}: {accounts} }}\n"), account)
}

/// A file for a user of an account.
fn creds(account: &KeyPair) -> String {
    let user = KeyPair::new_user();
    let nats = json!({"type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1});
    let jwt = signed(&claims(&user, account, nats), account);
    let seed = user.seed().expect("a key with its secret");
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
}

fn metrics(tracker: &Tracker, namespace: &Namespace) -> Metrics {
    tracker.metrics(namespace).expect("it answers")
}

/// A way to be let in: the server's configuration, the tracker's options and a file of its, which is a wrong
/// one at first.
struct Row<'a> {
    name: &'a str,
    server: String,
    scheme: &'a str,
    options: Vec<String>,
    /// File, what is in it at first, and later; nothing if it is never right.
    file: (&'a str, String, Option<String>),
    /// What the log says meanwhile.
    said: &'a str,
}

fn server(directory: &Directory, namespace: &Namespace, config: &str) -> Supervised {
    let path = at(directory, "server.conf");
    fs::write(&path, format!("listen: \"127.0.0.1:{PORT}\"\n{config}")).expect("writable");
    start_nats(namespace, PORT, &["--config", &path])
}

#[test]
fn who_is_wrong_is_refused_and_let_in_when_right() {
    let (directory, namespace) = (Directory::new("cluster-trust"), Namespace::new().expect("a namespace"));
    for name in ["ca", "stranger"] {
        authority(&directory, name);
    }
    certify(&directory, "server", "IP:127.0.0.1", "ca");
    certify(&directory, "elsewhere", "DNS:other.example", "ca");
    certify(&directory, "node", "DNS:node.example", "ca");
    certify(&directory, "foreign", "DNS:node.example", "stranger");
    let read = |name: &str| fs::read_to_string(directory.path(name)).expect("readable");
    let credentials = vec!["--cluster-credentials".to_owned(), at(&directory, "secret")];
    let tls = |certificate: &str, more: &str| {
        let [certificate, key] = ["pem", "key"].map(|kind| at(&directory, &format!("{certificate}.{kind}")));
        format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\"{more} }}")
    };
    let ca = |name: &str| vec!["--cluster-ca".to_owned(), at(&directory, name)];
    let verified = tls("server", &format!(", ca_file: \"{}\", verify: true", at(&directory, "ca.pem")));
    let own =
        ["--cluster-certificate".to_owned(), at(&directory, "own"), "--cluster-key".into(), at(&directory, "own")];
    let (user, other_user) = (KeyPair::new_user(), KeyPair::new_user());
    let seed = |key: &KeyPair| key.seed().expect("a key with its secret");
    let (operator_config, account) = operator();
    let violation = "authorization violation (what is in the file of --cluster-credentials?)";
    let row = |name, server: &str, file, said| Row {
        name,
        server: server.into(),
        scheme: "nats",
        options: credentials.clone(),
        file,
        said,
    };
    let secret = |wrong: &str, right: &str| ("secret", wrong.to_owned(), Some(right.to_owned()));
    let with_tls = |name, server: &str, options: Vec<String>, file, said| Row {
        scheme: "tls",
        options,
        ..row(name, server, file, said)
    };
    let rows = [
        row(
            "a password",
            "authorization { user: tracker, password: right }",
            secret("tracker:wrong\n", "tracker:right\n"),
            violation,
        ),
        row(
            "a user",
            "authorization { user: tracker, password: right }",
            secret("t:right", "tracker:right"),
            violation,
        ),
        row(
            "a token",
            "authorization { token: \"the right one\" }",
            secret("a wrong one", "the right one\n"),
            violation,
        ),
        row(
            "a key",
            &format!("authorization {{ users: [ {{ nkey: {} }} ] }}", user.public_key()),
            secret(&seed(&other_user), &seed(&user)),
            violation,
        ),
        row("a signed file", &operator_config, secret(&creds(&KeyPair::new_account()), &creds(&account)), violation),
        with_tls(
            "who signs the server's certificate",
            &tls("server", ""),
            ca("known"),
            ("known", read("stranger.pem"), Some(read("ca.pem"))),
            "UnknownIssuer (has the file of --cluster-ca who signed its certificate?)",
        ),
        with_tls(
            "certificates that the system knows",
            &tls("server", ""),
            vec![],
            ("nothing", String::new(), None),
            "UnknownIssuer",
        ),
        with_tls(
            "the server's name",
            &tls("elsewhere", ""),
            ca("known"),
            ("known", read("ca.pem"), None),
            "(its certificate has other names than the URL)",
        ),
        with_tls(
            "the tracker's certificate",
            &verified,
            [&ca("ca.pem")[..], &own].concat(),
            ("own", read("foreign.pem") + &read("foreign.key"), Some(read("node.pem") + &read("node.key"))),
            "received fatal alert",
        ),
        with_tls(
            "no certificate of the tracker's",
            &verified,
            ca("ca.pem"),
            ("nothing", String::new(), None),
            "received fatal alert",
        ),
        with_tls("a server without TLS", "", ca("ca.pem"), ("nothing", String::new(), None), "cannot connect"),
    ];
    for Row { name, server: config, scheme, options, file: (file, wrong, right), said } in rows {
        let server = server(&directory, &namespace, &config);
        fs::write(directory.path(file), wrong).expect("writable");
        let url = format!("{scheme}://127.0.0.1:{PORT}");
        let usual = ["--cluster", &url, "--udp", "127.0.0.1:6969", "--max-torrents", "1000", "--max-peers", "10000"];
        let options: Vec<_> = usual.into_iter().chain(options.iter().map(String::as_str)).collect();
        let tracker = Tracker::start(&namespace, &options).expect("it runs all the same");
        let lines = || tracker.log().lines().filter(|line| line.contains("cannot connect to the cluster")).count();
        eventually(name, || tracker.log().contains(said).then_some(()));
        let connected = |tracker: &Tracker| metrics(tracker, &namespace).sum("tracker_cluster_connected", &[]);
        assert_eq!(connected(&tracker), 0.0, "{name}: {}", tracker.log());
        let tries = || server.output().lines().filter(|line| line.contains("error")).count();
        if config.contains("authorization") {
            let before = tries();
            eventually("more tries", || (tries() >= before + 3).then_some(()));
            assert_eq!(lines(), 1, "{name}: the log has the same reason once: {}", tracker.log());
        }
        assert!(!tracker.log().contains("right") && !tracker.log().contains("SU"), "no secrets: {}", tracker.log());
        if let Some(right) = right {
            fs::write(directory.path(file), right).expect("writable");
            eventually(name, || (connected(&tracker) == 1.0).then_some(()));
            eventually(name, || tracker.log().contains("connected to the cluster").then_some(()));
        }
        let log = tracker.log();
        assert!(tracker.stop().expect("it ends").success(), "{name}: {log}");
    }
}

#[test]
fn trackers_share_swarms_with_no_more_rights_than_are_documented() {
    let directory = Directory::new("cluster-rights");
    authority(&directory, "ca");
    let addresses = (0..3).map(|number| format!("IP:10.9.{number}.1")).collect::<Vec<_>>().join(",");
    certify(&directory, "server", &addresses, "ca");
    certify(&directory, "node", "DNS:node.example", "ca");
    let path = |name| at(&directory, name);
    let config = format!(
        "listen: \"0.0.0.0:{PORT}\"\n\
         tls {{ cert_file: \"{}\", key_file: \"{}\", ca_file: \"{}\", verify: true }}\n\
         authorization {{ users: [ {{ user: tracker, password: right,\n\
         permissions: {{ publish: [\"tracker.>\", \"_INBOX.>\"], subscribe: [\"tracker.>\", \"_INBOX.>\"] }} }} ] }}\n",
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    );
    fs::write(path("server.conf"), config).expect("writable");
    fs::write(path("secret"), "tracker:right\n").expect("writable");
    let mut farm = Farm::without_server();
    farm.start_server_with(0, &["--config", &path("server.conf")]);
    let start = |farm: &mut Farm, number: usize| {
        let url = format!("tls://10.9.{number}.1");
        let (ca, secret, certificate, key) = (path("ca.pem"), path("secret"), path("node.pem"), path("node.key"));
        let who = ["--cluster-ca", &ca, "--cluster-certificate", &certificate, "--cluster-key", &key];
        farm.start_with(number, &[&["--cluster", &url, "--cluster-credentials", &secret][..], &who].concat());
    };
    start(&mut farm, 0);
    start(&mut farm, 1);
    farm.eventually_connected(&[0, 1]);
    let torrents: Vec<_> = (1..=8).map(torrent).collect();
    for info_hash in &torrents {
        farm.site(0).announce(0, info_hash, 1, true, Event::Started);
        farm.site(1).announce(3, info_hash, 2, false, Event::Started);
    }
    eventually("changes", || (0..2).all(|number| farm.site(number).peers(&torrents) == 16).then_some(()));
    // What there is, by questions and their inboxes.
    start(&mut farm, 2);
    eventually("what there is", || (farm.site(2).peers(&torrents) == 16).then_some(()));
    for site in farm.sites.iter().flatten() {
        assert!(!site.tracker.log().to_lowercase().contains("permission"), "{}", site.tracker.log());
    }
}
