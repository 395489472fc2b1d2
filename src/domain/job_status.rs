//! The state of a job: that of its current one-shot, or without one its cancel, or what its history tells.

use chrono::{DateTime, Utc};
use nas_cron_protocol::agent_api::JobState;

use super::FireOutcome;
use super::one_shot::OneShot;
use nas_cron_protocol::admin_api::Attempt as AttemptRecord;

/// A job with its current one-shot, its cancel, or attempts.
#[derive(Clone, Debug)]
pub struct JobStatus {
    /// Its current one-shot.
    pub one_shot: Option<OneShot>,
    /// Time of the cancel that removed its latest one-shot, unless that is longer ago than the history retention. Never
    /// beside a one-shot.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Its latest attempts that have ended, newest first. Never empty without a one-shot and a cancel.
    pub attempts: Vec<AttemptRecord>,
}

impl JobStatus {
    /// Returns the job's state.
    pub fn state(&self) -> JobState {
        if let Some(one_shot) = &self.one_shot {
            return one_shot.state.into();
        }
        if self.cancelled_at.is_some() {
            return JobState::Cancelled;
        }
        match self.attempts.first().map(|latest| latest.outcome) {
            Some(FireOutcome::Delivered | FireOutcome::Gone | FireOutcome::Dropped) => JobState::Delivered,
            // Another fire may have followed a `duplicate`.
            Some(FireOutcome::Duplicate | FireOutcome::Failed | FireOutcome::Lost) | None => {
                JobState::Unknown
            }
        }
    }
}
