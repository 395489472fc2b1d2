//! One attempt, from the confirmed row to its end: mint a token, POST it to the agent, judge the answer.
//!
//! Nothing here touches the database: the caller has confirmed the attempt, and records how it ended.

pub mod address_policy;
pub mod answer;
pub mod backoff;
pub mod client;
pub mod outcome;
mod redact;
mod resolver;
pub mod shortage;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nas_cron_protocol::fire::FireBody;
use secrecy::ExposeSecret;

use self::backoff::{Next, RetryPolicy};
use self::client::AgentClient;
use self::outcome::{Outcome, Reach, Verdict};
use self::shortage::Shortage;
use crate::domain::attempt::{Attempt, Ended};
use crate::domain::{FireOutcome, Deferral};
use crate::keys::fire_token::FireSubject;
use crate::keys::key_ring::KeyRing;

/// The longest `Retry-After` that a pull forward respects (docs/contract.md#retries).
const RETRY_AFTER_KEPT: Duration = Duration::from_mins(1);

/// What it takes to fire.
#[derive(Debug)]
pub struct Firing {
    /// The way out to agents.
    pub client: AgentClient,
    /// Who signs.
    pub keys: Arc<KeyRing>,
    /// When to try again.
    pub retry: RetryPolicy,
    /// One deadline over connect, headers and body.
    pub timeout: Duration,
}

/// How an attempt ended.
#[derive(Debug)]
pub enum End {
    /// It was made.
    Made {
        /// What to record.
        ended: Ended,
        /// What it says about the instance.
        reach: Reach,
    },
    /// Nothing was sent, and the agent has no part in that: it does not count as an attempt.
    NotSent {
        /// Why, in one of our words.
        reason: Deferral,
        /// Why, in the words of what failed.
        cause: String,
    },
}

impl Firing {
    /// Makes the attempt. Its lease is checked by the monotonic clock right before the POST is written: a process
    /// that was stopped for a while must not send what another replica may hold by now.
    pub async fn fire(&self, attempt: &Attempt) -> End {
        let auth = attempt.auth.as_ref().map(|found| &found.auth);
        let subject = FireSubject {
            instance_id: &attempt.instance_id,
            job_id: &attempt.job_id,
            fire_at: &attempt.fire_at,
            auth,
        };
        let token = match self.keys.mint(subject) {
            Ok(token) => token,
            Err(error) => return End::NotSent { reason: Deferral::SigningKey, cause: error.to_string() },
        };
        let body = FireBody::new(&attempt.job_id, &attempt.fire_at, auth);
        let body = match serde_json::to_vec(&body) {
            Ok(body) => Bytes::from(body),
            Err(error) => return End::NotSent { reason: Deferral::Defect, cause: error.to_string() },
        };
        if Instant::now() + self.timeout > attempt.lease_ends {
            let cause = "too little of its lease was left".to_owned();
            return End::NotSent { reason: Deferral::Lease, cause };
        }
        let answer = self
            .client
            .post_fire(attempt.callback_url.url(), token.expose_secret(), body, self.timeout)
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(Shortage { reason, cause }) => return End::NotSent { reason, cause },
        };
        let outcome = outcome::judge(&answer);
        End::Made { reach: outcome.reach, ended: self.conclude(attempt, outcome, rand::random()) }
    }

    /// What a failure of our own making (a panic) is recorded as: the agent may have got the fire.
    pub fn broken(&self, attempt: &Attempt) -> Ended {
        let outcome = Outcome {
            verdict: Verdict::Retry { kind: backoff::RetryKind::Ambiguous, retry_after: None },
            reach: Reach::Unknown,
            status: None,
            error: Some("internal error".to_owned()),
        };
        self.conclude(attempt, outcome, rand::random())
    }

    /// Turns the judgement into what is recorded: when to try again, or that it is given up.
    fn conclude(&self, attempt: &Attempt, outcome: Outcome, jitter: f64) -> Ended {
        let (fire_outcome, retry_in, retry_after) = match outcome.verdict {
            Verdict::Delivered => (FireOutcome::Delivered, None, None),
            Verdict::Gone => (FireOutcome::Gone, None, None),
            Verdict::Retry { kind, retry_after } => {
                let next = self.retry.next(attempt.attempt, kind, retry_after, attempt.retrying_for, jitter);
                let retry_in = match next {
                    Next::After(delay) => Some(delay),
                    Next::GiveUp => None,
                };
                (FireOutcome::Failed, retry_in, retry_after.map(|asked| asked.min(RETRY_AFTER_KEPT)))
            }
        };
        Ended {
            attempt_id: attempt.attempt_id,
            outcome: fire_outcome,
            http_status: outcome.status,
            error: outcome.error,
            retry_in,
            retry_after,
        }
    }
}
