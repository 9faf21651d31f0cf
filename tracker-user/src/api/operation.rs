//! The operations, each on [`Control`]. They block, for microseconds or, where files are read or written,
//! for seconds.

use super::{
    answer::{Answer, Problem},
    request::Asked,
    route::Operation,
    torrents, trace,
};
use crate::{
    control::Control,
    listen::network::canonical,
    statistics::api::{ApiEvent, ApiFailure, ApiSums},
};
use hyper::StatusCode;
use ipnet::IpNet;
use serde_json::{Map, Value, json};
use std::{net::IpAddr, time::Instant};
use tracker_common::{admission::List, id::InfoHash};

/// Whether an operation takes a body.
#[must_use]
pub fn takes_body(operation: Operation) -> bool {
    operation == Operation::ChangeLimits
}

/// Does what is asked for.
///
/// # Errors
/// Why it is not done.
pub fn run(control: &Control, operation: Operation, asked: &Asked) -> Result<Answer, Problem> {
    let with_query = [Operation::Torrents, Operation::Peers, Operation::Trace];
    if !with_query.contains(&operation) {
        asked.query([])?;
    }
    match operation {
        Operation::Health => Ok(Answer::ok(json!({"status": "alive", "version": env!("CARGO_PKG_VERSION")}))),
        Operation::Ready => Ok(ready(control)),
        // Served without being read.
        Operation::Description => Err(Problem::new(ApiFailure::Internal, "the description is served elsewhere")),
        Operation::Status => Ok(status(control)),
        Operation::Limits => Ok(limits(control)),
        Operation::ChangeLimits => change_limits(control, asked),
        Operation::Lists => Ok(lists(control)),
        Operation::Listed => listed(control, asked),
        Operation::List => list(control, asked),
        Operation::Unlist => unlist(control, asked),
        Operation::Blocks => Ok(blocks(control)),
        Operation::Blocked => blocked(control, asked),
        Operation::Block => block(control, asked, true),
        Operation::Unblock => block(control, asked, false),
        Operation::Torrents => torrents::all(control, asked),
        Operation::Torrent => torrents::one(control, asked),
        Operation::RemoveTorrent => torrents::remove(control, asked),
        Operation::Peers => torrents::peers(control, asked),
        Operation::RemovePeer => torrents::remove_peer(control, asked),
        Operation::Reload => reload(control),
        Operation::Snapshot => snapshot(control),
        Operation::Trace => trace::trace(control, asked),
    }
}

fn ready(control: &Control) -> Answer {
    let reasons = control.unready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let shown: Vec<_> = reasons.iter().map(|reason| json!({"code": reason.code, "text": reason.text})).collect();
    Answer { status, body: Some(json!({"ready": reasons.is_empty(), "reasons": shown})) }
}

fn status(control: &Control) -> Answer {
    let snapshot = control.parts.statistics.snapshot();
    let interfaces: Vec<_> = snapshot
        .interfaces
        .iter()
        .map(|interface| json!({"name": interface.name, "mode": interface.mode, "note": interface.note}))
        .collect();
    Answer::ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": snapshot.uptime.as_secs(),
        "torrents": snapshot.torrents,
        "peers": {"ipv4": snapshot.peers_v4, "ipv6": snapshot.peers_v6},
        "store_bytes": snapshot.store_bytes,
        "interfaces": interfaces,
        "requests": requests(&snapshot.http.api),
        "refused": refused(&snapshot.http.api),
    }))
}

/// Answered requests to this API, by kind.
fn requests(sums: &ApiSums) -> Value {
    let of = |event| sums.event(event);
    json!({"open": of(ApiEvent::Open), "read": of(ApiEvent::Read), "change": of(ApiEvent::Change)})
}

/// Others, by the code of the problem.
fn refused(sums: &ApiSums) -> Value {
    let counts = ApiFailure::ALL
        .iter()
        .map(|failure| (failure.label().trim_start_matches("api_").to_owned(), json!(sums.failure(*failure))));
    Value::Object(counts.collect())
}

fn limits(control: &Control) -> Answer {
    let limits: Map<_, _> = control
        .limits()
        .into_iter()
        .map(|(name, value, changed)| (name.to_owned(), json!({"value": value, "changed": changed})))
        .collect();
    Answer::ok(json!({"limits": limits}))
}

fn change_limits(control: &Control, asked: &Asked) -> Result<Answer, Problem> {
    let changed = control.change_limits(&asked.body).map_err(|error| Problem::of(ApiFailure::Invalid, &error))?;
    Ok(Answer::ok(json!({"changed": changed})))
}

fn reload(control: &Control) -> Result<Answer, Problem> {
    let done = control.reload().map_err(|error| Problem::of(ApiFailure::Invalid, &error))?;
    Ok(Answer::ok(json!({"changed": done.changed, "restart": done.restart})))
}

fn snapshot(control: &Control) -> Result<Answer, Problem> {
    let Some(saver) = &control.parts.saver else {
        let detail = "there are no snapshots; --state-dir names a directory for them";
        return Err(Problem::new(ApiFailure::Conflict, detail));
    };
    let begin = Instant::now();
    match saver.save_now() {
        Ok(Some(saved)) => Ok(Answer::ok(json!({
            "torrents": saved.totals.torrents,
            "peers": {"ipv4": saved.totals.peers_v4, "ipv6": saved.totals.peers_v6},
            "bytes": saved.bytes,
            "seconds": begin.elapsed().as_secs_f64(),
        }))),
        Ok(None) => Err(Problem::new(ApiFailure::Conflict, "a snapshot is being written")),
        Err(error) => Err(Problem::of(ApiFailure::Internal, &error)),
    }
}

/// An info_hash as people write it.
#[must_use]
pub fn hex(info_hash: &InfoHash) -> String {
    info_hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn lists(control: &Control) -> Answer {
    let list = |list| {
        let list = control.torrent_list(list);
        let hashes = |torrents: &[InfoHash]| torrents.iter().map(hex).collect::<Vec<_>>();
        json!({
            "in_force": list.in_force,
            "files": list.files,
            "entries": list.entries,
            "added": hashes(&list.added),
            "removed": hashes(&list.removed),
        })
    };
    Answer::ok(json!({"allow": list(List::Allow), "deny": list(List::Deny)}))
}

fn which(asked: &Asked) -> Result<(List, InfoHash), Problem> {
    let list = match asked.parameters.first().map(String::as_str) {
        Some("allow") => List::Allow,
        Some("deny") => List::Deny,
        _ => return Err(Problem::new(ApiFailure::NotFound, "there are the lists allow and deny")),
    };
    Ok((list, asked.info_hash(1)?))
}

fn listed(control: &Control, asked: &Asked) -> Result<Answer, Problem> {
    let (list, info_hash) = which(asked)?;
    if control.is_listed(list, &info_hash) {
        return Ok(Answer::ok(json!({"info_hash": hex(&info_hash), "listed": true})));
    }
    Err(Problem::new(ApiFailure::NotThere, "the torrent is not on the list"))
}

fn list(control: &Control, asked: &Asked) -> Result<Answer, Problem> {
    let (list, info_hash) = which(asked)?;
    match control.list_torrent(list, &info_hash) {
        Ok(new) => {
            let status = if new { StatusCode::CREATED } else { StatusCode::OK };
            Ok(Answer { status, body: Some(json!({"info_hash": hex(&info_hash), "listed": true})) })
        }
        Err(error) => Err(Problem::of(ApiFailure::Conflict, &error)),
    }
}

fn unlist(control: &Control, asked: &Asked) -> Result<Answer, Problem> {
    let (list, info_hash) = which(asked)?;
    if control.unlist_torrent(list, &info_hash) {
        return Ok(Answer::done());
    }
    Err(Problem::new(ApiFailure::NotThere, "the torrent is not on the list"))
}

fn blocks(control: &Control) -> Answer {
    let lists = control.address_lists();
    let networks = |networks: &[IpNet]| networks.iter().map(IpNet::to_string).collect::<Vec<_>>();
    Answer::ok(json!({
        "lists": lists.names,
        "numbers": lists.numbers,
        "allow_files": lists.allow_files,
        "entries": lists.entries,
        "added": networks(&lists.added),
        "let_in": networks(&lists.let_in),
    }))
}

fn blocked(control: &Control, asked: &Asked) -> Result<Answer, Problem> {
    let address = asked.parameter::<IpAddr>(0, "address")?.to_canonical();
    let list = control.blocked_by(address);
    Ok(Answer::ok(json!({"address": address.to_string(), "blocked": list.is_some(), "list": list})))
}

fn block(control: &Control, asked: &Asked, blocked: bool) -> Result<Answer, Problem> {
    let network = network(asked)?;
    let changed = control.block(network, blocked).map_err(|error| Problem::of(ApiFailure::Conflict, &error))?;
    Ok(Answer::ok(json!({"network": network.to_string(), "blocked": blocked, "changed": changed})))
}

/// The network that is named; one of IPv4-mapped addresses is one of IPv4, as in files.
fn network(asked: &Asked) -> Result<IpNet, Problem> {
    let address: IpAddr = asked.parameter(0, "address")?;
    let prefix: u8 = asked.parameter(1, "prefix length")?;
    let Ok(network) = IpNet::new(address, prefix).map(canonical) else {
        return Err(Problem::new(ApiFailure::Malformed, format!("{address} has no prefix of {prefix} bits")));
    };
    if network.prefix_len() == 0 {
        return Err(Problem::new(ApiFailure::Invalid, "that would be everybody"));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_mapped_addresses_are_of_ipv4() {
        for (address, prefix, expected) in [
            ("192.0.2.7", "32", Some("192.0.2.7/32")),
            ("192.0.2.7", "24", Some("192.0.2.0/24")),
            ("192.0.2.7", "0", None),
            ("192.0.2.7", "33", None),
            ("192.0.2.7", "120", None),
            ("::ffff:192.0.2.7", "128", Some("192.0.2.7/32")),
            ("::ffff:192.0.2.7", "120", Some("192.0.2.0/24")),
            ("::ffff:192.0.2.7", "97", Some("128.0.0.0/1")),
            // All of IPv4.
            ("::ffff:192.0.2.7", "96", None),
            ("::ffff:192.0.2.7", "95", Some("::fffe:0:0/95")),
            ("::ffff:192.0.2.7", "129", None),
            ("::fffe:192.0.2.7", "120", Some("::fffe:c000:200/120")),
            ("2001:db8::7", "32", Some("2001:db8::/32")),
        ] {
            let parameters = vec![address.to_owned(), prefix.to_owned()];
            let made = network(&Asked { parameters, query: String::new(), body: Map::new() });
            assert_eq!(made.ok().map(|network| network.to_string()).as_deref(), expected, "{address}/{prefix}");
        }
    }
}
