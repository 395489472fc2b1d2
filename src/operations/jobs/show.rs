//! Shows a job, and why it does not fire.

use chrono::{DateTime, Utc};
use nas_cron_protocol::admin_api::{HoldScope, Job, JobDetails, WhyCode};
use nas_cron_protocol::{InstanceId, JobId, ScheduleId};

use super::unknown;
use super::why::{Reason, why, why_without};
use crate::db::{cancelled_jobs, circumstances, directory, fires, jobs};
use crate::domain::job::JobKey;
use crate::operations::{OperationError, OperationResult, Operations};

impl Operations {
    /// Returns a job, the explanation of why it has not fired, and at most `attempts` of its latest attempts.
    pub async fn job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        attempts: u32,
    ) -> OperationResult<JobDetails> {
        Ok(self.explained(instance_id, job_id, attempts).await?.0)
    }

    /// Returns the same, and beside it the explanation in parts.
    pub(super) async fn explained(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        attempts: u32,
    ) -> OperationResult<(JobDetails, Reason)> {
        let job = self.current(instance_id, job_id).await?;
        let limit = i64::from(attempts);
        let attempts = fires::of_job(&self.db, instance_id, job_id, self.org(), None, limit.max(1)).await?;
        let latest_cancel = cancelled_jobs::latest(&self.db, instance_id, job_id, self.org()).await?;
        let cancelled_at = latest_cancel.filter(|_| job.is_none()).map(|cancel| cancel.at);
        if job.is_none() && cancelled_at.is_none() && attempts.is_empty() {
            return Err(unknown(instance_id, job_id));
        }
        let (reason, now) = self.reason(instance_id, job_id, job.as_ref(), cancelled_at).await?;
        let why = reason.in_words(now);
        let job = self.with_auth(job.into_iter().collect()).await?.pop();
        let attempts = if limit == 0 { Vec::new() } else { attempts };
        Ok((JobDetails { job, why, cancelled_at, latest_cancel, attempts }, reason))
    }

    /// Returns the job's current one-shot, if it has one and the caller sees it.
    pub(super) async fn current(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
    ) -> OperationResult<Option<Job>> {
        let key = JobKey { instance_id: instance_id.to_string(), job_id: job_id.to_string() };
        Ok(jobs::by_keys(&self.db, &[key], self.org()).await?.pop())
    }

    /// Fails unless the job's current one-shot is the one that the caller has seen.
    pub async fn require_current(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        schedule_id: ScheduleId,
    ) -> OperationResult<()> {
        self.seen(instance_id, job_id, schedule_id).await.map(drop)
    }

    /// Returns the job's current one-shot. Fails unless it is the one that the caller has seen, so that a page or a list that
    /// is out of date changes nothing.
    pub(super) async fn seen(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        schedule_id: ScheduleId,
    ) -> OperationResult<Job> {
        let job = self.current(instance_id, job_id).await?;
        match job {
            Some(job) if job.schedule_id == schedule_id => Ok(job),
            Some(job) => Err(OperationError::Conflict(format!(
                "schedule_id: the job's current one-shot is {}",
                job.schedule_id
            ))),
            None if self.is_known(instance_id, job_id).await? => {
                let problem = format!("job {job_id} of agent {instance_id} has no one-shot any more");
                Err(OperationError::Conflict(problem))
            }
            None => Err(unknown(instance_id, job_id)),
        }
    }

    /// True if anything is stored about the job, and the caller sees it.
    pub(in crate::operations) async fn is_known(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
    ) -> OperationResult<bool> {
        let current = self.current(instance_id, job_id).await?;
        let cancel = cancelled_jobs::latest(&self.db, instance_id, job_id, self.org()).await?;
        let attempts = fires::of_job(&self.db, instance_id, job_id, self.org(), None, 1).await?;
        Ok(current.is_some() || cancel.is_some() || !attempts.is_empty())
    }

    /// Returns the reason for which a job does not fire, and the time at which it was read.
    async fn reason(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        job: Option<&Job>,
        cancelled_at: Option<DateTime<Utc>>,
    ) -> OperationResult<(Reason, DateTime<Utc>)> {
        let mut around = circumstances::of_job(&self.db, instance_id, job_id).await?;
        let now = directory::now(&self.db).await?;
        // The hold of the service is its operators': a caller of one org learns neither its reason nor how to end it.
        let by_others =
            self.org().is_some() && around.holds.first().is_some_and(|hold| hold.scope == HoldScope::All);
        if by_others {
            around.holds[0].reason = None;
        }
        let mut found = job.map_or_else(|| why_without(cancelled_at), |job| why(job, &around, now));
        if by_others && found.code == WhyCode::OnHold {
            found.fix = Some("an operator of the whole service ends that".to_owned());
        }
        Ok((found, now))
    }
}
