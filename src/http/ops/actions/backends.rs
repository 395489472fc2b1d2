//! Switches the scheduler backend.

use nas_cron_protocol::{BackendName, InvalidField};

use super::Done;
use crate::http::ApiError;
use crate::http::ops::form::Form;
use crate::operations::backends::BackendOperations;

/// The operations of this file.
pub(super) const OPERATIONS: &[&str] = &["switch_backend"];

/// Field with the switch that the operator has seen as the latest one.
pub(in crate::http::ops) const GENERATION: &str = "generation";
/// Field that accepts an unreachable backend.
pub(in crate::http::ops) const FORCE: &str = "force";

/// Carries out the switch, unless the backend was switched since the page was loaded.
pub(super) async fn perform(backends: &BackendOperations, form: &Form) -> Result<Done, ApiError> {
    let to = named(form.text("backend"))?;
    let seen = form.required(GENERATION)?.parse();
    let seen = seen.map_err(|_| InvalidField::new(GENERATION, "must be the one that the page contains"))?;
    let switched = backends.switch(to, form.flag(FORCE)?, Some(seen)).await?;
    let left = &switched.left;
    Ok(Done::new(match (switched.switched, left.count()) {
        (false, 0) => format!("{to} was active already."),
        (true, 0) => format!("{to} is active."),
        (_, _) => format!("{to} is active. The replicas move the one-shots; this page shows what is left."),
    }))
}

/// Reads the name of a backend.
pub(in crate::http::ops) fn named(name: Option<&str>) -> Result<BackendName, InvalidField> {
    let name = name.ok_or_else(|| InvalidField::new("backend", "is missing"))?;
    name.parse().map_err(|problem: String| InvalidField::new("backend", problem))
}
