//! Traces: what happened to a request or a delivery attempt, for an OpenTelemetry collector.
//!
//! A request of the agent API is a trace ([`request`]), and so is a delivery attempt ([`attempt`]), which may be made days
//! later. An attempt links to the provision that armed it, and to the attempt that it repeats. Many attempts share a
//! statement, so spans are made from times that were noted, when the work is done.
//!
//! A span is data of OTLP ([`span`]). The [`exporter`] sends them to the [`collector`]. Nothing waits for it: while its
//! queue is full, spans are dropped and counted.

pub mod attempt;
pub mod collector;
mod exporter;
mod failures;
pub mod request;
mod span;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nas_cron_base::clock::Clock;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::attempt::AttemptTrace;
use self::collector::Collector;
use self::request::RequestTrace;
use self::span::Times;
use crate::domain::trace_context::TraceContext;
use crate::heartbeat::Heartbeats;
use crate::metrics::{self, SpansDropped};

/// Maximum number of traces that wait for the exporter, each of about ten spans.
const QUEUE: usize = 2_048;
/// Maximum time to export what is queued when the service stops.
const LAST_EXPORT: Duration = Duration::from_secs(2);

/// Records traces, if that is configured. Clones share the queue.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Arc<Recording>>);

#[derive(Debug)]
struct Recording {
    queue: mpsc::Sender<Vec<Span>>,
    /// Number of spans that were dropped because the queue was full, for the exporter's warning.
    overflow: Arc<AtomicU64>,
    /// The database's clock, as everywhere.
    clock: Arc<dyn Clock>,
    sample_ratio: f64,
}

/// The running exporter.
#[derive(Debug)]
pub struct Exporting {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Traces {
    /// Returns traces that are not recorded.
    pub fn off() -> Self {
        Self::default()
    }

    /// Starts the export to `collector`. A share `sample_ratio` of the requests is recorded, with all their attempts.
    pub fn start(
        collector: Collector,
        sample_ratio: f64,
        clock: Arc<dyn Clock>,
        hearts: &Heartbeats,
    ) -> (Self, Exporting) {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (overflow, stop) = (Arc::<AtomicU64>::default(), CancellationToken::new());
        let task = exporter::start(collector, waiting, Arc::clone(&overflow), stop.clone(), hearts);
        let recording = Recording { queue, overflow, clock, sample_ratio };
        (Self(Some(Arc::new(recording))), Exporting { stop, task })
    }

    /// Begins the trace of a request that arrives now, if it is recorded. A valid `traceparent` of the caller decides
    /// whether it is, and the request then continues the caller's trace.
    pub fn request(&self, caller: Option<TraceContext>) -> Option<RequestTrace> {
        let recording = self.0.as_ref()?;
        let sampled = match caller {
            Some(caller) => caller.sampled,
            None => rand::random::<f64>() < recording.sample_ratio,
        };
        sampled.then(|| RequestTrace::begin(Arc::clone(recording), caller))
    }

    /// Returns true if an attempt is recorded: if its provision was, and if everything is.
    pub fn records_attempt(&self, provision: Option<TraceContext>) -> bool {
        self.0.as_ref().is_some_and(|recording| provision.is_some() || recording.sample_ratio >= 1.0)
    }

    /// Records an attempt that has ended.
    pub fn attempt(&self, attempt: &AttemptTrace<'_>) {
        if let Some(recording) = &self.0 {
            recording.send(attempt.spans(&recording.times()));
        }
    }
}

impl Recording {
    fn times(&self) -> Times {
        Times::new(Instant::now(), self.clock.now())
    }

    /// Queues spans. Never waits.
    fn send(&self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        if self.queue.try_send(spans).is_err() {
            self.overflow.fetch_add(count, Ordering::Relaxed);
            metrics::spans_dropped(SpansDropped::QueueFull, count);
        }
    }
}

impl Exporting {
    /// Exports what is queued, for 2 s at most.
    pub async fn finish(mut self) {
        self.stop.cancel();
        if tokio::time::timeout(LAST_EXPORT, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use nas_cron_base::clock::ManualClock;

    use super::*;
    use crate::metrics::tests::counted;

    fn recording(sample_ratio: f64, queue: usize) -> (Traces, mpsc::Receiver<Vec<Span>>) {
        let (queue, waiting) = mpsc::channel(queue);
        let clock = Arc::new(ManualClock::at(chrono::DateTime::UNIX_EPOCH));
        let recording = Recording { queue, overflow: Arc::default(), clock, sample_ratio };
        (Traces(Some(Arc::new(recording))), waiting)
    }

    #[test]
    fn caller_decides_whether_its_request_is_recorded_and_chance_otherwise() {
        let caller = |sampled| Some(TraceContext { trace_id: 1, span_id: 2, sampled });
        let (all, _all) = recording(1.0, 1);
        assert!(all.request(None).is_some() && all.request(caller(false)).is_none());
        let (none, _none) = recording(0.0, 1);
        assert!(none.request(None).is_none());
        let trace = none.request(caller(true)).unwrap();
        assert_eq!(trace.context().trace_id, 1);
        assert_ne!(trace.context().span_id, 2);
        assert!(Traces::off().request(caller(true)).is_none());
    }

    #[test]
    fn attempts_of_recorded_provisions_are_recorded() {
        let provision = Some(TraceContext { trace_id: 1, span_id: 2, sampled: true });
        let (all, _all) = recording(1.0, 1);
        assert!(all.records_attempt(None) && all.records_attempt(provision));
        let (some, _some) = recording(0.5, 1);
        assert!(!some.records_attempt(None) && some.records_attempt(provision));
        assert!(!Traces::off().records_attempt(provision));
    }

    #[test]
    fn spans_are_dropped_and_counted_while_the_queue_is_full() {
        let (traces, mut waiting) = recording(1.0, 1);
        let counted = counted(|| {
            for _ in 0..3 {
                drop(traces.request(None));
            }
        });
        assert!(counted.contains("nas_cron_spans_dropped_total{reason=\"queue_full\"} 2"), "{counted}");
        assert_eq!(waiting.try_recv().unwrap().len(), 1);
    }
}
