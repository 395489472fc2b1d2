//! Actions on one job.

use nas_cron_base::terminal::counted;

use super::Done;
use crate::domain::hold::{HoldTarget, check_reason};
use crate::http::ApiError;
use crate::http::ops::form::Form;
use crate::http::ops::view::stored;
use crate::operations::Operations;

/// The operations of this file.
pub(super) const OPERATIONS: &[&str] =
    &["fire_job", "cancel_job", "nudge_job", "dismiss_job", "redrive_job", "hold_job", "release_job"];

/// Carries out one of [`OPERATIONS`].
pub(super) async fn perform(operations: &Operations, operation: &str, form: &Form) -> Result<Done, ApiError> {
    let (agent, job) = form.job()?;
    let text = match operation {
        "fire_job" => {
            let fired = operations.fire_job(&agent, &job, form.schedule_id()?).await?;
            format!("The job fires, due {}.", stored(fired.next_attempt_at))
        }
        "nudge_job" => {
            let (schedule_id, seen) = (form.schedule_id()?, form.last_started_at()?);
            let nudged = operations.nudge_job(&agent, &job, schedule_id, seen).await?;
            if nudged.on_hold {
                "The job fires once more when its agent is not on hold any more.".to_owned()
            } else {
                format!("The job fires once more, due {}.", stored(nudged.next_attempt_at))
            }
        }
        "dismiss_job" => {
            // A dormancy after a later delivery is another one.
            operations.require_current(&agent, &job, form.schedule_id()?).await?;
            operations.dismiss_job(&agent, &job).await?;
            "The job is not shown as dormant any more.".to_owned()
        }
        "cancel_job" => {
            operations.cancel_one_shot(&agent, &job, form.schedule_id()?).await?;
            "The job is cancelled. Its agent may arm it again.".to_owned()
        }
        "redrive_job" => {
            let report = operations.redrive_one_shot(&agent, &job, form.schedule_id()?).await?;
            let due = report.last_starts_at.map_or_else(|| "now".to_owned(), stored);
            format!("The job fires with a fresh retry budget, due {due}.")
        }
        "hold_job" => {
            check_reason(form.text("reason"))?;
            let held = operations.hold(&HoldTarget::Job(agent, job), form.text("reason")).await?;
            if held.new {
                "The job is on hold: no attempt starts until the hold ends.".to_owned()
            } else {
                "The job was on hold already; the new reason replaces the old one.".to_owned()
            }
        }
        "release_job" => {
            let released = operations.release(&HoldTarget::Job(agent, job)).await?;
            match (released.existed, released.still_parked) {
                (false, _) => "The job was not on hold.".to_owned(),
                (true, 0) => {
                    format!("The hold is over; {} released.", counted(released.released, "one-shot"))
                }
                (true, _) => {
                    "The hold of the job is over, but another hold or a disabled agent still stops it."
                        .to_owned()
                }
            }
        }
        other => return Err(ApiError::Internal(format!("no action is named {other}").into())),
    };
    Ok(Done::new(text))
}
