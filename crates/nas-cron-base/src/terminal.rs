//! How results are shown: tables for people, JSON for programs.

use std::io::{self, Write};

use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::{ContentArrangement, Table, presets};

/// A table without lines, as wide as the terminal allows.
pub fn table(header: &[&str]) -> Table {
    let mut table = bare();
    table.set_header(header);
    table
}

/// Names and values, one a line.
pub fn facts(rows: &[(&str, String)]) -> Table {
    let mut table = bare();
    for (name, value) in rows {
        table.add_row([(*name).to_owned(), printable(value)]);
    }
    table
}

/// Rows alone.
pub fn bare() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// A table as text, without blanks at the ends of its lines and without their margin.
pub fn text(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// Prints JSON, for programs and for people who look at what programs get.
pub fn json(out: &mut dyn Write, value: &impl serde::Serialize) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

/// What strangers wrote, such as an agent's error page, must not steer the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// At most `max` characters of it.
pub fn shortened(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// What is not there.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// As the beginning of a sentence.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// "1 one-shot", "3 one-shots".
pub fn counted(count: i64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// How far from now: "in 3 min", "2 h ago".
pub fn relative(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let distance = at - now;
    if distance.abs() < TimeDelta::seconds(1) {
        return "now".to_owned();
    }
    let span = span(distance.abs());
    if distance > TimeDelta::zero() { format!("in {span}") } else { format!("{span} ago") }
}

/// A length of time in its fitting unit.
pub fn span(length: TimeDelta) -> String {
    match length.num_seconds() {
        0 => format!("{} ms", length.num_milliseconds()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Prints a result. A reader that has seen enough (`| head`) is no failure.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match write!(out, "{text}{end}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Prints a result for programs.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = Vec::new();
    json(&mut text, value)?;
    print(&String::from_utf8_lossy(&text))?;
    Ok(())
}

/// An error with its causes, each said once: many of them repeat the next one in their own text.
pub fn error_in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

/// An error in the command line or the environment of a tool, with the fix: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

impl UsageError {
    /// What is wrong, and the fix.
    pub fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_do() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let cases = [
            (0, "now"),
            (999, "now"),
            (1_000, "in 1 s"),
            (-90_000, "90 s ago"),
            (180_000, "in 3 min"),
            (-7_200_000, "2 h ago"),
            (172_799_000, "in 47 h"),
            (-30 * 86_400_000, "30 d ago"),
        ];
        for (millis, expected) in cases {
            assert_eq!(relative(now, now + TimeDelta::milliseconds(millis)), expected);
        }
        assert_eq!(span(TimeDelta::milliseconds(45)), "45 ms");
    }

    #[test]
    fn control_characters_of_agents_are_not_printed() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{9b}d"), "a [2Jb c d");
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö…");
    }
}
