//! The whole story of a job: its one-shots, its attempts, and what operators have done.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc, Weekday};
use nas_cron_protocol::admin_api::{Attempt, JobDetails};
use nas_cron_protocol::{FireOutcome, InstanceId, JobId};

use crate::db::audit;
use crate::domain::audit::{AuditFilter, AuditLine};
use crate::domain::recurrence::{CONSIDERED, Expectation, PastArm, expectation, weekdays};
use crate::operations::{OperationResult, Operations};

/// Maximum number of attempts.
const ATTEMPTS: u32 = 100;
/// Maximum number of lines of the audit log that are examined.
const LINES: i64 = 100;

/// A job with its history.
#[derive(Clone, Debug)]
pub struct JobStory {
    /// The job, the explanation of why it has not fired, and its latest attempts.
    pub details: JobDetails,
    /// Its recurrence and its next fire after the latest delivery, if its history shows them.
    pub recurrence: Option<Expectation>,
    /// The days of the week of its latest fires.
    pub weekdays: Vec<Weekday>,
    /// Changes by operators, the latest first.
    pub changes: Vec<AuditLine>,
}

impl Operations {
    /// Returns a job with its history.
    pub async fn job_story(&self, instance_id: &InstanceId, job_id: &JobId) -> OperationResult<JobStory> {
        let details = self.job(instance_id, job_id, ATTEMPTS).await?;
        let arms = past_arms(&details.attempts);
        let delivered_at = arms.iter().filter_map(|arm| arm.delivered_at).max();
        let recurrence = delivered_at.and_then(|delivered_at| expectation(&arms, delivered_at));
        let filter = AuditFilter {
            subject: Some(format!("job_id={job_id}")),
            within: self.org().cloned(),
            ..AuditFilter::default()
        };
        let lines = audit::list(&self.db, &filter, None, LINES).await?;
        let is_of_agent = |line: &AuditLine| {
            line.subject.get("instance_id").is_some_and(|agent| agent == instance_id.as_str())
        };
        let changes = lines.into_iter().filter(is_of_agent).collect();
        Ok(JobStory { details, recurrence, weekdays: weekdays(&arms), changes })
    }
}

/// Returns the one-shots of attempts, the oldest first.
fn past_arms(attempts: &[Attempt]) -> Vec<PastArm> {
    let mut arms: BTreeMap<(DateTime<Utc>, uuid::Uuid), PastArm> = BTreeMap::new();
    for attempt in attempts {
        let accepted =
            matches!(attempt.outcome, FireOutcome::Delivered | FireOutcome::Dropped | FireOutcome::Duplicate);
        let delivered_at = accepted.then_some(attempt.ended_at);
        let arm = arms.entry((attempt.fire_at, attempt.schedule_id.0)).or_insert(PastArm {
            fire_at: attempt.fire_at,
            armed_at: attempt.armed_at,
            delivered_at: None,
        });
        arm.armed_at = arm.armed_at.or(attempt.armed_at);
        arm.delivered_at = arm.delivered_at.max(delivered_at);
    }
    let arms: Vec<_> = arms.into_values().collect();
    arms[arms.len().saturating_sub(CONSIDERED)..].to_vec()
}
