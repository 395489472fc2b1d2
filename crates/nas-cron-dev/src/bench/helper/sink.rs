//! The sink of `nas-cron bench` as a process of its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::DateTime;
use nas_cron_base::clock::{Clock, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use super::super::sink::Sink;
use super::super::stage::Stage;
use super::print;

/// A line of stdin.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    /// Accept the fires of these one-shots from now on. The response is `{}`.
    Expect {
        /// Prefix of the job ids, which are followed by the index.
        prefix: String,
        /// Number of agents. Job `n` belongs to agent `n % agents`.
        agents: usize,
        /// Due times, in milliseconds since 1970.
        due_ms: Vec<i64>,
    },
    /// Wait until all have arrived, for at most this time. The response is an [`Arrivals`].
    Arrivals {
        /// Prefix of an earlier [`Request::Expect`].
        prefix: String,
        /// Maximum time.
        wait_ms: u64,
    },
}

/// Arrivals of a stage so far.
#[derive(Debug, Serialize)]
struct Arrivals {
    arrived: usize,
    early: usize,
    lost: usize,
    duplicates: usize,
    /// From each due time to the first arrival.
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// From the first due time to the last arrival.
    took_ms: f64,
}

/// Runs the sink until stdin ends.
pub(super) async fn run() -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Without a receiver no fire is sampled for verification.
    let (sink, _) = Sink::start(clock).context("the sink could not listen on 127.0.0.1")?;
    let mut stages = HashMap::new();
    print(&json!({ "url": sink.base_url() }))?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line).with_context(|| format!("invalid request {line}"))? {
            Request::Expect { prefix, agents, due_ms } => {
                let stage = stage(&prefix, agents, &due_ms)?;
                sink.expect(Arc::clone(&stage));
                stages.insert(prefix, stage);
                print(&json!({}))?;
            }
            Request::Arrivals { prefix, wait_ms } => {
                let Some(stage) = stages.get(&prefix) else { bail!("no one-shots {prefix} are expected") };
                print(&arrivals(stage, Duration::from_millis(wait_ms)).await)?;
            }
        }
    }
    Ok(())
}

fn stage(prefix: &str, agents: usize, due_ms: &[i64]) -> anyhow::Result<Arc<Stage>> {
    let due = due_ms.iter().map(|ms| DateTime::from_timestamp_millis(*ms).context("invalid due time"));
    Ok(Arc::new(Stage::new(prefix.to_owned(), agents, due.collect::<anyhow::Result<_>>()?)))
}

#[expect(clippy::cast_precision_loss, reason = "2^52 microseconds are 142 years")]
async fn arrivals(stage: &Stage, wait: Duration) -> Arrivals {
    // The time is over: the outcome reports the lost ones.
    let _ = tokio::time::timeout(wait, stage.complete()).await;
    let outcome = stage.outcome();
    Arrivals {
        arrived: outcome.arrived,
        early: outcome.early,
        lost: outcome.lost,
        duplicates: outcome.duplicates,
        p50_ms: outcome.lateness.percentile_ms(50.0),
        p99_ms: outcome.lateness.percentile_ms(99.0),
        max_ms: outcome.lateness.max_ms(),
        took_ms: outcome.took.num_microseconds().unwrap_or(i64::MAX) as f64 / 1000.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn arrivals_are_those_of_the_stage() {
        let stage = stage("p", 2, &[1_800_000_000_000, 1_800_000_000_500]).unwrap();
        assert_eq!(stage.index("p1"), Some(1));
        stage.arrived(0, DateTime::from_timestamp_micros(1_800_000_000_004_000).unwrap());
        let found = arrivals(&stage, Duration::ZERO).await;
        assert_eq!((found.arrived, found.early, found.lost, found.duplicates), (1, 0, 1, 0));
        assert!((found.took_ms - 4.0).abs() < 0.001 && (found.max_ms - 4.0).abs() < 0.001, "{found:?}");
    }

    #[test]
    fn requests_are_read() {
        let expect = r#"{"expect":{"prefix":"p","agents":1,"due_ms":[1]}}"#;
        assert!(matches!(serde_json::from_str(expect).unwrap(), Request::Expect { agents: 1, .. }));
        let arrivals = r#"{"arrivals":{"prefix":"p","wait_ms":1}}"#;
        assert!(matches!(serde_json::from_str(arrivals).unwrap(), Request::Arrivals { wait_ms: 1, .. }));
    }
}
