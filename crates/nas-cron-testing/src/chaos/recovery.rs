//! Measures the time until every replica fires and provisions again.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout_at};

use super::ledger::now;
use super::stage::Stage;

/// Maximum time for a recovery. After it, the replicas are restarted, so that the next fault hits a healthy deployment.
const LIMIT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(100);
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// Timeout of a provision that probes a replica.
const PROBE_LIMIT: Duration = Duration::from_secs(20);

/// Returns the time from `end` (in microseconds) until every replica has fired and provisioned, or `None`.
pub(super) async fn wait(stage: &mut Stage, end: i64) -> Option<Duration> {
    let deadline = Instant::now() + LIMIT;
    let all = (0..stage.replicas.len()).map(async |number| {
        let fired = async {
            let replica = &stage.replicas[number];
            let mut before = None;
            loop {
                match (replica.attempts().await, before) {
                    (Some(attempts), Some(known)) if attempts > known => return,
                    (Some(attempts), None) => before = Some(attempts),
                    _ => {}
                }
                sleep(POLL).await;
            }
        };
        let provisioned = async {
            // Concurrent, because a probe that hangs must not delay the next one.
            let mut probes = FuturesUnordered::new();
            loop {
                probes.push(stage.shared.probe(number, PROBE_LIMIT));
                let next = sleep(PROBE_EVERY);
                tokio::pin!(next);
                loop {
                    tokio::select! {
                        Some(provisioned) = probes.next() => if provisioned { return },
                        () = &mut next => break,
                    }
                }
            }
        };
        timeout_at(deadline, async { tokio::join!(fired, provisioned) }).await.is_ok()
    });
    let recovered = futures::future::join_all(all).await.into_iter().all(|recovered| recovered);
    if recovered {
        return Some(Duration::from_micros((now() - end).unsigned_abs()));
    }
    for replica in &mut stage.replicas {
        replica.kill9();
        replica.start(0);
    }
    for replica in &stage.replicas {
        // One that never is shows up in the next recoveries, and the run ends with its report.
        replica.becomes_ready().await;
    }
    None
}
