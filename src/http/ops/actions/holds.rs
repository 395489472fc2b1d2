//! Holds of the service, an org or an agent.

use nas_cron_base::terminal::counted;

use super::Done;
use crate::domain::hold::{HoldTarget, check_reason};
use crate::http::ApiError;
use crate::http::ops::form::Form;
use crate::operations::Operations;

/// The operations of this file.
pub(super) const OPERATIONS: &[&str] =
    &["hold_service", "release_service", "hold_org", "release_org", "hold_instance", "release_instance"];

/// Carries out one of [`OPERATIONS`].
pub(super) async fn perform(operations: &Operations, operation: &str, form: &Form) -> Result<Done, ApiError> {
    let target = match operation {
        "hold_service" | "release_service" => HoldTarget::All,
        "hold_org" | "release_org" => HoldTarget::Org(form.org_id()?),
        _ => HoldTarget::Instance(form.instance_id()?),
    };
    if operation.starts_with("hold_") {
        let reason = form.text("reason");
        check_reason(reason)?;
        let held = operations.hold(&target, reason).await?;
        return Ok(Done::new(if held.new {
            format!(
                "No attempt starts any more for {} of {}.",
                counted(held.covers.armed, "one-shot"),
                counted(held.covers.agents, "agent")
            )
        } else {
            "It was on hold already; a new reason replaces the old one.".to_owned()
        }));
    }
    let released = operations.release(&target).await?;
    Ok(Done::new(match (released.existed, released.still_parked) {
        (false, _) => "It was not on hold.".to_owned(),
        (true, 0) => format!("The hold is over; {} released.", counted(released.released, "one-shot")),
        (true, parked) if released.releasing => format!(
            "The hold is over; {} released. The replicas release the other {parked} within minutes.",
            counted(released.released, "one-shot")
        ),
        (true, parked) => format!(
            "The hold is over; {} released. Another hold or a disabled agent still stops {parked}.",
            counted(released.released, "one-shot")
        ),
    }))
}
