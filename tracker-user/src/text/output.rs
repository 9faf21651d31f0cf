//! What commands print. A command whose reader has gone ends quietly.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

/// The exit status for the `result` of printing to standard output: a failure if it could not be
/// written, but success if the reader has closed the pipe.
#[must_use]
pub fn exit_code(result: io::Result<()>) -> ExitCode {
    match result.and_then(|()| io::stdout().flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("tracker: cannot write to standard output: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard output.
#[must_use]
pub fn print(text: &str) -> ExitCode {
    exit_code(io::stdout().write_all(text.as_bytes()))
}

/// Prints to standard error. If that fails, there is no place to say so.
pub fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
