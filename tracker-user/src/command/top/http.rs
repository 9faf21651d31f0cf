//! A request to the operator's door. HTTP/1.0, so that the reply comes in one piece and ends with the
//! connection, whatever stands in between.

use crate::command::connect;
use anyhow::{Context as _, bail, ensure};
use std::{
    fmt,
    io::{Read as _, Write as _},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest reply, in bytes.
const LONGEST: u64 = 16 << 20;

/// Where a tracker answers its operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Door {
    /// By TCP.
    Tcp {
        /// Name or address with its port.
        host: String,
        /// What paths begin with: `/`, or more behind a proxy.
        base: String,
    },
    /// On a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, base } => write!(f, "http://{host}{base}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for Door {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        if text.starts_with("https://") {
            bail!(
                "{text}: the operator's door is asked without TLS; from afar let `ssh -L 6969:127.0.0.1:6969 HOST` lead there"
            );
        }
        let rest = text.strip_prefix("http://").unwrap_or(text);
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        ensure!(
            !host.is_empty() && !host.contains(char::is_whitespace) && !rest.contains(['\r', '\n', ' ']),
            "{text} is no address of a tracker: http://HOST:PORT, HOST:PORT or unix:/PATH is"
        );
        let has_port =
            host.rfind(':').is_some_and(|colon| host[colon + 1..].parse::<u16>().is_ok() && !host.ends_with(']'));
        let base = path.trim_end_matches('/');
        Ok(Self::Tcp {
            host: if has_port { host.to_owned() } else { format!("{host}:6969") },
            base: format!("{base}/"),
        })
    }
}

/// The body of the reply to a GET.
///
/// # Errors
/// When there is none, or the tracker says no; with what to do about it.
pub fn get(door: &Door, path: &str, token: Option<&str>) -> anyhow::Result<Vec<u8>> {
    let (host, base) = match door {
        Door::Tcp { host, base } => (host.as_str(), base.as_str()),
        Door::Unix(_) => ("localhost", "/"),
    };
    let authorization = token.map_or_else(String::new, |token| format!("Authorization: Bearer {token}\r\n"));
    let request = format!("GET {base}{path} HTTP/1.0\r\nHost: {host}\r\n{authorization}\r\n");
    let exchange = || -> anyhow::Result<Vec<u8>> {
        let mut stream = match door {
            Door::Tcp { host, .. } => connect::tcp(host, PATIENCE, PATIENCE)?,
            Door::Unix(path) => connect::unix(path, PATIENCE)?,
        };
        stream.write_all(request.as_bytes())?;
        let mut reply = Vec::new();
        stream.take(LONGEST).read_to_end(&mut reply)?;
        body(reply)
    };
    exchange().with_context(|| format!("cannot ask {door}"))
}

/// What stands behind the head of a reply with status 200.
fn body(mut reply: Vec<u8>) -> anyhow::Result<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(length) = head.parse(&reply).context("that is no HTTP")? else {
        bail!("the reply ended too early");
    };
    match head.code.unwrap_or(0) {
        200 => {}
        401 => bail!("it wants a token: --token-file with the file of the tracker's --admin-token-file"),
        403 => bail!("it answers others (--admin-from), or has a door of its own for this (--admin)"),
        404 => bail!("that is not the operator's door (--admin), or a tracker that is too old"),
        other => bail!("it answers with status {other}"),
    }
    Ok(reply.split_off(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_are_named_in_several_ways() {
        for (text, expected) in [
            ("http://127.0.0.1:6969", Some("http://127.0.0.1:6969/")),
            ("http://host.example/tracker/", Some("http://host.example:6969/tracker/")),
            ("host:80", Some("http://host:80/")),
            ("host", Some("http://host:6969/")),
            ("[::1]:7000/x", Some("http://[::1]:7000/x/")),
            ("[2001:db8::1]", Some("http://[2001:db8::1]:6969/")),
            ("unix:/run/x.sock", Some("unix:/run/x.sock")),
            ("https://host", None),
            ("http://", None),
            ("", None),
            ("a b", None),
            ("host/a\r\nX: y", None),
        ] {
            assert_eq!(text.parse::<Door>().ok().map(|door| door.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn replies_are_read_and_refusals_explained() {
        for (reply, expected) in [
            ("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}", Ok("{}")),
            ("HTTP/1.0 200 OK\r\n\r\n", Ok("")),
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", Err("--token-file")),
            ("HTTP/1.1 403 Forbidden\r\n\r\nx", Err("--admin-from")),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Err("--admin")),
            ("HTTP/1.1 500 Oh\r\n\r\n", Err("status 500")),
            ("HTTP/1.1 200 OK\r\nA", Err("too early")),
            ("SSH-2.0\r\n", Err("no HTTP")),
            ("", Err("too early")),
        ] {
            match (body(reply.as_bytes().to_vec()), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected.as_bytes(), "{reply:?}"),
                (Err(error), Err(part)) => assert!(format!("{error:#}").contains(part), "{reply:?}: {error:#}"),
                (found, _) => panic!("{reply:?}: {found:?}"),
            }
        }
    }
}
