//! `curl` in a namespace, and what it needs.

use std::{net::IpAddr, process::Command, time::Duration};
use tracker_tests::{
    namespace::Namespace,
    patience,
    supervised::{Ending, Printing, Supervised},
    temporary::Directory,
};

/// What has been answered.
#[derive(Debug)]
pub struct Answer {
    /// 0 if nothing was.
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Whose announce it was taken for.
    pub fn external_ip(&self) -> Option<IpAddr> {
        let after = |key: &[u8]| {
            let at = self.body.windows(key.len()).position(|window| window == key)?;
            Some(&self.body[at + key.len()..])
        };
        let v4 = after(b"11:external ip4:").and_then(|rest| rest.first_chunk::<4>()).map(|ip| IpAddr::from(*ip));
        v4.or_else(|| after(b"11:external ip16:").and_then(|rest| rest.first_chunk::<16>()).map(|ip| IpAddr::from(*ip)))
    }
}

pub struct Curl<'a> {
    namespace: &'a Namespace,
    url: String,
}

impl<'a> Curl<'a> {
    pub fn new(namespace: &'a Namespace, url: &str) -> Self {
        Self { namespace, url: url.to_owned() }
    }

    pub fn get(&self, path: &str, arguments: &[&str]) -> Answer {
        let mut command = self.namespace.command("curl");
        command.args(["--silent", "--globoff", "--max-time", "20", "--write-out", "%{http_code}"]);
        let output = command.args(arguments).arg(format!("{}{path}", self.url)).output().expect("curl is installed");
        let (body, status) = output.stdout.split_at(output.stdout.len().saturating_sub(3));
        let status = String::from_utf8_lossy(status).parse().expect("a status");
        Answer { status, body: body.to_vec() }
    }
}

/// The name of a file in a directory, for a command line.
pub fn at(directory: &Directory, file: &str) -> String {
    directory.path(file).to_str().expect("UTF-8").to_owned()
}

/// A tracker that answers `/health`, whatever else it has.
pub struct Running(Supervised);

impl Running {
    pub fn start(namespace: &Namespace, command: Command) -> Self {
        let limit = patience(Duration::from_secs(30));
        let mut child = Supervised::start(command, Printing::Kept, Ending::after(limit)).expect("it starts");
        let curl = Curl::new(namespace, "http://127.0.0.1:6969");
        child
            .wait_until_ready(limit, || {
                anyhow::ensure!(curl.get("/health", &[]).status == 200, "/health");
                Ok(())
            })
            .expect("it answers");
        Self(child)
    }

    pub fn log(&self) -> String {
        self.0.output()
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: libc::c_int) {
        self.0.signal(signal).expect("it runs");
    }

    pub fn stop(self) {
        assert!(self.0.stop().expect("it runs").success());
    }
}
