//! The command `tracker`.

use std::process::ExitCode;
use tracker::{
    command::{self, Command, CommandLine},
    config, doctor,
    text::output,
    trace,
};

fn main() -> ExitCode {
    let command = match CommandLine::read(std::env::args_os()) {
        Ok(line) => line.command,
        // Help and version come this way, too.
        Err(error) if error.use_stderr() => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
        Err(error) => return output::exit_code(error.print()),
    };
    let result = match command {
        Command::Run(given) => return command::run::run(given),
        Command::Config => return output::print(&config::template::text()),
        Command::Check(options) => command::check::check(&options).map(|text| output::print(&text)),
        Command::Migrate(options) => command::migrate::migrate(&options).map(|text| output::print(&text)),
        Command::Sizes(options) => command::sizes::describe(&options).map(|text| output::print(&text)),
        Command::Detach(options) => command::detach::detach(&options).map(|text| output::print(&text)),
        Command::Snapshot(options) => command::snapshot::run(&options),
        Command::Ctl(options) => return command::ctl::run(&options),
        Command::Doctor(options) => return doctor::run(&options),
        Command::Trace(options) => trace::run(&options),
        Command::Top(options) => command::top::run(&options),
        Command::CheckStore(options) => return command::check_store::run(&options),
        Command::DnsRecord(options) => command::dns_record::run(&options).map(|text| output::print(&text)),
        Command::Man(options) => command::generate::man(&options).map(|()| ExitCode::SUCCESS),
        Command::Completions(options) => return output::print(&command::generate::completions(options)),
        Command::Version => return output::print(&format!("tracker {}\n", env!("CARGO_PKG_VERSION"))),
    };
    result.unwrap_or_else(|error| {
        output::complain(&format!("tracker: {error:#}\n"));
        ExitCode::FAILURE
    })
}
