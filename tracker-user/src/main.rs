//! The command `tracker`.

use clap::Parser as _;
use std::process::ExitCode;
use tracing_subscriber::{EnvFilter, filter::LevelFilter};
use tracker_user::{
    configuration::{Command, CommandLine, Configuration, limits},
    http,
    sizes::{self, Sizes},
    start,
};

fn main() -> ExitCode {
    match perform(CommandLine::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tracker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Run(options) => {
            let configuration = Configuration::new(options.with_file()?)?;
            let filter = EnvFilter::builder()
                .with_default_directive(LevelFilter::INFO.into())
                .from_env_lossy()
                // The loader tells of every instruction it touches.
                .add_directive("aya=info".parse()?)
                .add_directive("aya_obj=info".parse()?);
            tracing_subscriber::fmt()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
                .with_target(false)
                .with_env_filter(filter)
                .init();
            start::run(&configuration)
        }
        Command::Sizes(options) => {
            let limits = limits(options.max_torrents, options.max_peers, options.max_peers_v6)?;
            let (sizes, torrents) = (Sizes::new(&limits)?, limits.torrents);
            println!(
                "Room for {} torrents, {} IPv4 and {} IPv6 peers\n\n{sizes}\n",
                limits.torrents, limits.peers_v4, limits.peers_v6
            );
            println!("{:>6.1} bytes per torrent with one IPv4 peer (record and index)", sizes::bytes_per_torrent());
            println!("{:>6.1} bytes per further IPv4 peer in a big swarm", sizes::bytes_per_peer_v4());
            println!("{:>6.1} bytes per further IPv6 peer in a big swarm", sizes::bytes_per_peer_v6());
            let limits = http::Limits::default();
            println!("\n{}", http::memory::Memory { limits: &limits, torrents });
            Ok(())
        }
        Command::Version => {
            println!("tracker {}", env!("CARGO_PKG_VERSION"));
            Ok(())
        }
    }
}
