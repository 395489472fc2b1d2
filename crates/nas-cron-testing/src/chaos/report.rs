//! The report: the effects of each kind of fault, compared with the guarantees of the service.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::fault::Fault;
use super::ledger::{Entry, Finding, Ledger, Note, OneShot, Window, is_missing};
use super::load::Load;

/// Maximum length of an outage during which no provision may fail. Includes half a second to start and stop servers.
const BRIEF_OUTAGE: Duration = Duration::from_millis(10_500);
/// Maximum time for a recovery.
const RECOVERY_LIMIT: Duration = Duration::from_secs(15);
/// Maximum findings of a kind that are shown.
const EXAMPLES: usize = 5;

/// The results of all faults of a kind.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Name of the fault.
    pub fault: &'static str,
    /// Number of injections.
    pub times: usize,
    /// Provisions answered with 200, from the begin of the fault to the begin of the next one.
    pub acknowledged: usize,
    /// One-shots due in that time that were acknowledged but never accepted.
    pub lost: usize,
    /// Attempts before their instant.
    pub early: usize,
    /// Attempts that overlapped another attempt of the same one-shot.
    pub overlapping: usize,
    /// Attempts after an accepted one.
    pub repeated: usize,
    /// Fires whose token has times that an agent rejects.
    pub bad_tokens: usize,
    /// Provisions without a 200.
    pub failed: usize,
    /// Provisions that were in flight to a replica when it was killed.
    pub broken: usize,
    /// 99th percentile of the lateness of first attempts, in seconds.
    pub lateness_p99: f64,
    /// Longest time from the end of the fault until every replica has fired and provisioned, in seconds.
    pub recovery: Option<f64>,
    /// Violated guarantees.
    pub missed: Vec<String>,
}

/// The report of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Seed of the schedule.
    pub seed: u64,
    /// Provisions per second.
    pub provisions_per_second: f64,
    /// Results by fault; `no fault` is the time before the first one.
    pub rows: Vec<Row>,
    /// Faults that could not be injected on this machine, with the reason.
    pub skipped: Vec<String>,
    /// Examples of each kind of finding.
    pub examples: Vec<String>,
}

impl Report {
    pub(super) fn new(
        seed: u64,
        load: Load,
        windows: &[Window],
        ledger: &Ledger,
        skipped: &[(Fault, &'static str)],
    ) -> Self {
        Tally::default().close(seed, load, windows, ledger, skipped)
    }

    fn from_rows(
        seed: u64,
        load: Load,
        windows: &[Window],
        mut rows: Rows,
        notes: &[Note],
        skipped: &[(Fault, &'static str)],
    ) -> Self {
        for window in windows {
            let row = row_of(&mut rows, Some(window.fault));
            row.times += 1;
            let recovery = window.recovery.map(|took| took.as_secs_f64());
            row.recovery = row.recovery.zip(recovery).map(|(longest, took)| longest.max(took));
        }
        let mut examples = Vec::new();
        for Note { at, finding, text } in notes {
            let window = window_at(windows, *at);
            let fault = window.map(|window| window.fault);
            let row = row_of(&mut rows, fault);
            // Killing a replica breaks its calls in flight.
            let killed = *finding == Finding::Broken && fault == Some(Fault::Kill);
            let (count, name) = match finding {
                Finding::Early => (&mut row.early, "early"),
                Finding::Overlap => (&mut row.overlapping, "overlapping"),
                Finding::Repeated => (&mut row.repeated, "repeated"),
                Finding::BadToken | Finding::UnknownKey => (&mut row.bad_tokens, "bad token"),
                Finding::Broken if killed => (&mut row.broken, "broken"),
                Finding::Broken | Finding::Failed => (&mut row.failed, "failed"),
            };
            *count += 1;
            let promised = !matches!(finding, Finding::Repeated) && !killed;
            if *count <= EXAMPLES && promised {
                examples.push(format!("{name} in {}: {text}", row.fault));
            }
        }
        for (fault, row) in &mut rows {
            row.missed = missed(*fault, row, windows, notes);
        }
        let skipped = skipped.iter().map(|(fault, why)| format!("{}: {why}", fault.name())).collect();
        let rows = rows.into_values().collect();
        Self { seed, provisions_per_second: load.provisions(), rows, skipped, examples }
    }

    /// True if no guarantee was violated.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.missed.is_empty())
    }

    /// Returns the table as Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "Seed {}, {:.0} provisions per second.\n\n\
             | fault | times | acknowledged | lost | early | overlapping | failed provisions | broken | repeated | bad tokens | p99 lateness | recovery |\n\
             |---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
            self.seed, self.provisions_per_second
        );
        for row in &self.rows {
            let recovery = match (row.fault, row.recovery) {
                ("no fault", _) => String::new(),
                (_, Some(seconds)) => format!("{seconds:.1} s"),
                (_, None) => "never".to_owned(),
            };
            let Row { fault, times, acknowledged, lost, early, overlapping, failed, broken, .. } = row;
            let Row { repeated, bad_tokens, lateness_p99, .. } = row;
            let _ = writeln!(
                text,
                "| {fault} | {times} | {acknowledged} | {lost} | {early} | {overlapping} | {failed} | {broken} | {repeated} \
                 | {bad_tokens} | {lateness_p99:.2} s | {recovery} |"
            );
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "\nSkipped: {skipped}.");
        }
        text
    }

    /// Returns the violated guarantees with examples, or an empty text.
    pub fn violations(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            for missed in &row.missed {
                let _ = writeln!(text, "{}: {missed}", row.fault);
            }
        }
        if !text.is_empty() {
            for example in &self.examples {
                let _ = writeln!(text, "  {example}");
            }
        }
        text
    }
}

/// Returns the last window that began before `at`.
fn window_at(windows: &[Window], at: i64) -> Option<&Window> {
    windows.iter().rev().find(|window| window.begin <= at)
}

/// Returns the row of a fault, or of the time before the first one.
fn row_of(rows: &mut Rows, fault: Option<Fault>) -> &mut Row {
    rows.entry(fault).or_insert_with(|| Row {
        fault: fault.map_or("no fault", Fault::name),
        times: usize::from(fault.is_none()),
        recovery: Some(0.0),
        ..Row::default()
    })
}

type Rows = BTreeMap<Option<Fault>, Row>;

/// Counts one-shots by the fault in whose time they were due. A long run counts them piece by piece.
#[derive(Default)]
pub(super) struct Tally {
    rows: Rows,
    /// Lateness of first attempts, in seconds.
    lateness: BTreeMap<Option<Fault>, Vec<f32>>,
}

impl Tally {
    /// Counts one-shots, none of which was armed or due after the last window.
    pub(super) fn add(&mut self, windows: &[Window], entries: &[(OneShot, Entry)]) {
        for (one_shot, entry) in entries {
            let fault_at = |at| window_at(windows, at).map(|window| window.fault);
            if let Some(at) = entry.acknowledged {
                row_of(&mut self.rows, fault_at(at)).acknowledged += 1;
            }
            let due = fault_at(one_shot.due);
            if is_missing(entry) {
                row_of(&mut self.rows, due).lost += 1;
            }
            // Lateness is meaningless for one-shots that were armed after their instant.
            if let (Some(first), Some(acknowledged)) = (entry.first, entry.acknowledged)
                && acknowledged < one_shot.due
            {
                #[expect(clippy::cast_precision_loss, reason = "microseconds of a run")]
                self.lateness.entry(due).or_default().push((first - one_shot.due) as f32 / 1e6);
            }
        }
    }

    /// Counts the ledger's remaining one-shots, and returns the report.
    pub(super) fn close(
        mut self,
        seed: u64,
        load: Load,
        windows: &[Window],
        ledger: &Ledger,
        skipped: &[(Fault, &'static str)],
    ) -> Report {
        let (entries, notes) = ledger.close();
        self.add(windows, &entries);
        for (fault, mut all) in self.lateness {
            all.sort_by(f32::total_cmp);
            row_of(&mut self.rows, fault).lateness_p99 =
                all.get(all.len() * 99 / 100).copied().unwrap_or_default().into();
        }
        Report::from_rows(seed, load, windows, self.rows, &notes, skipped)
    }
}

fn missed(fault: Option<Fault>, row: &Row, windows: &[Window], notes: &[Note]) -> Vec<String> {
    let mut missed = Vec::new();
    let counts = [
        (row.lost, "lost"),
        (row.early, "early"),
        (row.overlapping, "overlapping"),
        (row.bad_tokens, "bad tokens"),
    ];
    missed.extend(
        counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")),
    );
    let failed = notes.iter().filter(|Note { at, finding, .. }| {
        let window = window_at(windows, *at);
        let counts = *finding == Finding::Failed || *finding == Finding::Broken && fault != Some(Fault::Kill);
        counts && window.map(|window| window.fault) == fault && window.is_none_or(must_spare_provisions)
    });
    let failed = failed.count();
    if failed > 0 {
        missed.push(format!("{failed} provisions failed that should have succeeded"));
    }
    match (fault, row.recovery) {
        (Some(_), None) => missed.push("a replica did not recover by itself".to_owned()),
        (Some(_), Some(took)) if took > RECOVERY_LIMIT.as_secs_f64() => {
            missed.push(format!("recovery took {took:.1} s"));
        }
        _ => {}
    }
    if let Some(limit) = fault.and_then(Fault::lateness_limit)
        && row.lateness_p99 > limit.as_secs_f64()
    {
        missed.push(format!("p99 lateness {:.2} s", row.lateness_p99));
    }
    missed
}

/// True if no provision may fail during the fault.
fn must_spare_provisions(window: &Window) -> bool {
    let took = Duration::from_micros((window.end - window.begin).unsigned_abs());
    window.fault.spares_provisions() || !window.fault.fails_provisions() && took <= BRIEF_OUTAGE
}
