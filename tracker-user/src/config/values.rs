//! The values that the admin API shows and changes: numbers, times and switches that clients feel. No
//! file is among them, and nothing that says who is trusted: these stay with whoever can write the
//! configuration.

use super::{Live, file, options::Options};
use anyhow::bail;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tracker_common::limits::table::Kind;

/// Values that stand above those of the command line, by the names of their options.
pub type Overrides = BTreeMap<&'static str, String>;

/// What holds, by the names of the options.
#[must_use]
pub fn values(live: &Live) -> Vec<(&'static str, Value)> {
    let Live { announces, timeouts, http, full_scrape, limits, log, log_completed, .. } = live;
    let rate = |kind: Kind| json!(limits.per_minute[kind as usize]);
    vec![
        ("interval", json!(announces.interval)),
        ("interval-jitter", json!(announces.interval_jitter)),
        ("peer-timeout", json!(timeouts.peer * 60)),
        ("torrent-timeout", json!(timeouts.torrent * 60)),
        ("torrent-timeout-completed", json!(timeouts.torrent_completed * 60)),
        ("default-numwant", json!(announces.default_numwant)),
        ("max-numwant", json!(announces.max_numwant_v4)),
        ("max-numwant-v6", json!(announces.max_numwant_v6)),
        ("max-peers-per-address", json!(announces.max_peers_per_address)),
        ("max-creations-per-address", json!(announces.creations_per_address)),
        ("give-local-peers", json!(announces.give_local_peers)),
        ("limit-connects", rate(Kind::Connect)),
        ("limit-announces", rate(Kind::Announce)),
        ("limit-scrapes", rate(Kind::Scrape)),
        ("limit-errors", json!(limits.errors)),
        ("limit-prefix-v6", json!(limits.prefix_v6)),
        ("http-connections", json!(http.connections)),
        ("http-idle-timeout", json!(http.idle_timeout.as_secs())),
        ("full-scrape", json!(full_scrape.enabled)),
        ("full-scrape-pause", json!(full_scrape.pause.as_secs())),
        ("log", json!(log.as_ref().map(ToString::to_string))),
        ("log-completed", json!(log_completed)),
    ]
}

/// Makes changes to the overrides: an object with a new value for each option, or null for what the
/// configuration says (RFC 7396).
///
/// # Errors
/// The first member that is no such option, or has no such value.
pub fn change(overrides: &Overrides, changes: &serde_json::Map<String, Value>) -> anyhow::Result<Overrides> {
    let names: Vec<_> = values(&Live::default()).into_iter().map(|(name, _)| name).collect();
    let mut changed = overrides.clone();
    for (given, value) in changes {
        let Some(name) = names.iter().find(|name| *name == given) else {
            bail!("{given} cannot be changed; there are {}", names.join(", "));
        };
        match value {
            Value::Null => {
                changed.remove(name);
            }
            Value::Bool(on) => {
                changed.insert(name, if *on { "on" } else { "off" }.into());
            }
            Value::Number(number) => {
                changed.insert(name, number.to_string());
            }
            Value::String(text) => {
                changed.insert(name, text.clone());
            }
            Value::Array(_) | Value::Object(_) => bail!("{given} takes a number, a switch or a text"),
        }
    }
    Ok(changed)
}

/// Puts them over the options that there are.
///
/// # Errors
/// The first value that is none of its option.
pub(super) fn put_over(options: &mut Options, overrides: &Overrides) -> anyhow::Result<()> {
    let command = file::command();
    for (name, text) in overrides {
        if let Err(error) = file::set(options, &command, name, std::slice::from_ref(text)) {
            bail!("{name}: {error}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> anyhow::Result<Overrides> {
        let Value::Object(changes) = serde_json::from_str(text)? else { bail!("no object") };
        change(&Overrides::new(), &changes)
    }

    #[test]
    fn every_value_is_an_option_and_can_be_set_to_itself() {
        let options = Options::default();
        let live = Live::default().over(&options, &Overrides::new()).expect("the defaults");
        let all: serde_json::Map<_, _> =
            values(&live).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let overrides = change(&Overrides::new(), &all).expect("all are known");
        assert_eq!(overrides.len(), all.len() - 1, "the log's level is null by default");
        let again = live.over(&options, &overrides).expect("what holds can be asked for");
        assert_eq!(values(&again), values(&live));
        assert!(live.differences(&again).is_empty(), "{:?}", live.differences(&again));
    }

    #[test]
    fn values_are_checked_as_those_of_the_command_line_are() {
        let rows: [(&str, Option<(&str, Value)>); 13] = [
            (r#"{"interval": 900}"#, Some(("interval", json!(900)))),
            (r#"{"interval": "15m"}"#, Some(("interval", json!(900)))),
            (r#"{"give-local-peers": true}"#, Some(("give-local-peers", json!(true)))),
            (r#"{"log": "debug"}"#, Some(("log", json!("debug")))),
            (r#"{"limit-connects": "1k", "limit-errors": null}"#, Some(("limit-connects", json!(1000)))),
            (r#"{"interval": 1}"#, None),
            (r#"{"interval": -900}"#, None),
            (r#"{"interval": true}"#, None),
            (r#"{"interval": [900]}"#, None),
            // Peers would be forgotten before they come back.
            (r#"{"peer-timeout": 1800}"#, None),
            (r#"{"full-scrape": 3}"#, None),
            (r#"{"max-torrents": 3}"#, None),
            (r#"{"allow-list": "/etc/passwd"}"#, None),
        ];
        for (text, expected) in rows {
            let live = of(text).and_then(|over| Live::default().over(&Options::default(), &over));
            match (expected, live) {
                (Some((name, value)), Ok(live)) => assert!(values(&live).contains(&(name, value)), "{text}"),
                (None, Err(_)) => {}
                (_, live) => panic!("{text}: {:?}", live.map(|live| values(&live))),
            }
        }
    }

    #[test]
    fn null_brings_back_what_the_configuration_says() {
        let over = of(r#"{"interval": 900, "limit-scrapes": 5}"#).expect("right");
        let Value::Object(changes) = json!({"interval": null, "log": null}) else { unreachable!() };
        assert_eq!(change(&over, &changes).expect("right").into_keys().collect::<Vec<_>>(), ["limit-scrapes"]);
    }
}
