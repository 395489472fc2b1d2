//! Wake-ups from external backends.

use std::time::Duration;

use nas_cron_protocol::relay::WakeBody;
use nas_cron_protocol::{InstanceId, InvalidField, JobId, OneShotState, ScheduleId};

use super::FireOutcome;
use super::lease::Lease;

/// An external backend's call that a one-shot is due, or will be soon.
#[derive(Clone, Debug)]
pub struct Wake {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The arm of the job that the wake-up is for.
    pub schedule_id: ScheduleId,
}

impl TryFrom<WakeBody> for Wake {
    type Error = InvalidField;

    fn try_from(body: WakeBody) -> Result<Self, InvalidField> {
        Ok(Self {
            instance_id: InstanceId::new(body.instance_id)?,
            job_id: JobId::new(body.job_id)?,
            schedule_id: ScheduleId::parse(&body.schedule_id)?,
        })
    }
}

/// The result of a wake-up in the database.
#[derive(Debug)]
pub enum Found {
    /// This replica has leased the one-shot.
    Leased(Lease),
    /// The arm is the job's current one-shot and was not leased. If it waited for its backend, the Postgres loop fires it
    /// now.
    Standing {
        /// Its state.
        state: OneShotState,
        /// True if it is a dead letter because its `not_after` has passed.
        expired: bool,
        /// The outcome of its latest attempt, if one has ended.
        outcome: Option<FireOutcome>,
        /// True if it is parked: by a hold, or because its instance is unreachable.
        parked: bool,
        /// Time until its next attempt may start; zero if that has passed, `None` if there will be no further attempt.
        due_in: Option<Duration>,
    },
    /// The arm was delivered and is no longer the job's current one.
    Delivered,
    /// Another arm has replaced it.
    Superseded,
    /// The job has no one-shot.
    Gone,
    /// Another statement holds a lock on its row. Nothing has changed; repeat the wake-up.
    Locked,
}
