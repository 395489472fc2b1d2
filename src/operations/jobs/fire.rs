//! Fires a one-shot before its instant: the one exception to invariant 3 (docs/contract.md#invariants).

use nas_cron_protocol::admin_api::FiredJob;
use nas_cron_protocol::{InstanceId, JobId, OneShotState, ParkReason, ScheduleId};

use super::unknown;
use crate::db::hints;
use crate::db::jobs::{self, FireNow};
use crate::directory::again;
use crate::operations::{OperationError, OperationResult, Operations};

impl Operations {
    /// Fires the one-shot `schedule_id` of a job now. Naming the one-shot makes a repeated request harmless: after the
    /// fire, the job has none or another one.
    pub async fn fire_job(
        &self,
        instance_id: &InstanceId,
        job_id: &JobId,
        schedule_id: ScheduleId,
    ) -> OperationResult<FiredJob> {
        let found = again(|| jobs::fire_now(&self.db, instance_id, job_id, schedule_id, self.org())).await?;
        let found = found.ok_or_else(|| unknown(instance_id, job_id))?;
        if found.schedule_id != schedule_id {
            let problem = format!("schedule_id: the job's current one-shot is {}", found.schedule_id);
            return Err(OperationError::Conflict(problem));
        }
        let Some(next_attempt_at) = found.due_at else {
            return Err(OperationError::Conflict(refusal(found)));
        };
        hints::announce(&self.db).await?;
        Ok(FiredJob { schedule_id, next_attempt_at })
    }
}

/// The reason for which a one-shot cannot be fired now, and the next step.
fn refusal(found: FireNow) -> String {
    match (found.state, found.parked) {
        (OneShotState::Delivered, _) => "it was delivered already; the agent arms the next one".to_owned(),
        (OneShotState::Dead | OneShotState::Stuck, _) => {
            format!("it is {}; redrive it instead", found.state)
        }
        (OneShotState::Firing, _) => "an attempt is in flight".to_owned(),
        (_, Some(ParkReason::Unreachable)) => {
            "its agent is unreachable; it is attempted when the agent answers".to_owned()
        }
        _ => "its fires are on hold; end the hold or enable the agent first".to_owned(),
    }
}
