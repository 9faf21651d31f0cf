//! The configuration file to begin with: every option with what `--help` says of it, and its default,
//! as a comment. Made of the same definitions as the command line, so the two cannot differ.

use super::file;
use clap::{Arg, ArgAction};
use std::fmt::Write as _;

/// How wide the comments are.
const WIDTH: usize = 96;

/// The file's text.
#[must_use]
pub fn text() -> String {
    let mut text = String::from(
        "# Configuration of the tracker. Every option is here with its default; take the # away from what is to be\n\
         # otherwise. Numbers may be written as \"10k\", \"1.5M\" or 1_000_000, times in seconds or as \"30m\",\n\
         # \"1h30m\", \"2d\", switches as true and false. The command line wins over environment variables\n\
         # (TRACKER_MAX_TORRENTS and so on), and these over this file.\n",
    );
    let command = file::command();
    let mut heading = None;
    for argument in command.get_arguments().filter(|argument| argument.get_long() != Some("config")) {
        let Some(name) = argument.get_long() else { continue };
        if argument.get_help_heading() != heading {
            heading = argument.get_help_heading();
            let _ = write!(text, "\n# === {} ===\n", heading.unwrap_or("General"));
        }
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        text.push('\n');
        for line in wrapped(&help) {
            let _ = writeln!(text, "# {line}");
        }
        let _ = writeln!(text, "#{name} = {}", example(argument, &help));
    }
    text
}

/// The default as the file has it, or the kind of value where the default is no plain one.
fn example(argument: &Arg, help: &str) -> String {
    let is_list = matches!(argument.get_action(), ArgAction::Append);
    let kind = || argument.get_value_names().and_then(|names| names.first()).map_or("VALUE", |name| name.as_str());
    let default = help.rsplit_once("[default: ").map(|(_, default)| default);
    let default = default.and_then(|default| default.strip_suffix(']').or(default.split_once(']').map(|(it, _)| it)));
    match default {
        Some(default) if is_list && default.contains(" and ") => {
            format!("[{}]", default.split(" and ").map(quoted).collect::<Vec<_>>().join(", "))
        }
        Some("on") => "true".into(),
        Some("off") => "false".into(),
        Some(default) if default.parse::<u64>().is_ok() => default.into(),
        Some(default) if !default.contains(' ') => quoted(default),
        _ if is_list => format!("[{}]", quoted(kind())),
        _ => quoted(kind()),
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// The words in lines.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().map_or(0, |line| line.len());
        if line != 0 && line + word.len() >= WIDTH {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{super::Configuration, *};
    use std::path::Path;

    #[test]
    fn template_is_the_defaults() {
        let text = text();
        let of = |text: &str| {
            let (options, origin) = file::parse(text, Path::new("template")).expect(text);
            Configuration::new(&options, &origin).expect(text)
        };
        let defaults = of("");
        assert_eq!(of(&text), defaults, "as it is, everything is a comment");
        let mut shown = 0;
        for line in text.lines() {
            let Some(option) = line.strip_prefix('#').filter(|option| !option.starts_with([' ', '='])) else {
                continue;
            };
            shown += 1;
            // Where the default is no value there is a word of what is meant.
            if option.trim_end_matches(['"', ']']).ends_with(|last: char| last.is_ascii_uppercase()) {
                continue;
            }
            let mut made = of(option);
            for (made, default) in
                [(&mut made.startup.udp, &defaults.startup.udp), (&mut made.startup.http, &defaults.startup.http)]
            {
                // What is named has to be there; by default a host need not have IPv6.
                made.iter_mut().zip(default).for_each(|(made, default)| made.optional = default.optional);
            }
            assert_eq!(made, defaults, "{option}");
        }
        assert_eq!(shown, file::command().get_arguments().count() - 1, "{text}");
    }

    #[test]
    fn every_option_is_explained_and_no_line_is_long() {
        let text = text();
        for argument in file::command().get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.len() > 20, "{:?} is explained", argument.get_long());
        }
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
        assert!(text.contains("\n#interval = 1800\n"), "{text}");
        assert!(text.contains("\n#udp = [\"0.0.0.0:6969\", \"[::]:6969\"]\n"), "{text}");
        assert!(text.contains("\n#full-scrape = true\n"), "{text}");
    }
}
