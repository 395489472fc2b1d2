//! The report of the bench.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::campaign::Measured;
use super::plan::Plan;
use crate::times::Times;

/// The JSON report. Scripts rely on its fields.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    jobs: usize,
    agents: usize,
    lateness_ms: Ms,
    early: usize,
    lost: usize,
    duplicates: usize,
    /// Of the burst, to the last arrival.
    fires_per_s: f64,
    provisions_per_s: f64,
    burst: usize,
    slow_agents: usize,
    armed: usize,
    provision_concurrency: usize,
    /// Of the burst, to the last durable outcome.
    durable_fires_per_s: Option<f64>,
    burst_lateness_ms: Ms,
    /// Last fire of the slowest healthy agent, relative to the median one.
    slowest_agent: Option<f64>,
    provision_ms: Ms,
    rearms_per_s: f64,
    rearm_ms: Ms,
    cancels_per_s: f64,
}

/// Times in milliseconds.
#[derive(Debug, Serialize)]
struct Ms {
    p50: f64,
    p99: f64,
    max: f64,
}

impl From<&Times> for Ms {
    fn from(times: &Times) -> Self {
        let ms = |value| rounded(value, 3);
        Self {
            p50: ms(times.percentile_ms(50.0)),
            p99: ms(times.percentile_ms(99.0)),
            max: ms(times.max_ms()),
        }
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let unit = 10_f64.powi(digits);
    (value * unit).round() / unit
}

impl Report {
    /// Creates the report. Early, lost and duplicate fires are those of both phases that fire.
    pub(super) fn of(measured: &Measured, plan: &Plan, agents: usize) -> Self {
        let Measured { provisions, rearms, cancels, spread, burst, .. } = measured;
        Self {
            jobs: plan.jobs,
            agents,
            lateness_ms: Ms::from(&spread.lateness),
            early: spread.early + burst.early,
            lost: spread.lost + burst.lost,
            duplicates: spread.duplicates + burst.duplicates,
            fires_per_s: rounded(measured.fires_per_s(), 1),
            provisions_per_s: rounded(provisions.per_s(), 1),
            burst: plan.burst,
            slow_agents: plan.slow,
            armed: plan.armed,
            provision_concurrency: plan.concurrency,
            durable_fires_per_s: measured.durable_fires_per_s().map(|rate| rounded(rate, 1)),
            burst_lateness_ms: Ms::from(&burst.lateness),
            slowest_agent: burst.slowest_to_median.map(|ratio| rounded(ratio, 3)),
            provision_ms: Ms::from(&provisions.latency),
            rearms_per_s: rounded(rearms.per_s(), 1),
            rearm_ms: Ms::from(&rearms.latency),
            cancels_per_s: rounded(cancels.per_s(), 1),
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
pub(super) fn table(report: &Report, verified: usize) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let mut row = |what: String, value: String| {
        table.add_row(vec![what, value]);
    };
    let known =
        |value: Option<f64>, show: fn(f64) -> String| value.map_or_else(|| "unknown".to_owned(), show);
    row(format!("lateness of {} fires, p50", report.jobs), format!("{:.3} ms", report.lateness_ms.p50));
    row("  p99".to_owned(), format!("{:.3} ms", report.lateness_ms.p99));
    row("  max".to_owned(), format!("{:.3} ms", report.lateness_ms.max));
    row(format!("{} fires at one instant", report.burst), format!("{:.0} fires/s", report.fires_per_s));
    row(
        "  to the last durable outcome".to_owned(),
        known(report.durable_fires_per_s, |rate| format!("{rate:.0} fires/s")),
    );
    row("  p99 of their lateness".to_owned(), format!("{:.1} ms", report.burst_lateness_ms.p99));
    row(
        "  slowest agent, relative to the median".to_owned(),
        known(report.slowest_agent, |ratio| format!("{ratio:.2}")),
    );
    row(
        format!("provisions, {} in flight", report.provision_concurrency),
        format!("{:.0}/s", report.provisions_per_s),
    );
    row(
        "  p50, p99".to_owned(),
        format!("{:.1}, {:.1} ms", report.provision_ms.p50, report.provision_ms.p99),
    );
    row("provisions of jobs that have fired".to_owned(), format!("{:.0}/s", report.rearms_per_s));
    row("  p50, p99".to_owned(), format!("{:.1}, {:.1} ms", report.rearm_ms.p50, report.rearm_ms.p99));
    row("cancels".to_owned(), format!("{:.0}/s", report.cancels_per_s));
    row("agents, slow ones".to_owned(), format!("{}, {}", report.agents, report.slow_agents));
    if report.armed > 0 {
        row("armed for next week".to_owned(), report.armed.to_string());
    }
    row("early".to_owned(), report.early.to_string());
    row("lost".to_owned(), report.lost.to_string());
    row("duplicates".to_owned(), report.duplicates.to_string());
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

    use super::super::agent_api::Calls;
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

    fn calls(count: usize, took: Duration) -> Calls {
        let mut latency = Times::new();
        latency.record(TimeDelta::milliseconds(2));
        latency.record(TimeDelta::milliseconds(9));
        Calls { count, took, latency }
    }

    fn measured(spread: &[i64]) -> Measured {
        Measured {
            provisions: calls(5000, Duration::from_millis(1_250)),
            rearms: calls(5000, Duration::from_millis(2_500)),
            cancels: calls(5000, Duration::from_secs(1)),
            spread: outcome(spread),
            burst: outcome(&[100_000, 250_000]),
            durable: Ok(Duration::from_millis(500)),
        }
    }

    fn plan() -> Plan {
        Plan {
            jobs: 3,
            over: Duration::ZERO,
            burst: 2,
            slow: 1,
            hang: Duration::ZERO,
            concurrency: 32,
            armed: 7,
            lead: Duration::ZERO,
            stragglers: Duration::ZERO,
        }
    }

    #[test]
    fn json_has_exactly_these_fields() {
        let report = Report::of(&measured(&[900, 1_000, 8_000]), &plan(), 100);
        assert!(!report.is_faulty());
        assert_snapshot!(report.json(), @r#"{"jobs":3,"agents":100,"lateness_ms":{"p50":1.0,"p99":8.0,"max":8.0},"early":0,"lost":0,"duplicates":0,"fires_per_s":8.0,"provisions_per_s":4000.0,"burst":2,"slow_agents":1,"armed":7,"provision_concurrency":32,"durable_fires_per_s":4.0,"burst_lateness_ms":{"p50":100.031,"p99":250.0,"max":250.0},"slowest_agent":1.0,"provision_ms":{"p50":2.0,"p99":9.0,"max":9.0},"rearms_per_s":2000.0,"rearm_ms":{"p50":2.0,"p99":9.0,"max":9.0},"cancels_per_s":5000.0}"#);
    }

    #[test]
    fn table_lists_all_results() {
        let report = Report::of(&measured(&[900, 1_000, -8_000]), &plan(), 100);
        assert!(report.is_faulty());
        assert_snapshot!(table(&report, 70), @"
        lateness of 3 fires, p50                    0.900 ms
          p99                                       1.000 ms
          max                                       1.000 ms
        2 fires at one instant                     8 fires/s
          to the last durable outcome              4 fires/s
          p99 of their lateness                     250.0 ms
          slowest agent, relative to the median         1.00
        provisions, 32 in flight                      4000/s
          p50, p99                               2.0, 9.0 ms
        provisions of jobs that have fired            2000/s
          p50, p99                               2.0, 9.0 ms
        cancels                                       5000/s
        agents, slow ones                             100, 1
        armed for next week                                7
        early                                              1
        lost                                               0
        duplicates                                         0
        tokens verified (1 of 100)                        70
        ");
        let unknown = Measured { durable: Err("no metrics".into()), ..measured(&[900]) };
        let report = Report::of(&unknown, &Plan { armed: 0, ..plan() }, 100);
        assert!(
            table(&report, 70).contains("unknown") && report.json().contains(r#""durable_fires_per_s":null"#)
        );
    }
}
