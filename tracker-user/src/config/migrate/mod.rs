//! Configurations of other trackers, said in our options.
//!
//! | module | reads |
//! |---|---|
//! | [`opentracker`] | opentracker's file and the letters of its command line |
//! | [`aquatic`] | the files of aquatic_udp and aquatic_http |

pub mod aquatic;
pub mod opentracker;

use super::file::{command, option};
use clap::{ArgAction, Command};
use std::fmt;

/// What a line or key of theirs is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// These options with these values; an option may be there several times.
    Options(Vec<(&'static str, String)>),
    /// It needs no option here, and why.
    Same(&'static str),
    /// There is nothing like it here; what to do instead.
    Nothing(&'static str),
}

/// A line or key of theirs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What it says.
    pub theirs: String,
    /// Where it stands, from 1; 0 where that is not known.
    pub line: usize,
    /// What it is here.
    pub meaning: Meaning,
}

impl fmt::Display for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.meaning {
            Meaning::Options(options) => {
                let ours: Vec<_> = options.iter().map(|(name, value)| format!("{name} = {value}")).collect();
                write!(f, "{}: {}", self.theirs, ours.join(", "))
            }
            Meaning::Same(why) => write!(f, "{}: {why}", self.theirs),
            Meaning::Nothing(instead) => write!(f, "{} has no counterpart here: {instead}", self.theirs),
        }
    }
}

/// All values of an option, each once and where it is last, with the line of the first.
pub(super) fn options(items: &[Item]) -> Vec<(&'static str, Vec<String>, usize)> {
    let mut all: Vec<(&'static str, Vec<String>, usize)> = Vec::new();
    for item in items {
        let Meaning::Options(options) = &item.meaning else { continue };
        for (name, value) in options {
            match all.iter_mut().find(|(known, ..)| known == name) {
                Some((_, values, _)) => {
                    values.retain(|known| known != value);
                    values.push(value.clone());
                }
                None => all.push((name, vec![value.clone()], item.line)),
            }
        }
    }
    all
}

/// Our file that says the same, with what they say as comments.
#[must_use]
pub fn file(items: &[Item]) -> String {
    let mut text = String::new();
    for item in items {
        text.push_str(&format!("# {item}\n"));
    }
    text.push('\n');
    let command = command();
    for (name, values, _) in options(items) {
        let quoted: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
        let value = match &quoted[..] {
            [one] => one.clone(),
            // Two files may differ where there is one value for both here.
            [others @ .., last] if !takes_several(&command, name) => {
                text.push_str(&format!(
                    "# {name} has one value here, the last one said; others: {}\n",
                    others.join(", ")
                ));
                last.clone()
            }
            several => format!("[{}]", several.join(", ")),
        };
        text.push_str(&format!("{name} = {value}\n"));
    }
    text
}

fn takes_several(command: &Command, name: &str) -> bool {
    option(command, name).is_some_and(|(argument, _)| matches!(argument.get_action(), ArgAction::Append))
}

#[cfg(test)]
mod tests {
    use super::{super::file::parse, *};
    use std::path::Path;

    #[test]
    fn files_that_differ_become_one_that_is_taken() {
        let aquatic = |texts: &[&str]| {
            texts.iter().flat_map(|text| aquatic::read(text).expect("a file of theirs")).collect::<Vec<_>>()
        };
        let udp = "[statistics]\n[protocol]\npeer_announce_interval = 900\nmax_response_peers = 30\n\
                   [cleaning]\nmax_peer_age = 1200";
        let http = "swarm_workers = 1\n[protocol]\npeer_announce_interval = 120\nmax_peers = 50\n\
                    [cleaning]\nmax_peer_age = 400";
        for (items, expected, unexpected) in [
            (aquatic(&[udp]), "\ninterval = \"900\"\n", "others"),
            (aquatic(&[udp, udp]), "\ninterval = \"900\"\n", "others"),
            (aquatic(&[udp, http]), "one said; others: \"900\"\ninterval = \"120\"\n", "\"900\","),
            (aquatic(&[udp, http]), "others: \"30\"\ndefault-numwant = \"50\"\n", "[\""),
            (aquatic(&[udp, http, udp]), "others: \"120\"\ninterval = \"900\"\n", "[\""),
            (
                aquatic(&[
                    "[statistics]\n[network]\naddress = \"[::]:3\"",
                    "[statistics]\n[network]\naddress = \"0.0.0.0:4\"",
                ]),
                "\nudp = [\"[::]:3\", \"0.0.0.0:3\", \"0.0.0.0:4\"]\n",
                "others",
            ),
            (
                opentracker::read("tracker.user a\ntracker.user b").expect("a file"),
                "others: \"a\"\nuser = \"b\"",
                "[\"",
            ),
        ] {
            let text = file(&items);
            let (theirs, ours) = text.split_once("\n\n").expect("comments and options");
            assert!(format!("\n{ours}").contains(expected) && !ours.contains(unexpected), "{theirs}\n\n{ours}");
            parse(&text, Path::new("tracker.toml")).unwrap_or_else(|error| panic!("{error:#}\n{text}"));
        }
    }
}
