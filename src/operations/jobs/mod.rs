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
pub use self::story::{ATTEMPTS, JobStory};
pub use self::why::Reason;

use nas_cron_base::shell::CommandLine;
use nas_cron_protocol::{InstanceId, JobId};

use super::OperationError;

/// The error for a job that is unknown, or not visible to the caller.
pub(super) fn unknown(instance_id: &InstanceId, job_id: &JobId) -> OperationError {
    let list = CommandLine::new("jobs list").option("--instance", instance_id.as_str());
    OperationError::Unknown(format!("unknown job {job_id} of agent {instance_id}; `{list}` lists its jobs"))
}

/// Returns the command `nas-cron jobs VERB` for a job.
pub fn command(verb: &str, instance_id: &str, job_id: &str) -> CommandLine {
    CommandLine::new("jobs").flag(verb).of([instance_id, job_id])
}
