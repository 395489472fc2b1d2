//! The report of the bench.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::campaign::Measured;

/// The JSON report. Scripts rely on its fields.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    jobs: usize,
    agents: usize,
    lateness_ms: LatenessMs,
    early: usize,
    lost: usize,
    duplicates: usize,
    fires_per_s: f64,
    provisions_per_s: f64,
}

#[derive(Debug, Serialize)]
struct LatenessMs {
    p50: f64,
    p99: f64,
    max: f64,
}

fn rounded(value: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (value * unit).round() / unit
}

impl Report {
    /// Creates the report. Lateness is of the lateness phase; early, lost and duplicates are of both phases that fire.
    pub(super) fn of(measured: &Measured, agents: usize) -> Self {
        let Measured { spread, burst, .. } = measured;
        let ms = |value| rounded(value, 3);
        Self {
            jobs: spread.arrived + spread.lost,
            agents,
            lateness_ms: LatenessMs {
                p50: ms(spread.lateness.percentile_ms(50.0)),
                p99: ms(spread.lateness.percentile_ms(99.0)),
                max: ms(spread.lateness.max_ms()),
            },
            early: spread.early + burst.early,
            lost: spread.lost + burst.lost,
            duplicates: spread.duplicates + burst.duplicates,
            fires_per_s: rounded(measured.fires_per_s(), 1),
            provisions_per_s: rounded(measured.provisions_per_s(), 1),
        }
    }

    /// True if a fire was early or lost.
    pub(super) fn is_faulty(&self) -> bool {
        self.early + self.lost > 0
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).expect("numbers have a JSON form")
    }
}

/// Formats the report as a table.
pub(super) fn table(report: &Report, measured: &Measured, verified: usize) -> String {
    let Report { lateness_ms, early, lost, duplicates, .. } = report;
    let (burst, provisions) = (measured.burst.arrived + measured.burst.lost, measured.provisions);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let mut row = |what: String, value: String| {
        table.add_row(vec![what, value]);
    };
    row(format!("lateness of {} fires, p50", report.jobs), format!("{:.3} ms", lateness_ms.p50));
    row("  p99".to_owned(), format!("{:.3} ms", lateness_ms.p99));
    row("  max".to_owned(), format!("{:.3} ms", lateness_ms.max));
    row(format!("{burst} fires at one instant"), format!("{:.0} fires/s", report.fires_per_s));
    row(
        "  p99 of their lateness".to_owned(),
        format!("{:.1} ms", measured.burst.lateness.percentile_ms(99.0)),
    );
    row(
        format!("{provisions} provisions, {} in flight", super::agent_api::IN_FLIGHT),
        format!("{:.0}/s", report.provisions_per_s),
    );
    row("cancels".to_owned(), format!("{:.0}/s", measured.cancels_per_s()));
    row("agents".to_owned(), report.agents.to_string());
    row("early".to_owned(), early.to_string());
    row("lost".to_owned(), lost.to_string());
    row("duplicates".to_owned(), duplicates.to_string());
    row("tokens verified (1 of 100)".to_owned(), verified.to_string());
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, TimeDelta};
    use insta::assert_snapshot;

    use super::super::stage::{Outcome, Stage, spread};
    use super::*;

    fn outcome(late: &[i64]) -> Outcome {
        let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let stage = Stage::new("p".into(), 1, spread(start, late.len(), Duration::ZERO));
        for (index, micros) in late.iter().enumerate() {
            stage.arrived(index, start + TimeDelta::microseconds(*micros));
        }
        stage.outcome()
    }

    fn measured(spread: &[i64]) -> Measured {
        Measured {
            provisions: 5000,
            provisioning: Duration::from_millis(1_250),
            cancels: 5000,
            cancelling: Duration::from_secs(1),
            spread: outcome(spread),
            burst: outcome(&[100_000, 250_000]),
        }
    }

    #[test]
    fn json_has_exactly_these_fields() {
        let report = Report::of(&measured(&[900, 1_000, 8_000]), 100);
        assert!(!report.is_faulty());
        assert_snapshot!(report.json(), @r#"{"jobs":3,"agents":100,"lateness_ms":{"p50":1.0,"p99":8.0,"max":8.0},"early":0,"lost":0,"duplicates":0,"fires_per_s":8.0,"provisions_per_s":4000.0}"#);
    }

    #[test]
    fn table_lists_all_results() {
        let measured = measured(&[900, 1_000, -8_000]);
        let report = Report::of(&measured, 100);
        assert!(report.is_faulty());
        assert_snapshot!(table(&report, &measured, 70), @"
        lateness of 3 fires, p50        0.900 ms
          p99                           1.000 ms
          max                           1.000 ms
        2 fires at one instant         8 fires/s
          p99 of their lateness         250.0 ms
        5000 provisions, 32 in flight     4000/s
        cancels                           5000/s
        agents                               100
        early                                  1
        lost                                   0
        duplicates                             0
        tokens verified (1 of 100)            70
        ");
    }
}
