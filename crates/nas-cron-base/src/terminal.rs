//! Output of commands: tables and relative times for people, JSON for programs.

use std::io::{self, Write};

use chrono::{DateTime, TimeDelta, Utc};
use comfy_table::{ContentArrangement, Table, presets};

use crate::output;

/// A table with aligned columns and a header but no rules, at most as wide as the terminal.
///
/// Header words are in upper case by convention.
pub fn table(header: &[&str]) -> Table {
    let mut table = bare();
    table.set_header(header);
    table
}

/// A table of names and values, one pair per line. Values are made [`printable`].
pub fn facts(rows: &[(&str, String)]) -> Table {
    let mut table = bare();
    for (name, value) in rows {
        table.add_row([(*name).to_owned(), printable(value)]);
    }
    table
}

/// A table with aligned columns and no header.
pub fn bare() -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    table
}

/// Renders a table as text, without a left margin and without trailing blanks.
pub fn text(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// Writes indented JSON and a line break.
pub fn json(out: &mut dyn Write, value: &impl serde::Serialize) -> anyhow::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Replaces control characters by spaces: foreign text, such as an agent's error page, must not control the terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Shortens `text` to `max` characters, the last of which is `…` if anything was cut off.
pub fn shortened(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// Returns the value as text, or `-` for `None`.
pub fn or_dash<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// Capitalises the first letter, for the beginning of a sentence.
pub fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

/// Formats a count with its noun: "1 one-shot", "3 one-shots".
pub fn counted(count: i64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{s}")
}

/// Formats an instant relative to `now`: "in 2 h 30 min", "5 min 10 s ago", and "now" within one second of it.
///
/// The distance is cut off as in [`span`].
pub fn relative(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let distance = at - now;
    if distance.abs() < TimeDelta::seconds(1) {
        return "now".to_owned();
    }
    let span = span(distance);
    if distance > TimeDelta::zero() { format!("in {span}") } else { format!("{span} ago") }
}

/// Formats a duration in its two largest units: "2 h 30 min", "3 d 4 h", "59 s".
///
/// The units are days, hours, minutes and seconds; milliseconds are used below one second only. The rest is cut off, so
/// that 2 h 30 min 59 s is "2 h 30 min", and a second unit of zero is left out. The sign is ignored.
pub fn span(length: TimeDelta) -> String {
    let length = length.abs();
    let seconds = length.num_seconds();
    if seconds == 0 {
        return format!("{} ms", length.num_milliseconds());
    }
    let units = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "min"),
        (seconds % 60, "s"),
    ];
    let units = units.into_iter().skip_while(|(count, _)| *count == 0).take(2);
    let parts = units.filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}"));
    parts.collect::<Vec<_>>().join(" ")
}

/// Prints a result on stdout.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = output::stdout();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    write!(out, "{text}{end}")?;
    out.flush()
}

/// Prints a result on stdout as indented JSON.
pub fn print_json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut text = Vec::new();
    json(&mut text, value)?;
    print(&String::from_utf8_lossy(&text))?;
    Ok(())
}

/// Formats an error and its causes in one line. A cause whose text is already part of the line is left out.
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

/// An error in the command line or in the environment of a tool, with the fix. Its exit code is 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

impl UsageError {
    /// An error with this text: what is wrong, and the fix.
    pub fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_times_show_their_direction() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let cases = [
            (0, "now"),
            (999, "now"),
            (-999, "now"),
            (1_000, "in 1 s"),
            (-90_000, "1 min 30 s ago"),
            (180_000, "in 3 min"),
            (-7_200_000, "2 h ago"),
            (9_000_000, "in 2 h 30 min"),
            (172_799_000, "in 1 d 23 h"),
            (-30 * 86_400_000, "30 d ago"),
        ];
        for (millis, expected) in cases {
            assert_eq!(relative(now, now + TimeDelta::milliseconds(millis)), expected);
        }
    }

    #[test]
    fn spans_show_two_units_and_cut_off_the_rest() {
        let (minute, hour, day) = (60_000, 3_600_000, 86_400_000);
        let cases = [
            (0, "0 ms"),
            (45, "45 ms"),
            (999, "999 ms"),
            (1_000, "1 s"),
            (1_999, "1 s"),
            (minute - 1, "59 s"),
            (minute, "1 min"),
            (minute + 1_000, "1 min 1 s"),
            (2 * minute - 1, "1 min 59 s"),
            (hour - 1, "59 min 59 s"),
            (hour, "1 h"),
            (hour + 59_999, "1 h"),
            (hour + minute, "1 h 1 min"),
            (2 * hour + 30 * minute + 59_999, "2 h 30 min"),
            (day - 1, "23 h 59 min"),
            (day, "1 d"),
            (day + hour - 1, "1 d"),
            (day + hour, "1 d 1 h"),
            (90 * day - 1, "89 d 23 h"),
            (-2 * hour, "2 h"),
        ];
        for (millis, expected) in cases {
            assert_eq!(span(TimeDelta::milliseconds(millis)), expected, "{millis} ms");
        }
        assert_eq!(span(TimeDelta::MAX), span(TimeDelta::MIN));
    }

    #[test]
    fn control_characters_are_replaced_by_spaces() {
        assert_eq!(printable("a\u{1b}[2Jb\nc\u{9b}d"), "a [2Jb c d");
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö…");
    }
}
