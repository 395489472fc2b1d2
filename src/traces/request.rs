//! The trace of a request of the agent API.

use std::sync::Arc;
use std::time::Instant;

use nas_cron_protocol::{InstanceId, JobId, ScheduleId};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use parking_lot::Mutex;

use super::Recording;
use super::span::{continue_from, count, fail, span, step, text};
use crate::domain::stage::Stage;
use crate::domain::trace_context::TraceContext;

/// A request that is recorded. Clones note more about it; the spans are queued when the last one is dropped.
#[derive(Clone, Debug)]
pub struct RequestTrace(Arc<Request>);

#[derive(Debug)]
struct Request {
    recording: Arc<Recording>,
    context: TraceContext,
    caller: Option<TraceContext>,
    began: Instant,
    noted: Mutex<Noted>,
}

#[derive(Debug, Default)]
struct Noted {
    name: String,
    attributes: Vec<KeyValue>,
    status: Option<u16>,
    steps: Vec<(&'static str, Stage)>,
}

impl RequestTrace {
    pub(super) fn begin(recording: Arc<Recording>, caller: Option<TraceContext>) -> Self {
        let trace_id = caller.map_or_else(|| rand::random::<u128>().max(1), |caller| caller.trace_id);
        let context = TraceContext { trace_id, span_id: rand::random::<u64>().max(1), sampled: true };
        Self(Arc::new(Request { recording, context, caller, began: Instant::now(), noted: Mutex::default() }))
    }

    /// Returns the request's span.
    pub fn context(&self) -> TraceContext {
        self.0.context
    }

    /// Notes what was requested. `request_id` is that of the log lines.
    pub fn requested(&self, method: &str, route: &str, request_id: &str) {
        let mut noted = self.0.noted.lock();
        noted.name = format!("{method} {route}");
        noted.attributes.extend([
            text("http.request.method", method),
            text("http.route", route),
            text("request.id", request_id),
        ]);
    }

    /// Notes a step that began then and ends now.
    pub fn step(&self, name: &'static str, began: Instant) {
        self.0.noted.lock().steps.push((name, Stage::since(began)));
    }

    /// Notes the one-shot that the request armed.
    pub fn armed(&self, instance_id: &InstanceId, job_id: &JobId, schedule_id: ScheduleId) {
        self.0.noted.lock().attributes.extend([
            text("agent.id", instance_id.as_str()),
            text("job.id", job_id.as_str()),
            text("schedule.id", schedule_id.to_string()),
        ]);
    }

    /// Notes the status of the response. Without one, the caller has disconnected.
    pub fn answered(&self, status: u16) {
        self.0.noted.lock().status = Some(status);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let times = self.recording.times();
        let Noted { name, attributes, status, steps } = std::mem::take(self.noted.get_mut());
        let stage = Stage::since(self.began);
        let mut server = span(self.context, None, SpanKind::Server, name, stage, &times);
        server.attributes = attributes;
        if let Some(caller) = self.caller {
            continue_from(&mut server, caller);
        }
        match status {
            Some(status) => {
                server.attributes.push(count("http.response.status_code", status));
                // A 4xx is the caller's fault: by the conventions of OpenTelemetry, no error of a server.
                if status >= 500 {
                    fail(&mut server, "");
                }
            }
            None => fail(&mut server, "the caller disconnected before the response"),
        }
        let steps = steps.into_iter().map(|(name, stage)| step(self.context, name, stage, &times));
        let spans = std::iter::once(server).chain(steps).collect();
        self.recording.send(spans);
    }
}
