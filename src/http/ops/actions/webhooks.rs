//! Tests webhooks.

use nas_cron_protocol::InvalidField;
use uuid::Uuid;

use super::Done;
use crate::domain::actor::Actor;
use crate::http::ApiError;
use crate::http::ops::form::Form;
use crate::webhooks::Webhooks;

/// The operations of this file.
pub(super) const OPERATIONS: &[&str] = &["test_webhook"];

/// Carries out one of [`OPERATIONS`].
pub(super) async fn perform(webhooks: &Webhooks, actor: &Actor, form: &Form) -> Result<Done, ApiError> {
    let webhook_id = Uuid::try_parse(form.required("webhook_id")?)
        .map_err(|_| InvalidField::new("webhook_id", "must be one that the page contains"))?;
    let tested = webhooks.test(webhook_id, actor.org_filter()).await?;
    Ok(Done::new(match (tested.accepted, tested.error) {
        (true, _) => format!("The receiver accepted the test within {} ms.", tested.duration_ms),
        (false, error) => format!("The receiver did not accept the test: {}", error.unwrap_or_default()),
    }))
}
