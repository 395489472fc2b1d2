//! Lists the attempts of a job.

use nas_cron_protocol::admin_api::{Attempt, AttemptPage};
use nas_cron_protocol::{InstanceId, JobId};
use uuid::Uuid;

use super::list::MAX_PAGE;
use super::unknown;
use crate::db::fires;
use crate::operations::{OperationResult, Operations, cursor};

impl Operations {
    /// Lists at most `limit` attempts of a job, which is at most [`MAX_PAGE`], after the cursor `after`; the newest first.
    pub async fn attempts(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        limit: u32,
        after: Option<&str>,
    ) -> OperationResult<AttemptPage> {
        let of = cursor::fingerprint(&(instance_id, job_id));
        let before = after.map(|after| cursor::decode::<(i64, Uuid)>(&of, after)).transpose()?;
        let before = match before {
            Some((micros, attempt_id)) => Some((cursor::time(micros)?, attempt_id)),
            None => None,
        };
        let limit = limit.min(MAX_PAGE);
        let found = fires::of_job(&self.db, instance_id, job_id, self.org(), before, i64::from(limit) + 1);
        let mut attempts = found.await?;
        if attempts.is_empty() && after.is_none() && !self.is_known(instance_id, job_id).await? {
            return Err(unknown(instance_id, job_id));
        }
        let more = attempts.len() > limit as usize;
        attempts.truncate(limit as usize);
        let next = attempts.last().filter(|_| more).map(|last| cursor_after(instance_id, job_id, last));
        Ok(AttemptPage { attempts, next })
    }
}

/// Returns the cursor of the attempts of a job before `last`.
pub(super) fn cursor_after(instance_id: &InstanceId, job_id: &JobId, last: &Attempt) -> String {
    let of = cursor::fingerprint(&(instance_id, job_id));
    cursor::encode(&of, &(last.started_at.timestamp_micros(), last.attempt_id))
}
