//! The connection to NATS: how it is made, and what subjects there are.

use super::{
    Plan, credentials,
    figures::{Dropped, Meters},
};
use anyhow::Context as _;
use async_nats::{Client, ConnectOptions, Event, Message, Server};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;

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

/// Messages that may wait in this process to be sent, and to be read of each subscription. Whoever reads
/// empties the latter each time, so it is never more than what the client has read at once.
pub const WAITING: (usize, usize) = (4096, 1 << 14);

/// Host and port of a server's URL; `None` if it is none, or says who connects: that stands in a file,
/// which fewer can read than the command line.
#[must_use]
pub fn host_and_port(server: &str) -> Option<(String, u16)> {
    let place = match server.split_once("://") {
        Some(("nats" | "tls", rest)) => rest,
        Some(_) => return None,
        None => server,
    };
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

/// Why there is no connection, as far as the log has it already.
#[derive(Default)]
struct Failures(Mutex<Vec<(String, String)>>);

impl Failures {
    /// Tells why each of the servers could not be reached at the last try, once for each reason.
    fn tell(&self, servers: &[Server]) {
        let failed = |server: &Server| {
            let error = server.last_error.clone().filter(|_| server.failed_attempts > 0)?;
            Some((server.to_string(), error))
        };
        let failed: Vec<_> = servers.iter().filter_map(failed).collect();
        let mut told = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        for (server, error) in failed.iter().filter(|failure| !told.contains(failure)) {
            warn!("cannot connect to the cluster's server {server}: {error}{}; trying again and again", advice(error));
        }
        *told = failed;
    }
}

/// Whether `Failures` tells of it, and with the reason.
#[must_use]
pub fn is_told(error: &str) -> bool {
    ["authorization violation", "signing nonce", "timed out", "TLS error", "IO error"]
        .iter()
        .any(|kind| error.ends_with(kind))
}

/// What to look at.
fn advice(error: &str) -> &'static str {
    let rows = [
        ("authorization violation", " (what is in the file of --cluster-credentials?)"),
        ("signing nonce", " (what is in the file of --cluster-credentials?)"),
        ("UnknownIssuer", " (has the file of --cluster-ca who signed its certificate?)"),
        ("not valid for name", " (its certificate has other names than the URL)"),
        ("fatal alert: CertificateRequired", " (it asks for --cluster-certificate and --cluster-key)"),
    ];
    rows.into_iter().find(|(part, _)| error.contains(part)).map_or("", |(_, advice)| advice)
}

/// Connects, sooner or later: it goes on trying, also when the connection is lost. What becomes of it
/// is told to `events`, but for messages that there was no room for: these are counted.
///
/// # Errors
/// When a file cannot be read, or a server's URL is none.
pub async fn connect(plan: &Plan, meters: &Arc<Meters>, events: UnboundedSender<Event>) -> anyhow::Result<Client> {
    let mut options = ConnectOptions::new();
    if let Some(path) = plan.credentials.clone() {
        // Whether it is of use is known now, what it says may change.
        credentials::answer(&path, b"")?;
        options =
            ConnectOptions::with_auth_callback(move |nonce| std::future::ready(credentials::for_client(&path, &nonce)));
    }
    let failures = Failures::default();
    let meters = meters.clone();
    options = options
        .name(format!("tracker {}", plan.node))
        .no_echo()
        .retry_on_initial_connect()
        .client_capacity(WAITING.0)
        .subscription_capacity(WAITING.1)
        .connection_timeout(Duration::from_secs(5))
        .ping_interval(Duration::from_secs(5))
        .reconnect_delay_callback(|tries| AGAIN.min(Duration::from_millis(100) * tries as u32))
        .reconnect_to_server_callback(move |servers, _| {
            failures.tell(&servers);
            // In the client's own order.
            std::future::ready(None)
        })
        .event_callback(move |event| {
            if matches!(event, Event::SlowConsumer(_)) {
                meters.refuse(Dropped::Budget, 1);
            } else {
                // Whoever listened has ended.
                let _ = events.send(event);
            }
            std::future::ready(())
        });
    if let Some(authority) = &plan.authority {
        options = options.add_root_certificates(authority.clone()).require_tls(true);
    }
    if let Some((certificate, key)) = &plan.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone()).require_tls(true);
    }
    options.connect(&plan.servers[..]).await.context("cannot connect to NATS")
}

/// The next message of a subscription; never, without one.
pub async fn next<S: Stream<Item = Message> + Unpin>(subscription: &mut Option<S>) -> Message {
    if let Some(subscription) = subscription
        && let Some(message) = subscription.next().await
    {
        return message;
    }
    std::future::pending().await
}

/// The next message, if one waits, however many were read before.
pub fn waiting<S: Stream<Item = Message> + Unpin>(subscription: &mut Option<S>) -> Option<Message> {
    tokio::task::unconstrained(next(subscription)).now_or_never()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_by_host_and_port() {
        for (server, expected) in [
            ("nats://one.example", Some(("one.example", 4222))),
            ("nats://192.0.2.1:4333", Some(("192.0.2.1", 4333))),
            ("tls://one.example:1", Some(("one.example", 1))),
            ("tls://user:pass@one.example:1", None),
            ("nats://token@one.example", None),
            ("nats://user:pass@[2001:db8::1]:5", None),
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
}
