//! How many files this process may have open.

use tracing::warn;

/// Every HTTP connection takes a file descriptor, and a few more are needed besides.
pub(super) fn raise_file_limit(connections: usize) {
    let wanted = connections as libc::rlim_t + 256;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place to write to.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 || limit.rlim_cur >= wanted {
        return;
    }
    let possible = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), ..limit };
    // SAFETY: `possible` is valid to read from.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const possible) } == 0;
    if !raised || possible.rlim_cur < wanted {
        warn!(
            "only {} files may be open at a time, too few for --http-connections {connections}: raise the limit (ulimit \
             -Hn, or LimitNOFILE= of the service) or lower the option",
            limit.rlim_max
        );
    }
}
