//! The table of a run.

use std::fmt::Write;

/// Limits of the healthy agents' 99th percentiles, as multiples of those of the calm phase.
const PROVISION_RATIO: f64 = 3.0;
const LATENESS_RATIO: f64 = 2.0;

/// Measures of the healthy agents in a phase.
#[derive(Debug, Default)]
pub struct Measures {
    /// Durations of provisions, in milliseconds.
    pub provisions: Vec<f64>,
    /// Lateness of fires, in milliseconds.
    pub lateness: Vec<f64>,
    /// Provisions that failed.
    pub failed: usize,
    /// Acknowledged one-shots that were not fired.
    pub lost: usize,
}

/// A phase of a run.
#[derive(Debug)]
pub struct Phase {
    /// `calm`, or the kind of abuse.
    pub name: &'static str,
    /// Measures of the healthy agents.
    pub measures: Measures,
    /// The service's answers to the abuse.
    pub answers: String,
    /// Resident memory of the service at its end, in MB.
    pub resident_mb: u64,
}

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// The calm phase, and one for each kind of abuse.
    pub phases: Vec<Phase>,
    /// Panics in the service's log.
    pub panics: usize,
}

/// Returns a percentile of unsorted values, or 0 without any.
fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

impl Report {
    /// Returns what the run shows against the service, one line each. Timings count only with `timed`.
    pub fn violations(&self, timed: bool) -> Vec<String> {
        let mut found = Vec::new();
        if self.panics > 0 {
            found.push(format!("{} panics in the log", self.panics));
        }
        for Phase { name, measures, .. } in &self.phases {
            if measures.failed > 0 {
                found.push(format!("{name}: {} provisions of healthy agents failed", measures.failed));
            }
            if measures.lost > 0 {
                found.push(format!("{name}: {} one-shots of healthy agents were lost", measures.lost));
            }
            if measures.lateness.iter().any(|late| *late < 0.0) {
                found.push(format!("{name}: a fire was early"));
            }
            let ratios = [
                ("provision", self.ratio(|one| &one.provisions, measures), PROVISION_RATIO),
                ("lateness", self.ratio(|one| &one.lateness, measures), LATENESS_RATIO),
            ];
            for (what, ratio, limit) in ratios {
                if timed && ratio > limit {
                    found.push(format!(
                        "{name}: p99 of {what} is {ratio:.1} × that of calm; the limit is {limit}"
                    ));
                }
            }
        }
        found
    }

    /// Returns the 99th percentile as a multiple of that of the calm phase.
    fn ratio(&self, of: impl Fn(&Measures) -> &Vec<f64>, measures: &Measures) -> f64 {
        let calm = self.phases.first().map_or(0.0, |calm| percentile(of(&calm.measures), 99));
        if calm > 0.0 { percentile(of(measures), 99) / calm } else { 0.0 }
    }

    /// Returns the table as Markdown.
    pub fn markdown(&self) -> String {
        let mut table = String::from(
            "| phase | provisions | p50 | p99 | × calm | lateness p50 | p99 | × calm | failed | lost | memory | answers to the abuse |\n\
             |---|---|---|---|---|---|---|---|---|---|---|---|\n",
        );
        for Phase { name, measures, answers, resident_mb } in &self.phases {
            let _ = writeln!(
                table,
                "| {name} | {} | {:.1} ms | {:.1} ms | {:.1} | {:.1} ms | {:.1} ms | {:.1} | {} | {} | {resident_mb} MB | {answers} |",
                measures.provisions.len(),
                percentile(&measures.provisions, 50),
                percentile(&measures.provisions, 99),
                self.ratio(|one| &one.provisions, measures),
                percentile(&measures.lateness, 50),
                percentile(&measures.lateness, 99),
                self.ratio(|one| &one.lateness, measures),
                measures.failed,
                measures.lost,
            );
        }
        table
    }
}
