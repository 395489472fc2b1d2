//! The state of a job: that of its current one-shot, or what its history tells without one.

use nas_cron_protocol::agent_api::JobState;

use super::FireOutcome;
use super::attempt::FireRecord;
use super::one_shot::OneShot;

/// A job with its current one-shot, its latest attempts, or both.
#[derive(Clone, Debug)]
pub struct JobStatus {
    /// Its current one-shot.
    pub one_shot: Option<OneShot>,
    /// Its latest attempts that have ended, newest first. Never empty without a one-shot.
    pub attempts: Vec<FireRecord>,
    /// True if its latest attempt started within the history retention. Whatever the job had then cannot have been deleted
    /// for its age.
    pub recent: bool,
}

impl JobStatus {
    /// Returns the job's state.
    pub fn state(&self) -> JobState {
        match (&self.one_shot, self.attempts.first().map(|latest| latest.outcome)) {
            (Some(one_shot), _) => one_shot.state.into(),
            (None, _) if self.recent => JobState::Cancelled,
            (None, Some(FireOutcome::Delivered | FireOutcome::Gone | FireOutcome::Dropped)) => {
                JobState::Delivered
            }
            // Another fire may have followed a `duplicate`.
            (None, Some(FireOutcome::Duplicate | FireOutcome::Failed | FireOutcome::Lost) | None) => {
                JobState::Unknown
            }
        }
    }
}
