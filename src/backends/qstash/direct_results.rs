//! How direct calls ended: `QStash`'s log is read, and what it says is recorded.
//!
//! What was delivered leaves the list like any other fire. What was not is our own loop's, with its retries; and so is,
//! after the watchdog's grace, what the log says nothing of.

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

/// Between two looks at the log while calls are out; jittered so that replicas spread.
const PERIOD: Duration = Duration::from_secs(10);
/// Calls that are asked after at once.
const BATCH: i64 = 200;

/// Why results could not be read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("QStash's log: {0}")]
    Log(#[from] BackendError),
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Runs until `stop`. `log` is the account that the calls were published to.
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
                    info!("the results of direct calls are read again");
                }
                if settled > 0 {
                    info!(settled, "the results of direct calls were read");
                }
            }
            Err(error) => {
                if let Unread::Log(error) = &error {
                    metrics::backend_called(BackendName::QstashDirect, "log", error.kind(), 1);
                }
                if !std::mem::replace(&mut failing, true) {
                    warn!(%error, "the results of direct calls cannot be read; it is tried again");
                }
            }
        }
    }
}

/// Asks after every call whose time has come, a batch at a time. Returns how many have ended.
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
    DirectResult { schedule_id: call.schedule_id, at, delivered, http_status }
}
