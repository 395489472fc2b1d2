//! Spans as OTLP has them.

use std::time::Instant;

use chrono::{DateTime, Utc};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};

use crate::domain::stage::Stage;
use crate::domain::trace_context::TraceContext;

/// `SpanFlags` of the protocol: the flags say whether the parent is on another machine, and it is.
const PARENT_IS_REMOTE: u32 = 0x300;

/// Converts times of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    here: Instant,
    there: DateTime<Utc>,
}

impl Times {
    /// `here` is the time `there`.
    pub(super) fn new(here: Instant, there: DateTime<Utc>) -> Self {
        Self { here, there }
    }

    fn nanos(&self, at: Instant) -> u64 {
        let ago = i64::try_from(self.here.saturating_duration_since(at).as_nanos()).unwrap_or(i64::MAX);
        nanos(self.there).saturating_sub_signed(ago)
    }
}

fn nanos(at: DateTime<Utc>) -> u64 {
    at.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or_default()
}

/// Returns a span without attributes.
pub(super) fn span(
    context: TraceContext,
    parent: Option<u64>,
    kind: SpanKind,
    name: impl Into<String>,
    stage: Stage,
    times: &Times,
) -> Span {
    Span {
        trace_id: context.trace_id.to_be_bytes().to_vec(),
        span_id: context.span_id.to_be_bytes().to_vec(),
        parent_span_id: parent.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: u32::from(context.sampled),
        name: name.into(),
        kind: kind.into(),
        start_time_unix_nano: times.nanos(stage.began),
        end_time_unix_nano: times.nanos(stage.ended),
        ..Span::default()
    }
}

/// Returns a span of this process's own work below `parent`.
pub(super) fn step(parent: TraceContext, name: &'static str, stage: Stage, times: &Times) -> Span {
    // Zero means no span.
    let span_id = rand::random::<u64>().max(1);
    let context = TraceContext { span_id, ..parent };
    span(context, Some(parent.span_id), SpanKind::Internal, name, stage, times)
}

/// Marks a span whose parent is the caller's.
pub(super) fn continue_from(span: &mut Span, caller: TraceContext) {
    span.parent_span_id = caller.span_id.to_be_bytes().to_vec();
    span.flags |= PARENT_IS_REMOTE;
}

/// Marks a span as failed.
pub(super) fn fail(span: &mut Span, message: impl Into<String>) {
    span.status = Some(Status { code: StatusCode::Error.into(), message: message.into() });
}

/// Returns a link to another span, and what that is.
pub(super) fn link(to: TraceContext, relation: &str) -> Link {
    Link {
        trace_id: to.trace_id.to_be_bytes().to_vec(),
        span_id: to.span_id.to_be_bytes().to_vec(),
        attributes: vec![text("nas_cron.link", relation)],
        flags: u32::from(to.sampled),
        ..Link::default()
    }
}

/// Returns an instant of a span.
pub(super) fn event(name: &str, at: DateTime<Utc>) -> Event {
    Event { name: name.to_owned(), time_unix_nano: nanos(at), ..Event::default() }
}

/// Returns an attribute.
pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// Returns an attribute with a whole number.
pub(super) fn count(key: &str, value: impl Into<i64>) -> KeyValue {
    attribute(key, Value::IntValue(value.into()))
}

/// Returns an attribute with a fraction.
pub(super) fn fraction(key: &str, value: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_those_of_the_given_clock() {
        let (now, there) = (Instant::now(), DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let times = Times::new(now, there);
        let stage = Stage { began: now.checked_sub(Duration::from_millis(1_500)).unwrap(), ended: now };
        let context = TraceContext { trace_id: 0x0102, span_id: 3, sampled: true };
        let span = span(context, Some(4), SpanKind::Internal, "work", stage, &times);
        assert_eq!(span.start_time_unix_nano, 1_799_999_998_500_000_000);
        assert_eq!(span.end_time_unix_nano, 1_800_000_000_000_000_000);
        assert_eq!(
            (span.trace_id.len(), &span.trace_id[14..], &span.span_id[7..]),
            (16, &[1, 2][..], &[3][..])
        );
        assert_eq!((span.parent_span_id, span.flags), (4_u64.to_be_bytes().to_vec(), 1));
    }
}
