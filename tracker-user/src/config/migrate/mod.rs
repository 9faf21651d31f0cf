//! Configurations of other trackers, said in our options.
//!
//! | module | reads |
//! |---|---|
//! | [`opentracker`] | opentracker's file and the letters of its command line |
//! | [`aquatic`] | the files of aquatic_udp and aquatic_http |

pub mod aquatic;
pub mod opentracker;

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

/// All values of an option, with the line of the first.
pub(super) fn options(items: &[Item]) -> Vec<(&'static str, Vec<String>, usize)> {
    let mut all: Vec<(&'static str, Vec<String>, usize)> = Vec::new();
    for item in items {
        let Meaning::Options(options) = &item.meaning else { continue };
        for (name, value) in options {
            match all.iter_mut().find(|(known, ..)| known == name) {
                Some((_, values, _)) if !values.contains(value) => values.push(value.clone()),
                Some(_) => {}
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
    for (name, values, _) in options(items) {
        let quoted: Vec<_> = values.iter().map(|value| format!("{value:?}")).collect();
        let value = match &quoted[..] {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        text.push_str(&format!("{name} = {value}\n"));
    }
    text
}
