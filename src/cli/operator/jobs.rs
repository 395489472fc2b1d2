//! Operations on jobs.

use anyhow::ensure;
use chrono::{DateTime, Utc};
use nas_cron_protocol::admin_api::{
    AttemptPage, CancelledJob, DismissedJob, FiredJob, JobDetails, JobPage, NudgedJob, RedriveReport,
};
use nas_cron_protocol::{InstanceId, JobId, ScheduleId};
use reqwest::Method;
use serde_json::json;

use super::{NO_BODY, Operator, explained};
use crate::domain::job::JobKey;
use crate::domain::job_filter::JobFilter;
use crate::operations::jobs::{MAX_PAGE, Redrive, RedriveOf, SELECTED_MAX};

impl Operator {
    /// Lists a page of jobs.
    pub(in crate::cli) async fn jobs(
        &self,
        filter: &JobFilter,
        limit: u32,
        after: Option<&str>,
    ) -> anyhow::Result<JobPage> {
        let limit = limit.min(MAX_PAGE);
        match self {
            Self::Database(_, on) => on.list_jobs(filter, limit, after).await.map_err(explained),
            Self::Server(client) => {
                let mut query = filter.pairs();
                query.push(("limit", limit.to_string()));
                query.extend(after.map(|after| ("after", after.to_owned())));
                client.get(&["jobs"], &query).await
            }
        }
    }

    /// Shows a job.
    pub(in crate::cli) async fn job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        attempts: u32,
    ) -> anyhow::Result<JobDetails> {
        match self {
            Self::Database(_, on) => on.job(instance_id, job_id, attempts).await.map_err(explained),
            Self::Server(client) => {
                let query = [("attempts", attempts.to_string())];
                client.get(&["jobs", instance_id.as_str(), job_id.as_str()], &query).await
            }
        }
    }

    /// Lists a page of a job's attempts.
    pub(in crate::cli) async fn attempts(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        limit: u32,
        after: Option<&str>,
    ) -> anyhow::Result<AttemptPage> {
        match self {
            Self::Database(_, on) => on.attempts(instance_id, job_id, limit, after).await.map_err(explained),
            Self::Server(client) => {
                let mut query = vec![("limit", limit.to_string())];
                query.extend(after.map(|after| ("after", after.to_owned())));
                client.get(&["jobs", instance_id.as_str(), job_id.as_str(), "attempts"], &query).await
            }
        }
    }

    /// Cancels a job.
    pub(in crate::cli) async fn cancel_job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
    ) -> anyhow::Result<CancelledJob> {
        match self {
            Self::Database(_, on) => on.cancel_job(instance_id, job_id).await.map_err(explained),
            Self::Server(client) => {
                let path = ["jobs", instance_id.as_str(), job_id.as_str(), "cancel"];
                client.send(Method::POST, &path, &[], NO_BODY).await
            }
        }
    }

    /// Fires a one-shot now.
    pub(in crate::cli) async fn fire_job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        schedule_id: ScheduleId,
    ) -> anyhow::Result<FiredJob> {
        match self {
            Self::Database(_, on) => on.fire_job(instance_id, job_id, schedule_id).await.map_err(explained),
            Self::Server(client) => {
                let path = ["jobs", instance_id.as_str(), job_id.as_str(), "fire"];
                client.send(Method::POST, &path, &[], Some(&json!({ "schedule_id": schedule_id }))).await
            }
        }
    }

    /// Fires a delivered one-shot once more. `seen` is the start of its delivered attempt.
    pub(in crate::cli) async fn nudge_job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        schedule_id: ScheduleId,
        seen: Option<DateTime<Utc>>,
    ) -> anyhow::Result<NudgedJob> {
        match self {
            Self::Database(_, on) => {
                on.nudge_job(instance_id, job_id, schedule_id, seen).await.map_err(explained)
            }
            Self::Server(client) => {
                let path = ["jobs", instance_id.as_str(), job_id.as_str(), "nudge"];
                let body = json!({ "schedule_id": schedule_id, "last_started_at": seen });
                client.send(Method::POST, &path, &[], Some(&body)).await
            }
        }
    }

    /// Closes a dormant job.
    pub(in crate::cli) async fn dismiss_job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
    ) -> anyhow::Result<DismissedJob> {
        match self {
            Self::Database(_, on) => on.dismiss_job(instance_id, job_id).await.map_err(explained),
            Self::Server(client) => {
                let path = ["jobs", instance_id.as_str(), job_id.as_str(), "dismiss"];
                client.send(Method::POST, &path, &[], NO_BODY).await
            }
        }
    }

    /// Redrives the one-shot of a job.
    pub(in crate::cli) async fn redrive_job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
    ) -> anyhow::Result<RedriveReport> {
        match self {
            Self::Database(_, on) => on.redrive_job(instance_id, job_id).await.map_err(explained),
            Self::Server(client) => {
                let path = ["jobs", instance_id.as_str(), job_id.as_str(), "redrive"];
                client.send(Method::POST, &path, &[], NO_BODY).await
            }
        }
    }

    /// Redrives those of an agent's jobs that are dead or stuck.
    pub(in crate::cli) async fn redrive_selected(
        &self,
        instance_id: &InstanceId,
        job_ids: &[JobId],
        per_second: u32,
    ) -> anyhow::Result<RedriveReport> {
        ensure!(job_ids.len() <= SELECTED_MAX, "at most {SELECTED_MAX} jobs can be redriven at once");
        match self {
            Self::Database(_, on) => {
                let key = |job_id: &JobId| JobKey {
                    instance_id: instance_id.to_string(),
                    job_id: job_id.to_string(),
                };
                let wanted = Redrive { of: RedriveOf::Jobs(job_ids.iter().map(key).collect()), per_second };
                on.redrive(&wanted, None).await.map_err(explained)
            }
            Self::Server(client) => {
                let job = |job_id: &JobId| json!({"instance_id": instance_id, "job_id": job_id});
                let jobs: Vec<_> = job_ids.iter().map(job).collect();
                let body = json!({"jobs": jobs, "per_second": per_second});
                client.send(Method::POST, &["jobs", "redrive-selected"], &[], Some(&body)).await
            }
        }
    }

    /// Counts what a redrive would change.
    pub(in crate::cli) async fn redrivable(&self, filter: &JobFilter) -> anyhow::Result<RedriveReport> {
        match self {
            Self::Database(_, on) => on.redrivable(filter).await.map_err(explained),
            Self::Server(client) => client.get(&["jobs", "redrivable"], &filter.pairs()).await,
        }
    }

    /// Redrives a batch of what a filter selects, after the cursor `after`.
    pub(in crate::cli) async fn redrive(
        &self,
        filter: &JobFilter,
        per_second: u32,
        after: Option<&str>,
    ) -> anyhow::Result<RedriveReport> {
        match self {
            Self::Database(_, on) => {
                let wanted = Redrive { of: RedriveOf::Matching(Box::new(filter.clone())), per_second };
                on.redrive(&wanted, after).await.map_err(explained)
            }
            Self::Server(client) => {
                let mut query = filter.pairs();
                query.push(("per_second", per_second.to_string()));
                query.extend(after.map(|after| ("after", after.to_owned())));
                client.send(Method::POST, &["jobs", "redrive"], &query, NO_BODY).await
            }
        }
    }
}
