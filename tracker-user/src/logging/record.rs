//! An event with its fields, as text.

use std::fmt;
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// An event.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Record {
    /// How important it is.
    pub level: Level,
    /// Which part of the tracker it is of.
    pub target: &'static str,
    /// What it says.
    pub message: String,
    /// What it says in other fields, by name.
    pub fields: Vec<(&'static str, String)>,
}

impl Record {
    /// That of an event.
    #[must_use]
    pub fn of(event: &Event<'_>) -> Self {
        let metadata = event.metadata();
        let mut record =
            Self { level: *metadata.level(), target: metadata.target(), message: String::new(), fields: Vec::new() };
        event.record(&mut record);
        record
    }

    /// One without fields.
    #[must_use]
    pub fn plain(level: Level, message: &str) -> Self {
        Self { level, target: "tracker", message: message.trim_end().to_owned(), fields: Vec::new() }
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }
}

impl Record {
    fn add(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.fields.push((field.name(), value));
        }
    }
}
