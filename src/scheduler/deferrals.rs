//! Counts deferred attempts one by one, and logs them by reason with a few seconds between the lines.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{debug, error, warn};

use crate::domain::Deferral;
use crate::metrics;

/// Time between two log lines of one reason. A shortage defers thousands of attempts at once.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// Reports deferred attempts. Clones share their counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Deferrals(Arc<Mutex<HashMap<Deferral, Unlogged>>>);

/// Deferred attempts since the last log line of a reason.
#[derive(Debug, Default)]
struct Unlogged {
    count: usize,
    cause: String,
}

impl Deferrals {
    /// Reports `count` deferred attempts. The first report of a reason is logged at once.
    pub(super) fn note(&self, reason: Deferral, cause: &str, count: usize) {
        if count == 0 {
            return;
        }
        metrics::attempts_deferred(reason, count as u64);
        if let Some(unlogged) = self.0.lock().get_mut(&reason) {
            unlogged.count += count;
            cause.clone_into(&mut unlogged.cause);
            return;
        }
        self.0.lock().insert(reason, Unlogged::default());
        log(reason, cause, count);
        tokio::spawn(self.clone().log_further(reason));
    }

    /// Logs further attempts of this reason, until none was deferred between two lines.
    async fn log_further(self, reason: Deferral) {
        loop {
            tokio::time::sleep(BETWEEN_LINES).await;
            let unlogged = {
                let mut all = self.0.lock();
                match all.get_mut(&reason) {
                    Some(unlogged) if unlogged.count > 0 => std::mem::take(unlogged),
                    _ => {
                        all.remove(&reason);
                        return;
                    }
                }
            };
            log(reason, &unlogged.cause, unlogged.count);
        }
    }
}

fn log(reason: Deferral, cause: &str, count: usize) {
    const EVENT: &str =
        "delivery attempts deferred: nas-cron could not make them; they do not count as attempts";
    match reason {
        Deferral::Defect => error!(%reason, cause, count, "{EVENT}"),
        // Not a fault: the limit is set on purpose, and a slow agent reaches its own.
        Deferral::Slots => debug!(%reason, cause, count, "delivery attempts deferred until a slot is free"),
        _ => warn!(%reason, cause, count, "{EVENT}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn burst_is_logged_at_once_and_then_summed_up() {
        let deferrals = Deferrals::default();
        let unlogged = || deferrals.0.lock().get(&Deferral::Descriptors).map(|unlogged| unlogged.count);
        for _ in 0..1_000 {
            deferrals.note(Deferral::Descriptors, "Too many open files", 1);
        }
        assert_eq!(unlogged(), Some(999));
        tokio::time::sleep(BETWEEN_LINES + Duration::from_millis(1)).await;
        assert_eq!(unlogged(), Some(0), "one more line has reported them");
        tokio::time::sleep(BETWEEN_LINES).await;
        assert_eq!(unlogged(), None, "the next one is logged at once");
    }
}
