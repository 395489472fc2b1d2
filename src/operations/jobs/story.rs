//! The whole story of a job: its one-shots, its attempts, and what operators have done.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc, Weekday};
use nas_cron_protocol::admin_api::{Attempt, JobDetails};
use nas_cron_protocol::{FireOutcome, InstanceId, JobId};

use super::history::cursor_after;
use super::why::Reason;
use crate::db::{audit, circumstances};
use crate::domain::HoldScope;
use crate::domain::audit::{AuditFilter, AuditLine};
use crate::domain::recurrence::{CONSIDERED, Expectation, PastArm, expectation, weekdays};
use crate::operations::{OperationResult, Operations};

/// Maximum number of attempts. [`Operations::attempts`] has the earlier ones.
pub const ATTEMPTS: u32 = 100;
/// Maximum number of lines of the audit log of one kind.
const LINES: i64 = 100;

/// A job with its history.
#[derive(Clone, Debug)]
pub struct JobStory {
    /// The job, the explanation of why it has not fired, and its latest attempts.
    pub details: JobDetails,
    /// The same explanation in parts.
    pub reason: Reason,
    /// Cursor of the attempts before these; `None` if there are none.
    pub earlier: Option<String>,
    /// Its recurrence and its next fire after the latest delivery, if its history shows them.
    pub recurrence: Option<Expectation>,
    /// The days of the week of its latest fires.
    pub weekdays: Vec<Weekday>,
    /// True if the job itself is on hold.
    pub is_held: bool,
    /// Changes by operators, the latest first.
    pub changes: Vec<AuditLine>,
}

impl Operations {
    /// Returns a job with its history.
    pub async fn job_story(&self, instance_id: &InstanceId, job_id: &JobId) -> OperationResult<JobStory> {
        let (mut details, reason) = self.explained(instance_id, job_id, ATTEMPTS + 1).await?;
        let more = details.attempts.len() > ATTEMPTS as usize;
        details.attempts.truncate(ATTEMPTS as usize);
        let last = details.attempts.last().filter(|_| more);
        let earlier = last.map(|last| cursor_after(instance_id, job_id, last));
        let around = circumstances::of_job(&self.db, instance_id, job_id).await?;
        let is_held = around.holds.iter().any(|hold| hold.scope == HoldScope::Job);
        let arms = past_arms(&details.attempts);
        let delivered_at = arms.iter().filter_map(|arm| arm.delivered_at).max();
        let recurrence = delivered_at.and_then(|delivered_at| expectation(&arms, delivered_at));
        let about = |subject: String, instance_id: Option<&InstanceId>| AuditFilter {
            subject: Some(subject),
            instance_id: instance_id.cloned(),
            within: self.org().cloned(),
            ..AuditFilter::default()
        };
        let of_job = about(format!("job_id={job_id}"), Some(instance_id));
        // The line of a redrive of selected jobs names each of them.
        let of_several = about(format!("job={instance_id}/{job_id}"), None);
        let mut changes = audit::list(&self.db, &of_job, None, LINES).await?;
        changes.extend(audit::list(&self.db, &of_several, None, LINES).await?);
        changes.sort_unstable_by_key(|line| std::cmp::Reverse(line.id));
        Ok(JobStory { details, reason, earlier, recurrence, weekdays: weekdays(&arms), is_held, changes })
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
