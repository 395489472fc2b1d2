//! The report of a soak: the course of memory and descriptors, key rotations, and the effects of the faults.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::chaos::report;
use crate::chaos::rotations::{Kind, Rotation};
use crate::chaos::samples::{Course, Sample};

/// Minimum length of a run whose course is judged: shorter ones end while caches and pools still grow.
const JUDGED_FROM: Duration = Duration::from_mins(10);

/// The report of a soak.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name of the scheduler backend.
    pub backend: &'static str,
    /// Length of the run without the settling, in seconds.
    pub seconds: f64,
    /// One-shots that agents accepted.
    pub delivered: usize,
    /// Fires that agents refused soon after a sudden rotation, because they could not know the key.
    pub unknown_keys: usize,
    /// Resident memory of the spared replica, in MiB.
    pub memory: Option<Course>,
    /// Its open descriptors without sessions at the database, whose number the pools limit: they stay after a burst.
    pub descriptors: Option<Course>,
    /// Those of them that are connections of callers.
    pub callers: Option<Course>,
    /// Those that are connections to agents.
    pub agents: Option<Course>,
    /// Its sessions at the database.
    pub database: Option<Course>,
    /// Its threads.
    pub threads: Option<Course>,
    /// Key rotations.
    pub rotations: Vec<Rotation>,
    /// All samples.
    pub samples: Vec<Sample>,
    /// The effects of the faults.
    pub faults: report::Report,
}

impl Report {
    /// True if no guarantee was violated.
    pub fn passed(&self) -> bool {
        self.missed().is_empty()
    }

    /// Returns the violated guarantees.
    fn missed(&self) -> Vec<String> {
        let mut missed = Vec::new();
        for row in &self.faults.rows {
            let counts = [
                (row.lost, "lost"),
                (row.early, "early"),
                (row.overlapping, "overlapping"),
                (row.bad_tokens, "bad tokens"),
            ];
            let counts = counts.into_iter().filter(|(count, _)| *count > 0);
            missed.extend(counts.map(|(count, what)| format!("{}: {count} {what}", row.fault)));
            if row.recovery.is_none() {
                missed.push(format!("{}: a replica did not recover by itself", row.fault));
            }
        }
        if !self.rotations.iter().any(|rotation| rotation.succeeded) {
            missed.push("no key rotation succeeded".to_owned());
        }
        for (course, what) in [(self.memory, "memory"), (self.descriptors, "descriptors")] {
            match course {
                None => missed.push(format!("too few samples of {what}")),
                Some(course) if !course.is_flat() && self.seconds >= JUDGED_FROM.as_secs_f64() => {
                    missed.push(format!("{what} changed by {:+.0} %", course.change() * 100.0));
                }
                Some(_) => {}
            }
        }
        missed
    }

    /// Returns the violated guarantees with examples, or an empty text.
    pub fn violations(&self) -> String {
        let mut lines = self.missed();
        if !lines.is_empty() {
            lines.extend(self.faults.examples.iter().map(|example| format!("  {example}")));
        }
        lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }

    /// Returns the tables as Markdown.
    pub fn markdown(&self) -> String {
        let taken = |kind| self.rotations.iter().filter(|one| one.kind == kind && one.succeeded).count();
        let mut text = format!(
            "Backend `{}`, {:.0} min, {} one-shots delivered. Key rotations: {} published, {} activated, {} sudden, {} failed; \
             {} fires refused for a key that agents could not know.\n\n\
             | measure | after the warm-up | at the end | change | maximum |\n|---|--:|--:|--:|--:|\n",
            self.backend,
            self.seconds / 60.0,
            self.delivered,
            taken(Kind::Published),
            taken(Kind::Activated),
            taken(Kind::Sudden),
            self.rotations.iter().filter(|rotation| !rotation.succeeded).count(),
            self.unknown_keys,
        );
        for (what, course) in [
            ("memory, MiB", self.memory),
            ("descriptors without sessions at the database", self.descriptors),
            ("of them connections of callers", self.callers),
            ("of them connections to agents", self.agents),
            ("sessions at the database", self.database),
            ("threads", self.threads),
        ] {
            if let Some(course) = course {
                let Course { warm, last, max } = course;
                let change =
                    if warm > 0.0 { format!("{:+.1} %", course.change() * 100.0) } else { String::new() };
                let _ = writeln!(text, "| {what} | {warm:.0} | {last:.0} | {change} | {max:.0} |");
            }
        }
        text + "\n" + &self.faults.markdown()
    }
}
