//! Enables and disables agents.

use nas_cron_base::terminal::counted;

use super::Done;
use crate::http::ApiError;
use crate::http::ops::form::Form;
use crate::operations::Operations;

/// The operations of this file.
pub(super) const OPERATIONS: &[&str] = &["enable_agent", "disable_agent"];

/// Carries out one of [`OPERATIONS`].
pub(super) async fn perform(operations: &Operations, operation: &str, form: &Form) -> Result<Done, ApiError> {
    let enable = operation == "enable_agent";
    let changed = operations.set_enabled(&form.instance_id()?, enable).await?;
    Ok(Done::new(match (changed.changed, enable) {
        (false, true) => "The agent was enabled already.".to_owned(),
        (false, false) => "The agent was disabled already.".to_owned(),
        (true, true) => format!("The agent is enabled; {} released.", counted(changed.released, "one-shot")),
        (true, false) => "The agent is disabled: its fires are held, and its calls are refused.".to_owned(),
    }))
}
