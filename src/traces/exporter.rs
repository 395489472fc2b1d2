//! Sends queued spans to the collector, in batches and one after the other.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::collector::{Answer, Collector, ExportError};
use super::failures::Failures;
use crate::heartbeat::{self, Heartbeats};

/// Maximum number of traces in one request.
const BATCH: usize = 256;
/// Time for which a batch waits for further traces.
const GATHER: Duration = Duration::from_secs(1);
/// Number of times that a request is repeated after a transient failure, with pauses of 1, 2, 4 and 8 s.
const REPEATS: usize = 4;

pub(super) fn start(
    collector: Collector,
    waiting: mpsc::Receiver<Vec<Span>>,
    overflow: Arc<AtomicU64>,
    stop: CancellationToken,
    hearts: &Heartbeats,
) -> JoinHandle<()> {
    let exporter = Exporter { collector, overflow, stop };
    // Shared, so that the receiver survives a panic of the loop.
    let (exporter, waiting) = (Arc::new(exporter), Arc::new(Mutex::new(waiting)));
    hearts.supervise("traces", move || {
        let (exporter, waiting) = (Arc::clone(&exporter), Arc::clone(&waiting));
        // A collector that does not answer must not look like a stopped loop.
        heartbeat::rest(async move { exporter.run(&mut *waiting.lock().await).await })
    })
}

struct Exporter {
    collector: Collector,
    /// Number of spans that found the queue full since the last warning.
    overflow: Arc<AtomicU64>,
    stop: CancellationToken,
}

impl Exporter {
    async fn run(&self, waiting: &mut mpsc::Receiver<Vec<Span>>) {
        let mut failures = Failures::default();
        loop {
            let traces = self.gather(waiting).await;
            if traces.is_empty() {
                return;
            }
            let spans: Vec<Span> = traces.into_iter().flatten().collect();
            let count = spans.len() as u64;
            let sent = self.send(spans).await;
            failures.note(count, sent);
            failures.warn(&self.overflow);
        }
    }

    /// Returns the next batch; none at the end.
    async fn gather(&self, waiting: &mut mpsc::Receiver<Vec<Span>>) -> Vec<Vec<Span>> {
        let mut traces = Vec::new();
        tokio::select! {
            biased;
            _ = waiting.recv_many(&mut traces, BATCH) => {}
            () = self.stop.cancelled() => return traces,
        }
        let enough = async {
            while traces.len() < BATCH {
                let room = BATCH - traces.len();
                if waiting.recv_many(&mut traces, room).await == 0 {
                    return;
                }
            }
        };
        tokio::select! {
            () = enough => {}
            () = tokio::time::sleep(GATHER) => {}
            () = self.stop.cancelled() => {}
        }
        traces
    }

    /// Sends a batch, and repeats that after transient failures; only once when the service stops.
    async fn send(&self, spans: Vec<Span>) -> Result<Answer, ExportError> {
        let request = self.collector.request(spans);
        let attempt = || self.collector.send(request.clone());
        let pauses = ExponentialBuilder::new().with_min_delay(Duration::from_secs(1)).with_max_times(REPEATS);
        tokio::select! {
            sent = attempt.retry(pauses).when(ExportError::is_transient) => sent,
            () = self.stop.cancelled() => attempt().await,
        }
    }
}
