//! Fields of a request's span, and so of all its log lines, that are known only while the request is handled.

use nas_cron_protocol::{InstanceId, JobId, ScheduleId};
use tracing::Span;
use tracing::field::Empty;

use crate::domain::trace_context::TraceContext;

/// Returns the span of a request, with empty fields for what is not known yet.
pub(super) fn span(request_id: &str, method: &axum::http::Method, route: &str) -> Span {
    tracing::info_span!(
        "request",
        request.id = request_id,
        http.method = %method,
        http.route = route,
        agent.id = Empty,
        job.id = Empty,
        schedule.id = Empty,
        admin.actor = Empty,
        trace.id = Empty,
    )
}

/// Adds the instance that the request belongs to.
pub(super) fn agent(instance_id: &InstanceId) {
    Span::current().record("agent.id", instance_id.as_str());
}

/// Adds the job that the request is about.
pub(super) fn job(job_id: &JobId) {
    Span::current().record("job.id", job_id.as_str());
}

/// Adds the arm that the request created or is about.
pub(super) fn schedule(schedule_id: ScheduleId) {
    Span::current().record("schedule.id", tracing::field::display(schedule_id));
}

/// Adds the trace that the request belongs to.
pub(super) fn trace(span: &Span, context: TraceContext) {
    span.record("trace.id", tracing::field::display(format_args!("{:032x}", context.trace_id)));
}

/// Adds the caller of the admin API.
pub(super) fn actor(name: &str) {
    Span::current().record("admin.actor", name);
}
