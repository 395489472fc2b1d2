//! One delivery attempt, after its confirmation: mint a token, POST the fire to the agent, judge the response.
//!
//! Nothing here uses the database: the caller confirms the attempt before and records its outcome afterwards.

pub mod address_policy;
pub mod answer;
pub mod authorities;
pub mod backoff;
mod classify;
pub mod client;
pub mod connections;
pub mod outcome;
pub(crate) mod redact;
mod resolver;
pub mod shortage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nas_cron_protocol::fire::FireBody;
use secrecy::ExposeSecret;

use self::answer::{Answer, Refused};
use self::backoff::{Next, RetryKind, RetryPolicy};
use self::client::{AgentClient, Fire};
use self::outcome::{Outcome, Reach, Verdict};
use self::shortage::Shortage;
use crate::domain::attempt::{Attempt, Ended, Steps};
use crate::domain::stage::Stage;
use crate::domain::trace_context::TraceContext;
use crate::domain::{Deferral, FireOutcome};
use crate::keys::fire_token::FireSubject;
use crate::keys::key_ring::KeyRing;
use crate::membership::Membership;

/// The reason for which a replica without a valid [`Membership`] makes no attempt.
pub const UNREGISTERED: &str = "this replica could not renew its registration in the database";

/// The parts that a delivery attempt uses.
#[derive(Debug)]
pub struct Firing {
    /// The HTTP client for agents.
    pub client: AgentClient,
    /// The keys that sign fire tokens.
    pub keys: Arc<KeyRing>,
    /// The limits of retries.
    pub retry: RetryPolicy,
    /// Timeout of the whole attempt: connect, status and body.
    pub timeout: Duration,
}

/// The end of an attempt.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one value per attempt")]
pub enum End {
    /// The attempt was made.
    Made {
        /// The outcome, for recording.
        ended: Ended,
        /// The reachability of the instance.
        reach: Reach,
        /// The times of its steps.
        steps: Steps,
    },
    /// The attempt was deferred: nothing was sent, for a reason that the agent did not cause. It does not count as an
    /// attempt.
    NotSent {
        /// The reason.
        reason: Deferral,
        /// The error text of the failed operation.
        cause: String,
    },
}

impl Firing {
    /// Makes the attempt. Its lease and the membership are checked with the monotonic clock right before the POST is
    /// written: after a pause of this process, another replica may hold the one-shot. The attempt is aborted when the
    /// membership lapses. `trace` is the span of the request, which the agent gets as `traceparent`.
    pub async fn fire(&self, attempt: &Attempt, trace: TraceContext, membership: &Membership) -> End {
        let began = Instant::now();
        let auth = attempt.auth.as_ref().map(|found| &found.auth);
        let subject = FireSubject {
            attempt_id: attempt.attempt_id,
            instance_id: &attempt.instance_id,
            job_id: &attempt.job_id,
            fire_at: &attempt.fire_at,
            auth,
        };
        let token = match self.keys.mint(subject) {
            Ok(token) => token,
            Err(error) => return End::NotSent { reason: Deferral::SigningKey, cause: error.to_string() },
        };
        let minted = Stage::since(began);
        let body = FireBody::new(&attempt.job_id, &attempt.fire_at, auth);
        let body = match serde_json::to_vec(&body) {
            Ok(body) => Bytes::from(body),
            Err(error) => return End::NotSent { reason: Deferral::Defect, cause: error.to_string() },
        };
        if Instant::now() + self.timeout > attempt.lease_ends {
            let cause = "the rest of its lease was shorter than the attempt's timeout".to_owned();
            return End::NotSent { reason: Deferral::Lease, cause };
        }
        let fire = Fire { token: token.expose_secret(), body, attempt_id: attempt.attempt_id, trace };
        let sent = Instant::now();
        let answer = self.client.post_fire(attempt.callback_url.url(), fire, self.timeout, membership).await;
        let steps = Steps { token: minted, callback: Stage::since(sent) };
        let answer = match answer {
            Ok(answer) => answer,
            Err(Shortage { reason, cause }) => return End::NotSent { reason, cause },
        };
        let mut outcome = outcome::judge(&answer);
        let unreachable = outcome.opens_outage() || matches!(answer, Answer::Refused(Refused::Address(_)));
        if attempt.follows_gone && unreachable {
            outcome = outcome.as_gone();
        }
        End::Made { reach: outcome.reach, ended: self.conclude(attempt, outcome, rand::random()), steps }
    }

    /// Returns the outcome of an attempt that panicked: the agent may have received the fire.
    pub fn broken(&self, attempt: &Attempt) -> Ended {
        let outcome = Outcome {
            verdict: Verdict::Retry { kind: RetryKind::Ambiguous, retry_after: None },
            reach: Reach::Unknown,
            status: None,
            error: Some("internal error".to_owned()),
            answer: None,
        };
        self.conclude(attempt, outcome, rand::random())
    }

    /// Converts a judged result to the outcome for recording, with the next retry.
    fn conclude(&self, attempt: &Attempt, outcome: Outcome, jitter: f64) -> Ended {
        let ambiguous = matches!(outcome.verdict, Verdict::Retry { kind: RetryKind::Ambiguous, .. });
        let (fire_outcome, retry_in, retry_after) = match outcome.verdict {
            Verdict::Delivered => (FireOutcome::Delivered, None, None),
            Verdict::Gone => (FireOutcome::Gone, None, None),
            Verdict::Dropped => (FireOutcome::Dropped, None, None),
            Verdict::Duplicate => (FireOutcome::Duplicate, None, None),
            Verdict::Retry { kind, retry_after } => {
                let next = self.retry.next(attempt.attempt, kind, retry_after, attempt.retrying_for, jitter);
                let retry_in = match next {
                    Next::After(delay) => Some(delay),
                    Next::GiveUp => None,
                };
                (FireOutcome::Failed, retry_in, retry_after)
            }
        };
        Ended {
            attempt: attempt.started(),
            outcome: fire_outcome,
            http_status: outcome.status,
            error: outcome.error,
            answer: outcome.answer,
            ambiguous,
            retry_in,
            retry_after,
        }
    }
}
