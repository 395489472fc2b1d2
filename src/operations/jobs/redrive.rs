//! Redrives dead letters, batch by batch.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::admin_api::RedriveReport;
use nas_cron_protocol::{InstanceId, InvalidField, JobId, OneShotState, ScheduleId};
use serde::{Deserialize, Serialize};

use super::{list, unknown};
use crate::db::{directory, hints, jobs};
use crate::directory::again;
use crate::domain::job::{JobKey, JobPosition};
use crate::domain::job_filter::JobFilter;
use crate::operations::{OperationError, OperationResult, Operations, cursor};

/// Number of one-shots of one statement, and of one request.
const BATCH: u32 = 2_000;
/// Maximum number of one-shots that a dry run counts.
const COUNTED: i64 = 100_000;
/// Maximum number of statements of a dry run: enough for [`COUNTED`] one-shots if all of them match.
const COUNTING: u32 = 50;
/// Maximum number of jobs in a list of selected jobs.
pub const SELECTED_MAX: usize = 1_000;

/// The subjects of a redrive.
#[derive(Clone, Debug)]
pub enum RedriveOf {
    /// These jobs. Those that are neither dead nor stuck are left alone.
    Jobs(Vec<JobKey>),
    /// All dead letters that a filter selects, and stuck one-shots if it names that state.
    Matching(Box<JobFilter>),
}

/// A redrive.
#[derive(Clone, Debug)]
pub struct Redrive {
    /// Its subjects.
    pub of: RedriveOf,
    /// Maximum number of redriven one-shots that fire per second and agent, from 1.
    pub per_second: u32,
}

/// The progress of a redrive, in a cursor: its beginning, and the last one-shot.
#[derive(Serialize, Deserialize)]
struct Progress(i64, String, String);

impl Redrive {
    fn pace(&self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }
}

impl Operations {
    /// Redrives the dead or stuck one-shot of a job. Fails if it is neither, so that a repeated request has one effect.
    pub async fn redrive_job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
    ) -> OperationResult<RedriveReport> {
        let key = JobKey { instance_id: instance_id.to_string(), job_id: job_id.to_string() };
        let wanted = Redrive { of: RedriveOf::Jobs(vec![key]), per_second: 1 };
        let report = self.redrive(&wanted, None).await?;
        if report.redriven > 0 {
            return Ok(report);
        }
        let job = self.current(instance_id, job_id).await?.ok_or_else(|| unknown(instance_id, job_id))?;
        Err(not_redrivable(instance_id, job_id, job.state))
    }

    /// Fails unless `schedule_id` is the job's current one-shot, and it is dead or stuck.
    pub async fn require_redrivable(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        schedule_id: ScheduleId,
    ) -> OperationResult<()> {
        let job = self.seen(instance_id, job_id, schedule_id).await?;
        match job.state {
            OneShotState::Dead | OneShotState::Stuck => Ok(()),
            state => Err(not_redrivable(instance_id, job_id, state)),
        }
    }

    /// Redrives the one-shot `schedule_id` of a job. Fails if it is not the job's current one, or neither dead nor stuck.
    pub async fn redrive_one_shot(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        schedule_id: ScheduleId,
    ) -> OperationResult<RedriveReport> {
        self.seen(instance_id, job_id, schedule_id).await?;
        self.redrive_job(instance_id, job_id).await
    }

    /// Redrives one batch, after the cursor `after` of the previous one. The report has the cursor of the next one.
    pub async fn redrive(&self, wanted: &Redrive, after: Option<&str>) -> OperationResult<RedriveReport> {
        match &wanted.of {
            RedriveOf::Jobs(keys) => {
                let now = directory::now(&self.db).await?;
                self.redrive_batch(keys, now, wanted.pace()).await
            }
            RedriveOf::Matching(filter) => self.redrive_next(filter, wanted.pace(), after).await,
        }
    }

    async fn redrive_next(
        &self,
        filter: &JobFilter,
        pace: Duration,
        after: Option<&str>,
    ) -> OperationResult<RedriveReport> {
        let Some(filter) = self.visible(&redrivable(filter)?) else { return Ok(RedriveReport::default()) };
        let of = list::fingerprint(&filter);
        let progress = after.map(|after| cursor::decode::<Progress>(&of, after)).transpose()?;
        let now = directory::now(&self.db).await?;
        let (begun, after) = match progress {
            None => (now, None),
            Some(Progress(begun, instance_id, job_id)) => {
                // One that fails again meanwhile has ended later, and is left alone.
                let begun = cursor::time(begun)?.min(now);
                (begun, Some(JobPosition { at: None, key: JobKey { instance_id, job_id } }))
            }
        };
        let selected = jobs::select(&self.db, &filter, after.as_ref(), BATCH).await?;
        let report = self.redrive_batch(&selected.keys, begun, pace).await?;
        let next = selected.next.map(|next| {
            let JobKey { instance_id, job_id } = next.key;
            cursor::encode(&of, &Progress(begun.timestamp_micros(), instance_id, job_id))
        });
        Ok(RedriveReport { next, ..report })
    }

    async fn redrive_batch(
        &self,
        keys: &[JobKey],
        begun: DateTime<Utc>,
        pace: Duration,
    ) -> OperationResult<RedriveReport> {
        let redriven = again(|| jobs::redrive(&self.db, keys, self.org(), begun, pace)).await?;
        if redriven.count > 0 {
            hints::announce(&self.db).await?;
        }
        let (redriven, last_starts_at) = (redriven.count, redriven.last_starts_at);
        Ok(RedriveReport { redriven, last_starts_at, ..RedriveReport::default() })
    }

    /// Counts the one-shots that a redrive of what `filter` selects would change. Examines a limited number: `more` is true if
    /// others may follow.
    pub async fn redrivable(&self, filter: &JobFilter) -> OperationResult<RedriveReport> {
        let (count, more) = self.count_jobs(&redrivable(filter)?, COUNTING).await?;
        Ok(RedriveReport {
            dry_run: true,
            redrivable: Some(count),
            more: Some(more),
            ..RedriveReport::default()
        })
    }

    /// Counts the jobs that a filter selects, with at most `statements` statements, each of which examines a limited number of
    /// one-shots. Returns true beside the count if others may follow.
    pub async fn count_jobs(&self, filter: &JobFilter, statements: u32) -> OperationResult<(i64, bool)> {
        let Some(filter) = self.visible(filter) else { return Ok((0, false)) };
        let (mut count, mut after, mut left) = (0, None, statements);
        loop {
            left = left.saturating_sub(1);
            let selected = jobs::select(&self.db, &filter, after.as_ref(), BATCH).await?;
            count += i64::try_from(selected.keys.len()).unwrap_or(i64::MAX);
            after = selected.next;
            if after.is_none() || count >= COUNTED || left == 0 {
                return Ok((count, after.is_some()));
            }
        }
    }
}

fn not_redrivable(instance_id: &InstanceId, job_id: &JobId, state: OneShotState) -> OperationError {
    OperationError::Conflict(format!(
        "job {job_id} of agent {instance_id} is {state}, neither dead nor stuck"
    ))
}

/// Returns the filter of what may be redriven: dead letters, unless it names the states.
fn redrivable(filter: &JobFilter) -> Result<JobFilter, InvalidField> {
    let mut filter = filter.clone();
    if filter.states.is_empty() && !filter.dormant {
        filter.states = vec![OneShotState::Dead];
    }
    let badly = |state: &OneShotState| matches!(state, OneShotState::Dead | OneShotState::Stuck);
    if !filter.dormant && filter.states.iter().all(badly) {
        Ok(filter)
    } else {
        Err(InvalidField::new("state", "only dead and stuck one-shots can be redriven"))
    }
}
