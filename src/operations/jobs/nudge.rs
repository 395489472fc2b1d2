//! Jobs whose agents have not armed the next fire: fires them once more, or closes them.

use chrono::{DateTime, SecondsFormat, Utc};
use nas_cron_protocol::admin_api::{DismissedJob, Job, NudgedJob};
use nas_cron_protocol::{InstanceId, JobId, OneShotState, ScheduleId};

use super::unknown;
use crate::db::{dormant_jobs, hints};
use crate::directory::again;
use crate::operations::{OperationError, OperationResult, Operations};

impl Operations {
    /// Fires the delivered one-shot `schedule_id` of a job once more; its agent may run the job again. `seen` is the start of
    /// the delivered attempt, as the job showed it: naming it makes a repeated request harmless. Fails if the job was armed or
    /// delivered again meanwhile.
    pub async fn nudge_job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        schedule_id: ScheduleId,
        seen: Option<DateTime<Utc>>,
    ) -> OperationResult<NudgedJob> {
        let job = self.current(instance_id, job_id).await?.ok_or_else(|| unknown(instance_id, job_id))?;
        if job.schedule_id != schedule_id {
            let problem = format!("schedule_id: the job's current one-shot is {}", job.schedule_id);
            return Err(OperationError::Conflict(problem));
        }
        if let Some(problem) = refusal(&job) {
            return Err(OperationError::Conflict(problem));
        }
        if job.last_started_at != seen {
            let latest = job.last_started_at.map_or("null".to_owned(), timestamp);
            return Err(OperationError::Conflict(format!(
                "last_started_at: the latest attempt started at {latest}"
            )));
        }
        let nudged = again(|| dormant_jobs::nudge(&self.db, instance_id, job_id, schedule_id, seen)).await?;
        let Some(nudged) = nudged else {
            return Err(OperationError::Conflict(format!(
                "job {job_id} of agent {instance_id} was armed, fired or cancelled meanwhile; nothing was changed"
            )));
        };
        hints::announce(&self.db).await?;
        let (next_attempt_at, on_hold) = (nudged.next_attempt_at, nudged.on_hold);
        Ok(NudgedJob { nudged: true, schedule_id, next_attempt_at, on_hold })
    }

    /// Closes a dormant job that has finished. After another delivery it is watched again.
    pub async fn dismiss_job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
    ) -> OperationResult<DismissedJob> {
        if !self.is_known(instance_id, job_id).await? {
            return Err(unknown(instance_id, job_id));
        }
        if again(|| dormant_jobs::dismiss(&self.db, instance_id, job_id)).await? {
            return Ok(DismissedJob { dismissed: true });
        }
        Err(OperationError::Conflict(format!(
            "job {job_id} of agent {instance_id} is not dormant; `{}` shows its state",
            super::command("show", instance_id.as_str(), job_id.as_str())
        )))
    }
}

fn timestamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// The reason for which a job cannot be nudged, and the next step; `None` if its one-shot was delivered.
pub fn refusal(job: &Job) -> Option<String> {
    let Job { instance_id: agent, job_id, state, .. } = job;
    match state {
        OneShotState::Delivered => None,
        OneShotState::Dead | OneShotState::Stuck => Some(format!(
            "job {job_id} of agent {agent} is {state}; `{}` fires it again",
            super::command("redrive", agent, job_id)
        )),
        _ => Some(format!(
            "job {job_id} of agent {agent} is {state}, and fires by itself; `{}` shows when",
            super::command("show", agent, job_id)
        )),
    }
}
