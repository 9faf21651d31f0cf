//! One request to the admin API, and its answer. The server closes the connection behind it, so the
//! answer is what comes until then.

use crate::command::connect;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::{
    fmt,
    io::{Read as _, Write as _},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// How long an answer may take: a snapshot of a large store takes its time.
const ANSWER: Duration = Duration::from_secs(600);

/// Bytes of the longest answer.
const LONGEST: u64 = 64 << 20;

/// Where the API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Unix socket.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String),
    /// Host and port, where TLS is spoken.
    Tls(String),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        let (tls, host) = match text.strip_prefix("https://") {
            Some(host) => (true, host),
            None => (false, text.strip_prefix("http://").unwrap_or(text)),
        };
        let host = host.trim_end_matches('/');
        let has_port =
            host.rsplit_once(':').is_some_and(|(name, port)| !name.is_empty() && port.parse::<u16>().is_ok());
        if host.contains('/') || !has_port {
            return Err(format!("{text:?} is not unix:/PATH, ADDRESS:PORT, http://HOST:PORT or https://HOST:PORT"));
        }
        Ok(if tls { Self::Tls(host.into()) } else { Self::Tcp(host.into()) })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host) => write!(f, "http://{host}"),
            Self::Tls(host) => write!(f, "https://{host}"),
        }
    }
}

/// The way to a tracker.
pub struct Connection {
    /// Where it is.
    pub place: Place,
    /// The token, if there is one.
    pub token: Option<String>,
    /// Certificates that are believed with TLS.
    pub ca_file: PathBuf,
}

/// What it says.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body as it came.
    pub text: String,
    /// The same, understood.
    pub body: Value,
}

impl Answer {
    /// Whether it was done.
    #[must_use]
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Connection {
    /// Sends a request and reads the answer.
    ///
    /// # Errors
    /// When there is no tracker, or what answers is none.
    pub fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> anyhow::Result<Answer> {
        let place = &self.place;
        let (host, mut stream) = match place {
            Place::Unix(path) => {
                let stream = connect::unix(path, ANSWER).with_context(|| {
                    format!(
                        "cannot connect to {place}; does a tracker run with --api {place}, and may you write there?"
                    )
                })?;
                ("localhost", stream)
            }
            Place::Tcp(host) => {
                let stream = connect::tcp(host, CONNECT, ANSWER)
                    .with_context(|| format!("cannot connect to {place}; does a tracker run with --api there?"))?;
                (host.as_str(), stream)
            }
            Place::Tls(host) => {
                let stream = connect::tls(host, &self.ca_file, (CONNECT, ANSWER))
                    .with_context(|| format!("cannot connect to {place}; does a tracker run with --api-tls there?"))?;
                (host.as_str(), stream)
            }
        };
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
        if let Some(token) = &self.token {
            ensure!(
                token.bytes().all(|byte| byte.is_ascii_graphic()),
                "the token has characters that no header may have"
            );
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            head += "Content-Type: application/merge-patch+json\r\n";
        }
        head += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(head.as_bytes()).with_context(|| format!("cannot ask {place}"))?;
        let mut bytes = Vec::new();
        stream.take(LONGEST).read_to_end(&mut bytes).with_context(|| format!("no whole answer from {place}"))?;
        parse(&bytes).with_context(|| format!("{place} is no admin API of a tracker"))
    }
}

fn parse(bytes: &[u8]) -> anyhow::Result<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = response.parse(bytes)? else { bail!("the answer ends early") };
    let status = response.code.context("the answer has no status")?;
    let value = |name: &str| {
        let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        header.and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let body = &bytes[length..];
    if let Some(expected) = value("content-length").and_then(|text| text.parse::<usize>().ok()) {
        ensure!(body.len() == expected, "the answer has {} bytes of {expected}", body.len());
    }
    let text = std::str::from_utf8(body).context("the answer is no text")?.to_owned();
    if text.is_empty() {
        return Ok(Answer { status, text, body: Value::Null });
    }
    ensure!(value("content-type").is_some_and(|kind| kind.contains("json")), "the answer is no JSON: status {status}");
    let body = serde_json::from_str(&text).context("the answer is no JSON")?;
    Ok(Answer { status, text, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_sockets_and_addresses() {
        for (text, expected) in [
            ("unix:/run/x", Some("unix:/run/x")),
            ("127.0.0.1:80", Some("http://127.0.0.1:80")),
            ("[::1]:80", Some("http://[::1]:80")),
            ("http://tracker.example:9697/", Some("http://tracker.example:9697")),
            ("https://tracker.example:9697", Some("https://tracker.example:9697")),
            ("https://tracker.example", None),
            ("https://", None),
            ("tracker.example", None),
            ("http://tracker.example:9697/api", None),
            (":80", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Place>().ok().map(|place| place.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn answers_are_whole_and_json() {
        let json = "Content-Type: application/json\r\n";
        for (text, expected) in [
            (format!("HTTP/1.1 200 OK\r\n{json}Content-Length: 2\r\n\r\n{{}}"), Some(200)),
            ("HTTP/1.1 204 No Content\r\n\r\n".into(), Some(204)),
            (format!("HTTP/1.1 200 OK\r\n{json}Content-Length: 3\r\n\r\n{{}}"), None),
            (format!("HTTP/1.1 200 OK\r\n{json}\r\n{{"), None),
            ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html>".into(), None),
            ("HTTP/1.1 200 OK\r\n".into(), None),
            ("SSH-2.0-OpenSSH\r\n".into(), None),
            (String::new(), None),
        ] {
            assert_eq!(parse(text.as_bytes()).ok().map(|answer| answer.status), expected, "{text}");
        }
    }
}
