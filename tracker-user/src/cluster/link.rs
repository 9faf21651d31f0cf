//! The connection to NATS: how it is made, and what subjects there are.

use super::Plan;
use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event};
use std::{path::Path, time::Duration};
use tokio::sync::mpsc::UnboundedSender;

/// Changes, by shard.
pub const CHANGES: &str = "tracker.changes";

/// What nodes say of themselves.
pub const HELLO: &str = "tracker.hello";

/// What is asked of one node, by its number.
pub const ASK: &str = "tracker.ask";

/// NATS' port.
const PORT: u16 = 4222;

/// From one try to the next, at most.
const AGAIN: Duration = Duration::from_secs(2);

/// Messages that may wait in this process to be sent, and to be read.
const WAITING: (usize, usize) = (4096, 1 << 16);

/// Host and port of a server's URL; `None` if it is none.
#[must_use]
pub fn host_and_port(server: &str) -> Option<(String, u16)> {
    let rest = match server.split_once("://") {
        Some(("nats" | "tls", rest)) => rest,
        Some(_) => return None,
        None => server,
    };
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let (host, port) = if let Some(bracketed) = place.strip_prefix('[') {
        let (host, behind) = bracketed.split_once(']')?;
        (host, behind.strip_prefix(':').map_or_else(|| behind.is_empty().then_some(PORT), |port| port.parse().ok()))
    } else {
        match place.split_once(':') {
            Some((host, port)) => (host, port.parse().ok()),
            None => (place, Some(PORT)),
        }
    };
    let sound = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
    port.filter(|port| sound && *port != 0).map(|port| (host.to_owned(), port))
}

/// What a file of credentials says.
enum Credentials {
    User(String, String),
    Token(String),
}

fn read_credentials(path: &Path) -> anyhow::Result<Credentials> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let line = text.lines().next().map(str::trim).filter(|line| !line.is_empty());
    let line = line.with_context(|| format!("the first line of {} is empty", path.display()))?;
    Ok(match line.split_once(':') {
        Some((user, password)) => Credentials::User(user.to_owned(), password.to_owned()),
        None => Credentials::Token(line.to_owned()),
    })
}

/// Connects, sooner or later: it goes on trying, also when the connection is lost. What becomes of it
/// is told to `events`.
///
/// # Errors
/// When a file cannot be read, or a server's URL is none.
pub async fn connect(plan: &Plan, events: UnboundedSender<Event>) -> anyhow::Result<Client> {
    let mut options = ConnectOptions::new()
        .name(format!("tracker {}", plan.node))
        .no_echo()
        .retry_on_initial_connect()
        .client_capacity(WAITING.0)
        .subscription_capacity(WAITING.1)
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(5))
        .reconnect_delay_callback(|tries| AGAIN.min(Duration::from_millis(100) * tries as u32))
        .event_callback(move |event| {
            // Whoever listened has ended.
            let _ = events.send(event);
            std::future::ready(())
        });
    match plan.credentials.as_deref().map(read_credentials).transpose()? {
        Some(Credentials::User(user, password)) => options = options.user_and_password(user, password),
        Some(Credentials::Token(token)) => options = options.token(token),
        None => {}
    }
    if let Some(authority) = &plan.authority {
        options = options.add_root_certificates(authority.clone()).require_tls(true);
    }
    if let Some((certificate, key)) = &plan.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
    }
    options.connect(&plan.servers[..]).await.context("cannot connect to NATS")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_by_host_and_port() {
        for (server, expected) in [
            ("nats://one.example", Some(("one.example", 4222))),
            ("nats://192.0.2.1:4333", Some(("192.0.2.1", 4333))),
            ("tls://user:pass@one.example:1", Some(("one.example", 1))),
            ("nats://[2001:db8::1]:5", Some(("2001:db8::1", 5))),
            ("nats://[2001:db8::1]", Some(("2001:db8::1", 4222))),
            ("one.example:7", Some(("one.example", 7))),
            ("http://one.example", None),
            ("ws://one.example", None),
            ("nats://", None),
            ("", None),
            ("nats://one.example:0", None),
            ("nats://one.example:port", None),
            ("nats://one.example:70000", None),
            ("nats://[2001:db8::1", None),
            ("nats://[2001:db8::1]x", None),
            ("nats://one example", None),
        ] {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(host_and_port(server), expected, "{server}");
        }
    }

    #[test]
    fn credentials_are_a_user_or_a_token() {
        let path = std::env::temp_dir().join(format!("tracker-credentials-{}", std::process::id()));
        for (text, user, fine) in
            [("a:b:c\n", Some(("a", "b:c")), true), ("token\nmore", None, true), ("", None, false), ("\n", None, false)]
        {
            std::fs::write(&path, text).expect("writable");
            let read = read_credentials(&path);
            assert_eq!(read.is_ok(), fine, "{text:?}");
            if let (Ok(Credentials::User(one, other)), Some(expected)) = (&read, user) {
                assert_eq!((one.as_str(), other.as_str()), expected);
            }
            assert_eq!(matches!(read, Ok(Credentials::User(..))), user.is_some(), "{text:?}");
        }
        std::fs::remove_file(&path).expect("it is there");
        assert!(read_credentials(&path).is_err());
    }
}
