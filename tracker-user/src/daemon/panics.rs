//! A panic ends the whole process, in every build: a tracker that lacks one of its threads would be
//! worse than none, and a service manager restarts the process. The message of the panic is a log
//! line like any other, so it does not matter if standard error cannot be written.

use super::log::{LAST_LINES, Log};
use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, PanicHookInfo},
    process, thread,
};

/// From now on a panic is written to `log` and ends the process by SIGABRT.
pub fn abort_after_telling(log: Log) {
    panic::set_hook(Box::new(move |panic| {
        log.line_of_a_panic(&text(panic));
        log.settle(LAST_LINES);
        process::abort();
    }));
}

fn text(panic: &PanicHookInfo<'_>) -> String {
    let thread = thread::current();
    let name = thread.name().unwrap_or("without a name");
    let place = panic.location().map_or_else(String::new, |location| format!(" at {location}"));
    let what = panic.payload_as_str().unwrap_or("no text");
    let backtrace = Backtrace::capture();
    let trace = if backtrace.status() == BacktraceStatus::Captured {
        format!("\n{backtrace}")
    } else {
        " (RUST_BACKTRACE=1 shows how it came there)".into()
    };
    format!("tracker: a bug, please report it: thread {name} panicked{place}: {what}{trace}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        env,
        fs::File,
        os::unix::process::ExitStatusExt as _,
        process::{Command, Stdio},
    };

    /// Set in the process that is to panic.
    const VARIABLE: &str = "TRACKER_TEST_PANICS";

    #[test]
    fn panic_in_any_thread_ends_the_process_and_is_told_where_possible() {
        if env::var_os(VARIABLE).is_some() {
            abort_after_telling(Log::to_standard_error().expect("a thread"));
            let _ = thread::Builder::new().name("victim".into()).spawn(|| panic!("of the test")).map(|one| one.join());
            return;
        }
        let test = "daemon::panics::tests::panic_in_any_thread_ends_the_process_and_is_told_where_possible";
        let child = |stderr: Stdio| {
            let mut command = Command::new(env::current_exe().expect("a test"));
            command.args(["--exact", test, "--nocapture"]).env(VARIABLE, "1").env("RUST_BACKTRACE", "0");
            command.stdout(Stdio::null()).stderr(stderr).spawn().expect("a process").wait_with_output()
        };
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let full = File::options().write(true).open("/dev/full").expect("a device");
        for (name, stderr, is_told) in [
            ("a pipe that is read", Stdio::piped(), true),
            ("a pipe whose reader is gone", writer.into(), false),
            ("/dev/full", full.into(), false),
        ] {
            let output = child(stderr).expect("a process");
            assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{name}: {:?}", output.status);
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(told.contains("thread victim panicked at"), is_told, "{name}: {told}");
            assert_eq!(told.contains(": of the test"), is_told, "{name}: {told}");
        }
    }
}
