//! Single packets as the XDP program sees them, for some seconds. They tell who shares what, so they are
//! shown only where `--api-peers` says so.

use super::{
    answer::{Answer, Problem},
    request::{Asked, number},
    torrents::may_see_peers,
};
use crate::{
    control::Control,
    statistics::api::ApiFailure,
    trace::{Filter, options},
};
use serde_json::json;
use std::time::{Duration, Instant};

/// Seconds that a trace may take.
const MOST_SECONDS: usize = 60;

/// Packets in one answer.
const MOST_PACKETS: usize = 10_000;

/// Packets that come within some seconds from now on.
///
/// # Errors
/// When they are not shown, there is no XDP, or somebody traces already.
pub fn trace(control: &Control, asked: &Asked) -> Result<Answer, Problem> {
    may_see_peers(control)?;
    let [address, info_hash, reason, seconds, count] =
        asked.query(["address", "info_hash", "reason", "seconds", "count"])?;
    let filter = Filter {
        reason: reason
            .iter()
            .flat_map(|labels| labels.split(','))
            .map(options::outcome)
            .collect::<Result<_, _>>()
            .map_err(wrong("reason"))?,
        source: address.as_deref().map(options::source).transpose().map_err(wrong("address"))?,
        info_hash: info_hash.as_deref().map(options::info_hash).transpose().map_err(wrong("info_hash"))?,
    };
    let seconds = number("seconds", seconds.as_deref(), 5, MOST_SECONDS)?;
    let count = number("count", count.as_deref(), 100, MOST_PACKETS)?;
    let begin = Instant::now();
    let seen = control
        .trace(&filter, (Duration::from_secs(seconds as u64), count))
        .map_err(|error| Problem::of(ApiFailure::Conflict, &error))?;
    Ok(Answer::ok(json!({
        "packets": seen.packets,
        "lost": seen.lost,
        "seconds": begin.elapsed().as_secs_f64(),
    })))
}

fn wrong(name: &'static str) -> impl Fn(String) -> Problem {
    move |why| Problem::new(ApiFailure::Malformed, format!("{name}: {why}"))
}
