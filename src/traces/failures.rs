//! Failures of the export: counted in metrics, and logged once a minute at most.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

// The clock of the runtime, which tests advance.
use tokio::time::Instant;
use tracing::warn;

use super::collector::{Answer, ExportError};
use crate::metrics::{self, SpansDropped};

/// Minimum time between two warnings.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// The fix of most failures.
const ADVICE: &str =
    "check otlp_endpoint: it must be an OTLP/HTTP receiver (usually port 4318), not one of gRPC (4317)";

/// The failures since the last warning.
#[derive(Debug, Default)]
pub(super) struct Failures {
    warned: Option<Instant>,
    dropped: u64,
    error: Option<String>,
}

/// A line of the log.
#[derive(Debug, PartialEq, Eq)]
struct Warning {
    /// The last error. `None` if spans were only dropped because the queue was full.
    error: Option<String>,
    /// Number of spans that were dropped since the last line, whatever the reason.
    dropped: u64,
    /// Number of those that found the queue full.
    queue_full: u64,
}

impl Failures {
    /// Counts a batch of `count` spans that was sent.
    pub(super) fn note(&mut self, count: u64, sent: Result<Answer, ExportError>) {
        let (reason, dropped, error) = match sent {
            Ok(Answer { rejected, message }) => (SpansDropped::Rejected, rejected.min(count), message),
            Err(error) if error.is_transient() => (SpansDropped::Unavailable, count, error.to_string()),
            Err(error) => (SpansDropped::Rejected, count, error.to_string()),
        };
        if !error.is_empty() {
            self.error = Some(error);
        }
        self.dropped += dropped;
        metrics::spans_exported(count - dropped);
        metrics::spans_dropped(reason, dropped);
    }

    /// Logs the failures, once a minute at most. `overflow` is the number of spans that found the queue full since the last
    /// line.
    pub(super) fn warn(&mut self, overflow: &AtomicU64) {
        if let Some(Warning { error, dropped, queue_full }) = self.due(overflow) {
            warn!(error, dropped, queue_full, "exporting traces failed, spans were dropped; {ADVICE}");
        }
    }

    /// Returns the next line of the log if it is due, and begins to count for the one after it.
    fn due(&mut self, overflow: &AtomicU64) -> Option<Warning> {
        let is_due = self.warned.is_none_or(|last| last.elapsed() >= WARN_EVERY);
        if !is_due || (self.error.is_none() && overflow.load(Ordering::Relaxed) == 0) {
            return None;
        }
        let queue_full = overflow.swap(0, Ordering::Relaxed);
        let dropped = std::mem::take(&mut self.dropped) + queue_full;
        self.warned = Some(Instant::now());
        Some(Warning { error: self.error.take(), dropped, queue_full })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unavailable() -> Result<Answer, ExportError> {
        Err(ExportError::Unavailable("connection refused".to_owned()))
    }

    fn warning(error: Option<&str>, dropped: u64, queue_full: u64) -> Warning {
        Warning { error: error.map(str::to_owned), dropped, queue_full }
    }

    #[tokio::test(start_paused = true)]
    async fn second_warning_comes_a_minute_later_and_has_all_failures_since() {
        let (mut failures, overflow) = (Failures::default(), AtomicU64::new(0));
        assert_eq!(failures.due(&overflow), None, "nothing has failed");
        failures.note(10, unavailable());
        overflow.store(5, Ordering::Relaxed);
        assert_eq!(failures.due(&overflow), Some(warning(Some("connection refused"), 15, 5)));
        for _ in 0..59 {
            tokio::time::advance(Duration::from_secs(1)).await;
            failures.note(2, unavailable());
            overflow.fetch_add(1, Ordering::Relaxed);
            assert_eq!(failures.due(&overflow), None);
        }
        tokio::time::advance(Duration::from_millis(999)).await;
        assert_eq!(failures.due(&overflow), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(failures.due(&overflow), Some(warning(Some("connection refused"), 2 * 59 + 59, 59)));
        tokio::time::advance(Duration::from_hours(1)).await;
        assert_eq!(failures.due(&overflow), None, "nothing has failed since");
    }

    #[tokio::test(start_paused = true)]
    async fn full_queue_alone_and_a_partial_rejection_are_worth_a_warning() {
        let (mut failures, overflow) = (Failures::default(), AtomicU64::new(7));
        assert_eq!(failures.due(&overflow), Some(warning(None, 7, 7)));
        tokio::time::advance(WARN_EVERY).await;
        failures.note(10, Ok(Answer { rejected: 3, message: "too old".to_owned() }));
        assert_eq!(failures.due(&overflow), Some(warning(Some("too old"), 3, 0)));
        tokio::time::advance(WARN_EVERY).await;
        failures.note(10, Ok(Answer { rejected: 0, message: String::new() }));
        assert_eq!(failures.due(&overflow), None);
    }
}
