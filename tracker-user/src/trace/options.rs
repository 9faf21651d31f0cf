//! Options of `tracker trace`.

use super::Filter;
use clap::Args;
use std::net::IpAddr;
use tracker_common::trace::Outcome;

const FORMAT: &str = "\
A line for each packet, on standard output:
  TIME INTERFACE SOURCE > DESTINATION REQUEST BYTES OUTCOME ACTION INFO_HASH
TIME is UTC; BYTES are those of the UDP payload; OUTCOME is the name it is counted by in /metrics; ACTION is tx (answered), drop
or pass (the kernel has a look, and the tracker's sockets). What there is not is `-`; +N are further info_hashes of a scrape.
It takes root, or CAP_SYS_ADMIN. One process at a time can trace a tracker.";

/// Options of `tracker trace`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = FORMAT)]
pub struct TraceOptions {
    /// End after so many packets
    #[arg(long, value_name = "N", value_parser = count)]
    pub count: Option<u64>,
    /// Which packets.
    #[command(flatten)]
    pub filter: Filter,
    /// The kernel's number of the tracker's XDP program, where several trackers run
    #[arg(long, value_name = "NUMBER", value_parser = program)]
    pub program: Option<u32>,
}

/// Reads the name of an outcome, as metrics have it.
///
/// # Errors
/// When there is none of that name; names the nearest one and all of them.
pub fn outcome(label: &str) -> Result<Outcome, String> {
    if let Some(outcome) = Outcome::all().find(|outcome| outcome.label() == label) {
        return Ok(outcome);
    }
    let nearness = |outcome: &Outcome| (strsim::jaro(outcome.label(), label) * 1000.0) as u32;
    let nearest = Outcome::all().max_by_key(nearness).filter(|outcome| nearness(outcome) > 700);
    let hint = nearest.map_or_else(String::new, |outcome| format!("; did you mean {}?", outcome.label()));
    let all: Vec<_> = Outcome::all().map(Outcome::label).collect();
    Err(format!("no outcome has this name{hint} There are: {}", all.join(", ")))
}

/// Reads an info_hash in hexadecimal digits.
///
/// # Errors
/// When it is not one.
pub fn info_hash(text: &str) -> Result<[u8; 20], String> {
    let wrong = || {
        format!(
            "an info_hash has 40 hexadecimal digits, and this has {} characters or others in it",
            text.chars().count()
        )
    };
    let digits: Option<Vec<u8>> = text.chars().map(|digit| Some(digit.to_digit(16)? as u8)).collect();
    let digits = digits.filter(|digits| digits.len() == 40).ok_or_else(wrong)?;
    let mut hash = [0; 20];
    for (byte, pair) in hash.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(hash)
}

/// Reads the address of a client.
///
/// # Errors
/// When it is not one.
pub fn source(text: &str) -> Result<IpAddr, String> {
    let address = text.parse::<IpAddr>();
    let address =
        address.map_err(|_| "an address without a port is wanted, such as 192.0.2.7 or 2001:db8::7".to_owned())?;
    Ok(address.to_canonical())
}

/// Reads how many packets are to be shown.
///
/// # Errors
/// When it is no number, or 0.
fn count(text: &str) -> Result<u64, String> {
    let count = text.parse::<u64>().map_err(|_| "a whole number is wanted".to_owned())?;
    if count == 0 { Err("it has to be at least 1".into()) } else { Ok(count) }
}

/// Reads the number of a program.
///
/// # Errors
/// When it is none.
fn program(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "a number is wanted, as `bpftool prog` or `ip link` (prog/xdp id) has it".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracker_common::outcome::{Event, FrameReason, RequestReason};

    #[test]
    fn outcomes_are_named_as_in_metrics() {
        for (label, expected) in [
            ("announce_ipv4", Ok(Outcome::Answered(Event::Announce4))),
            ("connection_id_wrong", Ok(Outcome::Refused(RequestReason::ConnectionIdWrong.into()))),
            ("not_udp", Ok(Outcome::Refused(FrameReason::NotUdp.into()))),
            ("connection_id_wron", Err("did you mean connection_id_wrong?")),
            ("zzz", Err("There are: connect_ipv4")),
            ("", Err("There are: connect_ipv4")),
            // Counted, but nothing that a packet comes to.
            ("peers_given", Err("There are")),
            ("error_ipv4", Err("There are")),
            ("ANNOUNCE_IPV4", Err("There are")),
        ] {
            match (outcome(label), expected) {
                (given, Ok(expected)) => assert_eq!(given, Ok(expected), "{label:?}"),
                (given, Err(text)) => {
                    assert!(given.as_ref().is_err_and(|error| error.contains(text)), "{label:?}: {given:?}");
                }
            }
        }
    }

    #[test]
    fn wrong_values_are_refused() {
        let hash = "3c3C".repeat(10);
        assert_eq!(info_hash(&hash), Ok([0x3c; 20]));
        for wrong in ["", &hash[1..], &format!("{hash}0"), &hash.replace('C', "g"), &"é".repeat(20)] {
            assert!(info_hash(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(source("::ffff:192.0.2.7"), source("192.0.2.7"));
        assert!(source("2001:db8::7").is_ok());
        for wrong in ["", "192.0.2.7:80", "[::1]", "192.0.2", "host", "192.0.2.0/24", "fe80::1%eth0"] {
            assert!(source(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(program("12"), Ok(12));
        for wrong in ["", "-1", "tracker", "4294967296"] {
            assert!(program(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(count("7"), Ok(7));
        for wrong in ["", "0", "-1", "1.5", "many", "99999999999999999999"] {
            assert!(count(wrong).is_err(), "{wrong:?}");
        }
    }
}
