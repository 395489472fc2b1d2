//! The trace of a delivery attempt: wake-up, claim, wait, confirmation, token, request to the agent, outcome.

use nas_cron_protocol::OneShotState;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

use super::span::{Times, count, event, fail, fraction, link, span, step, text};
use crate::domain::attempt::{Attempt, Ended, Steps};
use crate::domain::lease::Lease;
use crate::domain::stage::Stage;
use crate::domain::trace_context::TraceContext;
use crate::domain::{Deferral, FireOutcome};

/// An attempt that has ended, with the times of its steps.
#[derive(Clone, Copy, Debug)]
pub struct AttemptTrace<'a> {
    /// Its lease.
    pub lease: &'a Lease,
    /// The attempt.
    pub attempt: &'a Attempt,
    /// The statement that confirmed it.
    pub confirmation: Stage,
    /// The steps of the attempt, if it was made.
    pub steps: Option<Steps>,
    /// Its end.
    pub end: End<'a>,
}

/// The end of an attempt.
#[derive(Clone, Copy, Debug)]
pub enum End<'a> {
    /// Its outcome was recorded.
    Recorded {
        /// The outcome.
        ended: &'a Ended,
        /// The recording, until it was durable.
        recording: Stage,
        /// State of the one-shot afterwards; `None` if it was superseded or cancelled.
        state: Option<OneShotState>,
    },
    /// Nothing was sent, for a reason that the agent did not cause.
    Deferred(Deferral),
}

impl AttemptTrace<'_> {
    pub(super) fn spans(&self, times: &Times) -> Vec<Span> {
        let Self { lease, attempt, confirmation, steps, end } = *self;
        let root = TraceContext::of_attempt(attempt.attempt_id, true);
        let whole = Stage::since(lease.woken_at.unwrap_or(lease.claim.began));
        let mut fire = span(root, None, SpanKind::Internal, "fire", whole, times);
        let lateness = (attempt.started_at - attempt.due_at).as_seconds_f64() * 1e3;
        fire.attributes.extend([
            text("agent.id", attempt.instance_id.as_str()),
            text("job.id", attempt.job_id.as_str()),
            text("schedule.id", attempt.schedule_id.to_string()),
            text("fire.attempt_id", attempt.attempt_id.to_string()),
            count("fire.attempt", attempt.attempt),
            fraction("fire.lateness_ms", lateness),
        ]);
        fire.events.push(event("due", attempt.due_at));
        fire.links.extend(attempt.provision_trace.map(|provision| link(provision, "provision")));
        let retries = lease.retries.map(|before| TraceContext::of_attempt(before, true));
        fire.links.extend(retries.map(|before| link(before, "retries")));

        let mut spans = Vec::with_capacity(8);
        let wake_up =
            lease.woken_at.map(|arrived| ("wake-up", Stage { began: arrived, ended: lease.claim.began }));
        // Until its instant, and then for a slot.
        let wait = Stage { began: lease.claim.ended, ended: confirmation.began };
        let before = [("claim", lease.claim), ("wait", wait), ("confirm", confirmation)];
        let token = steps.map(|steps| ("token", steps.token));
        let own = wake_up.into_iter().chain(before).chain(token);
        spans.extend(own.map(|(name, stage)| step(root, name, stage, times)));
        match end {
            End::Recorded { ended, recording, state } => {
                spans.extend(steps.map(|steps| self.callback(steps.callback, ended, times)));
                spans.push(step(root, "record", recording, times));
                fire.attributes.push(text("fire.outcome", ended.outcome.as_str()));
                fire.attributes.extend(state.map(|state| text("one_shot.state", state.as_str())));
                if matches!(ended.outcome, FireOutcome::Failed | FireOutcome::Lost) {
                    fail(&mut fire, "");
                }
            }
            End::Deferred(reason) => {
                fire.attributes.push(text("fire.deferred", reason.as_str()));
                fail(&mut fire, "deferred");
            }
        }
        spans.push(fire);
        spans
    }

    /// The request to the agent: the parent of the agent's own span.
    fn callback(&self, stage: Stage, ended: &Ended, times: &Times) -> Span {
        let attempt = self.attempt;
        let (root, own) = (
            TraceContext::of_attempt(attempt.attempt_id, true),
            TraceContext::of_callback(attempt.attempt_id, true),
        );
        let mut callback = span(own, Some(root.span_id), SpanKind::Client, "POST", stage, times);
        callback.attributes.push(text("http.request.method", "POST"));
        // Not the path: it may be a secret of the agent's.
        let url = attempt.callback_url.url();
        callback.attributes.extend(url.host_str().map(|host| text("server.address", host)));
        callback.attributes.extend(url.port_or_known_default().map(|port| count("server.port", port)));
        match ended.http_status {
            Some(status) => {
                callback.attributes.push(count("http.response.status_code", status));
                if status >= 400 {
                    fail(&mut callback, "");
                }
            }
            None => fail(&mut callback, "no response"),
        }
        callback
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use chrono::DateTime;
    use nas_cron_protocol::{CallbackUrl, DedupKey, FireAt, InstanceId, JobId, ScheduleId};
    use uuid::Uuid;

    use super::*;

    const ATTEMPT: Uuid = Uuid::from_u128(0x7f3f_0c5e_0d5a_4f0a_9d1a_3f8f_5f0c_5e0d);

    /// A step from so many to so many milliseconds after `start`.
    fn stage(start: Instant, from: u64, to: u64) -> Stage {
        let at = |ms| start + Duration::from_millis(ms);
        Stage { began: at(from), ended: at(to) }
    }

    fn lease(start: Instant) -> Lease {
        Lease {
            instance_id: InstanceId::new("inst-1").unwrap(),
            job_id: JobId::new("job").unwrap(),
            lease_token: ATTEMPT,
            due_at: DateTime::UNIX_EPOCH,
            ends: start,
            claim: stage(start, 2, 3),
            woken_at: Some(start),
            retries: None,
        }
    }

    fn attempt(lease: &Lease) -> Attempt {
        Attempt {
            instance_id: lease.instance_id.clone(),
            job_id: lease.job_id.clone(),
            schedule_id: ScheduleId(ATTEMPT),
            dedup_key: DedupKey::new("key").unwrap(),
            attempt_id: ATTEMPT,
            fire_at: FireAt::parse("2026-06-18T12:34:56Z").unwrap(),
            callback_url: CallbackUrl::parse("https://agent.example:8443/secret-path").unwrap(),
            auth: None,
            attempt: 1,
            retrying_for: Duration::ZERO,
            due_at: DateTime::UNIX_EPOCH,
            late_since: None,
            armed_at: DateTime::UNIX_EPOCH,
            started_at: DateTime::UNIX_EPOCH,
            probes: false,
            follows_gone: false,
            provision_trace: None,
            lease_ends: lease.ends,
        }
    }

    #[test]
    fn wake_up_of_a_backend_is_the_first_step() {
        let start = Instant::now();
        let lease = lease(start);
        let trace = AttemptTrace {
            attempt: &attempt(&lease),
            lease: &lease,
            confirmation: stage(start, 8, 9),
            steps: None,
            end: End::Deferred(Deferral::SigningKey),
        };
        let times = Times::new(start, DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let spans = trace.spans(&times);
        let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["wake-up", "claim", "wait", "confirm", "fire"]);
        assert_eq!(spans[4].start_time_unix_nano, spans[0].start_time_unix_nano);
        assert!(format!("{:?}", spans[4].attributes).contains("signing_key"));
    }

    #[test]
    fn path_of_the_callback_is_not_exported() {
        let start = Instant::now();
        let lease = lease(start);
        let attempt = attempt(&lease);
        let ended = Ended {
            attempt: attempt.started(),
            outcome: FireOutcome::Failed,
            http_status: Some(503),
            error: Some("an error text of the agent".to_owned()),
            answer: None,
            ambiguous: false,
            retry_in: None,
            retry_after: None,
        };
        let steps = Steps { token: stage(start, 9, 10), callback: stage(start, 10, 20) };
        let trace = AttemptTrace {
            lease: &lease,
            attempt: &attempt,
            confirmation: stage(start, 8, 9),
            steps: Some(steps),
            end: End::Recorded { ended: &ended, recording: stage(start, 20, 21), state: None },
        };
        let spans = trace.spans(&Times::new(start, DateTime::UNIX_EPOCH));
        let shown = format!("{spans:?}");
        assert!(shown.contains("agent.example") && shown.contains("IntValue(8443)"), "{shown}");
        assert!(!shown.contains("secret-path") && !shown.contains("error text"), "{shown}");
    }
}
