//! Values from the TOML file.

use std::io;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::super::problem::{Origin, Problem, Wrong};
use super::environment::Entry;
use super::raw::Raw;

/// Returns the values in the file at this path.
pub(super) fn read(
    path: &Path,
    read: &dyn Fn(&Path) -> io::Result<String>,
    problems: &mut Vec<Problem>,
) -> Vec<Entry> {
    let name = path.display();
    let text = match read(path) {
        Ok(text) => text,
        Err(error) => {
            let wrong = Wrong::new(
                format!("could not be read: {error}"),
                "fix --config or NAS_CRON_CONFIG; `nas-cron config example` prints a file to start from",
            );
            problems.push(Problem::other(name.to_string(), wrong));
            return Vec::new();
        }
    };
    let line_of = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
    let table = match DeTable::parse(&text) {
        Ok(table) => table.into_inner(),
        Err(error) => {
            // `error.to_string()` would quote the line, which may contain a secret.
            let line = error.span().map_or(1, |span| line_of(span.start));
            let wrong = Wrong::new(
                format!("is not valid TOML: {}", error.message()),
                "write one `key = value` per line, with text in quotes",
            );
            problems.push(Problem::other(format!("{name} line {line}"), wrong));
            return Vec::new();
        }
    };
    let mut found = Vec::new();
    for (key, value) in table {
        let origin = Origin::File { path: path.to_owned(), line: line_of(key.span().start) };
        match raw_of(value.get_ref()) {
            Ok(raw) => found.push((key.get_ref().to_string(), raw, origin)),
            Err(wrong) => problems.push(Problem::about(key.get_ref(), None, &origin, wrong)),
        }
    }
    found
}

fn raw_of(value: &DeValue<'_>) -> Result<Raw, Wrong> {
    let scalar = |value: &DeValue<'_>| match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.to_string()),
        DeValue::Boolean(switch) => Some(switch.to_string()),
        _ => None,
    };
    match value {
        DeValue::Array(items) => {
            let texts: Option<Vec<_>> = items.iter().map(|item| scalar(item.get_ref())).collect();
            texts.map(Raw::Many).ok_or_else(|| {
                Wrong::new("is a list with values other than text", "put quotes around each value")
            })
        }
        DeValue::Table(_) => Err(Wrong::new(
            "is a table, but settings have no sections",
            "write `key = value` at the top level",
        )),
        DeValue::Float(number) => Ok(Raw::One(number.as_str().to_owned())),
        other => scalar(other).map(Raw::One).ok_or_else(|| {
            Wrong::new(
                format!("is of the type {}, which no setting has", other.type_str()),
                "put quotes around it",
            )
        }),
    }
}
