//! Cancels a job.

use nas_cron_protocol::admin_api::CancelledJob;
use nas_cron_protocol::{InstanceId, JobId, ScheduleId};

use crate::db::oneshots;
use crate::directory::again;
use crate::operations::{OperationResult, Operations};

impl Operations {
    /// Cancels the one-shot of a job: no attempt starts any more. A job without one, or of another org, is left alone.
    pub async fn cancel_job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
    ) -> OperationResult<CancelledJob> {
        let found = self.current(instance_id, job_id).await?;
        let schedule_id = match found {
            Some(_) => again(|| oneshots::cancel(&self.db, instance_id, job_id)).await?,
            None => None,
        };
        Ok(CancelledJob { cancelled: schedule_id.is_some(), schedule_id })
    }

    /// Cancels the one-shot `schedule_id` of a job. Fails if it is not the job's current one.
    pub async fn cancel_one_shot(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        schedule_id: ScheduleId,
    ) -> OperationResult<CancelledJob> {
        self.seen(instance_id, job_id, schedule_id).await?;
        self.cancel_job(instance_id, job_id).await
    }
}
