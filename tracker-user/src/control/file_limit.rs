//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Raises the limit so far that there is a file descriptor for each HTTP connection, and some more
/// for the rest.
pub fn raise_file_limit(connections: usize) {
    let wanted = connections as u64 + 256;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // `None` is no limit.
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let possible = maximum.map_or(wanted, |maximum| wanted.min(maximum));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(possible), maximum }).is_ok();
    if !raised || possible < wanted {
        warn!(
            "only {} files may be open at a time, too few for --http-connections {connections}: raise the limit (ulimit \
             -Hn, or LimitNOFILE= of the service) or lower the option",
            maximum.unwrap_or(u64::MAX)
        );
    }
}
