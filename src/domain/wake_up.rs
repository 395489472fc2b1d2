//! A hosted backend's wake-up, and the one-shot that it found.

use std::time::Duration;

use nas_cron_protocol::{InstanceId, JobId, OneShotState, ScheduleId};

use super::lease::Lease;

/// A hosted backend's call that a one-shot is due, or about to be.
#[derive(Clone, Debug)]
pub struct Wake {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The arm of the job that the wake-up is for.
    pub schedule_id: ScheduleId,
}

/// What a wake-up found, and what it has changed.
#[derive(Debug)]
pub enum Found {
    /// This replica has leased the one-shot.
    Leased(Lease),
    /// It is the job's current one-shot, as it stands. If it awaited its backend, it is the scheduler's now.
    Standing {
        /// The state it is in.
        state: OneShotState,
        /// Whether it is on hold, or waits for the probe of its instance.
        parked: bool,
        /// Until its next attempt may start; zero when that has passed, `None` when there is to be none.
        due_in: Option<Duration>,
    },
    /// This arm is not the job's current one, and was delivered.
    Delivered,
    /// Another arm has replaced it.
    Superseded,
    /// There is no one-shot of the job.
    Gone,
    /// Another statement is writing its row at this moment. Nothing has changed; hand the wake-up in again.
    Locked,
}
