//! Operations on webhooks and events.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{Given, OrgId};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{NO_BODY, Place};
use crate::domain::event::EventFilter;
use crate::domain::webhook::Webhook;
use crate::webhooks::input::{Change, Wanted};
use crate::webhooks::manage::Tested;
use crate::webhooks::views::{CreatedWebhook, DeliveryPage, EventPage, RotatedSecret, WebhookList};
use crate::webhooks::{WebhookError, Webhooks};

impl Place<Webhooks> {
    /// Returns the time by the clock of the database, or of the server at its latest response.
    pub(in crate::cli) fn now(&self) -> anyhow::Result<DateTime<Utc>> {
        match self {
            Self::Database(on) => Ok(on.now()),
            Self::Server(client) => client.time_of_latest_response(),
        }
    }

    /// Lists the webhooks, of all orgs or of one.
    pub(in crate::cli) async fn webhooks(&self, org_id: Option<&OrgId>) -> anyhow::Result<WebhookList> {
        match self {
            Self::Database(on) => {
                let (webhooks, more) = on.list(org_id).await?;
                Ok(WebhookList { webhooks, more })
            }
            Self::Server(client) => {
                let query: Vec<_> = org_id.map(|org_id| ("org_id", org_id.to_string())).into_iter().collect();
                client.get(&["webhooks"], &query).await
            }
        }
    }

    /// Shows a webhook.
    pub(in crate::cli) async fn webhook(&self, webhook_id: Uuid) -> anyhow::Result<Webhook> {
        match self {
            Self::Database(on) => on.find(webhook_id, None).await.map_err(explained),
            Self::Server(client) => client.get(&["webhooks", &webhook_id.to_string()], &[]).await,
        }
    }

    /// Creates a webhook.
    pub(in crate::cli) async fn create_webhook(&self, wanted: Wanted) -> anyhow::Result<CreatedWebhook> {
        match self {
            Self::Database(on) => on.create(wanted).await.map(CreatedWebhook::from).map_err(explained),
            Self::Server(client) => {
                let mut body = json!({ "url": wanted.url.as_str() });
                let values = [
                    ("description", wanted.description.map(Value::from)),
                    ("org_id", wanted.org_id.map(|org_id| json!(org_id))),
                    ("types", wanted.types.map(|types| json!(types))),
                ];
                for (name, value) in values.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                    body[name] = value;
                }
                client.send(Method::POST, &["webhooks"], &[], Some(&body)).await
            }
        }
    }

    /// Changes a webhook.
    pub(in crate::cli) async fn update_webhook(
        &self,
        webhook_id: Uuid,
        change: Change,
    ) -> anyhow::Result<Webhook> {
        match self {
            Self::Database(on) => on.update(webhook_id, None, change).await.map_err(explained),
            Self::Server(client) => {
                let mut body = json!({});
                let values = [
                    ("url", change.url.map(|url| json!(url.as_str()))),
                    ("description", nullable(change.description)),
                    ("types", nullable(change.types)),
                    ("enabled", change.enabled.map(Value::from)),
                ];
                for (name, value) in values.into_iter().filter_map(|(name, value)| Some((name, value?))) {
                    body[name] = value;
                }
                let path = ["webhooks", &webhook_id.to_string()];
                client.send(Method::PATCH, &path, &[], Some(&body)).await
            }
        }
    }

    /// Replaces the secret of a webhook.
    pub(in crate::cli) async fn rotate_webhook_secret(
        &self,
        webhook_id: Uuid,
    ) -> anyhow::Result<RotatedSecret> {
        match self {
            Self::Database(on) => {
                on.rotate_secret(webhook_id, None).await.map(RotatedSecret::from).map_err(explained)
            }
            Self::Server(client) => {
                let path = ["webhooks", &webhook_id.to_string(), "rotate-secret"];
                client.send(Method::POST, &path, &[], NO_BODY).await
            }
        }
    }

    /// Deletes a webhook.
    pub(in crate::cli) async fn delete_webhook(&self, webhook_id: Uuid) -> anyhow::Result<()> {
        match self {
            Self::Database(on) => on.delete(webhook_id, None).await.map_err(explained),
            Self::Server(client) => {
                client.send(Method::DELETE, &["webhooks", &webhook_id.to_string()], &[], NO_BODY).await
            }
        }
    }

    /// Sends a test event.
    pub(in crate::cli) async fn test_webhook(&self, webhook_id: Uuid) -> anyhow::Result<Tested> {
        match self {
            Self::Database(on) => on.test(webhook_id, None).await.map_err(explained),
            Self::Server(client) => {
                let path = ["webhooks", &webhook_id.to_string(), "test"];
                client.send(Method::POST, &path, &[], NO_BODY).await
            }
        }
    }

    /// Lists a page of a webhook's deliveries.
    pub(in crate::cli) async fn deliveries(
        &self,
        webhook_id: Uuid,
        before: Option<i64>,
        limit: u32,
    ) -> anyhow::Result<DeliveryPage> {
        match self {
            Self::Database(on) => {
                on.deliveries(webhook_id, None, before, limit).await.map(Into::into).map_err(explained)
            }
            Self::Server(client) => {
                let path = ["webhooks", &webhook_id.to_string(), "deliveries"];
                client.get(&path, &page(before, limit)).await
            }
        }
    }

    /// Queues an event for a webhook again.
    pub(in crate::cli) async fn redeliver(&self, webhook_id: Uuid, event_id: Uuid) -> anyhow::Result<()> {
        match self {
            Self::Database(on) => on.redeliver(webhook_id, event_id, None).await.map_err(explained),
            Self::Server(client) => {
                let (webhook_id, event_id) = (webhook_id.to_string(), event_id.to_string());
                let path = ["webhooks", &webhook_id, "deliveries", &event_id, "redeliver"];
                client.send(Method::POST, &path, &[], NO_BODY).await
            }
        }
    }

    /// Lists a page of events.
    pub(in crate::cli) async fn events(
        &self,
        filter: &EventFilter,
        before: Option<i64>,
        limit: u32,
    ) -> anyhow::Result<EventPage> {
        match self {
            Self::Database(on) => Ok(on.events(filter, before, limit).await?.into()),
            Self::Server(client) => {
                let mut query = page(before, limit);
                query.extend(filter.org_id.clone().map(|org_id| ("org_id", org_id)));
                query.extend(filter.kind.map(|kind| ("type", kind.to_string())));
                client.get(&["events"], &query).await
            }
        }
    }
}

fn page(before: Option<i64>, limit: u32) -> Vec<(&'static str, String)> {
    let before = before.map(|before| ("before", before.to_string()));
    before.into_iter().chain([("limit", limit.to_string())]).collect()
}

/// Returns the JSON value of a field of a change; `None` if it is not changed.
fn nullable<T: serde::Serialize>(given: Given<T>) -> Option<Value> {
    match given {
        Given::Keep => None,
        Given::Clear => Some(Value::Null),
        Given::Set(value) => Some(json!(value)),
    }
}

/// Adds the command that lists webhooks to the error of an unknown one.
fn explained(error: WebhookError) -> anyhow::Error {
    match error {
        WebhookError::Unknown(_) => anyhow::anyhow!("{error}; `nas-cron webhooks list` shows all of them"),
        WebhookError::UnknownEvent { .. } => {
            anyhow::anyhow!("{error}; `nas-cron webhooks events` shows all events")
        }
        other => other.into(),
    }
}
