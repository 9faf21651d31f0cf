//! `tracker man` and `tracker completions`: made of the definitions of the command line, so that they
//! cannot differ from what the program takes.

use super::CommandLine;
use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use std::{fs, path::PathBuf};

/// Options of `tracker man`.
#[derive(Args, Clone, Debug)]
pub struct ManOptions {
    /// Where to write them; it is made if it is missing
    #[arg(value_name = "DIRECTORY")]
    pub directory: PathBuf,
}

/// Options of `tracker completions`.
#[derive(Args, Clone, Copy, Debug)]
pub struct CompletionOptions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

/// Without the commands that print help for others, which would have pages of their own.
fn command() -> clap::Command {
    CommandLine::command().disable_help_subcommand(true)
}

/// Writes `tracker.1`, and a page for each command.
///
/// # Errors
/// When a file cannot be written.
pub fn man(options: &ManOptions) -> anyhow::Result<()> {
    let directory = &options.directory;
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(command(), directory))
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))
}

/// What a shell reads to complete commands and options.
#[must_use]
pub fn completions(options: CompletionOptions) -> String {
    let mut text = Vec::new();
    clap_complete::generate(options.shell, &mut CommandLine::command(), "tracker", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;
    use std::process;

    #[test]
    fn every_command_and_option_is_in_its_page() {
        let directory = std::env::temp_dir().join(format!("tracker-man-{}", process::id()));
        man(&ManOptions { directory: directory.clone() }).expect("a directory");
        let page = |name: &str| fs::read_to_string(directory.join(name)).expect(name).replace('\\', "");
        let main = page("tracker.1");
        let mut command = command();
        command.build();
        let mut pages = 1;
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
            let name = sub.get_name();
            assert!(main.contains(&format!("tracker-{name}")), "{name} is not in tracker.1");
            let text = page(&format!("tracker-{name}.1"));
            for option in sub.get_arguments().filter(|option| !option.is_hide_set()).filter_map(|it| it.get_long()) {
                assert!(text.contains(&format!("--{option}")), "--{option} is not in tracker-{name}.1");
            }
            pages += 1;
        }
        assert!(pages > 10, "{pages}");
        fs::remove_dir_all(&directory).expect("it is there");
        let file = ManOptions { directory: "/dev/null/man".into() };
        assert!(format!("{:#}", man(&file).expect_err("no directory")).contains("/dev/null/man"));
    }

    #[test]
    fn every_shell_completes_every_command() {
        for shell in Shell::value_variants() {
            let text = completions(CompletionOptions { shell: *shell });
            for sub in command().get_subcommands() {
                assert!(text.contains(sub.get_name()), "{shell}: {}", sub.get_name());
            }
            assert!(text.contains("max-torrents") && text.contains("xdp-mode"), "{shell}");
        }
    }
}
