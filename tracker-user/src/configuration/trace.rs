//! Options of `tracker trace`.

use crate::trace;
use clap::Args;
use std::net::IpAddr;
use tracker_common::{id::InfoHash, trace::Outcome};

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
    #[arg(long, value_name = "N", value_parser = trace::count)]
    pub count: Option<u64>,
    /// Only packets with one of these outcomes, such as connection_id_wrong or announce_ipv4 [default: all but not_ip, not_udp
    /// and not_for_us, which are other people's traffic]
    #[arg(long, value_name = "LABEL", num_args = 1.., value_delimiter = ',', value_parser = trace::outcome)]
    pub reason: Vec<Outcome>,
    /// Only packets from this address
    #[arg(long, value_name = "ADDRESS", value_parser = trace::source)]
    pub source: Option<IpAddr>,
    /// Only announces and scrapes of this torrent; of a scrape, the first five info_hashes are looked at
    #[arg(long, value_name = "HEX", value_parser = trace::info_hash)]
    pub info_hash: Option<InfoHash>,
    /// The kernel's number of the tracker's XDP program, where several trackers run
    #[arg(long, value_name = "NUMBER", value_parser = trace::program)]
    pub program: Option<u32>,
}
