//! Jobs of all agents: list, explain, cancel, fire now, redrive.

mod cancel;
mod dead_letters;
mod fire;
#[cfg(test)]
pub(crate) mod fixtures;
mod history;
mod list;
mod nudge;
mod redrive;
mod show;
mod story;
mod why;

pub use self::list::MAX_PAGE;
pub use self::nudge::refusal as nudge_refusal;
pub use self::redrive::{Redrive, RedriveOf, SELECTED_MAX};
pub use self::story::JobStory;

use nas_cron_protocol::{InstanceId, JobId};

use super::OperationError;

/// The error for a job that is unknown, or not visible to the caller.
pub(super) fn unknown(instance_id: &InstanceId, job_id: &JobId) -> OperationError {
    OperationError::Unknown(format!(
        "unknown job {job_id} of agent {instance_id}; `nas-cron jobs list --instance {instance_id}` lists its jobs"
    ))
}
