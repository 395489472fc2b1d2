//! A rolling restart from one release to another and back, under load: `make upgrade`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::ledger::{Entry, Finding, Note, OneShot, is_missing, now};
use super::load::{self, Load};
use super::stage::Stage;
use super::{Plan, SETTLING, with_progress};

/// Time for which the releases run beside each other, and each alone.
const STAY: Duration = Duration::from_secs(15);
/// Lateness, in microseconds, from which a fire counts as late.
const LATE: i64 = 100_000;
/// Maximum findings that are shown.
const EXAMPLES: usize = 10;

/// The plan of a run.
pub struct Releases {
    /// Binary of the older release.
    pub old: PathBuf,
    /// Binary of the newer release.
    pub new: PathBuf,
    /// The load.
    pub load: Load,
    /// Called with a progress line about once a second.
    pub progress: fn(&str),
}

/// The results of a phase.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Phase {
    /// Name of the phase.
    pub name: &'static str,
    /// Its length, in seconds.
    pub seconds: f64,
    /// One-shots that were due in it.
    pub due: usize,
    /// Acknowledged one-shots that were never accepted.
    pub lost: usize,
    /// Provisions without a 200.
    pub failed: usize,
    /// Attempts before their instant, or beside another attempt of the same one-shot.
    pub wrong: usize,
    /// First attempts that were more than 100 ms late.
    pub late: usize,
    /// Lateness of first attempts, in milliseconds: 99th percentile, and the greatest.
    pub lateness_ms: [f64; 2],
}

/// The report of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Provisions per second.
    pub provisions_per_second: f64,
    /// The phases in their order.
    pub phases: Vec<Phase>,
    /// Examples of what must not happen.
    pub examples: Vec<String>,
}

/// Runs the load on two replicas of the old release, upgrades them one after the other, goes back, and upgrades again.
pub async fn run(releases: Releases) -> Report {
    let Releases { old, new, load, progress } = releases;
    let plan = Plan { progress, ..Plan::new(old.clone(), load, 1) };
    let mut stage = Stage::start(&plan).await;
    let running = load::start(Arc::clone(&stage.shared), load);
    let ledger = Arc::clone(&stage.shared.ledger);
    let mut begins = Vec::new();
    let mut phase = async |name, work: Work<'_>| {
        begins.push((name, now()));
        let work = async {
            match work {
                Work::Migrate(binary) => stage.migrate(binary).await,
                Work::Roll(binary) => stage.roll(binary).await,
                Work::Nothing => {}
            }
            tokio::time::sleep(STAY).await;
        };
        with_progress(work, name, &ledger, progress).await;
    };
    phase("old release", Work::Nothing).await;
    phase("migration", Work::Migrate(&new)).await;
    phase("forward", Work::Roll(&new)).await;
    phase("back", Work::Roll(&old)).await;
    phase("forward again", Work::Roll(&new)).await;
    begins.push(("settling", now()));
    running.stop().await;
    with_progress(ledger.settled(SETTLING), "settling", &ledger, progress).await;
    let (entries, notes) = ledger.close();
    let report = Report::new(load, &begins, &entries, &notes);
    stage.end(report.passed()).await;
    report
}

/// The work at the begin of a phase.
enum Work<'a> {
    Nothing,
    /// Migrates the schema, while the replicas serve.
    Migrate(&'a Path),
    /// Replaces the replicas one after the other.
    Roll(&'a Path),
}

impl Stage {
    async fn roll(&mut self, binary: &Path) {
        for replica in &mut self.replicas {
            replica.drain().await;
            replica.replace(binary);
            replica.start(0);
            replica.ready().await;
            // The balancer has to notice that it is back before the other one stops.
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    }
}

impl Report {
    fn new(load: Load, begins: &[(&'static str, i64)], entries: &[(OneShot, Entry)], notes: &[Note]) -> Self {
        let phase_at = |at: i64| begins.iter().rposition(|(_, begin)| *begin <= at).unwrap_or(0);
        let mut phases: Vec<Phase> =
            begins.iter().map(|(name, _)| Phase { name, ..Phase::default() }).collect();
        for (phase, pair) in phases.iter_mut().zip(begins.windows(2)) {
            phase.seconds = micros(pair[1].1 - pair[0].1) / 1e6;
        }
        let mut examples = Vec::new();
        let mut lateness: Vec<Vec<i64>> = vec![Vec::new(); phases.len()];
        for (OneShot { job, due }, entry) in entries {
            let (number, phase) = (phase_at(*due), &mut phases[phase_at(*due)]);
            phase.due += 1;
            if is_missing(entry) {
                phase.lost += 1;
                examples.push(format!("lost in {}: job {job} due {due}", phase.name));
            }
            if let Some(first) = entry.first {
                lateness[number].push(first - due);
                if first - due > LATE {
                    phase.late += 1;
                    examples.push(format!(
                        "late in {}: job {job} by {} ms",
                        phase.name,
                        (first - due) / 1_000
                    ));
                }
            }
        }
        for (phase, mut lateness) in phases.iter_mut().zip(lateness) {
            lateness.sort_unstable();
            let at = |share: usize| lateness.get(lateness.len() * share / 100).or(lateness.last());
            phase.lateness_ms =
                [at(99), lateness.last()].map(|one| one.map_or(0.0, |one| micros(*one) / 1e3));
        }
        for Note { at, finding, text } in notes {
            let phase = &mut phases[phase_at(*at)];
            match finding {
                Finding::Failed | Finding::Broken => phase.failed += 1,
                Finding::Early | Finding::Overlap | Finding::BadToken | Finding::UnknownKey => {
                    phase.wrong += 1;
                }
                // At-least-once delivery allows it.
                Finding::Repeated => continue,
            }
            examples.push(format!("{finding:?} in {}: {text}", phase.name));
        }
        examples.truncate(EXAMPLES);
        Self { provisions_per_second: load.provisions(), phases, examples }
    }

    /// True if nothing was lost, failed, early or late.
    pub fn passed(&self) -> bool {
        self.phases.iter().all(|phase| phase.lost + phase.failed + phase.wrong + phase.late == 0)
    }

    /// Returns the table.
    pub fn markdown(&self) -> String {
        let mut text = format!("{:.0} provisions per second.\n\n", self.provisions_per_second);
        text += "| phase | seconds | fires due | lost | failed provisions | early, overlapping | > 100 ms late | p99, max lateness |\n";
        text += "|---|---:|---:|---:|---:|---:|---:|---:|\n";
        for phase in &self.phases {
            let Phase { name, seconds, due, lost, failed, wrong, late, lateness_ms: [p99, max] } = phase;
            writeln!(text, "| {name} | {seconds:.0} | {due} | {lost} | {failed} | {wrong} | {late} | {p99:.1} ms, {max:.1} ms |")
                .expect("writing to a String never fails");
        }
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "a short time")]
fn micros(micros: i64) -> f64 {
    micros as f64
}
