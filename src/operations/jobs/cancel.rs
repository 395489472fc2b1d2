//! Cancels a job.

use nas_cron_protocol::admin_api::CancelledJob;
use nas_cron_protocol::{InstanceId, JobId};

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
}
