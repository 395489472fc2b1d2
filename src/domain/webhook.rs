//! Webhooks: the receivers of events.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{Given, OrgId, words};
use uuid::Uuid;

use super::event::Event;
use super::sealed::Sealed;

words!(
    /// The state of a webhook.
    #[derive(utoipa::ToSchema)]
    pub enum WebhookState {
        /// It gets events.
        Enabled = "enabled",
        /// An operator disabled it. Events that come meanwhile are not for it.
        Disabled = "disabled",
        /// The receiver answered 410 Gone. Events that come meanwhile are not for it.
        Gone = "gone",
        /// It accepted nothing for three days. Its events wait until it is enabled.
        Failed = "failed",
    }
);

words!(
    /// The state of a delivery.
    #[derive(utoipa::ToSchema)]
    pub enum DeliveryState {
        /// Not accepted yet.
        Pending = "pending",
        /// The receiver accepted it.
        Delivered = "delivered",
        /// The receiver rejected it for an hour, so that the next event had its turn.
        Refused = "refused",
    }
);

words!(
    /// The reason for which a webhook gets nothing.
    pub enum WebhookEnd {
        /// An operator disabled it.
        Operator = "operator",
        /// The receiver answered 410 Gone.
        Gone = "gone",
        /// It accepted nothing for a long time.
        Failing = "failing",
    }
);

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct Webhook {
    /// Its ID.
    pub webhook_id: Uuid,
    /// URL that receives the events.
    pub url: String,
    /// Purpose, for people.
    pub description: Option<String>,
    /// Only events of this org; `null`: of the whole service.
    #[schema(value_type = Option<OrgId>)]
    pub org_id: Option<String>,
    /// Only events of these types; `null`: of all types.
    pub types: Option<Vec<String>>,
    /// Its state.
    pub state: WebhookState,
    /// Time at which it was disabled or failed.
    pub ended_at: Option<DateTime<Utc>>,
    /// End of the first failed attempt since the latest accepted one.
    pub failing_since: Option<DateTime<Utc>>,
    /// Number of failed attempts since the latest accepted one.
    pub failures: i32,
    /// Time of the next attempt, while attempts fail.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// HTTP status of the latest attempt; `null` without one.
    pub last_status: Option<i16>,
    /// Error of the latest attempt, if it failed.
    pub last_error: Option<String>,
    /// Number of events that wait for delivery, counted up to 1,000.
    pub pending: i64,
    /// End of the time for which the previous secret signs as well.
    pub old_secret_until: Option<DateTime<Utc>>,
    /// Time of its creation.
    pub created_at: DateTime<Utc>,
}

/// A webhook to be stored.
#[derive(Clone, Debug)]
pub struct NewWebhook {
    /// Its ID.
    pub webhook_id: Uuid,
    /// Its URL.
    pub url: String,
    /// Its purpose.
    pub description: Option<String>,
    /// Its org.
    pub org_id: Option<String>,
    /// Its types.
    pub types: Option<Vec<String>>,
    /// Its secret.
    pub secret: Sealed,
}

/// A change of a webhook.
#[derive(Clone, Debug, Default)]
pub struct WebhookChange {
    /// Its new URL.
    pub url: Option<String>,
    /// Its new purpose.
    pub description: Given<String>,
    /// Its new types.
    pub types: Given<Vec<String>>,
    /// True enables it and starts anew; false disables it.
    pub enabled: Option<bool>,
}

/// A webhook leased for one attempt, with its first pending event.
#[derive(Clone, Debug)]
pub struct Due {
    /// The webhook.
    pub webhook_id: Uuid,
    /// Its URL.
    pub url: String,
    /// Fencing token of the lease.
    pub lease_token: Uuid,
    /// The secrets that sign, the current one first.
    pub secrets: Vec<Sealed>,
    /// Number of failed attempts since the latest accepted one.
    pub failures: u32,
    /// Time since the first of them.
    pub failing_for: Duration,
    /// Time since the first attempt of this event.
    pub tried_for: Duration,
    /// Place of the event.
    pub sequence: i64,
    /// The event.
    pub event: Event,
}

/// The result of an attempt and what follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// State of the delivery afterwards.
    pub state: DeliveryState,
    /// True if the receiver accepted the event.
    pub accepted: bool,
    /// Time until the webhook's next attempt.
    pub next_in: Duration,
    /// The reason for which the webhook gets nothing from now on.
    pub ends: Option<WebhookEnd>,
}

/// An attempt that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its start.
    pub started_at: DateTime<Utc>,
    /// Its length.
    pub took: Duration,
    /// HTTP status of the response.
    pub status: Option<u16>,
    /// Error; `None` if the receiver accepted the event.
    pub error: Option<String>,
    /// Minimum time until the next attempt, as the receiver asked.
    pub retry_after: Option<Duration>,
}

/// The delivery of an event to a webhook.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct Delivery {
    /// The event.
    pub event: Event,
    /// State of the delivery.
    pub state: DeliveryState,
    /// Its attempts, the latest first. At most 100.
    pub attempts: Vec<DeliveryAttempt>,
}

/// An attempt at a delivery.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct DeliveryAttempt {
    /// Number of the attempt, from 1.
    pub attempt: i32,
    /// Its start.
    pub started_at: DateTime<Utc>,
    /// Its length in milliseconds.
    pub duration_ms: i32,
    /// HTTP status of the response; `null` without a response.
    pub status: Option<i16>,
    /// Error; `null` if the receiver accepted the event.
    pub error: Option<String>,
}
