//! Reads the results of direct calls from `QStash`'s log and records them.
//!
//! A delivered one-shot leaves `list` like any other. The built-in loop retries calls that failed and, after the
//! watchdog's grace period, also calls without a result in the log.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::BackendName;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{DirectEnd, Qstash};
use crate::backends::BackendError;
use crate::db::{Db, DbError, wake_ups};
use crate::domain::direct_call::{DirectCall, DirectResult};
use crate::metrics;

/// Average interval between two reads of the log. Jitter spreads the replicas.
const PERIOD: Duration = Duration::from_secs(10);
/// Calls in one batch.
const BATCH: i64 = 200;

/// A failure to read or record results.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("QStash {0}")]
    Log(#[from] BackendError),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Runs until `stop`. `log` is the account through which the calls were published.
pub(super) async fn run(db: &Db, log: &Qstash, stop: CancellationToken) {
    let mut failing = false;
    loop {
        let pause = PERIOD.mul_f64(rand::random_range(0.75..1.25));
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let Some(once) = stop.run_until_cancelled(settle_all(db, log)).await else { return };
        match once {
            Ok(settled) => {
                if std::mem::take(&mut failing) {
                    info!("reading the results of direct calls succeeds again");
                }
                if settled > 0 {
                    info!(settled, "results of direct calls recorded");
                }
            }
            Err(error) => {
                if let Unread::Log(error) = &error {
                    metrics::backend_called(BackendName::QstashDirect, "log", error.kind(), 1);
                }
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "reading the results of direct calls failed; retrying");
                }
            }
        }
    }
}

/// Looks up every call that is due, in batches. Returns the number of calls that have ended.
async fn settle_all(db: &Db, log: &Qstash) -> Result<usize, Unread> {
    let (mut settled, mut last) = (0, None);
    loop {
        let calls = wake_ups::direct_calls(db, last.as_ref(), BATCH).await?;
        let Some(since) = calls.iter().map(|call| call.due_at).min() else { return Ok(settled) };
        let names: Vec<String> = calls.iter().map(|call| call.message_id.clone()).collect();
        let ends = log.direct_ends(&names, since).await?;
        let results: Vec<DirectResult> = calls
            .iter()
            .filter_map(|call| ends.get(&call.message_id).map(|end| result(call, *end)))
            .collect();
        if !results.is_empty() {
            wake_ups::settle_direct(db, &results).await?;
        }
        settled += results.len();
        last = calls.into_iter().last();
    }
}

fn result(call: &DirectCall, end: DirectEnd) -> DirectResult {
    let (at, delivered, http_status): (DateTime<Utc>, bool, Option<u16>) = match end {
        DirectEnd::Delivered { at } => (at, true, None),
        DirectEnd::Failed { at, status } => (at, false, status),
        DirectEnd::Cancelled { at } => (at, false, None),
    };
    DirectResult { schedule_id: call.schedule_id, generation: call.generation, at, delivered, http_status }
}
