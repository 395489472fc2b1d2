//! A wake-up from outside: an engine says that a one-shot's instant has come, or is about to.

use std::time::Duration;

use super::Scheduler;
use crate::db::DbResult;
use crate::domain::{InstanceId, JobId, ScheduleId};

/// Which one-shot an engine wakes.
#[derive(Clone, Debug)]
pub struct Wake {
    /// Whose job.
    pub instance_id: InstanceId,
    /// Which job.
    pub job_id: JobId,
    /// Which arm of it.
    pub schedule_id: ScheduleId,
}

/// What a wake-up found.
#[derive(Debug)]
pub enum Woken {
    /// It is leased by this replica now, durably: our own loop does the rest, to the millisecond.
    Taken,
    /// It waits for its time, or its attempt is under way: ours already. Look again after this long.
    UnderWay(Duration),
    /// Woken too early to keep it: come again after this long.
    Early(Duration),
    /// The agent has accepted it.
    Delivered,
    /// There is no such one-shot any more: cancelled, or given up.
    Gone,
    /// The job has another one-shot now.
    Superseded,
}

impl Scheduler {
    /// Takes in a batch of wake-ups; one answer each, in order.
    pub async fn wake(&self, wakes: &[Wake]) -> DbResult<Vec<Woken>> {
        let _ = wakes;
        todo!()
    }
}
