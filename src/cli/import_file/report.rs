//! Report of an import: counts, and every invalid line.

use std::io::Write;

use anyhow::ensure;
use nas_cron_base::terminal;

/// A remark about a line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(in crate::cli) struct Remark {
    /// Line number, from 1.
    pub(in crate::cli) line: u64,
    /// The problem.
    pub(in crate::cli) problem: String,
}

/// Report of an import.
#[derive(Debug, Default, serde::Serialize)]
pub(in crate::cli) struct Report {
    /// Number of lines that are not blank.
    pub(in crate::cli) lines: u64,
    /// True if nothing was changed.
    pub(in crate::cli) dry_run: bool,
    /// Number of lines by result.
    #[serde(flatten)]
    pub(in crate::cli) counts: std::collections::BTreeMap<&'static str, u64>,
    /// Valid lines that were skipped, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(in crate::cli) skipped: Vec<Remark>,
    /// Invalid lines.
    pub(in crate::cli) bad: Vec<Remark>,
}

impl Report {
    /// An empty report. `kinds` are shown even with a count of 0.
    pub(in crate::cli) fn new(dry_run: bool, kinds: &[&'static str]) -> Self {
        let counts = kinds.iter().map(|kind| (*kind, 0)).collect();
        Self { dry_run, counts, ..Self::default() }
    }

    /// Counts a line with this result.
    pub(in crate::cli) fn count(&mut self, kind: &'static str) {
        *self.counts.entry(kind).or_default() += 1;
    }

    /// Adds an invalid line.
    pub(in crate::cli) fn bad(&mut self, line: u64, problem: impl AsRef<str>) {
        self.bad.push(Remark { line, problem: terminal::printable(problem.as_ref()) });
    }

    /// Prints the report. Fails if there were invalid lines, which sets the exit code.
    pub(in crate::cli) fn end(mut self, json: bool, out: &mut dyn Write) -> anyhow::Result<()> {
        self.bad.sort_by_key(|remark| remark.line);
        self.skipped.sort_by_key(|remark| remark.line);
        if json {
            terminal::json(out, &self)?;
        } else {
            for Remark { line, problem } in &self.bad {
                writeln!(out, "line {line}: {problem}")?;
            }
            for Remark { line, problem } in &self.skipped {
                writeln!(out, "line {line}: skipped: {problem}")?;
            }
            let counts: Vec<String> =
                self.counts.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
            let dry_run = if self.dry_run { " (dry run: nothing was changed)" } else { "" };
            let lines = terminal::counted(i64::try_from(self.lines).unwrap_or(i64::MAX), "line");
            writeln!(out, "{lines}: {}, {} invalid{dry_run}.", counts.join(", "), self.bad.len())?;
        }
        out.flush()?;
        ensure!(
            self.bad.is_empty(),
            "{} of {} lines are invalid; correct them and import the file again: lines that are already imported stay \
             unchanged",
            self.bad.len(),
            self.lines
        );
        Ok(())
    }
}

/// Describes an import that was interrupted by a failure of the database.
pub(in crate::cli) fn broke_off(last_done: u64) -> String {
    format!(
        "the import was interrupted after line {last_done}; import the file again, all of it or with --from-line {}: lines \
         that are already imported stay unchanged",
        last_done + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_names_every_invalid_line() {
        let mut report = Report { lines: 5, ..Report::new(false, &["added", "unchanged"]) };
        report.count("added");
        report.bad(9, "org_id: is missing");
        report.bad(2, "bad\u{1b}[2J");
        report.skipped.push(Remark { line: 3, problem: "already armed".to_owned() });
        let mut out = Vec::new();
        let error = report.end(false, &mut out).unwrap_err();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @"
        line 2: bad [2J
        line 9: org_id: is missing
        line 3: skipped: already armed
        5 lines: 1 added, 0 unchanged, 2 invalid.
        ");
        insta::assert_snapshot!(error, @"2 of 5 lines are invalid; correct them and import the file again: lines that are already imported stay unchanged");
        let mut out = Vec::new();
        Report::new(true, &["added"]).end(true, &mut out).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r#"
        {
          "lines": 0,
          "dry_run": true,
          "added": 0,
          "bad": []
        }
        "#);
    }
}
