//! Tests, enables and disables webhooks, and delivers events again.

use nas_cron_protocol::InvalidField;
use uuid::Uuid;

use super::Done;
use crate::domain::actor::Actor;
use crate::http::ApiError;
use crate::http::ops::form::Form;
use crate::webhooks::Webhooks;
use crate::webhooks::input::Change;

/// The operations of this file.
pub(super) const OPERATIONS: &[&str] = &["test_webhook", "update_webhook", "redeliver_event"];

/// Field of a change: true enables the webhook, false disables it.
pub(in crate::http::ops) const ENABLED: &str = "enabled";

/// Carries out one of [`OPERATIONS`].
pub(super) async fn perform(
    webhooks: &Webhooks,
    actor: &Actor,
    operation: &str,
    form: &Form,
) -> Result<Done, ApiError> {
    let (webhook_id, org) = (id(form, "webhook_id")?, actor.org_filter());
    Ok(Done::new(match operation {
        "test_webhook" => {
            let tested = webhooks.test(webhook_id, org).await?;
            match tested.error {
                None => format!("The receiver accepted the test within {} ms.", tested.duration_ms),
                Some(error) => format!("The receiver did not accept the test: {error}"),
            }
        }
        "update_webhook" => {
            form.required(ENABLED)?;
            let enabled = form.flag(ENABLED)?;
            webhooks.update(webhook_id, org, Change { enabled: Some(enabled), ..Change::default() }).await?;
            if enabled {
                "The webhook is enabled: the events that wait are sent at once.".to_owned()
            } else {
                "The webhook is disabled: it does not get the events that come meanwhile.".to_owned()
            }
        }
        _ => {
            webhooks.redeliver(webhook_id, id(form, "event_id")?, org).await?;
            "The event waits for its delivery, with the same ID.".to_owned()
        }
    }))
}

fn id(form: &Form, name: &'static str) -> Result<Uuid, ApiError> {
    let invalid = |_| InvalidField::new(name, "must be one that the page contains");
    Ok(Uuid::try_parse(form.required(name)?).map_err(invalid)?)
}
