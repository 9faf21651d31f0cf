//! What commands print. Nobody has to take it: a reader that is gone ends the command quietly.

use std::{
    io::{self, ErrorKind, Write as _},
    process::ExitCode,
};

/// The exit status after printing to standard output has come to `result`: as by convention a failure where it could not be
/// written, but none where nobody wanted to read on.
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

/// Prints to standard error. If that fails, there is nobody left to tell it to.
pub fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
