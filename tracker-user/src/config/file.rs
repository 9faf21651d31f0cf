//! The configuration file: TOML with the options of the command line by their names. Each value is
//! given to the same parser as on the command line, so both take the same values and give the same
//! errors. For the file, the error has the line as well.

use super::options::Options;
use anyhow::Context as _;
use clap::{
    Arg, ArgAction, ArgMatches, Args as _, Command, FromArgMatches as _,
    error::{ContextKind, ContextValue},
};
use std::{
    collections::BTreeMap,
    error::Error as _,
    fs, iter,
    path::{Path, PathBuf},
};
use toml::{Spanned, Value};

/// How much of a value is shown in an error.
const SHOWN: usize = 60;

/// How similar a name has to be to be suggested, from 0 to 1.
const ALIKE: f64 = 0.8;

/// Where options were found.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    file: PathBuf,
    lines: BTreeMap<String, usize>,
}

impl Origin {
    /// Takes out the options that stand above the file as well.
    pub fn forget(&mut self, option: &str) {
        self.lines.remove(option);
    }

    /// Takes out the options that the command line has as well.
    pub fn forget_given(&mut self, matches: &ArgMatches) {
        // The parser knows options by the names of their fields.
        self.lines.retain(|option, _| !matches.contains_id(&option.replace('-', "_")));
    }

    /// The error, which is about `option`, with the place where that was set.
    #[must_use]
    pub fn explain(&self, option: &str, error: anyhow::Error) -> anyhow::Error {
        match self.lines.get(option) {
            Some(line) => error.context(place(&self.file, *line)),
            None => error,
        }
    }
}

fn place(file: &Path, line: usize) -> String {
    format!("the configuration file {} is wrong in line {line}", file.display())
}

/// Reads the options of the file.
///
/// # Errors
/// When it cannot be read, is not TOML, or the first thing in it that is no option or no value of
/// one.
pub fn read(path: &Path) -> anyhow::Result<(Options, Origin)> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    parse(&text, path)
}

pub(super) fn parse(text: &str, path: &Path) -> anyhow::Result<(Options, Origin)> {
    let table: BTreeMap<String, Spanned<Value>> =
        toml::from_str(text).with_context(|| format!("the configuration file {} is no TOML", path.display()))?;
    let mut entries: Vec<_> = table.into_iter().collect();
    entries.sort_by_key(|(_, value)| value.span().start);

    let command = command();
    let mut options = Options::default();
    let mut origin = Origin { file: path.to_owned(), lines: BTreeMap::new() };
    for (key, value) in entries {
        let span = value.span();
        let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
        let name = add(&mut options, &command, &key, value.get_ref())
            .and_then(|name| match origin.lines.get(&name) {
                Some(other) => Err(format!("line {other} has the same option as {name}")),
                None => Ok(name),
            })
            .map_err(|what| {
                let source = text.get(span).unwrap_or_default();
                let source = source.lines().next().unwrap_or_default();
                let shown: String = source.chars().take(SHOWN).collect();
                anyhow::Error::msg(format!("{key} = {shown}: {what}"))
            })
            .with_context(|| place(path, line))?;
        origin.lines.insert(name, line);
    }
    Ok((options, origin))
}

/// All options, to take them one by one.
pub(super) fn command() -> Command {
    Options::augment_args(Command::new("file").no_binary_name(true).disable_help_flag(true))
}

/// The option of this name, by whichever of its names, with the one that is shown.
pub(super) fn option<'c>(command: &'c Command, key: &str) -> Option<(&'c Arg, &'c str)> {
    let argument = command.get_arguments().find(|argument| names(argument).any(|name| name == key))?;
    Some((argument, argument.get_long()?))
}

/// Adds an option as it would be given on the command line, once for each text. Says what is wrong.
pub(super) fn set(options: &mut Options, command: &Command, name: &str, texts: &[String]) -> Result<(), String> {
    let arguments = texts.iter().map(|text| format!("--{name}={text}"));
    let matches = command.clone().try_get_matches_from(arguments).map_err(|error| describe(&error))?;
    options.update_from_arg_matches(&matches).map_err(|error| describe(&error))
}

/// Adds the option `key` with its value. Returns its name, or says what is wrong.
fn add(options: &mut Options, command: &Command, key: &str, value: &Value) -> Result<String, String> {
    if key == "config" {
        return Err("a file cannot name another one".into());
    }
    let Some((argument, name)) = option(command, key) else { return Err(unknown(command, key, value)) };
    set(options, command, name, &texts(argument, value)?)?;
    Ok(name.to_owned())
}

/// The name of an option, and those that it had before.
fn names(argument: &Arg) -> impl Iterator<Item = &str> {
    argument.get_long().into_iter().chain(argument.get_all_aliases().unwrap_or_default())
}

/// The value as it would be written on the command line, once for each time that the option would
/// be given.
fn texts(argument: &Arg, value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Integer(number) => Ok(vec![number.to_string()]),
        Value::Float(number) => Ok(vec![number.to_string()]),
        Value::Boolean(switch) => Ok(vec![switch.to_string()]),
        Value::Datetime(_) => Err("a date is no value of any option; is something not in quotes?".into()),
        Value::Table(_) => Err("a table is no value of any option".into()),
        Value::Array(_) if !matches!(argument.get_action(), ArgAction::Append) => {
            Err("one value is wanted, and no list".into())
        }
        Value::Array(values) if values.is_empty() => {
            Err("the list is empty; leave the option out for the default, or, where to listen, write \"off\" for none"
                .into())
        }
        Value::Array(values) => {
            let mut all = Vec::new();
            for value in values {
                if value.is_array() {
                    return Err("a list in a list is no value of any option".into());
                }
                all.extend(texts(argument, value)?);
            }
            Ok(all)
        }
    }
}

/// The message for a name that no option has.
fn unknown(command: &Command, key: &str, value: &Value) -> String {
    if value.is_table() {
        return "there are no sections; the options stand by themselves, without a [heading]".into();
    }
    match nearest(command, key) {
        Some(name) => format!("there is no such option; is {name} meant?"),
        None => "there is no such option (`tracker run --help` lists them)".into(),
    }
}

/// The option whose name is most like this one, if it is like it.
pub(super) fn nearest<'c>(command: &'c Command, key: &str) -> Option<&'c str> {
    let written = key.to_lowercase().replace(['_', ' ', '.'], "-");
    let all = command.get_arguments().flat_map(|argument| names(argument).zip(iter::repeat(argument.get_long())));
    let alike = all.filter_map(|(name, shown)| Some((strsim::jaro_winkler(&written, name), shown?)));
    let (likeness, name) =
        alike.filter(|(_, name)| *name != "config").max_by(|one, other| one.0.total_cmp(&other.0))?;
    (likeness > ALIKE).then_some(name)
}

/// The message of the command line's parser, without its words about the command line.
fn describe(error: &clap::Error) -> String {
    if let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue) {
        return format!("it can be {}", values.join(", "));
    }
    if let Some(source) = error.source() {
        return source.to_string();
    }
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
