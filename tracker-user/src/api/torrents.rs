//! Torrents and their peers. Who shares what is nobody's business: addresses of peers are shown, and
//! asked for, only where `--api-peers` says so.

use super::{
    answer::{Answer, Problem},
    operation::hex,
    request::{Asked, number},
};
use crate::{control::Control, snapshot::look::Peer, statistics::api::ApiFailure};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use tracker_common::{id::InfoHash, store::layout::Counts};

/// Torrents in one page.
const MOST_TORRENTS: usize = 1000;

/// Peers in one answer.
const MOST_PEERS: usize = 10_000;

fn not_stored() -> Problem {
    Problem::new(ApiFailure::NotThere, "the torrent is not stored")
}

/// The largest, as the last sweep has seen them; or with a cursor, a page of all as they are stored.
///
/// # Errors
/// When more of them are asked for than the sweep remembers, or than a page holds, or the cursor is none.
pub fn all(control: &Control, asked: &Asked) -> Result<Answer, Problem> {
    let [limit, cursor] = asked.query(["limit", "cursor"])?;
    let snapshot = control.parts.statistics.snapshot();
    let (torrents, next): (Vec<_>, _) = if let Some(cursor) = cursor {
        let limit = number("limit", limit.as_deref(), 100, MOST_TORRENTS)?;
        let from = number("cursor", Some(&cursor), 0, u32::MAX as usize)?;
        let page = control.torrents(from as u32, limit);
        (page.torrents.iter().map(|torrent| row(&torrent.info_hash, &torrent.counts)).collect(), page.next)
    } else {
        let limit = number("limit", limit.as_deref(), 100, 100)?;
        let largest = snapshot.totals.top.iter().take(limit);
        (largest.map(|swarm| row(&swarm.info_hash, &swarm.counts)).collect(), None)
    };
    // For others than this the cursor is a word without a meaning.
    let next = next.map(|next| next.to_string());
    Ok(Answer::ok(json!({
        "stored": snapshot.torrents,
        "sweeps": snapshot.totals.sweeps,
        "torrents": torrents,
        "next": next,
    })))
}

fn row(info_hash: &InfoHash, counts: &Counts) -> Value {
    json!({
        "info_hash": hex(info_hash),
        "seeders": counts.seeders,
        "leechers": counts.leechers,
        "completed": counts.completed,
    })
}

/// One torrent, without its peers.
///
/// # Errors
/// When it is not stored.
pub fn one(control: &Control, asked: &Asked) -> Result<Answer, Problem> {
    let info_hash = asked.info_hash(0)?;
    let (torrent, peers) = control.torrent(&info_hash).ok_or_else(not_stored)?;
    let family = |v4: bool| -> Value {
        let of = |seeder| peers.iter().filter(|peer| peer.address.is_ipv4() == v4 && peer.seeder == seeder).count();
        json!({"seeders": of(true), "leechers": of(false)})
    };
    Ok(Answer::ok(json!({
        "info_hash": hex(&info_hash),
        "completed": torrent.completed,
        "idle_minutes": torrent.idle,
        "ipv4": family(true),
        "ipv6": family(false),
    })))
}

/// Removes a torrent with all its peers.
///
/// # Errors
/// When it is not stored.
pub fn remove(control: &Control, asked: &Asked) -> Result<Answer, Problem> {
    let info_hash = asked.info_hash(0)?;
    if control.remove_torrent(&info_hash) { Ok(Answer::done()) } else { Err(not_stored()) }
}

pub(super) fn may_see_peers(control: &Control) -> Result<(), Problem> {
    if control.parts.startup.api.peers {
        return Ok(());
    }
    Err(Problem::new(ApiFailure::PeersHidden, "--api-peers is off"))
}

/// The peers of a torrent, in the order of their ages.
///
/// # Errors
/// When they are not shown, or the torrent is not stored.
pub fn peers(control: &Control, asked: &Asked) -> Result<Answer, Problem> {
    may_see_peers(control)?;
    let info_hash = asked.info_hash(0)?;
    let [family, limit, offset] = asked.query(["family", "limit", "offset"])?;
    let limit = number("limit", limit.as_deref(), 100, MOST_PEERS)?;
    let offset = number("offset", offset.as_deref(), 0, u32::MAX as usize)?;
    let wanted: &dyn Fn(&Peer) -> bool = match family.as_deref() {
        None => &|_| true,
        Some("ipv4") => &|peer| peer.address.is_ipv4(),
        Some("ipv6") => &|peer| peer.address.is_ipv6(),
        Some(_) => return Err(Problem::new(ApiFailure::Malformed, "family can be ipv4 or ipv6")),
    };
    let (_, mut peers) = control.torrent(&info_hash).ok_or_else(not_stored)?;
    peers.retain(wanted);
    peers.sort_by_key(|peer| (peer.age, peer.address));
    peers.dedup_by_key(|peer| peer.address);
    let total = peers.len();
    let shown: Vec<_> = peers
        .iter()
        .skip(offset)
        .take(limit)
        .map(|peer| {
            json!({
                "address": peer.address.ip().to_string(),
                "port": peer.address.port(),
                "age_minutes": peer.age,
                "seeder": peer.seeder,
                "completed": peer.completed,
            })
        })
        .collect();
    Ok(Answer::ok(json!({"info_hash": hex(&info_hash), "total": total, "peers": shown})))
}

/// Removes a peer.
///
/// # Errors
/// When they are not shown, or it is not stored.
pub fn remove_peer(control: &Control, asked: &Asked) -> Result<Answer, Problem> {
    may_see_peers(control)?;
    let info_hash = asked.info_hash(0)?;
    let address: IpAddr = asked.parameter(1, "address")?;
    let port: u16 = asked.parameter(2, "port")?;
    if control.remove_peer(&info_hash, SocketAddr::new(address.to_canonical(), port)) {
        return Ok(Answer::done());
    }
    Err(Problem::new(ApiFailure::NotThere, "the peer is not stored"))
}
