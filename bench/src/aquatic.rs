//! The configuration of aquatic, which refuses keys that it does not know: what was built without
//! io_uring knows none about it, and what was built with it uses it unless told otherwise.

use std::{path::Path, process::Command};

use anyhow::ensure;
use tracker_tests::command;

use crate::{
    scenario::NUM_WANT,
    testbed::{Family, TRACKER_PORT},
};

/// The configuration key that decides about io_uring.
const IO_URING: &str = "use_io_uring";

/// Whether an aquatic_udp was built with io_uring, by the configuration that it prints.
pub fn offers_io_uring(program: &Path) -> anyhow::Result<bool> {
    Ok(command::output(Command::new(program).arg("-p"))?.contains(IO_URING))
}

/// The configuration of an aquatic_udp that `offers_io_uring` or not, to be used with io_uring or
/// without.
pub fn udp_configuration(family: Family, io_uring: bool, offers_io_uring: bool) -> anyhow::Result<String> {
    ensure!(offers_io_uring || !io_uring, "this aquatic_udp was built without io_uring (feature io-uring)");
    let address = match family {
        Family::V4 => format!("0.0.0.0:{TRACKER_PORT}"),
        Family::V6 => format!("[::]:{TRACKER_PORT}"),
    };
    let switch = if offers_io_uring { format!("{IO_URING} = {io_uring}\n") } else { String::new() };
    Ok(format!(
        "socket_workers = 1\nlog_level = \"warn\"\n\
         [network]\naddress = \"{address}\"\n{switch}\
         [protocol]\nmax_response_peers = {NUM_WANT}\nmax_scrape_torrents = 74\n"
    ))
}

pub fn http_configuration() -> String {
    format!(
        "socket_workers = 1\nswarm_workers = 1\nlog_level = \"warn\"\n\
         [network]\naddress = \"0.0.0.0:{TRACKER_PORT}\"\n\
         [protocol]\nmax_peers = {NUM_WANT}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_uring_is_mentioned_only_to_what_knows_it() {
        // (wanted, offered, what the configuration says)
        for (wanted, offered, line) in [
            (true, true, Some("use_io_uring = true\n")),
            (false, true, Some("use_io_uring = false\n")),
            (false, false, None),
        ] {
            let configuration = udp_configuration(Family::V4, wanted, offered).expect("it can be started like that");
            match line {
                Some(line) => assert!(configuration.contains(line), "{configuration}"),
                None => assert!(!configuration.contains(IO_URING), "{configuration}"),
            }
        }
        assert!(udp_configuration(Family::V4, true, false).is_err(), "it would run without");
    }
}
